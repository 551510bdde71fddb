//! Majorities of members, as pure functions: what is committed, what a fence needs, and who is chosen.
//!
//! While a record has `next_voters`, a quorum is a majority of both sets (replication.md, Changing members).

use std::collections::BTreeSet;

use crate::{FenceAnswer, Index, Member, NodeId, Position, ShardRecord};

/// How many of `members` make a majority.
#[must_use]
pub fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// The sets of which a quorum needs a majority each: the voters, and the voters to be.
fn sets(record: &ShardRecord) -> impl Iterator<Item = &[Member]> {
    std::iter::once(record.voters.as_slice()).chain(record.next_voters.as_deref())
}

/// Whether the members for which `holds` is true are a quorum of the record. No quorum without voters.
#[must_use]
pub fn is_quorum(record: &ShardRecord, holds: impl Fn(Member) -> bool) -> bool {
    !record.voters.is_empty()
        && sets(record)
            .all(|set| set.iter().filter(|member| holds(**member)).count() >= majority(set.len()))
}

/// The greatest value that a quorum of the record has reached, where `reached` tells each member's; the least
/// value when there are no voters.
#[must_use]
pub fn reached_by_quorum<T: Ord + Copy + Default>(
    record: &ShardRecord,
    reached: impl Fn(Member) -> T,
) -> T {
    let mut values = Vec::with_capacity(record.voters.len());
    let mut least: Option<T> = None;
    for set in sets(record) {
        values.clear();
        values.extend(set.iter().map(|member| reached(*member)));
        values.sort_unstable();
        let value = match values.len() {
            0 => T::default(),
            len => values[len - majority(len)],
        };
        least = Some(least.map_or(value, |least| least.min(value)));
    }
    least.unwrap_or_default()
}

/// The index that a commit quorum holds durably, before the rule of the leader's own epoch is applied.
#[must_use]
pub fn held_by_quorum(record: &ShardRecord, durable: impl Fn(Member) -> Index) -> Index {
    reached_by_quorum(record, durable)
}

/// The members that a fence asks: voters and next voters, each once, ascending.
#[must_use]
pub fn fenced_members(record: &ShardRecord) -> Vec<Member> {
    let members: BTreeSet<Member> = sets(record).flatten().copied().collect();
    members.into_iter().collect()
}

/// What the answers to a fence allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Choice {
    /// This member is to lead.
    Chosen(Member),
    /// Too few answers count.
    NoQuorum,
    /// Enough answers count, but no unimpaired member that answered reaches `greatest`, up to which an impaired one
    /// may have acknowledged entries.
    NoCandidate {
        /// The position that a leader has to reach.
        greatest: Position,
    },
}

/// Who wins among members of equal position: not to be avoided first, then the preferred one, then the lowest number.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Preference {
    /// The leader that placement wants.
    pub preferred: Option<NodeId>,
    /// Nodes that could not serve as leaders a moment ago.
    pub avoid: BTreeSet<NodeId>,
}

/// Chooses the leader from the answers to one fence.
///
/// An impaired answer counts only if it carries a bound, with that bound as its position, and is never chosen; a
/// wiped one never counts. When the unimpaired answers are a quorum by themselves, the impaired ones are not needed
/// and not counted: any fence quorum meets every commit quorum.
#[must_use]
pub fn choose<'a>(
    record: &ShardRecord,
    answers: impl Iterator<Item = (Member, &'a FenceAnswer)> + Clone,
    preference: &Preference,
) -> Choice {
    let sound = |answer: &FenceAnswer| !answer.wiped && !answer.impaired;
    let answered = |member: Member, accept: &dyn Fn(&FenceAnswer) -> bool| {
        answers
            .clone()
            .any(|(from, answer)| from == member && accept(answer))
    };
    let counted_position = |answer: &FenceAnswer| match (answer.wiped, answer.impaired) {
        (true, _) => None,
        (false, true) => answer.bound,
        (false, false) => Some(answer.end),
    };
    let sound_quorum = is_quorum(record, |member| answered(member, &sound));
    if !sound_quorum
        && !is_quorum(record, |member| {
            answered(member, &|answer| counted_position(answer).is_some())
        })
    {
        return Choice::NoQuorum;
    }
    let members = fenced_members(record);
    let greatest = answers
        .clone()
        .filter(|(member, answer)| members.contains(member) && (sound(answer) || !sound_quorum))
        .filter_map(|(_, answer)| counted_position(answer))
        .max()
        .unwrap_or_default();
    answers
        .filter(|(member, answer)| {
            members.contains(member) && sound(answer) && answer.end == greatest
        })
        .map(|(member, _)| member)
        .min_by_key(|member| {
            (
                preference.avoid.contains(&member.node),
                preference.preferred != Some(member.node),
                *member,
            )
        })
        .map_or(Choice::NoCandidate { greatest }, Choice::Chosen)
}
