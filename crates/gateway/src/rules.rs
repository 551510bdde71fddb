//! The settings of destinations: read from the topology, changed at the active coordinator by compare-and-set. Moves of
//! names go the same way.
//!
//! A change is made on the newest rules that this gateway knows. If another one came in between, it is made again on
//! what the coordinator holds, so that two operators never undo each other's work unseen.

use quorate_message::{
    DestinationName, Pattern, Settings,
    settings::{PartialSettings, Rule},
};
use quorate_proto::{internal::v1 as wire, v1};
use tonic::Status;

use crate::{
    coordinators::{Coordinator, Coordinators, Words},
    limits::SETTINGS_TRIES,
    nodes::Nodes,
};

/// The way to the settings. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) coordinators: Coordinators,
    pub(crate) nodes: Nodes,
}

impl Rules {
    /// The newest that this gateway knows.
    pub(crate) fn present(&self) -> Result<Settings, Status> {
        let topology = self.nodes.topology()?;
        if topology.settings.is_empty() {
            return Ok(Settings::new());
        }
        Settings::decode(&topology.settings).ok_or_else(unreadable)
    }

    /// Makes the changes of a request, all or none, and returns the rules that are in force then.
    pub(crate) async fn change(
        &self,
        request: &v1::ChangeSettingsRequest,
    ) -> Result<Settings, Status> {
        let mut present = self.present()?;
        for _ in 0..SETTINGS_TRIES {
            let wanted = changed(present.clone(), request)?;
            if wanted.rules() == present.rules() {
                return Ok(present);
            }
            let answer = self.replace(present.version(), &wanted).await?;
            present = Settings::decode(&answer.settings).ok_or_else(unreadable)?;
            if answer.replaced {
                return Ok(present);
            }
        }
        Err(Status::aborted(
            "settings are being changed by others all the time; nothing was changed, try again",
        ))
    }

    /// Has a name move to another shard.
    pub(crate) async fn move_name(&self, name: &DestinationName, to: u32) -> Result<(), Status> {
        let question = |mut coordinator: Coordinator| {
            let request = wire::MoveNameRequest {
                cluster: self.coordinators.cluster.clone(),
                name: name.as_str().to_owned(),
                shard: to,
            };
            async move { coordinator.move_name(request).await }
        };
        let words = Words {
            wish: "the move",
            untouched: &format!("{name} stays where it is"),
            in_doubt: "the move may be begun or not, look at the placement",
        };
        self.coordinators.ask(question, words).await.map(drop)
    }

    async fn replace(
        &self,
        expected_version: u64,
        wanted: &Settings,
    ) -> Result<wire::ReplaceSettingsResponse, Status> {
        let question = |mut coordinator: Coordinator| {
            let request = wire::ReplaceSettingsRequest {
                cluster: self.coordinators.cluster.clone(),
                expected_version,
                settings: wanted.encode().into(),
            };
            async move { coordinator.replace_settings(request).await }
        };
        let words = Words {
            wish: "the change",
            untouched: "settings stay as they are",
            in_doubt: "the change may be made or not, look at the settings",
        };
        self.coordinators.ask(question, words).await
    }
}

/// The rules with the changes of a request.
fn changed(present: Settings, request: &v1::ChangeSettingsRequest) -> Result<Settings, Status> {
    let mut settings = match request.replace_all {
        true => Settings::new().under_version(present.version()),
        false => present,
    };
    for change in &request.changes {
        make(&mut settings, change)?;
    }
    Ok(settings)
}

fn make(settings: &mut Settings, change: &v1::SettingsChange) -> Result<(), Status> {
    let invalid = |error: &dyn std::fmt::Display| Status::invalid_argument(error.to_string());
    let pattern = Pattern::new(&change.pattern).map_err(|error| {
        Status::invalid_argument(format!("pattern `{}`: {error}", change.pattern))
    })?;
    if change.remove {
        return match settings.remove(&pattern) {
            true => Ok(()),
            false => Err(Status::not_found(format!(
                "there are no settings for `{pattern}`"
            ))),
        };
    }
    let known = settings.rule(&pattern).filter(|_| !change.replace);
    let mut named = known.map_or_else(PartialSettings::default, |rule| rule.settings.clone());
    for name in &change.clear {
        named.clear(name).map_err(|error| invalid(&error))?;
    }
    for (name, value) in &change.set {
        named
            .set_text(name, value)
            .map_err(|error| invalid(&error))?;
    }
    if named == PartialSettings::default() && !change.clear.is_empty() {
        settings.remove(&pattern);
        return Ok(());
    }
    let rule = Rule {
        pattern,
        settings: named,
    };
    settings.set(rule).map_err(|error| invalid(&error))
}

/// The rules as clients see them.
pub(crate) fn shown(settings: &Settings) -> Vec<v1::SettingsRule> {
    let rules = settings.rules().iter();
    rules
        .map(|rule| v1::SettingsRule {
            pattern: rule.pattern.as_str().to_owned(),
            values: texts(rule.settings.texts()),
        })
        .collect()
}

/// Names and values, as a message carries them.
pub(crate) fn texts<C: FromIterator<(String, String)>>(texts: Vec<(&str, String)>) -> C {
    let texts = texts.into_iter();
    texts
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn unreadable() -> Status {
    Status::data_loss("settings of the coordinator cannot be read; upgrade this gateway")
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn change(pattern: &str, set: &[(&str, &str)]) -> v1::SettingsChange {
        v1::SettingsChange {
            pattern: pattern.to_owned(),
            set: set
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..v1::SettingsChange::default()
        }
    }

    fn request(changes: Vec<v1::SettingsChange>) -> v1::ChangeSettingsRequest {
        v1::ChangeSettingsRequest {
            changes,
            replace_all: false,
        }
    }

    #[test]
    fn changes_add_to_a_rule_and_clear_it() {
        let first = request(vec![change("orders.>", &[("max_messages", "5")])]);
        let settings = changed(Settings::new(), &first).expect("good");
        let second = request(vec![change("orders.>", &[("on_full", "drop-head")])]);
        let settings = changed(settings, &second).expect("good");
        let rules = shown(&settings);
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].values.len(), 2);
        let cleared = v1::SettingsChange {
            clear: vec!["max_messages".to_owned(), "on_full".to_owned()],
            ..change("orders.>", &[])
        };
        let settings = changed(settings, &request(vec![cleared])).expect("good");
        assert!(settings.rules().is_empty());
    }

    #[test]
    fn a_wrong_change_names_what_is_wrong_and_changes_nothing() {
        let removed = v1::SettingsChange {
            remove: true,
            ..change("nobody", &[])
        };
        for (wrong, code, said) in [
            (change("a.>.b", &[]), Code::InvalidArgument, "`a.>.b`"),
            (
                change("a", &[("colour", "red")]),
                Code::InvalidArgument,
                "no setting `colour`",
            ),
            (
                change("a", &[("max_bytes", "much")]),
                Code::InvalidArgument,
                "`max_bytes` cannot be `much`",
            ),
            (change("a", &[]), Code::InvalidArgument, "names no setting"),
            (
                change("a", &[("on_full", "explode")]),
                Code::InvalidArgument,
                "`on_full` cannot be `explode`",
            ),
            (removed, Code::NotFound, "`nobody`"),
        ] {
            let status = changed(Settings::new(), &request(vec![wrong])).expect_err("wrong");
            assert_eq!(status.code(), code);
            assert!(status.message().contains(said), "{}", status.message());
        }
    }
}
