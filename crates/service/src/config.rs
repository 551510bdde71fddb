//! Configuration: a TOML file, `QUORATE_<KEY>` in the environment, and flags; the later wins, key by key.
//!
//! A service describes its keys as one flat struct with `#[serde(deny_unknown_fields, default)]`. Whatever is wrong
//! is told with where it came from, the key, and what would be right:
//!
//! ```text
//! environment variable QUORATE_SHARDS: key `shards`: invalid value: string "many", expected u16
//! ```
//!
//! In the environment a list is written with commas. This module knows no key itself but `name`.

mod field;

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{arguments::Arguments, limits::CONFIG_FILE_BYTES};
use field::{Field, Fields};

/// Start of the names of environment variables that are configuration keys.
pub const PREFIX: &str = "QUORATE_";

/// Variables with the prefix that are no configuration keys: read by the flags, the command line tool and `shutdown`.
const RESERVED: [&str; 4] = ["CONFIG", "URL", "OUTPUT", "EXIT_WITH_PARENT"];

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than any configuration.
    #[error(
        "configuration file {} is larger than {CONFIG_FILE_BYTES} bytes; is it the right file?",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML.
    #[error("configuration file {}: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// An environment variable is not text.
    #[error("environment variable {name} is not valid UTF-8; set it again or unset it")]
    NotText {
        /// The variable.
        name: String,
    },
    /// A key or its value is wrong.
    #[error("{origin}: {message}")]
    Key {
        /// Where the key was given.
        origin: Origin,
        /// What is wrong with it.
        message: String,
    },
    /// The whole does not make a configuration, for instance because a key is missing.
    #[error("configuration: {0}")]
    Whole(String),
    /// The configuration cannot be printed.
    #[error("print configuration: {0}")]
    Print(String),
}

/// Where a key was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag on the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "configuration file {}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Loads the configuration of this process, or with `--check` prints it and returns `None`.
///
/// # Errors
/// If the configuration cannot be used, naming the place, the key and the remedy.
pub fn load_or_check<T>(arguments: &Arguments) -> Result<Option<T>, ConfigError>
where
    T: DeserializeOwned + Serialize,
{
    let config = load(arguments)?;
    if !arguments.check {
        return Ok(Some(config));
    }
    let text = show(&config)?;
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| ConfigError::Print(error.to_string()))?;
    Ok(None)
}

/// Loads the configuration of this process from the file of the arguments, the environment and the arguments.
///
/// # Errors
/// If the configuration cannot be used, naming the place, the key and the remedy.
pub fn load<T: DeserializeOwned>(arguments: &Arguments) -> Result<T, ConfigError> {
    let file = match &arguments.config {
        Some(path) => Some((path.clone(), read(path)?)),
        None => None,
    };
    let flags: Vec<(&str, String)> = arguments
        .name
        .iter()
        .map(|name| ("name", name.clone()))
        .collect();
    assemble(file, environment()?, &flags)
}

/// Reads a configuration from TOML text alone: for examples and tests. `path` only serves errors.
///
/// # Errors
/// If the text is not a configuration.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    assemble(Some((path.to_owned(), text.to_owned())), Vec::new(), &[])
}

/// Returns the configuration as TOML text that would load to the same.
///
/// # Errors
/// If a key holds what TOML cannot express.
pub fn show<T: Serialize>(config: &T) -> Result<String, ConfigError> {
    toml::to_string_pretty(config).map_err(|error| ConfigError::Print(error.to_string()))
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    let taken = file
        .take(CONFIG_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if taken as u64 > CONFIG_FILE_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in env::vars_os() {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if !name.starts_with(PREFIX) {
            continue;
        }
        match value.into_string() {
            Ok(value) => found.push((name, value)),
            Err(_) => return Err(ConfigError::NotText { name }),
        }
    }
    Ok(found)
}

fn assemble<T: DeserializeOwned>(
    file: Option<(PathBuf, String)>,
    environment: Vec<(String, String)>,
    flags: &[(&str, String)],
) -> Result<T, ConfigError> {
    let mut fields = BTreeMap::new();
    if let Some((path, text)) = file {
        let table: toml::Table = toml::from_str(&text).map_err(|source| ConfigError::Syntax {
            path: path.clone(),
            source: Box::new(source),
        })?;
        for (key, value) in table {
            fields.insert(key, (Origin::File(path.clone()), Field::Toml(value)));
        }
    }
    for (name, value) in environment {
        let Some(key) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if RESERVED.contains(&key) {
            continue;
        }
        let key = key.to_lowercase();
        fields.insert(key, (Origin::Environment(name), Field::Text(value)));
    }
    for (key, value) in flags {
        let origin = Origin::Flag(format!("--{key}"));
        fields.insert((*key).to_owned(), (origin, Field::Text(value.clone())));
    }
    let mut fields = Fields::new(fields);
    T::deserialize(&mut fields).map_err(|error| fields.explain(&error))
}

#[cfg(test)]
mod tests;
