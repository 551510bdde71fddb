//! Every bound of this crate, with its reason.

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
