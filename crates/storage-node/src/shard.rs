//! One shard on one node, as a pure machine: the replica of its log, the broker over what is committed, and what
//! lies between them.
//!
//! ```text
//!              Submitted            Peer, Order, Persisted
//!                  |                        |
//!               submit ---- proposals --> Replica --> Persist, Send, Report
//!                                           | Commit
//!   sessions <-- Broker <---- apply <-------+
//!                  |  Fetch
//!               delivery --> Load
//! ```
//! It guarantees: entries are applied once and in order, and only committed ones; a session is answered only after
//! commit and apply, by the replica that leads; a segment is dropped only when a durable checkpoint covers it and
//! nothing in it is live; what is read from the log never holds up the step. It knows nothing of files, sockets and
//! clocks: `step` takes facts and adds requests.

mod apply;
mod asking;
pub mod between;
mod catchup;
mod checkpoint;
mod delivery;
pub mod effect;
mod governing;
mod handover;
mod holding;
pub mod input;
pub mod moving;
mod pace;
mod relocating;
mod submit;
mod transfer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use quorate_broker::Broker;
use quorate_replication::{
    Act as ReplicaAct, Config, DiskId, Effects, Epoch, Index, Input as ReplicaInput, Message,
    NodeId, Nonce, Order, Recovered, Replica, Round, ShardId, Time,
};

use self::{
    apply::Applier,
    between::Between,
    catchup::{Answer, Received, Receiver, Sender},
    checkpoint::Checkpointer,
    delivery::Deliveries,
    effect::{Act, Effect, Note, Read},
    governing::Governing,
    handover::{Handover, Piece},
    holding::Holding,
    input::{Checkpoint, Clock, Input, RequestId},
    moving::Moving,
    pace::Pace,
    relocating::Relocations,
    submit::Submits,
};

/// One shard on one node.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    replica: Replica,
    broker: Broker,
    applier: Applier,
    submits: Submits,
    between: Between,
    moving: Moving,
    deliveries: Deliveries,
    checkpointer: Checkpointer,
    sender: Sender,
    receiver: Receiver,
    governing: Governing,
    relocations: Relocations,
    handover: Handover,
    holding: Holding,
    pace: Pace,
    loads: BTreeMap<RequestId, Purpose>,
    last_request: u64,
    /// Kept between steps only for its memory.
    replica_effects: Effects,
}

/// What a read is for.
#[derive(Clone, Debug)]
enum Purpose {
    /// The next entries to apply.
    Apply,
    /// Entries for a follower, from the first one on.
    Follower { to: NodeId, first: Index },
    /// Messages for the broker.
    Fetch(delivery::Fetch),
    /// A page of a queue.
    Browse(delivery::Browse),
    /// A page of a queue that is to be moved.
    Move(Box<moving::Looking>),
    /// Live entries for a transfer: those asked for, and where the next ones begin.
    Transfer {
        to: NodeId,
        transfer: Nonce,
        asked: Vec<Index>,
    },
    /// A checkpoint for a transfer.
    TransferCheckpoint { to: NodeId, transfer: Nonce },
}

/// The checkpoint on the disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state cannot be restored.
    #[error("restore checkpoint at {at}")]
    Restore {
        /// The checkpoint.
        at: quorate_replication::Position,
        /// Why not.
        #[source]
        source: quorate_broker::RestoreError,
    },
    /// The log begins after what the checkpoint contains.
    #[error("log begins after {base}, but the newest checkpoint ends at {at}")]
    Gap {
        /// The entry before the log's first one.
        base: quorate_replication::Position,
        /// The checkpoint; 0 when there is none.
        at: quorate_replication::Position,
    },
}

impl Shard {
    /// Opens a shard from what was found on the disk. What the log holds after the checkpoint is applied when it is
    /// known to be committed.
    ///
    /// # Errors
    /// If there is no state for the start of the log. The caller then marks the log impaired, empties it, forgets
    /// the checkpoint and opens again: the replica is rebuilt by the leader.
    pub fn open(
        config: Config,
        mut recovered: Recovered,
        checkpoint: Option<Checkpoint>,
        now: Time,
    ) -> Result<Self, OpenError> {
        let at = checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.at)
            .unwrap_or_default();
        if at.index < recovered.base.index {
            return Err(OpenError::Gap {
                base: recovered.base,
                at,
            });
        }
        let broker = match &checkpoint {
            Some(checkpoint) => Broker::restore(&checkpoint.state)
                .map_err(|source| OpenError::Restore { at, source })?,
            None => Broker::new(quorate_broker::Limits::default()),
        };
        // The log may end before the checkpoint (a transfer that was cut short); what is applied stays applied.
        recovered.committed = at.index.min(recovered.end.index);
        Ok(Self {
            id: recovered.shard,
            replica: Replica::open(config, recovered, now),
            broker,
            applier: Applier::new(at.index),
            submits: Submits::default(),
            between: Between::default(),
            moving: Moving::default(),
            deliveries: Deliveries::default(),
            checkpointer: Checkpointer::new(at),
            sender: Sender::default(),
            receiver: Receiver::default(),
            governing: Governing::default(),
            relocations: Relocations::default(),
            handover: Handover::default(),
            holding: Holding::default(),
            pace: Pace::default(),
            loads: BTreeMap::new(),
            last_request: 0,
            replica_effects: Effects::default(),
        })
    }

    /// Takes one fact and adds what is to be done about it.
    pub fn step(&mut self, now: Clock, input: Input, out: &mut Vec<Effect>) {
        let now = self.pace.clock(now, self.replica.is_leading());
        if let Some(input) = self.hold(input, out) {
            self.take(now, input, out);
        }
        self.settle(now, out);
    }

    fn take(&mut self, now: Clock, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Peer { from, message } => self.peer(now, from, message, out),
            Input::Order(Order::HandOver { claim, to }) => {
                self.ordered_to_hand_over(now, claim, to, out);
            }
            Input::Order(order) => self.replicate(now, ReplicaInput::Ordered(order), out),
            Input::Persisted(write) => self.replicate(now, ReplicaInput::Persisted(write), out),
            Input::Loaded { request, entries } => self.loaded(now, request, entries, out),
            Input::CheckpointLoaded {
                request,
                checkpoint,
            } => self.checkpoint_loaded(request, checkpoint, out),
            Input::CheckpointSaved { at, segments } => self.checkpoint_saved(at, &segments, out),
            Input::SegmentsDropped { base } => {
                self.replicate(now, ReplicaInput::Trimmed { base }, out);
            }
            Input::InstallWritten { transfer } => {
                let mut acts = Vec::new();
                let answer = self.receiver.written(transfer, &mut acts);
                self.install(acts, answer, out);
            }
            Input::InstallFailed { transfer } => self.receiver.abandon(transfer),
            Input::InstallCommitted { transfer, at } => self.installed(now, transfer, at, out),
            Input::Submitted(submissions) => self.submitted(now, submissions, out),
            Input::Session {
                session,
                gateway,
                request,
            } => self.session(now, (session, gateway), request, out),
            Input::SessionLost { session } => self.session_lost(now, session, out),
            Input::Browse(query) => self.browse(query, out),
            Input::FromShard { from, message } => self.heard(now, from, message, out),
            Input::Governed(settings) => self.governing.told(settings),
            Input::Placed(placement) => {
                self.relocations.told(self.id, &placement.overrides);
                self.between.placed(placement);
            }
            Input::Move(query) => self.begin_move(now, *query, out),
            Input::Damaged => self.replicate(now, ReplicaInput::Damaged, out),
            Input::ClockJudged(judgement) => self.pace.judged(judgement),
            Input::Space { is_low } => self.submits.is_space_low = is_low,
            Input::Elapsed { nonce } => self.elapsed(now, nonce, out),
        }
    }

    /// When `Elapsed` is wanted, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let is_frozen = self.handover.is_frozen();
        let deadlines = [
            self.replica.next_deadline(),
            self.broker.next_deadline().map(Time),
            self.applier.next_deadline(),
            self.checkpointer.next_deadline().filter(|_| !is_frozen),
            self.sender.next_deadline(),
            self.relocations
                .next_deadline()
                .filter(|_| self.is_serving() && !is_frozen),
            self.handover.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The replica, to look at.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The broker, to look at. Counts are those of what is applied here.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applier.applied()
    }

    /// Whether an entry is being applied: a panic then concerns this shard alone, since every replica would meet it.
    #[must_use]
    pub fn is_applying(&self) -> bool {
        self.applier.is_applying
    }

    /// Whether it stopped applying for good: its state differs from the leader's.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.applier.is_halted()
    }

    /// The stamp that an entry of this moment would get.
    #[must_use]
    pub fn stamp(&self) -> quorate_replication::Stamp {
        self.pace.stamp()
    }

    /// Whether it confirms and delivers: leading, `NewEpoch` committed and applied.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.deliveries.serving.is_some() && !self.is_halted()
    }

    fn peer(&mut self, now: Clock, from: NodeId, message: Message, out: &mut Vec<Effect>) {
        match message {
            Message::InstallChunk {
                claim,
                at,
                transfer,
                offset,
                data,
                last,
                round: _,
            } => {
                let chunk = Received {
                    from,
                    claim,
                    at,
                    transfer,
                    offset,
                    data,
                    is_last: last,
                };
                self.chunk(chunk, out);
            }
            Message::InstallAnswer {
                epoch,
                disk: _,
                transfer,
                taken,
                installed,
                round: _,
            } => {
                if self.replica.is_leading() && epoch == self.replica.epoch() {
                    let note = self
                        .sender
                        .answered(now.time, from, transfer, taken, installed);
                    note_all(note, out);
                }
            }
            Message::HandOver {
                claim,
                at,
                number,
                offset,
                data,
                last,
            } => {
                let piece = Piece {
                    claim,
                    at,
                    number,
                    offset,
                    data,
                    is_last: last,
                };
                self.piece(from, piece, out);
            }
            Message::HandOverTaken {
                claim,
                number,
                taken,
            } => self.piece_taken(from, claim, number, taken),
            // While the log is being switched nothing may be appended to the old one; the leader repeats it.
            Message::Append { .. } if self.receiver.is_committing() => {}
            // A replica whose state is wrong must not be counted as healed.
            Message::HealAnswer { .. } if self.is_halted() => {}
            Message::Append { .. }
            | Message::Appended { .. }
            | Message::Parted { .. }
            | Message::Refused { .. }
            | Message::HealAsk { .. }
            | Message::HealAnswer { .. } => {
                self.replicate(now, ReplicaInput::Received { from, message }, out);
            }
        }
    }

    fn elapsed(&mut self, now: Clock, nonce: Nonce, out: &mut Vec<Effect>) {
        if self
            .replica
            .next_deadline()
            .is_some_and(|at| at <= now.time)
        {
            self.replicate(now, ReplicaInput::Elapsed { nonce }, out);
        }
        if self
            .broker
            .next_deadline()
            .is_some_and(|at| at <= now.time.0)
        {
            self.deliver(now, quorate_broker::Input::Elapsed, out);
        }
    }

    /// Steps the replica and carries out what stays inside the shard.
    fn replicate(&mut self, now: Clock, input: ReplicaInput, out: &mut Vec<Effect>) {
        let mut effects = std::mem::take(&mut self.replica_effects);
        self.replica.step(now.time, input, &mut effects);
        for effect in effects.0.drain(..) {
            let after = effect.after;
            let act = match effect.act {
                ReplicaAct::Persist { id, write } => Act::Persist { id, write },
                ReplicaAct::Send { to, message } => Act::Send { to, message },
                ReplicaAct::Report(report) => Act::Report(report),
                ReplicaAct::Note(event) => Act::Note(Note::Replica(event)),
                ReplicaAct::Load {
                    to,
                    first,
                    last,
                    max_bytes,
                } => {
                    let request = self.request(Purpose::Follower { to, first });
                    let read = Read::Range {
                        first,
                        last,
                        max_bytes,
                    };
                    Act::Load { request, read }
                }
                // `settle` applies.
                ReplicaAct::Commit(index) => {
                    self.applier.commit(index);
                    continue;
                }
                ReplicaAct::InstallNeeded { to } => {
                    self.sender.start(now.time, to, self.replica.promise());
                    continue;
                }
                ReplicaAct::Led { epoch } => {
                    self.led(epoch);
                    continue;
                }
                ReplicaAct::Serving { epoch, at } => {
                    self.deliveries.serving_from = Some((epoch, at));
                    continue;
                }
                ReplicaAct::Deposed { epoch } => {
                    self.deposed(now, epoch, out);
                    continue;
                }
                ReplicaAct::Lease { held } => {
                    self.deliver(now, quorate_broker::Input::Lease { held }, out);
                    continue;
                }
            };
            out.push(Effect { after, act });
        }
        self.replica_effects = effects;
    }

    fn led(&mut self, epoch: Epoch) {
        self.governing.clear();
        self.relocations.clear();
        self.handover.led();
        self.submits.clear();
        self.between.clear();
        self.sender.clear();
        self.deliveries.leading = Some(epoch);
    }

    fn deposed(&mut self, now: Clock, epoch: Epoch, out: &mut Vec<Effect>) {
        self.sender.clear();
        self.handover.deposed(epoch);
        self.deliveries.leading = None;
        self.deliveries.serving = None;
        self.deliveries.serving_from = None;
        self.deliveries.early.clear();
        self.relocations.clear();
        self.deliveries.early_bytes = 0;
        self.between.clear();
        self.deliveries.joined.clear();
        self.deliver(now, quorate_broker::Input::Deposed, out);
        self.refuse_all(epoch, out);
    }

    /// What follows from any input: apply what is committed, propose what waits, send what a transfer has.
    fn settle(&mut self, now: Clock, out: &mut Vec<Effect>) {
        self.serve_if_due(now, out);
        self.apply(now, out);
        self.move_on(now, out);
        self.take_up_held(now, out);
        if !self.handover.is_frozen() {
            self.govern(out);
            self.relocate(now, out);
        }
        if self.handover.may_append() {
            self.propose_own(now, out);
        }
        if !self.handover.is_frozen() {
            self.forward(now, out);
            self.ask_shards(now, out);
            self.checkpoint(now, out);
        }
        self.save_checkpoint(out);
        self.transfer(now, out);
    }

    fn loaded(
        &mut self,
        now: Clock,
        request: RequestId,
        entries: Vec<quorate_replication::Entry>,
        out: &mut Vec<Effect>,
    ) {
        match self.loads.remove(&request) {
            Some(Purpose::Apply) => self.apply_loaded(now, entries, out),
            Some(Purpose::Follower { to, first }) => {
                let input = ReplicaInput::Loaded { to, first, entries };
                self.replicate(now, input, out);
            }
            Some(Purpose::Fetch(fetch)) => self.fetched(now, fetch, &entries, out),
            Some(Purpose::Browse(browse)) => self.browsed(browse, &entries, out),
            Some(Purpose::Move(looking)) => self.looked(now, *looking, &entries, out),
            Some(Purpose::Transfer {
                to,
                transfer,
                asked,
            }) => self.transfer_loaded(to, transfer, &asked, &entries),
            Some(Purpose::TransferCheckpoint { .. }) | None => {
                note_all(Some(Note::Dropped("read that nobody asked for")), out);
            }
        }
    }

    fn request(&mut self, purpose: Purpose) -> RequestId {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.loads.insert(request, purpose);
        request
    }

    /// Adds the acts of the receiver and its answer.
    fn install(&mut self, acts: Vec<Act>, answer: Option<Answer>, out: &mut Vec<Effect>) {
        out.extend(acts.into_iter().map(|act| Effect { after: None, act }));
        let disk = self.replica.member().disk;
        out.extend(answer.map(|answer| answer_effect(answer, disk)));
    }
}

fn answer_effect(answer: Answer, disk: DiskId) -> Effect {
    let message = Message::InstallAnswer {
        epoch: answer.claim.epoch,
        disk,
        transfer: answer.transfer,
        taken: answer.taken,
        installed: answer.is_installed,
        round: Round(0),
    };
    Effect {
        after: None,
        act: Act::Send {
            to: answer.to,
            message,
        },
    }
}

fn note_all(note: Option<Note>, out: &mut Vec<Effect>) {
    out.extend(note.map(|note| Effect {
        after: None,
        act: Act::Note(note),
    }));
}
