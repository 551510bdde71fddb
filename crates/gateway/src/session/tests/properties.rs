//! Against a scripted leader that loses answers, refuses, and is replaced: nothing is lost, nothing is confirmed that
//! is not stored, the order of a producer holds, and everything is confirmed in the end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Act {
    Publish(u8),
    /// The leader carries out a batch and answers.
    Carry,
    /// The leader carries out a batch, and its answer is lost with the link.
    CarryAndLoseAnswer,
    LoseLink,
    NotLeading,
    ChangeLeader,
    Wait,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (1_u8..5).prop_map(Act::Publish),
        4 => Just(Act::Carry),
        1 => Just(Act::CarryAndLoseAnswer),
        1 => Just(Act::LoseLink),
        1 => Just(Act::NotLeading),
        1 => Just(Act::ChangeLeader),
        1 => Just(Act::Wait),
    ];
    proptest::collection::vec(act, 1..60)
}

struct World {
    bench: Bench,
    epoch: u64,
    leader: NodeId,
    links: BTreeMap<NodeId, u64>,
    link_numbers: u64,
    /// Batches that the present leader has on its present link, in order.
    inbox: Vec<(u64, Vec<u64>)>,
    /// Numbers in the order in which they were stored.
    log: Vec<u64>,
    published: u64,
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
            inbox: Vec::new(),
            log: Vec::new(),
            published: 0,
            confirmed: BTreeMap::new(),
        }
    }

    fn see(&mut self, effects: &[Effect]) {
        for (node, number, numbers) in submitted(effects) {
            assert_eq!(node, self.leader, "batches go to the leader");
            self.inbox.push((number, numbers));
        }
        for (first, count, outcome) in confirms(effects) {
            for ordinal in first..first + u64::from(count) {
                assert!(
                    self.log.contains(&(ordinal + 1)),
                    "confirmed and not stored"
                );
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

    /// The leader stores the next batch; its answer.
    fn carry(&mut self) -> Option<NodeEvent> {
        if self.inbox.is_empty() {
            return None;
        }
        let (number, numbers) = self.inbox.remove(0);
        let outcomes = numbers.into_iter().map(|number| {
            if self.log.contains(&number) {
                return Outcome::Duplicate;
            }
            self.log.push(number);
            Outcome::Stored
        });
        Some(NodeEvent::Outcomes {
            number: BatchNumber(number),
            outcomes: Outcomes::Each(outcomes.collect()),
            removed: 0,
        })
    }

    fn hear(&mut self, event: NodeEvent) {
        let (leader, link) = (self.leader, self.links[&self.leader]);
        let effects = self.bench.hear(leader, link, event);
        self.see(&effects);
    }

    fn relink(&mut self) {
        let node = self.leader;
        let link = LinkId(self.links[&node]);
        self.inbox.clear();
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
                let first = self.published + 1;
                self.published += u64::from(*count);
                let effects = self.bench.publish(first..=self.published);
                self.see(&effects);
            }
            Act::Carry => {
                if let Some(answer) = self.carry() {
                    self.hear(answer);
                }
            }
            Act::CarryAndLoseAnswer => {
                self.carry();
                self.relink();
            }
            Act::LoseLink => self.relink(),
            Act::NotLeading => {
                self.inbox.clear();
                self.hear(NodeEvent::NotLeading {
                    number: BatchNumber(0),
                    epoch: Epoch(self.epoch),
                });
            }
            Act::ChangeLeader => {
                self.inbox.clear();
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
            Act::Wait => {
                self.bench.now = self.bench.now.after(10_000);
                let effects = self.bench.step(Input::Elapsed);
                self.see(&effects);
            }
        }
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
        let all: Vec<_> = (1..=world.published).collect();
        prop_assert_eq!(&world.log, &all);
        prop_assert_eq!(world.confirmed.len() as u64, world.published);
        prop_assert_eq!(world.bench.core.waiting_bytes(), 0);
    }
}
