//! Purges and deletions of queues that an operator asked for, and what they excuse.

use super::{Client, Role};
use crate::cluster::Cluster;
use crate::cluster::content::Named;
use crate::schedule::Moment;

/// A purge that was asked for.
#[derive(Debug)]
pub(in crate::cluster) struct Purge {
    pub(in crate::cluster) queue: &'static str,
    /// The queue goes as well, and with it what was known of its producers' numbers.
    pub(in crate::cluster) is_deletion: bool,
    pub(in crate::cluster) asked_us: Moment,
    /// When it was answered.
    pub(in crate::cluster) done_us: Option<Moment>,
}

impl Purge {
    /// Whether a message that was sent then may have gone with it.
    pub(in crate::cluster) fn may_remove(&self, queue: &str, invoked_us: Moment) -> bool {
        self.queue == queue && self.done_us.is_none_or(|done| invoked_us <= done)
    }

    /// Whether a message may be stored once more behind it: it was sent before and not confirmed, so that it may be repeated
    /// (docs/queues.md, Deletion).
    pub(in crate::cluster) fn may_forget(
        &self,
        queue: &str,
        (invoked_us, confirmed_us): (Moment, Option<Moment>),
    ) -> bool {
        let is_open = confirmed_us.is_none_or(|at| self.asked_us <= at);
        self.is_deletion && is_open && self.may_remove(queue, invoked_us)
    }
}

impl Cluster {
    /// Whether a message may be stored once more, since its queue was deleted before it was confirmed.
    pub(super) fn may_be_forgotten(&self, message: &Named) -> bool {
        if !self.purges.iter().any(|purge| purge.is_deletion) {
            return false;
        }
        let (producer, number) = (&message.producer, message.number);
        let mut ended = self.ended.iter();
        let ended = ended.find(|one| one.producer == *producer && one.number == number);
        let ended = ended.map(|one| (one.sent.invoked_us, Some(one.done_us)));
        let invoked_us = |client: &Client| match &client.role {
            Role::Producer(one) => one.invoked_us(producer, number),
            Role::Consumer(_) | Role::Operator(_) => None,
        };
        let open = || Some((self.clients.iter().find_map(invoked_us)?, None));
        ended.or_else(open).is_some_and(|times| {
            let mut purges = self.purges.iter();
            purges.any(|purge| purge.may_forget(&message.origin, times))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_confirmed_when_its_queue_was_deleted_is_excused() {
        let purge = |is_deletion, done_us| Purge {
            queue: "ops",
            is_deletion,
            asked_us: 100,
            done_us,
        };
        let deletion = purge(true, Some(200));
        assert!(deletion.may_forget("ops", (50, None)));
        assert!(deletion.may_forget("ops", (50, Some(150))));
        assert!(deletion.may_forget("ops", (150, Some(300))));
        // Confirmed before, sent after, of another queue, or only emptied.
        assert!(!deletion.may_forget("ops", (50, Some(90))));
        assert!(!deletion.may_forget("ops", (201, None)));
        assert!(!deletion.may_forget("queue.0", (50, None)));
        assert!(!purge(false, Some(200)).may_forget("ops", (50, None)));
        // It may take effect at any time.
        assert!(purge(true, None).may_forget("ops", (900, None)));
    }
}
