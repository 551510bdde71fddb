//! The bytes of a transfer: a header, the state of the broker, then entries, ascending, up to the end.
//!
//! ```text
//! magic u32 | stamp u64 | state length u64 | state
//! per entry: payload length u32 | kind u8 | epoch u64 | index u64 | stamp u64 | payload
//! ```
//! All numbers little endian. The decoder takes the bytes in pieces of any size, checks every field against a
//! bound, and never panics on any bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_replication::{Entry, EntryKind, Epoch, Index, Stamp};
use thiserror::Error;

use crate::limits::{INSTALL_ENTRY_BYTES_MAX, INSTALL_STATE_BYTES_MAX};

const MAGIC: u32 = 0x3149_5251;
const HEADER_BYTES: usize = 20;
const ENTRY_HEAD_BYTES: usize = 29;

/// Why the bytes are not a transfer.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum StreamError {
    /// Another format or version.
    #[error("transfer begins with {0:#x}, which is no known version")]
    UnknownVersion(u32),
    /// The state is too large.
    #[error("state of {0} bytes is above the limit")]
    StateTooLarge(u64),
    /// An entry is too large.
    #[error("entry of {0} bytes is above the limit")]
    EntryTooLarge(usize),
    /// An entry of an unknown kind.
    #[error("entry of unknown kind {0}")]
    UnknownKind(u8),
    /// Entries do not ascend.
    #[error("entry {0} does not follow the one before")]
    OutOfOrder(Index),
}

/// What the decoder found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// The state of the broker; always first.
    State {
        /// Stamp of the checkpoint.
        stamp: Stamp,
        /// The state.
        state: Bytes,
    },
    /// An entry.
    Entry(Entry),
}

/// Writes the beginning of a transfer.
pub(crate) fn encode_state(stamp: Stamp, state: &[u8], out: &mut BytesMut) {
    out.reserve(HEADER_BYTES + state.len());
    out.put_u32_le(MAGIC);
    out.put_u64_le(stamp.0);
    out.put_u64_le(state.len() as u64);
    out.put_slice(state);
}

/// Writes an entry.
pub(crate) fn encode_entry(entry: &Entry, out: &mut BytesMut) {
    out.reserve(ENTRY_HEAD_BYTES + entry.payload.len());
    let length = u32::try_from(entry.payload.len())
        .expect("an entry is bounded far below 4 GiB when proposed");
    out.put_u32_le(length);
    out.put_u8(match entry.kind {
        EntryKind::NewEpoch => 1,
        EntryKind::Commands => 2,
    });
    out.put_u64_le(entry.epoch.0);
    out.put_u64_le(entry.index.0);
    out.put_u64_le(entry.stamp.0);
    out.put_slice(&entry.payload);
}

/// Takes a transfer apart.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    state_seen: bool,
    last: Index,
}

impl Decoder {
    /// Adds the next bytes.
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// Returns what is complete next, or none until more bytes come.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, StreamError> {
        if self.state_seen {
            self.next_entry()
        } else {
            self.next_state()
        }
    }

    /// Whether everything that came was complete, the state included.
    pub(crate) fn is_complete(&self) -> bool {
        self.state_seen && self.buffer.is_empty()
    }

    fn next_state(&mut self) -> Result<Option<Item>, StreamError> {
        if self.buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let mut head = &self.buffer[..HEADER_BYTES];
        let magic = head.get_u32_le();
        if magic != MAGIC {
            return Err(StreamError::UnknownVersion(magic));
        }
        let stamp = Stamp(head.get_u64_le());
        let length = head.get_u64_le();
        if length > INSTALL_STATE_BYTES_MAX {
            return Err(StreamError::StateTooLarge(length));
        }
        let length = usize::try_from(length).map_err(|_| StreamError::StateTooLarge(length))?;
        if self.buffer.len() - HEADER_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        self.state_seen = true;
        let state = self.buffer.split_to(length).freeze();
        Ok(Some(Item::State { stamp, state }))
    }

    fn next_entry(&mut self) -> Result<Option<Item>, StreamError> {
        if self.buffer.len() < ENTRY_HEAD_BYTES {
            return Ok(None);
        }
        let mut head = &self.buffer[..ENTRY_HEAD_BYTES];
        let length = head.get_u32_le() as usize;
        if length > INSTALL_ENTRY_BYTES_MAX {
            return Err(StreamError::EntryTooLarge(length));
        }
        let kind = match head.get_u8() {
            1 => EntryKind::NewEpoch,
            2 => EntryKind::Commands,
            other => return Err(StreamError::UnknownKind(other)),
        };
        let epoch = Epoch(head.get_u64_le());
        let index = Index(head.get_u64_le());
        let stamp = Stamp(head.get_u64_le());
        if index <= self.last {
            return Err(StreamError::OutOfOrder(index));
        }
        if self.buffer.len() - ENTRY_HEAD_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(ENTRY_HEAD_BYTES);
        self.last = index;
        let payload = self.buffer.split_to(length).freeze();
        Ok(Some(Item::Entry(Entry {
            epoch,
            index,
            stamp,
            kind,
            payload,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Entry {
        Entry {
            epoch: Epoch(3),
            index: Index(index),
            stamp: Stamp(7),
            kind: EntryKind::Commands,
            payload: Bytes::from(vec![u8::try_from(index).unwrap(); 10]),
        }
    }

    #[test]
    fn comes_out_as_it_went_in_whatever_the_pieces() {
        let mut bytes = BytesMut::new();
        encode_state(Stamp(5), b"state", &mut bytes);
        encode_entry(&entry(2), &mut bytes);
        encode_entry(&entry(9), &mut bytes);
        for piece in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut items = Vec::new();
            for part in bytes.chunks(piece) {
                decoder.push(part);
                while let Some(item) = decoder.next().unwrap() {
                    items.push(item);
                }
            }
            assert!(decoder.is_complete());
            let state = Item::State {
                stamp: Stamp(5),
                state: Bytes::from_static(b"state"),
            };
            assert_eq!(items, [state, Item::Entry(entry(2)), Item::Entry(entry(9))]);
        }
    }

    #[test]
    fn refuses_what_is_no_transfer() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xff; 64]);
        assert_eq!(
            decoder.next(),
            Err(StreamError::UnknownVersion(0xffff_ffff))
        );
        let mut bytes = BytesMut::new();
        encode_state(Stamp(5), b"", &mut bytes);
        encode_entry(&entry(2), &mut bytes);
        encode_entry(&entry(2), &mut bytes);
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        assert!(decoder.next().unwrap().is_some());
        assert!(decoder.next().unwrap().is_some());
        assert_eq!(decoder.next(), Err(StreamError::OutOfOrder(Index(2))));
    }
}
