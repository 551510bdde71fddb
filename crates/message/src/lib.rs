//! The neutral message, destination names, and the one stored encoding.
//!
//! A message is encoded once, where it enters, and stored, replicated and delivered as the same bytes; a [`Batch`]
//! carries the commands of one log entry behind a head of fixed-size records, so that applying it parses no message.
//! Every decoder here takes any bytes whatsoever: it never panics and allocates in proportion to its input.
//! The layouts are in `docs/message-format.md`.
#![deny(clippy::wildcard_enum_match_arm)]

mod batch;
mod builder;
mod command;
mod cron;
mod destination;
mod gateway;
mod identity;
mod layout;
pub mod limits;
mod message;
mod move_reason;
mod pattern;
mod placement;
mod position;
mod property;
mod reader;
mod relocation;
mod runs;
mod schedule;
pub mod selector;
pub mod settings;
mod skipped;
mod subscription;
mod terms;
mod transaction;
mod view;

pub use batch::{Batch, BatchError};
pub use builder::{BatchBuilder, BatchFull, Publication};
pub use command::{Command, Outcome, PreviousCheckpoint, Settlement};
pub use cron::{Cron, CronError};
pub use destination::{
    Destination, DestinationError, DestinationKind, DestinationName, SLOTS, Slot, hashed, slot,
    temporary_owner, virtual_topic,
};
pub use identity::{ConsumerId, GatewayId, IdentityError, ProducerId};
pub use message::{Message, MessageError};
pub use move_reason::MoveReason;
pub use pattern::{Pattern, PatternError};
pub use placement::{Moving, OverrideError, Overrides, Place, RefusedMove, root};
pub use position::MessagePosition;
pub use property::{Value, ValueRef};
pub use relocation::{Kept, PendingIn, Relocating, Relocation, Step};
pub use runs::Runs;
pub use schedule::{Schedule, ScheduleError};
pub use selector::{Selector, SelectorError};
pub use settings::{QueueSettings, Settings};
pub use skipped::Skipped;
pub use subscription::{
    Lifetime, Sharing, Start, Subscription, SubscriptionError, subscription_key,
};
pub use terms::{GroupMark, Terms};
pub use transaction::{Attempt, Decision, TransactionId};
pub use view::{GROUP_PROPERTY, GROUP_SEQUENCE_PROPERTY, Group, GroupId, MessageView, Properties};
