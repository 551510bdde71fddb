//! The bounds of the tool, each with its reason.

use std::time::Duration;

/// How long the first connection may take before the tool says that nobody answers, if the address has no `timeout`.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
/// How long the cluster may do nothing of what was asked before the tool gives up, if the address has no `timeout`:
/// twice a gateway's own deadline.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a command looks whether what it asked for is done.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a move of a leadership may take before the command says that it did not happen: above what the cluster
/// gives it.
pub(crate) const MOVE: Duration = Duration::from_secs(10);

/// Longest line that is read as a message. A gateway takes 1 MiB unless it is configured otherwise.
pub(crate) const LINE_BYTES: usize = 16 * 1024 * 1024;
/// Parts of input read ahead of what is sent.
pub(crate) const PARTS_AHEAD: usize = 16;
/// Lines in one such part.
pub(crate) const PART_LINES: usize = 256;

/// Messages taken from the consumer before they are written out and accepted.
pub(crate) const RECEIVE_BATCH: usize = 1000;

/// Characters of a body that are shown in a listing.
pub(crate) const SHOWN_CHARACTERS: usize = 200;

/// How long `quorate dev` waits for the cluster to serve.
pub(crate) const DEV_START: Duration = Duration::from_secs(90);
/// How long a child may take to stop before it is killed.
pub(crate) const DEV_STOP: Duration = Duration::from_secs(10);
/// Pause before a child that died is started again.
pub(crate) const DEV_RESTART: Duration = Duration::from_secs(1);
/// How often `quorate dev` looks at its children.
pub(crate) const DEV_POLL: Duration = Duration::from_millis(50);
/// Most nodes or gateways of `quorate dev`: names and ports stay in their ranges.
pub(crate) const DEV_PROCESSES: u16 = 90;

/// How long a bench waits for the last confirms or deliveries.
pub(crate) const DRAIN: Duration = Duration::from_secs(60);
/// Time between two looks whether the subscribers of a bench are attached.
pub(crate) const SUBSCRIBED_LOOK: Duration = Duration::from_millis(50);
/// Time between two looks at the schedule of an open loop: what is due is sent then, and timed from when it was due.
pub(crate) const PACE: Duration = Duration::from_micros(250);
/// Time for which each size of disk write is measured.
pub(crate) const DISK_TIME: Duration = Duration::from_secs(1);
/// Size of the file that the disk is measured with.
pub(crate) const DISK_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// How long a killed node may take to be back and in every quorum.
pub(crate) const RECOVERY: Duration = Duration::from_secs(120);

/// How often `quorate placement move` looks how far a move is.
pub(crate) const MOVE_LOOK: Duration = Duration::from_millis(50);

/// A move of which no gateway shows anything for so long did not come to pass, or is over and undone: a gateway hears of a
/// change in some milliseconds, and of one that it missed when it finds a coordinator again.
pub(crate) const MOVE_SEEN: Duration = Duration::from_secs(10);
