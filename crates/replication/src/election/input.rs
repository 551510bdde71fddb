//! What an election is told and what it wants done.

use crate::{Claim, Member, Order, RecordVersion, Report, ShardRecord};

/// Ties the answer of the coordination store to its question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The result of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Swapped {
    /// The record was written, durably, and has this version.
    Done(RecordVersion),
    /// The record has another version than expected; this is what it is.
    Conflict {
        /// The record in the store.
        record: ShardRecord,
        /// Its version.
        version: RecordVersion,
    },
    /// It may or may not have been carried out, or will be.
    Unknown,
}

/// An input of `Election`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElectionInput {
    /// A replica of the shard reported. The member is the node with the disk that it registered with.
    Reported {
        /// Who.
        from: Member,
        /// What.
        report: Report,
    },
    /// The store answered a compare-and-set.
    Swapped {
        /// That of the request.
        request: RequestId,
        /// The result.
        result: Swapped,
    },
    /// The store answered a read. None: it could not.
    Read {
        /// That of the request.
        request: RequestId,
        /// The record and its version.
        found: Option<(ShardRecord, RecordVersion)>,
    },
    /// The node is gone: process dead, or silent for too long.
    Lost(Member),
    /// The node is there, again or for the first time: orders it has not answered are sent at once.
    Came(Member),
    /// The clock moved to or past `next_deadline`.
    Elapsed,
}

/// Something that an election wants done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElectionEffect {
    /// Send to the replica; may be lost.
    Order {
        /// To whom.
        to: Member,
        /// What.
        order: Order,
    },
    /// Write the record if its version is still `expected`, durably, and answer with `Swapped`.
    Swap {
        /// Repeated in the answer.
        request: RequestId,
        /// The version that the record must have.
        expected: RecordVersion,
        /// The record to write.
        record: ShardRecord,
    },
    /// Read the record and answer with `Read`.
    Read {
        /// Repeated in the answer.
        request: RequestId,
    },
    /// The store holds this record at this version: the controller's picture and the topology follow it.
    Recorded {
        /// The record.
        record: ShardRecord,
        /// Its version.
        version: RecordVersion,
    },
    /// The leader serves; the election is over (`is_over`).
    Serves {
        /// The leader.
        leader: Member,
        /// Its claim.
        claim: Claim,
    },
    /// Something that an operator or a trace wants to know.
    Note(ElectionEvent),
}

/// The effects of a step, appended in order. The caller clears it between steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElectionEffects(pub Vec<ElectionEffect>);

/// What happened, for logs and traces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElectionEvent {
    /// A fence quorum answered the probe; the claim is attempted.
    Claims(Claim),
    /// The claim succeeded; members are fenced.
    Claimed(Claim),
    /// A leader was chosen; the grant is attempted.
    Chose(Claim, Member),
    /// The grant succeeded.
    Granted(Claim, Member),
    /// The leader leads; its first entry is not committed yet.
    Leads(Claim, Member),
    /// The leader serves.
    Serves(Claim, Member),
    /// Starts over, with the reason.
    StartsOver(&'static str),
    /// Something was dropped, with the reason.
    Dropped(&'static str),
}
