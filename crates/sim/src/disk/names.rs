//! The folders of a fake disk. Each folder knows its names as they are, its names as synced, and what was done to them in
//! between; what it holds are files and folders themselves, so that a name that is used again means another thing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::Inode;
use super::{DiskCounts, Loss};
use crate::rng::Rng;

/// What a name stands for.
#[derive(Clone, Debug)]
enum Child {
    Folder(Arc<Mutex<Folder>>),
    File(Arc<Mutex<Inode>>),
}

/// A change of a folder's names that its sync makes durable.
#[derive(Clone, Debug)]
enum Change {
    Set(String, Child),
    Unset(String),
    /// Within the folder: whole or not at all.
    Move(String, String, Child),
}

/// One folder.
#[derive(Debug, Default)]
struct Folder {
    current: BTreeMap<String, Child>,
    synced: BTreeMap<String, Child>,
    pending: Vec<Change>,
}

/// All names of a disk.
#[derive(Debug, Default)]
pub(crate) struct Names {
    root: Arc<Mutex<Folder>>,
}

impl Names {
    pub(crate) fn create_folder(&mut self, path: &str) -> io::Result<()> {
        let folder = self.folder(parent(path))?;
        let mut folder = lock(&folder);
        match folder.current.get(name(path)) {
            Some(Child::Folder(_)) => Ok(()),
            Some(Child::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                let child = Child::Folder(Arc::default());
                folder.change(Change::Set(name(path).to_owned(), child));
                Ok(())
            }
        }
    }

    pub(crate) fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        let Ok(folder) = self.folder(parent(path)) else {
            return Ok(());
        };
        let mut folder = lock(&folder);
        if folder.current.contains_key(name(path)) {
            folder.change(Change::Unset(name(path).to_owned()));
        }
        Ok(())
    }

    pub(crate) fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let folder = self.folder(path)?;
        Ok(lock(&folder).current.keys().cloned().collect())
    }

    pub(crate) fn create(&mut self, path: &str) -> io::Result<Arc<Mutex<Inode>>> {
        let folder = self.folder(parent(path))?;
        let mut folder = lock(&folder);
        if folder.current.contains_key(name(path)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = Arc::new(Mutex::new(Inode::default()));
        let child = Child::File(Arc::clone(&inode));
        folder.change(Change::Set(name(path).to_owned(), child));
        Ok(inode)
    }

    pub(crate) fn open(&self, path: &str) -> io::Result<Arc<Mutex<Inode>>> {
        let folder = self.folder(parent(path))?;
        match lock(&folder).current.get(name(path)) {
            Some(Child::File(inode)) => Ok(Arc::clone(inode)),
            Some(Child::Folder(_)) | None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (source, target) = (self.folder(parent(from))?, self.folder(parent(to))?);
        let moved = lock(&source).current.get(name(from)).cloned();
        let moved = moved.ok_or(io::ErrorKind::NotFound)?;
        let replaced = lock(&target).current.get(name(to)).cloned();
        match (&moved, replaced) {
            (_, None) | (Child::File(_), Some(Child::File(_))) => {}
            (_, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
        }
        let (from, to) = (name(from).to_owned(), name(to).to_owned());
        if Arc::ptr_eq(&source, &target) {
            lock(&source).change(Change::Move(from, to, moved));
        } else {
            lock(&source).change(Change::Unset(from));
            lock(&target).change(Change::Set(to, moved));
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &str) -> io::Result<()> {
        self.open(path)?;
        let folder = self.folder(parent(path))?;
        lock(&folder).change(Change::Unset(name(path).to_owned()));
        Ok(())
    }

    /// Makes the names in this folder durable as they are.
    pub(crate) fn sync_folder(&mut self, path: &str) {
        if let Ok(folder) = self.folder(path) {
            let mut folder = lock(&folder);
            folder.pending.clear();
            folder.synced = folder.current.clone();
        }
    }

    pub(crate) fn cut_power(&mut self, loss: Loss, rng: &mut Rng, counts: &mut DiskCounts) {
        lock(&self.root).cut_power(loss, rng, counts);
    }

    /// Flips a bit in a file whose path contains `part`.
    pub(crate) fn rot(&mut self, part: &str, rng: &mut Rng) -> bool {
        let mut files = Vec::new();
        lock(&self.root).collect("", &mut files);
        files.retain(|(path, _)| path.contains(part));
        match rng.pick(&files) {
            Some((_, inode)) => lock(inode).rot(rng),
            None => false,
        }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.sizes(None)
    }

    pub(crate) fn used_bytes_besides(&self, inode: &Arc<Mutex<Inode>>) -> u64 {
        self.sizes(Some(inode))
    }

    fn sizes(&self, besides: Option<&Arc<Mutex<Inode>>>) -> u64 {
        let mut files = Vec::new();
        lock(&self.root).collect("", &mut files);
        let files = files.iter().map(|(_, inode)| inode);
        let counted = files.filter(|inode| besides.is_none_or(|other| !Arc::ptr_eq(inode, other)));
        counted.map(|inode| lock(inode).size_bytes()).sum()
    }

    fn folder(&self, path: &str) -> io::Result<Arc<Mutex<Folder>>> {
        let mut folder = Arc::clone(&self.root);
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let below = match lock(&folder).current.get(part) {
                Some(Child::Folder(below)) => Arc::clone(below),
                Some(Child::File(_)) | None => return Err(io::ErrorKind::NotFound.into()),
            };
            folder = below;
        }
        Ok(folder)
    }
}

impl Folder {
    fn change(&mut self, change: Change) {
        carry_out(&mut self.current, &change);
        self.pending.push(change);
    }

    /// Decides what of the changes had reached the disk, here and below.
    fn cut_power(&mut self, loss: Loss, rng: &mut Rng, counts: &mut DiskCounts) {
        for change in std::mem::take(&mut self.pending) {
            let keeps = match loss {
                Loss::All => false,
                Loss::Nothing => true,
                Loss::Each => rng.chance(1, 2),
            };
            if keeps {
                carry_out(&mut self.synced, &change);
            } else {
                counts.lost_names += 1;
            }
        }
        self.current = self.synced.clone();
        for child in self.current.values() {
            match child {
                Child::Folder(folder) => lock(folder).cut_power(loss, rng, counts),
                Child::File(inode) => lock(inode).cut_power(loss, rng, counts),
            }
        }
    }

    fn collect(&self, path: &str, files: &mut Vec<(String, Arc<Mutex<Inode>>)>) {
        for (name, child) in &self.current {
            let path = format!("{path}/{name}");
            match child {
                Child::Folder(folder) => lock(folder).collect(&path, files),
                Child::File(inode) => files.push((path, Arc::clone(inode))),
            }
        }
    }
}

fn carry_out(names: &mut BTreeMap<String, Child>, change: &Change) {
    match change {
        Change::Set(name, child) => drop(names.insert(name.clone(), child.clone())),
        Change::Unset(name) => drop(names.remove(name)),
        Change::Move(from, to, child) => {
            names.remove(from);
            names.insert(to.clone(), child.clone());
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}
