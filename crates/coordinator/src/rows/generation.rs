//! The row that says whose store this is: the cluster's name, how many times a coordinator became active, and whether
//! one may. The shell's own; the controller does not know it.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{RowError, parse, text};
use crate::store::{Swap, Versioned};

/// Its key.
pub(crate) const GENERATION: &str = "generation";

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generation {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// How many times a coordinator became active.
    pub(crate) generation: u64,
    /// Why none may become active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closed: Option<Closed>,
}

/// Why no coordinator may use a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Closed {
    /// What it holds was exported, and is kept elsewhere from then on.
    Retired,
    /// An import of the file with this checksum has begun and not ended.
    Importing(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retired => {
                "the store was retired by `export --retire`: the cluster's coordination data is kept elsewhere; \
                 configure the store that it was imported into, or take this one back with `reinstate`"
            }
            Self::Importing(_) => {
                "an import into the store has begun and not ended; run `import` with the same file again"
            }
        })
    }
}

impl Generation {
    /// Reads the row.
    ///
    /// # Errors
    /// When it is damaged, or names another cluster.
    pub(crate) fn read(found: &Versioned, cluster: &str) -> Result<Self, RowError> {
        let row: Self = parse(found)?;
        if row.cluster == cluster {
            Ok(row)
        } else {
            Err(RowError::OtherCluster {
                found: row.cluster,
                expected: cluster.to_owned(),
            })
        }
    }

    /// The row as the store takes it.
    pub(crate) fn text(&self) -> Bytes {
        text(self)
    }
}

/// Returns the swap that counts one activation more, and the generation that it makes.
///
/// # Errors
/// When the row is damaged or names another cluster, or no coordinator may use the store.
pub(crate) fn next(found: Option<&Versioned>, cluster: &str) -> Result<(Swap, u64), RowError> {
    let (expected, last) = match found {
        None => (0, 0),
        Some(found) => {
            let row = Generation::read(found, cluster)?;
            if let Some(closed) = row.closed {
                return Err(RowError::Closed(closed));
            }
            (found.version, row.generation)
        }
    };
    let next = Generation {
        cluster: cluster.to_owned(),
        generation: last + 1,
        closed: None,
    };
    let swap = Swap {
        key: GENERATION.to_owned(),
        expected,
        value: next.text(),
    };
    Ok((swap, next.generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: Bytes) -> Versioned {
        Versioned {
            key: GENERATION.to_owned(),
            version: 1,
            value,
        }
    }

    #[test]
    fn generations_rise_and_belong_to_one_cluster() {
        let (swap, first) = next(None, "a").expect("first");
        assert_eq!((swap.expected, first), (0, 1));
        let found = found(swap.value);
        let (_, second) = next(Some(&found), "a").expect("second");
        assert_eq!(second, 2);
        let error = next(Some(&found), "b").expect_err("another cluster");
        assert!(error.to_string().contains("cluster a"), "{error}");
    }

    #[test]
    fn a_closed_store_has_no_next_generation() {
        for (closed, remedy) in [
            (Closed::Retired, "reinstate"),
            (Closed::Importing("crc32c:0".to_owned()), "import"),
        ] {
            let row = Generation {
                cluster: "a".to_owned(),
                generation: 7,
                closed: Some(closed),
            };
            let found = found(row.text());
            assert_eq!(Generation::read(&found, "a").expect("readable"), row);
            let error = next(Some(&found), "a").expect_err("closed");
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }
}
