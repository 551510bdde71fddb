//! All that client and broker say to each other: one command per frame.

pub(super) mod connection;
pub(super) mod delivery;
pub(super) mod response;
pub(super) mod session;
pub(super) mod transaction;

use self::connection::{
    BrokerInfo, ConnectionControl, ConnectionError, ConnectionInfo, ControlCommand, FlushCommand,
    KeepAliveInfo, ShutdownInfo,
};
use self::delivery::{MessageAck, MessageDispatch, MessagePull, ProducerAck};
use self::response::{
    DataArrayResponse, DataResponse, ExceptionResponse, IntegerResponse, Response,
};
use self::session::{
    ConsumerControl, ConsumerInfo, DestinationInfo, ProducerInfo, RemoveInfo,
    RemoveSubscriptionInfo, SessionInfo, SubscriptionInfo,
};
use self::transaction::TransactionInfo;
use super::destination::Destination;
use super::field::Field;
use super::format::WireFormatInfo;
use super::ids::{
    BrokerId, ConnectionId, ConsumerId, MessageId, ProducerId, SessionId, TransactionId,
};
use super::input::{DecodeError, Input};
use super::message::Message;
use super::output::{EncodeError, Output};
use super::structure::{choice, fields};

/// The number of a command of one side of a connection, by which a response names it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CommandId(pub i32);

impl Field for CommandId {
    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        i32::decode(input).map(Self)
    }

    fn encode(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        self.0.encode(output)
    }
}

fields! {
    /// What every command but the negotiation begins with. A broker's own commands may have the default.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct Header {
        /// What a response will name.
        pub command_id: CommandId,
        /// Whether the sender waits for exactly one response.
        pub response_required: bool,
    }
}

impl Field for Header {
    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Self::read_fields(input)
    }

    fn encode(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        self.write_fields(output)
    }
}

/// Declares the commands: all that begin with a header, and the negotiation, which does not.
macro_rules! commands {
    (
        $(#[$attribute:meta])*
        pub enum Command {
            $(#[$bare_note:meta])* $bare:ident($bare_type:ty);
            $($(#[$note:meta])* $variant:ident($inner:ty),)*
        }
    ) => {
        choice! {
            $(#[$attribute])*
            pub enum Command {
                $($(#[$note])* $variant($inner),)*
                $(#[$bare_note])* $bare($bare_type),
            }
        }

        impl Command {
            /// Its number and whether it wants a response; the negotiation has neither.
            #[must_use]
            pub fn header(&self) -> Option<Header> {
                match self {
                    Self::$bare(_) => None,
                    $(Self::$variant(command) => Some(command.header),)*
                }
            }

            /// Its kind, for logs and errors.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    Self::$bare(_) => stringify!($bare),
                    $(Self::$variant(_) => stringify!($variant),)*
                }
            }
        }
    };
}

commands! {
    /// What a frame carries. Large commands are boxed so that the others stay small.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Command {
        /// Negotiation, the first frame of each side.
        WireFormatInfo(WireFormatInfo);
        /// A message on its way to the broker.
        Message(Box<Message>),
        /// What a consumer received.
        MessageAck(Box<MessageAck>),
        /// A message on its way to a consumer.
        MessageDispatch(MessageDispatch),
        /// Done.
        Response(Response),
        /// Failed.
        ExceptionResponse(ExceptionResponse),
        /// Done, with a structure.
        DataResponse(DataResponse),
        /// Done, with structures.
        DataArrayResponse(DataArrayResponse),
        /// Done, with a number.
        IntegerResponse(IntegerResponse),
        /// A transaction begins, is prepared, ends.
        TransactionInfo(TransactionInfo),
        /// A consumer asks for one message.
        MessagePull(MessagePull),
        /// A message of a producer with a window has been taken.
        ProducerAck(ProducerAck),
        /// A client logs in.
        ConnectionInfo(Box<ConnectionInfo>),
        /// A session begins.
        SessionInfo(SessionInfo),
        /// A consumer begins.
        ConsumerInfo(Box<ConsumerInfo>),
        /// A producer begins.
        ProducerInfo(ProducerInfo),
        /// One of these ends.
        RemoveInfo(RemoveInfo),
        /// A destination is made or deleted.
        DestinationInfo(DestinationInfo),
        /// A durable subscription is deleted.
        RemoveSubscriptionInfo(RemoveSubscriptionInfo),
        /// A consumer's prefetch changes, or it is closed.
        ConsumerControl(ConsumerControl),
        /// Nothing to say, but alive.
        KeepAliveInfo(KeepAliveInfo),
        /// Nothing more will be said.
        ShutdownInfo(ShutdownInfo),
        /// Who the broker is.
        BrokerInfo(Box<BrokerInfo>),
        /// Where else to connect.
        ConnectionControl(ConnectionControl),
        /// What failed without anybody waiting for it.
        ConnectionError(ConnectionError),
        /// Between tools and brokers.
        ControlCommand(ControlCommand),
        /// Between brokers.
        FlushCommand(FlushCommand),
    }
}

choice! {
    /// What may stand where any structure may.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Structure {
        /// A command.
        Command(Box<Command>),
        /// A destination.
        Destination(Destination),
        /// A message's id.
        MessageId(MessageId),
        /// A transaction.
        TransactionId(TransactionId),
        /// A connection.
        ConnectionId(ConnectionId),
        /// A session.
        SessionId(SessionId),
        /// A consumer.
        ConsumerId(ConsumerId),
        /// A producer.
        ProducerId(ProducerId),
        /// A broker.
        BrokerId(BrokerId),
        /// A durable subscription.
        SubscriptionInfo(SubscriptionInfo),
    }
}
