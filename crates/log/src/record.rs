//! One record of a segment: a head of 64 bytes and the payload of one entry, padded to 64.
//!
//! ```text
//!  0 crc32c of the rest of the head, seeded with the segment's salt
//!  4 crc32c of the payload         8 payload length       12 kind   13 version   14 zero sectors
//! 16 epoch   24 index   32 epoch of the entry before   40 stamp   48 durable index   56 zero
//! ```
//!
//! - The *salt* is new for each use of a file: a record of an earlier use never verifies.
//! - *Durable index*: what was synced when this record was written. A record proves that everything up to there
//!   was on the disk once.
//! - *Zero sectors* counts the sectors of the record that are zero by content. The place of a record is zero before it
//!   is written, and sectors are written whole: one that is zero and should not be was never written (a torn write); a
//!   record without such a hole that fails its checksum was written and is damaged.

use bytes::BufMut;
use quorate_replication::{Entry, EntryKind, Epoch, Index, Stamp};

use crate::fields::Fields;
use crate::limits::{PAYLOAD_BYTES_MAX, RECORD_ALIGN_BYTES, SECTOR_BYTES};

pub(crate) const RECORD_HEAD_BYTES: usize = 64;

/// Padding and filling.
pub(crate) const ZEROS: [u8; 4096] = [0; 4096];

const VERSION: u8 = 1;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Entry(EntryKind),
    /// The end of a segment whose successor exists durably; its index is the successor's first.
    Seal,
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) payload_crc: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) kind: RecordKind,
    pub(crate) zero_sectors: u16,
    pub(crate) epoch: Epoch,
    pub(crate) index: Index,
    pub(crate) previous: Epoch,
    pub(crate) stamp: Stamp,
    pub(crate) durable: Index,
}

impl RecordHead {
    /// The head for an entry that will stand at `offset` of its segment.
    pub(crate) fn of(entry: &Entry, previous: Epoch, durable: Index, offset: u64) -> Self {
        assert!(
            entry.payload.len() <= PAYLOAD_BYTES_MAX,
            "payloads are bounded where they enter"
        );
        Self {
            payload_crc: crc32c::crc32c(&entry.payload),
            payload_bytes: u32::try_from(entry.payload.len()).expect("bounded above"),
            kind: RecordKind::Entry(entry.kind),
            zero_sectors: zero_sectors(offset, &entry.payload),
            epoch: entry.epoch,
            index: entry.index,
            previous,
            stamp: entry.stamp,
            durable,
        }
    }

    /// The mark behind the last record of a segment.
    pub(crate) fn seal(next: Index, last: Epoch, durable: Index) -> Self {
        Self {
            payload_crc: 0,
            payload_bytes: 0,
            kind: RecordKind::Seal,
            zero_sectors: 0,
            epoch: last,
            index: next,
            previous: last,
            stamp: Stamp(0),
            durable,
        }
    }

    pub(crate) fn encode(&self, salt: u64, into: &mut Vec<u8>) {
        let start = into.len();
        into.put_u32_le(0);
        into.put_u32_le(self.payload_crc);
        into.put_u32_le(self.payload_bytes);
        into.put_u8(match self.kind {
            RecordKind::Entry(EntryKind::NewEpoch) => 1,
            RecordKind::Entry(EntryKind::Commands) => 2,
            RecordKind::Seal => 3,
        });
        into.put_u8(VERSION);
        into.put_u16_le(self.zero_sectors);
        into.put_u64_le(self.epoch.0);
        into.put_u64_le(self.index.0);
        into.put_u64_le(self.previous.0);
        into.put_u64_le(self.stamp.0);
        into.put_u64_le(self.durable.0);
        into.put_u64_le(0);
        let crc = head_crc(salt, &into[start + 4..]);
        into[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a head; none if it is not one of this segment.
    pub(crate) fn decode(salt: u64, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEAD_BYTES)?;
        let mut fields = Fields(bytes);
        if fields.u32()? != head_crc(salt, &bytes[4..]) {
            return None;
        }
        let payload_crc = fields.u32()?;
        let payload_bytes = fields.u32()?;
        let kind = match fields.u8()? {
            1 => RecordKind::Entry(EntryKind::NewEpoch),
            2 => RecordKind::Entry(EntryKind::Commands),
            3 => RecordKind::Seal,
            _ => return None,
        };
        let sane = fields.u8()? == VERSION && payload_bytes as usize <= PAYLOAD_BYTES_MAX;
        let zero_sectors = fields.u16()?;
        sane.then_some(())?;
        Some(Self {
            payload_crc,
            payload_bytes,
            kind,
            zero_sectors,
            epoch: Epoch(fields.u64()?),
            index: Index(fields.u64()?),
            previous: Epoch(fields.u64()?),
            stamp: Stamp(fields.u64()?),
            durable: Index(fields.u64()?),
        })
    }

    /// Bytes that the record takes in its segment.
    pub(crate) fn size_bytes(&self) -> u64 {
        size_bytes(self.payload_bytes as usize)
    }
}

/// Bytes that a record with such a payload takes in its segment.
pub(crate) fn size_bytes(payload_bytes: usize) -> u64 {
    (RECORD_HEAD_BYTES + payload_bytes).next_multiple_of(RECORD_ALIGN_BYTES) as u64
}

/// How many of the record's sectors, after the one with its head, are zero throughout the record's part of them.
pub(crate) fn zero_sectors(offset: u64, payload: &[u8]) -> u16 {
    let begin =
        usize::try_from(offset % SECTOR_BYTES as u64).expect("below a sector") + RECORD_HEAD_BYTES;
    let first = (SECTOR_BYTES - begin).min(payload.len());
    let count = payload[first..]
        .chunks(SECTOR_BYTES)
        .filter(|part| part[0] == 0 && part.iter().all(|byte| *byte == 0))
        .count();
    u16::try_from(count).expect("payloads are bounded to 16 MiB, which is 32768 sectors")
}

fn head_crc(salt: u64, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), rest)
}
