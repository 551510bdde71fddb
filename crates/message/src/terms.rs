//! On what terms a consumer takes messages.

use crate::{GroupId, Selector};

/// What a consumer wants, and what it had. Most want everything that comes, in turn with the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Which messages it wants; none: all.
    pub selector: Option<Selector>,
    /// It wants to be the only one that gets messages, as long as it is there.
    pub is_exclusive: bool,
    /// It gets messages before consumers of a lower priority, as long as it has credit.
    pub priority: i8,
    /// The groups that an earlier attachment made its own. They stay with it, unless they are another's by now.
    pub owned_groups: Vec<GroupId>,
    /// It got messages under an earlier attachment: of exclusive ones it goes before those that did not.
    pub was_active: bool,
}

/// What a delivery says of its message's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupMark {
    /// The group.
    pub id: GroupId,
    /// It is the consumer's from this message on.
    pub is_first: bool,
    /// It is the consumer's no longer behind this message.
    pub is_last: bool,
}
