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
    let mut members: Vec<Member> = sets(record).flatten().copied().collect();
    members.sort_unstable();
    members.dedup();
    members
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Claim, DiskId, Epoch, Incarnation, ShardId};

    fn member(node: u32) -> Member {
        Member {
            node: NodeId(node),
            disk: DiskId(u64::from(node)),
        }
    }

    fn record(voters: &[u32], next: Option<&[u32]>) -> ShardRecord {
        let members = |nodes: &[u32]| nodes.iter().map(|node| member(*node)).collect();
        ShardRecord {
            shard: ShardId(1),
            claim: Claim::default(),
            leader: None,
            voters: members(voters),
            next_voters: next.map(members),
            learners: vec![member(99)],
        }
    }

    fn position(epoch: u64, index: u64) -> Position {
        Position {
            epoch: Epoch(epoch),
            index: Index(index),
        }
    }

    fn sound(node: u32, epoch: u64, index: u64) -> (Member, FenceAnswer) {
        let answer = FenceAnswer {
            claim: Claim::default(),
            end: position(epoch, index),
            impaired: false,
            wiped: false,
            bound: Some(position(epoch, index + 100)),
            disk: member(node).disk,
            incarnation: Incarnation(1),
        };
        (member(node), answer)
    }

    fn impaired(node: u32, end: u64, bound: Option<u64>) -> (Member, FenceAnswer) {
        let (member, answer) = sound(node, 1, end);
        let bound = bound.map(|bound| position(1, bound));
        (
            member,
            FenceAnswer {
                impaired: true,
                bound,
                ..answer
            },
        )
    }

    fn chosen(
        record: &ShardRecord,
        answers: &[(Member, FenceAnswer)],
        preference: &Preference,
    ) -> Choice {
        let answers = answers.iter().map(|(member, answer)| (*member, answer));
        choose(record, answers, preference)
    }

    fn check(answers: &[(Member, FenceAnswer)], expected: &Choice) {
        let record = record(&[1, 2, 3], None);
        assert_eq!(chosen(&record, answers, &Preference::default()), *expected);
    }

    #[test]
    fn a_quorum_is_a_majority_of_each_set() {
        for (voters, next, holders, expected) in [
            (vec![1], None, vec![1], true),
            (vec![1, 2, 3], None, vec![1, 3], true),
            (vec![1, 2, 3], None, vec![1, 99], false),
            (vec![1, 2, 3, 4], None, vec![1, 2], false),
            (vec![1, 2, 3], Some(vec![3, 4, 5]), vec![1, 2], false),
            (vec![1, 2, 3], Some(vec![3, 4, 5]), vec![4, 5], false),
            (vec![1, 2, 3], Some(vec![3, 4, 5]), vec![1, 3, 4], true),
            (vec![], None, vec![1], false),
        ] {
            let record = record(&voters, next.as_deref());
            let is_quorum = is_quorum(&record, |member| holders.contains(&member.node.0));
            assert_eq!(is_quorum, expected, "{voters:?} {next:?} {holders:?}");
        }
    }

    #[test]
    fn the_index_that_a_quorum_holds_is_the_lower_one_of_both_sets() {
        let held = [0, 9, 7, 5, 3, 1].map(Index);
        let durable = |member: Member| held[usize::try_from(member.node.0).unwrap()];
        for (voters, next, expected) in [
            (vec![1], None, 9),
            (vec![1, 2, 3], None, 7),
            (vec![1, 2, 3, 4], None, 5),
            (vec![1, 2, 3], Some(vec![3, 4, 5]), 3),
            (vec![], None, 0),
        ] {
            let record = record(&voters, next.as_deref());
            assert_eq!(
                held_by_quorum(&record, durable),
                Index(expected),
                "{voters:?} {next:?}"
            );
        }
    }

    #[test]
    fn the_longest_sound_log_is_chosen_then_the_lowest_number() {
        check(
            &[sound(1, 1, 9), sound(3, 2, 1)],
            &Choice::Chosen(member(3)),
        );
        check(
            &[sound(3, 1, 9), sound(2, 1, 9)],
            &Choice::Chosen(member(2)),
        );
        check(&[sound(1, 1, 9)], &Choice::NoQuorum);
        check(&[sound(1, 1, 9), sound(99, 9, 9)], &Choice::NoQuorum);
    }

    #[test]
    fn preference_decides_among_equals_only() {
        let record = record(&[1, 2, 3], None);
        let answers = [sound(1, 1, 9), sound(2, 1, 9), sound(3, 1, 8)];
        for (preferred, avoid, expected) in [(2, 9, 2), (3, 9, 1), (1, 1, 2)] {
            let preference = Preference {
                preferred: Some(NodeId(preferred)),
                avoid: BTreeSet::from([NodeId(avoid)]),
            };
            let choice = chosen(&record, &answers, &preference);
            assert_eq!(choice, Choice::Chosen(member(expected)));
        }
    }

    #[test]
    fn an_impaired_answer_counts_with_its_bound_and_is_never_chosen() {
        let greatest = position(1, 9);
        check(
            &[sound(1, 1, 8), impaired(2, 8, Some(9))],
            &Choice::NoCandidate { greatest },
        );
        check(
            &[sound(1, 1, 9), impaired(2, 8, Some(9))],
            &Choice::Chosen(member(1)),
        );
        check(&[sound(1, 1, 9), impaired(2, 8, None)], &Choice::NoQuorum);
        check(
            &[impaired(1, 9, Some(9)), impaired(2, 9, Some(9))],
            &Choice::NoCandidate { greatest },
        );
    }

    #[test]
    fn an_impaired_answer_is_not_needed_beside_a_sound_quorum() {
        let answers = [sound(1, 1, 8), impaired(2, 8, Some(9)), sound(3, 1, 8)];
        check(&answers, &Choice::Chosen(member(1)));
    }

    #[test]
    fn a_wiped_answer_never_counts() {
        let (from, answer) = sound(2, 1, 9);
        let wiped = (
            from,
            FenceAnswer {
                wiped: true,
                ..answer
            },
        );
        check(&[sound(1, 1, 8), wiped], &Choice::NoQuorum);
    }
}
