//! A transaction happens as a whole or not at all.

use crate::checker::Violation;
use crate::checker::history::View;

/// Of the messages that a transaction sends to queues that were drained, all or none came.
pub(crate) fn check(view: &View<'_>, violations: &mut Vec<Violation>) {
    for transaction in &view.transactions {
        let sends = transaction.sends.iter().map(|send| send.key());
        let (came, missing): (Vec<_>, Vec<_>) = sends
            .filter(|key| view.drained.contains(key.queue.as_str()))
            .partition(|key| view.delivered.contains_key(key));
        if let (Some(_), Some(missing)) = (came.first(), missing.into_iter().next()) {
            violations.push(Violation::Torn(transaction.name.clone(), missing));
        }
    }
}
