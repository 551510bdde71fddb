//! A replica alone on a bench: what goes in, what comes out.

mod as_follower;
mod as_leader;

use bytes::Bytes;

use super::*;
use crate::{ClaimId, DiskId, Effect, Entry, EntryKind, Order, RecordVersion, Round, ShardRecord};

fn member(node: u32) -> Member {
    Member {
        node: NodeId(node),
        disk: DiskId(u64::from(node) + 100),
    }
}

fn claim(epoch: u64) -> Claim {
    Claim {
        epoch: Epoch(epoch),
        id: ClaimId(epoch * 10),
    }
}

fn position(epoch: u64, index: u64) -> Position {
    Position {
        epoch: Epoch(epoch),
        index: Index(index),
    }
}

/// Consecutive entries of these epochs after `previous`.
fn entries(previous: u64, epochs: &[u64]) -> Vec<Entry> {
    let indices = previous + 1..;
    let entry = |(epoch, index): (&u64, u64)| Entry {
        epoch: Epoch(*epoch),
        index: Index(index),
        stamp: Stamp(0),
        kind: EntryKind::Commands,
        payload: Bytes::from(format!("{epoch}.{index}")),
    };
    epochs.iter().zip(indices).map(entry).collect()
}

fn append(leader: Claim, previous: Position, epochs: &[u64], commit: u64, round: u64) -> Input {
    Input::Received {
        from: NodeId(2),
        message: Message::Append {
            claim: leader,
            previous,
            entries: entries(previous.index.0, epochs),
            commit: Index(commit),
            round: Round(round),
            steady: true,
        },
    }
}

fn lead(epoch: u64) -> Input {
    Input::Ordered(Order::Lead {
        claim: claim(epoch),
        incarnation: Incarnation(7),
        record: ShardRecord {
            shard: ShardId(1),
            claim: claim(epoch),
            leader: Some(member(1)),
            voters: vec![member(1), member(2), member(3)],
            next_voters: None,
            learners: Vec::new(),
        },
        version: RecordVersion(epoch),
    })
}

fn fence(claim: Claim) -> Input {
    Input::Ordered(Order::Fence { claim })
}

fn appended(node: u32, epoch: u64, matched: u64, round: u64) -> Input {
    Input::Received {
        from: NodeId(node),
        message: Message::Appended {
            epoch: Epoch(epoch),
            disk: member(node).disk,
            impaired: false,
            matched: Index(matched),
            round: Round(round),
        },
    }
}

/// One replica with what came out of it.
struct Bench {
    replica: Replica,
    now: Time,
    written: WriteId,
    effects: Vec<Effect>,
}

impl Bench {
    fn open(change: impl FnOnce(&mut Recovered)) -> Self {
        let mut recovered = Recovered {
            shard: ShardId(1),
            node: NodeId(1),
            disk: member(1).disk,
            incarnation: Incarnation(7),
            promise: Some(Claim::default()),
            bound: None,
            impaired: false,
            base: Position::default(),
            end: Position::default(),
            epochs: Vec::new(),
            stamp: Stamp(0),
            committed: Index(0),
        };
        change(&mut recovered);
        let config = Config {
            max_append_bytes: 3 * (Entry::OVERHEAD_BYTES + 4),
            max_in_flight_bytes: 6 * (Entry::OVERHEAD_BYTES + 4),
            tail_bytes: 8 * (Entry::OVERHEAD_BYTES + 4),
            max_uncommitted_bytes: 1_000,
            bound_step: 10,
            ..Config::default()
        };
        Self {
            replica: Replica::open(config, recovered, Time(0)),
            now: Time(0),
            written: WriteId(0),
            effects: Vec::new(),
        }
    }

    fn new() -> Self {
        Self::open(|_| {})
    }

    /// A replica that leads epoch 1, its first entry durable on itself only.
    fn leading() -> Self {
        let mut bench = Self::new();
        bench.put(fence(claim(1)));
        bench.sync();
        bench.put(lead(1));
        bench.sync();
        bench
    }

    /// Takes one input; what came out before is forgotten.
    fn put(&mut self, input: Input) {
        let mut effects = Effects::default();
        self.replica.step(self.now, input, &mut effects);
        for effect in &effects.0 {
            if let Act::Persist { id, .. } = &effect.act {
                self.written = *id;
            }
        }
        self.effects = effects.0;
    }

    fn sync(&mut self) {
        self.put(Input::Persisted(self.written));
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.after(crate::Duration::from_millis(millis));
    }

    fn tick(&mut self, nonce: u64) {
        self.put(Input::Elapsed {
            nonce: crate::Nonce(nonce),
        });
    }

    fn propose(&mut self, payloads: usize) {
        self.put(Input::Proposed {
            stamp: Stamp(5),
            payloads: vec![Bytes::from_static(b"abcd"); payloads],
        });
    }

    fn writes(&self) -> Vec<&Write> {
        let mut writes = Vec::new();
        for effect in &self.effects {
            if let Act::Persist { write, .. } = &effect.act {
                writes.push(write);
            }
        }
        writes
    }

    fn sent(&self) -> Vec<(u32, &Message)> {
        let mut sent = Vec::new();
        for effect in &self.effects {
            if let Act::Send { to, message } = &effect.act {
                sent.push((to.0, message));
            }
        }
        sent
    }

    fn reports(&self) -> Vec<&Report> {
        let mut reports = Vec::new();
        for effect in &self.effects {
            if let Act::Report(report) = &effect.act {
                reports.push(report);
            }
        }
        reports
    }

    fn has(&self, act: &Act) -> bool {
        self.effects.iter().any(|effect| effect.act == *act)
    }

    /// `matched` of the only answer that was sent.
    fn matched(&self) -> Option<u64> {
        match self.sent().as_slice() {
            [] => None,
            [(2, Message::Appended { matched, .. })] => Some(matched.0),
            other => panic!("not one answer to the leader: {other:?}"),
        }
    }
}
