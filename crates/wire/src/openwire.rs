//! OpenWire, versions 1 to 12, loose encoding without the object cache: what ActiveMQ 5.x clients speak when the broker
//! declines the rest.
//!
//! A connection begins with one [`WireFormatInfo`] of each side; [`Offer::agree`] makes the [`Format`] of the two, and
//! from then on each frame is one [`Command`]. [`Decoder`] takes the bytes of a socket and gives commands,
//! [`encode`] does the reverse. Each structure's fields are written once, in the order of the wire, with the version from
//! which on they exist; both directions come from that.
//!
//! ```text
//! frame     = i32 length of the rest, u8 data type, fields
//! bool      = 0 or 1                          text   = bool present, u16 length, modified UTF-8
//! structure = bool present, u8 type, fields   bytes  = bool present, i32 length, bytes
//! array     = bool present, u16 count, structures
//! ```
//! Tight encoding and the object cache save bytes and are not built: an offer without them makes every client do
//! without.

mod body;
mod command;
mod destination;
mod field;
mod format;
mod frame;
mod ids;
mod input;
mod message;
mod modified_utf8;
mod output;
mod structure;
mod throwable;
mod value;
mod version;

pub use body::{Body, BodyError, Compressed};
pub use command::connection::{
    BrokerInfo, ConnectionControl, ConnectionError, ConnectionInfo, ControlCommand, FlushCommand,
    KeepAliveInfo, ShutdownInfo,
};
pub use command::delivery::{AckType, MessageAck, MessageDispatch, MessagePull, ProducerAck};
pub use command::response::{
    DataArrayResponse, DataResponse, ExceptionResponse, IntegerResponse, Response,
};
pub use command::session::{
    ConsumerControl, ConsumerInfo, DestinationInfo, DestinationOperation, ProducerInfo, RemoveInfo,
    RemoveSubscriptionInfo, Removed, SessionInfo, SubscriptionInfo,
};
pub use command::transaction::{TransactionInfo, TransactionOperation};
pub use command::{Command, CommandId, Header, Structure};
pub use destination::{Destination, Queue, TempQueue, TempTopic, Topic};
pub use format::{Format, Incompatible, Offer, WireFormatInfo};
pub use frame::{Decoder, FrameError, encode};
pub use ids::{
    BrokerId, ConnectionId, ConsumerId, LocalTransactionId, MalformedMessageId, MessageId,
    ProducerId, SessionId, TransactionId, XaTransactionId,
};
pub use input::{DecodeError, Fault};
pub use message::{Blob, Message, MessageKind};
pub use modified_utf8::MalformedText;
pub use output::EncodeError;
pub use throwable::Throwable;
pub use value::{Map, Value, ValueError};
pub use version::Version;
