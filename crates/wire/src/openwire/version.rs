//! The version of the protocol, which decides the fields that a structure has.

use std::fmt;

/// A version of OpenWire that this crate speaks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(u8);

impl Version {
    /// The first.
    pub const OLDEST: Self = Self(1);
    /// What all clients since 5.12 speak, those of 6.x included.
    pub const LATEST: Self = Self(12);

    /// The version of this number, if it is one that this crate speaks.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number >= Self::OLDEST.0 && number <= Self::LATEST.0 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
