//! No loss, no invention, no change, no resurrection.

use std::collections::BTreeSet;

use crate::checker::history::{MessageKey, Outcome, View};
use crate::checker::{Rules, Violation};

/// Checks every message for its whole life.
pub(crate) fn check(view: &View<'_>, rules: Rules, violations: &mut Vec<Violation>) {
    losses(view, violations);
    inventions(view, violations);
    resurrections(view, rules, violations);
}

/// Confirmed, in a queue that was drained, and never delivered: lost.
fn losses(view: &View<'_>, violations: &mut Vec<Violation>) {
    for (key, sent) in &view.published {
        let due = sent.outcome == Outcome::Confirmed && view.drained.contains(key.queue.as_str());
        if due && !view.delivered.contains_key(key) {
            violations.push(Violation::Lost(key.clone()));
        }
    }
}

/// Every delivery is of something that was published and not refused, with the same bytes.
fn inventions(view: &View<'_>, violations: &mut Vec<Violation>) {
    for (key, deliveries) in &view.delivered {
        let Some(sent) = view.published.get(key) else {
            violations.push(Violation::Invented(key.clone()));
            continue;
        };
        if sent.outcome == Outcome::Refused {
            violations.push(Violation::Invented(key.clone()));
        }
        if deliveries
            .iter()
            .any(|delivery| delivery.digest != sent.digest)
        {
            violations.push(Violation::Altered(key.clone()));
        }
    }
}

/// No delivery is sent after a settlement for good was confirmed.
fn resurrections(view: &View<'_>, rules: Rules, violations: &mut Vec<Violation>) {
    // Each delivery of a repeated message is a message of its own.
    let several = view.kept.iter().filter(|kept| kept.times > 1);
    let several: BTreeSet<MessageKey> = several
        .flat_map(|kept| kept.places.iter().map(|place| kept.key_at(place)))
        .collect();
    for ((key, copy), settled_us) in &view.settled_us {
        if several.contains(key) {
            continue;
        }
        let deliveries = view.delivered.get(key).into_iter().flatten();
        let deliveries = deliveries.filter(|delivery| delivery.copy == *copy);
        let late = deliveries
            .map(|delivery| delivery.at_us)
            .find(|at_us| *at_us > settled_us.saturating_add(rules.stray_delivery_us));
        if let Some(at_us) = late {
            violations.push(Violation::Resurrected(key.clone(), at_us, *settled_us));
        }
    }
}
