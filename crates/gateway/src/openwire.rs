//! OpenWire: clients of ActiveMQ, served as that broker would.
//!
//! ```text
//! socket ── connection ── dialogue (pure) ── translate (pure)
//!               │
//!               └── engine: the calls of the connection, as gRPC clients have them
//! ```
//! Every gateway serves every client. What a client held goes back when its connection ends, however that happens.

mod announcements;
mod browsing;
mod clients;
mod connection;
mod dialogue;
mod exchange;
mod neighbours;
mod translate;

use std::{collections::BTreeSet, sync::Arc};

use quorate_message::DestinationName;
use quorate_wire::openwire::{Destination, Offer};
use tokio::sync::{mpsc, watch};
use tonic::Status;

pub(crate) use self::{
    announcements::Announcements,
    clients::Clients,
    exchange::{Exchange, Parts},
};
use self::{clients::Seat, dialogue::Refusal, exchange::Claimed};
use crate::{
    accounts::Accounts,
    browse::Browser,
    config::Config,
    engine::{Engine, Event},
    limits::OPENWIRE_FRAME_OVERHEAD,
    listener::{Connection, Serves},
    session::{self, Whose},
    topology::ClusterView,
};
use quorate_service::shutdown::Shutdown;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) engine: Engine,
    pub(crate) browser: Browser,
    pub(crate) accounts: Accounts,
    pub(crate) clients: Clients,
    pub(crate) announcements: Announcements,
    pub(crate) exchange: Exchange,
    pub(crate) view: watch::Receiver<ClusterView>,
    pub(crate) shutdown: Shutdown,
    /// This gateway's life, as clients see it.
    pub(crate) broker_id: String,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) message_bytes_max: usize,
}

impl Context {
    /// Also returns what is to be run until the gateway stops: it speaks to the other gateways.
    pub(crate) fn new(
        parts: Parts,
        browser: Browser,
        accounts: Accounts,
        config: &Config,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (engine, view, shutdown) = (
            parts.engine.clone(),
            parts.view.clone(),
            parts.shutdown.clone(),
        );
        let (clients, announcements) = (parts.clients.clone(), parts.announcements.clone());
        let broker_id = format!("ID:{}-{}", config.name, parts.life);
        let (exchange, exchanging) = Exchange::new(parts);
        let context = Self {
            engine,
            browser,
            accounts,
            clients,
            announcements,
            exchange,
            view,
            shutdown,
            broker_id,
            name: config.name.clone(),
            url: format!("tcp://{}", config.advertised()),
            message_bytes_max: config.max_message_bytes,
        };
        (context, exchanging)
    }

    fn offer(&self) -> Offer {
        Offer {
            frame_bytes_max: self.message_bytes_max + OPENWIRE_FRAME_OVERHEAD,
            ..Offer::default()
        }
    }

    /// A client of this gateway made a temporary destination, or removed it.
    async fn announce(&self, destination: Destination, is_there: bool) -> Result<(), Status> {
        let here = destination.clone();
        tell(&self.engine, Whose::Here, &destination, is_there).await?;
        self.announcements.announce(Whose::Here, here, is_there);
        self.exchange.announce(destination, is_there).await;
        Ok(())
    }

    /// Takes a client id over all gateways, for a connection that has its place here. Ids that clients make up are their
    /// own, and are not asked for: who does not choose one waits for nobody.
    async fn claim(
        &self,
        seat: &Seat,
        connection_id: &str,
        client_id: &str,
    ) -> Result<Option<Claimed>, Refusal> {
        if client_id.starts_with("ID:") {
            return Ok(None);
        }
        let holder = format!("{} at gateway {}", seat.peer(), self.name);
        let ids = (client_id, connection_id);
        let claimed = self.exchange.claim(seat.id(), ids, holder).await?;
        Ok(Some(claimed))
    }

    /// Where the gateways are, this one among them. Who came by a port for OpenWire alone is told nothing: what gateways
    /// advertise is the other port, which may not be for it.
    fn peers(&self, port: Serves) -> Vec<String> {
        if port == Serves::OpenWire {
            return Vec::new();
        }
        let topology = self.view.borrow().topology.clone();
        let told = topology.iter().flat_map(|topology| &topology.gateways);
        let told = told.map(|gateway| format!("tcp://{}", gateway.address));
        let peers: BTreeSet<String> = told.chain([self.url.clone()]).collect();
        peers
            .into_iter()
            .filter(|peer| leads_somewhere(peer))
            .collect()
    }
}

/// Tells the engine of a temporary destination, which it keeps from being made by what comes late.
async fn tell(
    engine: &Engine,
    whose: Whose,
    destination: &Destination,
    is_there: bool,
) -> Result<(), Status> {
    let Ok(name) = DestinationName::new(destination.name()) else {
        return Ok(());
    };
    let input = session::Input::Temporary {
        name,
        whose,
        is_there,
    };
    engine.tell(Event::Input(input)).await
}

/// Whether an address is one to connect to: a gateway that listens everywhere and has no `advertise` tells none.
fn leads_somewhere(url: &str) -> bool {
    !url.starts_with("tcp://0.0.0.0:") && !url.starts_with("tcp://[::]:")
}

/// Serves the connections that come.
pub(crate) async fn serve(mut connections: mpsc::Receiver<Connection>, context: Arc<Context>) {
    while let Some(connection) = connections.recv().await {
        let from = (connection.peer, connection.port);
        let served = connection::serve(connection, from, Arc::clone(&context));
        tokio::spawn(served);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_no_address_that_leads_nowhere() {
        assert!(leads_somewhere("tcp://gw01:61616"));
        assert!(leads_somewhere("tcp://127.0.0.1:60001"));
        assert!(!leads_somewhere("tcp://0.0.0.0:60001"));
        assert!(!leads_somewhere("tcp://[::]:60001"));
    }
}
