//! The bounds of this crate, each with its reason.

/// Most entries in one append. Keeps the work of one step and one message bounded when entries are tiny.
pub(crate) const APPEND_ENTRIES_MAX: usize = 1_024;

/// Most moments remembered per follower to tell when an answered message was sent. They are taken a quarter of a
/// heartbeat apart, so these reach back over more than one second at default settings; the oldest is dropped,
/// which can only shorten a lease.
pub(crate) const CONTACTS_MAX: usize = 64;

/// Most members of a record, of all kinds together; bounds the decoding of a record.
pub(crate) const MEMBERS_MAX: usize = 64;
