//! Which gateway to try next, and when.
//!
//! Every gateway is tried once without a pause; each further round waits, twice as long as the one before. Only a
//! gateway that does something useful ends the count, so that one that accepts connections and refuses every call is
//! not asked in a tight loop.

use std::{sync::Arc, time::Duration};

use tonic::transport::{Channel, Endpoint};
use tracing::debug;

use crate::{
    Address, Error,
    limits::{
        CONNECT, CONNECTION_WINDOW_BYTES, KEEP_ALIVE, KEEP_ALIVE_ANSWER, STREAM_WINDOW_BYTES,
    },
};

/// Tries the gateways of an address in turn. One for each producer, consumer and client.
#[derive(Clone, Debug)]
pub(crate) struct Gateways {
    address: Arc<Address>,
    /// Indices into the address's gateways, in the order in which they are tried.
    order: Vec<usize>,
    /// Place in `order` of the gateway in use.
    current: usize,
    /// Failures since something useful came.
    failures: u32,
    /// Whether the newest attempt to connect succeeded.
    connected: bool,
    last_error: String,
}

impl Gateways {
    pub(crate) fn new(address: Arc<Address>) -> Self {
        let mut order: Vec<usize> = (0..address.gateways().len()).collect();
        if address.options().randomize {
            shuffle(&mut order);
        }
        Self {
            address,
            order,
            current: 0,
            failures: 0,
            connected: false,
            last_error: "it did not answer in time".to_owned(),
        }
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.address.options().timeout
    }

    /// Connects to the gateway in use, or to the next ones until one accepts. Never gives up; the caller may.
    pub(crate) async fn connect(&mut self) -> Channel {
        loop {
            let pause = self.pause();
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            match self.attempt().await {
                Ok(channel) => {
                    self.connected = true;
                    return channel;
                }
                Err(reason) => {
                    self.connected = false;
                    self.failed(&reason);
                }
            }
        }
    }

    /// Counts a failure of the gateway in use and turns to the next.
    pub(crate) fn failed(&mut self, reason: &str) {
        debug!(gateway = self.gateway(), reason, "gateway failed");
        self.last_error = format!("{}: {reason}", self.gateway());
        self.failures = self.failures.saturating_add(1);
        self.current = (self.current + 1) % self.order.len();
    }

    /// Notes that the gateway in use does its work.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
    }

    /// Returns whether the gateway in use has done something useful.
    pub(crate) fn has_progressed(&self) -> bool {
        self.failures == 0 && self.connected
    }

    /// Returns the error for a caller that gives up.
    pub(crate) fn gave_up(&self) -> Error {
        let last = self.last_error.clone();
        if self.connected {
            Error::Unanswered { last }
        } else {
            Error::NoGateway {
                addresses: self.address.to_string(),
                last,
            }
        }
    }

    fn gateway(&self) -> &str {
        &self.address.gateways()[self.order[self.current]]
    }

    fn pause(&self) -> Duration {
        let gateways = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        let rounds = self.failures / gateways;
        let first_of_round = self.failures.is_multiple_of(gateways);
        if rounds == 0 || !first_of_round {
            return Duration::ZERO;
        }
        let options = self.address.options();
        let doublings = (rounds - 1).min(20);
        options
            .initial_reconnect_delay
            .saturating_mul(1 << doublings)
            .min(options.max_reconnect_delay)
    }

    async fn attempt(&self) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.gateway()))
            .map_err(|error| error.to_string())?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        endpoint.connect().await.map_err(|error| root_cause(&error))
    }
}

/// Returns the innermost message: "transport error" helps nobody, "connection refused" does.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn shuffle(order: &mut [usize]) {
    for last in (1..order.len()).rev() {
        let random = getrandom::u64().unwrap_or_default();
        let bound = last as u64 + 1;
        let chosen = usize::try_from(random % bound).unwrap_or_default();
        order.swap(last, chosen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateways(text: &str) -> Gateways {
        Gateways::new(Arc::new(text.parse().expect("a good address")))
    }

    #[test]
    fn each_is_tried_at_once_and_further_rounds_wait_twice_as_long_each() {
        let mut gateways = gateways("failover:(a:1,b:2)?randomize=false&maxReconnectDelay=35");
        let mut tried = Vec::new();
        for _ in 0..10 {
            tried.push((gateways.gateway().to_owned(), gateways.pause().as_millis()));
            gateways.failed("refused");
        }
        let expected: Vec<(String, u128)> = [0, 0, 10, 0, 20, 0, 35, 0, 35, 0]
            .into_iter()
            .zip(["a:1", "b:2"].into_iter().cycle())
            .map(|(pause, gateway)| (gateway.to_owned(), pause))
            .collect();
        assert_eq!(tried, expected);
        gateways.progressed();
        assert_eq!(gateways.pause(), Duration::ZERO);
        assert_eq!(
            gateways.gave_up().to_string(),
            "no gateway answers at a:1, b:2: b:2: refused"
        );
    }

    #[test]
    fn random_order_tries_every_gateway() {
        let mut gateways = gateways("failover:(a:1,b:2,c:3)");
        let mut tried: Vec<String> = (0..3)
            .map(|_| {
                let gateway = gateways.gateway().to_owned();
                gateways.failed("refused");
                gateway
            })
            .collect();
        tried.sort();
        assert_eq!(tried, ["a:1", "b:2", "c:3"]);
    }
}
