//! Failures as gRPC statuses: the one place where they are made.

use quorate_message::Destination;
use tonic::{Code, Status};

use crate::{
    convert::outcome::{held_back, is_shortage, outcome_error},
    limits::{TRANSACTION_BYTES_MAX, TRANSACTION_COMMANDS_MAX},
    session::{Cause, Failure, Outcome},
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
            "no coordinator has told this gateway where queues live; nothing was sent on, retry"
                .to_owned(),
        ),
        Failure::OutOfMemory { bytes_max } => (
            Code::ResourceExhausted,
            format!(
                "gateway holds as many unanswered messages as it may ({bytes_max} bytes, the key memory_bytes); \
                 slow down, then retry"
            ),
        ),
        Failure::HeldBack { cause } => (
            Code::ResourceExhausted,
            format!(
                "{}; retry with the same producer id and number",
                held_back(cause)
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
        Failure::ForeignPosition { shard, expected } => foreign(shard.0, expected.0),
        Failure::Hangs {
            queue,
            position: (shard, position),
            patience_ms,
        } => hangs(queue, (shard.0, position.value()), *patience_ms),
        Failure::TransactionTooLarge => too_large(),
        Failure::NotCommitted {
            shard,
            outcome,
            cause,
        } => not_committed(shard.0, *outcome, cause.as_deref()),
        Failure::Refused { shard, outcome } => refused(shard.0, *outcome),
    };
    Status::new(code, text)
}

/// The same without a code, for protocols that have other ones.
pub(crate) fn failure_text(failure: &Failure) -> String {
    failure_status(failure).message().to_owned()
}

/// What a shard does not do now.
fn refused(shard: u32, outcome: Outcome) -> (Code, String) {
    if outcome == Outcome::Moved {
        let text = "the destination is being moved to another shard; retry when it is there";
        return (Code::Unavailable, text.to_owned());
    }
    let outcome = name(outcome);
    let text = format!("shard {shard} answered {outcome}; retry later");
    (Code::ResourceExhausted, text)
}

/// A transaction beyond its bounds.
fn too_large() -> (Code, String) {
    let text = format!(
        "a transaction has at most {TRANSACTION_COMMANDS_MAX} messages and {TRANSACTION_BYTES_MAX} bytes; nothing of \
         it was done, commit more often"
    );
    (Code::InvalidArgument, text)
}

/// A position of another shard than the consumer's.
fn foreign(shard: u32, expected: u32) -> (Code, String) {
    let text = format!(
        "position of shard {shard} was named, but the consumer's queue is in shard {expected}; name positions as they \
         were delivered"
    );
    (Code::InvalidArgument, text)
}

/// Why a consumer was ended. Its client is not to come back by itself.
fn hangs(queue: &Destination, (shard, position): (u32, u64), patience_ms: u64) -> (Code, String) {
    let text = format!(
        "consumer held message {shard}:{position} of {queue} unsettled for more than {patience_ms} ms (ack_timeout_ms \
         of its settings); it is ended, and what it held goes to other consumers: settle sooner, ask for fewer \
         messages at a time, or raise the setting"
    );
    (Code::FailedPrecondition, text)
}

/// Why a transaction did not happen. What a repeat under the same name can mend is retryable.
fn not_committed(shard: u32, outcome: Outcome, cause: Option<&Cause>) -> (Code, String) {
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
        Outcome::Moved => (
            Code::Unavailable,
            "a destination of it is being moved to another shard; nothing of it was done, repeat the commit under the \
             same name",
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
    let about = match cause {
        Some(cause) if is_shortage(outcome) => format!("{}; ", outcome_error(outcome, Some(cause))),
        Some(cause) => format!("{}: ", cause.destination),
        None => String::new(),
    };
    let fate = match outcome {
        Outcome::InDoubt | Outcome::NumberTooOld => "transaction may be committed",
        Outcome::RolledBack
        | Outcome::Moved
        | Outcome::LimitReached
        | Outcome::QueueFull
        | Outcome::Blocked
        | Outcome::UnknownMessage
        | Outcome::UnknownDestination
        | Outcome::Stored
        | Outcome::Duplicate
        | Outcome::Applied => "transaction is rolled back",
    };
    let outcome = name(outcome);
    let text = format!("{fate}: shard {shard} answered {outcome}: {about}{why}");
    (code, text)
}

fn name(outcome: Outcome) -> &'static str {
    crate::convert::outcome(outcome).as_str_name()
}
