//! The bounds of this crate, each with its reason.

/// Commands in one batch. The ordinal of a command takes ten bits of a [`crate::MessagePosition`].
pub const BATCH_COMMANDS_MAX: usize = 1024;

/// A builder that holds a command refuses to grow beyond this: larger entries gain no throughput and delay the
/// confirms of what shares them.
pub const BATCH_BYTES_TARGET: usize = 1024 * 1024;

/// No batch is larger than this: one message of the greatest size, alone, with its head.
pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A message in the stored encoding: a body of 1 MiB with room for its properties.
pub const MESSAGE_BYTES_MAX: usize = 1536 * 1024;

/// Properties of one message. Enough for any application seen; keeps the decoder's allocation small.
pub const PROPERTIES_MAX: usize = 1024;

/// Bytes of a destination's name, so that its length fits one byte.
pub const NAME_BYTES_MAX: usize = 255;

/// Bytes of an identity, a correlation id, a content type or a property's name: their length fits one byte.
pub const SHORT_TEXT_BYTES_MAX: usize = 255;

/// Bytes of a reply destination: a name with its kind in front (`queue://`).
pub const REPLY_TO_BYTES_MAX: usize = NAME_BYTES_MAX + 16;

/// Priorities are those of JMS.
pub const PRIORITY_MAX: u8 = 9;

/// The priority of a message that names none, as in JMS.
pub const PRIORITY_DEFAULT: u8 = 4;

/// The greatest index of a log entry that a position can carry: 53 bits beside the ordinal's ten and one for
/// non-persistent messages. At a million entries a second that lasts 285 years.
pub const ENTRY_MAX: u64 = (1 << 53) - 1;
