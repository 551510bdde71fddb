//! How a store with servers of its own is reached: addresses, user, certificates, and where our keys are.

use std::time::Duration;

/// What a store with servers is told at the start.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// "host:port" of each server. For etcd also "http://host:port" or "https://host:port"; without the scheme, the one
    /// that goes with `tls`. For ZooKeeper the last one may end with the path under which everything is.
    pub endpoints: Vec<String>,
    /// Where the rows are, without a slash at its end.
    pub path: String,
    /// Where live nodes are published, without a slash at its end.
    pub members_path: String,
    /// Time without a sign of life after which the active coordinator is replaced.
    pub session: Duration,
    /// Name of this coordinator, for who looks at the store.
    pub name: String,
    /// Name and password.
    pub user: Option<(String, String)>,
    /// Certificates.
    pub tls: Option<Tls>,
}

/// Certificates as PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// Who signed the servers' certificates.
    pub authority: String,
    /// This process's own certificate and key, if the servers ask for one.
    pub identity: Option<(String, String)>,
}

/// Why the store cannot be reached as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// An address is none.
    #[error("address {address} of the coordination store: {reason}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificates are none.
    #[error("certificates for the coordination store: {0}")]
    Certificates(String),
}

impl StoreOptions {
    /// The part of a session after which this process no longer takes itself for the active one, counted from when
    /// the last answered sign of life was sent. The rest is for the difference between two clocks.
    pub(super) fn window(&self) -> Duration {
        self.session * 2 / 3
    }

    /// The session in etcd's whole seconds.
    pub(super) fn session_seconds(&self) -> i64 {
        let seconds = self.session.as_millis().div_ceil(1_000);
        i64::try_from(seconds).unwrap_or(i64::MAX)
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither passwords nor keys are for logs.
        f.debug_struct("StoreOptions")
            .field("endpoints", &self.endpoints)
            .field("path", &self.path)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("is_tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_gives_up_before_the_store_gives_its_place_away() {
        let options = |session_ms| StoreOptions {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            path: "/quorate-state/test".to_owned(),
            members_path: "/quorate/test".to_owned(),
            session: Duration::from_millis(session_ms),
            name: "co01".to_owned(),
            user: Some(("name".to_owned(), "secret".to_owned())),
            tls: None,
        };
        assert_eq!(options(3_000).session_seconds(), 3);
        // Rounded up in the store, never below what this process counts with.
        assert_eq!(options(2_500).session_seconds(), 3);
        assert!(options(2_500).window() < Duration::from_millis(1_700));
        assert!(!format!("{:?}", options(2_000)).contains("secret"));
    }
}
