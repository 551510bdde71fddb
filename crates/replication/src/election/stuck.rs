//! Why a shard has no leader, as a value that names what is needed. Nothing in the system may be without a leader
//! and without one of these (replication.md, What must never happen).

use std::fmt;

use crate::{Claim, Member, Position};

/// What an election waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stuck {
    /// Too few replicas answer.
    NoFenceQuorum {
        /// The members that have not answered, or whose answer does not count.
        missing: Vec<Member>,
        /// How many of the missing are needed, at least.
        needed: usize,
    },
    /// A fence quorum answered, but an impaired member may have acknowledged entries that no sound one holds.
    NoCandidate {
        /// The position that a leader has to reach.
        greatest: Position,
        /// The members of which one is needed: they have not answered, or are impaired and must be mended.
        needed: Vec<Member>,
    },
    /// Every replica that answered is impaired or wiped.
    NoSoundReplica {
        /// The members that have not answered.
        missing: Vec<Member>,
    },
    /// A replica promised more than the record in the coordination store says: the store went back in time.
    StoreBehind {
        /// The replica.
        member: Member,
        /// What it promised.
        promise: Claim,
    },
    /// The coordination store does not answer.
    StoreSilent,
    /// The chosen leader has not said yet that it leads.
    LeaderSilent(Member),
    /// The leader leads, but its first entry is not committed: it does not reach a commit quorum.
    NotServing(Member),
}

/// Writes members with commas between them.
fn list(f: &mut fmt::Formatter<'_>, members: &[Member]) -> fmt::Result {
    for (number, member) in members.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        write!(f, "{comma}{member}")?;
    }
    Ok(())
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFenceQuorum { missing, needed } => {
                write!(f, "too few replicas answer: start at least {needed} of ")?;
                list(f, missing)
            }
            Self::NoCandidate { greatest, needed } => {
                write!(
                    f,
                    "no sound replica that answers reaches {greatest}: start one of "
                )?;
                list(f, needed)
            }
            Self::NoSoundReplica { missing } => {
                write!(
                    f,
                    "every replica that answers is impaired or wiped: start one of "
                )?;
                list(f, missing)
            }
            Self::StoreBehind { member, promise } => write!(
                f,
                "{member} promised {promise}, which the coordination store does not know: the store was restored \
                 from an old state and its records have to be rebuilt"
            ),
            Self::StoreSilent => write!(f, "the coordination store does not answer"),
            Self::LeaderSilent(leader) => {
                write!(f, "the chosen leader {leader} does not answer yet")
            }
            Self::NotServing(leader) => {
                write!(
                    f,
                    "the leader {leader} does not reach a majority of the replicas"
                )
            }
        }
    }
}
