//! The servers of etcd: one is asked at a time, and the next one when it fails.
//!
//! Each has a connection of its own, made when it is needed and thrown away when a call on it failed or did not answer
//! in time. What may be asked twice goes on to the other servers at once; what may not is tried again only when no
//! connection could be made, so that nothing was asked.

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{Channel, Client, ConnectOptions, Error};
use tokio::time::timeout;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tracing::debug;

use crate::{
    limits::{STORE_CALL_MS, STORE_CONNECT_MS, STORE_PING_MS},
    store::{OptionsError, StoreError, StoreOptions, etcd::failure::Failure},
};

/// Whether a call may be made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Twice is the same as once.
    Safe,
    /// Whether it was made is not known when its answer does not come.
    Once,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Endpoints {
    servers: Vec<Server>,
    options: ConnectOptions,
    user: Option<String>,
    deadline: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Server {
    address: String,
    endpoint: Endpoint,
}

#[derive(Default)]
struct State {
    /// The server that is asked.
    current: usize,
    client: Option<Client>,
    /// Rises when another server or connection is taken: a call that fails late does not throw away its successor.
    turn: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

/// A connection in use.
struct Connection {
    client: Client,
    turn: u64,
}

impl Endpoints {
    pub(super) fn new(options: &StoreOptions) -> Result<Self, OptionsError> {
        let servers = options
            .endpoints
            .iter()
            .map(|address| server(address, options))
            .collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(OptionsError::Address {
                address: "(none)".to_owned(),
                reason: "give at least one with `store_endpoints`".to_owned(),
            });
        }
        let mut connect = ConnectOptions::new()
            .with_auto_token_refresh(true)
            // A server without a leader says so, instead of letting its callers wait.
            .with_require_leader(true);
        if let Some((user, password)) = &options.user {
            connect = connect.with_user(user, password);
        }
        let call = Duration::from_millis(STORE_CALL_MS);
        Ok(Self {
            servers,
            options: connect,
            user: options.user.as_ref().map(|(user, _)| user.clone()),
            // A server that hangs must leave time for another one within a session's window.
            deadline: call.min(options.window() / 3),
            state: Mutex::new(State::default()),
        })
    }

    /// Makes a call. On failure it is made again on other servers, each once, as far as that is safe.
    pub(super) async fn call<T, F>(
        &self,
        repeat: Repeat,
        call: impl Fn(Client) -> F + Send,
    ) -> Result<T, StoreError>
    where
        T: Send,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let mut left = self.servers.len();
        loop {
            let failure = match self.call_once(&call).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            left -= 1;
            match failure {
                Failure::Away { is_unsent, .. }
                    if left > 0 && (is_unsent || repeat == Repeat::Safe) => {}
                failure => return Err(failure.into_error()),
            }
        }
    }

    async fn call_once<T, F>(&self, call: &(impl Fn(Client) -> F + Send)) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let connection = self.connection().await?;
        let answered = timeout(self.deadline, call(connection.client.clone())).await;
        let failure = match answered {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Failure::of(&error, self.user.as_deref()),
            Err(_) => Failure::late(),
        };
        Err(self.turn_away(connection.turn, failure))
    }

    /// The connection to the server that is asked at the moment, made if there is none.
    async fn connection(&self) -> Result<Connection, Failure> {
        let (current, turn) = {
            let state = self.state();
            if let Some(client) = &state.client {
                return Ok(Connection {
                    client: client.clone(),
                    turn: state.turn,
                });
            }
            (state.current, state.turn)
        };
        let server = &self.servers[current];
        let channel = Channel::Tonic(server.endpoint.connect_lazy());
        // With a user this asks for a token; without, nothing is sent.
        let made = timeout(
            self.deadline,
            Client::from_channel(channel, Some(self.options.clone())),
        );
        let failure = match made.await {
            Ok(Ok(client)) => {
                let mut state = self.state();
                if state.turn == turn {
                    state.client = Some(client.clone());
                }
                return Ok(Connection { client, turn });
            }
            Ok(Err(error)) => Failure::of(&error, self.user.as_deref()),
            Err(_) => Failure::late(),
        };
        // Whatever went wrong here, nothing but a name and a password was sent.
        let failure = match failure {
            Failure::Away { reason, .. } => Failure::Away {
                reason,
                is_unsent: true,
            },
            Failure::Refused(reason) => Failure::Refused(reason),
        };
        Err(self.turn_away(turn, failure))
    }

    /// Turns to the next server, unless that was done already. Returns the failure with the server's address.
    fn turn_away(&self, turn: u64, failure: Failure) -> Failure {
        let Failure::Away { reason, is_unsent } = failure else {
            return failure;
        };
        let mut state = self.state();
        let address = &self.servers[state.current].address;
        let reason = format!("{address}: {reason}");
        if state.turn == turn {
            debug!(reason, "server of the coordination store is left");
            state.turn += 1;
            state.client = None;
            state.current = (state.current + 1) % self.servers.len();
        }
        Failure::Away { reason, is_unsent }
    }

    /// Says that the holder of the lease lives. False: there is no such lease.
    pub(super) async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        self.call(Repeat::Safe, |mut client| async move {
            match client.lease_keep_alive(lease).await {
                // The stream is opened anew for each sign of life: there is none to be noticed dead.
                Ok(_stream) => Ok(true),
                Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                Err(Error::GRpcStatus(status)) if status.code() == tonic::Code::NotFound => {
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Ends a lease with all keys under it.
    pub(super) async fn revoke(&self, lease: i64) -> Result<(), StoreError> {
        self.call(Repeat::Safe, |mut client| async move {
            match client.lease_revoke(lease).await {
                Ok(_) => Ok(()),
                Err(Error::GRpcStatus(status)) if status.code() == tonic::Code::NotFound => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn server(address: &str, options: &StoreOptions) -> Result<Server, OptionsError> {
    let wrong = |reason: String| OptionsError::Address {
        address: address.to_owned(),
        reason,
    };
    let uri = match (address.contains("://"), &options.tls) {
        (true, _) => address.to_owned(),
        (false, Some(_)) => format!("https://{address}"),
        (false, None) => format!("http://{address}"),
    };
    let endpoint = Endpoint::from_shared(uri.clone()).map_err(|error| wrong(error.to_string()))?;
    let has_port = endpoint.uri().port().is_some();
    let ping = Duration::from_millis(STORE_PING_MS);
    let mut endpoint = endpoint
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_millis(STORE_CONNECT_MS))
        .http2_keep_alive_interval(ping)
        .keep_alive_timeout(ping / 3);
    match (endpoint.uri().scheme_str(), &options.tls) {
        (Some("http"), None) => {}
        (Some("https"), Some(tls)) => {
            let mut config =
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authority));
            if let Some((certificate, key)) = &tls.identity {
                config = config.identity(Identity::from_pem(certificate, key));
            }
            endpoint = endpoint
                .tls_config(config)
                .map_err(|error| OptionsError::Certificates(describe(&error)))?;
        }
        (Some("https"), None) => {
            return Err(wrong(
                "give the servers' authority with `store_ca_file`".to_owned(),
            ));
        }
        (Some("http"), Some(_)) => {
            return Err(wrong(
                "write https://, or remove `store_ca_file`".to_owned(),
            ));
        }
        (Some(_) | None, _) => return Err(wrong("write http:// or https://".to_owned())),
    }
    if !has_port {
        return Err(wrong("write it with its port, 2379 by default".to_owned()));
    }
    Ok(Server {
        address: uri,
        endpoint,
    })
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
