//! Why a name cannot leave its shard, or does not.

use quorate_message::DestinationName;
use thiserror::Error;

use super::super::State;
use super::super::codec::{Cursor, Sink};
use super::names::Stage;
use crate::limits::{FAMILY_MAX, MOVED_NAMES_MAX, SUBSCRIPTIONS_BYTES};

/// Why a name cannot be moved from its shard, or was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum Obstacle {
    /// It is a topic with too many subscriptions.
    #[error(
        "the topic has {count} subscriptions; what is known of them has to fit {SUBSCRIPTIONS_BYTES} bytes, end some"
    )]
    TooManySubscriptions {
        /// How many.
        count: u64,
    },
    /// It is a virtual topic with too many queues.
    #[error("the virtual topic has {count} queues; at most {FAMILY_MAX} can be moved")]
    TooManyQueues {
        /// How many.
        count: u64,
    },
    /// The shard remembers as many names as it can.
    #[error(
        "{MOVED_NAMES_MAX} names have moved from or to the shard, the most that it can remember"
    )]
    TooManyNames,
    /// It lives in another shard.
    #[error("it does not live in the shard that it is to leave")]
    NotHere,
    /// The target has no room for it.
    #[error(
        "the shard that it was to go to has too many destinations, or as many moved names as it can remember"
    )]
    TargetFull,
    /// The target does not answer.
    #[error("the shard that it was to go to did not answer in time")]
    TargetAway,
}

impl Obstacle {
    /// Whether a move that it ends is remembered with it. Otherwise the move can never begin.
    pub(super) fn is_remembered(self) -> bool {
        match self {
            Self::TooManySubscriptions { .. }
            | Self::TooManyQueues { .. }
            | Self::TargetFull
            | Self::TargetAway => true,
            Self::TooManyNames | Self::NotHere => false,
        }
    }

    /// ```text
    /// code u8, and of what is counted: count varint
    /// ```
    pub(crate) fn encode(self, sink: &mut Sink) {
        match self {
            Self::TooManySubscriptions { count } => {
                sink.u8(1);
                sink.varint(count);
            }
            Self::TooManyQueues { count } => {
                sink.u8(3);
                sink.varint(count);
            }
            Self::TooManyNames => sink.u8(4),
            Self::NotHere => sink.u8(5),
            Self::TargetFull => sink.u8(6),
            Self::TargetAway => sink.u8(7),
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        Some(match cursor.u8()? {
            1 => Self::TooManySubscriptions {
                count: cursor.varint()?,
            },
            3 => Self::TooManyQueues {
                count: cursor.varint()?,
            },
            4 => Self::TooManyNames,
            5 => Self::NotHere,
            6 => Self::TargetFull,
            7 => Self::TargetAway,
            _ => return None,
        })
    }
}

impl State {
    /// Why a name cannot leave this shard.
    pub(crate) fn obstacle(&self, name: &DestinationName) -> Option<Obstacle> {
        let moved = self.relocations.get(name.as_str());
        let is_absent = moved.is_some_and(|moved| match moved.stage {
            Stage::Gone | Stage::Expected { .. } => true,
            Stage::Leaving { .. }
            | Stage::Shipping
            | Stage::Cut
            | Stage::Here
            | Stage::Stays(_) => false,
        });
        if is_absent {
            return Some(Obstacle::NotHere);
        }
        let (bytes, count) = self.subscriptions_bytes(name);
        if bytes > SUBSCRIPTIONS_BYTES {
            return Some(Obstacle::TooManySubscriptions { count });
        }
        let count = self.family(name).len() as u64;
        if count > FAMILY_MAX as u64 {
            return Some(Obstacle::TooManyQueues { count });
        }
        self.relocations
            .is_full_for(name)
            .then_some(Obstacle::TooManyNames)
    }
}
