//! How many bytes a queue, a subscription or a topic holds. A position does not tell the size of its message, and a number per message would cost
//! more memory than the queue itself; so sizes are kept per block of neighbouring messages.
//!
//! A message that leaves takes the mean size of its block with it, the last one all that is left. The total is thus
//! exact whenever no block is partly gone, and otherwise off by at most what the blocks at the ends hold: about
//! [`BLOCK`] messages where a queue is consumed in order. A million messages take some 100 KB.

use std::collections::BTreeMap;

use quorate_message::MessagePosition;

use super::codec::{Cursor, Sink};

/// Messages that a block takes in before the next one begins.
const BLOCK: u64 = 256;

/// The sizes of the messages of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// By the first position of each; a block reaches to the start of the next one.
    blocks: BTreeMap<MessagePosition, Block>,
    messages: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Block {
    messages: u64,
    bytes: u64,
}

impl Sizes {
    /// Messages stored and not gone for good.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Their bytes, as the head of the file has it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes of a message that is here: the mean of its block.
    ///
    /// # Panics
    /// When it is not.
    pub(super) fn mean_at(&self, position: MessagePosition) -> u64 {
        let mut blocks = self.blocks.range(..=position);
        let (_, block) = blocks.next_back().expect("what is asked for was added");
        block.bytes / block.messages
    }

    /// Messages were stored from `first` on: mostly behind all that were stored before; those of a transaction join at
    /// an earlier place.
    pub(super) fn add(&mut self, first: MessagePosition, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
        let last = self.blocks.last_key_value();
        if last.is_some_and(|(start, _)| first < *start) {
            let block = match self.blocks.range_mut(..=first).next_back() {
                Some((_, block)) => block,
                None => self.blocks.entry(first).or_default(),
            };
            block.messages += messages;
            block.bytes += bytes;
            return;
        }
        match self.blocks.last_entry() {
            Some(mut last) if last.get().messages < BLOCK => {
                let block = last.get_mut();
                block.messages += messages;
                block.bytes += bytes;
            }
            Some(_) | None => {
                self.blocks.insert(first, Block { messages, bytes });
            }
        }
    }

    /// A message is gone for good, with so many bytes.
    ///
    /// # Panics
    /// When it was never added.
    pub(super) fn remove(&mut self, position: MessagePosition) -> u64 {
        let mut blocks = self.blocks.range_mut(..=position);
        let (start, block) = blocks.next_back().expect("what is removed was added");
        let start = *start;
        let bytes = block.bytes / block.messages;
        block.messages -= 1;
        block.bytes -= bytes;
        self.messages -= 1;
        self.bytes -= bytes;
        if block.messages == 0 {
            self.blocks.remove(&start);
        }
        bytes
    }

    /// Appends the blocks: `blocks varint, each: start minus the one before varint, messages varint, bytes varint`.
    pub(super) fn encode(&self, sink: &mut Sink) {
        sink.varint(self.blocks.len() as u64);
        let mut before = 0;
        for (start, block) in &self.blocks {
            sink.varint(start.value() - before);
            before = start.value();
            sink.varint(block.messages);
            sink.varint(block.bytes);
        }
    }

    /// Reads what `encode` wrote.
    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let mut sizes = Self::default();
        let count = cursor.varint()?;
        let mut before = 0_u64;
        for _ in 0..count {
            before = before.checked_add(cursor.varint()?)?;
            let messages = cursor.varint().filter(|messages| *messages > 0)?;
            let block = Block {
                messages,
                bytes: cursor.varint()?,
            };
            sizes.messages = sizes.messages.checked_add(block.messages)?;
            sizes.bytes = sizes.bytes.checked_add(block.bytes)?;
            let start = MessagePosition::from_value(before);
            if sizes.blocks.insert(start, block).is_some() {
                return None;
            }
        }
        Some(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(entry: u64) -> MessagePosition {
        MessagePosition::new(entry, 0)
    }

    #[test]
    fn what_is_consumed_in_order_is_known_to_a_block() {
        let mut sizes = Sizes::default();
        for entry in 0..10_000 {
            sizes.add(at(entry), 1, if entry < 5_000 { 10 } else { 1_000 });
        }
        assert_eq!(sizes.bytes(), 5_000 * 10 + 5_000 * 1_000);
        assert!(sizes.blocks.len() < 50);
        for entry in 0..5_000 {
            sizes.remove(at(entry));
        }
        let exact = 5_000 * 1_000;
        assert!(
            sizes.bytes().abs_diff(exact) <= BLOCK * 1_000,
            "{}",
            sizes.bytes()
        );
        for entry in 5_000..10_000 {
            sizes.remove(at(entry));
        }
        assert_eq!(sizes, Sizes::default());
    }

    #[test]
    fn what_leaves_from_the_middle_leaves_nothing_behind() {
        let mut sizes = Sizes::default();
        for entry in 0..1_000 {
            sizes.add(at(entry), 1, entry);
        }
        for entry in (0..1_000).filter(|entry| entry % 3 == 0) {
            sizes.remove(at(entry));
        }
        sizes.add(at(1_000), 24, 240);
        for entry in (0..1_000).filter(|entry| entry % 3 != 0) {
            sizes.remove(at(entry));
        }
        // They share a block with some that left, and so what those weighed more than the mean.
        assert_eq!((sizes.messages(), sizes.blocks.len()), (24, 1));
        assert!(sizes.bytes() < BLOCK * 1_000);
        (0..24).for_each(|ordinal| {
            sizes.remove(MessagePosition::new(1_000, ordinal));
        });
        assert_eq!(sizes, Sizes::default());
    }
}
