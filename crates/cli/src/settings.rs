//! `quorate settings`: the settings of destinations by name pattern.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use quorate_proto::v1::{ChangeSettingsRequest, SettingsChange, SettingsRule};
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output,
};

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum Settings {
    /// Lists the rules in their order of precedence, and the settings of one destination
    List(List),
    /// Names settings for the destinations of a pattern; what was named before stays
    Set(Set),
    /// Names settings of a pattern no longer
    Unset(Unset),
    /// Removes the rule of a pattern
    Remove(Remove),
    /// Reads rules from a TOML file: a table for each pattern, for instance ["orders.>"]
    Import(Import),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// A destination whose settings are wanted, defaults included
    destination: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Names, with * for one element and > at the end for the rest
    pattern: String,

    /// Settings, for instance max_messages=100000 on_full=drop-head
    #[arg(required = true, value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Unset {
    /// The pattern of the rule
    pattern: String,

    /// Names of settings
    #[arg(required = true)]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The pattern of the rule
    pattern: String,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file
    file: PathBuf,

    /// Remove the rules of all other patterns
    #[arg(long)]
    replace_all: bool,
}

#[derive(Debug, Serialize)]
struct Listing {
    version: u64,
    rules: Vec<Rule>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    effective: BTreeMap<String, String>,
    behind_shards: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Rule {
    pattern: String,
    settings: BTreeMap<String, String>,
}

pub(crate) async fn run(common: &Common, command: Settings) -> Result<()> {
    let request = match command {
        Settings::List(list) => return self::list(common, list).await,
        Settings::Set(set) => one(SettingsChange {
            pattern: set.pattern,
            set: pairs(&set.settings)?,
            ..SettingsChange::default()
        }),
        Settings::Unset(unset) => one(SettingsChange {
            pattern: unset.pattern,
            clear: unset.names,
            ..SettingsChange::default()
        }),
        Settings::Remove(remove) => one(SettingsChange {
            pattern: remove.pattern,
            remove: true,
            ..SettingsChange::default()
        }),
        Settings::Import(import) => read(&import.file, import.replace_all)?,
    };
    let client = connect(common).await?;
    let changed = client.change_settings(&request).await;
    let changed = changed.context("change settings")?;
    print(
        common,
        &Listing {
            version: changed.version,
            rules: rules(changed.rules),
            effective: BTreeMap::new(),
            behind_shards: Vec::new(),
        },
    )
}

async fn list(common: &Common, list: List) -> Result<()> {
    let client = connect(common).await?;
    let listed = client.settings(list.destination.as_deref()).await;
    let listed = listed.context("list settings")?;
    print(
        common,
        &Listing {
            version: listed.version,
            rules: rules(listed.rules),
            effective: listed.effective.into_iter().collect(),
            behind_shards: listed.behind_shards,
        },
    )
}

fn one(change: SettingsChange) -> ChangeSettingsRequest {
    ChangeSettingsRequest {
        changes: vec![change],
        replace_all: false,
    }
}

fn rules(rules: Vec<SettingsRule>) -> Vec<Rule> {
    let rules = rules.into_iter();
    rules
        .map(|rule| Rule {
            pattern: rule.pattern,
            settings: rule.values.into_iter().collect(),
        })
        .collect()
}

fn pairs(words: &[String]) -> Result<HashMap<String, String>> {
    let mut pairs = HashMap::new();
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            bail!("`{word}` is no setting; write NAME=VALUE, for instance max_messages=100000");
        };
        if pairs.insert(name.to_owned(), value.to_owned()).is_some() {
            bail!("`{name}` is given twice; give it once");
        }
    }
    Ok(pairs)
}

/// The rules of a file. Each replaces what its pattern named before.
fn read(file: &Path, replace_all: bool) -> Result<ChangeSettingsRequest> {
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("read {shown}"))?;
    let tables: toml::Table = text.parse().with_context(|| format!("read {shown}"))?;
    let mut changes = Vec::new();
    for (pattern, named) in tables {
        let Some(named) = named.as_table() else {
            bail!(
                "{shown}: `{pattern}` stands outside of a table; write settings below the pattern that they are for, \
                 for instance [\"orders.>\"]"
            );
        };
        let mut set = HashMap::new();
        for (name, value) in named {
            set.insert(name.clone(), value_text(value).with_context(|| {
                format!("{shown}: `{name}` of `{pattern}` is neither a text, a number nor true or false")
            })?);
        }
        changes.push(SettingsChange {
            pattern,
            set,
            replace: true,
            ..SettingsChange::default()
        });
    }
    Ok(ChangeSettingsRequest {
        changes,
        replace_all,
    })
}

fn value_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(boolean) => Some(boolean.to_string()),
        toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => None,
    }
}

fn print(common: &Common, listing: &Listing) -> Result<()> {
    match common.output {
        Format::Json => output::json(listing),
        Format::Text => print_text(listing),
    }
}

fn print_text(listing: &Listing) -> Result<()> {
    let rows: Vec<Vec<String>> = listing
        .rules
        .iter()
        .map(|rule| {
            let settings: Vec<String> = rule
                .settings
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            vec![rule.pattern.clone(), settings.join(" ")]
        })
        .collect();
    output::table(&["PATTERN", "SETTINGS"], &rows)?;
    if !listing.effective.is_empty() {
        let rows: Vec<Vec<String>> = listing
            .effective
            .iter()
            .map(|(name, value)| vec![name.clone(), value.clone()])
            .collect();
        output::line("")?;
        output::table(&["SETTING", "VALUE"], &rows)?;
    }
    if !listing.behind_shards.is_empty() {
        output::line(&format!(
            "shards {:?} do not go by version {} yet, or cannot be asked",
            listing.behind_shards, listing.version
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<ChangeSettingsRequest> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settings.toml");
        fs::write(&path, text).expect("a file");
        read(&path, true)
    }

    #[test]
    fn a_file_gives_a_rule_for_each_table() {
        let request = file(
            "[\"orders.>\"]\nmax_messages = 1000\non_full = \"block\"\n[stock]\nexclusive = true\n",
        )
        .expect("a good file");
        assert!(request.replace_all);
        let patterns: Vec<&str> = request.changes.iter().map(|c| c.pattern.as_str()).collect();
        assert_eq!(patterns, ["orders.>", "stock"]);
        assert_eq!(request.changes[0].set["max_messages"], "1000");
        assert_eq!(request.changes[0].set["on_full"], "block");
        assert_eq!(request.changes[1].set["exclusive"], "true");
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for (text, said) in [
            (
                "max_messages = 5\n",
                "`max_messages` stands outside of a table",
            ),
            ("[a]\nmax_bytes = 1.5\n", "`max_bytes` of `a`"),
            ("[a\n", "read "),
        ] {
            let error = format!("{:#}", file(text).expect_err("no rules"));
            assert!(error.contains(said), "{error}");
        }
        assert!(pairs(&["max_bytes".to_owned()]).is_err());
        assert!(pairs(&["a=1".to_owned(), "a=2".to_owned()]).is_err());
    }
}
