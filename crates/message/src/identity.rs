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
identity!(
    /// A consumer: when it comes back it takes over what it had.
    ConsumerId
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
}
