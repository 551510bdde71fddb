//! Client protocols as bytes: which protocol a connection speaks, and the codec of each.
//!
//! Every decoder here takes any bytes whatsoever: it never panics, and what it allocates is bounded by its input and by
//! the constants of [`limits`]. Nothing here knows a connection, a broker, or what a command asks for.
#![deny(clippy::wildcard_enum_match_arm)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::expect_used,
    clippy::as_conversions
)]

mod detect;
pub mod limits;
pub mod openwire;
mod reader;

pub use detect::{DETECTION_BYTES_MAX, Detection, detect};
pub use reader::Truncated;
