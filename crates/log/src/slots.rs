//! Two slots for what must not be lost: the newest valid one counts. A file holds one pair, or, shared by many, a pair at
//! each of many places.
//!
//! ```text
//! slot: magic u32 | payload length u32 | sequence u64 | payload | crc32c of all before it
//! ```
//!
//! [`Slots::write`] puts the value into both slots, each synced before the other is touched: a crash leaves one of them
//! whole, and rot in one does not bring back an older value. [`Slots::write_together`] does so with pairs of one file at the
//! cost of one. Opening mends a pair that differs, since what was read may be answered to others without being written
//! again.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BufMut;

use crate::disk::{Disk, DiskFile};
use crate::fields::Fields;
use crate::limits::SLOT_BYTES;

const MAGIC: u32 = 0x544f_4c51;
const HEAD_BYTES: usize = 16;
const CRC_BYTES: usize = 4;

/// An open pair of slots.
#[derive(Debug)]
pub(crate) struct Slots {
    /// A handle that no other thread syncs: of a write that fails, each handle is told once.
    file: Arc<dyn DiskFile>,
    /// Where the two slots begin.
    places: [u64; 2],
    sequence: u64,
    /// The slot that is written next: never the only valid one.
    next: usize,
}

struct Slot {
    sequence: u64,
    payload: Vec<u8>,
}

impl Slots {
    /// Makes a file that holds nothing valid yet. The caller syncs the folder.
    pub(crate) fn create(disk: &dyn Disk, path: &str) -> io::Result<Self> {
        let file = disk.create(path)?;
        file.write_at(0, &[IoSlice::new(&[0; 2 * SLOT_BYTES])])?;
        file.sync()?;
        Ok(Self {
            file,
            places: places(0),
            sequence: 0,
            next: 0,
        })
    }

    /// Opens a file of one pair and returns its newest valid value.
    pub(crate) fn open(disk: &dyn Disk, path: &str) -> io::Result<(Self, Option<Vec<u8>>)> {
        Self::open_at(disk.open(path)?, 0)
    }

    /// Opens the pair of that number in a file and returns its newest valid value. A place behind the file's end holds
    /// none.
    pub(crate) fn open_at(
        file: Arc<dyn DiskFile>,
        number: u64,
    ) -> io::Result<(Self, Option<Vec<u8>>)> {
        let places = places(number);
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        file.read_at(places[0], &mut bytes)?;
        let (low, high) = bytes.split_at(SLOT_BYTES);
        let found = [decode(low), decode(high)];
        let mut slots = Self {
            file,
            places,
            sequence: 0,
            next: 0,
        };
        let [low, high] = found;
        let newest = match (low, high) {
            (None, None) => return Ok((slots, None)),
            (Some(low), Some(high)) if low.payload == high.payload => {
                slots.sequence = low.sequence.max(high.sequence);
                slots.next = usize::from(low.sequence > high.sequence);
                return Ok((slots, Some(low.payload)));
            }
            (Some(low), Some(high)) if low.sequence > high.sequence => (low, 1),
            (Some(low), None) => (low, 1),
            (_, Some(high)) => (high, 0),
        };
        let (slot, next) = newest;
        slots.sequence = slot.sequence;
        slots.next = next;
        slots.write(&slot.payload)?;
        Ok((slots, Some(slot.payload)))
    }

    /// Writes a value, durable in both slots when it returns.
    pub(crate) fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        for _ in 0..2 {
            self.write_unsynced(payload)?;
            self.file.sync()?;
        }
        Ok(())
    }

    /// Writes the values of many pairs, all of one file: what [`Slots::write`] promises, for two syncs in all.
    pub(crate) fn write_together(writes: &mut [(&mut Self, Vec<u8>)]) -> io::Result<()> {
        for _ in 0..2 {
            for (slots, payload) in writes.iter_mut() {
                slots.write_unsynced(payload)?;
            }
            if let Some((slots, _)) = writes.first() {
                slots.file.sync()?;
            }
        }
        Ok(())
    }

    /// Writes a value into one slot without sync: it may be lost, and the one before it comes back then.
    pub(crate) fn write_unsynced(&mut self, payload: &[u8]) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let slot = encode(sequence, payload);
        let offset = self.places[self.next];
        self.file.write_at(offset, &[IoSlice::new(&slot)])?;
        self.sequence = sequence;
        self.next = 1 - self.next;
        Ok(())
    }
}

/// Where the slots of a pair lie: one behind the other.
fn places(number: u64) -> [u64; 2] {
    let slot = SLOT_BYTES as u64;
    let low = number * 2 * slot;
    [low, low + slot]
}

fn encode(sequence: u64, payload: &[u8]) -> Vec<u8> {
    assert!(
        payload.len() <= SLOT_BYTES - HEAD_BYTES - CRC_BYTES,
        "the value fits a slot"
    );
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.put_u32_le(MAGIC);
    slot.put_u32_le(u32::try_from(payload.len()).expect("a payload is below a slot's size"));
    slot.put_u64_le(sequence);
    slot.put_slice(payload);
    let crc = crc32c::crc32c(&slot);
    slot.put_u32_le(crc);
    slot
}

fn decode(bytes: &[u8]) -> Option<Slot> {
    let mut fields = Fields(bytes);
    if fields.u32()? != MAGIC {
        return None;
    }
    let length = usize::try_from(fields.u32()?).ok()?;
    let sequence = fields.u64()?;
    let payload = fields.bytes(length)?;
    let crc = fields.u32()?;
    (crc == crc32c::crc32c(&bytes[..HEAD_BYTES + length])).then(|| Slot {
        sequence,
        payload: payload.to_vec(),
    })
}
