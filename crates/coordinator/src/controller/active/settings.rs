//! The settings of destinations: kept in a row of their own, replaced by compare-and-set, told with the topology.
//!
//! One replacement is under way at a time. What is not known to be stored is read back before it is answered, and only
//! what the store holds is told: so a version never names two sets of rules.

use std::sync::Arc;

use quorate_message::Settings;
use quorate_replication::RecordVersion;

use super::{Active, Purpose};
use crate::controller::{
    effect::{Effect, Note, Refusal, SettingsAnswer},
    input::{ReadOutcome, SettingsRequest, WriteOutcome},
    row::{Change, Key, Row},
};

/// The settings in force, and a replacement that is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Governing {
    settings: Arc<Settings>,
    /// Version of the row; 0: there is none.
    version: RecordVersion,
    replacing: Option<Replacing>,
}

#[derive(Clone, Debug)]
struct Replacing {
    request: SettingsRequest,
    settings: Settings,
}

impl Governing {
    /// As the store holds them.
    pub(super) fn new(settings: Settings, version: RecordVersion) -> Self {
        Self {
            settings: Arc::new(settings),
            version,
            replacing: None,
        }
    }

    /// Those in force.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// The request that is not answered.
    pub(super) fn request(&self) -> Option<SettingsRequest> {
        self.replacing.as_ref().map(|replacing| replacing.request)
    }
}

impl Active {
    pub(super) fn settings_wanted(
        &mut self,
        request: SettingsRequest,
        expected: u64,
        settings: Settings,
        effects: &mut Vec<Effect>,
    ) {
        let present = &self.governing.settings;
        let refused = if self.governing.replacing.is_some() {
            Some(SettingsAnswer::Refused(Refusal::SettingsBusy))
        } else if present.version() != expected {
            Some(SettingsAnswer::Differ(Arc::clone(present)))
        } else {
            None
        };
        if let Some(answer) = refused {
            effects.push(Effect::AnswerSettings { request, answer });
            return;
        }
        let settings = settings.under_version(present.version() + 1);
        let change = Change {
            expected: self.governing.version,
            row: Row::Settings(settings.clone()),
        };
        self.governing.replacing = Some(Replacing { request, settings });
        self.outbox.push((change, Purpose::ReplaceSettings));
    }

    pub(super) fn settings_written(&mut self, outcome: WriteOutcome, effects: &mut Vec<Effect>) {
        match outcome {
            WriteOutcome::Stored(version) => {
                if let Some(replacing) = self.governing.replacing.take() {
                    self.govern(replacing.settings, version, effects);
                    let answer = SettingsAnswer::Replaced(self.governing.settings());
                    let request = replacing.request;
                    effects.push(Effect::AnswerSettings { request, answer });
                }
            }
            WriteOutcome::Conflict | WriteOutcome::Unknown => {
                let key = Key::Settings;
                effects.push(Effect::Read { key });
            }
        }
    }

    pub(super) fn settings_read(&mut self, outcome: ReadOutcome, effects: &mut Vec<Effect>) {
        let replacing = self.governing.replacing.take();
        let wanted = replacing.as_ref().map(|replacing| &replacing.settings);
        let answer = match outcome {
            ReadOutcome::Found(stored) => {
                let is_wanted =
                    matches!(&stored.row, Row::Settings(found) if Some(found) == wanted);
                if let Row::Settings(found) = stored.row
                    && stored.version > self.governing.version
                {
                    self.govern(found, stored.version, effects);
                }
                let present = self.governing.settings();
                match is_wanted {
                    true => SettingsAnswer::Replaced(present),
                    false => SettingsAnswer::Differ(present),
                }
            }
            ReadOutcome::Absent => SettingsAnswer::Differ(self.governing.settings()),
            ReadOutcome::Failed => SettingsAnswer::Refused(Refusal::StoreAway),
        };
        if let Some(replacing) = replacing {
            let request = replacing.request;
            effects.push(Effect::AnswerSettings { request, answer });
        }
    }

    fn govern(&mut self, settings: Settings, version: RecordVersion, effects: &mut Vec<Effect>) {
        effects.push(Effect::Note(Note::SettingsReplaced {
            version: settings.version(),
        }));
        self.governing.settings = Arc::new(settings);
        self.governing.version = version;
        self.is_changed = true;
    }
}
