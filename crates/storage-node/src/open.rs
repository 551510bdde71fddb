//! Opening one shard: its folder, its checkpoint, its log, its machine; and what to do when they do not fit together.
//!
//! Nothing is ever thrown away because it cannot be read: what is wrong here may be wrong on every replica at once.

use std::{fs, io, path::Path, sync::Arc};

use quorate_log::{CheckpointMark, Opened};
use quorate_replication::{Claim, Position, ShardId, Stamp, Time, Write, WriteId};
use quorate_service::clock;
use tracing::{error, info};

use crate::{
    made_shards::MadeShards,
    node::NodeError,
    runtime::{DiskAccess, NodeParts, ShardTask, checkpoint_of},
    shard::{OpenError, Shard},
};

/// The folder for what was put aside.
const ASIDE: &str = "put-aside";

/// Opens a shard, or makes it on a disk that never had it. None: it stays closed on this node, and the log says why.
pub(crate) fn open_shard(
    shard: ShardId,
    config: quorate_replication::Config,
    parts: &Arc<NodeParts>,
) -> Result<Option<ShardTask>, NodeError> {
    let disk = &parts.disk;
    make_if_new(shard, disk)?;
    let checkpoint = match disk.checkpoints.load(shard) {
        Ok(found) => found,
        Err(error) => {
            error!(%shard, %error, "checkpoint cannot be loaded");
            None
        }
    };
    let mark = checkpoint
        .as_ref()
        .map(|found| found.mark)
        .unwrap_or_default();
    let opened = disk.disk.open_shard(shard, mark)?;
    report(shard, &opened);
    let now = Time(clock::monotonic_micros());
    let checkpoint = checkpoint.map(checkpoint_of);
    let recovered = opened.recovered.clone();
    let (machine, opened) = match Shard::open(config.clone(), recovered.clone(), checkpoint, now) {
        Ok(machine) => (machine, opened),
        Err(reason) => {
            let cause = std::error::Error::source(&reason)
                .map(ToString::to_string)
                .unwrap_or_default();
            error!(%shard, %reason, cause, "checkpoint of the shard cannot be used");
            let opened = match remedy(&reason, recovered.base) {
                Remedy::Replay => opened,
                Remedy::Rebuild => rebuild(shard, opened, disk)?,
                Remedy::StayClosed => {
                    error!(
                        %shard,
                        "the shard stays closed on this node, untouched; start the version that wrote it, or report this"
                    );
                    return Ok(None);
                }
            };
            let machine = Shard::open(config, opened.recovered.clone(), None, now)
                .map_err(|source| NodeError::Shard { shard, source })?;
            (machine, opened)
        }
    };
    let reader = opened.log.reader();
    let (task, handle) = ShardTask::new(shard, machine, reader, Arc::clone(parts));
    // Known before the log is adopted: the first completion must find its way.
    parts.shards.insert(shard, handle);
    disk.writers.adopt(opened.log);
    Ok(Some(task))
}

/// What to do about a checkpoint that does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// The log is there from its first entry on: all of it is applied again.
    Replay,
    /// The state before the log is lost on this disk: the leader has it.
    Rebuild,
    /// The state is there and whole, but this program cannot read it; and if it cannot, neither can the others.
    StayClosed,
}

fn remedy(reason: &OpenError, base: Position) -> Remedy {
    match reason {
        OpenError::Restore { .. } | OpenError::Gap { .. } if base.index.0 == 0 => Remedy::Replay,
        OpenError::Gap { .. } => Remedy::Rebuild,
        OpenError::Restore { .. } => Remedy::StayClosed,
    }
}

fn make_if_new(shard: ShardId, disk: &DiskAccess) -> Result<(), NodeError> {
    let made = MadeShards::new(&disk.folder);
    let is_here = disk.disk.shards()?.contains(&shard);
    if !is_here && made.load()?.contains(&shard) {
        error!(%shard, "folder of the shard is gone: its promises are forgotten, and the replica counts as wiped");
    } else if !is_here {
        disk.disk.create_shard(shard, Claim::default())?;
        info!(%shard, "shard made");
    }
    Ok(made.add(shard)?)
}

fn report(shard: ShardId, opened: &Opened) {
    for finding in &opened.findings {
        if finding.is_damage() {
            error!(%shard, %finding, "found while the log was opened");
        } else {
            info!(%shard, %finding, "found while the log was opened");
        }
    }
    let recovered = &opened.recovered;
    info!(
        %shard,
        end = %recovered.end,
        base = %recovered.base,
        impaired = recovered.impaired,
        "log opened"
    );
}

/// Without the state that its log begins after, a replica has nothing to show for its log: a copy is put aside, the
/// replica is impaired, durably, then its log is emptied, and the leader sends all. Promise and bound stay.
fn rebuild(shard: ShardId, opened: Opened, disk: &DiskAccess) -> Result<Opened, NodeError> {
    let copy = put_aside(shard, disk)?;
    error!(%shard, copy, "the replica is rebuilt by the leader; a copy of its log is kept");
    let mut log = opened.log;
    log.write(&[(WriteId(1), Write::Impaired(true))])?;
    log.sync()?;
    disk.checkpoints.remove(shard)?;
    log.begin_install(Position::default(), Stamp(0))?;
    log.seal_install()?;
    log.commit_install()?;
    drop(log);
    Ok(disk.disk.open_shard(shard, CheckpointMark::default())?)
}

fn put_aside(shard: ShardId, disk: &DiskAccess) -> io::Result<String> {
    let from = disk.folder.join("shards").join(format!("{:05}", shard.0));
    let name = format!("{:05}-{}", shard.0, disk.disk.incarnation().0);
    let to = disk.folder.join(ASIDE).join(name);
    copy_folder(&from, &to)?;
    Ok(to.display().to_string())
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::File::open(&target)?.sync_all()?;
        }
    }
    fs::File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use quorate_replication::{Epoch, Index};

    use super::*;

    #[test]
    fn a_log_is_emptied_only_when_the_state_before_it_is_gone() {
        let at = |index| Position {
            epoch: Epoch(1),
            index: Index(index),
        };
        let gap = |base| OpenError::Gap {
            base: at(base),
            at: at(0),
        };
        let unreadable = OpenError::Restore {
            at: at(9),
            source: quorate_broker::Broker::restore(b"?").unwrap_err(),
        };
        assert_eq!(remedy(&gap(7), at(7)), Remedy::Rebuild);
        assert_eq!(remedy(&unreadable, at(7)), Remedy::StayClosed);
        assert_eq!(remedy(&unreadable, at(0)), Remedy::Replay);
    }

    #[test]
    fn a_folder_is_copied_with_all_that_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir_all(from.join("log")).unwrap();
        fs::write(from.join("promise"), b"p").unwrap();
        fs::write(from.join("log/1.seg"), b"entries").unwrap();
        let to = folder.path().join("aside/1");
        copy_folder(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("log/1.seg")).unwrap(), b"entries");
        assert_eq!(fs::read(to.join("promise")).unwrap(), b"p");
    }
}
