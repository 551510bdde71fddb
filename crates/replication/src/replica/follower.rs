//! Appending what a leader sends, and telling it how far that is durable (replication.md, Appending).

use super::{Replica, Role, dropped};
use crate::{
    Act, Claim, Duration, Effects, Entry, Event, Index, Message, NodeId, Nonce, Position, Round,
    Time, Write,
};

/// What only a follower has. Made anew with every higher promise: nothing of it outlives the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    leader: NodeId,
    /// The greatest previous index + number of entries accepted in this epoch. (m)
    matched: Index,
    /// Greatest round received.
    round: Round,
    /// An append waits for the disk to be answered.
    owes: bool,
    /// When the leader last said that it is steady.
    heard: Option<Time>,
    pub(super) question: Option<Question>,
}

/// An impaired follower's question to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) nonce: Nonce,
    pub(super) asked_at: Time,
    /// Where the leader's log ended when it answered.
    pub(super) end: Option<Index>,
}

impl Follower {
    fn new(leader: NodeId) -> Self {
        Self {
            leader,
            matched: Index(0),
            round: Round(0),
            owes: false,
            heard: None,
            question: None,
        }
    }

    pub(super) fn leader(&self) -> NodeId {
        self.leader
    }

    pub(super) fn hears(&self, now: Time, within: Duration) -> Option<NodeId> {
        let heard = self.heard?;
        (now.since(heard) < within).then_some(self.leader)
    }

    pub(super) fn matched(&self) -> Index {
        self.matched
    }

    pub(super) fn forget_matched(&mut self) {
        self.matched = Index(0);
        self.owes = false;
        self.question = None;
    }
}

/// The parts of an append that are looked at together.
struct Append {
    claim: Claim,
    previous: Position,
    entries: Vec<Entry>,
    commit: Index,
    round: Round,
    steady: bool,
}

impl Append {
    /// The last position that the append speaks of.
    fn last(&self) -> Position {
        self.entries.last().map_or(self.previous, Entry::position)
    }

    /// Whether the entries are consecutive and of epochs that this claim can send.
    fn is_well_formed(&self) -> bool {
        let mut before = self.previous;
        let in_order = self.entries.iter().all(|entry| {
            let follows = entry.index == before.index.next() && entry.epoch >= before.epoch;
            before = entry.position();
            follows
        });
        in_order && self.claim.epoch.0 > 0 && before.epoch <= self.claim.epoch
    }
}

impl Replica {
    pub(super) fn receive_append(
        &mut self,
        now: Time,
        from: NodeId,
        message: Message,
        effects: &mut Effects,
    ) {
        let Message::Append {
            claim,
            previous,
            entries,
            commit,
            round,
            steady,
        } = message
        else {
            unreachable!("only appends are handed on to here")
        };
        let append = Append {
            claim,
            previous,
            entries,
            commit,
            round,
            steady,
        };
        if self.wiped {
            return dropped(effects, "an append to a replica without a promise");
        }
        if !append.is_well_formed() {
            return dropped(effects, "an append that no leader sends");
        }
        let is_other_claim = claim.epoch == self.promise.epoch && claim != self.promise;
        if claim.epoch < self.promise.epoch || is_other_claim {
            let promise = self.promise;
            return self.send(from, Message::Refused { promise, round }, effects);
        }
        if claim.epoch > self.promise.epoch {
            self.promise_to(now, claim, effects);
        }
        match &mut self.role {
            Role::Leader(_) => dropped(effects, "an append of the epoch that this replica leads"),
            Role::Idle => {
                self.role = Role::Follower(Follower::new(from));
                effects.now(Act::Note(Event::Follows(from, claim.epoch)));
                self.follow(now, append, effects);
            }
            Role::Follower(follower) if follower.leader == from => {
                self.follow(now, append, effects)
            }
            Role::Follower(_) => dropped(effects, "an append of another leader of the same claim"),
        }
    }

    /// Takes an append of the leader that it follows.
    fn follow(&mut self, now: Time, append: Append, effects: &mut Effects) {
        let (leader, round) = (self.follower().leader, append.round);
        {
            let follower = self.follower();
            follower.round = follower.round.max(round);
            if append.steady {
                follower.heard = Some(now);
            }
        }
        if !self.tail.holds(append.previous) {
            let hint = self
                .tail
                .agreement(append.previous)
                .unwrap_or_else(|| self.tail.base());
            let (epoch, disk) = (self.promise.epoch, self.me.disk);
            return self.send(
                leader,
                Message::Parted {
                    epoch,
                    disk,
                    round,
                    hint,
                },
                effects,
            );
        }
        let last = append.last();
        let (commit, is_heartbeat) = (append.commit, append.entries.is_empty());
        if !self.take_entries(now, append.entries, effects) {
            return;
        }
        let follower = self.follower();
        follower.matched = follower.matched.max(last.index);
        let matched = follower.matched;
        // (m) Not further than this append vouches for.
        self.commit = self.commit.max(commit.min(last.index));
        let is_durable = self.writes.durable() >= matched;
        if is_heartbeat || is_durable {
            self.follower().owes &= !is_durable;
            self.send_appended(effects);
        } else {
            self.follower().owes = true;
        }
        self.heal(now, effects);
    }

    /// Appends what it does not hold yet; cuts only from the first entry whose epoch differs. (m) False: a committed
    /// entry would have had to go.
    fn take_entries(&mut self, now: Time, mut entries: Vec<Entry>, effects: &mut Effects) -> bool {
        let end = self.tail.end();
        let held = entries
            .iter()
            .take_while(|entry| entry.index <= end.index && self.tail.holds(entry.position()))
            .count();
        let Some(first) = entries.get(held) else {
            return true;
        };
        if first.index <= end.index {
            let (at, after) = (first.index, first.index.previous());
            if at <= self.commit {
                let commit = self.commit;
                effects.now(Act::Note(Event::RefusedCut { commit, at }));
                self.become_impaired(now, effects);
                return false;
            }
            effects.now(Act::Note(Event::Cut { after, end }));
            self.writes.issue(now, Write::Cut { after }, effects);
            self.tail.cut(after);
        }
        let fresh = if held == 0 {
            entries
        } else {
            entries.split_off(held)
        };
        self.write_entries(now, fresh, effects);
        true
    }

    /// Writes entries that follow the end of the log, the bound before them.
    pub(super) fn write_entries(&mut self, now: Time, entries: Vec<Entry>, effects: &mut Effects) {
        let last = entries
            .last()
            .expect("there is something to write")
            .position();
        self.cover(now, last, effects);
        for entry in &entries {
            self.tail.push(entry.clone());
        }
        self.writes.issue(now, Write::Append(entries), effects);
        self.look_ahead(now, effects);
    }

    /// More is durable: the leader is told, if it waits to be.
    pub(super) fn answer_what_is_owed(&mut self, effects: &mut Effects) {
        let durable = self.writes.durable();
        if let Role::Follower(follower) = &mut self.role
            && follower.owes
        {
            follower.owes = durable < follower.matched;
            self.send_appended(effects);
        }
    }

    fn send_appended(&mut self, effects: &mut Effects) {
        let durable = self.writes.durable();
        let (epoch, disk, impaired) = (self.promise.epoch, self.me.disk, self.impaired);
        let Follower {
            leader,
            matched,
            round,
            ..
        } = *self.follower();
        let matched = matched.min(durable);
        let answer = Message::Appended {
            epoch,
            disk,
            impaired,
            matched,
            round,
        };
        self.send(leader, answer, effects);
    }

    fn follower(&mut self) -> &mut Follower {
        match &mut self.role {
            Role::Follower(follower) => follower,
            Role::Idle | Role::Leader(_) => unreachable!("asked of a follower only"),
        }
    }
}
