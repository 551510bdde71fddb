//! The links to the storage nodes: one task per node, two streams on one connection, opened again whenever they end.
//!
//! The end of either stream is the end of the link. A new link has a new session number, so that the machine never
//! takes an answer of an earlier one for its own.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use quorate_message::GatewayId;
use quorate_proto::internal::v1 as wire;
use tokio::{sync::watch, task::JoinHandle};
use tokio_stream::StreamExt;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use tracing::{debug, info};
use wire::session_service_client::SessionServiceClient;

use crate::{
    convert::node as convert,
    engine::{Engine, Event, Wanted},
    limits::{
        COMMAND_BYTES, COMMANDS_IN_FRAME, CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, KEEP_ALIVE,
        KEEP_ALIVE_TIMEOUT, NODE_FRAME_BYTES_MAX, PARCEL_BYTES, RECONNECT_MAX, RECONNECT_MIN,
        STREAM_WINDOW_BYTES,
    },
    mailbox::{Frames, Gather, Mailbox, Requests},
    session::{Command, Input, LinkId, NodeId, ShardId},
};

/// What waits for a node's control stream.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    hello: Option<wire::SessionHello>,
    commands: VecDeque<wire::ControlCommand>,
}

impl Commands {
    pub(crate) fn push(&mut self, shard: ShardId, command: Command) {
        self.commands.push_back(convert::command(shard, command));
    }
}

impl Gather for Commands {
    type Frame = wire::ControlRequest;

    fn take(&mut self) -> Option<wire::ControlRequest> {
        use wire::control_request::Kind;
        let kind = match self.hello.take() {
            Some(hello) => Kind::Hello(hello),
            None if self.commands.is_empty() => return None,
            None => {
                let mut bytes = 0;
                let mut full = |command: &wire::ControlCommand| {
                    let is_full = bytes >= COMMAND_BYTES;
                    bytes += cost(command);
                    is_full
                };
                let most = self.commands.len().min(COMMANDS_IN_FRAME);
                let count = self.commands.iter().take(most).position(&mut full);
                let commands = self.commands.drain(..count.unwrap_or(most)).collect();
                Kind::Commands(wire::ControlCommands { commands })
            }
        };
        Some(wire::ControlRequest { kind: Some(kind) })
    }

    fn len(&self) -> usize {
        self.commands.len()
    }
}

/// About how many bytes a command takes in a frame.
fn cost(command: &wire::ControlCommand) -> usize {
    use wire::control_command::Kind;
    let inner = match &command.kind {
        Some(Kind::Attach(attach)) => attach.queue.len() + attach.held.len() * HELD_COST,
        Some(Kind::Submit(submit)) => submit.batch.len(),
        Some(Kind::Report(report)) => {
            let leaving = report.leaving.iter();
            leaving
                .map(|one| COMMAND_COST + one.queue.len() + one.positions.len() * HELD_COST)
                .sum()
        }
        Some(Kind::Detach(_) | Kind::Credit(_) | Kind::Recall(_) | Kind::Leave(_)) | None => 0,
    };
    COMMAND_COST + inner
}

/// A command without its batch or what it names as held.
const COMMAND_COST: usize = 64;

/// A position in a frame: nine bytes at the most for one in a log, ten for one that is not.
const HELD_COST: usize = 10;

/// What waits for a node's payload stream.
#[derive(Debug, Default)]
pub(crate) struct Parcels {
    hello: Option<wire::SessionHello>,
    batches: VecDeque<wire::ShardBatch>,
}

impl Parcels {
    pub(crate) fn push(&mut self, batch: wire::ShardBatch) {
        self.batches.push_back(batch);
    }
}

impl Gather for Parcels {
    type Frame = wire::PayloadRequest;

    fn take(&mut self) -> Option<wire::PayloadRequest> {
        use wire::payload_request::Kind;
        let kind = match self.hello.take() {
            Some(hello) => Kind::Hello(hello),
            None => {
                let mut batches = vec![self.batches.pop_front()?];
                let mut bytes = batches[0].batch.len();
                while let Some(next) = self.batches.front()
                    && bytes + next.batch.len() <= PARCEL_BYTES
                {
                    bytes += next.batch.len();
                    batches.extend(self.batches.pop_front());
                }
                Kind::Batches(wire::SubmitBatches { batches })
            }
        };
        Some(wire::PayloadRequest { kind: Some(kind) })
    }

    fn len(&self) -> usize {
        self.batches.len()
    }
}

/// Who this gateway is to the nodes.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) cluster: String,
    pub(crate) gateway: String,
    /// This life of it.
    pub(crate) incarnation: GatewayId,
}

/// Keeps links to the wanted nodes for as long as the engine wants any.
pub(crate) async fn keep_links(
    engine: Engine,
    mut wishes: watch::Receiver<Wanted>,
    introduction: Introduction,
) {
    let mut keepers: BTreeMap<NodeId, (Arc<str>, Keeper)> = BTreeMap::new();
    loop {
        let wanted = wishes.borrow_and_update().clone();
        keepers.retain(|node, (address, _)| wanted.get(node) == Some(address));
        for (node, address) in wanted {
            keepers.entry(node).or_insert_with(|| {
                let keep = keep_link(engine.clone(), node, address.clone(), introduction.clone());
                (address, Keeper(tokio::spawn(keep)))
            });
        }
        if wishes.changed().await.is_err() {
            return;
        }
    }
}

/// A task that ends with this.
struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep_link(engine: Engine, node: NodeId, address: Arc<str>, who: Introduction) {
    let mut pause = RECONNECT_MIN;
    let mut complained = false;
    loop {
        match open(&engine, node, &address, &who).await {
            Ok(mut link) => {
                info!(%node, %address, link = link.id.0, "linked with storage node");
                complained = false;
                pause = RECONNECT_MIN;
                let why = link.run(&engine, node).await;
                let id = link.id;
                drop(link);
                info!(%node, %address, link = id.0, why, "link with storage node lost");
                let lost = Event::Input(Input::LinkLost { node, link: id });
                if engine.tell(lost).await.is_err() {
                    return;
                }
            }
            Err(why) => {
                match complained {
                    false => {
                        info!(%node, %address, why, "storage node cannot be reached; trying on")
                    }
                    true => debug!(%node, %address, why, "storage node cannot be reached"),
                }
                complained = true;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RECONNECT_MAX);
            }
        }
    }
}

struct OpenLink {
    id: LinkId,
    control: Streaming<wire::ControlResponse>,
    payload: Streaming<wire::PayloadResponse>,
}

async fn open(
    engine: &Engine,
    node: NodeId,
    address: &str,
    who: &Introduction,
) -> Result<OpenLink, String> {
    let channel = endpoint(address)?.connect().await;
    let channel = channel.map_err(|error| describe(&error))?;
    let session = getrandom::u64().map_err(|error| format!("randomness: {error}"))?;
    let hello = wire::SessionHello {
        cluster: who.cluster.clone(),
        gateway: who.gateway.clone(),
        session,
        incarnation: bytes::Bytes::copy_from_slice(&who.incarnation.0),
    };
    let (commands, parcels) = (Mailbox::<Commands>::new(), Mailbox::<Parcels>::new());
    commands.put(|commands| commands.hello = Some(hello.clone()));
    parcels.put(|parcels| parcels.hello = Some(hello));
    let mut client =
        SessionServiceClient::new(channel).max_decoding_message_size(NODE_FRAME_BYTES_MAX);
    let mut other = client.clone();
    let opened = async {
        tokio::try_join!(
            client.control(Requests(Frames::new(Arc::clone(&commands), ()))),
            other.payload(Requests(Frames::new(Arc::clone(&parcels), ()))),
        )
    };
    let (control, payload) = tokio::time::timeout(CONNECT_TIMEOUT, opened)
        .await
        .map_err(|_| "the node does not accept the session in time".to_owned())?
        .map_err(|status| status.to_string())?;
    let link = LinkId(session);
    let linked = Event::Linked {
        node,
        link,
        commands,
        parcels,
    };
    engine
        .tell(linked)
        .await
        .map_err(|status| status.to_string())?;
    Ok(OpenLink {
        id: link,
        control: control.into_inner(),
        payload: payload.into_inner(),
    })
}

impl OpenLink {
    /// Takes in what the node says, until a stream ends. Returns why it did.
    async fn run(&mut self, engine: &Engine, node: NodeId) -> String {
        let link = self.id;
        loop {
            let said = tokio::select! {
                said = self.control.next() => said.map(|said| {
                    said.map(|said| said.events.into_iter().map(convert::event).collect())
                }),
                said = self.payload.next() => said.map(|said| {
                    said.map(|said| said.deliveries.into_iter().map(convert::deliveries).collect())
                }),
            };
            let events: Result<Vec<_>, _> = match said {
                None => return "the node ended the stream".to_owned(),
                Some(Err(status)) => return status.to_string(),
                Some(Ok(events)) => events,
            };
            let events = match events {
                Ok(events) => events,
                Err(unreadable) => return unreadable.to_string(),
            };
            for (shard, event) in events {
                let input = Input::FromNode {
                    node,
                    link,
                    shard,
                    event,
                };
                if let Err(stopping) = engine.tell(Event::Input(input)).await {
                    return stopping.to_string();
                }
            }
        }
    }
}

/// How this gateway connects to a service of its cluster.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("address {address}: {}", describe(&error)))?;
    Ok(endpoint
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// A connection for single questions, opened when it is used.
pub(crate) fn lazy_channel(address: &str, timeout: Duration) -> Result<Channel, String> {
    Ok(endpoint(address)?.timeout(timeout).connect_lazy())
}

/// An error with its causes: the outermost of a transport error alone says nothing.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
