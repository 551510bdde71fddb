//! Failures as gRPC statuses: the one place where they are made.

use tonic::{Code, Status};

use crate::session::{Failure, Outcome};

/// The status of a failed call: it names the thing, and says whether and how to retry.
pub(crate) fn failure_status(failure: &Failure) -> Status {
    let (code, text) = match failure {
        Failure::Deadline { shard, reason } => (
            Code::DeadlineExceeded,
            format!(
                "shard {} gave no answer in time: {reason}; what was sent may be stored, retry with the same \
                 producer id and number",
                shard.0
            ),
        ),
        Failure::NoTopology => (
            Code::Unavailable,
            "no coordinator has told this gateway where queues live; nothing was stored, retry"
                .to_owned(),
        ),
        Failure::OutOfMemory { bytes_max } => (
            Code::ResourceExhausted,
            format!(
                "gateway holds as many unanswered messages as it may ({bytes_max} bytes, the key memory_bytes); \
                 slow down, then retry"
            ),
        ),
        Failure::Malformed { shard, reason } => (
            Code::InvalidArgument,
            format!("shard {} cannot take this: {reason}", shard.0),
        ),
        Failure::AttachRefused { shard, reason } => (
            Code::Unavailable,
            format!(
                "shard {} does not attach the consumer: {reason}; retry",
                shard.0
            ),
        ),
        Failure::TakenOver => (
            Code::Aborted,
            "consumer was opened again by another call with the same consumer_id".to_owned(),
        ),
        Failure::TooManyHeld { held_max } => (
            Code::InvalidArgument,
            format!("consumer names more than {held_max} held messages; settle or drop some"),
        ),
        Failure::ForeignPosition { shard, expected } => (
            Code::InvalidArgument,
            format!(
                "position of shard {} was named, but the consumer's queue is in shard {}; name positions as they \
                 were delivered",
                shard.0, expected.0
            ),
        ),
        Failure::Refused { shard, outcome } => (
            Code::ResourceExhausted,
            format!("shard {} answered {}; retry later", shard.0, name(*outcome)),
        ),
    };
    Status::new(code, text)
}

fn name(outcome: Outcome) -> &'static str {
    crate::convert::outcome(outcome).as_str_name()
}
