//! Opens the log of a shard after whatever happened to it.
//!
//! Where the good records of the last segment end, one of two things happened. Either nothing more was ever durable, and
//! what a crash left of unsynced writes is cut off: that is normal. Or something durable is lost, and the replica is
//! impaired. They are told apart by evidence that honest crashes cannot produce:
//!
//! - *Something proves that the missing entry was durable*: a later record that names what was synced before it, the durable
//!   mark, a seal without a successor, the head of a later segment, the checkpoint.
//! - *The record was written whole and is damaged* (`record.rs`), and the bound says that it may have been acknowledged. Beyond
//!   the bound nothing can have been, and it is cut like a torn one.
//!
//! That the log ends below the bound proves nothing by itself: the bound runs ahead of the tail, so it does so after every
//! crash. What is acknowledged was synced, what was synced is on the disk (`disk.rs`), and a place that is zero or was
//! written in part was not. Segments before the last one were synced before their successor was made: what is wrong in them
//! is always damage. A full check of them waits for the scrub, unless the replica is impaired already.
//!
//! A draft (`draft.rs`) is written to where it belongs before anything is read: it is the sync of what it holds.
//!
//! The impaired flag is durable before anything is cut on account of damage; what is cut away or put aside then is kept in
//! the folder `damaged` as far as it is whole files. Damage at or below the checkpoint, or in the live entries below the
//! base, cannot be mended by appends: the whole log is put aside and comes from the leader.

use std::io::{self, IoSlice};
use std::sync::Arc;

use quorate_replication::{Claim, ClaimId, Epoch, Index, NodeId, Position, Recovered, ShardId};

use crate::draft::Draft;
use crate::install;
use crate::limits::SCAN_BYTES;
use crate::node_disk::{CheckpointMark, Finding, NodeDisk, Opened};
use crate::reader::check_sealed;
use crate::scan::{Remains, Scanned, Stop, Window, remains, scan};
use crate::segment::{self, EpochStart, Segment, SegmentKind, zero};
use crate::shard_files::{self, DAMAGED, LOG, ShardFiles};
use crate::shard_log::{Parts, ShardLog, contiguous_base};
use crate::survey::{Survey, survey};
use crate::table::Table;
use crate::tail::{Tail, TailStart};

/// What was found at the end of a log.
struct Ending {
    tail: Arc<Segment>,
    found: Scanned,
    remains: Remains,
    /// Up to here entries are proven to have been durable.
    durable: Index,
}

/// Opens a shard; makes its folder, as that of a wiped replica, if it is not there.
pub(crate) fn open(
    node: &NodeDisk,
    shard: ShardId,
    checkpoint: CheckpointMark,
) -> io::Result<Opened> {
    let disk = node.disk();
    shard_files::create(node, shard, None)?;
    let folder = shard_files::folder(shard);
    let mut findings = Vec::new();
    findings.extend(install::finish(disk, &folder, checkpoint)?);
    if !disk.list(&folder)?.iter().any(|name| name == LOG) {
        // A crash amid putting the log aside.
        shard_files::create_log(node, shard, &folder)?;
    }
    let mut files = ShardFiles::open(disk, shard, &folder)?;
    if files.kept.wiped {
        findings.push(Finding::Wiped);
    }
    let log = format!("{folder}/{LOG}");
    finish_cut(node, &log, &mut files)?;
    if let Some(draft) = files.drafted.take()
        && draft.redo(disk, &log)?
    {
        files.drafted = Some(draft);
    }

    let mut survey = survey(node, shard, &log)?;
    if files.kept.impaired && survey.damage.is_none() {
        check_all(&mut survey)?;
    }
    let ending = read_ending(&survey, &files)?;
    let damage = judge(&survey, ending.as_ref(), &files, checkpoint);
    let Some(damage) = damage else {
        let ending = ending.expect("a log without a tail is damaged");
        let opened = finish(node, shard, files, survey, ending, checkpoint)?;
        return Ok(prepend(findings, opened));
    };
    files.kept.impaired = true;
    // The durable mark speaks of what is given up here.
    files.kept.cuts += 1;
    files.save_state()?;
    findings.push(damage.finding);
    match ending {
        Some(ending) if damage.is_above_checkpoint => {
            keep_damaged(node, &folder, &survey.rest)?;
            let opened = finish(node, shard, files, survey, ending, checkpoint)?;
            Ok(prepend(findings, opened))
        }
        ending => {
            let is_empty = ending.is_some_and(|ending| {
                let found = &ending.found;
                found.last == Position::default()
                    && found.stop == Stop::Unwritten
                    && ending.remains.end == 0
            });
            if !is_empty || !survey.rest.is_empty() {
                put_aside(node, shard, &folder)?;
                findings.push(Finding::PutAside);
            }
            let opened = open(node, shard, CheckpointMark::default())?;
            Ok(prepend(findings, opened))
        }
    }
}

struct Damage {
    finding: Finding,
    is_above_checkpoint: bool,
}

/// Decides whether something durable is lost.
fn judge(
    survey: &Survey,
    ending: Option<&Ending>,
    files: &ShardFiles,
    checkpoint: CheckpointMark,
) -> Option<Damage> {
    let Some(ending) = ending else {
        let missing = Finding::Damage {
            at: Index(1),
            what: "there is no segment to append to",
        };
        return Some(Damage {
            finding: survey.damage.clone().unwrap_or(missing),
            is_above_checkpoint: false,
        });
    };
    let last = ending.found.last;
    let base = base_of(survey);
    let proven = ending.durable > last.index;
    let what = match ending.found.stop {
        _ if survey.damage.is_some() => Some("a segment is missing or damaged"),
        _ if base.index > checkpoint.at.index => {
            Some("the checkpoint below the log's first entry is lost")
        }
        Stop::Sealed => Some("the segment after this entry is missing"),
        Stop::Unwritten | Stop::Torn | Stop::Passed if proven => {
            Some("entries that were durable are gone")
        }
        Stop::Damaged if proven || files.kept.bound > Some(last) => Some("a record is damaged"),
        Stop::Unwritten | Stop::Torn | Stop::Passed | Stop::Damaged => None,
    };
    let short = (checkpoint.at.index > last.index).then_some("the log ends below the checkpoint");
    let what = what.or(short)?;
    let is_whole = base.index <= checkpoint.at.index && checkpoint.at.index <= last.index;
    Some(Damage {
        finding: survey.damage.clone().unwrap_or_else(|| Finding::Damage {
            at: last.index.next(),
            what,
        }),
        is_above_checkpoint: is_whole,
    })
}

/// Reads the last segment that hangs together with those before it; none if it is not one to append to.
fn read_ending(survey: &Survey, files: &ShardFiles) -> io::Result<Option<Ending>> {
    let contiguous = |segment: &&Arc<Segment>| segment.head.kind == SegmentKind::Contiguous;
    let Some(tail) = survey.segments.last().filter(contiguous) else {
        return Ok(None);
    };
    let found = scan(&tail.head, tail.file.as_ref(), Index(u64::MAX))?;
    let remains = remains(tail.head.salt, tail.file.as_ref(), found.end)?;
    Ok(Some(Ending {
        tail: Arc::clone(tail),
        durable: files.marked.max(found.durable).max(remains.durable),
        found,
        remains,
    }))
}

/// Checks every record of the segments before the last one. The survey then ends at the first bad one.
fn check_all(survey: &mut Survey) -> io::Result<()> {
    for at in 0..survey.segments.len().saturating_sub(1) {
        let segment = &survey.segments[at];
        let next = segment.extent().last.next();
        let Some(finding) = check_sealed(segment, next)? else {
            continue;
        };
        let below = survey.segments[at].head.first.next() <= base_of(survey).index;
        // Below the base there is nothing to cut back to.
        let keep = if below { 0 } else { at + 1 };
        survey.rest = survey.segments[keep..]
            .iter()
            .map(|segment| segment.name())
            .collect();
        survey.segments.truncate(keep);
        survey.damage = Some(finding);
        return Ok(());
    }
    Ok(())
}

/// Cuts what no sync covered, makes the rest durable, and builds the log.
fn finish(
    node: &NodeDisk,
    shard: ShardId,
    mut files: ShardFiles,
    survey: Survey,
    ending: Ending,
    checkpoint: CheckpointMark,
) -> io::Result<Opened> {
    let found = &ending.found;
    let file = ending.tail.file.as_ref();
    let is_cut_off = |draft: &Draft| {
        let head = &ending.tail.head;
        (draft.first, draft.salt) == (head.first, head.salt) && draft.end() > found.end
    };
    if files.drafted.take().is_some_and(|draft| is_cut_off(&draft)) {
        // It must not come back behind what is written there from here on.
        files.kept.cuts += 1;
        files.marked = Index(0);
        files.save_state()?;
    }
    let size = file.size_bytes()?;
    let ahead = (found.end + node.room().sizes.fill_bytes).min(size);
    let filled = ahead.max(ending.remains.end).max(found.end);
    zero(file, found.end, filled)?;
    rewrite(&ending)?;
    file.sync()?;
    let is_torn = match found.stop {
        Stop::Torn | Stop::Damaged => true,
        Stop::Unwritten | Stop::Sealed | Stop::Passed => ending.remains.end > 0,
    };
    let findings = if is_torn && !files.kept.impaired {
        vec![Finding::TornTail {
            after: found.last.index,
        }]
    } else {
        Vec::new()
    };
    *ending.tail.extent() = found.extent.clone();
    let table = Arc::new(Table::new(survey.segments.iter().cloned()));
    let base = contiguous_base(&table);
    let recovered = Recovered {
        shard,
        node: node.node().unwrap_or(NodeId(0)),
        disk: node.disk_id(),
        incarnation: node.incarnation(),
        promise: promise(&files, found.last.epoch),
        bound: files.kept.bound,
        impaired: files.kept.impaired,
        base,
        end: found.last,
        epochs: epochs(&table, base, found.last),
        stamp: found.stamp.max(checkpoint.stamp),
        committed: checkpoint.at.index,
    };
    let start = TailStart {
        active: ending.tail,
        offset: found.end,
        filled,
        end: found.last,
        stamp: found.stamp,
    };
    let folder = format!("{}/{LOG}", shard_files::folder(shard));
    let tail = Tail::new(node.clone(), shard, folder, Arc::clone(&table), start);
    let parts = Parts {
        files,
        table,
        tail,
        base,
        gone: survey.gone,
    };
    Ok(Opened {
        log: ShardLog::new(node.clone(), shard, parts),
        recovered,
        findings,
    })
}

/// Writes what no sync is proven to cover once more: after a failed sync the system may hold it in memory only and
/// believe that it is on the disk.
fn rewrite(ending: &Ending) -> io::Result<()> {
    let file = ending.tail.file.as_ref();
    let mut window = Window::new(file);
    let mut at = ending.found.extent.seek(ending.durable);
    while at < ending.found.end {
        let left = usize::try_from(ending.found.end - at).unwrap_or(SCAN_BYTES);
        let count = left.min(SCAN_BYTES);
        let bytes = window.get(at, count)?;
        file.write_at(at, &[IoSlice::new(bytes)])?;
        at += count as u64;
    }
    Ok(())
}

/// Repeats a cut that a crash may have interrupted.
fn finish_cut(node: &NodeDisk, log: &str, files: &mut ShardFiles) -> io::Result<()> {
    let Some(after) = files.kept.cut else {
        return Ok(());
    };
    let disk = node.disk();
    let names = disk.list(log)?;
    let contiguous = names
        .iter()
        .filter_map(|name| match segment::parse_name(name)? {
            (SegmentKind::Contiguous, first) => Some((first, name)),
            (SegmentKind::Sparse, _) => None,
        });
    let (beyond, kept): (Vec<_>, Vec<_>) = contiguous.partition(|(first, _)| *first > after.next());
    if let Some((_, name)) = kept.iter().max() {
        let (file, head) = segment::open(disk, &format!("{log}/{name}"))?;
        if let Some(head) = head {
            let found = scan(&head, file.as_ref(), after)?;
            let remains = remains(head.salt, file.as_ref(), found.end)?;
            // If it ends before, it is damaged: found when the log is read.
            if found.last.index == after {
                zero(file.as_ref(), found.end, remains.end.max(found.end))?;
                file.sync()?;
            }
        }
    }
    for (_, name) in beyond {
        disk.remove(&format!("{log}/{name}"))?;
    }
    disk.sync_folder(log)?;
    files.kept.cut = None;
    files.save_state()
}

/// Moves files that come after the damage out of the log.
fn keep_damaged(node: &NodeDisk, folder: &str, names: &[String]) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let disk = node.disk();
    disk.create_folder(&format!("{folder}/{DAMAGED}"))?;
    for name in names {
        disk.rename(
            &format!("{folder}/{LOG}/{name}"),
            &format!("{folder}/{DAMAGED}/{name}"),
        )?;
    }
    disk.sync_folder(&format!("{folder}/{DAMAGED}"))?;
    disk.sync_folder(folder)?;
    disk.sync_folder(&format!("{folder}/{LOG}"))
}

/// Moves the whole log out of the way; what was put aside before is given up for it.
fn put_aside(node: &NodeDisk, shard: ShardId, folder: &str) -> io::Result<()> {
    let disk = node.disk();
    disk.remove_folder(&format!("{folder}/{DAMAGED}"))?;
    disk.sync_folder(folder)?;
    disk.rename(&format!("{folder}/{LOG}"), &format!("{folder}/{DAMAGED}"))?;
    disk.sync_folder(folder)?;
    shard_files::create_log(node, shard, folder)
}

fn promise(files: &ShardFiles, last: Epoch) -> Option<Claim> {
    let claim = files.promised.filter(|_| !files.kept.wiped)?;
    if claim.epoch < last {
        // replication.md: promised is at least the epoch of the last entry. No claim has this id.
        return Some(Claim {
            epoch: last,
            id: ClaimId(0),
        });
    }
    Some(claim)
}

fn base_of(survey: &Survey) -> Position {
    contiguous_base(&Table::new(survey.segments.iter().cloned()))
}

/// The first index of each epoch after the base.
fn epochs(table: &Table, base: Position, end: Position) -> Vec<(Epoch, Index)> {
    let mut epochs = Vec::new();
    for segment in table.all() {
        if segment.head.kind == SegmentKind::Sparse || segment.head.first <= base.index {
            continue;
        }
        let pair = |start: &EpochStart| (start.epoch, start.first);
        epochs.extend(segment.extent().starts.iter().map(pair));
    }
    let first = base.index.next();
    let begins = epochs.first().is_some_and(|(_, index)| *index == first);
    if end.index > base.index && !begins {
        epochs.insert(0, (base.epoch, first));
    }
    epochs
}

fn prepend(mut findings: Vec<Finding>, mut opened: Opened) -> Opened {
    findings.append(&mut opened.findings);
    opened.findings = findings;
    opened
}
