//! The order of a producer's messages within a queue.
//!
//! Deliveries marked as redelivered are left out, and so are messages whose producer itself sent them out of order. What
//! is left must ascend for each consumer: with competing consumers each sees a part of an ascending sequence.

use std::collections::BTreeMap;

use crate::checker::Violation;
use crate::checker::history::{View, key_of};

/// Checks each (queue, consumer, producer) by itself.
pub(crate) fn check(view: &View<'_>, violations: &mut Vec<Violation>) {
    let mut last: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for delivery in &view.deliveries {
        let key = key_of(delivery);
        let by_client = view
            .published
            .get(&key)
            .is_some_and(|sent| sent.out_of_order);
        if delivery.redelivered || by_client {
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
