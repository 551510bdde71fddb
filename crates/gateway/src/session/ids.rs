//! The identifiers of the session machine, one type each.

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
    /// A shard, as the topology numbers it.
    ShardId(u32), "s"
);
number!(
    /// A storage node, as the topology numbers it.
    NodeId(u32), "n"
);
number!(
    /// A term of leadership of one shard.
    Epoch(u64), "e"
);
number!(
    /// One call of one client. Chosen by the shell, never used again.
    CallId(u64), "call"
);
number!(
    /// One pair of streams to a storage node: the session number of its `SessionHello`. Never used again.
    LinkId(u64), "l"
);
number!(
    /// Names a batch to the leader and in its answer. Rises per shard, over all links.
    BatchNumber(u64), "b"
);
number!(
    /// Rises with each attachment of a consumer; the leader keeps the highest.
    Generation(u64), "g"
);
number!(
    /// A moment of a monotonic clock, in microseconds since an arbitrary start.
    Time(u64), "t"
);

impl Time {
    /// The moment `micros` microseconds after this one.
    #[must_use]
    pub fn after(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this moment; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
