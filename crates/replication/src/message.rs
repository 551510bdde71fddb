//! What replicas say to each other, and what the coordinator and a replica say to each other.

use bytes::Bytes;

use crate::{
    Claim, DiskId, Entry, Epoch, Incarnation, Index, Member, Nonce, Position, RecordVersion, Round,
    ShardRecord,
};

/// From replica to replica of one shard. Messages may be lost, repeated, delayed and reordered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// The leader's entries after `previous`, or none: then it is a heartbeat.
    Append {
        /// The claim under which the sender leads.
        claim: Claim,
        /// The entry before the first of `entries`.
        previous: Position,
        /// Consecutive, from `previous.index + 1`.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
        /// Repeated in the answer.
        round: Round,
        /// Whether the leader holds its lease and its disk completes its writes in time. Only such an append
        /// counts as hearing the leader when the coordinator asks (`Replica::hears`).
        steady: bool,
    },
    /// The follower holds the log durably up to `matched`.
    Appended {
        /// Epoch of the append that is answered.
        epoch: Epoch,
        /// Disk of the follower.
        disk: DiskId,
        /// Whether its log may have lost entries that it acknowledged: such an answer does not count.
        impaired: bool,
        /// `min(durable end, matched in this epoch)`.
        matched: Index,
        /// Greatest round received: proves that the follower was reached, and says nothing of what is durable.
        round: Round,
    },
    /// `previous` is not in the follower's log.
    Parted {
        /// Epoch of the append that is answered.
        epoch: Epoch,
        /// Disk of the follower.
        disk: DiskId,
        /// Round of the append that is answered.
        round: Round,
        /// The end of what the follower holds in the greatest epoch at or below that of `previous`.
        hint: Position,
    },
    /// The follower promised a higher epoch, or the same epoch to another claim.
    Refused {
        /// What it promised.
        promise: Claim,
        /// Round of the append that is refused.
        round: Round,
    },
    /// An impaired follower asks where the leader's log ends.
    HealAsk {
        /// The epoch in which it asks.
        epoch: Epoch,
        /// Repeated in the answer.
        nonce: Nonce,
    },
    /// The end of the leader's log when it answered.
    HealAnswer {
        /// The leader's epoch.
        epoch: Epoch,
        /// That of the question.
        nonce: Nonce,
        /// Last index of the leader's log.
        end: Index,
    },
    /// A piece of a checkpoint transfer to a follower that is behind the start of the leader's log. What the bytes
    /// mean is the affair of the layer above.
    InstallChunk {
        /// The claim under which the sender leads.
        claim: Claim,
        /// The entry up to which the checkpoint stands for the log.
        at: Position,
        /// Names the transfer.
        transfer: Nonce,
        /// Bytes of the transfer before this chunk.
        offset: u64,
        /// The chunk.
        data: Bytes,
        /// Whether it is the last one.
        last: bool,
        /// Repeated in the answer.
        round: Round,
    },
    /// How much of a transfer has arrived.
    InstallAnswer {
        /// The leader's epoch.
        epoch: Epoch,
        /// Disk of the follower.
        disk: DiskId,
        /// The transfer.
        transfer: Nonce,
        /// Offset that is wanted next.
        taken: u64,
        /// The checkpoint is installed durably; appends go on after it.
        installed: bool,
        /// Round of the chunk that is answered.
        round: Round,
    },
    /// A piece of what a leader that is moved knows beyond the log, for the follower that is to lead next. What the
    /// bytes mean, and whether they are used, is the affair of the layer above.
    HandOver {
        /// The claim under which the sender leads.
        claim: Claim,
        /// The end of the log that it belongs to.
        at: Position,
        /// Counts the attempts of this leadership.
        number: u64,
        /// Bytes before this piece.
        offset: u64,
        /// The piece.
        data: Bytes,
        /// Whether it is the last one.
        last: bool,
    },
    /// How much of it has arrived.
    HandOverTaken {
        /// That of the piece.
        claim: Claim,
        /// That of the piece.
        number: u64,
        /// Bytes taken: the offset that is wanted next.
        taken: u64,
    },
}

/// From the coordinator to one replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// Are you there? Promises nothing.
    Probe {
        /// Repeated in the answer.
        nonce: Nonce,
    },
    /// Promise this claim and tell your position.
    Fence {
        /// The claim.
        claim: Claim,
    },
    /// Lead. Obeyed only if the claim is the promise and the incarnation is the replica's own.
    Lead {
        /// The claim that was granted.
        claim: Claim,
        /// Incarnation that answered the fence; 0, which no node has, from a coordinator that did not see that
        /// answer: then only a replica that leads by this claim already says so, and any other one refuses.
        incarnation: Incarnation,
        /// The record as granted.
        record: ShardRecord,
        /// Its version.
        version: RecordVersion,
    },
    /// Prepare the move of the leadership: append nothing until the target holds the whole log, hand over what is known
    /// beyond it, and say so. Promises nothing; the affair of the layer above.
    HandOver {
        /// The claim under which the receiver leads.
        claim: Claim,
        /// The voter that is to lead next.
        to: Member,
    },
}

/// A replica's answer to a fence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FenceAnswer {
    /// The claim that was promised.
    pub claim: Claim,
    /// Last entry of the durable log.
    pub end: Position,
    /// The log may end below what was acknowledged, or is damaged.
    pub impaired: bool,
    /// There was no valid promise on the disk: counts for nothing.
    pub wiped: bool,
    /// Upper bound of what this replica may ever have acknowledged.
    pub bound: Option<Position>,
    /// The disk that promises.
    pub disk: DiskId,
    /// The life of the node that promises.
    pub incarnation: Incarnation,
}

/// From a replica to the coordinator: answers to orders, and what the coordinator has to know unasked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Report {
    /// Answer to a probe.
    Probed {
        /// That of the probe.
        nonce: Nonce,
        /// As in [`FenceAnswer`].
        impaired: bool,
        /// As in [`FenceAnswer`].
        wiped: bool,
    },
    /// The fence is promised, durably.
    Fenced(FenceAnswer),
    /// The fence is refused: a higher epoch, or another claim of this one, is promised.
    FenceRefused {
        /// The claim that was asked for.
        claim: Claim,
        /// What is promised.
        promise: Claim,
    },
    /// Leads the epoch. Sent when it begins, when it serves, and again when asked by a repeated `Lead`.
    Leading {
        /// The epoch.
        epoch: Epoch,
        /// Its `NewEpoch` entry is committed: it confirms and delivers.
        serving: bool,
    },
    /// Does not lead as ordered.
    LeadRefused {
        /// The claim of the order.
        claim: Claim,
        /// What is promised.
        promise: Claim,
    },
    /// As leader it was refused by a follower with this higher promise: a half-done fence is to be finished.
    Outranked {
        /// The follower's promise.
        promise: Claim,
    },
    /// Answer to `HandOver`.
    HandedOver {
        /// The claim of the order.
        claim: Claim,
        /// The target of the order.
        to: Member,
        /// The target has everything, and nothing is appended for a moment. False: it leads on.
        ready: bool,
    },
    /// As leader it has not heard a commit quorum for the lease, or its own disk has stalled.
    LostQuorum {
        /// The epoch that it leads.
        epoch: Epoch,
    },
}
