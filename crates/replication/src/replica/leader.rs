//! Leading: appending, sending, committing, and knowing whether it still may deliver (replication.md, Committing,
//! Zombies).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::peer::{Feed, Peer};
use super::status::PeerStatus;
use super::{Replica, Role, dropped};
use crate::{
    Act, Claim, Config, Effects, Entry, EntryKind, Epoch, Event, Index, Member, RecordVersion,
    Report, ShardRecord, Stamp, Time, quorum,
};

/// What only a leader has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    record: ShardRecord,
    version: RecordVersion,
    /// Index of its `NewEpoch` entry.
    first: Index,
    serving: bool,
    pub(super) peers: BTreeMap<Member, Peer>,
    uncommitted_bytes: usize,
    next_heartbeat: Time,
    /// A commit quorum answered something that was sent less than `node_timeout` before this.
    lease_until: Time,
    lease_held: bool,
    /// Not before this is a lost quorum or a stalled disk reported, again.
    complains_at: Time,
    /// The refusal that was reported last, and when.
    pub(super) outranked: Option<(Claim, Time)>,
}

impl Leader {
    pub(super) fn new(
        now: Time,
        config: &Config,
        me: Member,
        record: ShardRecord,
        version: RecordVersion,
        first: Index,
        uncommitted_bytes: usize,
    ) -> Self {
        let others = record
            .members()
            .into_iter()
            .filter(|member| member.node != me.node);
        let peers = others
            .map(|member| (member, Peer::new(member, record.is_voter(member), first)))
            .collect();
        Self {
            record,
            version,
            first,
            serving: false,
            peers,
            uncommitted_bytes,
            next_heartbeat: now.after(config.heartbeat),
            lease_until: now.after(config.node_timeout),
            lease_held: false,
            complains_at: now.after(config.node_timeout),
            outranked: None,
        }
    }

    pub(super) fn claim(&self) -> Claim {
        self.record.claim
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.record.claim.epoch
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serving
    }

    pub(super) fn holds_lease(&self) -> bool {
        self.lease_held
    }

    pub(super) fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    pub(super) fn record(&self) -> (&ShardRecord, RecordVersion) {
        (&self.record, self.version)
    }

    pub(super) fn statuses(&self) -> impl Iterator<Item = PeerStatus> + '_ {
        self.peers.values().map(Peer::status)
    }

    pub(super) fn next_deadline(&self, config: &Config, waiting_since: Option<Time>) -> Time {
        let stalled_at = waiting_since.map(|since| since.after(config.node_timeout));
        let trouble = stalled_at.map_or(self.lease_until, |stalled| stalled.min(self.lease_until));
        let lapse = if self.lease_held {
            self.lease_until
        } else {
            Time(u64::MAX)
        };
        self.next_heartbeat
            .min(lapse)
            .min(trouble.max(self.complains_at))
    }
}

impl Replica {
    pub(super) fn propose(
        &mut self,
        now: Time,
        stamp: Stamp,
        payloads: Vec<Bytes>,
        effects: &mut Effects,
    ) {
        let Role::Leader(leader) = &self.role else {
            return dropped(effects, "a proposal to a replica that does not lead");
        };
        if payloads.is_empty() {
            return dropped(effects, "a proposal of nothing");
        }
        let (epoch, stamp) = (leader.epoch(), stamp.max(self.tail.stamp()));
        let mut index = self.tail.end().index;
        let entries = payloads
            .into_iter()
            .map(|payload| {
                index = index.next();
                Entry {
                    epoch,
                    index,
                    stamp,
                    kind: EntryKind::Commands,
                    payload,
                }
            })
            .collect();
        self.append(now, entries, effects);
    }

    /// Writes entries of its own and sends them at the same moment.
    pub(super) fn append(&mut self, now: Time, entries: Vec<Entry>, effects: &mut Effects) {
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted_bytes += entries.iter().map(Entry::cost_bytes).sum::<usize>();
        }
        self.write_entries(now, entries, effects);
        self.feed_all(now, effects);
    }

    /// Moves the commit index to what a commit quorum holds durably, if that is of its own epoch. (m) Its own copy
    /// counts like any other, only once durable; the bound that covers it is written before it.
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let (me, durable) = (self.me, self.writes.durable());
        let held = quorum::held_by_quorum(&leader.record, |member| {
            if member == me {
                return durable;
            }
            leader
                .peers
                .get(&member)
                .map_or(Index(0), |peer| peer.matched)
        });
        if held > self.commit && self.tail.epoch_at(held) == Some(leader.epoch()) {
            let committed = self.tail.from(self.commit.next());
            let bytes: usize = committed
                .take_while(|entry| entry.index <= held)
                .map(Entry::cost_bytes)
                .sum();
            leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_sub(bytes);
            self.commit = held;
        }
    }

    /// Serves from the moment at which its first entry is committed.
    pub(super) fn begin_to_serve(&mut self, effects: &mut Effects) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if leader.serving || self.commit < leader.first {
            return;
        }
        leader.serving = true;
        let (epoch, at) = (leader.epoch(), leader.first);
        effects.now(Act::Serving { epoch, at });
        effects.now(Act::Report(Report::Leading {
            epoch,
            serving: true,
        }));
        effects.now(Act::Note(Event::Serves(epoch)));
    }

    /// The lease is lost by the clock alone.
    pub(super) fn lapse_lease(&mut self, now: Time, effects: &mut Effects) {
        if let Role::Leader(leader) = &mut self.role
            && leader.lease_held
            && now >= leader.lease_until
        {
            leader.lease_held = false;
            effects.now(Act::Lease { held: false });
        }
    }

    /// The lease reaches as far as the newest moment at which something was sent that a commit quorum answered.
    pub(super) fn renew_lease(&mut self, now: Time, effects: &mut Effects) {
        let (me, timeout) = (self.me, self.config.node_timeout);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let contact = quorum::reached_by_quorum(&leader.record, |member| {
            if member == me {
                return Some(now);
            }
            leader.peers.get(&member).and_then(|peer| peer.contact)
        });
        let Some(contact) = contact else {
            return;
        };
        leader.lease_until = leader.lease_until.max(contact.after(timeout));
        if !leader.lease_held && now.since(contact) < timeout {
            leader.lease_held = true;
            effects.now(Act::Lease { held: true });
        }
    }

    /// Heartbeats, and the complaints of a leader that cannot do its work.
    pub(super) fn keep_time(&mut self, now: Time, effects: &mut Effects) {
        let is_stalled = self.is_disk_stalled(now);
        let (heartbeat, timeout) = (self.config.heartbeat, self.config.node_timeout);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let is_troubled = is_stalled || now >= leader.lease_until;
        if is_troubled && now >= leader.complains_at {
            leader.complains_at = now.after(timeout);
            let epoch = leader.epoch();
            effects.now(Act::Report(Report::LostQuorum { epoch }));
        }
        if now >= leader.next_heartbeat {
            leader.next_heartbeat = now.after(heartbeat);
            note_presence(leader, now, &self.config, effects);
            self.heartbeat_all(now, effects);
        }
    }

    /// Entries that were read for a peer.
    pub(super) fn loaded(
        &mut self,
        now: Time,
        to: crate::NodeId,
        first: Index,
        entries: Vec<Entry>,
        effects: &mut Effects,
    ) {
        let Role::Leader(leader) = &mut self.role else {
            return dropped(
                effects,
                "entries read for a follower of an epoch that is over",
            );
        };
        let waits = |peer: &&mut Peer| peer.member.node == to && peer.feed == Feed::Loading(first);
        let Some(peer) = leader.peers.values_mut().find(waits) else {
            return dropped(
                effects,
                "entries read for a follower that does not wait for them",
            );
        };
        let member = peer.member;
        peer.feed = Feed::Streaming;
        let is_wanted = entries.first().is_some_and(|entry| entry.index == first)
            && entries
                .iter()
                .all(|entry| self.tail.holds(entry.position()))
            && entries
                .windows(2)
                .all(|pair| pair[1].index == pair[0].index.next());
        if is_wanted {
            self.send_entries(now, member, entries, effects);
            self.feed(now, member, effects);
        } else {
            // Not in the log any longer, or damaged: the next heartbeat finds out what the follower needs.
            dropped(effects, "entries read that are not those asked for");
        }
    }
}

/// Notes who came and who went.
fn note_presence(leader: &mut Leader, now: Time, config: &Config, effects: &mut Effects) {
    for peer in leader.peers.values_mut() {
        let present = peer
            .contact
            .is_some_and(|at| now.since(at) < config.node_timeout);
        if present != peer.present {
            peer.present = present;
            let member = peer.member;
            let event = if present {
                Event::Joined(member)
            } else {
                Event::Left(member)
            };
            effects.now(Act::Note(event));
        }
    }
}
