//! Against a scripted leader that loses answers, refuses, and is replaced: nothing is lost, nothing is confirmed that
//! is not stored, the order of a producer holds, and everything is confirmed in the end.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Act {
    Publish(u8),
    /// The leader carries out a batch and answers.
    Carry,
    /// The leader carries out a batch, and its answer takes its time.
    CarryAndAnswerLater,
    /// The leader refuses a batch; those behind it are on their way.
    Overloaded,
    /// The same, and the gateway hears of it later.
    OverloadedAndToldLater,
    /// The leader carries out a batch, and its answer is lost with the link.
    CarryAndLoseAnswer,
    LoseLink,
    NotLeading,
    /// The leader refuses a batch and leads again before the next one comes.
    NotLeadingAtFirst,
    ChangeLeader,
    Wait,
    /// The queue is bounded, and this much of it is consumed.
    MakeRoom(u8),
    /// The producer leaves out a number: its message was wrong.
    SkipNumber,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (1_u8..5).prop_map(Act::Publish),
        4 => Just(Act::Carry),
        2 => Just(Act::CarryAndAnswerLater),
        1 => Just(Act::CarryAndLoseAnswer),
        1 => Just(Act::Overloaded),
        1 => Just(Act::OverloadedAndToldLater),
        1 => Just(Act::LoseLink),
        1 => Just(Act::NotLeading),
        1 => Just(Act::NotLeadingAtFirst),
        1 => Just(Act::ChangeLeader),
        1 => Just(Act::Wait),
    ];
    proptest::collection::vec(act, 1..60)
}

fn acts_in_a_bounded_queue() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (1_u8..5).prop_map(Act::Publish),
        8 => Just(Act::Carry),
        3 => Just(Act::CarryAndAnswerLater),
        1 => Just(Act::CarryAndLoseAnswer),
        1 => Just(Act::OverloadedAndToldLater),
        1 => Just(Act::LoseLink),
        1 => Just(Act::NotLeadingAtFirst),
        1 => Just(Act::ChangeLeader),
        6 => Just(Act::Wait),
        3 => (1_u8..4).prop_map(Act::MakeRoom),
        1 => Just(Act::SkipNumber),
    ];
    proptest::collection::vec(act, 1..60)
}

/// A batch as the leader gets it.
struct Sent {
    number: u64,
    previous: Option<u64>,
    messages: Vec<(u64, bool)>,
}

struct World {
    bench: Bench,
    epoch: u64,
    leader: NodeId,
    links: BTreeMap<NodeId, u64>,
    link_numbers: u64,
    /// Batches that the present leader has on its present link, in order.
    inbox: VecDeque<Sent>,
    /// The batch that the present leader took last on its present link.
    taken: Option<u64>,
    /// What it said and the gateway has not heard.
    answers: VecDeque<NodeEvent>,
    /// Numbers in the order in which they were stored.
    log: Vec<u64>,
    /// What the queue still takes, if it is bounded and holds its producers back.
    room: Option<u64>,
    /// The producer's last number.
    last: u64,
    /// The number of each ordinal.
    published: Vec<u64>,
    /// Outcome of each ordinal.
    confirmed: BTreeMap<u64, Outcome>,
}

impl World {
    fn new() -> Self {
        Self {
            bench: Bench::linked(),
            epoch: 1,
            leader: NODE_A,
            links: BTreeMap::from([(NODE_A, 1), (NODE_B, 2)]),
            link_numbers: 2,
            inbox: VecDeque::new(),
            taken: None,
            answers: VecDeque::new(),
            log: Vec::new(),
            room: None,
            last: 0,
            published: Vec::new(),
            confirmed: BTreeMap::new(),
        }
    }

    fn see(&mut self, effects: &[Effect]) {
        let sent = submitted(effects).into_iter().zip(chained(effects));
        let sent = sent.zip(submitted_heads(effects));
        for (((node, number, _), (_, previous)), (_, messages)) in sent {
            assert_eq!(node, self.leader, "batches go to the leader");
            self.inbox.push_back(Sent {
                number,
                previous,
                messages,
            });
        }
        for (first, count, outcome) in confirms(effects) {
            for ordinal in first..first + u64::from(count) {
                let number = self.published[usize::try_from(ordinal).unwrap()];
                assert!(self.log.contains(&number), "confirmed and not stored");
                assert_eq!(
                    self.confirmed.insert(ordinal, outcome),
                    None,
                    "confirmed twice"
                );
            }
        }
        assert!(
            !effects.iter().any(|e| matches!(e, Effect::Failed { .. })),
            "{effects:?}"
        );
    }

    /// The leader stores the next batch, if it follows what it took; its answer.
    fn carry(&mut self) {
        let Some(sent) = self.inbox.pop_front() else {
            return;
        };
        let number = sent.number;
        if sent.previous.is_some() && sent.previous != self.taken {
            return self.answers.push_back(overloaded(number));
        }
        self.taken = Some(number);
        let outcomes = sent.messages.into_iter().map(|(number, is_first)| {
            if self.log.contains(&number) {
                return Outcome::Duplicate;
            }
            if let Some(room) = &mut self.room {
                let follows = number <= self.log.last().unwrap_or(&0) + 1;
                if *room == 0 || !(is_first || follows) {
                    return Outcome::Blocked;
                }
                *room -= 1;
            }
            self.log.push(number);
            Outcome::Stored
        });
        let answer = NodeEvent::Outcomes {
            number: BatchNumber(number),
            outcomes: Outcomes::Each(outcomes.collect()),
            removed: 0,
        };
        self.answers.push_back(answer);
    }

    /// The leader refuses the next batch.
    fn refuse(&mut self) {
        let refused = self.inbox.pop_front();
        self.answers
            .extend(refused.map(|sent| overloaded(sent.number)));
    }

    fn hear_all(&mut self) {
        while let Some(answer) = self.answers.pop_front() {
            self.hear(answer);
        }
    }

    /// The leader, or its end of the link, begins anew.
    fn forget(&mut self) {
        self.inbox.clear();
        self.answers.clear();
        self.taken = None;
    }

    fn hear(&mut self, event: NodeEvent) {
        let (leader, link) = (self.leader, self.links[&self.leader]);
        let effects = self.bench.hear(leader, link, event);
        self.see(&effects);
    }

    fn relink(&mut self) {
        let node = self.leader;
        let link = LinkId(self.links[&node]);
        self.forget();
        let effects = self.bench.step(Input::LinkLost { node, link });
        self.see(&effects);
        self.link_numbers += 1;
        self.links.insert(node, self.link_numbers);
        let effects = self.bench.link(node, self.link_numbers);
        self.see(&effects);
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Publish(count) => {
                let first = self.last + 1;
                self.last += u64::from(*count);
                self.published.extend(first..=self.last);
                let effects = self.bench.publish(first..=self.last);
                self.see(&effects);
            }
            Act::Carry => {
                self.carry();
                self.hear_all();
            }
            Act::CarryAndAnswerLater => self.carry(),
            Act::Overloaded => {
                self.refuse();
                self.hear_all();
            }
            Act::OverloadedAndToldLater => self.refuse(),
            Act::CarryAndLoseAnswer => {
                self.carry();
                self.relink();
            }
            Act::LoseLink => self.relink(),
            Act::NotLeading => {
                self.hear_all();
                self.forget();
                self.hear(NodeEvent::NotLeading {
                    number: BatchNumber(0),
                    epoch: Epoch(self.epoch),
                });
            }
            Act::NotLeadingAtFirst => {
                if let Some(sent) = self.inbox.pop_front() {
                    self.taken = None;
                    self.answers.push_back(NodeEvent::NotLeading {
                        number: BatchNumber(sent.number),
                        epoch: Epoch(self.epoch),
                    });
                }
            }
            Act::ChangeLeader => {
                self.forget();
                self.epoch += 1;
                self.leader = if self.leader == NODE_A {
                    NODE_B
                } else {
                    NODE_A
                };
                let told = topology(self.epoch, self.epoch, Some(self.leader));
                let effects = self.bench.step(Input::Topology(told));
                self.see(&effects);
            }
            Act::MakeRoom(count) => {
                self.room = self.room.map(|room| room + u64::from(*count));
            }
            Act::SkipNumber => self.last += 1,
            Act::Wait => {
                self.bench.now = self.bench.now.after(10_000);
                let effects = self.bench.step(Input::Elapsed);
                self.see(&effects);
            }
        }
    }
}

fn overloaded(number: u64) -> NodeEvent {
    NodeEvent::Overloaded {
        number: BatchNumber(number),
        reason: "refused".into(),
    }
}

proptest! {
    #[test]
    fn everything_is_stored_once_in_order_and_confirmed_once(acts in acts()) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
        }
        // A healthy leader: everything gets through.
        for _ in 0..200 {
            world.act(&Act::Wait);
            world.act(&Act::Carry);
        }
        prop_assert_eq!(&world.log, &world.published);
        prop_assert_eq!(world.confirmed.len(), world.published.len());
        prop_assert_eq!(world.bench.core.waiting_bytes(), 0);
    }

    #[test]
    fn a_producer_that_is_held_back_loses_nothing_and_keeps_its_order(
        acts in acts_in_a_bounded_queue()
    ) {
        let mut world = World::new();
        world.room = Some(2);
        for act in &acts {
            world.act(act);
        }
        // A healthy leader and consumers: everything gets through.
        for _ in 0..600 {
            world.act(&Act::MakeRoom(2));
            for _ in 0..3 {
                world.act(&Act::Wait);
            }
            world.act(&Act::Carry);
        }
        prop_assert_eq!(&world.log, &world.published);
        prop_assert_eq!(world.confirmed.len(), world.published.len());
        prop_assert!(world.confirmed.values().all(|outcome| outcome.is_stored()));
        prop_assert_eq!(world.bench.core.waiting_bytes(), 0);
        prop_assert_eq!(world.bench.core.held_back(), 0);
    }
}
