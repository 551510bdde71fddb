//! What must never happen (replication.md), one function each. Model, simulation and tests call these same functions.

use std::collections::BTreeMap;

use crate::{Claim, Epoch, Index, NodeId, Position, Stuck};

/// Something that must never happen, happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// Which rule was broken.
    pub rule: &'static str,
    /// How.
    pub detail: String,
}

impl Violation {
    fn new(rule: &'static str, detail: String) -> Self {
        Self { rule, detail }
    }
}

/// 1: never two leaders in one epoch. `leaders` collects every leader that ever was; `led` is one that began.
///
/// # Errors
/// When another node led the epoch.
pub fn one_leader_per_epoch(
    leaders: &mut BTreeMap<Epoch, NodeId>,
    epoch: Epoch,
    node: NodeId,
) -> Result<(), Violation> {
    match leaders.insert(epoch, node) {
        Some(other) if other != node => Err(Violation::new(
            "one leader per epoch",
            format!("{epoch} was led by {other} and by {node}"),
        )),
        Some(_) | None => Ok(()),
    }
}

/// 1, stricter: no node leads an epoch twice, not even after a restart.
///
/// # Errors
/// When the epoch was led before.
pub fn leads_an_epoch_once(
    leaders: &BTreeMap<Epoch, NodeId>,
    epoch: Epoch,
) -> Result<(), Violation> {
    match leaders.get(&epoch) {
        None => Ok(()),
        Some(node) => Err(Violation::new(
            "an epoch is led once",
            format!("{epoch} begins again after {node} led it"),
        )),
    }
}

/// 2: never a committed entry missing from the log of the leader of a higher epoch. `committed` holds the epoch of
/// each committed entry, `log` tells that of the leader's entries; entries at or below `base` are in its checkpoint.
///
/// # Errors
/// When the leader lacks one.
pub fn leader_holds_committed(
    committed: &BTreeMap<Index, Epoch>,
    leader: Epoch,
    base: Index,
    log: impl Fn(Index) -> Option<Epoch>,
) -> Result<(), Violation> {
    for (index, epoch) in committed.range(base.next()..) {
        if *epoch < leader && log(*index) != Some(*epoch) {
            return Err(Violation::new(
                "a leader holds every committed entry",
                format!(
                    "the leader of {leader} holds {:?} at {index}, committed was {epoch}",
                    log(*index)
                ),
            ));
        }
    }
    Ok(())
}

/// 3: never two different payloads at one committed index. `committed` collects what was committed where, by any
/// replica; `T` is the entry or a digest of it.
///
/// # Errors
/// When another entry was committed there.
pub fn one_entry_per_committed_index<T: Clone + PartialEq + std::fmt::Debug>(
    committed: &mut BTreeMap<Index, T>,
    index: Index,
    entry: &T,
) -> Result<(), Violation> {
    match committed.get(&index) {
        Some(other) if other != entry => Err(Violation::new(
            "one entry per committed index",
            format!("{index} is {other:?} on one replica and {entry:?} on another"),
        )),
        Some(_) => Ok(()),
        None => {
            committed.insert(index, entry.clone());
            Ok(())
        }
    }
}

/// 4: a commit index never goes back within a life of the node.
///
/// # Errors
/// When it did.
pub fn commit_never_goes_back(before: Index, after: Index) -> Result<(), Violation> {
    if before <= after {
        return Ok(());
    }
    Err(Violation::new(
        "commit never goes back",
        format!("from {before} to {after}"),
    ))
}

/// 4: a durable promise never goes back, nor changes its claim within an epoch, not even over a restart.
///
/// # Errors
/// When it did.
pub fn promise_never_goes_back(before: Claim, after: Claim) -> Result<(), Violation> {
    if before.epoch < after.epoch || before == after {
        return Ok(());
    }
    Err(Violation::new(
        "a promise never goes back",
        format!("from {before} to {after}"),
    ))
}

/// 5: no confirm for an entry that is not committed. `committed` is what a quorum held, as the judge counted it.
///
/// # Errors
/// When an entry beyond it was confirmed.
pub fn confirmed_is_committed(committed: Index, confirmed: Index) -> Result<(), Violation> {
    if confirmed <= committed {
        return Ok(());
    }
    Err(Violation::new(
        "a confirm is for a committed entry",
        format!("{confirmed} was confirmed, committed is {committed}"),
    ))
}

/// 6: no replica counts with a log from which it lost acknowledged entries. `acknowledged` is the greatest position
/// that it ever acknowledged and that was not replaced since, `held` the end of the log with which it was counted.
///
/// # Errors
/// When it was counted with less.
pub fn counted_holds_acknowledged(
    node: NodeId,
    acknowledged: Position,
    held: Position,
) -> Result<(), Violation> {
    if acknowledged <= held {
        return Ok(());
    }
    Err(Violation::new(
        "who counts holds what it acknowledged",
        format!("{node} acknowledged {acknowledged} and was counted with {held}"),
    ))
}

/// 7: the state machines of two replicas never differ at one index. `digests` collects the digest at each index.
///
/// # Errors
/// When another replica had another digest there.
pub fn one_state_per_index(
    digests: &mut BTreeMap<Index, u64>,
    index: Index,
    digest: u64,
) -> Result<(), Violation> {
    match digests.insert(index, digest) {
        Some(other) if other != digest => Err(Violation::new(
            "one state per index",
            format!("at {index} one replica has {other:016x}, another {digest:016x}"),
        )),
        Some(_) | None => Ok(()),
    }
}

/// 8: a shard without a serving leader has a stated reason.
///
/// # Errors
/// When it has neither.
pub fn leaderless_has_a_reason(serving: bool, stuck: Option<&Stuck>) -> Result<(), Violation> {
    if serving || stuck.is_some() {
        return Ok(());
    }
    Err(Violation::new(
        "a leaderless shard has a reason",
        "no leader serves and no election says why".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClaimId;

    #[test]
    fn each_rule_knows_when_it_is_broken() {
        let mut leaders = BTreeMap::new();
        assert!(leads_an_epoch_once(&leaders, Epoch(1)).is_ok());
        assert!(one_leader_per_epoch(&mut leaders, Epoch(1), NodeId(1)).is_ok());
        assert!(one_leader_per_epoch(&mut leaders, Epoch(1), NodeId(2)).is_err());
        assert!(leads_an_epoch_once(&leaders, Epoch(1)).is_err());

        let committed = BTreeMap::from([(Index(1), Epoch(1)), (Index(2), Epoch(1))]);
        let holds = |epoch| move |_| Some(epoch);
        assert!(leader_holds_committed(&committed, Epoch(2), Index(0), holds(Epoch(1))).is_ok());
        assert!(leader_holds_committed(&committed, Epoch(2), Index(0), |_| None).is_err());
        assert!(leader_holds_committed(&committed, Epoch(2), Index(2), |_| None).is_ok());
        assert!(leader_holds_committed(&committed, Epoch(1), Index(0), |_| None).is_ok());

        let mut entries = BTreeMap::new();
        assert!(one_entry_per_committed_index(&mut entries, Index(1), &"a").is_ok());
        assert!(one_entry_per_committed_index(&mut entries, Index(1), &"a").is_ok());
        assert!(one_entry_per_committed_index(&mut entries, Index(1), &"b").is_err());

        assert!(commit_never_goes_back(Index(2), Index(2)).is_ok());
        assert!(commit_never_goes_back(Index(2), Index(1)).is_err());
        let claim = |epoch, id| Claim {
            epoch: Epoch(epoch),
            id: ClaimId(id),
        };
        assert!(promise_never_goes_back(claim(2, 9), claim(3, 1)).is_ok());
        assert!(promise_never_goes_back(claim(2, 9), claim(1, 9)).is_err());
        assert!(promise_never_goes_back(claim(2, 9), claim(2, 8)).is_err());

        assert!(confirmed_is_committed(Index(3), Index(3)).is_ok());
        assert!(confirmed_is_committed(Index(3), Index(4)).is_err());
        let at = |index| Position {
            epoch: Epoch(1),
            index: Index(index),
        };
        assert!(counted_holds_acknowledged(NodeId(1), at(3), at(3)).is_ok());
        assert!(counted_holds_acknowledged(NodeId(1), at(4), at(3)).is_err());

        let mut digests = BTreeMap::new();
        assert!(one_state_per_index(&mut digests, Index(1), 7).is_ok());
        assert!(one_state_per_index(&mut digests, Index(1), 8).is_err());
        assert!(leaderless_has_a_reason(false, None).is_err());
        assert!(leaderless_has_a_reason(false, Some(&Stuck::StoreSilent)).is_ok());
    }
}
