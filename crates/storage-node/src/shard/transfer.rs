//! The shard's part in catching up by checkpoint: it gives `Sender` what it wants and `Receiver` what comes.

use quorate_replication::{Entry, Index, Input as ReplicaInput, NodeId, Nonce, Position};

use super::{
    Purpose, Shard, answer_effect,
    catchup::{Answer, Received, Wanted},
    effect::{Act, Effect, Note, Read},
    input::{Checkpoint, Clock, RequestId},
    note_all,
};
use crate::limits::{INSTALL_READ_BYTES, INSTALL_READ_ENTRIES};

impl Shard {
    /// Reads what transfers want and sends what they have.
    pub(super) fn transfer(&mut self, now: Clock, out: &mut Vec<Effect>) {
        for (to, transfer, wanted) in self.sender.wanted() {
            match wanted {
                Wanted::Checkpoint => {
                    let request = self.request(Purpose::TransferCheckpoint { to, transfer });
                    let act = Act::LoadCheckpoint { request };
                    out.push(Effect { after: None, act });
                }
                Wanted::Entries { from, to: last } => {
                    self.read_live(to, transfer, (from, last), out);
                }
            }
        }
        for (to, message) in self.sender.pump(now.time) {
            let act = Act::Send { to, message };
            out.push(Effect { after: None, act });
        }
    }

    /// Live entries for a transfer.
    pub(super) fn transfer_loaded(
        &mut self,
        to: NodeId,
        transfer: Nonce,
        asked: &[Index],
        entries: &[Entry],
    ) {
        // Without any, all that were asked for are gone: settled, and their segments dropped, meanwhile.
        let last = entries
            .last()
            .map(|entry| entry.index)
            .or_else(|| asked.last().copied());
        self.sender
            .entries(to, transfer, entries, last.map(Index::next));
    }

    /// The checkpoint for a transfer.
    pub(super) fn checkpoint_loaded(
        &mut self,
        request: RequestId,
        checkpoint: Option<Checkpoint>,
        out: &mut Vec<Effect>,
    ) {
        let Some(Purpose::TransferCheckpoint { to, transfer }) = self.loads.remove(&request) else {
            note_all(Some(Note::Dropped("checkpoint that nobody asked for")), out);
            return;
        };
        let note = self.sender.checkpoint(to, transfer, checkpoint);
        note_all(note, out);
    }

    /// A chunk from the leader.
    pub(super) fn chunk(&mut self, chunk: Received, out: &mut Vec<Effect>) {
        if chunk.claim != self.replica.promise() {
            note_all(Some(Note::Dropped("chunk of another claim")), out);
            return;
        }
        if !self.replica.wants_install(chunk.at) && !self.receiver.is_committing() {
            let answer = Answer {
                to: chunk.from,
                claim: chunk.claim,
                transfer: chunk.transfer,
                taken: chunk.offset,
                is_installed: true,
            };
            out.push(answer_effect(answer, self.replica.member().disk));
            return;
        }
        let mut acts = Vec::new();
        match self.receiver.receive(chunk, &mut acts) {
            Ok(answer) => self.install(acts, answer, out),
            Err(reason) => note_all(Some(Note::Dropped(reason)), out),
        }
    }

    /// The log begins after the leader's checkpoint.
    pub(super) fn installed(
        &mut self,
        now: Clock,
        transfer: Nonce,
        at: Position,
        out: &mut Vec<Effect>,
    ) {
        let Some(installed) = self.receiver.committed(transfer) else {
            note_all(Some(Note::Dropped("install that nobody asked for")), out);
            return;
        };
        self.broker = *installed.broker;
        self.applier.installed(at.index);
        self.checkpointer.installed(at);
        let input = ReplicaInput::Installed {
            at,
            stamp: installed.stamp,
            transfer,
        };
        self.replicate(now, input, out);
        note_all(Some(Note::Installed { at }), out);
        out.push(answer_effect(installed.answer, self.replica.member().disk));
    }

    /// Asks for the next live entries of a transfer.
    fn read_live(
        &mut self,
        to: NodeId,
        transfer: Nonce,
        (from, last): (Index, Index),
        out: &mut Vec<Effect>,
    ) {
        let asked: Vec<Index> = self
            .broker
            .live_entries(from.0, last.0)
            .take(INSTALL_READ_ENTRIES)
            .map(Index)
            .collect();
        if asked.is_empty() {
            self.sender.entries(to, transfer, &[], None);
            return;
        }
        let request = self.request(Purpose::Transfer {
            to,
            transfer,
            asked: asked.clone(),
        });
        let read = Read::Entries {
            indexes: asked,
            max_bytes: INSTALL_READ_BYTES,
        };
        let act = Act::Load { request, read };
        out.push(Effect { after: None, act });
    }
}
