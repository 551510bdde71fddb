//! The settings of destinations, from the topology into the log: the serving leader proposes them when they are newer
//! than those that its state goes by.
//!
//! They are proposed once in a leadership; what a leader proposes is committed or its leadership ends. A shard whose
//! leader has not heard of them yet goes by the former ones.

use std::sync::Arc;

use quorate_message::{BatchBuilder, Settings};

use super::{Shard, effect::Effect, note_all};

/// What is wanted, and what was proposed.
#[derive(Debug, Default)]
pub(super) struct Governing {
    wanted: Option<Arc<Settings>>,
    /// The version that was proposed in this leadership.
    proposed: u64,
}

impl Governing {
    /// The topology carries these.
    pub(super) fn told(&mut self, settings: Arc<Settings>) {
        let known = self.wanted.as_ref().map_or(0, |wanted| wanted.version());
        if settings.version() > known {
            self.wanted = Some(settings);
        }
    }

    /// Another leadership begins.
    pub(super) fn clear(&mut self) {
        self.proposed = 0;
    }
}

impl Shard {
    /// Proposes settings that are newer than those in force.
    pub(super) fn govern(&mut self, out: &mut Vec<Effect>) {
        let Some(wanted) = &self.governing.wanted else {
            return;
        };
        let version = wanted.version();
        let known = self.broker.settings_version().max(self.governing.proposed);
        if version <= known || !self.is_serving() {
            return;
        }
        let mut builder = BatchBuilder::persistent();
        builder
            .configure(wanted)
            .expect("checked settings fit an empty batch");
        let refused = self.submits.push_own(builder.finish());
        if refused.is_none() {
            self.governing.proposed = version;
        }
        note_all(refused, out);
    }
}
