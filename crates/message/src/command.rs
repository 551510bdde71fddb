//! What a batch asks for, and what became of it.

use crate::{
    Attempt, Decision, GatewayId, MessagePosition, MoveReason, ProducerId, Relocating, Step,
    TransactionId,
};

/// One command of a batch. `destination` is an index into [`crate::Batch::destinations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stores a message; its bytes are [`crate::Batch::message`].
    Publish {
        /// Index of the destination.
        destination: u16,
        /// Who sends.
        producer: ProducerId,
        /// The producer's number of this message for this destination, from 1.
        number: u64,
        /// 0 to 9; the higher goes first.
        priority: u8,
        /// Milliseconds since 1970, 0 for never.
        expires_at_ms: u64,
        /// Not delivered at once, but by [`crate::Batch::schedule`].
        is_scheduled: bool,
        /// Length of the message in the stored encoding.
        size_bytes: u32,
        /// The topic keeps it, in place of the one before, for those who subscribe later. An empty body clears.
        is_retained: bool,
        /// No message of the producer for this destination with a lower number waits to be sent again.
        is_first: bool,
        /// Whether the message belongs to a group.
        is_grouped: bool,
        /// The message moves with its name, and brings along [`crate::Batch::relocation`].
        is_relocated: bool,
    },
    /// Ends a delivery.
    Settle {
        /// Index of the destination.
        destination: u16,
        /// The message.
        position: MessagePosition,
        /// How it ends.
        settlement: Settlement,
    },
    /// Removes every message of a destination, those in flight included.
    Purge {
        /// Index of the destination.
        destination: u16,
    },
    /// Puts the rules into force that are the body of the command, if they are newer than those in force.
    Configure {
        /// Their version.
        version: u64,
    },
    /// Ends or begins again the delivery of a queue's messages; they are taken in all the same.
    Pause {
        /// Index of the destination.
        destination: u16,
        /// Whether delivery ends.
        is_paused: bool,
    },
    /// Puts a stored message on its way to another destination.
    Transfer {
        /// Index of the queue that it is in.
        destination: u16,
        /// The message.
        position: MessagePosition,
        /// Index of the destination that it goes to.
        target: u16,
        /// Why.
        reason: MoveReason,
        /// Of one that moves with its name: when it is to be delivered, in milliseconds since 1970; 0: at once.
        due_ms: u64,
    },
    /// A step of the move of a name to another shard; its body is what the step brings.
    Relocate {
        /// Index of a queue or topic of the name.
        destination: u16,
        /// Which step.
        step: Step,
        /// Of which move.
        relocating: Relocating,
    },
    /// A target has stored what was forwarded to it: it is forgotten here.
    Transferred {
        /// Index of the target.
        destination: u16,
        /// The first number.
        first: u64,
        /// The last number.
        last: u64,
    },
    /// Makes a subscription, [`crate::Batch::subscription`], or confirms that it is there.
    Subscribe {
        /// Index of the destination.
        destination: u16,
        /// Asked for since its topic moves here, by the move of this number; 0: not for that. A shard that has not heard of
        /// that move refuses.
        by_move: u64,
    },
    /// Deletes a subscription with everything pending in it.
    Unsubscribe {
        /// Index of the destination.
        destination: u16,
        /// One that was subscribed under a higher generation stays.
        generation: u64,
        /// Index of a topic: a subscription to exactly this one stays.
        unless_of: Option<u16>,
    },
    /// Says what the selector of a subscription came to, [`crate::Batch::skipped`]: what it does not select is removed.
    Skip {
        /// Index of the subscription.
        destination: u16,
        /// The entry that made the subscription: one made later under the same key has another selector.
        made: u64,
        /// What is pending before this position, and is not skipped or late, is selected.
        judged_to: MessagePosition,
    },
    /// Makes a queue, if it does not exist: from here on a virtual topic that it is named after goes to it.
    Register {
        /// Index of the destination.
        destination: u16,
        /// As that of `Subscribe`.
        by_move: u64,
    },
    /// Deletes a queue or topic, unless something is still to be done about it: then it stays, and is tried again.
    Delete {
        /// Index of the destination.
        destination: u16,
        /// Whether messages that are in it go with it, those in flight included. If not, only one without any goes.
        with_messages: bool,
    },
    /// Orders a checkpoint at this entry.
    Checkpoint {
        /// The proposer's digest at the checkpoint before, to be compared.
        previous: Option<PreviousCheckpoint>,
    },
    /// Time passes: what is due happens.
    Tick {
        /// Up to when, in milliseconds since 1970; never beyond the stamp of its entry.
        until_ms: u64,
    },
    /// First of its batch: what follows is kept, without effect, until the transaction is finished.
    Prepare {
        /// The transaction.
        transaction: TransactionId,
        /// The try to commit it.
        attempt: Attempt,
        /// The shard that decides; none: this one.
        owner: Option<u32>,
        /// Which of the parts of the transaction in this shard, from 0.
        part: u16,
    },
    /// Commit, first of its batch in the owner's shard: what follows happens, with what was prepared, all or none;
    /// [`crate::Batch::participants`] names the other shards. Rollback: the attempt can no longer be committed.
    Decide {
        /// The transaction.
        transaction: TransactionId,
        /// The try to commit it.
        attempt: Attempt,
        /// How it ends.
        decision: Decision,
        /// How many parts were prepared in the owner's shard.
        parts: u16,
    },
    /// Ends a transaction in a participant's shard.
    Finish {
        /// The transaction.
        transaction: TransactionId,
        /// The try that was decided.
        attempt: Attempt,
        /// How it was decided.
        decision: Decision,
    },
    /// A participant has finished: the owner need not remember the decision for it.
    Forget {
        /// The transaction.
        transaction: TransactionId,
        /// The try that was decided.
        attempt: Attempt,
        /// The participant.
        participant: u32,
    },
    /// A gateway may be sent messages from here on: a later leader asks what it holds, or waits until it is lost.
    GatewayAttached {
        /// Which.
        gateway: GatewayId,
    },
    /// A gateway is gone: nobody waits for it any longer.
    GatewayLost {
        /// Which.
        gateway: GatewayId,
        /// Whether what it held is known and was given back by commands before this one. If not, whatever may have
        /// been sent is taken to have been.
        is_known: bool,
    },
    /// No message of a queue beyond this position was sent to anybody.
    Dispatched {
        /// Index of the destination.
        destination: u16,
        /// The bound; `u64::MAX`: there is none.
        upto: u64,
    },
    /// The batch is this gateway's, and the number of it. A repeat settles nothing a second time.
    Origin {
        /// Which.
        gateway: GatewayId,
        /// Rises from batch to batch.
        number: u64,
    },
}

impl Command {
    /// Whether the command, as the first one, makes its batch part of a transaction.
    #[must_use]
    pub fn heads_transaction(self) -> bool {
        if let Self::Decide { decision, .. } = self {
            return decision == Decision::Commit;
        }
        matches!(self, Self::Prepare { .. })
    }
}

/// The digest of the broker's state at an earlier checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviousCheckpoint {
    /// The entry that ordered it.
    pub entry: u64,
    /// The digest.
    pub digest: u64,
}

/// How a delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Settlement {
    /// Processed: the message is removed.
    Accept,
    /// Not processed: back to its place; its delivery count stays.
    Release,
    /// Failed: back to its place; its delivery count goes up.
    Return,
    /// Not acceptable: removed for good.
    Reject,
    /// Its time is over: removed. The broker's own.
    Expire,
    /// Removed by an administrator, with what is left of its schedule.
    Cancel,
}

/// What became of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Stored (non-persistent: accepted by the leader).
    Stored,
    /// The same producer and number was stored before; nothing was stored again. As good as stored.
    Duplicate,
    /// The settlement or administrative command took effect.
    Applied,
    /// The message was not there to be settled.
    UnknownMessage,
    /// The producer's number is below its window, so whether it was stored is not known. An error.
    NumberTooOld,
    /// A limit of the shard is reached; nothing was stored.
    LimitReached,
    /// The destination has no room, and its settings refuse what is beyond; nothing was stored. An error.
    QueueFull,
    /// The destination has no room, or an earlier message of the producer was not stored for that reason, and its
    /// settings hold the producer back; nothing was stored. To be sent again in a while, in order.
    Blocked,
    /// The destination does not exist, and its settings do not let a message make it; nothing was stored. An error.
    UnknownDestination,
    /// The transaction did not happen: another of its commands cannot be, or it took too long. Nothing of it was done.
    RolledBack,
    /// An earlier try to commit the transaction is not resolved yet. Nothing was done; repeat the commit later.
    InDoubt,
    /// The destination lives in another shard, or is on its way here. Nothing was done; to be sent again, in order, to
    /// where it lives.
    Moved,
}

impl Outcome {
    /// Whether the message of a publish is stored, by this command or one before.
    #[must_use]
    pub fn is_stored(self) -> bool {
        match self {
            Self::Stored | Self::Duplicate => true,
            Self::Applied
            | Self::UnknownMessage
            | Self::NumberTooOld
            | Self::LimitReached
            | Self::QueueFull
            | Self::Blocked
            | Self::UnknownDestination
            | Self::RolledBack
            | Self::InDoubt
            | Self::Moved => false,
        }
    }
}
