//! The follower's side of a transfer.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_broker::Broker;
use quorate_replication::{Claim, Entry, NodeId, Nonce, Position, Stamp};

use super::stream::{Decoder, Item};
use crate::shard::{effect::Act, input::Checkpoint};

/// At most one transfer at a time.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    incoming: Option<Incoming>,
}

#[derive(Debug)]
struct Incoming {
    from: NodeId,
    claim: Claim,
    transfer: Nonce,
    at: Position,
    /// Bytes that came, in order.
    received: u64,
    /// Bytes whose entries are staged: what the leader is told.
    taken: u64,
    decoder: Decoder,
    state: Option<(Stamp, Bytes)>,
    /// The state, restored before anything is switched: one that cannot be restored is never installed.
    broker: Option<Box<Broker>>,
    /// Writes to the staging place that are under way: `taken` after each.
    writes: VecDeque<u64>,
    has_last: bool,
    is_committing: bool,
}

/// A chunk, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The sender.
    pub(crate) from: NodeId,
    /// Its claim.
    pub(crate) claim: Claim,
    /// What the checkpoint stands for.
    pub(crate) at: Position,
    /// The transfer.
    pub(crate) transfer: Nonce,
    /// Where the chunk begins.
    pub(crate) offset: u64,
    /// Its bytes.
    pub(crate) data: Bytes,
    /// Whether it is the last one.
    pub(crate) is_last: bool,
}

/// To whom to answer, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The leader.
    pub(crate) to: NodeId,
    /// Its claim.
    pub(crate) claim: Claim,
    /// The transfer.
    pub(crate) transfer: Nonce,
    /// Bytes taken.
    pub(crate) taken: u64,
    /// Whether it is installed.
    pub(crate) is_installed: bool,
}

/// What was installed.
#[derive(Debug)]
pub(crate) struct Installed {
    /// The broker at the start of the log.
    pub(crate) broker: Box<Broker>,
    /// Stamp of the checkpoint.
    pub(crate) stamp: Stamp,
    /// What the leader is told.
    pub(crate) answer: Answer,
}

impl Receiver {
    /// Whether the log is being switched: nothing may be appended meanwhile.
    pub(crate) fn is_committing(&self) -> bool {
        self.incoming
            .as_ref()
            .is_some_and(|incoming| incoming.is_committing)
    }

    /// Takes a chunk, adds what is to be done with it, and returns the answer, if one is due now.
    ///
    /// # Errors
    /// If the bytes are no transfer: it is dropped, and the leader begins another when it has waited.
    pub(crate) fn receive(
        &mut self,
        chunk: Received,
        acts: &mut Vec<Act>,
    ) -> Result<Option<Answer>, &'static str> {
        if self.is_committing() {
            return Ok(None);
        }
        let is_known = self.incoming.as_ref().is_some_and(|incoming| {
            incoming.transfer == chunk.transfer
                && incoming.claim == chunk.claim
                && incoming.at == chunk.at
        });
        if !is_known {
            self.incoming = Some(Incoming::new(&chunk));
        }
        let incoming = self
            .incoming
            .as_mut()
            .expect("set above if it was not there");
        if chunk.offset != incoming.received {
            // Repeated, or one before it is missing.
            return Ok(Some(incoming.answer()));
        }
        let result = incoming.take(&chunk, acts);
        if let Err(reason) = result {
            self.incoming = None;
            return Err(reason);
        }
        Ok(incoming.proceed(acts))
    }

    /// Entries are staged.
    pub(crate) fn written(&mut self, transfer: Nonce, acts: &mut Vec<Act>) -> Option<Answer> {
        let incoming = self
            .incoming
            .as_mut()
            .filter(|incoming| incoming.transfer == transfer)?;
        if let Some(taken) = incoming.writes.pop_front() {
            incoming.taken = taken;
        }
        incoming.proceed(acts)
    }

    /// What was staged could not be kept: the leader begins another transfer when it has waited.
    pub(crate) fn abandon(&mut self, transfer: Nonce) {
        self.incoming
            .take_if(|incoming| incoming.transfer == transfer);
    }

    /// The log is switched.
    pub(crate) fn committed(&mut self, transfer: Nonce) -> Option<Installed> {
        let incoming = self
            .incoming
            .take_if(|incoming| incoming.transfer == transfer && incoming.is_committing)?;
        let mut answer = incoming.answer();
        answer.is_installed = true;
        Some(Installed {
            broker: incoming
                .broker
                .expect("restored before the commit was asked for"),
            stamp: incoming
                .state
                .expect("came before the commit was asked for")
                .0,
            answer,
        })
    }
}

impl Incoming {
    fn new(chunk: &Received) -> Self {
        Self {
            from: chunk.from,
            claim: chunk.claim,
            transfer: chunk.transfer,
            at: chunk.at,
            received: 0,
            taken: 0,
            decoder: Decoder::default(),
            state: None,
            broker: None,
            writes: VecDeque::new(),
            has_last: false,
            is_committing: false,
        }
    }

    fn answer(&self) -> Answer {
        Answer {
            to: self.from,
            claim: self.claim,
            transfer: self.transfer,
            taken: self.taken,
            is_installed: false,
        }
    }

    fn take(&mut self, chunk: &Received, acts: &mut Vec<Act>) -> Result<(), &'static str> {
        self.decoder.push(&chunk.data);
        self.received += chunk.data.len() as u64;
        self.has_last = chunk.is_last;
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            match self.decoder.next() {
                Ok(Some(Item::State { stamp, state })) => {
                    self.broker = Some(Box::new(
                        Broker::restore(&state)
                            .map_err(|_| "transfer: state cannot be restored")?,
                    ));
                    self.state = Some((stamp, state));
                    acts.push(Act::InstallBegin {
                        transfer: self.transfer,
                        at: self.at,
                        stamp,
                    });
                }
                Ok(Some(Item::Entry(entry))) if entry.index > self.at.index => {
                    return Err("transfer: entry after its checkpoint");
                }
                Ok(Some(Item::Entry(entry))) => entries.push(entry),
                Ok(None) => break,
                Err(_) => return Err("transfer: malformed"),
            }
        }
        if self.has_last && !self.decoder.is_complete() {
            return Err("transfer: ends in the middle of an entry");
        }
        if !entries.is_empty() {
            self.writes.push_back(self.received);
            acts.push(Act::InstallWrite {
                transfer: self.transfer,
                entries,
            });
        } else if let Some(last) = self.writes.back_mut() {
            *last = self.received;
        } else {
            self.taken = self.received;
        }
        Ok(())
    }

    /// Commits when all is staged; answers otherwise, when nothing is under way.
    fn proceed(&mut self, acts: &mut Vec<Act>) -> Option<Answer> {
        if self.writes.is_empty() && self.has_last && !self.is_committing {
            let (stamp, state) = self.state.clone()?;
            self.is_committing = true;
            acts.push(Act::InstallCommit {
                transfer: self.transfer,
                checkpoint: Checkpoint {
                    at: self.at,
                    stamp,
                    state,
                },
            });
            return None;
        }
        (!self.is_committing).then(|| self.answer())
    }
}
