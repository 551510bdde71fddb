//! How a leader brings each follower forward: appends pipelined from memory, reads from the disk behind that, a
//! checkpoint behind the start of the log; and what it makes of the answers.
//!
//! A message that is lost is not missed by a timer of its own: the next heartbeat speaks of the last entry sent, and a
//! follower that does not hold it answers where the logs part.

use super::peer::{Feed, Peer};
use super::{Replica, Role, dropped};
use crate::limits::APPEND_ENTRIES_MAX;
use crate::{
    Act, Claim, Duration, Effects, Entry, Index, Member, Message, NodeId, Position, Report, Round,
    Time,
};

impl Replica {
    /// Sends every peer what it may be sent.
    pub(super) fn feed_all(&mut self, now: Time, effects: &mut Effects) {
        for member in self.peer_members() {
            self.feed(now, member, effects);
        }
    }

    /// Sends a peer entries as long as the bytes on the way allow it.
    pub(super) fn feed(&mut self, now: Time, member: Member, effects: &mut Effects) {
        loop {
            let max_append_bytes = self.config.max_append_bytes;
            let Some(peer) = self.peer(member) else {
                return;
            };
            let (next, feed, in_flight) = (peer.next, peer.feed, peer.in_flight_bytes());
            let may_send = feed == Feed::Streaming && in_flight < self.config.max_in_flight_bytes;
            if !may_send || next > self.tail.end().index {
                return;
            }
            if next <= self.tail.base().index {
                self.set_feed(member, Feed::Installing);
                return effects.now(Act::InstallNeeded { to: member.node });
            }
            if next < self.tail.first() {
                self.set_feed(member, Feed::Loading(next));
                let last = self.tail.first().previous();
                let (to, first, max_bytes) = (member.node, next, max_append_bytes);
                return effects.now(Act::Load {
                    to,
                    first,
                    last,
                    max_bytes,
                });
            }
            let entries = self.gather(next);
            self.send_entries(now, member, entries, effects);
        }
    }

    /// Entries from `next` on that make one append: at least one.
    fn gather(&self, next: Index) -> Vec<Entry> {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let is_first = bytes == 0;
            bytes += entry.cost_bytes();
            is_first || bytes <= self.config.max_append_bytes
        };
        self.tail
            .from(next)
            .take(APPEND_ENTRIES_MAX)
            .take_while(fits)
            .cloned()
            .collect()
    }

    /// Sends consecutive entries of the log; they begin where the peer's next one is.
    pub(super) fn send_entries(
        &mut self,
        now: Time,
        member: Member,
        entries: Vec<Entry>,
        effects: &mut Effects,
    ) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let (before, last) = (first.index.previous(), last.index);
        let bytes = entries.iter().map(Entry::cost_bytes).sum();
        let epoch = self
            .tail
            .epoch_at(before)
            .expect("what precedes a sent entry is in the log");
        let previous = Position {
            epoch,
            index: before,
        };
        self.send_append(now, member, previous, entries, effects);
        if let Some(peer) = self.peer(member) {
            peer.sent(last, bytes);
        }
    }

    pub(super) fn heartbeat_all(&mut self, now: Time, effects: &mut Effects) {
        for member in self.peer_members() {
            let Some(peer) = self.peer(member) else {
                continue;
            };
            let last_sent = peer.next.previous();
            let base = self.tail.base();
            // What lies before the base is not known; a follower that does not hold the base says so.
            let previous = self
                .tail
                .epoch_at(last_sent)
                .map_or(base, |epoch| Position {
                    epoch,
                    index: last_sent,
                });
            self.send_append(now, member, previous, Vec::new(), effects);
        }
    }

    fn send_append(
        &mut self,
        now: Time,
        member: Member,
        previous: Position,
        entries: Vec<Entry>,
        effects: &mut Effects,
    ) {
        let steady = !self.is_disk_stalled(now);
        let (claim, commit, grain) = (
            self.promise,
            self.commit,
            Duration(self.config.heartbeat.0 / 4),
        );
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let steady = steady && leader.holds_lease();
        let Some(peer) = leader.peers.get_mut(&member) else {
            return;
        };
        let round = peer.next_round(now, grain);
        let to = member.node;
        let message = Message::Append {
            claim,
            previous,
            entries,
            commit,
            round,
            steady,
        };
        effects.now(Act::Send { to, message });
    }

    /// An answer of a follower to the leader; also a follower's question.
    pub(super) fn receive_answer(
        &mut self,
        now: Time,
        from: NodeId,
        message: Message,
        effects: &mut Effects,
    ) {
        let Role::Leader(leader) = &self.role else {
            return dropped(effects, "an answer to a replica that does not lead");
        };
        let own = leader.epoch();
        match message {
            Message::Refused { promise, .. } => self.refused(now, promise, effects),
            Message::Appended {
                epoch,
                disk,
                impaired,
                matched,
                round,
            } if epoch == own => {
                let member = Member { node: from, disk };
                self.appended(now, member, matched, impaired, round, effects);
            }
            Message::Parted {
                epoch,
                disk,
                round,
                hint,
            } if epoch == own => {
                self.parted(now, Member { node: from, disk }, hint, round, effects);
            }
            Message::HealAsk { epoch, nonce } if epoch == own => {
                let end = self.tail.end().index;
                self.send(from, Message::HealAnswer { epoch, nonce, end }, effects);
            }
            Message::Appended { .. } | Message::Parted { .. } | Message::HealAsk { .. } => {
                dropped(effects, "an answer of another epoch");
            }
            Message::Append { .. }
            | Message::HealAnswer { .. }
            | Message::InstallChunk { .. }
            | Message::InstallAnswer { .. }
            | Message::HandOver { .. }
            | Message::HandOverTaken { .. } => dropped(effects, "what is no answer"),
        }
    }

    /// (m) Only an unimpaired answer of the member that the record names, in the leader's own epoch, counts.
    fn appended(
        &mut self,
        now: Time,
        member: Member,
        matched: Index,
        impaired: bool,
        round: Round,
        effects: &mut Effects,
    ) {
        let (base, end) = (self.tail.base(), self.tail.end());
        let Some(peer) = self.peer(member) else {
            return dropped(effects, "an answer of a node or disk that is no member");
        };
        if matched > end.index || !peer.reached(round) {
            return dropped(effects, "an answer to what was not sent");
        }
        peer.acknowledged(matched, impaired);
        if peer.feed == Feed::Installing && matched >= base.index {
            peer.set_back(matched.next(), Feed::Streaming);
        }
        self.feed(now, member, effects);
    }

    /// The follower does not hold what the append followed on: it goes on from where the logs can agree.
    fn parted(
        &mut self,
        now: Time,
        member: Member,
        hint: Position,
        round: Round,
        effects: &mut Effects,
    ) {
        let agreement = self.tail.agreement(hint);
        let Some(peer) = self.peer(member) else {
            return dropped(effects, "an answer of a node or disk that is no member");
        };
        if !peer.reached(round) {
            return dropped(effects, "an answer to what was not sent");
        }
        if !peer.is_current(round) {
            // It speaks of what was sent before the last one of its kind was heeded.
            return;
        }
        let Some(agreement) = agreement else {
            peer.set_back(peer.next, Feed::Installing);
            return effects.now(Act::InstallNeeded { to: member.node });
        };
        let next = agreement.index.next();
        // A follower that parts where it says it agrees is not answered in a loop, but by the next heartbeat.
        let is_progress = next != peer.next || peer.feed != Feed::Streaming;
        peer.set_back(next, Feed::Streaming);
        if is_progress {
            self.feed(now, member, effects);
        }
    }

    /// A follower promised more: a half-done fence, which the coordinator is to finish.
    fn refused(&mut self, now: Time, promise: Claim, effects: &mut Effects) {
        let heartbeat = self.config.heartbeat;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let is_more = promise.epoch >= leader.epoch() && promise != leader.claim();
        let is_known = leader
            .outranked
            .is_some_and(|(known, at)| known >= promise && now.since(at) < heartbeat);
        if !is_more {
            return dropped(effects, "a refusal for a lower promise");
        }
        if !is_known {
            leader.outranked = Some((promise, now));
            effects.now(Act::Report(Report::Outranked { promise }));
        }
    }

    fn set_feed(&mut self, member: Member, feed: Feed) {
        if let Some(peer) = self.peer(member) {
            peer.feed = feed;
        }
    }

    fn peer(&mut self, member: Member) -> Option<&mut Peer> {
        match &mut self.role {
            Role::Leader(leader) => leader.peers.get_mut(&member),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    fn peer_members(&self) -> Vec<Member> {
        match &self.role {
            Role::Leader(leader) => leader.peers.keys().copied().collect(),
            Role::Idle | Role::Follower(_) => Vec::new(),
        }
    }
}
