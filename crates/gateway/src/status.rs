//! Failures as gRPC statuses: the one place where they are made.

use tonic::{Code, Status};

use crate::{
    limits::{TRANSACTION_BYTES_MAX, TRANSACTION_COMMANDS_MAX},
    session::{Failure, Outcome},
};

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
        Failure::Hangs {
            queue,
            position: (shard, position),
            patience_ms,
        } => (
            Code::FailedPrecondition,
            format!(
                "consumer held message {}:{} of {queue} unsettled for more than {patience_ms} ms (ack_timeout_ms of \
                 its settings); it is ended, and what it held goes to other consumers: settle sooner, ask for fewer \
                 messages at a time, or raise the setting",
                shard.0,
                position.value()
            ),
        ),
        Failure::TransactionTooLarge => (
            Code::InvalidArgument,
            format!(
                "a transaction has at most {TRANSACTION_COMMANDS_MAX} messages and {TRANSACTION_BYTES_MAX} bytes; \
                 nothing of it was done, commit more often"
            ),
        ),
        Failure::NotCommitted { shard, outcome } => not_committed(shard.0, *outcome),
        Failure::Refused { shard, outcome } => (
            Code::ResourceExhausted,
            format!("shard {} answered {}; retry later", shard.0, name(*outcome)),
        ),
    };
    Status::new(code, text)
}

/// Why a transaction did not happen. What a repeat under the same name can mend is retryable.
fn not_committed(shard: u32, outcome: Outcome) -> (Code, String) {
    let (code, why) = match outcome {
        Outcome::InDoubt => (
            Code::Unavailable,
            "an earlier try to commit it is not resolved yet; repeat the commit under the same name",
        ),
        Outcome::RolledBack => (
            Code::Aborted,
            "it took too long, or the clocks of gateway and storage nodes differ; nothing of it was done, repeat the \
             commit under the same name",
        ),
        Outcome::LimitReached | Outcome::QueueFull | Outcome::Blocked => (
            Code::ResourceExhausted,
            "there is no room; nothing of it was done, retry later",
        ),
        Outcome::UnknownMessage => (
            Code::FailedPrecondition,
            "a message that it settles is not there, or not this consumer's; nothing of it was done",
        ),
        Outcome::NumberTooOld => (
            Code::FailedPrecondition,
            "its number is below the window of 4,096, so whether it was committed is not known",
        ),
        Outcome::UnknownDestination | Outcome::Stored | Outcome::Duplicate | Outcome::Applied => {
            (Code::FailedPrecondition, "nothing of it was done")
        }
    };
    let outcome = name(outcome);
    let text = format!("transaction is rolled back: shard {shard} answered {outcome}: {why}");
    (code, text)
}

fn name(outcome: Outcome) -> &'static str {
    crate::convert::outcome(outcome).as_str_name()
}
