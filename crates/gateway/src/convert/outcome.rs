//! What clients are told about what became of their messages.

use quorate_proto::v1;

use crate::session::{Cause, Outcome};

/// What a client is told about an outcome that is an error; empty for the others.
pub(crate) fn outcome_error(outcome: Outcome, cause: Option<&Cause>) -> String {
    let name = cause.map_or_else(
        || "the destination".to_owned(),
        |cause| cause.destination.to_string(),
    );
    let is_temporary = cause.is_some_and(|cause| cause.destination.name.is_temporary());
    match outcome {
        Outcome::Stored | Outcome::Duplicate | Outcome::Applied | Outcome::UnknownMessage => {
            String::new()
        }
        Outcome::NumberTooOld => format!(
            "the producer's number for {name} is below its window of 4,096, so whether the message was stored is not \
             known; repeat unconfirmed messages before sending new ones"
        ),
        Outcome::LimitReached => format!(
            "a limit of the shard of {name} is reached and the message is not stored; remove what is not needed, \
             then retry"
        ),
        Outcome::RolledBack => "the transaction did not happen, nothing of it was done".to_owned(),
        Outcome::InDoubt => {
            "an earlier try to commit the transaction is not resolved yet; repeat the commit in some seconds"
                .to_owned()
        }
        Outcome::Moved => format!(
            "{name} is being moved to another shard and the message is not stored; retry"
        ),
        Outcome::QueueFull | Outcome::Blocked => format!(
            "{} and the message is not stored; consume or purge some, or raise the limit with `quorate settings \
             set`, then retry",
            fullness(&name, cause)
        ),
        Outcome::UnknownDestination if is_temporary => format!(
            "{name} does not exist any more; whoever made it has deleted it, or is gone"
        ),
        Outcome::UnknownDestination => format!(
            "{name} does not exist, and its settings (auto_create) do not let a message make it; look at the name, \
             or change the settings"
        ),
    }
}

/// What a client is told whose messages wait.
pub(crate) fn held_back(cause: &Cause) -> String {
    let name = cause.destination.to_string();
    if cause.is_moving {
        return format!(
            "{name} is being moved to another shard and its messages wait until it is there; `quorate placement show` \
             says how far it is"
        );
    }
    format!(
        "{} and its settings hold producers back (on_full=block); consume or purge some, or raise the limit with \
         `quorate settings set`",
        fullness(&name, Some(cause))
    )
}

/// Says that a destination is full, and by which limits.
fn fullness(name: &str, cause: Option<&Cause>) -> String {
    let limits = cause.map_or((0, 0), |cause| (cause.max_messages, cause.max_bytes));
    let limits = match limits {
        (0, 0) => "max_messages or max_bytes of its settings".to_owned(),
        (messages, 0) => format!("max_messages={messages}"),
        (0, bytes) => format!("max_bytes={bytes}"),
        (messages, bytes) => format!("max_messages={messages}, max_bytes={bytes}"),
    };
    format!("{name} is full ({limits})")
}

/// Whether an outcome tells that there is no room, so that a repeat can help.
pub(crate) fn is_shortage(outcome: Outcome) -> bool {
    match outcome {
        Outcome::LimitReached | Outcome::QueueFull | Outcome::Blocked => true,
        Outcome::Stored
        | Outcome::Duplicate
        | Outcome::Applied
        | Outcome::UnknownMessage
        | Outcome::NumberTooOld
        | Outcome::UnknownDestination
        | Outcome::RolledBack
        | Outcome::InDoubt
        | Outcome::Moved => false,
    }
}

/// Confirms that neighbours share, as one where the last ends where this begins.
pub(crate) fn push_confirm(
    confirms: &mut Vec<v1::Confirm>,
    (first, count): (u64, u32),
    outcome: v1::Outcome,
    error: String,
) {
    let outcome = outcome as i32;
    if let Some(last) = confirms.last_mut()
        && last.first + u64::from(last.count) == first
        && last.outcome == outcome
        && last.error == error
        && let Some(sum) = last.count.checked_add(count)
    {
        last.count = sum;
        return;
    }
    confirms.push(v1::Confirm {
        first,
        count,
        outcome,
        error,
    });
}

#[cfg(test)]
mod tests {
    use quorate_message::Destination;

    use super::*;

    #[test]
    fn of_a_temporary_destination_it_is_said_that_it_is_over() {
        let destination = "queue://ID:host-1-1:1:3".parse::<Destination>();
        let cause = Cause {
            destination: destination.expect("a name"),
            max_messages: 0,
            max_bytes: 0,
            is_moving: false,
        };
        let text = outcome_error(Outcome::UnknownDestination, Some(&cause));
        assert!(text.contains("queue://ID:host-1-1:1:3 does not exist any more"));
    }

    #[test]
    fn an_error_names_the_destination_the_limit_and_the_remedy() {
        let cause = Cause {
            destination: "queue://orders".parse::<Destination>().expect("a name"),
            max_messages: 10,
            max_bytes: 0,
            is_moving: false,
        };
        let full = outcome_error(Outcome::QueueFull, Some(&cause));
        for part in [
            "queue://orders is full",
            "max_messages=10",
            "quorate settings",
        ] {
            assert!(full.contains(part), "{full}");
        }
        assert!(!full.contains("max_bytes"), "{full}");
        let unknown = outcome_error(Outcome::UnknownDestination, Some(&cause));
        assert!(
            unknown.starts_with("queue://orders does not exist"),
            "{unknown}"
        );
        assert!(held_back(&cause).contains("on_full=block"));
        let moving = Cause {
            is_moving: true,
            ..cause
        };
        let waits = held_back(&moving);
        assert!(
            waits.contains("being moved") && !waits.contains("full"),
            "{waits}"
        );
    }

    #[test]
    fn neighbours_with_one_fate_share_a_confirm() {
        let mut confirms = Vec::new();
        let full = v1::Outcome::QueueFull;
        push_confirm(&mut confirms, (0, 2), v1::Outcome::Stored, String::new());
        push_confirm(&mut confirms, (2, 1), v1::Outcome::Stored, String::new());
        push_confirm(&mut confirms, (3, 1), full, "a is full".to_owned());
        push_confirm(&mut confirms, (4, 1), full, "b is full".to_owned());
        let counts: Vec<_> = confirms.iter().map(|c| (c.first, c.count)).collect();
        assert_eq!(counts, [(0, 3), (3, 1), (4, 1)]);
    }
}
