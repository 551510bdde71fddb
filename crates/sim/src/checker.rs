//! Judges what clients saw: a pure function of a history, the same for simulated and for real runs.
//!
//! Nothing here knows of a broker. The rules are set arithmetic over the records of [`history`]; an outcome that the client
//! could not learn is `Unknown` and is never taken for a failure.

pub mod duplicates;
pub mod durability;
pub mod exactly_once;
pub mod fates;
pub mod history;
pub mod ordering;
pub mod transactions;

#[cfg(test)]
mod mutants;

use std::fmt;

use crate::checker::history::{History, MessageKey};

/// How far a history may deviate for reasons that are no fault of the broker.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A delivery that was under way when its message was settled by somebody else may arrive this much later, in
    /// microseconds. Zero where the history knows when deliveries were sent.
    pub stray_delivery_us: u64,
    /// The history says which deliveries had been sent before and did not arrive, so that order can be judged among
    /// several consumers of one queue.
    pub judges_rivals: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            stray_delivery_us: 2_000_000,
            judges_rivals: false,
        }
    }
}

/// The judgement of one history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was violated; empty when all is well.
    pub violations: Vec<Violation>,
    /// What the judgement rests on.
    pub counts: Counts,
}

impl Verdict {
    /// Whether nothing was violated.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} violations in {:?}",
            self.violations.len(),
            self.counts
        )?;
        for violation in self.violations.iter().take(20) {
            writeln!(f, "  {violation}")?;
        }
        Ok(())
    }
}

/// How much was judged: a clean verdict over nothing says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that a producer tried to publish.
    pub published: u64,
    /// Those confirmed.
    pub confirmed: u64,
    /// Those of unknown outcome.
    pub unknown: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Deliveries of a message that had been delivered before.
    pub repeated: u64,
    /// Messages whose settlement was confirmed.
    pub settled: u64,
    /// Unknown ones that turned out to be stored.
    pub recovered: u64,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A confirmed message was in a drained queue and never came.
    #[error("lost: {0} was confirmed and never delivered although its queue was drained")]
    Lost(MessageKey),
    /// A delivery of what nobody published, or of what was refused for good.
    #[error("invented: {0} was delivered and never published, or was refused")]
    Invented(MessageKey),
    /// The bytes differ from those that were published.
    #[error("altered: {0} was delivered with other bytes than were published")]
    Altered(MessageKey),
    /// A delivery was sent after the message had been settled for good.
    #[error(
        "resurrected: {0} was delivered at {1} us, after its settlement was confirmed at {2} us"
    )]
    Resurrected(MessageKey, u64, u64),
    /// A consumer saw a later message of a producer before an earlier one.
    #[error("out of order: {0} came to {1} after number {2} of the same producer")]
    OutOfOrder(MessageKey, String, u64),
    /// A message came again without the mark that it may have come before.
    #[error("duplicate: {0} was delivered again and not marked as redelivered")]
    Unmarked(MessageKey),
    /// One message of a producer was stored twice.
    #[error("stored twice: {0} was delivered from positions {1} and {2}")]
    StoredTwice(MessageKey, u64, u64),
    /// A message was accepted more often than it exists.
    #[error("ended twice: {0} was accepted {1} times and existed {2} times")]
    EndedTwice(MessageKey, u64, u64),
    /// A confirmed message came to no end at any place where it may.
    #[error(
        "vanished: {0} was confirmed and was not accepted {1} times at any place where it may be"
    )]
    Vanished(MessageKey, u64),
    /// A part of a transaction happened.
    #[error("torn: of transaction {0} a part came, and {1} did not")]
    Torn(String, MessageKey),
}

/// Judges a history by every rule.
#[must_use]
pub fn judge(history: &History, rules: Rules) -> Verdict {
    let view = history::View::new(history);
    let mut violations = Vec::new();
    durability::check(&view, rules, &mut violations);
    exactly_once::check(&view, &mut violations);
    fates::check(&view, &mut violations);
    transactions::check(&view, &mut violations);
    duplicates::check(&view, &mut violations);
    ordering::check(&view, rules, &mut violations);
    Verdict {
        violations,
        counts: view.counts(),
    }
}
