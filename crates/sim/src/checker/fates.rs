//! A message ends once, at one of the places where it may end: it is never in two, and never in none.
//!
//! What ends a message is that somebody accepts it, alone or in a transaction that happened. A message that may have
//! been dropped for a reason that was asked for (its expiry, a policy, a purge) is excused from having an end.

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::Violation;
use crate::checker::history::{Kept, MessageKey, Outcome, View};

/// Counts the ends of each message.
pub(crate) fn check(view: &View<'_>, violations: &mut Vec<Violation>) {
    let mut in_transactions: BTreeMap<MessageKey, Ends> = BTreeMap::new();
    for transaction in &view.transactions {
        let sends = transaction.sends.iter();
        let happened = sends
            .map(|send| send.key())
            .any(|key| view.delivered.contains_key(&key));
        for accept in &transaction.accepts {
            let ends = in_transactions.entry(accept.key()).or_default();
            match (happened, transaction.outcome) {
                (true, _) | (false, Outcome::Confirmed) => ends.certain += 1,
                (false, Outcome::Unknown) => ends.possible += 1,
                (false, Outcome::Refused) => {}
            }
        }
    }
    for kept in &view.kept {
        let mut ends = Ends::default();
        for place in &kept.places {
            let key = kept.key_at(place);
            let mut accepted = BTreeSet::new();
            for (outcome, position) in view.accepts.get(&key).into_iter().flatten() {
                match outcome {
                    // Two who accept the same stored message are both told that it is done with.
                    Outcome::Confirmed => drop(accepted.insert(*position)),
                    Outcome::Unknown => ends.possible += 1,
                    Outcome::Refused => {}
                }
            }
            ends.certain += accepted.len() as u64;
            if let Some(more) = in_transactions.get(&key) {
                ends.certain += more.certain;
                ends.possible += more.possible;
            }
        }
        judge(kept, ends, violations);
    }
}

/// How often a message came to its end, for certain and beyond that perhaps.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    certain: u64,
    possible: u64,
}

fn judge(kept: &Kept, ends: Ends, violations: &mut Vec<Violation>) {
    let key = kept.key_at(kept.places.first().map_or("", String::as_str));
    if ends.certain > kept.times {
        violations.push(Violation::EndedTwice(key, ends.certain, kept.times));
    } else if kept.outcome == Outcome::Confirmed
        && !kept.excused
        && ends.certain + ends.possible < kept.times
    {
        violations.push(Violation::Vanished(key, kept.times));
    }
}
