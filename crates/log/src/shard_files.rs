//! The folder of one shard, and the small values beside its log.
//!
//! - promise: the claim that was promised last.
//! - state: the bound, the impaired and wiped flags, and a cut that is being carried out.
//! - mark: up to where the log is known to be durable; written without sync, a hint that makes damage of an idle log
//!   provable. Counts only together with the number of cuts at which it was written.
//! - draft: what the log has written and not synced itself (`draft.rs`).
//!
//! Promise, state and draft are pairs of slots in a file that all shards of the disk share ([`SLOTS`]), so that those of many
//! shards are written with the same two syncs: an election concerns every shard that a node led. The mark is a file in the
//! shard's folder. Folders of before that have `promise` and `state` as files are taken over when they are opened.

use std::io;
use std::sync::Arc;

use quorate_replication::{Claim, ClaimId, Epoch, Index, Position, ShardId, Stamp};

use crate::disk::Disk;
use crate::draft::Draft;
use crate::fields::{Fields, put_u64s};
use crate::limits::SEGMENT_HEAD_BYTES;
use crate::node_disk::{NodeDisk, SHARDS};
use crate::segment::{Segment, SegmentHead, SegmentKind, zero};
use crate::slots::Slots;
use crate::space::{is_full, remove_if_there};

pub(crate) const LOG: &str = "log";
pub(crate) const STAGING: &str = "staging";
pub(crate) const OLD: &str = "old";
pub(crate) const DAMAGED: &str = "damaged";
/// The file of all shards' slots: pair 3n is the promise of shard n, the next its state, the next its draft.
pub(crate) const SLOTS: &str = "slots";
const PROMISE: &str = "promise";
const STATE: &str = "state";

/// The open small values of a shard.
#[derive(Debug)]
pub(crate) struct ShardFiles {
    promise: Slots,
    state: Slots,
    mark: Slots,
    pub(crate) promised: Option<Claim>,
    pub(crate) kept: Kept,
    pub(crate) marked: Index,
    /// What the log had not synced itself when it was closed.
    pub(crate) drafted: Option<Draft>,
    draft: Slots,
    staged: Option<Staged>,
}

/// A value that is to be written together with those of other shards.
#[derive(Debug)]
enum Staged {
    Promise(Claim),
    State,
    Draft(Vec<u8>),
}

/// What the state file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) bound: Option<Position>,
    pub(crate) impaired: bool,
    /// The promise was lost once; never cleared.
    pub(crate) wiped: bool,
    /// A cut after this index was begun and may not be finished.
    pub(crate) cut: Option<Index>,
    /// How many cuts and installs there were.
    pub(crate) cuts: u64,
}

impl ShardFiles {
    fn create(
        disk: &dyn Disk,
        shard: ShardId,
        folder: &str,
        promised: Option<Claim>,
    ) -> io::Result<()> {
        let lost = promised.is_none();
        // What a shard of this number left there before is outdone: its sequence goes on.
        let [(promise, _), (state, _), (draft, _)] = open_slots(disk, shard)?;
        let mut files = Self {
            promise,
            state,
            draft,
            drafted: None,
            mark: Slots::create(disk, &format!("{folder}/mark"))?,
            promised,
            kept: Kept {
                impaired: lost,
                wiped: lost,
                ..Kept::default()
            },
            marked: Index(0),
            staged: None,
        };
        files.save_state()?;
        match promised {
            Some(claim) => {
                files.stage_promise(claim);
                Self::save_staged([&mut files])
            }
            None => Ok(()),
        }
    }

    /// Opens them. Whatever is missing or unreadable of promise and state makes the replica wiped, for good.
    pub(crate) fn open(disk: &dyn Disk, shard: ShardId, folder: &str) -> io::Result<Self> {
        take_over(disk, shard, folder)?;
        let [(promise, claim), (state, kept), (draft, drafted)] = open_slots(disk, shard)?;
        let (mark, marked) = open_or_create(disk, &format!("{folder}/mark"))?;
        let promised = claim.as_deref().and_then(decode_promise);
        let known = kept.as_deref().and_then(Kept::decode);
        let mut kept = known.unwrap_or_default();
        let marked = marked
            .as_deref()
            .and_then(|bytes| decode_mark(bytes, kept.cuts));
        let lost = promised.is_none() || known.is_none();
        let unsaved = lost && !kept.wiped;
        if lost {
            kept.wiped = true;
            kept.impaired = true;
        }
        let drafted = drafted
            .as_deref()
            .and_then(|bytes| Draft::decode(bytes, kept.cuts));
        let mut files = Self {
            promise,
            state,
            draft,
            drafted,
            mark,
            promised,
            kept,
            marked: marked.unwrap_or_default(),
            staged: None,
        };
        if unsaved {
            files.save_state()?;
        }
        Ok(files)
    }

    /// Takes a promise, to be written by [`ShardFiles::save_staged`].
    pub(crate) fn stage_promise(&mut self, claim: Claim) {
        self.stage(Staged::Promise(claim));
    }

    /// Takes the state as it is, to be written by [`ShardFiles::save_staged`].
    pub(crate) fn stage_state(&mut self) {
        self.stage(Staged::State);
    }

    /// Takes a draft, to be written by [`ShardFiles::save_staged`].
    pub(crate) fn stage_draft(&mut self, draft: &Draft) {
        self.stage(Staged::Draft(draft.encode(self.kept.cuts)));
    }

    fn stage(&mut self, staged: Staged) {
        assert!(
            self.staged.is_none(),
            "a staged value is saved before the next"
        );
        self.staged = Some(staged);
    }

    /// Whether a value waits to be saved.
    pub(crate) fn is_staged(&self) -> bool {
        self.staged.is_some()
    }

    /// Writes what these shards have staged, durable in both slots of each when it returns. After an error it is unknown
    /// what is durable.
    pub(crate) fn save_staged<'a>(
        shards: impl IntoIterator<Item = &'a mut Self>,
    ) -> io::Result<()> {
        let mut writes = Vec::new();
        for files in shards {
            match files.staged.take() {
                Some(Staged::Promise(claim)) => {
                    let mut bytes = Vec::new();
                    put_u64s(&mut bytes, &[claim.epoch.0, claim.id.0]);
                    files.promised = Some(claim);
                    writes.push((&mut files.promise, bytes));
                }
                Some(Staged::State) => writes.push((&mut files.state, files.kept.encode())),
                Some(Staged::Draft(bytes)) => writes.push((&mut files.draft, bytes)),
                None => {}
            }
        }
        Slots::write_together(&mut writes)
    }

    /// Durable in both slots when it returns.
    pub(crate) fn save_state(&mut self) -> io::Result<()> {
        self.state.write(&self.kept.encode())
    }

    /// Not synced: a hint.
    pub(crate) fn save_mark(&mut self, durable: Index) -> io::Result<()> {
        let mut bytes = Vec::new();
        put_u64s(&mut bytes, &[self.kept.cuts, durable.0]);
        self.mark.write_unsynced(&bytes)?;
        self.marked = durable;
        Ok(())
    }
}

impl Kept {
    fn encode(&self) -> Vec<u8> {
        let bound = self.bound.unwrap_or_default();
        let flags = [
            self.bound.is_some(),
            self.impaired,
            self.wiped,
            self.cut.is_some(),
        ];
        let flags = flags
            .iter()
            .rev()
            .fold(0, |sum, flag| sum * 2 + u64::from(*flag));
        let cut = self.cut.unwrap_or_default();
        let mut bytes = Vec::new();
        put_u64s(
            &mut bytes,
            &[flags, bound.epoch.0, bound.index.0, cut.0, self.cuts],
        );
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let flags = fields.u64()?;
        let bound = Position {
            epoch: Epoch(fields.u64()?),
            index: Index(fields.u64()?),
        };
        let cut = Index(fields.u64()?);
        Some(Self {
            bound: (flags & 1 != 0).then_some(bound),
            impaired: flags & 2 != 0,
            wiped: flags & 4 != 0,
            cut: (flags & 8 != 0).then_some(cut),
            cuts: fields.u64()?,
        })
    }
}

/// Makes the folder of a shard under another name and renames it when everything in it is durable.
pub(crate) fn create(node: &NodeDisk, shard: ShardId, initial: Option<Claim>) -> io::Result<()> {
    let disk = node.disk();
    let name = folder_name(shard);
    let made = format!("{SHARDS}/{name}.new");
    if disk.list(SHARDS)?.contains(&name) {
        return Ok(());
    }
    disk.remove_folder(&made)?;
    disk.create_folder(&made)?;
    ShardFiles::create(disk, shard, &made, initial)?;
    create_log(node, shard, &made)?;
    disk.sync_folder(&made)?;
    disk.rename(&made, &folder(shard))?;
    disk.sync_folder(SHARDS)
}

/// Makes an empty log in a shard's folder.
pub(crate) fn create_log(node: &NodeDisk, shard: ShardId, folder: &str) -> io::Result<()> {
    let disk = node.disk();
    let log = format!("{folder}/{LOG}");
    disk.create_folder(&log)?;
    let head = SegmentHead {
        shard,
        kind: SegmentKind::Contiguous,
        first: Index(1),
        previous: Position::default(),
        previous_stamp: Stamp(0),
        previous_first: Index(0),
        salt: node.salt(),
        capacity: node.room().sizes.segment_first_bytes,
        previous_starts: Some(Vec::new()),
    };
    create_segment(node, &log, head)?;
    disk.sync_folder(folder)
}

/// Makes a segment, durable with its name when it returns, and says up to where it is filled with zeros. On a full
/// disk the reserve is given up first.
pub(crate) fn create_segment(
    node: &NodeDisk,
    log: &str,
    head: SegmentHead,
) -> io::Result<(Segment, u64)> {
    with_room(node, || {
        let made = format!("{log}/segment.new");
        let file = node.room().file(&made, head.capacity)?;
        let filled = head
            .capacity
            .min(SEGMENT_HEAD_BYTES as u64 + node.room().sizes.fill_bytes);
        file.write_at(0, &[io::IoSlice::new(&head.encode())])?;
        zero(file.as_ref(), SEGMENT_HEAD_BYTES as u64, filled)?;
        file.sync()?;
        let extent = crate::segment::Extent::empty(head.first);
        let segment = Segment::new(head.clone(), file, extent);
        node.disk()
            .rename(&made, &format!("{log}/{}", segment.name()))?;
        node.disk().sync_folder(log)?;
        Ok((segment, filled))
    })
}

/// Tries again after giving up the reserve while the disk is full.
pub(crate) fn with_room<T>(
    node: &NodeDisk,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if is_full(&error) && node.room().release()? => {}
            other => return other,
        }
    }
}

/// The folder of a shard.
pub(crate) fn folder(shard: ShardId) -> String {
    format!("{SHARDS}/{}", folder_name(shard))
}

/// Reads the name of a shard's folder.
pub(crate) fn parse_folder(name: &str) -> Option<ShardId> {
    Some(ShardId(name.parse().ok()?))
}

fn folder_name(shard: ShardId) -> String {
    format!("{:05}", shard.0)
}

fn open_or_create(disk: &dyn Disk, path: &str) -> io::Result<(Slots, Option<Vec<u8>>)> {
    match Slots::open(disk, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let slots = Slots::create(disk, path)?;
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            disk.sync_folder(folder)?;
            Ok((slots, None))
        }
        other => other,
    }
}

/// A pair of slots, and the value in it.
type Opened = (Slots, Option<Vec<u8>>);

/// Opens promise, state and draft of a shard by a handle of their own.
fn open_slots(disk: &dyn Disk, shard: ShardId) -> io::Result<[Opened; 3]> {
    let file = disk.open(SLOTS)?;
    let open = |pair| Slots::open_at(Arc::clone(&file), 3 * u64::from(shard.0) + pair);
    Ok([open(0)?, open(1)?, open(2)?])
}

/// Takes over what a folder holds as files. They count until they are gone, durably: only then is anything else written.
fn take_over(disk: &dyn Disk, shard: ShardId, folder: &str) -> io::Result<()> {
    let names = disk.list(folder)?;
    let found = [PROMISE, STATE].map(|name| names.iter().any(|found| found == name));
    if found == [false, false] {
        return Ok(());
    }
    let [(promise, _), (state, _), _] = open_slots(disk, shard)?;
    let files = [(PROMISE, promise), (STATE, state)];
    for ((name, mut slots), is_there) in files.into_iter().zip(found) {
        if !is_there {
            continue;
        }
        let (_, value) = Slots::open(disk, &format!("{folder}/{name}"))?;
        if let Some(value) = value {
            slots.write(&value)?;
        }
    }
    for name in [PROMISE, STATE] {
        remove_if_there(disk, &format!("{folder}/{name}"))?;
    }
    disk.sync_folder(folder)
}

fn decode_promise(bytes: &[u8]) -> Option<Claim> {
    let mut fields = Fields(bytes);
    Some(Claim {
        epoch: Epoch(fields.u64()?),
        id: ClaimId(fields.u64()?),
    })
}

fn decode_mark(bytes: &[u8], cuts: u64) -> Option<Index> {
    let mut fields = Fields(bytes);
    (fields.u64()? == cuts).then_some(())?;
    Some(Index(fields.u64()?))
}
