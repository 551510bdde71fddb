//! Makes any command out of random bytes: the bytes are the choices, and where they end everything is nothing, so that
//! what fails shrinks.

use bytes::Bytes;
use quorate_wire::openwire::{
    AckType, Blob, Body, BrokerId, BrokerInfo, Command, CommandId, ConnectionControl,
    ConnectionError, ConnectionId, ConnectionInfo, ConsumerControl, ConsumerId, ConsumerInfo,
    ControlCommand, DataArrayResponse, DataResponse, Destination, DestinationInfo,
    DestinationOperation, ExceptionResponse, FlushCommand, Header, IntegerResponse, KeepAliveInfo,
    LocalTransactionId, Map, Message, MessageAck, MessageDispatch, MessageId, MessageKind,
    MessagePull, ProducerAck, ProducerId, ProducerInfo, Queue, RemoveInfo, RemoveSubscriptionInfo,
    Removed, Response, SessionId, SessionInfo, ShutdownInfo, Structure, SubscriptionInfo,
    TempQueue, TempTopic, Throwable, Topic, TransactionId, TransactionInfo, TransactionOperation,
    Value, WireFormatInfo, XaTransactionId,
};

/// How many kinds of commands [`Source::command`] makes.
pub(crate) const KINDS: usize = 27;

/// Random bytes that have not been used.
pub(crate) struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    fn boolean(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn bits(&mut self) -> [u8; 8] {
        std::array::from_fn(|_| self.byte())
    }

    fn long(&mut self) -> i64 {
        i64::from_be_bytes(self.bits())
    }

    fn int(&mut self) -> i32 {
        i32::from_be_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn text(&mut self) -> String {
        let alphabet = ['a', ':', '-', '\0', 'é', '€', '\u{FFFF}', '😀', ',', '7'];
        let length = self.below(12);
        (0..length)
            .map(|_| alphabet[usize::from(self.below(10))])
            .collect()
    }

    fn bytes(&mut self) -> Bytes {
        let length = self.below(20);
        (0..length).map(|_| self.byte()).collect()
    }

    fn option<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.boolean().then(|| make(self))
    }

    fn list<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Option<Vec<T>> {
        self.option(|source| {
            let count = source.below(4);
            (0..count).map(|_| make(source)).collect()
        })
    }

    fn header(&mut self) -> Header {
        Header {
            command_id: CommandId(self.int()),
            response_required: self.boolean(),
        }
    }

    fn connection_id(&mut self) -> ConnectionId {
        ConnectionId { value: self.text() }
    }

    fn session_id(&mut self) -> SessionId {
        SessionId {
            connection_id: self.text(),
            value: self.long(),
        }
    }

    fn consumer_id(&mut self) -> ConsumerId {
        ConsumerId {
            connection_id: self.text(),
            session_id: self.long(),
            value: self.long(),
        }
    }

    fn producer_id(&mut self) -> ProducerId {
        ProducerId {
            connection_id: self.text(),
            value: self.long(),
            session_id: self.long(),
        }
    }

    fn broker_id(&mut self) -> BrokerId {
        BrokerId { value: self.text() }
    }

    pub(crate) fn message_id(&mut self) -> MessageId {
        MessageId {
            text_view: self.option(Self::text),
            producer_id: self.producer_id(),
            producer_sequence_id: self.long(),
            broker_sequence_id: self.long(),
        }
    }

    fn transaction_id(&mut self) -> TransactionId {
        if self.boolean() {
            TransactionId::Xa(XaTransactionId {
                format_id: self.int(),
                global_transaction_id: self.bytes(),
                branch_qualifier: self.bytes(),
            })
        } else {
            TransactionId::Local(LocalTransactionId {
                value: self.long(),
                connection_id: self.connection_id(),
            })
        }
    }

    fn destination(&mut self) -> Destination {
        let physical_name = self.text();
        match self.below(4) {
            0 => Queue { physical_name }.into(),
            1 => Topic { physical_name }.into(),
            2 => TempQueue { physical_name }.into(),
            _ => TempTopic { physical_name }.into(),
        }
    }

    fn throwable(&mut self) -> Throwable {
        Throwable {
            class: self.text(),
            message: self.option(Self::text),
        }
    }

    fn structure(&mut self) -> Structure {
        match self.below(11) {
            0 => Structure::BrokerId(self.broker_id()),
            1 => self.destination().into(),
            2 => self.message_id().into(),
            3 => self.transaction_id().into(),
            4 => self.connection_id().into(),
            5 => self.session_id().into(),
            6 => self.consumer_id().into(),
            7 => self.producer_id().into(),
            8 => SubscriptionInfo {
                client_id: self.option(Self::text),
                destination: self.option(Self::destination),
                selector: self.option(Self::text),
                subscription_name: self.option(Self::text),
                subscribed_destination: self.option(Self::destination),
                no_local: self.boolean(),
            }
            .into(),
            9 => Structure::Command(Box::new(self.consumer_info().into())),
            _ => {
                let remove = self.remove_info();
                Structure::Command(Box::new(remove.into()))
            }
        }
    }

    fn kind(&mut self) -> MessageKind {
        match self.below(7) {
            0 => MessageKind::Plain,
            1 => MessageKind::Bytes,
            2 => MessageKind::Map,
            3 => MessageKind::Object,
            4 => MessageKind::Stream,
            5 => MessageKind::Text,
            _ => MessageKind::Blob(self.blob()),
        }
    }

    fn blob(&mut self) -> Blob {
        Blob {
            remote_blob_url: self.option(Self::text),
            mime_type: self.option(Self::text),
            deleted_by_broker: self.boolean(),
        }
    }

    pub(crate) fn message(&mut self) -> Message {
        Message {
            kind: self.kind(),
            header: self.header(),
            producer_id: self.producer_id(),
            destination: self.destination(),
            transaction_id: self.option(Self::transaction_id),
            original_destination: self.option(Self::destination),
            message_id: self.message_id(),
            original_transaction_id: self.option(Self::transaction_id),
            group_id: self.option(Self::text),
            group_sequence: self.int(),
            correlation_id: self.option(Self::text),
            persistent: self.boolean(),
            expiration: self.long(),
            priority: i8::from_be_bytes([self.byte()]),
            reply_to: self.option(Self::destination),
            timestamp: self.long(),
            jms_type: self.option(Self::text),
            content: self.option(Self::bytes),
            marshalled_properties: self.option(Self::bytes),
            data_structure: self.option(Self::structure),
            target_consumer_id: self.option(Self::consumer_id),
            compressed: self.boolean(),
            redelivery_counter: self.int(),
            broker_path: self.list(Self::broker_id),
            arrival: self.long(),
            user_id: self.option(Self::text),
            received_by_df_bridge: self.boolean(),
            droppable: self.boolean(),
            cluster: self.list(Self::broker_id),
            broker_in_time: self.long(),
            broker_out_time: self.long(),
            jmsx_group_first_for_consumer: self.boolean(),
        }
    }

    fn value(&mut self, depth: u8) -> Value {
        match self.below(if depth < 4 { 13 } else { 11 }) {
            0 => Value::Null,
            1 => Value::Boolean(self.boolean()),
            2 => Value::Byte(i8::from_be_bytes([self.byte()])),
            3 => Value::Char(u16::from_be_bytes([self.byte(), self.byte()])),
            4 => Value::Short(i16::from_be_bytes([self.byte(), self.byte()])),
            5 => Value::Int(self.int()),
            6 => Value::Long(self.long()),
            7 => Value::Double(f64::from(self.int())),
            8 => Value::Float(f32::from(self.byte())),
            9 => Value::Text(self.text()),
            10 => Value::Bytes(self.bytes()),
            11 => Value::Map(self.map(depth + 1)),
            _ => Value::List(
                self.list(|source| source.value(depth + 1))
                    .unwrap_or_default(),
            ),
        }
    }

    pub(crate) fn map(&mut self, depth: u8) -> Map {
        let count = self.below(5);
        (0..count)
            .map(|_| (self.text(), self.value(depth)))
            .collect()
    }

    pub(crate) fn body(&mut self) -> Body {
        let some = |bytes: Bytes| Some(bytes).filter(|bytes| !bytes.is_empty());
        match self.below(7) {
            0 => Body::Empty,
            1 => Body::Text(self.option(Self::text)),
            2 => Body::Bytes(self.bytes()),
            3 => Body::Map(self.map(0)),
            4 => Body::Stream(self.list(|source| source.value(0)).unwrap_or_default()),
            5 => Body::Object(some(self.bytes())),
            _ => Body::Blob(self.blob()),
        }
    }

    fn broker_info(&mut self, depth: u8) -> BrokerInfo {
        BrokerInfo {
            header: self.header(),
            broker_id: self.option(Self::broker_id),
            broker_url: self.option(Self::text),
            peers: if depth < 3 {
                self.list(|source| source.broker_info(depth + 1))
            } else {
                None
            },
            broker_name: self.option(Self::text),
            slave_broker: self.boolean(),
            master_broker: self.boolean(),
            fault_tolerant_configuration: self.boolean(),
            duplex_connection: self.boolean(),
            network_connection: self.boolean(),
            connection_id: self.long(),
            broker_upload_url: self.option(Self::text),
            network_properties: self.option(Self::text),
        }
    }

    fn connection_info(&mut self) -> ConnectionInfo {
        ConnectionInfo {
            header: self.header(),
            connection_id: self.connection_id(),
            client_id: self.option(Self::text),
            password: self.option(Self::text),
            user_name: self.option(Self::text),
            broker_path: self.list(Self::broker_id),
            broker_master_connector: self.boolean(),
            manageable: self.boolean(),
            client_master: self.boolean(),
            fault_tolerant: self.boolean(),
            failover_reconnect: self.boolean(),
            client_ip: self.option(Self::text),
        }
    }

    fn consumer_info(&mut self) -> Box<ConsumerInfo> {
        Box::new(ConsumerInfo {
            header: self.header(),
            consumer_id: self.consumer_id(),
            browser: self.boolean(),
            destination: self.destination(),
            prefetch_size: self.int(),
            maximum_pending_message_limit: self.int(),
            dispatch_async: self.boolean(),
            selector: self.option(Self::text),
            client_id: self.option(Self::text),
            subscription_name: self.option(Self::text),
            no_local: self.boolean(),
            exclusive: self.boolean(),
            retroactive: self.boolean(),
            priority: i8::from_be_bytes([self.byte()]),
            broker_path: self.list(Self::broker_id),
            additional_predicate: self.option(|source| Box::new(source.broker_id().into())),
            network_subscription: self.boolean(),
            optimized_acknowledge: self.boolean(),
            no_range_acks: self.boolean(),
            network_consumer_path: self.list(Self::consumer_id),
        })
    }

    fn remove_info(&mut self) -> RemoveInfo {
        RemoveInfo {
            header: self.header(),
            object_id: match self.below(4) {
                0 => Removed::Connection(self.connection_id()),
                1 => Removed::Session(self.session_id()),
                2 => Removed::Consumer(self.consumer_id()),
                _ => Removed::Producer(self.producer_id()),
            },
            last_delivered_sequence_id: self.long(),
        }
    }

    fn message_ack(&mut self) -> MessageAck {
        MessageAck {
            header: self.header(),
            destination: self.option(Self::destination),
            transaction_id: self.option(Self::transaction_id),
            consumer_id: self.consumer_id(),
            ack_type: match self.below(7) {
                0 => AckType::Delivered,
                1 => AckType::Poison,
                2 => AckType::Standard,
                3 => AckType::Redelivered,
                4 => AckType::Individual,
                5 => AckType::Unmatched,
                _ => AckType::Expired,
            },
            first_message_id: self.option(Self::message_id),
            last_message_id: self.option(Self::message_id),
            message_count: self.int(),
            poison_cause: self.option(Self::throwable),
        }
    }

    fn transaction_info(&mut self) -> TransactionInfo {
        TransactionInfo {
            header: self.header(),
            connection_id: self.option(Self::connection_id),
            transaction_id: self.option(Self::transaction_id),
            operation: match self.below(8) {
                0 => TransactionOperation::Begin,
                1 => TransactionOperation::Prepare,
                2 => TransactionOperation::CommitOnePhase,
                3 => TransactionOperation::CommitTwoPhase,
                4 => TransactionOperation::Rollback,
                5 => TransactionOperation::Recover,
                6 => TransactionOperation::Forget,
                _ => TransactionOperation::End,
            },
        }
    }

    fn connection_control(&mut self) -> ConnectionControl {
        ConnectionControl {
            header: self.header(),
            close: self.boolean(),
            exit: self.boolean(),
            fault_tolerant: self.boolean(),
            resume: self.boolean(),
            suspend: self.boolean(),
            connected_brokers: self.option(Self::text),
            reconnect_to: self.option(Self::text),
            rebalance_connection: self.boolean(),
            token: self.option(Self::bytes),
        }
    }

    fn destination_info(&mut self) -> DestinationInfo {
        DestinationInfo {
            header: self.header(),
            connection_id: self.option(Self::connection_id),
            destination: self.destination(),
            operation: if self.boolean() {
                DestinationOperation::Add
            } else {
                DestinationOperation::Remove
            },
            timeout: self.long(),
            broker_path: self.list(Self::broker_id),
        }
    }

    /// One of the kinds of [`KINDS`].
    pub(crate) fn command(&mut self, kind: usize) -> Command {
        match kind {
            0 => Box::new(self.message()).into(),
            1 => Box::new(self.message_ack()).into(),
            2 => self.message_dispatch().into(),
            3 => Box::new(self.broker_info(0)).into(),
            4 => Box::new(self.connection_info()).into(),
            5 => self.consumer_info().into(),
            6 => self.remove_info().into(),
            7 => self.transaction_info().into(),
            8 => self.connection_control().into(),
            9 => self.destination_info().into(),
            10 => WireFormatInfo {
                version: self.int(),
                properties: self.option(|source| source.map(0)),
            }
            .into(),
            11..=15 => self.response(kind),
            16..=18 => self.of_session(kind),
            _ => self.small(kind),
        }
    }

    fn message_dispatch(&mut self) -> MessageDispatch {
        MessageDispatch {
            header: self.header(),
            consumer_id: self.consumer_id(),
            destination: self.option(Self::destination),
            message: self.option(|source| Box::new(source.message())),
            redelivery_counter: self.int(),
        }
    }

    fn response(&mut self, kind: usize) -> Command {
        let header = self.header();
        let correlation_id = CommandId(self.int());
        match kind {
            11 => Response {
                header,
                correlation_id,
            }
            .into(),
            12 => ExceptionResponse {
                header,
                correlation_id,
                exception: self.option(Self::throwable),
            }
            .into(),
            13 => DataResponse {
                header,
                correlation_id,
                data: self.option(Self::structure),
            }
            .into(),
            14 => DataArrayResponse {
                header,
                correlation_id,
                data: self.list(Self::structure),
            }
            .into(),
            _ => IntegerResponse {
                header,
                correlation_id,
                result: self.int(),
            }
            .into(),
        }
    }

    fn of_session(&mut self, kind: usize) -> Command {
        let header = self.header();
        match kind {
            16 => SessionInfo {
                header,
                session_id: self.session_id(),
            }
            .into(),
            17 => ProducerInfo {
                header,
                producer_id: self.producer_id(),
                destination: self.option(Self::destination),
                broker_path: self.list(Self::broker_id),
                dispatch_async: self.boolean(),
                window_size: self.int(),
            }
            .into(),
            _ => ConsumerControl {
                header,
                destination: self.option(Self::destination),
                close: self.boolean(),
                consumer_id: self.option(Self::consumer_id),
                prefetch: self.int(),
                flush: self.boolean(),
                start: self.boolean(),
                stop: self.boolean(),
            }
            .into(),
        }
    }

    fn small(&mut self, kind: usize) -> Command {
        let header = self.header();
        match kind {
            19 => MessagePull {
                header,
                consumer_id: self.consumer_id(),
                destination: self.option(Self::destination),
                timeout: self.long(),
                correlation_id: self.option(Self::text),
                message_id: self.option(Self::message_id),
            }
            .into(),
            20 => ProducerAck {
                header,
                producer_id: self.option(Self::producer_id),
                size: self.int(),
            }
            .into(),
            21 => RemoveSubscriptionInfo {
                header,
                connection_id: self.option(Self::connection_id),
                subscription_name: self.text(),
                client_id: self.option(Self::text),
            }
            .into(),
            22 => ConnectionError {
                header,
                exception: self.option(Self::throwable),
                connection_id: self.option(Self::connection_id),
            }
            .into(),
            23 => ControlCommand {
                header,
                command: self.option(Self::text),
            }
            .into(),
            24 => FlushCommand { header }.into(),
            25 => KeepAliveInfo { header }.into(),
            _ => ShutdownInfo { header }.into(),
        }
    }
}
