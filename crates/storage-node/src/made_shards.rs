//! Which shards this disk ever had: a line with the number of each, in a file of the data folder.
//!
//! A shard whose folder is missing was either never made here, or is lost with its promises. Only this file tells the
//! two apart, and only the first may begin with a fresh promise. A shard is written down after its folder is made: a
//! crash between leaves the folder, which is then written down at the next start.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use quorate_replication::ShardId;

const FILE: &str = "shards.made";

/// The file.
#[derive(Debug)]
pub(crate) struct MadeShards {
    folder: PathBuf,
}

impl MadeShards {
    /// In this data folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// All shards that were written down.
    pub(crate) fn load(&self) -> io::Result<BTreeSet<ShardId>> {
        let text = match fs::read_to_string(self.folder.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(error),
        };
        let numbers = text.lines().filter_map(|line| line.parse().ok());
        Ok(numbers.map(ShardId).collect())
    }

    /// Writes a shard down, durably; nothing is done when it is there.
    pub(crate) fn add(&self, shard: ShardId) -> io::Result<()> {
        let mut all = self.load()?;
        if !all.insert(shard) {
            return Ok(());
        }
        let fresh = self.folder.join(format!("{FILE}.new"));
        let mut file = fs::File::create(&fresh)?;
        for shard in &all {
            writeln!(file, "{}", shard.0)?;
        }
        file.sync_all()?;
        fs::rename(&fresh, self.folder.join(FILE))?;
        fs::File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let made = MadeShards::new(folder.path());
        assert!(made.load().unwrap().is_empty());
        made.add(ShardId(3)).unwrap();
        made.add(ShardId(1)).unwrap();
        made.add(ShardId(3)).unwrap();
        let again = MadeShards::new(folder.path()).load().unwrap();
        assert_eq!(again, BTreeSet::from([ShardId(1), ShardId(3)]));
    }
}
