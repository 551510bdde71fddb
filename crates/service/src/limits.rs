//! The bounds of this crate, each with its reason.

use std::time::Duration;

/// Longest time that a stop waits for traces to be sent: a collector that hangs must not hold up a restart.
pub(crate) const TELEMETRY_STOP: Duration = Duration::from_secs(2);

/// Time from the loss of the parent process to a hard exit. Nobody is left to kill a process that does not stop,
/// and its ports would block the next start.
pub(crate) const ORPHAN_EXIT: Duration = Duration::from_secs(10);

/// Largest configuration file. A larger one is a mistake in the path, and is not read into memory.
pub(crate) const CONFIG_FILE_BYTES: u64 = 1024 * 1024;
