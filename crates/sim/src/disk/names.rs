//! The folders of a fake disk: the names as they are, the names as synced, and what lies between.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::Inode;
use super::{DiskCounts, Loss};
use crate::rng::Rng;

/// What a name stands for.
#[derive(Clone, Debug)]
enum Entry {
    Folder,
    File(Arc<Mutex<Inode>>),
}

/// A change of names that a sync of its folder makes durable.
#[derive(Clone, Debug)]
enum NameOp {
    Folder(String),
    File(String, Arc<Mutex<Inode>>),
    /// The old name, the new name, and the file if it is one.
    Rename(String, String, Option<Arc<Mutex<Inode>>>),
    Remove(String),
}

impl NameOp {
    /// The folder whose sync makes the change durable; for a rename that of the new name.
    fn folder(&self) -> &str {
        match self {
            Self::Folder(path) | Self::File(path, _) | Self::Remove(path) => parent(path),
            Self::Rename(_, to, _) => parent(to),
        }
    }
}

type Tree = BTreeMap<String, Entry>;

/// All names of a disk.
#[derive(Debug, Default)]
pub(crate) struct Names {
    current: Tree,
    synced: Tree,
    pending: Vec<NameOp>,
}

impl Names {
    pub(crate) fn create_folder(&mut self, path: &str) -> io::Result<()> {
        self.expect_parent(path)?;
        match self.current.get(path) {
            Some(Entry::Folder) => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                self.apply(NameOp::Folder(path.to_owned()));
                Ok(())
            }
        }
    }

    pub(crate) fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        if self.current.contains_key(path) {
            self.apply(NameOp::Remove(path.to_owned()));
        }
        Ok(())
    }

    pub(crate) fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        if !folder.is_empty() && !matches!(self.current.get(folder), Some(Entry::Folder)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let paths = self.current.keys();
        let within = paths.filter(|path| parent(path) == folder);
        Ok(within.map(|path| name(path).to_owned()).collect())
    }

    pub(crate) fn create(&mut self, path: &str) -> io::Result<Arc<Mutex<Inode>>> {
        self.expect_parent(path)?;
        if self.current.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = Arc::new(Mutex::new(Inode::default()));
        self.apply(NameOp::File(path.to_owned(), Arc::clone(&inode)));
        Ok(inode)
    }

    pub(crate) fn open(&self, path: &str) -> io::Result<Arc<Mutex<Inode>>> {
        match self.current.get(path) {
            Some(Entry::File(inode)) => Ok(Arc::clone(inode)),
            Some(Entry::Folder) | None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.expect_parent(to)?;
        let Some(moved) = self.current.get(from) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        match (moved, self.current.get(to)) {
            (_, None) | (Entry::File(_), Some(Entry::File(_))) => {}
            (_, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
        }
        let file = match moved {
            Entry::File(inode) => Some(Arc::clone(inode)),
            Entry::Folder => None,
        };
        self.apply(NameOp::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &str) -> io::Result<()> {
        if !matches!(self.current.get(path), Some(Entry::File(_))) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.apply(NameOp::Remove(path.to_owned()));
        Ok(())
    }

    /// Makes the names in this folder durable as they are; changes in other folders stay open.
    pub(crate) fn sync_folder(&mut self, folder: &str) {
        let pending = std::mem::take(&mut self.pending);
        for op in pending {
            match op {
                op if op.folder() == folder => carry_out(&mut self.synced, &op),
                // The old name is gone for good; whether the new one is there is still open.
                NameOp::Rename(from, to, Some(inode)) if parent(&from) == folder => {
                    self.pending.push(NameOp::File(to, inode));
                }
                op => self.pending.push(op),
            }
        }
        // A file may have come from or gone to a folder that is not synced: here it is, or is not, all the same.
        let is_here = |path: &String| parent(path) == folder;
        self.synced.retain(|path, entry| {
            !is_here(path) || matches!(entry, Entry::Folder) || self.current.contains_key(path)
        });
        for (path, entry) in self.current.iter().filter(|(path, _)| is_here(path)) {
            if let Entry::File(inode) = entry {
                self.synced
                    .insert(path.clone(), Entry::File(Arc::clone(inode)));
            }
        }
    }

    pub(crate) fn cut_power(&mut self, loss: Loss, rng: &mut Rng, counts: &mut DiskCounts) {
        for op in std::mem::take(&mut self.pending) {
            let keeps = match loss {
                Loss::All => false,
                Loss::Nothing => true,
                Loss::Each => rng.chance(1, 2),
            };
            if keeps {
                carry_out(&mut self.synced, &op);
            } else {
                counts.lost_names += 1;
            }
        }
        drop_orphans(&mut self.synced);
        self.current = self.synced.clone();
        for entry in self.current.values() {
            if let Entry::File(inode) = entry {
                let mut inode = inode.lock().unwrap_or_else(PoisonError::into_inner);
                inode.cut_power(loss, rng, counts);
            }
        }
    }

    pub(crate) fn rot(&mut self, part: &str, rng: &mut Rng) -> bool {
        let files: Vec<_> = self
            .current
            .iter()
            .filter(|(path, _)| path.contains(part))
            .filter_map(|(_, entry)| match entry {
                Entry::File(inode) => Some(Arc::clone(inode)),
                Entry::Folder => None,
            })
            .collect();
        let Some(inode) = rng.pick(&files) else {
            return false;
        };
        inode
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rot(rng)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.sizes(None)
    }

    pub(crate) fn used_bytes_besides(&self, inode: &Arc<Mutex<Inode>>) -> u64 {
        self.sizes(Some(inode))
    }

    fn sizes(&self, besides: Option<&Arc<Mutex<Inode>>>) -> u64 {
        let files = self.current.values().filter_map(|entry| match entry {
            Entry::File(inode) => Some(inode),
            Entry::Folder => None,
        });
        let counted = files.filter(|inode| besides.is_none_or(|other| !Arc::ptr_eq(inode, other)));
        counted
            .map(|inode| {
                inode
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .size_bytes()
            })
            .sum()
    }

    fn expect_parent(&self, path: &str) -> io::Result<()> {
        let above = parent(path);
        if above.is_empty() || matches!(self.current.get(above), Some(Entry::Folder)) {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn apply(&mut self, op: NameOp) {
        carry_out(&mut self.current, &op);
        self.pending.push(op);
    }
}

/// Carries a change out as far as what it needs is there: an earlier one may have been lost.
fn carry_out(tree: &mut Tree, op: &NameOp) {
    match op {
        NameOp::Folder(path) => {
            tree.entry(path.clone()).or_insert(Entry::Folder);
        }
        NameOp::File(path, inode) => {
            tree.insert(path.clone(), Entry::File(Arc::clone(inode)));
        }
        NameOp::Remove(path) => {
            for gone in below(tree, path) {
                tree.remove(&gone);
            }
        }
        NameOp::Rename(from, to, _) => {
            if !tree.contains_key(from) {
                return;
            }
            for path in below(tree, from) {
                let entry = tree.remove(&path).expect("just listed");
                tree.insert(format!("{to}{}", &path[from.len()..]), entry);
            }
        }
    }
}

/// The path itself and all below it.
fn below(tree: &Tree, path: &str) -> Vec<String> {
    let folder = format!("{path}/");
    let paths = tree.keys();
    let within = paths.filter(|other| *other == path || other.starts_with(&folder));
    within.cloned().collect()
}

fn drop_orphans(tree: &mut Tree) {
    let orphans: Vec<_> = tree
        .keys()
        .filter(|path| !parent(path).is_empty() && !tree.contains_key(parent(path)))
        .cloned()
        .collect();
    for orphan in orphans {
        for gone in below(tree, &orphan) {
            tree.remove(&gone);
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}
