//! The account of every message that was sent, for the checkers, when a run is over.

use quorate_message::DestinationKind;

use crate::checker::history::{Drained, Kept, Outcome, Publish, Record};
use crate::cluster::Cluster;
use crate::cluster::client::{Commit, Ended, place_at};
use crate::cluster::content::digest_of;
use crate::cluster::scene::elsewhere;
use crate::schedule::Moment;

/// Copies that an operator makes of one message at most.
const COPIES_MAX: u64 = 1_000;
/// Nobody is told sooner of a commit that is not visible everywhere: a second, by a clock that drifts.
const VISIBLE_US: u64 = 990_000;

impl Cluster {
    /// Writes down what became of every message that was sent, and which places are empty.
    pub(super) fn account(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        for one in &mut ended {
            self.look_at_visibility(one);
        }
        let mut records = Vec::new();
        for one in &ended {
            let destination = &one.sent.publication.destination;
            if destination.kind == DestinationKind::Queue {
                self.account_queue(one, destination.name.as_str(), &mut records);
            }
            self.account_topics(one, &mut records);
        }
        if self.is_done {
            let mut drained: Vec<Record> = Vec::new();
            for record in &records {
                if let Record::Publish(publish) = record {
                    let queue = publish.queue.clone();
                    drained.push(Record::Drained(Drained { queue }));
                }
            }
            records.extend(drained);
        }
        self.history.records.extend(records);
    }

    /// What a later transaction of a client sends may overtake what is not visible yet.
    fn look_at_visibility(&mut self, one: &mut Ended) {
        let (Some(commit), Outcome::Confirmed) = (one.transaction, one.outcome) else {
            return;
        };
        let prepared = self.watched.prepared.get(&commit.id).copied();
        match Visibility::of(commit, one.done_us, prepared) {
            Visibility::Everywhere => {}
            Visibility::Later => one.sent.out_of_order = true,
            Visibility::ToldEarly => self.fail(format!(
                "told early: {} was committed and not visible everywhere",
                commit.id
            )),
        }
    }

    fn account_queue(&self, one: &Ended, queue: &str, records: &mut Vec<Record>) {
        let publication = &one.sent.publication;
        let place = place_at(&one.sent.origin, queue);
        let is_kept = !publication.non_persistent;
        // A message of a plain queue comes there before anywhere else; of others it may go elsewhere at once.
        let is_plain =
            queue.starts_with("queue.") || queue.starts_with("outbox.") || queue == "inbox";
        let softened = match one.outcome {
            Outcome::Confirmed => Outcome::Unknown,
            Outcome::Unknown | Outcome::Refused => one.outcome,
        };
        let outcome = if is_plain { one.outcome } else { softened };
        records.push(publish(one, place.clone(), outcome));
        let mut places = vec![place];
        for other in elsewhere(queue) {
            let place = place_at(&one.sent.origin, other);
            records.push(publish(one, place.clone(), softened));
            places.push(place);
        }
        if queue == "ops" {
            let copies = place_at(&one.sent.origin, "ops.copies");
            records.push(publish(one, copies.clone(), softened));
            records.push(Record::Kept(Kept {
                producer: one.producer.clone(),
                number: one.number,
                places: vec![copies],
                times: COPIES_MAX,
                outcome: softened,
                excused: true,
            }));
        }
        if is_kept {
            let schedule = publication.schedule.as_ref();
            records.push(Record::Kept(Kept {
                producer: one.producer.clone(),
                number: one.number,
                places,
                times: schedule.map_or(1, |schedule| u64::from(schedule.repeat) + 1)
                    + self.may_be_stored_again(one, queue),
                outcome: one.outcome,
                excused: self.is_excused(one, queue) || !self.is_done,
            }));
        }
    }

    /// How often a message may have been stored once more, its queue having been deleted before it was confirmed.
    fn may_be_stored_again(&self, one: &Ended, queue: &str) -> u64 {
        let confirmed_us = (one.outcome == Outcome::Confirmed).then_some(one.done_us);
        let times = (one.sent.invoked_us, confirmed_us);
        let purges = self.purges.iter();
        purges
            .filter(|purge| purge.may_forget(queue, times))
            .count() as u64
    }

    /// Whether a message may have been dropped for a reason that was asked for.
    fn is_excused(&self, one: &Ended, queue: &str) -> bool {
        let expires_at_ms = one.sent.publication.expires_at_ms;
        match queue {
            "timed" => {
                let is_over = expires_at_ms > 0 && self.judge.newest_stamp() >= expires_at_ms;
                is_over && self.scenes.drops_expired
            }
            "fail" => {
                let key = (one.producer.clone(), one.number);
                self.scenes.drops_rejected && self.rejected.contains(&key)
            }
            "full" => self.is_dropping,
            _ => {
                let mut purges = self.purges.iter();
                purges.any(|purge| purge.may_remove(queue, one.sent.invoked_us))
            }
        }
    }

    /// What each subscription is to get of it.
    fn account_topics(&self, one: &Ended, records: &mut Vec<Record>) {
        let publication = &one.sent.publication;
        let all = std::iter::once(&publication.destination).chain(&publication.also);
        let topics: Vec<_> = all
            .filter(|one| one.kind == DestinationKind::Topic)
            .collect();
        for (at, subscriber) in self.subscribers.iter().enumerate() {
            if !topics
                .iter()
                .any(|topic| subscriber.pattern.matches(&topic.name))
            {
                continue;
            }
            let was_open = one.sent.subscribed.contains(&(at, subscriber.times_made));
            let outcome = match one.outcome {
                Outcome::Confirmed if was_open => Outcome::Confirmed,
                Outcome::Confirmed | Outcome::Unknown => Outcome::Unknown,
                Outcome::Refused => Outcome::Refused,
            };
            let place = format!("{}@{}", one.sent.origin, subscriber.name);
            records.push(publish(one, place.clone(), outcome));
            records.push(Record::Kept(Kept {
                producer: one.producer.clone(),
                number: one.number,
                places: vec![place],
                times: 1,
                outcome,
                excused: !self.is_done,
            }));
        }
    }
}

/// Where the messages of a transaction could be seen when its client was told that it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visibility {
    Everywhere,
    /// A shard had no leader for a second, and shows them as soon as it has one.
    Later,
    /// Not everywhere, and the client was told without waiting for it.
    ToldEarly,
}

impl Visibility {
    /// `prepared`: when a leader had it prepared last.
    fn of(commit: Commit, told_us: Moment, prepared: Option<Moment>) -> Self {
        // Of several tries one may be prepared that is not the one that was committed.
        let has_waited = commit.tries > 1 || commit.begun_at + VISIBLE_US <= told_us;
        match prepared.is_some_and(|at| told_us < at) {
            false => Self::Everywhere,
            true if has_waited => Self::Later,
            true => Self::ToldEarly,
        }
    }
}

fn publish(one: &Ended, queue: String, outcome: Outcome) -> Record {
    Record::Publish(Publish {
        queue,
        producer: one.producer.clone(),
        number: one.number,
        digest: digest_of(&one.sent.publication.message),
        invoked_us: one.sent.invoked_us,
        done_us: one.done_us,
        outcome,
        out_of_order: one.sent.out_of_order,
    })
}

#[cfg(test)]
mod tests {
    use quorate_message::{ProducerId, TransactionId};

    use super::*;

    #[test]
    fn a_client_told_of_what_is_not_visible_without_a_second_of_waiting_is_caught() {
        let commit = |tries| Commit {
            id: TransactionId {
                origin: ProducerId([1; 16]),
                number: 1,
            },
            begun_at: 5_000_000,
            tries,
        };
        let seen = |told_us, prepared| Visibility::of(commit(1), told_us, prepared);
        assert_eq!(seen(5_100_000, None), Visibility::Everywhere);
        assert_eq!(seen(5_100_000, Some(5_090_000)), Visibility::Everywhere);
        assert_eq!(seen(5_100_000, Some(5_110_000)), Visibility::ToldEarly);
        assert_eq!(seen(6_000_000, Some(6_010_000)), Visibility::Later);
        let again = Visibility::of(commit(2), 5_100_000, Some(5_110_000));
        assert_eq!(again, Visibility::Later);
    }
}
