//! What the search remembers in order to see a broken rule.

use std::collections::BTreeMap;

use quorate_replication::invariant::{self, Violation};
use quorate_replication::{Claim, Entry, Epoch, Index, NodeId, Position};

/// What was committed, led and acknowledged so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Judge {
    leaders: BTreeMap<Epoch, NodeId>,
    committed: BTreeMap<Index, Entry>,
    /// In which epoch each was committed: only leaders of later ones must hold it.
    committed_in: BTreeMap<Index, Epoch>,
    acknowledged: BTreeMap<NodeId, Position>,
    pub(super) serving: Epoch,
    pub(super) violation: Option<Violation>,
}

impl Judge {
    pub(super) fn committed(&self) -> &BTreeMap<Index, Entry> {
        &self.committed
    }

    pub(super) fn led(
        &mut self,
        epoch: Epoch,
        node: NodeId,
        base: Index,
        log: impl Fn(Index) -> Option<Epoch>,
    ) {
        let once = invariant::leads_an_epoch_once(&self.leaders, epoch);
        self.keep(once);
        let one = invariant::one_leader_per_epoch(&mut self.leaders, epoch, node);
        self.keep(one);
        self.leads(epoch, base, log);
    }

    /// A leader of this epoch has this log.
    pub(super) fn leads(
        &mut self,
        epoch: Epoch,
        base: Index,
        log: impl Fn(Index) -> Option<Epoch>,
    ) {
        let known = self.committed.iter();
        let before = known.filter(|(index, _)| self.committed_in.get(index) < Some(&epoch));
        let epochs = before.map(|(index, entry)| (*index, entry.epoch)).collect();
        self.keep(invariant::leader_holds_committed(&epochs, epoch, base, log));
    }

    /// A replica in this epoch says that this entry is committed; `holders` hold it durably, of three.
    pub(super) fn commit(&mut self, entry: &Entry, epoch: Epoch, holders: usize) {
        let index = entry.index;
        self.committed_in.entry(index).or_insert(epoch);
        let one = invariant::one_entry_per_committed_index(&mut self.committed, index, entry);
        self.keep(one);
        let durable = if holders >= 2 {
            index
        } else {
            index.previous()
        };
        self.keep(invariant::confirmed_is_committed(durable, index));
    }

    pub(super) fn acknowledged(&mut self, node: NodeId, position: Position) {
        let greatest = self.acknowledged.entry(node).or_default();
        *greatest = position.max(*greatest);
    }

    pub(super) fn counted(&mut self, node: NodeId, held: Position) {
        let acknowledged = self.acknowledged.get(&node).copied().unwrap_or_default();
        self.keep(invariant::counted_holds_acknowledged(
            node,
            acknowledged,
            held,
        ));
    }

    pub(super) fn promised(&mut self, before: Claim, after: Claim) {
        self.keep(invariant::promise_never_goes_back(before, after));
    }

    fn keep(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }
}
