//! What can go wrong, by what the caller can do about it.

use tonic::{Code, Status};

use crate::address::AddressError;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address cannot be read.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No gateway could be reached in the time allowed.
    #[error("no gateway answers at {addresses}: {last}")]
    NoGateway {
        /// All that were tried.
        addresses: String,
        /// What the last attempt said.
        last: String,
    },
    /// A gateway answers, but what was asked for did not come about in the time allowed. What was sent may have taken
    /// effect or not; sending it again through the same producer is safe.
    #[error("not answered in time: {last}")]
    Unanswered {
        /// What the last attempt said.
        last: String,
    },
    /// A gateway or leader asks for patience.
    #[error("{0}")]
    Unavailable(String),
    /// The request is wrong and would be wrong again.
    #[error("{0}")]
    Refused(String),
    /// The producer's number fell out of the window in which the broker knows repeats.
    #[error(
        "message {number} of this producer for {destination} is too old to tell whether it was stored"
    )]
    NumberTooOld {
        /// Destination as given.
        destination: String,
        /// The producer's number.
        number: u64,
    },
    /// A limit of the cluster is reached; the message was not stored.
    #[error("not stored: {0}")]
    LimitReached(String),
    /// The producer or consumer was closed or dropped.
    #[error("the producer or consumer is closed")]
    Closed,
}

impl Error {
    /// Returns whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoGateway { .. }
            | Self::Unanswered { .. }
            | Self::Unavailable(_)
            | Self::LimitReached(_) => true,
            Self::Address(_) | Self::Refused(_) | Self::NumberTooOld { .. } | Self::Closed => false,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let message = if status.message().is_empty() {
            status.code().description().to_owned()
        } else {
            status.message().to_owned()
        };
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss => Self::Refused(message),
            // Ok is not an error; Internal and Unknown are what a connection that broke within a frame looks like.
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable => Self::Unavailable(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_sorted_by_whether_a_repeat_can_help() {
        for (status, retryable) in [
            (Status::invalid_argument("bad name"), false),
            (Status::unimplemented("topics"), false),
            (Status::unavailable("shard 3 has no leader"), true),
            (Status::deadline_exceeded("30 s"), true),
            (Status::resource_exhausted("slow down"), true),
            (Status::internal("h2 protocol error"), true),
        ] {
            assert_eq!(
                Error::from(status.clone()).is_retryable(),
                retryable,
                "{status}"
            );
        }
        let text = Error::from(Status::new(Code::Unavailable, "")).to_string();
        assert!(text.contains("unavailable"), "{text}");
    }
}
