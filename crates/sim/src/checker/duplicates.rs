//! A message may come again, but never without the mark that it may have come before.

use crate::checker::Violation;
use crate::checker::history::View;

/// Of the deliveries of one message at most one, the first, is unmarked.
///
/// Two deliveries can be under way at once and arrive in the other order, so it is counted, not compared by time.
pub(crate) fn check(view: &View<'_>, violations: &mut Vec<Violation>) {
    for (key, deliveries) in &view.delivered {
        let unmarked = deliveries.iter().filter(|delivery| !delivery.redelivered);
        if unmarked.count() > 1 {
            violations.push(Violation::Unmarked(key.clone()));
        }
    }
}
