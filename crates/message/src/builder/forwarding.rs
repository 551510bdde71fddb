//! The commands of the outbox: a message leaves its queue, and it arrived.

use crate::layout::{Record, TRANSFER, TRANSFERRED};
use crate::{BatchBuilder, BatchFull, Destination, DestinationName, MessagePosition, MoveReason};

impl BatchBuilder {
    /// Adds a transfer of a stored message to another destination and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient, or the message is not persistent.
    pub fn transfer(
        &mut self,
        queue: &DestinationName,
        position: MessagePosition,
        target: &Destination,
        reason: MoveReason,
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        if position.is_transient() {
            return Err(BatchFull::Command { field: "position" });
        }
        // Room for both names, though neither may be new.
        self.check_room(Some(queue), None, 2 + target.name.as_str().len())?;
        let source = self.destination(crate::DestinationKind::Queue, queue);
        let target = self.destination(target.kind, &target.name);
        Ok(self.push(Record {
            kind: TRANSFER,
            detail: reason.code(),
            destination: source,
            producer: target,
            first: position.value(),
            ..Record::default()
        }))
    }

    /// Adds that a target has stored what was forwarded to it under the numbers `first` to `last`, and returns the
    /// command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient, or the numbers are none.
    pub fn transferred(
        &mut self,
        target: &Destination,
        first: u64,
        last: u64,
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        if first == 0 || first > last {
            return Err(BatchFull::Command { field: "numbers" });
        }
        self.check_room(Some(&target.name), None, 0)?;
        let destination = self.destination(target.kind, &target.name);
        Ok(self.push(Record {
            kind: TRANSFERRED,
            destination,
            first,
            second: last,
            ..Record::default()
        }))
    }
}
