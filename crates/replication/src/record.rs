//! The shard record: what the coordination store says of one shard. Changed only by compare-and-set on its version.

use crate::{Claim, Member, ShardId};

/// The version of a record in the coordination store. 0: not there yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordVersion(pub u64);

/// Who leads a shard, by which claim, and who its members are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardRecord {
    /// The shard.
    pub shard: ShardId,
    /// The newest claim; its epoch is the shard's epoch.
    pub claim: Claim,
    /// The member that the claim was granted to; none while the claim is open.
    pub leader: Option<Member>,
    /// The members whose majority commits and fences. In ascending order.
    pub voters: Vec<Member>,
    /// During a change of membership: the voters to be. A majority of both is needed then.
    pub next_voters: Option<Vec<Member>>,
    /// Members that get the log and count for nothing.
    pub learners: Vec<Member>,
}
