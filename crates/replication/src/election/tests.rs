//! Elections, step by step.

use super::*;
use crate::{DiskId, Duration, Epoch, Index, NodeId, Position, ShardId};

fn member(node: u32) -> Member {
    Member {
        node: NodeId(node),
        disk: DiskId(u64::from(node) + 100),
    }
}

fn record(epoch: u64, leader: Option<u32>) -> ShardRecord {
    ShardRecord {
        shard: ShardId(1),
        claim: Claim {
            epoch: Epoch(epoch),
            id: ClaimId(epoch + 1_000),
        },
        leader: leader.map(member),
        voters: vec![member(1), member(2), member(3)],
        next_voters: None,
        learners: Vec::new(),
    }
}

struct Bench {
    election: Election,
    now: Time,
    fresh: u64,
    effects: Vec<ElectionEffect>,
}

impl Bench {
    fn begin(record: ShardRecord, over: bool, preference: Preference) -> Self {
        let mut effects = ElectionEffects::default();
        let make = if over {
            Election::take_over
        } else {
            Election::claim
        };
        let (config, version, fresh) = (ElectionConfig::default(), RecordVersion(7), ClaimId(1));
        let election = make(
            config,
            record,
            version,
            preference,
            Time(0),
            fresh,
            &mut effects,
        );
        Self {
            election,
            now: Time(0),
            fresh: 1,
            effects: effects.0,
        }
    }

    /// An election after the loss of node 1, which led epoch 5.
    fn claiming() -> Self {
        let mut bench = Self::begin(record(5, Some(1)), false, Preference::default());
        bench.probed(2);
        bench.probed(3);
        bench
    }

    fn fencing() -> Self {
        let mut bench = Self::claiming();
        bench.swapped(Swapped::Done(RecordVersion(8)));
        bench
    }

    fn granting() -> Self {
        let mut bench = Self::fencing();
        bench.fenced(2, 1, 4);
        bench.fenced(3, 1, 9);
        bench
    }

    fn put(&mut self, input: ElectionInput) {
        self.fresh += 1;
        let mut effects = ElectionEffects::default();
        self.election
            .step(self.now, ClaimId(self.fresh), input, &mut effects);
        self.effects = effects.0;
        assert_eq!(self.election.stuck().is_none(), self.election.is_over());
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
        self.put(ElectionInput::Elapsed);
    }

    fn report(&mut self, node: u32, report: Report) {
        let from = member(node);
        self.put(ElectionInput::Reported { from, report });
    }

    fn probed(&mut self, node: u32) {
        let Phase::Probing { nonce, .. } = &self.election.phase else {
            panic!("not probing: {:?}", self.election.phase);
        };
        let nonce = *nonce;
        self.report(
            node,
            Report::Probed {
                nonce,
                impaired: false,
                wiped: false,
            },
        );
    }

    fn answer(&self, node: u32, incarnation: u64, index: u64) -> FenceAnswer {
        let epoch = Epoch(5);
        FenceAnswer {
            claim: self.election.record.claim,
            end: Position {
                epoch,
                index: Index(index),
            },
            impaired: false,
            wiped: false,
            bound: None,
            disk: member(node).disk,
            incarnation: Incarnation(incarnation),
        }
    }

    fn fenced(&mut self, node: u32, incarnation: u64, index: u64) {
        let answer = self.answer(node, incarnation, index);
        self.report(node, Report::Fenced(answer));
    }

    fn swapped(&mut self, result: Swapped) {
        let request = self.election.request;
        self.put(ElectionInput::Swapped { request, result });
    }

    fn found(&mut self, found: Option<(ShardRecord, RecordVersion)>) {
        let request = self.election.request;
        self.put(ElectionInput::Read { request, found });
    }

    fn swap(&self) -> Option<(RecordVersion, ShardRecord)> {
        self.effects.iter().find_map(|effect| {
            if let ElectionEffect::Swap {
                expected, record, ..
            } = effect
            {
                return Some((*expected, record.clone()));
            }
            None
        })
    }

    fn orders(&self) -> Vec<(u32, Order)> {
        let mut orders = Vec::new();
        for effect in &self.effects {
            if let ElectionEffect::Order { to, order } = effect {
                orders.push((to.node.0, order.clone()));
            }
        }
        orders
    }

    fn reads(&self) -> bool {
        self.effects
            .iter()
            .any(|effect| matches!(effect, ElectionEffect::Read { .. }))
    }
}

#[test]
fn from_probe_to_a_leader_that_serves() {
    let mut bench = Bench::begin(record(5, Some(1)), false, Preference::default());
    let nonce = Nonce(1);
    assert_eq!(
        bench.orders(),
        [1, 2, 3].map(|node| (node, Order::Probe { nonce }))
    );
    bench.probed(2);
    assert_eq!(bench.swap(), None, "one of three is no quorum");
    bench.probed(3);
    let (expected, claimed) = bench.swap().expect("a claim");
    assert_eq!(
        (expected, claimed.claim.epoch, claimed.leader),
        (RecordVersion(7), Epoch(6), None)
    );
    assert!(
        bench.orders().is_empty(),
        "no fence before the claim succeeded"
    );
    bench.swapped(Swapped::Done(RecordVersion(8)));
    let claim = claimed.claim;
    assert_eq!(
        bench.orders(),
        [1, 2, 3].map(|node| (node, Order::Fence { claim }))
    );
    bench.fenced(2, 1, 4);
    assert_eq!(bench.swap(), None);
    bench.fenced(3, 1, 9);
    let (expected, granted) = bench.swap().expect("a grant");
    assert_eq!(
        (expected, granted.leader),
        (RecordVersion(8), Some(member(3)))
    );
    bench.swapped(Swapped::Done(RecordVersion(9)));
    let (incarnation, version) = (Incarnation(1), RecordVersion(9));
    let order = Order::Lead {
        claim,
        incarnation,
        record: granted,
        version,
    };
    assert_eq!(bench.orders(), [(3, order)]);
    let epoch = Epoch(6);
    bench.report(
        3,
        Report::Leading {
            epoch,
            serving: false,
        },
    );
    assert_eq!(bench.election.stuck(), Some(Stuck::NotServing(member(3))));
    bench.report(
        3,
        Report::Leading {
            epoch,
            serving: true,
        },
    );
    assert!(bench.election.is_over() && bench.election.next_deadline().is_none());
}

#[test]
fn orders_that_are_not_answered_are_sent_again() {
    let mut bench = Bench::fencing();
    bench.fenced(2, 1, 4);
    bench.pass(100);
    let nodes: Vec<_> = bench.orders().into_iter().map(|(node, _)| node).collect();
    assert_eq!(nodes, [1, 3]);
    bench.put(ElectionInput::Came(member(2)));
    assert_eq!(
        bench.orders().len(),
        1,
        "who comes back may have another incarnation"
    );
    bench.fenced(2, 2, 9);
    bench.fenced(2, 1, 9);
    bench.fenced(3, 1, 4);
    bench.swapped(Swapped::Done(RecordVersion(9)));
    assert!(matches!(
        bench.orders()[..],
        [(
            2,
            Order::Lead {
                incarnation: Incarnation(2),
                ..
            }
        )]
    ));
}

#[test]
fn answers_that_do_not_belong_to_the_claim_are_not_used() {
    let mut bench = Bench::fencing();
    let answer = bench.answer(2, 1, 4);
    let other = Claim {
        id: ClaimId(99),
        ..answer.claim
    };
    for answer in [
        FenceAnswer {
            claim: other,
            ..answer.clone()
        },
        FenceAnswer {
            disk: DiskId(1),
            ..answer
        },
    ] {
        bench.report(2, Report::Fenced(answer));
    }
    let mut stranger = bench.answer(4, 1, 4);
    stranger.disk = member(4).disk;
    bench.report(4, Report::Fenced(stranger));
    bench.fenced(3, 1, 4);
    assert_eq!(bench.swap(), None);
}

#[test]
fn a_claim_of_unknown_result_is_not_fenced() {
    let mut bench = Bench::claiming();
    let (_, claimed) = bench.swap().expect("a claim");
    bench.swapped(Swapped::Unknown);
    assert!(bench.reads());
    bench.found(Some((claimed, RecordVersion(8))));
    assert!(
        bench
            .orders()
            .iter()
            .all(|(_, order)| matches!(order, Order::Probe { .. }))
    );
    bench.pass(100);
    bench.probed(2);
    bench.probed(3);
    let (expected, again) = bench.swap().expect("another claim");
    assert_eq!((expected, again.claim.epoch), (RecordVersion(8), Epoch(7)));
}

#[test]
fn a_grant_of_unknown_result_holds_only_if_the_record_is_exactly_it() {
    let mut bench = Bench::granting();
    let (_, granted) = bench.swap().expect("a grant");
    bench.swapped(Swapped::Unknown);
    assert!(bench.reads());
    let mut held = Bench {
        election: bench.election.clone(),
        effects: Vec::new(),
        ..bench
    };
    held.found(Some((granted.clone(), RecordVersion(9))));
    assert!(matches!(held.orders()[..], [(3, Order::Lead { .. })]));

    let mut bench = Bench::granting();
    bench.swapped(Swapped::Unknown);
    let open = ShardRecord {
        leader: None,
        ..granted
    };
    bench.found(Some((open, RecordVersion(8))));
    assert_eq!(bench.swap(), None, "a grant is never tried again");
    assert!(
        bench
            .orders()
            .iter()
            .all(|(_, order)| matches!(order, Order::Probe { .. }))
    );
}

#[test]
fn a_late_result_is_dropped() {
    let mut bench = Bench::granting();
    let request = bench.election.request;
    bench.swapped(Swapped::Unknown);
    let result = Swapped::Done(RecordVersion(9));
    bench.put(ElectionInput::Swapped { request, result });
    assert!(bench.orders().is_empty());
}

#[test]
fn who_loses_the_race_starts_over() {
    let mut bench = Bench::claiming();
    let (record, version) = (record(6, None), RecordVersion(8));
    bench.swapped(Swapped::Conflict { record, version });
    assert_eq!(bench.orders().len(), 3);
    bench.pass(100);
    bench.probed(2);
    bench.probed(1);
    let (expected, claimed) = bench.swap().expect("a claim");
    assert_eq!(
        (expected, claimed.claim.epoch),
        (RecordVersion(8), Epoch(7))
    );
}

#[test]
fn a_leader_that_another_coordinator_named_is_asked_whether_it_leads() {
    let mut bench = Bench::claiming();
    let (record, version) = (record(6, Some(2)), RecordVersion(9));
    bench.swapped(Swapped::Conflict { record, version });
    assert!(matches!(
        bench.orders()[..],
        [(
            2,
            Order::Lead {
                incarnation: Incarnation(0),
                ..
            }
        )]
    ));
    bench.report(
        2,
        Report::Leading {
            epoch: Epoch(6),
            serving: true,
        },
    );
    assert!(bench.election.is_over());
}

#[test]
fn a_new_coordinator_claims_a_record_without_leader_and_asks_a_named_one() {
    let bench = Bench::begin(record(5, None), true, Preference::default());
    assert!(matches!(bench.orders()[..], [(1, Order::Probe { .. }), ..]));
    let mut bench = Bench::begin(record(5, Some(1)), true, Preference::default());
    assert!(matches!(bench.orders()[..], [(1, Order::Lead { .. })]));
    let (claim, promise) = (record(5, None).claim, record(5, None).claim);
    bench.report(1, Report::LeadRefused { claim, promise });
    assert_eq!(bench.orders().len(), 3, "refused: claimed");
    let mut bench = Bench::begin(record(5, Some(1)), true, Preference::default());
    bench.pass(1_000);
    assert!(
        matches!(bench.orders()[..], [(_, Order::Probe { .. }), ..]),
        "unanswered: claimed"
    );
}

#[test]
fn a_promise_that_the_store_does_not_know_stops_everything() {
    let mut bench = Bench::fencing();
    let claim = bench.election.record.claim;
    let promise = Claim {
        epoch: Epoch(9),
        id: ClaimId(3),
    };
    bench.report(2, Report::FenceRefused { claim, promise });
    assert!(bench.reads());
    bench.found(Some((bench.election.record.clone(), RecordVersion(8))));
    let behind = Stuck::StoreBehind {
        member: member(2),
        promise,
    };
    assert_eq!(bench.election.stuck(), Some(behind.clone()));
    bench.pass(100);
    assert!(bench.reads() && bench.orders().is_empty());
    bench.found(None);
    assert_eq!(bench.election.stuck(), Some(behind));
    bench.pass(100);
    bench.found(Some((record(10, None), RecordVersion(20))));
    assert_eq!(bench.orders().len(), 3, "the record was rebuilt");
}

#[test]
fn a_leader_without_a_quorum_gives_way_to_an_equal_one() {
    let mut bench = Bench::granting();
    bench.swapped(Swapped::Done(RecordVersion(9)));
    bench.report(3, Report::LostQuorum { epoch: Epoch(6) });
    bench.pass(100);
    bench.probed(2);
    bench.probed(3);
    bench.swapped(Swapped::Done(RecordVersion(10)));
    bench.fenced(3, 1, 9);
    bench.fenced(2, 1, 9);
    assert_eq!(
        bench.swap().and_then(|(_, record)| record.leader),
        Some(member(2))
    );
}

#[test]
fn a_lost_leader_is_replaced_and_not_chosen_again_while_it_is_away() {
    let mut bench = Bench::granting();
    bench.swapped(Swapped::Done(RecordVersion(9)));
    bench.put(ElectionInput::Lost(member(3)));
    assert_eq!(bench.orders().len(), 3);
    bench.pass(100);
    bench.probed(1);
    bench.probed(2);
    bench.swapped(Swapped::Done(RecordVersion(10)));
    bench.fenced(3, 1, 9);
    bench.fenced(2, 1, 4);
    assert_eq!(bench.swap(), None, "the only one that can lead is away");
    bench.put(ElectionInput::Came(member(3)));
    assert!(bench.swap().is_some());
}

#[test]
fn the_preferred_leader_is_waited_for_but_not_long() {
    let preference = Preference {
        preferred: Some(NodeId(3)),
        ..Preference::default()
    };
    for comes in [true, false] {
        let mut bench = Bench::begin(record(5, Some(1)), false, preference.clone());
        bench.probed(1);
        bench.probed(2);
        bench.swapped(Swapped::Done(RecordVersion(8)));
        bench.fenced(1, 1, 4);
        bench.fenced(2, 1, 4);
        assert_eq!(bench.swap(), None);
        if comes {
            bench.fenced(3, 1, 4);
        } else {
            bench.pass(30);
        }
        let expected = if comes { member(3) } else { member(1) };
        assert_eq!(
            bench.swap().and_then(|(_, record)| record.leader),
            Some(expected)
        );
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut bench = Bench::begin(record(5, Some(1)), false, Preference::default());
    bench.probed(2);
    let missing = vec![member(1), member(3)];
    assert_eq!(
        bench.election.stuck(),
        Some(Stuck::NoFenceQuorum { missing, needed: 1 })
    );

    let mut bench = Bench::fencing();
    let index = Index(50);
    let bound = Some(Position {
        epoch: Epoch(5),
        index,
    });
    let answer = FenceAnswer {
        impaired: true,
        bound,
        ..bench.answer(2, 1, 4)
    };
    bench.report(2, Report::Fenced(answer));
    bench.fenced(3, 1, 9);
    let greatest = Position {
        epoch: Epoch(5),
        index,
    };
    let needed = vec![member(1), member(2)];
    assert_eq!(
        bench.election.stuck(),
        Some(Stuck::NoCandidate { greatest, needed })
    );
    bench.fenced(1, 1, 9);
    assert!(bench.swap().is_some(), "two sound answers are a quorum");
}

#[test]
fn nobody_is_disturbed_when_only_impaired_replicas_answer() {
    let mut bench = Bench::begin(record(5, Some(1)), false, Preference::default());
    for node in [2, 3] {
        let nonce = Nonce(1);
        bench.report(
            node,
            Report::Probed {
                nonce,
                impaired: true,
                wiped: false,
            },
        );
    }
    assert_eq!(bench.swap(), None);
    let missing = vec![member(1)];
    assert_eq!(
        bench.election.stuck(),
        Some(Stuck::NoSoundReplica { missing })
    );
}
