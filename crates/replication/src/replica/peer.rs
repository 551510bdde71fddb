//! What a leader knows of one other member: how far its log is known to match, what is on the way to it, and when it
//! was last reached.

use std::collections::VecDeque;

use super::status::PeerStatus;
use crate::limits::CONTACTS_MAX;
use crate::{Duration, Index, Member, Round, Time};

/// How a peer is brought forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Feed {
    /// From memory, pipelined.
    Streaming,
    /// Entries from here on are being read from the disk.
    Loading(Index),
    /// It is behind the start of the log and gets a checkpoint.
    Installing,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) member: Member,
    pub(super) voter: bool,
    /// Counts for commits: durable there, by an unimpaired answer of this epoch.
    pub(super) matched: Index,
    pub(super) impaired: bool,
    pub(super) feed: Feed,
    /// The next index to send.
    pub(super) next: Index,
    /// Last index and bytes of each append with entries that is not answered yet.
    in_flight: VecDeque<(Index, usize)>,
    in_flight_bytes: usize,
    round: Round,
    /// Answers to rounds before this one speak of what was sent before `next` was last set back.
    valid_from: Round,
    /// When some rounds were sent, oldest first.
    sent: VecDeque<(Round, Time)>,
    /// When the newest message was sent that is known to have arrived.
    pub(super) contact: Option<Time>,
    /// Whether it was there when that was last looked at.
    pub(super) present: bool,
}

impl Peer {
    pub(super) fn new(member: Member, voter: bool, next: Index) -> Self {
        Self {
            member,
            voter,
            matched: Index(0),
            impaired: false,
            feed: Feed::Streaming,
            next,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            round: Round(0),
            valid_from: Round(0),
            sent: VecDeque::new(),
            contact: None,
            present: false,
        }
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Numbers a message to the peer, and remembers when it was sent, not more often than every `grain`.
    pub(super) fn next_round(&mut self, now: Time, grain: Duration) -> Round {
        self.round = Round(self.round.0 + 1);
        if self
            .sent
            .back()
            .is_none_or(|(_, at)| now.since(*at) >= grain)
        {
            if self.sent.len() == CONTACTS_MAX {
                self.sent.pop_front();
            }
            self.sent.push_back((self.round, now));
        }
        self.round
    }

    /// Entries up to `last` are on the way.
    pub(super) fn sent(&mut self, last: Index, bytes: usize) {
        self.next = last.next();
        self.in_flight.push_back((last, bytes));
        self.in_flight_bytes += bytes;
    }

    /// The peer answered `round`. False: no such round was sent.
    pub(super) fn reached(&mut self, round: Round) -> bool {
        while let Some((_, at)) = self.sent.pop_front_if(|(sent, _)| *sent <= round) {
            self.contact = self.contact.max(Some(at));
        }
        round <= self.round
    }

    /// The peer holds the leader's log durably up to `matched`.
    pub(super) fn acknowledged(&mut self, matched: Index, impaired: bool) {
        self.impaired = impaired;
        self.matched = if impaired {
            Index(0)
        } else {
            self.matched.max(matched)
        };
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(last, _)| *last <= matched) {
            self.in_flight_bytes -= bytes;
        }
    }

    /// Whether an answer to `round` is about what was sent since `next` was last set back.
    pub(super) fn is_current(&self, round: Round) -> bool {
        round >= self.valid_from
    }

    /// Starts over from `next`: what was sent beyond it did not arrive, or did not fit.
    pub(super) fn set_back(&mut self, next: Index, feed: Feed) {
        self.next = next;
        self.feed = feed;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.valid_from = Round(self.round.0 + 1);
    }

    pub(super) fn status(&self) -> PeerStatus {
        PeerStatus {
            member: self.member,
            voter: self.voter,
            matched: self.matched,
            impaired: self.impaired,
            installing: self.feed == Feed::Installing,
            contact: self.contact,
        }
    }
}
