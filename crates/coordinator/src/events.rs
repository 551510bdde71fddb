//! What reaches the controller's task, and how the task answers the streams.

use std::time::Instant;

use quorate_message::{DestinationName, Settings};
use quorate_proto::internal::v1::{AttendGatewayResponse, AttendResponse};
use quorate_replication::ShardId;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::controller::{
    Input, MoveAnswer, Refusal, Registration, SettingsAnswer, Stored, StreamId, Wish,
};

/// One event.
pub(crate) enum Event {
    /// A node opened a stream and registered.
    Registered {
        stream: StreamId,
        registration: Registration,
        outgoing: Outgoing<AttendResponse>,
    },
    /// A gateway opened a stream.
    GatewayAttended {
        stream: StreamId,
        name: String,
        address: String,
        outgoing: Outgoing<AttendGatewayResponse>,
    },
    /// A gateway wants other settings.
    SettingsWanted {
        expected: u64,
        settings: Settings,
        answer: oneshot::Sender<SettingsAnswer>,
    },
    /// A gateway wants a name to move.
    MoveWanted {
        name: DestinationName,
        to: ShardId,
        answer: oneshot::Sender<MoveAnswer>,
    },
    /// An operator wants something.
    Wished {
        wish: Wish,
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Anything else that the controller is told as it is.
    Told(Input),
    /// What became of something that an activation asked for: nothing that concerns a later one.
    Answered {
        activation: Activation,
        input: Input,
    },
    /// This process became the active coordinator.
    Won {
        generation: u64,
        rows: Vec<Stored>,
        since: Instant,
    },
    /// The store is of no use until the process starts anew.
    Broken(String),
    /// Another process may be the active coordinator.
    Lost,
}

/// Numbers the activations of this process, and the times between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Activation(pub(crate) u64);

/// The way back to one stream. Dropping it ends the stream and the task that reads it.
pub(crate) struct Outgoing<T> {
    pub(crate) messages: mpsc::Sender<Result<T, Status>>,
    /// The reader of the stream ends when this is dropped.
    pub(crate) _reader: oneshot::Sender<()>,
}
