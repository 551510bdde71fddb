//! One replica with its disk: what is durable, what is written and not durable, what waits for it.

use quorate_replication::{
    Act, Claim, Config, DiskId, Entry, Epoch, Incarnation, Index, Member, NodeId, Position,
    Recovered, Replica, ShardId, Stamp, Time, Write, WriteId,
};

use super::Bug;

/// What is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Image {
    pub(super) promise: Claim,
    /// The promise before it, for the bug that goes back to it.
    former_promise: Claim,
    bound: Position,
    is_impaired: bool,
    pub(super) entries: Vec<Entry>,
}

impl Image {
    pub(super) fn carry_out(&mut self, write: &Write) {
        match write {
            Write::Append(entries) => {
                for entry in entries {
                    let length = self.entries.len() as u64;
                    assert_eq!(
                        entry.index.0,
                        length + 1,
                        "an append follows the end of the log"
                    );
                    self.entries.push(entry.clone());
                }
            }
            Write::Cut { after } => {
                let length = usize::try_from(after.0).expect("a small log");
                self.entries.truncate(length);
            }
            Write::Promise(claim) => {
                self.former_promise = std::mem::replace(&mut self.promise, *claim);
            }
            Write::Bound(position) => self.bound = *position,
            Write::Impaired(is_impaired) => self.is_impaired = *is_impaired,
        }
    }

    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        let at = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.entries.get(at)
    }

    fn end(&self) -> Position {
        self.entries.last().map(Entry::position).unwrap_or_default()
    }

    fn epochs(&self) -> Vec<(Epoch, Index)> {
        let mut epochs: Vec<(Epoch, Index)> = Vec::new();
        for entry in &self.entries {
            if epochs.last().is_none_or(|(epoch, _)| *epoch != entry.epoch) {
                epochs.push((entry.epoch, entry.index));
            }
        }
        epochs
    }
}

/// One replica and what lies between it and its disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) member: Member,
    pub(super) replica: Replica,
    pub(super) durable: Image,
    pub(super) pending: Vec<(WriteId, Write)>,
    pub(super) held: Vec<(WriteId, Act)>,
    life: u64,
}

impl Slot {
    pub(super) fn new(node: u32) -> Self {
        let member = Member {
            node: NodeId(node),
            disk: DiskId(u64::from(node) + 100),
        };
        let durable = Image::default();
        let replica = open(member, &durable, 1);
        Self {
            member,
            replica,
            durable,
            pending: Vec::new(),
            held: Vec::new(),
            life: 1,
        }
    }

    /// Everything that waits becomes durable; the last write's name.
    pub(super) fn sync(&mut self) -> Option<WriteId> {
        let pending = std::mem::take(&mut self.pending);
        for (_, write) in &pending {
            self.durable.carry_out(write);
        }
        pending.last().map(|(id, _)| *id)
    }

    /// The process dies and starts again; what was not durable is gone.
    pub(super) fn restart(&mut self, bug: Bug) {
        match bug {
            Bug::ForgetsPromise => self.durable.promise = self.durable.former_promise,
            Bug::ShortensLog => {
                self.durable.entries.pop();
            }
            Bug::None
            | Bug::AnswersBeforeDurable
            | Bug::FencesBeforeSync
            | Bug::CountsLowerEpoch => {}
        }
        self.pending.clear();
        self.held.clear();
        self.life += 1;
        self.replica = open(self.member, &self.durable, self.life);
    }

    /// An entry, durable or not.
    pub(super) fn entry(&self, index: Index) -> Option<Entry> {
        let mut image = self.durable.clone();
        for (_, write) in &self.pending {
            image.carry_out(write);
        }
        image.entry(index).cloned()
    }
}

fn open(member: Member, image: &Image, life: u64) -> Replica {
    let last_epoch = image.end().epoch;
    let promise = if image.promise.epoch < last_epoch {
        Claim {
            epoch: last_epoch,
            ..image.promise
        }
    } else {
        image.promise
    };
    let recovered = Recovered {
        shard: ShardId(1),
        node: member.node,
        disk: member.disk,
        incarnation: Incarnation(life),
        promise: Some(promise),
        bound: Some(image.bound),
        impaired: image.is_impaired,
        base: Position::default(),
        end: image.end(),
        epochs: image.epochs(),
        stamp: image.entries.last().map_or(Stamp(0), |entry| entry.stamp),
        committed: Index(0),
    };
    Replica::open(Config::default(), recovered, Time(0))
}
