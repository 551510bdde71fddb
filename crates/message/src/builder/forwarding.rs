//! The commands of the outbox: a message leaves its queue, and it arrived.

use crate::layout::{Record, TRANSFER, TRANSFERRED};
use crate::{
    BatchBuilder, BatchFull, Destination, DestinationKind, DestinationName, MessagePosition,
    MoveReason,
};

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
        let source = (DestinationKind::Queue, queue);
        self.transfer_from(source, position, (target, reason), 0)
    }

    /// Adds the transfer of a message, stored in a queue, topic or subscription, to its own queue or topic in another shard and
    /// returns the command's ordinal. `due_ms`: when it is to be delivered, in milliseconds since 1970; 0 for at once.
    ///
    /// # Errors
    /// When the batch is full or transient, or the message is not persistent.
    pub fn transfer_relocated(
        &mut self,
        from: &Destination,
        to: &Destination,
        (position, due_ms): (MessagePosition, u64),
    ) -> Result<u16, BatchFull> {
        let how = (to, MoveReason::Relocated);
        self.transfer_from((from.kind, &from.name), position, how, due_ms)
    }

    fn transfer_from(
        &mut self,
        (kind, queue): (DestinationKind, &DestinationName),
        position: MessagePosition,
        (target, reason): (&Destination, MoveReason),
        due_ms: u64,
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        if position.is_transient() {
            return Err(BatchFull::Command { field: "position" });
        }
        // Room for both names, though neither may be new.
        self.check_room(Some(queue), None, 2 + target.name.as_str().len())?;
        let source = self.destination(kind, queue);
        let target = self.destination(target.kind, &target.name);
        Ok(self.push(Record {
            kind: TRANSFER,
            detail: reason.code(),
            destination: source,
            producer: target,
            first: position.value(),
            second: due_ms,
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
