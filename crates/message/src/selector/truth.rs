//! The three values of SQL's logic.

/// What an expression says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// It does not hold.
    False,
    /// It cannot be told, for something that it asks for is absent.
    Unknown,
    /// It holds.
    True,
}

impl Truth {
    /// The truth of something that is known.
    pub(super) fn known(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }

    /// Both: the lesser, for false is below unknown, and unknown below true.
    pub(super) fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// Either: the greater.
    pub(super) fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// The opposite; unknown stays.
    pub(super) fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }

    /// The opposite, if so asked.
    pub(super) fn not_if(self, negated: bool) -> Self {
        if negated { self.not() } else { self }
    }
}
