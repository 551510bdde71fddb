//! Every bound of this crate, with its reason.

use std::time::Duration;

/// What a disk writes whole or not at all. Power loss and a killed process both leave whole sectors, old or new.
pub const SECTOR_BYTES: usize = 512;

/// One slot of a slot file; the page of the file systems in use, so that one slot never shares a page with the other.
pub const SLOT_BYTES: usize = 4096;

/// What a draft holds at most: a slot without its head, checksum and place. An epoch's first entry takes some hundred bytes.
pub const DRAFT_BYTES_MAX: usize = SLOT_BYTES - 64;

/// Logs of one writer thread that have something to sync at once before drafts are worth their own write: below it, the syncs
/// of the logs cost about the same, and a few busy shards write nothing twice.
pub const DRAFTS_MIN: usize = 8;

/// The head of a segment: one page.
pub const SEGMENT_HEAD_BYTES: usize = 4096;

/// Records begin at multiples of this, so that a record's head never crosses a sector.
pub const RECORD_ALIGN_BYTES: usize = 64;

/// Largest payload of one entry. A batch is at most 1 MiB plus one message that is larger by itself.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Epochs named in the head of the next segment. More begin in one segment only if leaders change every few
/// hundred kilobytes; then opening scans that segment instead.
pub const HEAD_EPOCHS_MAX: usize = 200;

/// One point of the sparse index per this many bytes of log: 10 million small entries cost under a megabyte, and a
/// look-up reads at most this much to find its record.
pub const INDEX_POINT_BYTES: u64 = 32 << 10;

/// How much a look-up of single entries reads at once: as far as one point of the sparse index reaches.
pub const LOOK_UP_BYTES: usize = 32 << 10;

/// How much a scan reads at once.
pub const SCAN_BYTES: usize = 256 << 10;

/// How much a read of consecutive entries takes from the disk at once.
pub const READ_BYTES: usize = 1 << 20;

/// Payloads up to this size are gathered into one buffer, larger ones are written from where they are: below it,
/// one more element of a vectored write costs more than the copy.
pub const GATHER_PAYLOAD_BYTES: usize = 4096;

/// Elements of one vectored write (`IOV_MAX` of Linux).
pub const VECTORED_PARTS_MAX: usize = 1024;

/// Writer threads of a disk. More syncs at once only lengthen the slowest.
pub const WRITERS_MAX: usize = 4;

/// Writes that wait at one writer thread before whoever hands in more has to wait as well. Replicas bound their
/// own unwritten bytes; this is the last resort against a disk that stands still.
pub const WAITING_WRITES_MAX: usize = 1 << 16;

/// Reads that wait for a reader thread before more are refused.
pub const WAITING_READS_MAX: usize = 1024;

/// Size of the pieces in which a checkpoint is stored: sled handles values of this size well.
pub const CHECKPOINT_CHUNK_BYTES: usize = 256 << 10;

/// Checkpoint pieces of one batch: large batches cost sled twice the time and four times the memory.
pub const CHECKPOINT_BATCH_CHUNKS: usize = 4;

/// Cache of the checkpoint store. It holds little and is read at start only.
pub const STORE_CACHE_BYTES: u64 = 8 << 20;

/// How long opening the checkpoint store waits for its lock. Its own threads give it up within milliseconds; another
/// process that uses the store cannot be, since the data folder is locked before.
pub const STORE_UNLOCK: Duration = Duration::from_secs(2);

/// Length of a cluster's name.
pub const CLUSTER_NAME_BYTES_MAX: usize = 255;
