//! What a structure is encoded to: bytes of one version.

use bytes::BytesMut;
use thiserror::Error;

use super::version::Version;

/// A command that the wire format cannot carry, because a length field is too short for it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum EncodeError {
    /// A text field holds at most 65,535 bytes.
    #[error("a text of {bytes} bytes does not fit its field")]
    TextTooLong {
        /// Its encoded length.
        bytes: usize,
    },
    /// An array holds at most 65,535 structures.
    #[error("an array of {count} structures does not fit its field")]
    ArrayTooLong {
        /// How many structures it has.
        count: usize,
    },
    /// A byte string or a frame has a signed length of four bytes, and the peer may accept less.
    #[error("{bytes} bytes where {bytes_max} are accepted")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        bytes_max: usize,
    },
}

/// One frame that is being encoded.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    pub(crate) bytes: &'a mut BytesMut,
    pub(crate) version: Version,
}
