//! Whatever a client says, in whatever order the cluster answers: every command that wants a response gets exactly one,
//! the session machine is told nothing of calls that are not open, no message is settled twice or lost, and no consumer has
//! more than its prefetch.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quorate_wire::openwire::{
    ConsumerControl, DestinationInfo, DestinationOperation, MessagePull, RemoveSubscriptionInfo,
};

use super::*;
use crate::session::Failure;

/// The largest prefetch that the clients of these tests have.
const PREFETCH_MAX: u64 = 8;

#[derive(Clone, Debug)]
enum Op {
    Send(bool, Option<i64>, bool),
    Produce(i32),
    Consume(i64, i32, u8),
    Ack(i64, AckType, u8, Option<i64>),
    Pull(i64, i64),
    Control(i64, i32),
    Transaction(i64, TransactionOperation),
    RemoveConsumer(i64, u8),
    RemoveSession,
    RemoveConnection,
    Temporary(u32, bool),
    Unsubscribe,
    Cluster(usize, u8),
    Deliver(usize, u64),
    Wait,
}

fn op() -> impl Strategy<Value = Op> {
    use TransactionOperation as Of;
    let value = 1..4_i64;
    let number = 1..3_i64;
    let of = prop::option::weighted(0.4, number.clone());
    let kind = prop::sample::select(vec![
        AckType::Delivered,
        AckType::Standard,
        AckType::Individual,
        AckType::Poison,
        AckType::Expired,
        AckType::Redelivered,
        AckType::Unmatched,
    ]);
    let prefetch = 0..=i32::try_from(PREFETCH_MAX).expect("small");
    let operation = prop::sample::select(vec![
        Of::Begin,
        Of::Begin,
        Of::CommitOnePhase,
        Of::Rollback,
        Of::Prepare,
    ]);
    prop_oneof![
        4 => (any::<bool>(), of.clone(), prop::bool::weighted(0.1))
            .prop_map(|(asked, of, wrong)| Op::Send(asked, of, wrong)),
        1 => (0..2_i32).prop_map(Op::Produce),
        3 => (value.clone(), prefetch.clone(), 0..8_u8).prop_map(|(v, p, k)| Op::Consume(v, p, k)),
        8 => (value.clone(), kind, any::<u8>(), of).prop_map(|(v, k, at, of)| Op::Ack(v, k, at, of)),
        2 => (value.clone(), -1..3_i64).prop_map(|(v, timeout)| Op::Pull(v, timeout)),
        1 => (value.clone(), prefetch).prop_map(|(v, p)| Op::Control(v, p)),
        4 => (number, operation).prop_map(|(n, of)| Op::Transaction(n, of)),
        2 => (value, any::<u8>()).prop_map(|(v, at)| Op::RemoveConsumer(v, at)),
        1 => Just(Op::RemoveSession),
        1 => prop::bool::weighted(0.2)
            .prop_map(|all| if all { Op::RemoveConnection } else { Op::RemoveSession }),
        1 => (0..3_u32, any::<bool>()).prop_map(|(n, add)| Op::Temporary(n, add)),
        1 => Just(Op::Unsubscribe),
        12 => (any::<usize>(), any::<u8>()).prop_map(|(which, how)| Op::Cluster(which, how)),
        8 => (any::<usize>(), 1..6_u64).prop_map(|(which, count)| Op::Deliver(which, count)),
        1 => Just(Op::Wait),
    ]
}

/// An answer that the cluster owes.
#[derive(Clone, Debug)]
enum Owed {
    Confirm(CallId, u64),
    Open(CallId),
    Commit(CallId),
    Purge(CallId),
    Unsubscribe(CallId),
    End(CallId),
}

/// The session machine, as far as one connection sees it.
#[derive(Default)]
struct Cluster {
    open: BTreeSet<CallId>,
    owed: Vec<Owed>,
    ordinals: BTreeMap<CallId, u64>,
    /// Consumers that are open, with their credit.
    credit: BTreeMap<CallId, u64>,
    consumers: BTreeMap<quorate_message::ConsumerId, CallId>,
    held: BTreeMap<CallId, BTreeSet<MessagePosition>>,
    /// What transactions have taken out of consumers' hands.
    reserved: BTreeMap<CallId, Vec<(CallId, MessagePosition)>>,
    asked: BTreeSet<i32>,
    answered: BTreeSet<i32>,
    dispatched: BTreeMap<i64, Vec<MessageId>>,
    is_over: bool,
}

impl Cluster {
    fn take(&mut self, effects: Vec<Effect>) {
        for (id, _) in responses(&effects) {
            assert!(self.asked.contains(&id), "nobody asked for {id}");
            assert!(self.answered.insert(id), "{id} is answered twice");
        }
        for dispatch in dispatched(&effects) {
            if let Some(message) = &dispatch.message {
                let of = self
                    .dispatched
                    .entry(dispatch.consumer_id.value)
                    .or_default();
                of.push(message.message_id.clone());
            }
        }
        for effect in effects {
            assert!(!self.is_over, "nothing is said after the end: {effect:?}");
            match effect {
                Effect::Call(call) => assert!(self.open.insert(call), "a call begins once"),
                Effect::Tell(told) => self.told(told),
                Effect::Close(_) => self.is_over = true,
                Effect::Taken { call, .. } => assert!(self.open.contains(&call)),
                Effect::Say(_)
                | Effect::Admit { .. }
                | Effect::Announce { .. }
                | Effect::Vacate
                | Effect::Browse { .. }
                | Effect::BrowseMore { .. }
                | Effect::StopBrowse { .. } => {}
            }
        }
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Publish { call, .. } => {
                assert!(self.open.contains(&call));
                let next = self.ordinals.entry(call).or_default();
                self.owed.push(Owed::Confirm(call, *next));
                *next += 1;
            }
            Told::Consume { call, open } => {
                assert!(self.open.contains(&call));
                assert!(open.credit.messages <= PREFETCH_MAX);
                self.credit.insert(call, open.credit.messages);
                self.held.insert(call, BTreeSet::new());
                self.consumers.insert(open.consumer, call);
                self.owed.push(Owed::Open(call));
            }
            Told::Credited { call, credit } => {
                let has = self.credit.get_mut(&call).expect("an open consumer");
                *has += credit.messages;
                assert!(*has <= PREFETCH_MAX, "{has} of credit");
            }
            Told::Settle {
                call, positions, ..
            } => {
                let held = self.held.get_mut(&call).expect("an open consumer");
                for (_, position) in positions {
                    assert!(held.remove(&position), "{position} is settled and not held");
                }
            }
            Told::Transact {
                call, settlements, ..
            } => {
                assert!(self.open.contains(&call));
                for settlement in settlements {
                    let consumer = settlement.consumer.expect("a consumer");
                    let of = self.consumers[&consumer];
                    for (_, position) in settlement.positions {
                        let held = self.held.get_mut(&of).expect("an open consumer");
                        assert!(held.remove(&position), "{position} is claimed and not held");
                        self.reserved.entry(call).or_default().push((of, position));
                    }
                }
            }
            Told::Commit { call, .. } => {
                assert!(self.open.contains(&call));
                self.owed.push(Owed::Commit(call));
            }
            Told::Purge { call, .. } => self.owed.push(Owed::Purge(call)),
            Told::Unsubscribe { call, .. } => self.owed.push(Owed::Unsubscribe(call)),
            Told::Finished { call } => {
                assert!(self.open.contains(&call));
                if self.credit.remove(&call).is_some() {
                    assert!(self.held[&call].is_empty(), "it has something left");
                }
                self.owed.push(Owed::End(call));
            }
            Told::Dropped { call } => {
                assert!(self.open.remove(&call), "a call ends once");
                self.give_up(call);
                let held = self.held.remove(&call).unwrap_or_default();
                assert!(held.is_empty(), "something is left with nobody: {held:?}");
                self.credit.remove(&call);
                self.owed.retain(|owed| owed.call() != call);
            }
            other => panic!("a connection does not say {other:?}"),
        }
    }

    /// A transaction gives back what it has reserved.
    fn give_up(&mut self, call: CallId) {
        for (of, position) in self.reserved.remove(&call).unwrap_or_default() {
            if let Some(held) = self.held.get_mut(&of) {
                held.insert(position);
            }
        }
    }

    /// Pays one of the answers that are owed; none if it has to wait for others.
    fn pay(&mut self, which: usize, how: u8) -> Option<Answer> {
        let at = which % self.owed.len().max(1);
        let owed = self.owed.get(at)?.clone();
        let is_bad = how.is_multiple_of(8);
        let answer = match owed {
            Owed::Confirm(call, ordinal) => {
                let outcomes = [Outcome::Stored, Outcome::Duplicate, Outcome::Stored];
                let good = outcomes[usize::from(how) % outcomes.len()];
                let outcome = if is_bad { Outcome::QueueFull } else { good };
                confirmed(call, ordinal, outcome)
            }
            Owed::Open(call) if is_bad && self.held[&call].is_empty() => {
                self.credit.remove(&call);
                self.owed.retain(|owed| owed.call() != call);
                let reason = "it is full".into();
                let failure = Failure::AttachRefused {
                    shard: SHARD,
                    reason,
                };
                return Some(Answer::Failed { call, failure });
            }
            Owed::Open(call) => Answer::Opened {
                call,
                consumer: quorate_message::ConsumerId::default(),
                lost: Vec::new(),
            },
            Owed::Commit(call) if is_bad => {
                self.give_up(call);
                let failure = Failure::NotCommitted {
                    shard: SHARD,
                    outcome: Outcome::RolledBack,
                    cause: None,
                };
                Answer::Failed { call, failure }
            }
            Owed::Commit(call) => {
                self.reserved.remove(&call);
                Answer::Committed { call }
            }
            Owed::Purge(call) => Answer::Purged { call, removed: 0 },
            Owed::Unsubscribe(call) => Answer::Unsubscribed {
                call,
                removed: (!is_bad).then_some(0),
            },
            Owed::End(call) => {
                let mut others = self.owed.iter().filter(|owed| owed.call() == call);
                if others.any(|owed| matches!(owed, Owed::Confirm(..))) {
                    return None;
                }
                Answer::Ended { call }
            }
        };
        self.owed.remove(at);
        Some(answer)
    }
}

impl Owed {
    fn call(&self) -> CallId {
        match self {
            Self::Confirm(call, _)
            | Self::Open(call)
            | Self::Commit(call)
            | Self::Purge(call)
            | Self::Unsubscribe(call)
            | Self::End(call) => *call,
        }
    }
}

/// Both sides of a connection.
struct World {
    bench: Bench,
    cluster: Cluster,
    sequence: i64,
}

impl World {
    fn say(&mut self, is_asked: bool, command: impl FnOnce(Header) -> Command) {
        if is_asked {
            self.cluster.asked.insert(self.bench.next_command);
        }
        let effects = self.bench.say_with(is_asked, command);
        self.cluster.take(effects);
    }

    /// A message that a consumer was sent at some time, acknowledged by now or not.
    fn some_message(&self, value: i64, at: u8) -> MessageId {
        let of = self.cluster.dispatched.get(&value);
        let of = of.filter(|ids| !ids.is_empty());
        let unknown = || message(Header::default(), 1, queue("orders")).message_id;
        of.map_or_else(unknown, |ids| {
            ids[ids.len() - 1 - usize::from(at) % ids.len().min(10)].clone()
        })
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Send(is_asked, of, is_wrong) => {
                self.sequence += 1;
                let to = queue(if is_wrong { "a.>" } else { "orders" });
                let mut message = message(Header::default(), self.sequence, to);
                message.transaction_id = of.map(transaction_id);
                self.say(is_asked, |header| {
                    message.header = header;
                    Command::Message(Box::new(message))
                });
            }
            Op::Produce(window) => self.say(true, |header| producer(header, 1, window)),
            Op::Consume(value, prefetch, kind) => self.consume(value, prefetch, kind),
            Op::Ack(value, kind, at, of) => self.acknowledge((value, kind), at, of),
            Op::Pull(value, timeout) => self.pull(value, timeout),
            Op::Control(value, prefetch) => self.control(value, prefetch),
            Op::Transaction(number, operation) => {
                self.say(true, |header| transaction(header, number, operation));
            }
            Op::RemoveConsumer(value, at) => self.remove_consumer(value, at),
            Op::RemoveSession => {
                self.say(true, |header| {
                    remove(header, Removed::Session(session_id(1)), -2)
                });
            }
            Op::RemoveConnection => {
                let id = ConnectionId {
                    value: CLIENT.to_owned(),
                };
                self.say(true, |header| remove(header, Removed::Connection(id), -2));
            }
            Op::Temporary(number, is_added) => self.say(true, |header| {
                Command::DestinationInfo(DestinationInfo {
                    header,
                    connection_id: None,
                    destination: temporary(CLIENT, number),
                    operation: match is_added {
                        true => DestinationOperation::Add,
                        false => DestinationOperation::Remove,
                    },
                    timeout: 0,
                    broker_path: None,
                })
            }),
            Op::Unsubscribe => self.say(true, |header| {
                Command::RemoveSubscriptionInfo(RemoveSubscriptionInfo {
                    header,
                    connection_id: None,
                    subscription_name: "audit".to_owned(),
                    client_id: None,
                })
            }),
            Op::Cluster(which, how) => {
                if let Some(answer) = self.cluster.pay(which, how) {
                    let effects = self.bench.answer(answer);
                    self.cluster.take(effects);
                }
            }
            Op::Deliver(which, count) => self.deliver(which, count),
            Op::Wait => {
                if self.bench.dialogue.next_deadline().is_some() {
                    let effects = self.bench.wait();
                    self.cluster.take(effects);
                }
            }
        }
    }

    fn consume(&mut self, value: i64, prefetch: i32, kind: u8) {
        let mut info = consumer_info(value);
        info.prefetch_size = prefetch;
        info.destination = match kind {
            0 => topic("prices.>"),
            1 => queue("a.>"),
            2 => topic("ActiveMQ.Advisory.TempQueue"),
            4 => queue("a,b"),
            _ => queue("orders"),
        };
        info.no_local = kind == 3;
        self.say(true, |header| {
            info.header = header;
            Command::ConsumerInfo(Box::new(info))
        });
    }

    fn acknowledge(&mut self, (value, kind): (i64, AckType), at: u8, of: Option<i64>) {
        let last = self.some_message(value, at);
        let first = self.some_message(value, at / 2);
        let first = at.is_multiple_of(3).then_some(first);
        self.say(at.is_multiple_of(2), |header| {
            ack(header, (value, kind), (first.as_ref(), &last), of)
        });
    }

    fn pull(&mut self, value: i64, timeout: i64) {
        self.say(false, |header| {
            Command::MessagePull(MessagePull {
                header,
                consumer_id: consumer_id(value),
                destination: None,
                timeout,
                correlation_id: None,
                message_id: None,
            })
        });
    }

    fn control(&mut self, value: i64, prefetch: i32) {
        self.say(false, |header| {
            Command::ConsumerControl(ConsumerControl {
                header,
                destination: None,
                close: false,
                consumer_id: Some(consumer_id(value)),
                prefetch,
                flush: false,
                start: false,
                stop: false,
            })
        });
    }

    fn remove_consumer(&mut self, value: i64, at: u8) {
        let last = self.some_message(value, at).broker_sequence_id;
        let last = if at < 40 { -1 } else { last };
        self.say(at.is_multiple_of(2), |header| {
            remove(header, Removed::Consumer(consumer_id(value)), last)
        });
    }

    fn deliver(&mut self, which: usize, count: u64) {
        let consumers: Vec<CallId> = self.cluster.credit.keys().copied().collect();
        let Some(call) = consumers.get(which % consumers.len().max(1)).copied() else {
            return;
        };
        let is_attached = |owed: &Owed| matches!(owed, Owed::Open(of) if *of == call);
        if self.cluster.owed.iter().any(is_attached) {
            return;
        }
        let credit = self.cluster.credit.get_mut(&call).expect("one of them");
        let count = count.min(*credit);
        *credit -= count;
        let first = self.bench.entries + 1;
        let held = self.cluster.held.get_mut(&call).expect("it consumes");
        held.extend((first..first + count).map(|entry| MessagePosition::new(entry, 0)));
        let effects = self.bench.deliver(call, count);
        self.cluster.take(effects);
    }

    /// The cluster answers everything, and time passes.
    fn settle_down(&mut self) {
        for _ in 0..1_000 {
            let last = self.cluster.owed.len();
            for which in (0..last).rev() {
                self.act(Op::Cluster(which, 1));
            }
            if self.bench.dialogue.removal_deadline().is_some() {
                self.act(Op::Wait);
            }
            let is_quiet = self.cluster.owed.is_empty() && self.bench.dialogue.removals.is_empty();
            if is_quiet {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.cluster.owed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn each_is_answered_once_and_nothing_is_lost(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World {
            bench: Bench::open(),
            cluster: Cluster::default(),
            sequence: 0,
        };
        for op in ops {
            world.act(op);
        }
        world.settle_down();
        for number in 1..3 {
            world.act(Op::Transaction(number, TransactionOperation::Rollback));
        }
        world.settle_down();
        prop_assert_eq!(&world.cluster.asked, &world.cluster.answered);
        let dialogue = &world.bench.dialogue;
        let named: usize = dialogue.names.values().map(Vec::len).sum();
        prop_assert_eq!(dialogue.consumers.len(), named, "a closed consumer stays");
        let effects = world.bench.step(Input::Closed);
        world.cluster.take(effects);
        prop_assert!(world.cluster.is_over);
        prop_assert!(world.cluster.open.is_empty(), "calls stay open");
    }
}
