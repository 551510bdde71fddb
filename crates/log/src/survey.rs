//! Which segments of a log are there, and whether they hang together: heads only, before any record is read.

use std::io;
use std::sync::Arc;

use quorate_replication::{Index, ShardId};

use crate::disk::Disk;
use crate::node_disk::{Finding, NodeDisk};
use crate::segment::{self, Extent, Gone, Segment, SegmentKind};
use crate::shard_log::join;
use crate::space::remove_if_there;
use crate::table::index;

/// The segments of a log that hang together.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Ascending. How far the last one reaches is not known yet.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) gone: Vec<Gone>,
    /// What ends them before their time.
    pub(crate) damage: Option<Finding>,
    /// Names of the files from the damage on.
    pub(crate) rest: Vec<String>,
}

struct Named {
    kind: SegmentKind,
    first: Index,
    name: String,
}

/// Reads the heads of all segments; finishes what a crash left of dropping some.
pub(crate) fn survey(node: &NodeDisk, shard: ShardId, folder: &str) -> io::Result<Survey> {
    let disk = node.disk();
    remove_if_there(disk, &format!("{folder}/segment.new"))?;
    let names = disk.list(folder)?;
    let gone = join(names.iter().filter_map(|name| Gone::parse(name)).collect());
    let named = list_segments(disk, folder, &names, &gone)?;
    let mut found = Survey {
        segments: Vec::new(),
        gone,
        damage: None,
        rest: Vec::new(),
    };
    for (at, named_segment) in named.iter().enumerate() {
        let what = found.add(disk, shard, folder, named_segment)?;
        if let Some(what) = what {
            let before = found
                .segments
                .last()
                .map_or(Index(0), |segment| segment.head.first);
            found.damage = Some(Finding::Damage {
                at: before.next().min(named_segment.first),
                what,
            });
            found.rest = named[at..].iter().map(|named| named.name.clone()).collect();
            break;
        }
    }
    found.set_extents()?;
    Ok(found)
}

impl Survey {
    /// Takes a segment in, or says what is wrong with it.
    fn add(
        &mut self,
        disk: &dyn Disk,
        shard: ShardId,
        folder: &str,
        named: &Named,
    ) -> io::Result<Option<&'static str>> {
        let (file, head) = segment::open(disk, &format!("{folder}/{}", named.name))?;
        let is_own = |head: &segment::SegmentHead| {
            head.first == named.first && head.kind == named.kind && head.shard == shard
        };
        let Some(head) = head.filter(is_own) else {
            return Ok(Some("the head of a segment is damaged"));
        };
        let before = self
            .segments
            .last()
            .map_or(Index(0), |segment| segment.head.first);
        let dropped =
            |gone: &Gone| gone.first <= head.previous_first && gone.last.next() == head.first;
        if before != head.previous_first && !self.gone.iter().any(dropped) {
            return Ok(Some("a segment is missing"));
        }
        let extent = Extent {
            last: Index(u64::MAX),
            ..Extent::default()
        };
        self.segments
            .push(Arc::new(Segment::new(head, file, extent)));
        Ok(None)
    }

    /// Takes from each segment's successor how far it reaches and which epochs begin in it.
    fn set_extents(&self) -> io::Result<()> {
        for pair in self.segments.windows(2) {
            let [segment, next] = pair else { continue };
            let first = segment.head.first;
            let dropped = self
                .gone
                .iter()
                .map(|gone| gone.first)
                .find(|gone| *gone > first);
            let behind = dropped.unwrap_or(next.head.first).min(next.head.first);
            segment.extent().last = behind.previous();
            if next.head.previous_first != first || segment.head.kind == SegmentKind::Sparse {
                continue;
            }
            match &next.head.previous_starts {
                Some(starts) => segment.extent().starts.clone_from(starts),
                None => index(segment)?,
            }
        }
        Ok(())
    }
}

fn list_segments(
    disk: &dyn Disk,
    folder: &str,
    names: &[String],
    gone: &[Gone],
) -> io::Result<Vec<Named>> {
    let mut named = Vec::new();
    for name in names {
        let Some((kind, first)) = segment::parse_name(name) else {
            continue;
        };
        if gone
            .iter()
            .any(|gone| gone.first <= first && first <= gone.last)
        {
            disk.remove(&format!("{folder}/{name}"))?;
            continue;
        }
        named.push(Named {
            kind,
            first,
            name: name.clone(),
        });
    }
    named.sort_by_key(|named| named.first);
    Ok(named)
}
