//! What an error of etcd means for whoever asked.

use std::{error::Error as _, io};

use etcd_client::Error;
use tonic::{Code, Status};

use crate::store::StoreError;

/// A call that failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// This server, or all of them, cannot do it at the moment; another one may.
    Away {
        reason: String,
        /// The request did not leave this machine.
        is_unsent: bool,
    },
    /// No server will do it until a human has changed something.
    Refused(String),
}

impl Failure {
    pub(super) fn late() -> Self {
        Self::Away {
            reason: "it does not answer in time".to_owned(),
            is_unsent: false,
        }
    }

    pub(super) fn of(error: &Error, user: Option<&str>) -> Self {
        if let Error::GRpcStatus(status) = error {
            return Self::of_status(status, user);
        }
        Self::Away {
            reason: error.to_string(),
            is_unsent: is_unsent(error),
        }
    }

    fn of_status(status: &Status, user: Option<&str>) -> Self {
        let said = status.message();
        let who = user.map_or_else(
            || "nobody in particular".to_owned(),
            |user| format!("`{user}`"),
        );
        let is = |words: &str| said.contains(words);
        match status.code() {
            Code::PermissionDenied => Self::Refused(format!(
                "etcd does not let {who} do that ({said}); grant the role read and write on the keys' prefixes"
            )),
            Code::InvalidArgument | Code::Unauthenticated if is("authentication failed") => {
                Self::Refused(format!(
                    "etcd refuses the password of {who}; see the keys `store_user` and `store_password_file`"
                ))
            }
            Code::InvalidArgument if is("user name is empty") => Self::Refused(
                "etcd asks for a user; give `store_user` and `store_password_file`".to_owned(),
            ),
            Code::FailedPrecondition if is("authentication is not enabled") => Self::Refused(
                "etcd has no authentication, so that a user means nothing; remove `store_user`, or enable it with \
                 `etcdctl auth enable`"
                    .to_owned(),
            ),
            Code::InvalidArgument if is("too many operations") => Self::Refused(
                "etcd takes fewer operations in a transaction than by default; raise its `--max-txn-ops` to 128"
                    .to_owned(),
            ),
            _ => Self::Away {
                reason: describe(status),
                is_unsent: is_unsent(status),
            },
        }
    }

    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Away { reason, .. } => StoreError::Away(reason),
            Self::Refused(reason) => StoreError::Broken(reason),
        }
    }
}

/// Whether no connection could be made: then nothing was asked.
fn is_unsent(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}

/// A status with its causes: the outermost of a broken connection alone says nothing.
fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    if text.is_empty() {
        return status.code().to_string();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Code, message: &str) -> Failure {
        Failure::of(&Error::GRpcStatus(Status::new(code, message)), Some("q"))
    }

    #[test]
    fn what_a_human_must_change_is_told_with_the_remedy() {
        let remedies = [
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                "store_password_file",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: user name is empty",
                "store_user",
            ),
            (
                Code::FailedPrecondition,
                "etcdserver: authentication is not enabled",
                "etcdctl auth enable",
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                "grant the role",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
                "--max-txn-ops",
            ),
        ];
        for (code, message, remedy) in remedies {
            let Failure::Refused(reason) = failure(code, message) else {
                panic!("{message} is for a human");
            };
            assert!(reason.contains(remedy), "{reason}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_away() {
        let away = [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::Unauthenticated, "etcdserver: invalid auth token"),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
        ];
        for (code, message) in away {
            let failure = failure(code, message);
            assert!(
                matches!(
                    failure,
                    Failure::Away {
                        is_unsent: false,
                        ..
                    }
                ),
                "{message}"
            );
        }
    }
}
