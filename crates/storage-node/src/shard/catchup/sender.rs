//! The leader's side of a transfer.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use quorate_replication::{Claim, Entry, Index, Message, NodeId, Nonce, Position, Round, Time};

use super::stream;
use crate::{
    limits::{
        INSTALL_CHUNK_BYTES, INSTALL_GIVE_UP, INSTALL_PACE, INSTALL_RESEND, INSTALL_WINDOW_CHUNKS,
        INSTALLS_AT_ONCE,
    },
    shard::{effect::Note, input::Checkpoint},
};

/// What a transfer wants from the shard next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The newest durable checkpoint.
    Checkpoint,
    /// Live entries from `from` up to `to`.
    Entries {
        /// First index.
        from: Index,
        /// Last index.
        to: Index,
    },
}

/// All transfers of one leadership.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sender {
    transfers: BTreeMap<NodeId, Transfer>,
    started: u64,
}

#[derive(Clone, Debug)]
struct Transfer {
    id: Nonce,
    claim: Claim,
    source: Source,
    /// Encoded and not yet cut into a chunk; begins at `produced` in the transfer.
    buffer: BytesMut,
    produced: u64,
    window: VecDeque<Chunk>,
    /// Chunks at the front of the window that were sent.
    sent: usize,
    at: Position,
    resend_at: Time,
    pace_at: Time,
    paced: usize,
    give_up_at: Time,
    is_last_cut: bool,
}

#[derive(Clone, Debug)]
enum Source {
    /// Wants the checkpoint; whether it was asked for.
    Checkpoint { is_asked: bool },
    /// Wants live entries from here on; whether they were asked for.
    Entries { next: Index, is_asked: bool },
    /// All is encoded.
    Done,
}

#[derive(Clone, Debug)]
struct Chunk {
    offset: u64,
    data: Bytes,
    is_last: bool,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }
}

impl Sender {
    /// Begins a transfer, unless one is under way or there are too many.
    pub(crate) fn start(&mut self, now: Time, to: NodeId, claim: Claim) {
        if self.transfers.contains_key(&to) || self.transfers.len() >= INSTALLS_AT_ONCE {
            return;
        }
        self.started += 1;
        // Unique among the transfers of all leaders: an epoch has one leader, and it leads it once.
        let id = Nonce(
            claim
                .epoch
                .0
                .wrapping_mul(1 << 24)
                .wrapping_add(self.started),
        );
        let transfer = Transfer {
            id,
            claim,
            source: Source::Checkpoint { is_asked: false },
            buffer: BytesMut::new(),
            produced: 0,
            window: VecDeque::new(),
            sent: 0,
            at: Position::default(),
            resend_at: now.after(INSTALL_RESEND),
            pace_at: now,
            paced: 0,
            give_up_at: now.after(INSTALL_GIVE_UP),
            is_last_cut: false,
        };
        self.transfers.insert(to, transfer);
    }

    /// Ends all transfers: this replica leads no longer.
    pub(crate) fn clear(&mut self) {
        self.transfers.clear();
    }

    /// The lowest checkpoint that a transfer under way stands on: the log after it is still needed.
    pub(crate) fn needs_log_after(&self) -> Option<Index> {
        let positions = self.transfers.values().map(|transfer| transfer.at.index);
        positions.min()
    }

    /// What transfers want read; each want is returned once.
    pub(crate) fn wanted(&mut self) -> Vec<(NodeId, Nonce, Wanted)> {
        let mut wanted = Vec::new();
        for (to, transfer) in &mut self.transfers {
            let is_full = transfer.buffer.len() >= INSTALL_CHUNK_BYTES;
            match &mut transfer.source {
                Source::Checkpoint { is_asked } if !*is_asked => {
                    *is_asked = true;
                    wanted.push((*to, transfer.id, Wanted::Checkpoint));
                }
                Source::Entries { next, is_asked } if !*is_asked && !is_full => {
                    *is_asked = true;
                    let entries = Wanted::Entries {
                        from: *next,
                        to: transfer.at.index,
                    };
                    wanted.push((*to, transfer.id, entries));
                }
                Source::Checkpoint { .. } | Source::Entries { .. } | Source::Done => {}
            }
        }
        wanted
    }

    /// The checkpoint that was wanted. None ends the transfer.
    pub(crate) fn checkpoint(
        &mut self,
        to: NodeId,
        id: Nonce,
        checkpoint: Option<Checkpoint>,
    ) -> Option<Note> {
        let transfer = self
            .transfers
            .get_mut(&to)
            .filter(|transfer| transfer.id == id)?;
        let Some(checkpoint) = checkpoint else {
            self.transfers.remove(&to);
            return Some(Note::Dropped("transfer: there is no checkpoint yet"));
        };
        stream::encode_state(checkpoint.stamp, &checkpoint.state, &mut transfer.buffer);
        transfer.at = checkpoint.at;
        transfer.source = Source::Entries {
            next: Index(1),
            is_asked: false,
        };
        Some(Note::InstallStarted {
            to,
            at: checkpoint.at,
        })
    }

    /// Live entries that were wanted, and the index from which to go on; none when there are no more.
    pub(crate) fn entries(
        &mut self,
        to: NodeId,
        id: Nonce,
        entries: &[Entry],
        next: Option<Index>,
    ) {
        let transfer = self
            .transfers
            .get_mut(&to)
            .filter(|transfer| transfer.id == id);
        let Some(transfer) = transfer else {
            return;
        };
        for entry in entries {
            stream::encode_entry(entry, &mut transfer.buffer);
        }
        transfer.source =
            next.filter(|next| *next <= transfer.at.index)
                .map_or(Source::Done, |next| Source::Entries {
                    next,
                    is_asked: false,
                });
    }

    /// A follower's answer.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        from: NodeId,
        id: Nonce,
        taken: u64,
        is_installed: bool,
    ) -> Option<Note> {
        let transfer = self
            .transfers
            .get_mut(&from)
            .filter(|transfer| transfer.id == id)?;
        if is_installed {
            let size_bytes = transfer.produced;
            self.transfers.remove(&from);
            return Some(Note::InstallFinished {
                to: from,
                size_bytes,
            });
        }
        let front = transfer
            .window
            .front()
            .map_or(transfer.produced, |chunk| chunk.offset);
        if taken < front {
            // The follower lost what it had taken: begin again.
            let claim = transfer.claim;
            self.transfers.remove(&from);
            self.start(now, from, claim);
            return Some(Note::Dropped("transfer: the follower starts over"));
        }
        let mut has_moved = false;
        while transfer
            .window
            .front()
            .is_some_and(|chunk| chunk.end() <= taken)
        {
            // An empty last chunk ends where it begins: only `installed` answers it.
            if transfer.window.front().is_some_and(|chunk| chunk.is_last) {
                break;
            }
            transfer.window.pop_front();
            transfer.sent = transfer.sent.saturating_sub(1);
            has_moved = true;
        }
        if has_moved {
            transfer.resend_at = now.after(INSTALL_RESEND);
        }
        transfer.give_up_at = now.after(INSTALL_GIVE_UP);
        None
    }

    /// Cuts chunks and returns what is to be sent now.
    pub(crate) fn pump(&mut self, now: Time) -> Vec<(NodeId, Message)> {
        self.transfers
            .retain(|_, transfer| now < transfer.give_up_at);
        let mut messages = Vec::new();
        for (to, transfer) in &mut self.transfers {
            transfer.cut();
            if now >= transfer.resend_at {
                transfer.sent = 0;
                transfer.resend_at = now.after(INSTALL_RESEND);
            }
            if now >= transfer.pace_at {
                transfer.paced = 0;
                transfer.pace_at = now.after(INSTALL_PACE);
            }
            while transfer.sent < transfer.window.len() && transfer.paced < INSTALL_WINDOW_CHUNKS {
                let message = transfer.message(&transfer.window[transfer.sent]);
                messages.push((*to, message));
                transfer.sent += 1;
                transfer.paced += 1;
            }
        }
        messages
    }

    /// When `pump` has something to do by itself.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let deadlines = self.transfers.values().map(|transfer| {
            if transfer.sent < transfer.window.len() {
                transfer.pace_at.min(transfer.resend_at)
            } else {
                transfer.resend_at
            }
        });
        deadlines.min()
    }
}

impl Transfer {
    fn cut(&mut self) {
        while self.window.len() < INSTALL_WINDOW_CHUNKS && !self.is_last_cut {
            let is_done = matches!(self.source, Source::Done);
            if self.buffer.len() < INSTALL_CHUNK_BYTES && !is_done {
                return;
            }
            let length = self.buffer.len().min(INSTALL_CHUNK_BYTES);
            let data = self.buffer.split_to(length).freeze();
            let is_last = is_done && self.buffer.is_empty();
            self.window.push_back(Chunk {
                offset: self.produced,
                data,
                is_last,
            });
            self.produced += length as u64;
            self.is_last_cut = is_last;
        }
    }

    fn message(&self, chunk: &Chunk) -> Message {
        Message::InstallChunk {
            claim: self.claim,
            at: self.at,
            transfer: self.id,
            offset: chunk.offset,
            data: chunk.data.clone(),
            last: chunk.is_last,
            round: Round(0),
        }
    }
}
