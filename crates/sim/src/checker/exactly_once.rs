//! Exactly once into the queue: a producer's number is stored at one position, however often it was sent.

use crate::checker::Violation;
use crate::checker::history::View;

/// Compares the positions of all deliveries of one message. Deliveries without a position say nothing here.
pub(crate) fn check(view: &View<'_>, violations: &mut Vec<Violation>) {
    for (key, deliveries) in &view.delivered {
        let mut positions = deliveries.iter().filter_map(|delivery| delivery.position);
        let Some(first) = positions.next() else {
            continue;
        };
        if let Some(other) = positions.find(|position| *position != first) {
            violations.push(Violation::StoredTwice(key.clone(), first, other));
        }
    }
}
