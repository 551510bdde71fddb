//! The order of a producer's messages within a queue.
//!
//! Deliveries marked as redelivered are left out, and so are messages whose producer itself sent them out of order. What
//! is left must ascend for each consumer. With competing consumers each sees a part of an ascending sequence, but for
//! what was on its way to another when a leader died: it comes later, and unmarked, since it never arrived. Where a
//! history does not know what was on its way, queues with several consumers are not judged.

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::history::{View, key_of};
use crate::checker::{Rules, Violation};

/// Checks each (queue, consumer, producer) by itself.
pub(crate) fn check(view: &View<'_>, rules: Rules, violations: &mut Vec<Violation>) {
    let rivals = rivals(view);
    let mut last: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for delivery in &view.deliveries {
        let key = key_of(delivery);
        let by_client = view
            .published
            .get(&key)
            .is_some_and(|sent| sent.out_of_order);
        let is_rivals = !rules.judges_rivals && rivals.contains(delivery.queue.as_str());
        if delivery.redelivered || delivery.resent || by_client || is_rivals {
            continue;
        }
        let stream = (
            delivery.queue.as_str(),
            delivery.consumer.as_str(),
            delivery.producer.as_str(),
        );
        match last.get_mut(&stream) {
            Some(number) if *number >= delivery.number => violations.push(Violation::OutOfOrder(
                key,
                delivery.consumer.clone(),
                *number,
            )),
            Some(number) => *number = delivery.number,
            None => {
                last.insert(stream, delivery.number);
            }
        }
    }
}

/// Queues that several consumers read. A consumer that attaches again has another number after a last dot; other dots are
/// of its name, as in that of a queue.
fn rivals<'a>(view: &View<'a>) -> BTreeSet<&'a str> {
    let mut readers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for delivery in &view.deliveries {
        let name = name_of(&delivery.consumer);
        readers.entry(&delivery.queue).or_default().insert(name);
    }
    let readers = readers.into_iter();
    readers
        .filter(|(_, names)| names.len() > 1)
        .map(|(queue, _)| queue)
        .collect()
}

/// The name of a consumer without the number of its attachment.
fn name_of(consumer: &str) -> &str {
    match consumer.rsplit_once('.') {
        Some((name, attachment)) if attachment.parse::<u64>().is_ok() => name,
        Some(_) | None => consumer,
    }
}
