//! Why a name cannot leave its shard, or does not.

use quorate_message::{DestinationKind, DestinationName};
use thiserror::Error;

use super::super::State;
use super::super::codec::{Cursor, Sink};
use super::names::Stage;
use crate::limits::{FAMILY_MAX, MOVED_NAMES_MAX};

/// Why a name cannot be moved from its shard, or was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum Obstacle {
    /// It is a topic with subscriptions.
    #[error("the topic has {count} subscriptions, which cannot be moved; end them first")]
    Subscriptions {
        /// How many.
        count: u64,
    },
    /// It is a topic that keeps messages.
    #[error(
        "the topic keeps messages (retained, or for replay), which cannot be moved; clear them first"
    )]
    Kept,
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
            Self::Subscriptions { .. }
            | Self::Kept
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
            Self::Subscriptions { count } => {
                sink.u8(1);
                sink.varint(count);
            }
            Self::Kept => sink.u8(2),
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
            1 => Self::Subscriptions {
                count: cursor.varint()?,
            },
            2 => Self::Kept,
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
        let exactly = self.topics.exactly(name);
        let subscriptions =
            exactly.filter(|id| self.queue(*id).kind() == DestinationKind::Subscription);
        let count = subscriptions.count() as u64;
        if count > 0 {
            return Some(Obstacle::Subscriptions { count });
        }
        let topic = self.topics.topic_id(name);
        let keeps = |id| self.queue(id).keeps_any() || self.settings_of(id).retain_ms > 0;
        if topic.is_some_and(keeps) || self.transactions.retains(name) {
            return Some(Obstacle::Kept);
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
