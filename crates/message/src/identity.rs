//! The names that producers and consumers give themselves.

use std::fmt;

use thiserror::Error;

/// The bytes given were no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an identity has 16 bytes, got {got}")]
pub struct IdentityError {
    /// How many bytes came.
    pub got: usize,
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl TryFrom<&[u8]> for $name {
            type Error = IdentityError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdentityError> {
                <[u8; 16]>::try_from(bytes)
                    .map(Self)
                    .map_err(|_| IdentityError { got: bytes.len() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

identity!(
    /// A producer: it numbers its messages, and a repeat under the same number is stored once.
    ProducerId
);
impl ProducerId {
    /// The first bytes of the name under which a shard forwards to others; its number follows.
    const SHARD: [u8; 12] = *b"quorate/shrd";

    /// The producer that a shard is for those that it forwards to. No client may have such a name: what is known of
    /// its numbers is kept for good.
    #[must_use]
    pub fn of_shard(shard: u32) -> Self {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&Self::SHARD);
        bytes[12..].copy_from_slice(&shard.to_be_bytes());
        Self(bytes)
    }

    /// The shard that this producer is, if it is one.
    #[must_use]
    pub fn shard(self) -> Option<u32> {
        let (prefix, number) = self.0.split_first_chunk::<12>()?;
        let number = number.first_chunk()?;
        (*prefix == Self::SHARD).then(|| u32::from_be_bytes(*number))
    }
}

identity!(
    /// A consumer: when it comes back it takes over what it had.
    ConsumerId
);
identity!(
    /// One life of a gateway: another one at each of its starts.
    GatewayId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sixteen_bytes_are_an_identity() {
        assert_eq!(ProducerId::try_from(&[7; 16][..]), Ok(ProducerId([7; 16])));
        assert_eq!(
            ConsumerId::try_from(&[7; 15][..]),
            Err(IdentityError { got: 15 })
        );
        assert_eq!(
            ProducerId([0xab; 16]).to_string(),
            "abababababababababababababababab"
        );
    }

    #[test]
    fn a_shard_is_a_producer_that_nobody_else_is() {
        assert_eq!(ProducerId::of_shard(77).shard(), Some(77));
        assert_ne!(ProducerId::of_shard(1), ProducerId::of_shard(2));
        assert_eq!(ProducerId([7; 16]).shard(), None);
    }
}
