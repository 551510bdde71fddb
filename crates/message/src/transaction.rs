//! Transactions as a batch carries them: their names, and what the commands about them say.
//!
//! ```text
//! head of a batch      prepare   the commands behind it are kept, without effect, until the transaction is finished
//!                      decide    (commit) the commands behind it happen, all or none, and with them what was prepared
//! command of any batch decide    (roll back) the attempt can no longer be committed
//!                      finish    what was prepared happens or is thrown away
//!                      forget    a participant has finished: it is struck from the decision
//! ```

use std::fmt;

use crate::ProducerId;
use crate::limits::ATTEMPT_NONCE_BITS;

/// A transaction: whoever begins it names itself, and numbers its transactions from 1, rising by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId {
    /// Who began it.
    pub origin: ProducerId,
    /// Its number there.
    pub number: u64,
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.origin, self.number)
    }
}

/// One try to commit a transaction. It carries its deadline: behind that stamp no shard prepares or commits it, so that
/// a shard that knows nothing of an attempt whose deadline is over knows that it will never be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(u64);

impl Attempt {
    /// An attempt that ends at this stamp; `nonce` tells attempts of one deadline apart.
    #[must_use]
    pub fn new(deadline_ms: u64, nonce: u64) -> Self {
        let mask = (1 << ATTEMPT_NONCE_BITS) - 1;
        let deadline_ms = deadline_ms.min(u64::MAX >> ATTEMPT_NONCE_BITS);
        Self(deadline_ms << ATTEMPT_NONCE_BITS | nonce & mask)
    }

    /// The stamp behind which it is neither prepared nor committed.
    #[must_use]
    pub fn deadline_ms(self) -> u64 {
        self.0 >> ATTEMPT_NONCE_BITS
    }

    /// The attempt as the number that is stored and sent.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }

    /// The attempt that this number names.
    #[must_use]
    pub fn from_value(value: u64) -> Self {
        Self(value)
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// All of it happens.
    Commit,
    /// Nothing of it happens.
    Rollback,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_carries_its_deadline() {
        let attempt = Attempt::new(1_764_160_000_123, u64::MAX);
        assert_eq!(attempt.deadline_ms(), 1_764_160_000_123);
        assert_eq!(Attempt::from_value(attempt.value()), attempt);
        assert_ne!(attempt, Attempt::new(1_764_160_000_123, 1));
        assert!(attempt < Attempt::new(1_764_160_000_124, 0));
    }
}
