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

/// Bytes of what a message brings along that moves with its name: with its topic, the subscriptions that it is pending in,
/// some hundreds of them. Little beside the greatest message, and what is more goes with another copy.
pub const RELOCATION_BYTES_MAX: usize = 64 * 1024;

/// Properties of one message. Enough for any application seen; keeps the decoder's allocation small.
pub const PROPERTIES_MAX: usize = 1024;

/// Bytes of a destination's name, so that its length fits one byte.
pub const NAME_BYTES_MAX: usize = 255;

/// Bytes of an identity, a correlation id, a content type or a property's name: their length fits one byte.
pub const SHORT_TEXT_BYTES_MAX: usize = 255;

/// Bytes of a reply destination: a name with its kind in front (`queue://`).
pub const REPLY_TO_BYTES_MAX: usize = NAME_BYTES_MAX + 16;

/// Bytes of a selector: far more than any application's, little enough to keep for every subscription.
pub const SELECTOR_BYTES_MAX: usize = 8 * 1024;

/// Priorities are those of JMS.
pub const PRIORITY_MAX: u8 = 9;

/// The priority of a message that names none, as in JMS.
pub const PRIORITY_DEFAULT: u8 = 4;

/// Low bits of an attempt at a transaction that tell attempts of one deadline apart. The rest holds milliseconds since
/// 1970 for five centuries.
pub const ATTEMPT_NONCE_BITS: u32 = 20;

/// Shards that take part in one transaction beside its owner: as many as a cluster has at most.
pub const PARTICIPANTS_MAX: usize = 1024;

/// The greatest index of a log entry that a position can carry: 53 bits beside the ordinal's ten and one for
/// non-persistent messages. At a million entries a second that lasts 285 years.
pub const ENTRY_MAX: u64 = (1 << 53) - 1;

/// Patterns with settings in one cluster. Each queue is matched against all of them whenever they change.
pub const RULES_MAX: usize = 256;

/// Rules in their encoding: each with two names of the greatest length, and room for settings to come.
pub const SETTINGS_BYTES_MAX: usize = RULES_MAX * 1024;

/// Names of one cluster that live elsewhere than the slot map says. Every node and gateway keeps all of them, and they are
/// told with every change of the topology.
pub const OVERRIDES_MAX: usize = 1024;

/// Moves of names that were refused and are remembered for whoever asks why; the oldest goes.
pub const REFUSED_MOVES_MAX: usize = 16;

/// Overrides in their encoding: each with a name of the greatest length, and each refusal with a text of that length.
pub const OVERRIDES_BYTES_MAX: usize =
    18 + OVERRIDES_MAX * (NAME_BYTES_MAX + 18) + REFUSED_MOVES_MAX * (2 * NAME_BYTES_MAX + 14);

/// Deliveries of a message that may fail: ActiveMQ's one delivery and six redeliveries.
pub const MAX_DELIVERIES_DEFAULT: u32 = 7;

/// A wait that does not grow.
pub const MULTIPLIER_PERCENT_DEFAULT: u32 = 100;

/// A hundredfold wait with each return. Beyond that it is a mistake.
pub const MULTIPLIER_PERCENT_MAX: u32 = 10_000;

/// The longest time that a setting may name: a year of 366 days.
pub const SETTING_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;

/// Bytes of a cron expression, so that a schedule's length fits one byte.
pub const CRON_BYTES_MAX: usize = 200;

/// Milliseconds of a delay or a period: a hundred years, far from where sums of times overflow.
pub const DELAY_MS_MAX: u64 = 100 * 366 * 24 * 60 * 60 * 1000;

/// Parentheses, NOTs and signs within each other in a selector: bounds the stack of whoever reads it.
pub const SELECTOR_DEPTH_MAX: usize = 64;

/// Different names in a selector: their values are on the stack while it is asked.
pub const SELECTOR_NAMES_MAX: usize = 64;

/// Steps that a selector may take over one message, a few milliseconds; what takes more does not select it. Only
/// patterns with many `%` over long texts come near.
pub const SELECTOR_STEPS_MAX: u64 = 1_000_000;
