//! Between the generated types and the machines': the only place of this crate that knows both.
//!
//! What comes in is checked here once: a field that is missing or out of range is a [`Malformed`], which names it.

pub(crate) mod between;
pub(crate) mod coordination;
pub(crate) mod deliveries;
pub(crate) mod moving;
pub(crate) mod peer;
pub(crate) mod session;

use bytes::Bytes;

/// Bytes of a frame in memory of their own, for what outlives the frame by far: the entries of a log's tail. The buffer
/// that a frame was read into is up to twice as large as the frame, and stays as long as one byte of it is used.
fn apart(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A message that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{0}` is missing or out of range")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<Malformed> for tonic::Status {
    fn from(malformed: Malformed) -> Self {
        Self::invalid_argument(malformed.to_string())
    }
}
