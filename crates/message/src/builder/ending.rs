//! Queues, topics and subscriptions that come and go.

use crate::layout::{DELETE, PURGE, REGISTER, Record, UNSUBSCRIBE};
use crate::{BatchBuilder, BatchFull, Destination, DestinationKind, DestinationName};

impl BatchBuilder {
    /// Adds the end of a subscription, unless it has a higher generation, and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn unsubscribe(
        &mut self,
        key: &DestinationName,
        generation: u64,
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        self.check_room(Some(key), None, 0)?;
        let destination = self.destination(DestinationKind::Subscription, key);
        Ok(self.push(Record {
            kind: UNSUBSCRIBE,
            destination,
            first: generation,
            ..Record::default()
        }))
    }

    /// Adds the end of a subscription, unless it is to exactly this topic or has a higher generation, and returns the
    /// command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn unsubscribe_unless_of(
        &mut self,
        key: &DestinationName,
        generation: u64,
        topic: &DestinationName,
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        self.check_room(Some(key), None, 2 + topic.as_str().len())?;
        let destination = self.destination(DestinationKind::Subscription, key);
        let topic = self.destination(DestinationKind::Topic, topic);
        Ok(self.push(Record {
            kind: UNSUBSCRIBE,
            detail: 1,
            destination,
            producer: topic,
            first: generation,
            ..Record::default()
        }))
    }

    /// Adds the making of a queue and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn register(&mut self, queue: &DestinationName) -> Result<u16, BatchFull> {
        self.register_by_move(queue, 0)
    }

    /// The same where the queue's topic moves to, by the move of this number: refused unless that move is known there.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn register_by_move(
        &mut self,
        queue: &DestinationName,
        by_move: u64,
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        self.check_room(Some(queue), None, 0)?;
        let destination = self.destination(DestinationKind::Queue, queue);
        Ok(self.push(Record {
            kind: REGISTER,
            destination,
            first: by_move,
            ..Record::default()
        }))
    }

    /// Adds the deletion of a queue or topic and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn delete(
        &mut self,
        destination: &Destination,
        with_messages: bool,
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        self.check_room(Some(&destination.name), None, 0)?;
        let place = self.destination(destination.kind, &destination.name);
        Ok(self.push(Record {
            kind: DELETE,
            detail: u8::from(with_messages),
            destination: place,
            ..Record::default()
        }))
    }

    /// Adds a purge and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn purge(&mut self, queue: &DestinationName) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        self.check_room(Some(queue), None, 0)?;
        let destination = self.destination(DestinationKind::Queue, queue);
        Ok(self.push(Record {
            kind: PURGE,
            destination,
            ..Record::default()
        }))
    }
}
