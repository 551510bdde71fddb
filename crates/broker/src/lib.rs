//! Queues and delivery over a committed log, as a pure machine.
//!
//! A [`Broker`] has two halves. The *state* is a function of the committed entries alone: equal on all replicas,
//! checkpointed, digested. The *delivery* exists on the serving leader only: consumers, credit, what is in flight,
//! non-persistent messages; nothing of it is logged, and it is dropped when the leader is deposed. The broker never
//! reads a log and never keeps a body beyond what consumers are about to get: it names positions and is handed bytes.
#![deny(clippy::wildcard_enum_match_arm)]

mod broker;
mod clock;
mod dispatch;
mod effect;
mod forward;
mod input;
pub mod invariant;
pub mod limits;
mod outcomes;
mod state;

pub use broker::status::{
    OutboxStatus, QueueStatus, RelocationStatus, Scheduled, Standing, TopicStatus,
};
pub use broker::{Broker, Counters, Route};
pub use clock::Clock;
pub use effect::{AttachRefusal, Delivery, Effect, Forwarded, Resolution};
pub use forward::letter;
pub use input::{Credit, Input, Leaving, SessionId};
pub use limits::Limits;
pub use outcomes::Outcomes;
pub use quorate_message::{GroupMark, Selector, Terms};
pub use state::{Obstacle, RestoreError};
