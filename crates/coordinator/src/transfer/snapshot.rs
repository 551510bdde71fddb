//! What a coordination store holds of one cluster, as a file that a person can read:
//!
//! ```text
//! {"format":1,"checksum":"crc32c:4f2a1b07"}          over all that follows
//! {"cluster":"production","generation":12,"rows":14}
//! {"key":"cluster","value":"{\"format\":1,...}"}     one line for each row, byte for byte as the store held it
//! ```

use serde::{Deserialize, Serialize};

use crate::{rows, store::Versioned};

/// The format that is written. Another one is refused.
const FORMAT: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// How many times a coordinator became active.
    pub(crate) generation: u64,
    /// All other rows, in the order of their keys.
    pub(crate) rows: Vec<SnapshotRow>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotRow {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Why a file cannot be used, or rows cannot be made into one.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is no such file, or not all of it.
    #[error("it is no export of a coordination store, or damaged: {0}")]
    Damaged(String),
    /// It was written by another version.
    #[error("it has format {0}, this program knows {FORMAT}; use the version that exported it")]
    Format(u32),
    /// A row cannot be used.
    #[error("{0}")]
    Row(String),
    /// A row means nothing to this version.
    #[error(
        "it holds the row {0}, which this program does not know; use the version that wrote it"
    )]
    Unknown(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    format: u32,
    checksum: String,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Title {
    cluster: String,
    generation: u64,
    rows: usize,
}

impl SnapshotRow {
    /// Takes a row out of a store.
    pub(crate) fn of(found: &Versioned) -> Result<Self, SnapshotError> {
        let row = Self {
            key: found.key.clone(),
            value: String::from_utf8(found.value.to_vec())
                .map_err(|_| damaged(&format!("row {} is no text", found.key)))?,
        };
        row.check()?;
        Ok(row)
    }

    /// Whether a coordinator of this version can use it.
    fn check(&self) -> Result<(), SnapshotError> {
        let found = Versioned {
            key: self.key.clone(),
            version: 1,
            value: self.value.clone().into(),
        };
        match rows::decode(&found) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(SnapshotError::Unknown(self.key.clone())),
            Err(error) => Err(SnapshotError::Row(error.to_string())),
        }
    }
}

impl Snapshot {
    /// The file, and its checksum.
    pub(crate) fn text(&self) -> (String, String) {
        let title = Title {
            cluster: self.cluster.clone(),
            generation: self.generation,
            rows: self.rows.len(),
        };
        let mut sealed = line(&title);
        for row in &self.rows {
            sealed.push_str(&line(row));
        }
        let checksum = checksum(&sealed);
        let seal = Seal {
            format: FORMAT,
            checksum: checksum.clone(),
        };
        (line(&seal) + &sealed, checksum)
    }

    /// Reads a file; also returns its checksum.
    ///
    /// # Errors
    /// When a byte of it is not as it was written, or this version cannot use it.
    pub(crate) fn parse(text: &str) -> Result<(Self, String), SnapshotError> {
        let wrong = |error: serde_json::Error| damaged(&error.to_string());
        let (seal, sealed) = text
            .split_once('\n')
            .ok_or_else(|| damaged("its first line does not end"))?;
        let head: Head = serde_json::from_str(seal).map_err(wrong)?;
        if head.format != FORMAT {
            return Err(SnapshotError::Format(head.format));
        }
        let seal: Seal = serde_json::from_str(seal).map_err(wrong)?;
        let found = checksum(sealed);
        if found != seal.checksum {
            let reason = format!("its checksum is {found}, and should be {}", seal.checksum);
            return Err(damaged(&reason));
        }
        let mut lines = sealed.lines();
        let title = lines.next().ok_or_else(|| damaged("it has no title"))?;
        let title: Title = serde_json::from_str(title).map_err(wrong)?;
        let mut rows: Vec<SnapshotRow> = Vec::new();
        for line in lines {
            let row: SnapshotRow = serde_json::from_str(line).map_err(wrong)?;
            row.check()?;
            if rows.last().is_some_and(|last| last.key >= row.key) {
                return Err(damaged("its rows are not in order"));
            }
            rows.push(row);
        }
        if rows.len() != title.rows {
            return Err(damaged("it has not as many rows as its title says"));
        }
        let snapshot = Self {
            cluster: title.cluster,
            generation: title.generation,
            rows,
        };
        Ok((snapshot, found))
    }
}

fn damaged(reason: &str) -> SnapshotError {
    SnapshotError::Damaged(reason.to_owned())
}

fn checksum(text: &str) -> String {
    format!("crc32c:{:08x}", crc32c::crc32c(text.as_bytes()))
}

fn line(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value);
    text.expect("it holds nothing that JSON cannot express") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let row = |key: &str, value: &str| SnapshotRow {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        Snapshot {
            cluster: "a \"quoted\" name".to_owned(),
            generation: u64::MAX,
            rows: vec![
                row(
                    "overrides",
                    r#"{"format":1,"version":3,"places":{"orders":{"shard":2}}}"#,
                ),
                row(
                    "shards/1",
                    r#"{"format":1,"shard":1,"epoch":9,"claim":18446744073709551615,"leader":null,"voters":[],"next_voters":null,"learners":[]}"#,
                ),
            ],
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let (text, checksum) = snapshot().text();
        let (read, found) = Snapshot::parse(&text).expect("readable");
        assert_eq!((read, found), (snapshot(), checksum));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let (text, _) = snapshot().text();
        for at in 0..text.len() {
            assert!(Snapshot::parse(&text[..at]).is_err(), "cut at {at}");
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).expect("still text");
            assert!(Snapshot::parse(&changed).is_err(), "changed at {at}");
        }
        assert!(Snapshot::parse(&(text + "\n")).is_err());
    }

    #[test]
    fn what_another_version_wrote_is_refused() {
        let (text, _) = snapshot().text();
        let newer = text.replacen("\"format\":1", "\"format\":2,\"more\":true", 1);
        assert!(matches!(
            Snapshot::parse(&newer),
            Err(SnapshotError::Format(2))
        ));
        let mut unknown = snapshot();
        unknown.rows[1].key = "wishes/1".to_owned();
        let error = Snapshot::parse(&unknown.text().0).expect_err("unknown");
        assert!(error.to_string().contains("wishes/1"), "{error}");
        let mut newer = snapshot();
        newer.rows[1].value = newer.rows[1].value.replace("\"format\":1", "\"format\":7");
        let error = Snapshot::parse(&newer.text().0).expect_err("newer");
        assert!(error.to_string().contains("upgrade"), "{error}");
    }
}
