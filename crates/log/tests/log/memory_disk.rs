//! A disk in memory that loses at a crash what was not synced: names one by one, contents sector by sector.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use quorate_log::limits::SECTOR_BYTES;
use quorate_log::{Disk, DiskFile};

/// A disk; clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    root: Folder,
    /// Operations until the power goes; none: it stays.
    fuse: Option<u64>,
    /// The next write or sync fails.
    failing: bool,
    capacity: Option<u64>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) syncs: u64,
    pub(crate) operations: u64,
}

type Inode = Arc<Mutex<Contents>>;

#[derive(Clone, Debug)]
enum Node {
    Folder(Arc<Mutex<Folder>>),
    File(Inode),
}

#[derive(Debug, Default)]
struct Folder {
    current: BTreeMap<String, Node>,
    synced: BTreeMap<String, Node>,
}

#[derive(Debug, Default)]
struct Contents {
    current: Vec<u8>,
    synced: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug)]
struct File {
    disk: MemoryDisk,
    inode: Inode,
}

/// A small generator of numbers, so that a seed tells all.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

impl Node {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(this), Self::Folder(other)) => Arc::ptr_eq(this, other),
            (Self::File(this), Self::File(other)) => Arc::ptr_eq(this, other),
            (Self::Folder(_), Self::File(_)) | (Self::File(_), Self::Folder(_)) => false,
        }
    }
}

impl MemoryDisk {
    /// Lets the power go after so many operations.
    pub(crate) fn light_fuse(&self, operations: u64) {
        self.0.lock().unwrap().fuse = Some(operations);
    }

    /// Whether the fuse has burnt.
    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().unwrap().fuse == Some(0)
    }

    pub(crate) fn fail_next(&self) {
        self.0.lock().unwrap().failing = true;
    }

    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().unwrap().capacity = bytes;
    }

    pub(crate) fn used(&self) -> u64 {
        used(&self.0.lock().unwrap().root)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().unwrap().counts
    }

    /// The power goes, and comes back.
    pub(crate) fn crash(&self, dice: &mut Dice) {
        let mut state = self.0.lock().unwrap();
        state.fuse = None;
        state.failing = false;
        crash(&mut state.root, dice);
    }

    /// Paths of all files below a folder.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        for name in self.list(folder).unwrap() {
            let path = format!("{folder}/{name}");
            match self.list(&path) {
                Ok(_) => found.extend(self.files(&path)),
                Err(_) => found.push(path),
            }
        }
        found
    }

    /// Changes the contents of a file behind everybody's back.
    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(Node::File(inode)) = self.node(path) else {
            panic!("{path} is a file")
        };
        let mut contents = inode.lock().unwrap();
        change(&mut contents.current);
        contents.synced = contents.current.clone();
        contents.dirty.clear();
    }

    fn operate(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.counts.operations += 1;
        match &mut state.fuse {
            Some(0) => return Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                if *left == 0 {
                    return Err(io::Error::other("no power"));
                }
            }
            None => {}
        }
        if std::mem::take(&mut state.failing) {
            return Err(io::Error::other("device error"));
        }
        Ok(())
    }

    fn node(&self, path: &str) -> Option<Node> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.with_folder(folder, |folder| folder.current.get(name).cloned())
            .ok()?
    }

    fn with_folder<T>(&self, path: &str, act: impl FnOnce(&mut Folder) -> T) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        let mut at: Option<Arc<Mutex<Folder>>> = None;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let node = match &at {
                Some(folder) => folder.lock().unwrap().current.get(name).cloned(),
                None => state.root.current.get(name).cloned(),
            };
            match node {
                Some(Node::Folder(folder)) => at = Some(folder),
                _ => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(match at {
            Some(folder) => act(&mut folder.lock().unwrap()),
            None => act(&mut state.root),
        })
    }

    fn in_folder<T>(&self, path: &str, act: impl FnOnce(&mut Folder, &str) -> T) -> io::Result<T> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.with_folder(folder, |folder| act(folder, name))
    }

    fn file(&self, inode: Inode) -> Arc<dyn DiskFile> {
        Arc::new(File {
            disk: self.clone(),
            inode,
        })
    }
}

impl Disk for MemoryDisk {
    fn create_folder(&self, path: &str) -> io::Result<()> {
        self.operate()?;
        self.in_folder(path, |folder, name| {
            let made = || Node::Folder(Arc::default());
            folder.current.entry(name.to_owned()).or_insert_with(made);
        })
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        self.operate()?;
        self.in_folder(path, |folder, name| {
            folder.current.remove(name);
        })
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.with_folder(folder, |folder| folder.current.keys().cloned().collect())
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.operate()?;
        let inode = Inode::default();
        let taken = self.in_folder(path, |folder, name| {
            let taken = folder.current.contains_key(name);
            if !taken {
                folder
                    .current
                    .insert(name.to_owned(), Node::File(Arc::clone(&inode)));
            }
            taken
        })?;
        if taken {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(self.file(inode))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        match self.node(path) {
            Some(Node::File(inode)) => Ok(self.file(inode)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operate()?;
        let node = self.in_folder(from, |folder, name| folder.current.remove(name))?;
        let node = node.ok_or(io::ErrorKind::NotFound)?;
        self.in_folder(to, |folder, name| {
            let replaced = folder.current.insert(name.to_owned(), node);
            assert!(
                !matches!(replaced, Some(Node::Folder(_))),
                "a folder is in the way"
            );
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.operate()?;
        let removed = self.in_folder(path, |folder, name| folder.current.remove(name))?;
        removed
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.operate()?;
        self.with_folder(folder, |folder| folder.synced = folder.current.clone())
    }
}

impl DiskFile for File {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        // The write during which the power goes arrives in part, in whole sectors.
        let outcome = self.disk.operate();
        let bytes = match &outcome {
            Ok(()) => &bytes[..],
            Err(_) => {
                &bytes[..(bytes.len() / 2 / SECTOR_BYTES * SECTOR_BYTES)
                    .saturating_sub(offset % SECTOR_BYTES)]
            }
        };
        let used = self.disk.used();
        let mut state = self.disk.0.lock().unwrap();
        state.counts.writes += 1;
        let mut contents = self.inode.lock().unwrap();
        let end = offset + bytes.len();
        let grows = end.saturating_sub(contents.current.len()) as u64;
        if state
            .capacity
            .is_some_and(|capacity| grows > 0 && used + grows > capacity)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if contents.current.len() < end {
            contents.current.resize(end, 0);
        }
        contents.current[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            contents
                .dirty
                .extend(offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
        }
        outcome
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let contents = self.inode.lock().unwrap();
        let offset = usize::try_from(offset).unwrap().min(contents.current.len());
        let count = into.len().min(contents.current.len() - offset);
        into[..count].copy_from_slice(&contents.current[offset..offset + count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operate()?;
        self.disk.0.lock().unwrap().counts.syncs += 1;
        let mut contents = self.inode.lock().unwrap();
        contents.synced = contents.current.clone();
        contents.dirty.clear();
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.inode.lock().unwrap().current.len() as u64)
    }
}

fn used(folder: &Folder) -> u64 {
    let size = |node: &Node| match node {
        Node::Folder(folder) => used(&folder.lock().unwrap()),
        Node::File(inode) => inode.lock().unwrap().current.len() as u64,
    };
    folder.current.values().map(size).sum()
}

/// A rename is undone or not; never is there neither the old name nor the new one.
fn keep_renames_whole(folder: &Folder, is_kept: &mut BTreeMap<String, bool>) {
    let mut renames = Vec::new();
    for (old, node) in &folder.synced {
        let renamed = |(name, now): &(&String, &Node)| *name != old && node.is(now);
        if let Some((new, _)) = folder.current.iter().find(renamed) {
            renames.push((old, new));
        }
    }
    // One may have made room for another.
    for _ in 0..renames.len() {
        for (old, new) in &renames {
            let with = is_kept[*old];
            is_kept.insert((*new).clone(), with);
        }
    }
}

fn crash(folder: &mut Folder, dice: &mut Dice) {
    let names: BTreeSet<String> = folder
        .current
        .keys()
        .chain(folder.synced.keys())
        .cloned()
        .collect();
    let mut is_kept: BTreeMap<String, bool> = names
        .into_iter()
        .map(|name| (name, dice.below(2) == 0))
        .collect();
    keep_renames_whole(folder, &mut is_kept);
    let mut left = BTreeMap::new();
    for (name, is_kept) in is_kept {
        let from = if is_kept {
            &folder.current
        } else {
            &folder.synced
        };
        if let Some(node) = from.get(&name) {
            left.insert(name, node.clone());
        }
    }
    for node in left.values() {
        match node {
            Node::Folder(folder) => crash(&mut folder.lock().unwrap(), dice),
            Node::File(inode) => {
                let contents = &mut *inode.lock().unwrap();
                let keep_all = dice.below(4) == 0;
                for sector in std::mem::take(&mut contents.dirty) {
                    if !keep_all && dice.below(2) == 0 {
                        continue;
                    }
                    let first = sector * SECTOR_BYTES;
                    let end = (first + SECTOR_BYTES).min(contents.current.len());
                    if contents.synced.len() < end {
                        contents.synced.resize(end, 0);
                    }
                    contents.synced[first..end].copy_from_slice(&contents.current[first..end]);
                }
                contents.current = contents.synced.clone();
            }
        }
    }
    folder.current = left.clone();
    folder.synced = left;
}
