//! A publish that goes out once more, as it was.

use bytes::BufMut;

use super::bounded_u32;
use crate::layout::{COMMAND_BYTES, PUBLISH, PUBLISH_FIRST, Record};
use crate::{Batch, BatchBuilder, BatchFull};

/// Where the flags are in a record.
const FLAGS_AT: usize = 6;

impl BatchBuilder {
    /// Adds the publish of this ordinal of another batch, with everything that it says, and returns the command's
    /// ordinal here.
    ///
    /// # Errors
    /// When the batch is full, or the other one has no such publish or is of the other mode.
    pub fn repeat(&mut self, batch: &Batch, ordinal: u16) -> Result<u16, BatchFull> {
        let found = batch.publish_record(ordinal);
        let Some((record, producer)) = found.filter(|_| batch.is_transient() == self.is_transient)
        else {
            return Err(BatchFull::Command { field: "kind" });
        };
        let destination = batch.destination(record.destination);
        let body = batch.body(ordinal).unwrap_or_default();
        self.check_room(Some(&destination.name), Some(producer), body.len())?;
        let offset = bounded_u32(self.bodies.len());
        self.bodies.put_slice(&body);
        let record = Record {
            kind: PUBLISH,
            destination: self.destination(destination.kind, &destination.name),
            producer: self.producer(producer),
            flags: record.flags & !PUBLISH_FIRST,
            offset,
            ..record
        };
        Ok(self.push(record))
    }

    /// Says of a publish that was added that no message of its producer for its destination with a lower number
    /// waits to be sent again.
    ///
    /// # Panics
    /// When there is no such command.
    pub fn mark_first(&mut self, ordinal: u16) {
        let at = usize::from(ordinal) * COMMAND_BYTES;
        debug_assert_eq!(self.records[at], PUBLISH, "only a publish can be the first");
        let flags = &mut self.records[at + FLAGS_AT..at + FLAGS_AT + 2];
        let marked = u16::from_le_bytes([flags[0], flags[1]]) | PUBLISH_FIRST;
        flags.copy_from_slice(&marked.to_le_bytes());
    }
}
