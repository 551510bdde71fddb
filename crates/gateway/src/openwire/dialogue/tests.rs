//! Data in, data out: what a connection does about each thing that its client says.

use bytes::{Bytes, BytesMut};
use quorate_message::{MessagePosition, Outcome, Settlement};
use quorate_wire::openwire::{
    AckType, Command, CommandId, ConnectionId, ConnectionInfo, ConsumerId, ConsumerInfo,
    Destination, Header, LocalTransactionId, Message, MessageAck, MessageDispatch, MessageId,
    MessageKind, ProducerId, ProducerInfo, Queue, RemoveInfo, Removed, SessionId, TempQueue, Topic,
    TransactionId, TransactionInfo, TransactionOperation,
};

use super::*;
use crate::{
    openwire::translate,
    session::{Effect as Answer, Input as Told, ShardId, StoredDelivery},
};

mod acknowledging;
mod browsing;
mod connecting;
mod consuming;
mod leaving;
mod properties;
mod sending;
mod temporary;
mod transacting;

pub(super) const CLIENT: &str = "ID:host-40123-1700000000000-1:1";
pub(super) const OTHER: &str = "ID:other-40123-1700000000000-1:1";
pub(super) const SHARD: ShardId = ShardId(1);
pub(super) const FIRST_CALL: u64 = 1 << 32;

/// A machine, its clocks, and the number of the client's next command.
pub(super) struct Bench {
    pub(super) dialogue: Dialogue,
    pub(super) now: Now,
    next_command: i32,
    /// Messages delivered so far.
    pub(super) entries: u64,
}

impl Bench {
    /// Before anything is said.
    pub(super) fn fresh() -> Self {
        let config = DialogueConfig {
            first_call: CallId(FIRST_CALL),
            broker_id: "ID:mq01-1".to_owned(),
            broker_name: "mq01".to_owned(),
            broker_url: "tcp://mq01:61616".to_owned(),
            peers: vec!["tcp://mq01:61616".to_owned(), "tcp://mq02:61616".to_owned()],
            message_bytes_max: 1 << 20,
            seed: 7,
        };
        Self {
            dialogue: Dialogue::new(config),
            now: Now {
                mono: Time(1_000_000),
                wall_ms: 1_700_000_000_000,
            },
            next_command: 1,
            entries: 0,
        }
    }

    /// Let in under the client id "app".
    pub(super) fn open() -> Self {
        let mut bench = Self::fresh();
        bench.ask(|header| connection(header, CLIENT));
        bench.step(Input::Admitted(Ok(())));
        bench
    }

    pub(super) fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.dialogue.step(self.now, input, &mut effects);
        self.dialogue.check();
        effects
    }

    pub(super) fn answer(&mut self, answer: Answer) -> Vec<Effect> {
        self.step(Input::Answered(answer))
    }

    /// Says something that wants a response.
    pub(super) fn ask(&mut self, command: impl FnOnce(Header) -> Command) -> Vec<Effect> {
        self.say_with(true, command)
    }

    /// Says something that wants none.
    pub(super) fn say(&mut self, command: impl FnOnce(Header) -> Command) -> Vec<Effect> {
        self.say_with(false, command)
    }

    fn say_with(
        &mut self,
        response_required: bool,
        command: impl FnOnce(Header) -> Command,
    ) -> Vec<Effect> {
        let header = Header {
            command_id: CommandId(self.next_command),
            response_required,
        };
        self.next_command += 1;
        self.step(Input::Heard(command(header)))
    }

    /// The number of the command said last.
    pub(super) fn last(&self) -> i32 {
        self.next_command - 1
    }

    /// Time passes, as far as the machine's own next deadline.
    pub(super) fn wait(&mut self) -> Vec<Effect> {
        self.now.mono = self.dialogue.next_deadline().expect("something is awaited");
        self.step(Input::Elapsed)
    }

    /// Opens a consumer of a queue, which is attached. Returns its call.
    pub(super) fn consume(&mut self, value: i64, queue: &str, prefetch: i32) -> CallId {
        let destination = self::queue(queue);
        self.consume_with(value, |info| {
            info.destination = destination;
            info.prefetch_size = prefetch;
        })
    }

    pub(super) fn consume_with(
        &mut self,
        value: i64,
        change: impl FnOnce(&mut ConsumerInfo),
    ) -> CallId {
        let mut info = consumer_info(value);
        change(&mut info);
        let effects = self.ask(|header| {
            info.header = header;
            Command::ConsumerInfo(Box::new(info))
        });
        let call = begun(&effects).expect("a call");
        self.answer(Answer::Opened {
            call,
            consumer: quorate_message::ConsumerId::default(),
            lost: Vec::new(),
        });
        call
    }

    /// So many messages come for a consumer. Returns what it is sent.
    pub(super) fn deliver(&mut self, call: CallId, count: u64) -> Vec<Effect> {
        let deliveries = (0..count).map(|_| {
            self.entries += 1;
            delivery(self.entries)
        });
        let deliveries = deliveries.collect();
        self.answer(Answer::Delivered {
            call,
            shard: SHARD,
            deliveries,
        })
    }

    /// The same; returns the ids of the messages.
    pub(super) fn receive(&mut self, call: CallId, count: u64) -> Vec<MessageId> {
        let effects = self.deliver(call, count);
        let dispatched = dispatched(&effects).into_iter();
        dispatched
            .map(|d| d.message.as_ref().expect("a message").message_id.clone())
            .collect()
    }

    /// Acknowledges, outside of a transaction.
    pub(super) fn acknowledge(
        &mut self,
        value: i64,
        kind: AckType,
        first: Option<&MessageId>,
        last: &MessageId,
    ) -> Vec<Effect> {
        self.say(|header| ack(header, (value, kind), (first, last), None))
    }

    pub(super) fn begin(&mut self, number: i64) {
        let effects = self.say(|header| transaction(header, number, TransactionOperation::Begin));
        assert!(effects.is_empty(), "{effects:?}");
    }
}

pub(super) fn queue(name: &str) -> Destination {
    Destination::Queue(Queue {
        physical_name: name.to_owned(),
    })
}

pub(super) fn topic(name: &str) -> Destination {
    Destination::Topic(Topic {
        physical_name: name.to_owned(),
    })
}

pub(super) fn temporary(connection: &str, number: u32) -> Destination {
    Destination::TempQueue(TempQueue {
        physical_name: format!("{connection}:{number}"),
    })
}

pub(super) fn connection(header: Header, id: &str) -> Command {
    Command::ConnectionInfo(Box::new(ConnectionInfo {
        header,
        connection_id: ConnectionId {
            value: id.to_owned(),
        },
        client_id: Some("app".to_owned()),
        password: Some("secret".to_owned()),
        user_name: Some("user".to_owned()),
        broker_path: None,
        broker_master_connector: false,
        manageable: true,
        client_master: true,
        fault_tolerant: false,
        failover_reconnect: false,
        client_ip: None,
    }))
}

pub(super) fn consumer_id(value: i64) -> ConsumerId {
    ConsumerId {
        connection_id: CLIENT.to_owned(),
        session_id: 1,
        value,
    }
}

pub(super) fn producer_id(value: i64) -> ProducerId {
    ProducerId {
        connection_id: CLIENT.to_owned(),
        value,
        session_id: 1,
    }
}

pub(super) fn producer(header: Header, value: i64, window_size: i32) -> Command {
    Command::ProducerInfo(ProducerInfo {
        header,
        producer_id: producer_id(value),
        destination: None,
        broker_path: None,
        dispatch_async: true,
        window_size,
    })
}

pub(super) fn consumer_info(value: i64) -> ConsumerInfo {
    ConsumerInfo {
        header: Header::default(),
        consumer_id: consumer_id(value),
        browser: false,
        destination: queue("orders"),
        prefetch_size: 10,
        maximum_pending_message_limit: 0,
        dispatch_async: true,
        selector: None,
        client_id: None,
        subscription_name: None,
        no_local: false,
        exclusive: false,
        retroactive: false,
        priority: 0,
        broker_path: None,
        additional_predicate: None,
        network_subscription: false,
        optimized_acknowledge: false,
        no_range_acks: false,
        network_consumer_path: None,
    }
}

/// The `sequence`th message of producer 1.
pub(super) fn message(header: Header, sequence: i64, destination: Destination) -> Message {
    let id = MessageId {
        text_view: None,
        producer_id: producer_id(1),
        producer_sequence_id: sequence,
        broker_sequence_id: 0,
    };
    Message {
        header,
        persistent: true,
        ..Message::new(id, destination)
    }
}

pub(super) fn send(header: Header, sequence: i64) -> Command {
    Command::Message(Box::new(message(header, sequence, queue("orders"))))
}

pub(super) fn transaction_id(number: i64) -> TransactionId {
    TransactionId::Local(LocalTransactionId {
        value: number,
        connection_id: ConnectionId {
            value: CLIENT.to_owned(),
        },
    })
}

pub(super) fn transaction(header: Header, number: i64, operation: TransactionOperation) -> Command {
    Command::TransactionInfo(TransactionInfo {
        header,
        connection_id: None,
        transaction_id: Some(transaction_id(number)),
        operation,
    })
}

pub(super) fn ack(
    header: Header,
    (value, ack_type): (i64, AckType),
    (first, last): (Option<&MessageId>, &MessageId),
    transaction: Option<i64>,
) -> Command {
    Command::MessageAck(Box::new(MessageAck {
        header,
        destination: None,
        transaction_id: transaction.map(transaction_id),
        consumer_id: consumer_id(value),
        ack_type,
        first_message_id: first.cloned(),
        last_message_id: Some(last.clone()),
        message_count: 1,
        poison_cause: None,
    }))
}

pub(super) fn remove(header: Header, object_id: Removed, last_delivered: i64) -> Command {
    Command::RemoveInfo(RemoveInfo {
        header,
        object_id,
        last_delivered_sequence_id: last_delivered,
    })
}

/// What is stored of a message, once it was sent.
pub(super) fn stored(message: Message) -> Bytes {
    let sent = translate::inbound(message, 1 << 20, &mut BytesMut::new());
    sent.expect("it can be stored").message
}

pub(super) fn delivery(entry: u64) -> StoredDelivery {
    StoredDelivery {
        consumer: quorate_message::ConsumerId::default(),
        generation: session::Generation(1),
        position: MessagePosition::new(entry, 0),
        delivery_count: 0,
        group: None,
        redelivered: false,
        message: stored(message(Header::default(), 1, queue("orders"))),
    }
}

/// The call that begins.
pub(super) fn begun(effects: &[Effect]) -> Option<CallId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Call(call) => Some(*call),
        _ => None,
    })
}

/// What the session machine is told.
pub(super) fn told(effects: &[Effect]) -> Vec<&Told> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Tell(told) => Some(told),
        _ => None,
    });
    told.collect()
}

pub(super) fn dispatched(effects: &[Effect]) -> Vec<&MessageDispatch> {
    let all = effects.iter().filter_map(|effect| match effect {
        Effect::Say(Command::MessageDispatch(dispatch)) => Some(dispatch),
        _ => None,
    });
    all.collect()
}

/// What is settled, as entries of the shard.
pub(super) fn settled(effects: &[Effect]) -> Vec<(Settlement, Vec<u64>)> {
    let settled = told(effects).into_iter().filter_map(|told| match told {
        Told::Settle {
            settlement,
            positions,
            ..
        } => Some((
            *settlement,
            positions.iter().map(|(_, p)| p.entry()).collect(),
        )),
        _ => None,
    });
    settled.collect()
}

/// Messages of credit that are lent.
pub(super) fn lent(effects: &[Effect]) -> u64 {
    let lent = told(effects).into_iter().map(|told| match told {
        Told::Credited { credit, .. } => credit.messages,
        Told::Consume { open, .. } => open.credit.messages,
        _ => 0,
    });
    lent.sum()
}

/// Responses: which command, and the exception's class and text if it is one.
pub(super) fn responses(effects: &[Effect]) -> Vec<(i32, Option<(String, String)>)> {
    let responses = effects.iter().filter_map(|effect| match effect {
        Effect::Say(Command::Response(response)) => Some((response.correlation_id.0, None)),
        Effect::Say(Command::DataArrayResponse(response)) => {
            Some((response.correlation_id.0, None))
        }
        Effect::Say(Command::ExceptionResponse(response)) => {
            let exception = response.exception.clone().expect("an exception");
            let text = exception.message.unwrap_or_default();
            Some((response.correlation_id.0, Some((exception.class, text))))
        }
        _ => None,
    });
    responses.collect()
}

/// The only response: the class of its exception, or none.
pub(super) fn response(effects: &[Effect]) -> Option<String> {
    let responses = responses(effects);
    assert_eq!(responses.len(), 1, "{effects:?}");
    let (_, exception) = responses.into_iter().next().expect("one");
    exception.map(|(class, _)| class)
}

/// Errors that nobody waits for, by class.
pub(super) fn errors(effects: &[Effect]) -> Vec<String> {
    let errors = effects.iter().filter_map(|effect| match effect {
        Effect::Say(Command::ConnectionError(error)) => error.exception.clone(),
        _ => None,
    });
    errors.map(|error| error.class).collect()
}

pub(super) fn closing(effects: &[Effect]) -> Option<Closing> {
    match effects.last() {
        Some(Effect::Close(closing)) => Some(*closing),
        _ => None,
    }
}

pub(super) fn confirmed(call: CallId, first: u64, outcome: Outcome) -> Answer {
    Answer::Confirmed {
        call,
        first,
        count: 1,
        outcome,
        cause: None,
    }
}

pub(super) fn session_id(value: i64) -> SessionId {
    SessionId {
        connection_id: CLIENT.to_owned(),
        value,
    }
}
