//! Subscriptions that end. One whose topic moves is known to two shards until it is there, and ends in neither before: it is
//! tried again.

use quorate_message::{BatchBuilder, DestinationName, Lifetime, Outcome, Sharing};

use super::{
    core::{Call, Core},
    effect::{Effect, Failure},
    ids::{CallId, ShardId, Time},
    input::OpenConsumer,
    lane::Part,
    shard::Kind,
    subscribing::Admission,
};
use crate::limits::{ENDING_MICROS, ENDING_PAUSE_MICROS, ENDINGS_MAX};

/// For commands whose outcome nobody waits for.
const NOBODY: CallId = CallId(u64::MAX);

/// The end of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    key: DestinationName,
    /// One that was subscribed under a higher generation stays.
    generation: u64,
    /// So does one to exactly this topic.
    unless_of: Option<DestinationName>,
    /// It is given up then.
    until: Time,
}

/// One that is tried again.
#[derive(Debug)]
pub(super) struct Postponed {
    due: Time,
    /// Where; none: everywhere, for a call.
    shard: Option<ShardId>,
    call: CallId,
    ending: Ending,
}

impl Core {
    /// The same durable name may have been another topic's, in another shard: there it ends.
    pub(super) fn end_elsewhere(&mut self, now: Time, open: &OpenConsumer, here: &[ShardId]) {
        let Some(wanted) = &open.subscription else {
            return;
        };
        if wanted.lifetime != Lifetime::Durable || here.len() != 1 {
            return;
        }
        let ending = Ending {
            key: open.queue.name.clone(),
            generation: open.wall_micros,
            // Where its topic comes from, or goes to without this gateway knowing, it is the same one.
            unless_of: wanted.pattern.as_name(),
            until: now.after(ENDING_MICROS),
        };
        for shard in self.all_shards() {
            if !here.contains(&shard) {
                self.end_at(now, shard, NOBODY, &ending);
            }
        }
    }

    /// A live subscription of one consumer ends with it.
    pub(super) fn end_live(&mut self, shard: ShardId, key: &DestinationName, with: &Admission) {
        if let Admission::Subscribe(wanted) = with
            && wanted.lifetime == Lifetime::Live
            && wanted.sharing == Sharing::Exclusive
        {
            let now = self.now;
            let ending = Ending {
                key: key.clone(),
                generation: wanted.generation,
                unless_of: None,
                // Its shard ends it soon if this does not.
                until: now,
            };
            self.end_at(now, shard, NOBODY, &ending);
        }
    }

    /// An operator deletes a subscription, wherever it is.
    pub(super) fn unsubscribe(&mut self, now: Time, call: CallId, key: &DestinationName) {
        let ending = Ending {
            key: key.clone(),
            generation: u64::MAX,
            unless_of: None,
            until: now.after(ENDING_MICROS),
        };
        self.end_everywhere(now, call, &ending);
    }

    fn end_everywhere(&mut self, now: Time, call: CallId, ending: &Ending) {
        let shards = self.all_shards();
        self.calls.insert(
            call,
            Call::Unsubscribing {
                left: shards.len(),
                removed: None,
                is_moving: false,
            },
        );
        for shard in shards {
            self.end_at(now, shard, call, ending);
        }
    }

    fn end_at(&mut self, now: Time, shard: ShardId, call: CallId, ending: &Ending) {
        if let Some(state) = self.shards.get_mut(&shard) {
            let (lane, numbers) = state.lane(Kind::Settle);
            let part = Part::Unsubscribe {
                call,
                ending: Box::new(ending.clone()),
            };
            let Ending {
                key, generation, ..
            } = ending;
            let end = |b: &mut BatchBuilder| match &ending.unless_of {
                Some(topic) => b.unsubscribe_unless_of(key, *generation, topic),
                None => b.unsubscribe(key, *generation),
            };
            lane.single(now, numbers, part, end)
                .expect("an end of a subscription fits an empty batch");
        }
    }

    /// A shard has ended a subscription, or has none, or it is on its way.
    pub(super) fn unsubscribed(
        &mut self,
        (call, asked): (CallId, ShardId),
        ending: &Ending,
        (outcome, count): (Option<Outcome>, u64),
        effects: &mut Vec<Effect>,
    ) {
        let waits = outcome == Some(Outcome::Moved);
        if call == NOBODY {
            if waits {
                self.postpone_end(Some(asked), call, ending);
            }
            return;
        }
        let Some(Call::Unsubscribing {
            left,
            removed,
            is_moving,
        }) = self.calls.get_mut(&call)
        else {
            return;
        };
        *left -= 1;
        *is_moving |= waits;
        if outcome == Some(Outcome::Applied) {
            *removed = Some(removed.unwrap_or(0) + count);
        }
        if *left > 0 {
            return;
        }
        let removed = *removed;
        if removed.is_none() && *is_moving {
            if !self.postpone_end(None, call, ending) {
                let (shard, outcome) = (asked, Outcome::Moved);
                self.fail(call, Failure::Refused { shard, outcome }, effects);
            }
            return;
        }
        self.calls.insert(call, Call::Over);
        effects.push(Effect::Unsubscribed { call, removed });
    }

    /// Tries again in a while. False: it was tried for long enough, or too many wait.
    fn postpone_end(&mut self, shard: Option<ShardId>, call: CallId, ending: &Ending) -> bool {
        let due = self.now.after(ENDING_PAUSE_MICROS);
        if due > ending.until || self.endings.len() >= ENDINGS_MAX {
            return false;
        }
        self.endings.push(Postponed {
            due,
            shard,
            call,
            ending: ending.clone(),
        });
        true
    }

    pub(super) fn endings_deadline(&self) -> Option<Time> {
        self.endings.iter().map(|postponed| postponed.due).min()
    }

    pub(super) fn elapsed_for_endings(&mut self, now: Time) {
        let due: Vec<Postponed> = self
            .endings
            .extract_if(.., |postponed| postponed.due <= now)
            .collect();
        for Postponed {
            shard,
            call,
            ending,
            ..
        } in due
        {
            let is_wanted = matches!(self.calls.get(&call), Some(Call::Unsubscribing { .. }));
            match shard {
                Some(shard) => self.end_at(now, shard, call, &ending),
                None if is_wanted => self.end_everywhere(now, call, &ending),
                // Whoever asked is gone.
                None => {}
            }
        }
    }
}
