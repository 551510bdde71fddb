//! The calls of one connection: each has a name that is never used again, and a role.

use std::collections::{BTreeMap, BTreeSet};

use super::{answering::Asked, consumer::Serial};
use crate::{limits::CALLS_MAX, session::CallId};

/// What a call is for.
#[derive(Debug)]
pub(super) enum Role {
    /// All messages sent outside of transactions.
    Publishing,
    /// A consumer.
    Consuming(Serial),
    /// A transaction, by its number.
    Transacting(i64),
    /// A destination is emptied, since it is removed.
    Purging(Asked),
    /// A durable subscription is deleted.
    Unsubscribing(Asked, String),
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Calls {
    next: u64,
    roles: BTreeMap<CallId, Role>,
    /// Whose client is not to be read from.
    paused: BTreeSet<CallId>,
}

impl Calls {
    pub(super) fn new(first: CallId) -> Self {
        Self {
            next: first.0,
            roles: BTreeMap::new(),
            paused: BTreeSet::new(),
        }
    }

    /// Begins one.
    pub(super) fn begin(&mut self, role: Role) -> CallId {
        let call = CallId(self.next);
        self.next += 1;
        self.roles.insert(call, role);
        call
    }

    /// Ends one; none: it had ended before.
    pub(super) fn end(&mut self, call: CallId) -> Option<Role> {
        self.paused.remove(&call);
        self.roles.remove(&call)
    }

    pub(super) fn role(&self, call: CallId) -> Option<&Role> {
        self.roles.get(&call)
    }

    /// All that are open.
    pub(super) fn open(&self) -> Vec<CallId> {
        self.roles.keys().copied().collect()
    }

    pub(super) fn pause(&mut self, call: CallId) {
        if self.roles.contains_key(&call) {
            self.paused.insert(call);
        }
    }

    pub(super) fn resume(&mut self, call: CallId) {
        self.paused.remove(&call);
    }

    /// The client is not to be read from: a call says so, or there are very many.
    pub(super) fn is_paused(&self) -> bool {
        !self.paused.is_empty() || self.roles.len() >= CALLS_MAX
    }
}
