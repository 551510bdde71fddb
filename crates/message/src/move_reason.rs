//! Why a stored message goes from one destination to another.

use std::fmt;

/// Why a message leaves its place, or is copied from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoveReason {
    /// It expired.
    Expired,
    /// It was returned more often than its queue allows.
    DeliveryLimit,
    /// A consumer rejected it.
    Rejected,
    /// Its queue was full.
    QueueFull,
    /// An operator moved it.
    Moved,
    /// An operator copied it: the original stays.
    Copied,
    /// An operator sent a dead letter back to where it came from.
    Retried,
    /// It was sent to a destination that passes messages on: the original stays.
    VirtualTopic,
    /// Its destination moved to another shard.
    Relocated,
}

impl MoveReason {
    const ALL: [Self; 9] = [
        Self::Expired,
        Self::DeliveryLimit,
        Self::Rejected,
        Self::QueueFull,
        Self::Moved,
        Self::Copied,
        Self::Retried,
        Self::VirtualTopic,
        Self::Relocated,
    ];

    /// Whether it makes the message a dead letter.
    #[must_use]
    pub fn is_death(self) -> bool {
        match self {
            Self::Expired | Self::DeliveryLimit | Self::Rejected | Self::QueueFull => true,
            Self::Moved | Self::Copied | Self::Retried | Self::VirtualTopic | Self::Relocated => {
                false
            }
        }
    }

    /// Whether the original stays where it is.
    #[must_use]
    pub fn is_copy(self) -> bool {
        match self {
            Self::Copied | Self::VirtualTopic => true,
            Self::Expired
            | Self::DeliveryLimit
            | Self::Rejected
            | Self::QueueFull
            | Self::Moved
            | Self::Retried
            | Self::Relocated => false,
        }
    }

    /// The number that stands for it in a batch and in a checkpoint; never 0.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Expired => 1,
            Self::DeliveryLimit => 2,
            Self::Rejected => 3,
            Self::QueueFull => 4,
            Self::Moved => 5,
            Self::Copied => 6,
            Self::Retried => 7,
            Self::VirtualTopic => 8,
            Self::Relocated => 9,
        }
    }

    /// The reason of a code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// The word that stands in a dead letter's properties.
impl fmt::Display for MoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "expired",
            Self::DeliveryLimit => "delivery-limit",
            Self::Rejected => "rejected",
            Self::QueueFull => "queue-full",
            Self::Moved => "moved",
            Self::Copied => "copied",
            Self::Retried => "retried",
            Self::VirtualTopic => "virtual-topic",
            Self::Relocated => "relocated",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_names_its_reason() {
        for reason in MoveReason::ALL {
            assert_eq!(MoveReason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(MoveReason::from_code(0), None);
        assert_eq!(MoveReason::from_code(10), None);
    }
}
