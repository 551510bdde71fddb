//! What is logged of the controller's notes. Elections that begin or end together are told in one line: of a node that
//! led hundreds of shards a line for each would cost more than their elections do.

use std::fmt;

use quorate_replication::{Epoch, NodeId, ShardId};
use tracing::{debug, error, info, warn};

use crate::controller::{ElectionCause, Note, Refusal};

/// Elections of which nothing is logged yet.
#[derive(Debug, Default)]
pub(super) struct Log {
    started: Vec<Started>,
    served: Vec<Served>,
}

/// Elections that began for one reason.
#[derive(Debug)]
struct Started {
    cause: ElectionCause,
    shards: Vec<ShardId>,
}

/// Shards that a leader serves since their elections.
#[derive(Debug)]
struct Served {
    leader: NodeId,
    shards: Vec<(ShardId, Epoch)>,
    /// How long the slowest of these elections took.
    took_us: u64,
}

impl Log {
    /// Logs a note, or keeps it until `end_round`.
    pub(super) fn note(&mut self, note: &Note) {
        match note {
            Note::ElectionStarted { shard, cause } => self.started(*shard, *cause),
            Note::Serving {
                shard,
                leader,
                epoch,
                took_us,
            } => self.served(*leader, (*shard, *epoch), *took_us),
            Note::ForeignDisk { .. } | Note::StoreBehind { .. } => {
                error!(%note, "needs an operator");
            }
            Note::Refused(Refusal::OldImage { .. } | Refusal::UnknownNumber { .. }) => {
                error!(%note, "needs an operator");
            }
            Note::Refused(_)
            | Note::Died { .. }
            | Note::Stalled
            | Note::ClockOff { .. }
            | Note::MoveEnded {
                refusal: Some(_), ..
            }
            | Note::ElectionFailed { .. } => {
                warn!(%note, "unexpected");
            }
            Note::Activated { .. }
            | Note::Deactivated
            | Note::Joined { .. }
            | Note::Returned { .. }
            | Note::Bootstrapped { .. }
            | Note::SettingsReplaced { .. }
            | Note::MoveBegun { .. }
            | Note::MoveEnded { refusal: None, .. }
            | Note::Deferred { .. }
            | Note::ElectionDropped { .. }
            | Note::MoveStarted { .. }
            | Note::MoveFailed { .. }
            | Note::Drained { .. }
            | Note::ClockRight { .. } => info!(%note, "cluster"),
            Note::StreamBroken { .. }
            | Note::Claimed { .. }
            | Note::Granted { .. }
            | Note::Election { .. }
            | Note::Dropped(_) => debug!(%note, "step"),
        }
    }

    /// Logs what was kept.
    pub(super) fn end_round(&mut self) {
        for note in self.started.drain(..) {
            info!(%note, "cluster");
        }
        for note in self.served.drain(..) {
            info!(%note, "cluster");
        }
    }

    fn started(&mut self, shard: ShardId, cause: ElectionCause) {
        let mut known = self.started.iter_mut();
        match known.find(|known| known.cause == cause) {
            Some(known) => known.shards.push(shard),
            None => self.started.push(Started {
                cause,
                shards: vec![shard],
            }),
        }
    }

    fn served(&mut self, leader: NodeId, shard: (ShardId, Epoch), took_us: u64) {
        let mut known = self.served.iter_mut();
        match known.find(|known| known.leader == leader) {
            Some(known) => {
                known.shards.push(shard);
                known.took_us = known.took_us.max(took_us);
            }
            None => self.served.push(Served {
                leader,
                shards: vec![shard],
                took_us,
            }),
        }
    }
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shard in &self.shards {
            write!(f, "{shard} ")?;
        }
        write!(f, "election: {:?}", self.cause)
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (shard, epoch)) in self.shards.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{shard} in {epoch}")?;
        }
        write!(
            f,
            " served by {} after {} us at most",
            self.leader, self.took_us
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elections_of_one_round_are_told_together() {
        let mut log = Log::default();
        for number in [1, 7] {
            let shard = ShardId(number);
            let cause = ElectionCause::LostQuorum;
            log.note(&Note::ElectionStarted { shard, cause });
            log.note(&Note::Serving {
                shard,
                leader: NodeId(2),
                epoch: Epoch(u64::from(number) + 1),
                took_us: 100 - u64::from(number),
            });
        }
        let told: Vec<String> = log.started.iter().map(Started::to_string).collect();
        assert_eq!(told, ["s1 s7 election: LostQuorum"]);
        let told: Vec<String> = log.served.iter().map(Served::to_string).collect();
        assert_eq!(
            told,
            ["s1 in e2, s7 in e8 served by n2 after 99 us at most"]
        );
        log.end_round();
        assert!(log.started.is_empty() && log.served.is_empty());
    }
}
