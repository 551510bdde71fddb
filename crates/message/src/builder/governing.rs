//! The commands of an operator that concern how destinations behave: rules, pause and resume.

use bytes::BufMut;

use super::bounded_u32;
use crate::layout::{CONFIGURE, PAUSE, Record};
use crate::{BatchBuilder, BatchFull, DestinationKind, DestinationName, Settings};

impl BatchBuilder {
    /// Adds rules that are to come into force and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn configure(&mut self, settings: &Settings) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        let rules = settings.encode();
        self.check_room(None, None, rules.len())?;
        let offset = bounded_u32(self.bodies.len());
        self.bodies.put_slice(&rules);
        Ok(self.push(Record {
            kind: CONFIGURE,
            first: settings.version(),
            offset,
            length: bounded_u32(rules.len()),
            ..Record::default()
        }))
    }

    /// Adds the end or the new beginning of a queue's delivery and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn pause(&mut self, queue: &DestinationName, is_paused: bool) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        self.check_room(Some(queue), None, 0)?;
        let destination = self.destination(DestinationKind::Queue, queue);
        Ok(self.push(Record {
            kind: PAUSE,
            detail: if is_paused { 1 } else { 2 },
            destination,
            ..Record::default()
        }))
    }
}
