//! Judges who gets the messages of a group, or of a queue of exclusive consumers: one consumer, until it leaves.

use std::collections::BTreeMap;

use quorate_message::GatewayId;
use quorate_replication::ShardId;

use crate::cluster::handover::Handover;
use crate::schedule::Moment;

/// What has an owner: a group of a queue, or a queue as a whole.
pub(super) type Owned = (String, Option<String>);

/// A message of it came to a client.
#[derive(Clone, Debug)]
pub(super) struct Took {
    pub(super) client: usize,
    /// The attachment of the consumer.
    pub(super) consumer: String,
    pub(super) gateway: GatewayId,
    pub(super) shard: ShardId,
    /// When the leader sent it.
    pub(super) sent_us: Moment,
}

/// Who got a message last, of each group and exclusive queue.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owners: BTreeMap<Owned, Took>,
}

impl Owners {
    /// A message came to a client. Returns what must not be: that it came while the owner before was there, its gateway
    /// was not given up, and, of an exclusive queue, had a message in hand.
    pub(super) fn took(
        &mut self,
        owned: Owned,
        took: Took,
        handover: &Handover,
        holds: impl Fn(usize) -> bool,
    ) -> Option<String> {
        let before = self.owners.get(&owned);
        if before.is_some_and(|before| before.sent_us > took.sent_us) {
            return None;
        }
        let other = before.filter(|before| {
            let between = (before.sent_us, took.sent_us);
            before.client != took.client
                && !handover.has_ended(&before.consumer)
                && !handover.was_given_up((before.gateway, before.shard), between.0, between.1)
                && (owned.1.is_some() || holds(before.client))
        });
        let wrong = other.map(|before| {
            let (queue, group) = &owned;
            let group = group.as_deref().unwrap_or("all");
            format!(
                "two owners: {} got a message of {group} of {queue}, which {} owns",
                took.consumer, before.consumer
            )
        });
        self.owners.insert(owned, took);
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(client: usize, sent_us: Moment) -> Took {
        Took {
            client,
            consumer: format!("c{client}.1"),
            gateway: GatewayId([1; 16]),
            shard: ShardId(1),
            sent_us,
        }
    }

    fn second(group: Option<&str>, handover: &Handover, is_busy: bool) -> Option<String> {
        let owned = ("orders".to_owned(), group.map(str::to_owned));
        let mut owners = Owners::default();
        assert_eq!(
            owners.took(owned.clone(), took(0, 1), handover, |_| true),
            None
        );
        assert_eq!(
            owners.took(owned.clone(), took(0, 2), handover, |_| true),
            None
        );
        owners.took(owned, took(1, 3), handover, |_| is_busy)
    }

    #[test]
    fn a_second_owner_of_a_group_is_caught() {
        assert!(second(Some("g"), &Handover::default(), false).is_some());
    }

    #[test]
    fn two_active_consumers_of_an_exclusive_queue_are_caught() {
        assert!(second(None, &Handover::default(), true).is_some());
        assert_eq!(second(None, &Handover::default(), false), None);
    }

    #[test]
    fn it_may_be_another_when_the_owner_is_gone() {
        let mut handover = Handover::default();
        handover.ended("c0.1".to_owned());
        assert_eq!(second(Some("g"), &handover, true), None);
    }
}
