//! Moving the leadership of a shard without anybody noticing: the leader's part and the target's.
//!
//! ```text
//!            order              known, caught up         drained                 all taken
//!  (leads) --------> Waiting ------------------> Draining -------> Sending -----------------> Ready
//!     ^                 | too long                  | too long        | too long               | too long
//!     +-----------------+---------------------------+                 +--> Resuming <----------+
//!     +---------------------------------- its entry is applied -------------+
//! ```
//! From `Draining` on the leader is frozen: what sessions and other shards ask is kept (`holding`). It appends nothing more, until the target holds the whole log and all of
//! it is committed and applied. Then the image of what is known beyond the log is exact for that end of the log, and
//! goes to the target.
//!
//! Who leads next uses the image only if its first entry follows directly on that end, and so nothing can have
//! happened in between: a leader that goes on after it may have given the image away first appends an entry and waits until
//! it is committed; every other leader commits its `NewEpoch` before it does anything. Nothing else depends on the image:
//! without it a change of leader is as ever.

use bytes::Bytes;
use quorate_broker::Input as BrokerInput;
use quorate_message::BatchBuilder;
use quorate_replication::{
    Claim, Epoch, Index, Input as ReplicaInput, Member, Message, NodeId, Position, Report, Time,
};

use super::{
    Shard,
    effect::{Act, Effect, Note},
    input::Clock,
    note_all,
};
use crate::limits::{
    HANDOVER_BYTES_MAX, HANDOVER_CHUNK_BYTES, HANDOVER_DRAIN, HANDOVER_LAG_ENTRIES, HANDOVER_LEAVE,
    HANDOVER_RESEND, HANDOVER_SEND, HANDOVER_WAIT, HANDOVER_WINDOW_CHUNKS,
};

/// What a replica has to do with moves of its shard's leadership.
#[derive(Debug, Default)]
pub(super) struct Handover {
    phase: Phase,
    /// Attempts of this leadership.
    number: u64,
    /// What comes in from a leader.
    incoming: Option<Incoming>,
    /// What an earlier leader, or this one, knew at an end of the log.
    known: Option<Known>,
    /// What became of this replica's own knowledge is not known yet.
    given: Option<Given>,
}

/// The end of a leadership that was frozen.
#[derive(Clone, Copy, Debug)]
struct Given {
    epoch: Epoch,
    /// Who has the whole image; none: nobody else.
    to: Option<NodeId>,
}

/// See the head of the file.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    Waiting(Move),
    Draining(Move),
    Sending(Move, Sending),
    Ready(Move, Known),
    /// Goes on when this entry is applied. Who may have the image?
    Resuming(Index, NodeId),
}

/// The move that was ordered.
#[derive(Clone, Copy, Debug)]
struct Move {
    claim: Claim,
    to: Member,
    /// When this phase is given up.
    until: Time,
}

/// The image on its way.
#[derive(Debug)]
struct Sending {
    known: Known,
    sent: usize,
    taken: usize,
    resend_at: Time,
}

/// What is known beyond the log that ends there.
#[derive(Clone, Debug)]
struct Known {
    at: Position,
    image: Bytes,
}

/// An image that comes in.
#[derive(Debug)]
struct Incoming {
    claim: Claim,
    number: u64,
    at: Position,
    bytes: Vec<u8>,
    is_whole: bool,
}

/// A piece of an image.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) claim: Claim,
    pub(super) at: Position,
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) data: Bytes,
    pub(super) is_last: bool,
}

impl Handover {
    /// Whether this leader does nothing but hand over.
    pub(super) fn is_frozen(&self) -> bool {
        match self.phase {
            Phase::Idle | Phase::Waiting(_) => false,
            Phase::Draining(_) | Phase::Sending(..) | Phase::Ready(..) | Phase::Resuming(..) => {
                true
            }
        }
    }

    /// Whether batches of its own may go into the log.
    pub(super) fn may_append(&self) -> bool {
        match self.phase {
            // What the broker proposed before it was frozen is to be in the log.
            Phase::Idle | Phase::Waiting(_) | Phase::Draining(_) => true,
            Phase::Sending(..) | Phase::Ready(..) | Phase::Resuming(..) => false,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Idle | Phase::Resuming(..) => None,
            Phase::Waiting(one) | Phase::Draining(one) | Phase::Ready(one, _) => Some(one.until),
            Phase::Sending(one, sending) => Some(one.until.min(sending.resend_at)),
        }
    }

    /// This replica no longer leads this epoch. If nothing was done since the image was made, it may use it, too.
    pub(super) fn deposed(&mut self, epoch: Epoch) {
        let (known, to) = match std::mem::take(&mut self.phase) {
            Phase::Idle | Phase::Waiting(_) => return,
            Phase::Draining(_) => (None, None),
            Phase::Sending(_, Sending { known, .. }) => (Some(known), None),
            Phase::Ready(one, known) => (Some(known), Some(one.to.node)),
            Phase::Resuming(_, to) => (None, Some(to)),
        };
        self.known = known;
        self.given = Some(Given { epoch, to });
    }

    /// Another leadership begins.
    pub(super) fn led(&mut self) {
        self.phase = Phase::Idle;
        self.number = 0;
    }
}

impl Shard {
    /// The coordinator wants another member to lead.
    pub(super) fn ordered_to_hand_over(
        &mut self,
        now: Clock,
        claim: Claim,
        to: Member,
        out: &mut Vec<Effect>,
    ) {
        match &self.handover.phase {
            Phase::Waiting(one) | Phase::Draining(one) | Phase::Sending(one, _)
                if (one.claim, one.to) == (claim, to) =>
            {
                return;
            }
            // Whoever repeats it has not had the answer.
            Phase::Ready(one, _) if (one.claim, one.to) == (claim, to) => {
                return out.push(report(claim, to, true));
            }
            Phase::Idle
            | Phase::Waiting(_)
            | Phase::Draining(_)
            | Phase::Sending(..)
            | Phase::Ready(..)
            | Phase::Resuming(..) => {}
        }
        let is_idle = matches!(self.handover.phase, Phase::Idle);
        let leads = self
            .replica
            .record()
            .is_some_and(|(record, _)| record.claim == claim);
        let is_other_voter = self
            .replica
            .peers()
            .any(|peer| peer.member == to && peer.voter);
        if !is_idle || !leads || !is_other_voter || !self.is_serving() {
            out.push(report(claim, to, false));
            return;
        }
        let until = now.time.after(HANDOVER_WAIT);
        self.handover.phase = Phase::Waiting(Move { claim, to, until });
        note_all(Some(Note::HandingOver { to: to.node }), out);
    }

    /// Somebody else led on from where this replica was deposed: with what it knew, or without.
    fn learn_who_led_on(&mut self, now: Clock, out: &mut Vec<Effect>) {
        let end = self.replica.end();
        if self.replica.is_leading() {
            return;
        }
        self.handover
            .known
            .take_if(|known| known.at.index < end.index);
        let given = &mut self.handover.given;
        if let Some(given) = given.take_if(|given| given.epoch < end.epoch) {
            let is_taken = given.to.is_some() && given.to == self.replica.leader();
            self.deliver(now, BrokerInput::TakenOver { is_taken }, out);
        }
    }

    /// Does the next thing for a move that is under way.
    pub(super) fn move_on(&mut self, now: Clock, out: &mut Vec<Effect>) {
        self.learn_who_led_on(now, out);
        let promise = self.replica.promise();
        let incoming = &mut self.handover.incoming;
        incoming.take_if(|incoming| incoming.claim != promise);
        loop {
            let before = std::mem::discriminant(&self.handover.phase);
            match std::mem::take(&mut self.handover.phase) {
                Phase::Idle => return,
                Phase::Waiting(one) => self.wait_for_target(now, one, out),
                Phase::Draining(one) => self.drain(now, one, out),
                Phase::Sending(one, sending) => self.send_image(now, one, sending, out),
                Phase::Ready(one, _) if one.until <= now.time => self.resume(now, one, out),
                Phase::Resuming(marker, _) if self.applier.applied() >= marker => {
                    self.thaw(now, out);
                }
                waits @ (Phase::Ready(..) | Phase::Resuming(..)) => self.handover.phase = waits,
            }
            if std::mem::discriminant(&self.handover.phase) == before {
                return;
            }
        }
    }

    /// A piece of what a leader knows. It says how much it has, also of a repeat.
    pub(super) fn piece(&mut self, from: NodeId, piece: Piece, out: &mut Vec<Effect>) {
        let Piece { claim, number, .. } = piece;
        let is_of_leader = claim == self.replica.promise() && self.replica.leader() == Some(from);
        let incoming = &mut self.handover.incoming;
        let is_newer = incoming
            .as_ref()
            .is_none_or(|one| (one.claim, one.number) < (claim, number));
        if !is_of_leader || self.replica.is_leading() {
            note_all(
                Some(Note::Dropped("piece of a handover of another claim")),
                out,
            );
            return;
        }
        if is_newer {
            *incoming = Some(Incoming {
                claim,
                number,
                at: piece.at,
                bytes: Vec::new(),
                is_whole: false,
            });
        }
        let Some(one) = incoming.as_mut().filter(|one| one.number == number) else {
            note_all(Some(Note::Dropped("piece of an earlier handover")), out);
            return;
        };
        let is_next = piece.offset == one.bytes.len() as u64 && !one.is_whole;
        if is_next && one.bytes.len() + piece.data.len() <= HANDOVER_BYTES_MAX {
            one.bytes.extend_from_slice(&piece.data);
            one.is_whole = piece.is_last;
        }
        let taken = one.bytes.len() as u64;
        if is_next && one.is_whole {
            self.handover.known = Some(Known {
                at: one.at,
                image: Bytes::from(std::mem::take(&mut one.bytes)),
            });
            // From here on it answers as before, and has no bytes to keep twice.
            one.bytes = Vec::new();
        }
        let taken = match &self.handover.known {
            Some(known) if one.is_whole => known.image.len() as u64,
            Some(_) | None => taken,
        };
        let message = Message::HandOverTaken {
            claim,
            number,
            taken,
        };
        send(from, message, out);
    }

    /// The target has so much.
    pub(super) fn piece_taken(&mut self, from: NodeId, claim: Claim, number: u64, taken: u64) {
        if let Phase::Sending(one, sending) = &mut self.handover.phase
            && (one.claim, one.to.node, self.handover.number) == (claim, from, number)
        {
            let taken = usize::try_from(taken).unwrap_or(usize::MAX);
            sending.taken = sending.taken.max(taken.min(sending.known.image.len()));
        }
    }

    /// Gives the broker what an earlier leader knew, if this leader's first entry follows on it directly.
    pub(super) fn use_known(&mut self, now: Clock, first: Index, out: &mut Vec<Effect>) {
        self.handover.incoming = None;
        if let Some(known) = self.handover.known.take() {
            let is_held = self.replica.epoch_at(known.at.index) == Some(known.at.epoch);
            if known.at.index.next() == first && is_held {
                let image = known.image;
                note_all(Some(Note::TookOver { at: known.at }), out);
                self.deliver(now, BrokerInput::HandedOver { image }, out);
            }
        }
        if self.handover.given.take().is_some() {
            // What it knew itself and did not take up is gone.
            let is_taken = false;
            self.deliver(now, BrokerInput::TakenOver { is_taken }, out);
        }
    }

    fn wait_for_target(&mut self, now: Clock, one: Move, out: &mut Vec<Effect>) {
        let end = self.replica.end().index;
        let target = self.replica.peers().find(|peer| peer.member == one.to);
        let is_near = target.is_some_and(|peer| {
            !peer.impaired
                && !peer.installing
                && peer.contact.is_some()
                && end.0.saturating_sub(peer.matched.0) <= HANDOVER_LAG_ENTRIES
        });
        if is_near && self.broker.can_hand_over() {
            self.deliver(now, BrokerInput::Freeze, out);
            let until = now.time.after(HANDOVER_DRAIN);
            self.handover.phase = Phase::Draining(Move { until, ..one });
        } else if one.until <= now.time {
            self.keep(
                one,
                "the target is behind, or gateways have not reported",
                out,
            );
        } else {
            self.handover.phase = Phase::Waiting(one);
        }
    }

    /// All that was proposed goes through the log.
    fn drain(&mut self, now: Clock, one: Move, out: &mut Vec<Effect>) {
        let end = self.replica.end();
        let target = self.replica.peers().find(|peer| peer.member == one.to);
        let is_drained = !self.submits.has_own()
            && self.applier.applied() == end.index
            && target.is_some_and(|peer| !peer.impaired && peer.matched == end.index);
        let image = is_drained.then(|| self.broker.hand_over()).flatten();
        let fits = |image: &Bytes| image.len() <= HANDOVER_BYTES_MAX;
        match image.filter(fits) {
            Some(image) => {
                self.handover.number += 1;
                let sending = Sending {
                    known: Known { at: end, image },
                    sent: 0,
                    taken: 0,
                    resend_at: now.time.after(HANDOVER_RESEND),
                };
                let until = now.time.after(HANDOVER_SEND);
                self.handover.phase = Phase::Sending(Move { until, ..one }, sending);
            }
            None if one.until <= now.time => {
                // Nobody has an image: it goes on as if nothing had been.
                self.thaw(now, out);
                self.keep(
                    one,
                    "the log did not drain, or too much is kept in memory",
                    out,
                );
            }
            None => self.handover.phase = Phase::Draining(one),
        }
    }

    fn send_image(&mut self, now: Clock, one: Move, sending: Sending, out: &mut Vec<Effect>) {
        let mut sending = sending;
        let length = sending.known.image.len();
        if sending.taken >= length {
            let note = Note::HandedOver {
                to: one.to.node,
                at: sending.known.at,
                size_bytes: length,
            };
            note_all(Some(note), out);
            out.push(report(one.claim, one.to, true));
            let until = now.time.after(HANDOVER_LEAVE);
            self.handover.phase = Phase::Ready(Move { until, ..one }, sending.known);
            return;
        }
        if one.until <= now.time {
            return self.resume(now, one, out);
        }
        if sending.resend_at <= now.time {
            sending.sent = sending.taken;
        }
        let window = sending.taken + HANDOVER_WINDOW_CHUNKS * HANDOVER_CHUNK_BYTES;
        while sending.sent < length.min(window) {
            let end = length.min(sending.sent + HANDOVER_CHUNK_BYTES);
            let message = Message::HandOver {
                claim: one.claim,
                at: sending.known.at,
                number: self.handover.number,
                offset: sending.sent as u64,
                data: sending.known.image.slice(sending.sent..end),
                last: end == length,
            };
            send(one.to.node, message, out);
            sending.sent = end;
            sending.resend_at = now.time.after(HANDOVER_RESEND);
        }
        self.handover.phase = Phase::Sending(one, sending);
    }

    /// Goes on although the target may have an image: that is void once an entry is committed behind it.
    fn resume(&mut self, now: Clock, one: Move, out: &mut Vec<Effect>) {
        self.keep(one, "nobody was told to lead in time", out);
        let mut builder = BatchBuilder::persistent();
        builder.tick(0).expect("a tick fits an empty batch");
        let input = ReplicaInput::Proposed {
            stamp: now.stamp,
            payloads: vec![builder.finish()],
        };
        let marker = self.replica.end().index.next();
        self.handover.phase = Phase::Resuming(marker, one.to.node);
        self.replicate(now, input, out);
    }

    fn thaw(&mut self, now: Clock, out: &mut Vec<Effect>) {
        self.deliver(now, BrokerInput::Thaw, out);
    }

    fn keep(&mut self, one: Move, reason: &'static str, out: &mut Vec<Effect>) {
        let to = one.to.node;
        note_all(Some(Note::KeptLeading { to, reason }), out);
        out.push(report(one.claim, one.to, false));
    }
}

fn report(claim: Claim, to: Member, ready: bool) -> Effect {
    let report = Report::HandedOver { claim, to, ready };
    Effect {
        after: None,
        act: Act::Report(report),
    }
}

fn send(to: NodeId, message: Message, out: &mut Vec<Effect>) {
    out.push(Effect {
        after: None,
        act: Act::Send { to, message },
    });
}
