//! Names that live elsewhere than the slot map says: kept in a row of their own, replaced by compare-and-set, told with
//! the topology.
//!
//! ```text
//!  somebody wants a move      the leader that lets it go says that it is done
//!  slot map, or override ----> moving from A to B ----> override to B, or none if B is the slot's shard
//!                                   | it says that the name cannot go
//!                                   +----> as before
//! ```
//! One replacement is under way at a time. What is not known to be stored is read back before anything follows from it,
//! and only what the store holds is told: so a version never names two sets of overrides. What a leader reports it
//! reports again until the topology shows it.

use std::sync::Arc;

use quorate_message::{DestinationName, Overrides, slot};
use quorate_replication::{RecordVersion, ShardId};

use super::{Active, Purpose};
use crate::controller::{
    effect::{Effect, MoveAnswer, MoveRefusal, Note, Refusal},
    input::{MoveReport, MoveRequest, ReadOutcome, WriteOutcome},
    row::{Change, Key, Row},
};

/// The overrides in force, and a replacement that is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Placing {
    overrides: Arc<Overrides>,
    /// Version of the row; 0: there is none.
    version: RecordVersion,
    replacing: Option<Replacing>,
}

#[derive(Clone, Debug)]
struct Replacing {
    overrides: Overrides,
    /// Whoever wants it; none: a leader's report, which is repeated.
    request: Option<MoveRequest>,
    /// What to say of it once it is stored.
    note: Note,
}

impl Placing {
    /// As the store holds them.
    pub(super) fn new(overrides: Overrides, version: RecordVersion) -> Self {
        Self {
            overrides: Arc::new(overrides),
            version,
            replacing: None,
        }
    }

    /// Those in force.
    pub(super) fn overrides(&self) -> Arc<Overrides> {
        Arc::clone(&self.overrides)
    }

    /// The request that is not answered.
    pub(super) fn request(&self) -> Option<MoveRequest> {
        self.replacing.as_ref()?.request
    }
}

impl Active {
    pub(super) fn move_wanted(
        &mut self,
        request: MoveRequest,
        name: DestinationName,
        to: ShardId,
        effects: &mut Vec<Effect>,
    ) {
        if self.placing.replacing.is_some() {
            let answer = MoveAnswer::Refused(Refusal::MoveBusy);
            effects.push(Effect::AnswerMove { request, answer });
            return;
        }
        let place = self.placing.overrides.place(&name);
        // Asked again, since an answer was lost.
        if place.is_some_and(|place| place.shard == to.0 && place.moving.is_some()) {
            let answer = MoveAnswer::Begun(self.placing.overrides());
            effects.push(Effect::AnswerMove { request, answer });
            return;
        }
        match self.overrides_with(&name, to) {
            Ok(overrides) => {
                let note = Note::MoveBegun { name, to };
                self.replace_overrides(overrides, Some(request), note);
            }
            Err(refusal) => {
                let answer = MoveAnswer::Impossible(refusal);
                effects.push(Effect::AnswerMove { request, answer });
            }
        }
    }

    /// The leader that a name leaves says what became of it.
    pub(super) fn move_reported(&mut self, report: MoveReport, effects: &mut Vec<Effect>) {
        let Some(home) = self.home_of(&report.name) else {
            return;
        };
        let place = self.placing.overrides.place(&report.name);
        let moving = place.and_then(|place| place.moving);
        let is_meant = moving
            .is_some_and(|moving| (moving.from, moving.number) == (report.from.0, report.number));
        // Another replacement is under way, or this one is: the report comes again.
        if !is_meant || self.placing.replacing.is_some() {
            return;
        }
        let how = (home.0, report.refusal.as_deref());
        match self.placing.overrides.end(&report.name, report.number, how) {
            Some(overrides) => {
                let note = Note::MoveEnded {
                    name: report.name,
                    refusal: report.refusal,
                };
                self.replace_overrides(overrides, None, note);
            }
            None => effects.push(Effect::Note(Note::Dropped("report of an unknown move"))),
        }
    }

    pub(super) fn overrides_written(&mut self, outcome: WriteOutcome, effects: &mut Vec<Effect>) {
        match outcome {
            WriteOutcome::Stored(version) => {
                if let Some(replacing) = self.placing.replacing.take() {
                    effects.push(Effect::Note(replacing.note));
                    self.place(replacing.overrides, version);
                    self.answer_move(replacing.request, None, effects);
                }
            }
            WriteOutcome::Conflict | WriteOutcome::Unknown => {
                let key = Key::Overrides;
                effects.push(Effect::Read { key });
            }
        }
    }

    pub(super) fn overrides_read(&mut self, outcome: ReadOutcome, effects: &mut Vec<Effect>) {
        let replacing = self.placing.replacing.take();
        let mut refusal = Some(Refusal::MoveBusy);
        match outcome {
            ReadOutcome::Found(stored) => {
                let wanted = replacing.as_ref().map(|replacing| &replacing.overrides);
                if matches!(&stored.row, Row::Overrides(found) if Some(found) == wanted) {
                    refusal = None;
                }
                if let Row::Overrides(found) = stored.row
                    && stored.version > self.placing.version
                {
                    self.place(found, stored.version);
                }
            }
            ReadOutcome::Absent => {}
            ReadOutcome::Failed => refusal = Some(Refusal::StoreAway),
        }
        if let Some(replacing) = replacing {
            if refusal.is_none() {
                effects.push(Effect::Note(replacing.note));
            }
            self.answer_move(replacing.request, refusal, effects);
        }
    }

    /// The shard of a name's slot.
    fn home_of(&self, name: &DestinationName) -> Option<ShardId> {
        let slots = &self.cluster.as_ref()?.slots;
        slots.get(usize::from(slot(name).0)).copied()
    }

    fn overrides_with(
        &self,
        name: &DestinationName,
        to: ShardId,
    ) -> Result<Overrides, MoveRefusal> {
        let (first, last) = match (self.shards.first_key_value(), self.shards.last_key_value()) {
            (Some((first, _)), Some((last, _))) => (*first, *last),
            (Some(_) | None, Some(_) | None) => return Err(MoveRefusal::NoShards),
        };
        if !self.shards.contains_key(&to) {
            let shard = to;
            return Err(MoveRefusal::NoShard { shard, first, last });
        }
        let home = self.home_of(name).ok_or(MoveRefusal::NoShards)?;
        Ok(self.placing.overrides.begin(name, home.0, to.0)?)
    }

    fn replace_overrides(
        &mut self,
        overrides: Overrides,
        request: Option<MoveRequest>,
        note: Note,
    ) {
        let change = Change {
            expected: self.placing.version,
            row: Row::Overrides(overrides.clone()),
        };
        self.placing.replacing = Some(Replacing {
            overrides,
            request,
            note,
        });
        self.outbox.push((change, Purpose::ReplaceOverrides));
    }

    fn place(&mut self, overrides: Overrides, version: RecordVersion) {
        self.placing.overrides = Arc::new(overrides);
        self.placing.version = version;
        self.is_changed = true;
    }

    fn answer_move(
        &self,
        request: Option<MoveRequest>,
        refusal: Option<Refusal>,
        effects: &mut Vec<Effect>,
    ) {
        let answer = match refusal {
            None => MoveAnswer::Begun(self.placing.overrides()),
            Some(refusal) => MoveAnswer::Refused(refusal),
        };
        effects.extend(request.map(|request| Effect::AnswerMove { request, answer }));
    }
}
