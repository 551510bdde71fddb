//! A shard as the gateway sees it: who leads it, what waits for it, and the pause after a refusal.
//!
//! Of two pictures of a shard the one with the higher epoch is the newer. Numbers of batches rise over all lanes and
//! leaders, so that a late answer of an earlier leader still finds its batch: what it committed is committed.

use std::{collections::BTreeSet, sync::Arc};

use quorate_message::{BatchBuilder, GatewayId};

use super::{
    effect::{Command, Effect},
    ids::{BatchNumber, CallId, Epoch, LinkId, NodeId, ShardId, Time},
    input::{Outcomes, TopologyShard},
    lane::{Lane, Pending},
    reporting::Report,
};
use crate::limits::{
    BATCHES_IN_FLIGHT_MAX, BYTES_IN_FLIGHT_MAX, PAUSE_MICROS_MAX, PAUSE_MICROS_MIN,
    TRANSACTIONS_IN_FLIGHT_MAX,
};

/// What is kept apart on the way to one shard. Commands of one kind keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Persistent messages.
    Stored = 0,
    /// Non-persistent messages.
    Transient = 1,
    /// Settlements of persistent messages, and purges.
    Settle = 2,
    /// Settlements of non-persistent messages.
    SettleTransient = 3,
    /// What transactions do. Each waits for its own answers: the order among them does not matter.
    Transactions = 4,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Stored,
        Self::Transient,
        Self::Settle,
        Self::SettleTransient,
        Self::Transactions,
    ];

    /// Unanswered batches that a leader has at one time.
    fn in_flight_max(self) -> usize {
        match self {
            Self::Stored | Self::Transient | Self::Settle | Self::SettleTransient => {
                BATCHES_IN_FLIGHT_MAX
            }
            Self::Transactions => TRANSACTIONS_IN_FLIGHT_MAX,
        }
    }

    fn builder(self) -> BatchBuilder {
        match self {
            Self::Stored | Self::Settle | Self::Transactions => BatchBuilder::persistent(),
            Self::Transient | Self::SettleTransient => BatchBuilder::transient(),
        }
    }
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) id: ShardId,
    pub(super) epoch: Epoch,
    pub(super) leader: Option<NodeId>,
    /// The pair of streams to the leader, while it is open.
    link: Option<LinkId>,
    /// What the last refusal or the coordinator said about why nothing moves.
    reason: Arc<str>,
    lanes: [Lane; 5],
    numbers: BatchNumber,
    pause_until: Option<Time>,
    pause_micros: u64,
    /// Bytes of messages that are not answered.
    pub(super) bytes: u64,
    /// Calls that are not read from because `bytes` is above its bound.
    pub(super) paused: BTreeSet<CallId>,
    /// The consumers of its queues.
    pub(super) consumers: BTreeSet<CallId>,
    /// Whether the present leader knows what is held here.
    pub(super) report: Report,
}

impl Shard {
    pub(super) fn new(id: ShardId, gateway: GatewayId) -> Self {
        Self {
            id,
            epoch: Epoch(0),
            leader: None,
            link: None,
            reason: Arc::from("no coordinator has named a leader"),
            lanes: Kind::ALL.map(|kind| {
                let is_counted = matches!(kind, Kind::Settle);
                Lane::new(kind.builder(), is_counted.then_some(gateway))
            }),
            numbers: BatchNumber(0),
            pause_until: None,
            pause_micros: PAUSE_MICROS_MIN,
            bytes: 0,
            paused: BTreeSet::new(),
            consumers: BTreeSet::new(),
            report: Report::Due,
        }
    }

    /// The lane of this kind, and the counter that names its batches.
    pub(super) fn lane(&mut self, kind: Kind) -> (&mut Lane, &mut BatchNumber) {
        (&mut self.lanes[kind as usize], &mut self.numbers)
    }

    /// Takes a newer picture. True when somebody else leads, or the same node in another epoch.
    pub(super) fn learn(&mut self, told: &TopologyShard) -> bool {
        if told.epoch < self.epoch || (told.epoch == self.epoch && told.leader.is_none()) {
            if told.epoch == self.epoch && !told.leaderless_reason.is_empty() {
                self.reason = Arc::clone(&told.leaderless_reason);
            }
            return false;
        }
        if told.leader.is_none() && !told.leaderless_reason.is_empty() {
            self.reason = Arc::clone(&told.leaderless_reason);
        }
        let changed = (told.epoch, told.leader) != (self.epoch, self.leader);
        self.epoch = told.epoch;
        self.leader = told.leader;
        changed
    }

    /// Starts over with the present leader, on this pair of streams or without one. Returns how many batches will be
    /// sent again.
    pub(super) fn restart(&mut self, link: Option<LinkId>) -> usize {
        if link.is_none() && self.leader.is_some() {
            self.reason = Arc::from("the leader cannot be reached");
        }
        self.link = link;
        self.report = Report::Due;
        self.pause_until = None;
        self.pause_micros = PAUSE_MICROS_MIN;
        self.lanes.iter_mut().map(Lane::rewind).sum()
    }

    /// Whether the present leader is to be told what is held here. What it has of non-persistent settlements is answered
    /// first: nothing tells it that one named as under way was carried out before.
    pub(super) fn is_to_report(&self) -> bool {
        let settlements = &self.lanes[Kind::SettleTransient as usize];
        self.report == Report::Due && !settlements.is_under_way()
    }

    /// Where commands go at this moment; none while there is no leader, no link to it, or a pause.
    pub(super) fn target(&self) -> Option<(NodeId, LinkId)> {
        if self.pause_until.is_some() {
            return None;
        }
        self.present()
    }

    /// The leader and the streams to it, also during a pause: what frees something there is not to wait.
    pub(super) fn present(&self) -> Option<(NodeId, LinkId)> {
        self.leader.zip(self.link)
    }

    /// Whether this pair of streams is the one to the present leader.
    pub(super) fn is_present(&self, node: NodeId, link: LinkId) -> bool {
        self.leader == Some(node) && self.link == Some(link)
    }

    /// The leader refused everything: waits, then starts over. False when it waits already.
    pub(super) fn refused(&mut self, now: Time, reason: Arc<str>) -> bool {
        self.report = Report::Due;
        for lane in &mut self.lanes {
            lane.rewind();
        }
        self.pause(now, reason)
    }

    /// The leader refused this batch: waits, then goes on with it. False when it is not known.
    pub(super) fn overloaded(&mut self, now: Time, number: BatchNumber, reason: Arc<str>) -> bool {
        let known = self.lanes.iter_mut().any(|lane| lane.refused(number));
        if known {
            self.pause(now, reason);
        }
        known
    }

    fn pause(&mut self, now: Time, reason: Arc<str>) -> bool {
        self.reason = reason;
        if self.pause_until.is_some() {
            return false;
        }
        self.pause_until = Some(now.after(self.pause_micros));
        self.pause_micros = (self.pause_micros * 2).min(PAUSE_MICROS_MAX);
        true
    }

    /// Ends a pause whose time is over. True when it did.
    pub(super) fn unpause(&mut self, now: Time) -> bool {
        let over = self.pause_until.is_some_and(|until| until <= now);
        if over {
            self.pause_until = None;
        }
        over
    }

    /// Takes out an answered batch. Not one of messages that an earlier leader refused: the present one may have it again, or
    /// gets it, and may store it all the same.
    pub(super) fn answered(
        &mut self,
        number: BatchNumber,
        outcomes: Option<&Outcomes>,
        by_present: bool,
    ) -> Option<Pending> {
        let is_judged_again =
            !by_present && outcomes.is_some_and(|outcomes| !outcomes.are_stored());
        if is_judged_again && self.has_messages(number) {
            return None;
        }
        let mut lanes = self.lanes.iter_mut();
        let batch = lanes.find_map(|lane| lane.answered(number, by_present))?;
        if by_present {
            self.pause_micros = PAUSE_MICROS_MIN;
        }
        Some(batch)
    }

    /// Whether a batch that is not answered is one of messages.
    fn has_messages(&self, number: BatchNumber) -> bool {
        let kinds = [Kind::Stored, Kind::Transient].iter();
        let mut lanes = kinds.map(|kind| &self.lanes[*kind as usize]);
        lanes.any(|lane| lane.has(number))
    }

    /// Sends what the leader may have.
    pub(super) fn send(&mut self, effects: &mut Vec<Effect>) {
        let Some((node, link)) = self.target() else {
            return;
        };
        let shard = self.id;
        for kind in Kind::ALL {
            let lane = &mut self.lanes[kind as usize];
            while let Some((pending, previous)) =
                lane.next(&mut self.numbers, kind.in_flight_max(), BYTES_IN_FLIGHT_MAX)
            {
                let (number, batch) = (pending.number, pending.batch.clone());
                effects.push(match kind {
                    Kind::Stored | Kind::Transient | Kind::Transactions => Effect::Submit {
                        node,
                        link,
                        shard,
                        trace: pending.trace.clone(),
                        number,
                        previous,
                        batch,
                    },
                    Kind::Settle | Kind::SettleTransient => Effect::Control {
                        node,
                        link,
                        shard,
                        command: Command::Submit {
                            number,
                            previous,
                            batch,
                        },
                    },
                });
            }
        }
    }

    /// Whether `send` would send something.
    pub(super) fn has_more(&self) -> bool {
        self.target().is_some()
            && Kind::ALL
                .into_iter()
                .zip(&self.lanes)
                .any(|(kind, lane)| lane.has_more(kind.in_flight_max(), BYTES_IN_FLIGHT_MAX))
    }

    /// The end of the pause.
    pub(super) fn pause_until(&self) -> Option<Time> {
        self.pause_until
    }

    /// When the oldest command came in whose calls still wait.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.lanes.iter().filter_map(Lane::oldest).min()
    }

    /// Calls of which something came in at `until` or before and is not answered.
    pub(super) fn overdue(&mut self, until: Time) -> BTreeSet<CallId> {
        let numbers = &mut self.numbers;
        let lanes = self.lanes.iter_mut();
        lanes
            .flat_map(|lane| lane.overdue(numbers, until))
            .collect()
    }

    /// Why nothing moves, for a failed call.
    pub(super) fn why(&self) -> Arc<str> {
        match (self.leader, self.link, self.pause_until) {
            (Some(leader), Some(_), None) => {
                Arc::from(format!("its leader {leader} does not answer"))
            }
            (Some(leader), None, _) => Arc::from(format!("its leader {leader} cannot be reached")),
            (Some(_), Some(_), Some(_)) | (None, _, _) => Arc::clone(&self.reason),
        }
    }
}
