//! The identifiers of replication, one type each, so that an index is never taken for an epoch.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number!(
    /// A shard, the unit of replication and leadership. Counted from 1.
    ShardId(u32), "s"
);
number!(
    /// A storage node, by the number that it got when it registered first. Counted from 1.
    NodeId(u32), "n"
);
number!(
    /// The identity of a disk, chosen at random when it was first used.
    DiskId(u64), "d"
);
number!(
    /// A term of leadership of one shard. 0: before the first.
    Epoch(u64), "e"
);
number!(
    /// The place of an entry in a shard's log. The first entry has index 1; 0 is before it.
    Index(u64), "i"
);
number!(
    /// The random number that tells one claim of an epoch from another.
    ClaimId(u64), "c"
);
number!(
    /// Raised at every start of a node, so that an order to an earlier life is not obeyed.
    Incarnation(u64), "b"
);
number!(
    /// Names a write of one replica to its disk. Writes of a shard are carried out in the order of these numbers,
    /// and "`WriteId(n)` is durable" means that all up to `n` are. Starts over at each start of the node.
    WriteId(u64), "w"
);
number!(
    /// Numbers the appends of one leader to one follower, so that an answer tells what it answers.
    Round(u64), "r"
);
number!(
    /// A random number that ties an answer to its question.
    Nonce(u64), "x"
);
number!(
    /// The leader's wall clock on an entry, in milliseconds since 1970. Never goes back within a log.
    Stamp(u64), ""
);
number!(
    /// A moment of a monotonic clock that runs through suspension, in microseconds since an arbitrary start.
    Time(u64), "t"
);
number!(
    /// A span of time in microseconds.
    Duration(u64), ""
);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Index {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one; that of 0 is 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Duration {
    /// A span of so many milliseconds.
    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }
}

impl Time {
    /// The moment that lies `span` after this one.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

/// A voter or learner: a node *and* the disk that made its promises. A node that comes back with another disk is
/// not the member that promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its disk.
    pub disk: DiskId,
}

/// One attempt to give a shard a leader: an epoch and the random number of the attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The epoch that was claimed.
    pub epoch: Epoch,
    /// Tells this claim from another of the same epoch.
    pub id: ClaimId,
}

/// The position of an entry: logs are compared by epoch first, then by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Epoch of the entry.
    pub epoch: Epoch,
    /// Index of the entry.
    pub index: Index,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.id)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.index)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.disk)
    }
}
