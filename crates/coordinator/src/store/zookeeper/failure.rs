//! What an error of ZooKeeper's client means for whoever asked.

use std::{future::Future, time::Duration};

use tokio::time::timeout;
use zookeeper_client::{Error, MultiWriteError};

use crate::{limits::STORE_WAIT_MS, store::StoreError};

/// Waits for a call, but not for ever: the client waits for as long as it has no server.
pub(super) async fn bounded<T, E: From<Error>>(
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match timeout(Duration::from_millis(STORE_WAIT_MS), call).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout.into()),
    }
}

/// Whether the session is over, so that nothing more will come of this client.
pub(super) fn is_session_over(error: &Error) -> bool {
    matches!(
        error,
        Error::SessionExpired | Error::SessionMoved | Error::ClientClosed
    )
}

/// Whether the same call on the same client may be answered if it is made again: its connection broke.
pub(super) fn is_disconnected(error: &Error) -> bool {
    matches!(error, Error::ConnectionLoss | Error::Custom(_))
}

/// The first failed operation of a transaction with its error, or the error of the whole.
pub(super) fn parts(error: MultiWriteError) -> (Option<usize>, Error) {
    match error {
        MultiWriteError::RequestFailed { source } => (None, source),
        MultiWriteError::OperationFailed { index, source } => (Some(index), source),
    }
}

/// Who asked, and for what, for the words of an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) path: &'a str,
    /// The path under which the addresses put everything.
    pub(super) chroot: &'a str,
}

impl Asked<'_> {
    /// The error for the caller. What a human must change is `Broken`, with the remedy; the rest passes by itself.
    pub(super) fn error(&self, error: &Error) -> StoreError {
        let path = format!("{}{}", self.chroot, self.path);
        let who = self.user.map_or_else(
            || "nobody in particular".to_owned(),
            |user| format!("`{user}`"),
        );
        match error {
            Error::NoAuth => StoreError::Broken(format!(
                "ZooKeeper does not let {who} use {path}; see the keys `store_user` and `store_password_file`, or make \
                 that path and give the user its rights with `setAcl {path} auth:<user>:<password>:cdrwa`"
            )),
            Error::AuthFailed => StoreError::Broken(format!(
                "ZooKeeper refuses {who}: its servers ask for an authentication that is not `digest`, or for another \
                 user; see the keys `store_user` and `store_password_file`"
            )),
            Error::InvalidAcl => StoreError::Broken(format!(
                "ZooKeeper does not know {who}: enable its digest authentication, or remove `store_user`"
            )),
            Error::Unimplemented => StoreError::Broken(
                "these ZooKeeper servers are older than 3.6, which is needed; upgrade them"
                    .to_owned(),
            ),
            Error::NoNode if self.chroot.is_empty() => StoreError::Broken(format!(
                "{path} was removed from ZooKeeper; stop the coordinators, put the newest copy of the store in place, \
                 and start them again"
            )),
            Error::NoNode => StoreError::Broken(format!(
                "ZooKeeper has no {chroot}, the path at the end of `store_endpoints`; make it with `create {chroot}`, \
                 or correct the key",
                chroot = self.chroot
            )),
            Error::NoChildrenForEphemerals => StoreError::Broken(format!(
                "{path} lies under an ephemeral node of somebody else; set `store_path` and `members_path`"
            )),
            Error::BadArguments(reason) => {
                StoreError::Broken(format!("ZooKeeper's client does not take {path}: {reason}"))
            }
            Error::Timeout => StoreError::Away("ZooKeeper does not answer in time".to_owned()),
            Error::NoHosts => {
                StoreError::Away("none of ZooKeeper's servers takes a session".to_owned())
            }
            other => StoreError::Away(format!("ZooKeeper at {path}: {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_human_must_change_is_told_with_the_remedy() {
        let asked = |chroot| Asked {
            user: Some("q"),
            path: "/quorate-state/test",
            chroot,
        };
        let remedies = [
            (Error::NoAuth, "", "store_password_file"),
            (Error::NoAuth, "/base", "setAcl /base/quorate-state/test"),
            (Error::AuthFailed, "", "`store_user`"),
            (Error::Unimplemented, "", "upgrade"),
            (Error::NoNode, "/base", "create /base"),
            (Error::NoNode, "", "newest copy"),
        ];
        for (error, chroot, remedy) in remedies {
            let told = asked(chroot).error(&error);
            assert!(!told.is_retryable(), "{told}");
            assert!(told.to_string().contains(remedy), "{told}");
        }
        for error in [
            Error::ConnectionLoss,
            Error::Timeout,
            Error::NoHosts,
            Error::SessionExpired,
            Error::Throttled,
        ] {
            assert!(asked("").error(&error).is_retryable(), "{error}");
        }
    }
}
