//! How elections run: tied to nodes, reports and the store. When one begins is the affair of `judgement`.

use quorate_replication::{
    Duration, Election, ElectionConfig, ElectionEffect, ElectionEffects, ElectionEvent,
    ElectionInput, Epoch, Member, NodeId, Report, RequestId, ShardId, Swapped, Time,
    quorum::{self, Preference},
};

use super::{Active, Purpose};
use crate::{
    controller::{
        Config,
        effect::{Effect, ElectionCause, Note},
        input::{ReadOutcome, StreamId, WriteOutcome},
        placement::{self, Load, Loads},
        row::{Change, Key, Row, Stored},
        shard::{AwaitedRead, Behind, Running},
    },
    limits::{EXCLUSION_TIMEOUTS, READS_MAX},
};

/// What an election is to come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Who is to lead, whatever the placement says.
    pub(super) leader: Option<NodeId>,
    /// A leader that lives and is to be replaced.
    pub(super) excluded: Option<Member>,
}

impl Active {
    /// Nodes that may lead, with what they lead or are about to lead.
    pub(super) fn loads(&self) -> Loads {
        let mut loads: Loads = self
            .nodes
            .values()
            .filter(|node| node.can_lead() && self.unwanted(node.row.node).is_none())
            .map(|node| {
                let weight = node.row.weight;
                (node.row.node, Load { leads: 0, weight })
            })
            .collect();
        for shard in self.shards.values() {
            if let Some(load) = shard.leading().and_then(|leader| loads.get_mut(&leader)) {
                load.leads += 1;
            }
        }
        loads
    }

    /// Begins an election. `loads` are those of before, and of after it when it returns.
    pub(super) fn start_election(
        &mut self,
        now: Time,
        id: ShardId,
        cause: ElectionCause,
        wanted: Wanted,
        loads: &mut Loads,
        effects: &mut Vec<Effect>,
    ) {
        let Some(shard) = self.shards.get(&id) else {
            return;
        };
        let (voters, before) = (quorum::fenced_members(&shard.record), shard.leading());
        let preference = self.preference(&voters, wanted, loads);
        let (preferred, excluded) = (preference.preferred, wanted.excluded);
        placement::shift(loads, before, preferred);
        let lost: Vec<Member> = voters
            .iter()
            .filter(|voter| Some(**voter) != excluded && !self.is_reachable(**voter))
            .copied()
            .collect();
        let until = now.after(self.timeouts(EXCLUSION_TIMEOUTS));
        let fresh = self.random.fresh();
        let mut asked = ElectionEffects::default();
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        let election = Election::claim(
            election_config(&self.config, cause),
            shard.record.clone(),
            shard.version,
            preference,
            now,
            fresh,
            &mut asked,
        );
        self.elections_due.note(election.next_deadline());
        shard.elections += 1;
        shard.moving = None;
        shard.election = Some(Running {
            election,
            cause,
            started: now,
            preferred,
            excluded: excluded.map(|leader| (leader, until)),
            noted: String::new(),
            has_swapped: false,
        });
        shard.is_deferred = false;
        self.is_changed = true;
        effects.push(Effect::Note(Note::ElectionStarted { shard: id, cause }));
        self.carry_out(now, id, asked, effects);
        for member in lost {
            self.drive(now, id, ElectionInput::Lost(member), effects);
        }
    }

    /// Who of the voters is to lead, and who not unless there is nobody else.
    fn preference(&self, voters: &[Member], wanted: Wanted, loads: &Loads) -> Preference {
        let is_excluded = |voter: Member| Some(voter) == wanted.excluded;
        let candidates = voters
            .iter()
            .filter(|voter| !is_excluded(**voter) && self.can_lead(**voter))
            .map(|voter| voter.node);
        let preferred = wanted
            .leader
            .or_else(|| placement::preferred(candidates, loads));
        let avoid = voters
            .iter()
            .filter(|voter| {
                let is_asked_for = wanted.leader == Some(voter.node);
                is_excluded(**voter)
                    || !self.can_lead(**voter)
                    || (self.unwanted(voter.node).is_some() && !is_asked_for)
            })
            .map(|voter| voter.node);
        Preference {
            preferred,
            avoid: avoid.collect(),
        }
    }

    /// Whether orders reach the member.
    pub(super) fn is_reachable(&self, member: Member) -> bool {
        self.nodes
            .get(&member.node)
            .is_some_and(|node| node.member() == member && node.is_alive() && node.stream.is_some())
    }

    /// Gives an input to the shard's election, if one runs.
    pub(super) fn drive(
        &mut self,
        now: Time,
        id: ShardId,
        input: ElectionInput,
        effects: &mut Vec<Effect>,
    ) {
        let Some(running) = self
            .shards
            .get_mut(&id)
            .and_then(|shard| shard.election.as_mut())
        else {
            return;
        };
        let mut wanted = ElectionEffects::default();
        let fresh = self.random.fresh();
        running.election.step(now, fresh, input, &mut wanted);
        self.elections_due.note(running.election.next_deadline());
        self.carry_out(now, id, wanted, effects);
    }

    fn carry_out(
        &mut self,
        now: Time,
        id: ShardId,
        wanted: ElectionEffects,
        effects: &mut Vec<Effect>,
    ) {
        for effect in wanted.0 {
            match effect {
                ElectionEffect::Order { to, order } => {
                    if let Some(node) = self.nodes.get(&to.node)
                        && node.member() == to
                        && let Some(stream) = node.stream
                    {
                        effects.push(Effect::Send {
                            stream,
                            node: to.node,
                            shard: id,
                            order,
                        });
                    }
                }
                ElectionEffect::Swap {
                    request,
                    expected,
                    record,
                } => {
                    let Some(shard) = self.shards.get_mut(&id) else {
                        continue;
                    };
                    let election = shard.elections;
                    if let Some(running) = &mut shard.election {
                        running.has_swapped = true;
                    }
                    let change = Change {
                        expected,
                        row: Row::Shard(record),
                    };
                    let purpose = Purpose::Election {
                        shard: id,
                        election,
                        request,
                    };
                    self.outbox.push((change, purpose));
                }
                ElectionEffect::Read { request } => {
                    let election = self.shards.get(&id).map_or(0, |shard| shard.elections);
                    self.await_read(id, AwaitedRead::Read { election, request }, effects);
                }
                ElectionEffect::Recorded { record, version } => {
                    if let Some(shard) = self.shards.get_mut(&id) {
                        shard.learn(record, version);
                        self.is_changed = true;
                    }
                }
                ElectionEffect::Serves { leader, claim } => {
                    self.serves(now, id, leader, claim.epoch, effects);
                }
                ElectionEffect::Note(event) => effects.push(Effect::Note(note(id, event))),
            }
        }
    }

    /// The election is over: a leader serves.
    fn serves(
        &mut self,
        now: Time,
        id: ShardId,
        leader: Member,
        epoch: Epoch,
        effects: &mut Vec<Effect>,
    ) {
        let incarnation = self
            .nodes
            .get(&leader.node)
            .map(|node| node.row.incarnation);
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        let Some(running) = shard.election.take() else {
            return;
        };
        shard.led_by = incarnation;
        shard.missed = 0;
        shard.unserved_since = None;
        shard.lost_quorum = None;
        if matches!(running.cause, ElectionCause::Moved(_)) {
            self.moved(now, id, leader.node);
        } else {
            self.steady_since = now;
        }
        self.is_changed = true;
        effects.push(Effect::Note(Note::Serving {
            shard: id,
            leader: leader.node,
            epoch,
            took_us: now.since(running.started).0,
        }));
    }

    pub(super) fn run_elections(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !self.elections_due.is_due(now) {
            return;
        }
        let due: Vec<ShardId> = self
            .election_deadlines()
            .filter(|(_, deadline)| *deadline <= now)
            .map(|(shard, _)| shard)
            .collect();
        for shard in due {
            self.drive(now, shard, ElectionInput::Elapsed, effects);
        }
        self.elections_due = self
            .election_deadlines()
            .map(|(_, deadline)| deadline)
            .collect();
    }

    /// The deadlines of the elections that run.
    pub(super) fn election_deadlines(&self) -> impl Iterator<Item = (ShardId, Time)> {
        self.shards.values().filter_map(|shard| {
            let deadline = shard.election.as_ref()?.election.next_deadline()?;
            Some((shard.record.shard, deadline))
        })
    }

    /// A leader that was left out of an election takes part again when the others did not manage without it.
    pub(super) fn end_exclusions(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut ended = Vec::new();
        for shard in self.shards.values_mut() {
            if let Some(running) = &mut shard.election
                && let Some((member, until)) = running.excluded
                && until <= now
            {
                running.excluded = None;
                ended.push((shard.record.shard, member));
            }
        }
        for (shard, member) in ended {
            if self.is_reachable(member) {
                self.drive(now, shard, ElectionInput::Came(member), effects);
            }
        }
    }

    /// A leader that was given up is back in the same life before anything was claimed: it leads on, as far as its
    /// heartbeats say so.
    pub(super) fn keep_leaderships(&mut self, number: NodeId, effects: &mut Vec<Effect>) {
        let Some(node) = self.nodes.get(&number) else {
            return;
        };
        for shard in self.shards.values_mut() {
            let is_kept = shard.record.leader == Some(node.member())
                && shard.led_by == Some(node.row.incarnation)
                && shard.election.as_ref().is_some_and(|running| {
                    !running.has_swapped && matches!(running.cause, ElectionCause::Dead(_))
                });
            if is_kept {
                shard.election = None;
                self.is_changed = true;
                let shard = shard.record.shard;
                effects.push(Effect::Note(Note::ElectionDropped { shard }));
            }
        }
    }

    /// Tells the elections in which a member takes part.
    pub(super) fn tell_elections(
        &mut self,
        now: Time,
        member: Member,
        input: &ElectionInput,
        effects: &mut Vec<Effect>,
    ) {
        let concerned: Vec<ShardId> = self
            .shards
            .values()
            .filter(|shard| shard.election.is_some() && shard.has_voter(member))
            .map(|shard| shard.record.shard)
            .collect();
        for shard in concerned {
            self.drive(now, shard, input.clone(), effects);
        }
    }

    pub(super) fn reported(
        &mut self,
        now: Time,
        stream: StreamId,
        id: ShardId,
        report: Report,
        effects: &mut Vec<Effect>,
    ) {
        let Some(number) = self.heard(now, stream, effects) else {
            effects.push(Effect::Note(Note::Dropped("report of an unknown stream")));
            return;
        };
        let Some(from) = self.nodes.get(&number).map(|node| node.member()) else {
            return;
        };
        let Some(shard) = self.shards.get_mut(&id) else {
            effects.push(Effect::Note(Note::Dropped("report of an unknown shard")));
            return;
        };
        if !shard.has_voter(from) {
            effects.push(Effect::Note(Note::Dropped(
                "report of a member that is no voter",
            )));
            return;
        }
        let is_excluded = shard.election.as_ref().is_some_and(|running| {
            running
                .excluded
                .is_some_and(|(excluded, _)| excluded == from)
        });
        match &report {
            // It promises and steps down, but it is the one to be replaced: the others choose without it.
            Report::Probed { .. } | Report::Fenced(_) if is_excluded => return,
            Report::LostQuorum { epoch } => {
                if *epoch == shard.record.claim.epoch && shard.record.leader == Some(from) {
                    shard.lost_quorum = Some(now);
                    self.judge(now, id, effects);
                }
                return;
            }
            Report::HandedOver { claim, to, ready } => {
                return self.handed_over(now, id, (*claim, *to), *ready, effects);
            }
            Report::Outranked { promise } if promise.epoch > shard.record.claim.epoch => {
                let (node, known) = (number, promise.epoch);
                self.suspect(id, Behind { node, known }, effects);
            }
            Report::Probed { .. }
            | Report::Fenced(_)
            | Report::FenceRefused { .. }
            | Report::Leading { .. }
            | Report::LeadRefused { .. }
            | Report::Outranked { .. } => {}
        }
        self.drive(now, id, ElectionInput::Reported { from, report }, effects);
    }

    /// A node knows a higher epoch than the record that is in memory: the store is read, and if that is behind, too,
    /// it went back in time and nothing is claimed (replication.md, A restored store).
    pub(super) fn suspect(&mut self, id: ShardId, behind: Behind, effects: &mut Vec<Effect>) {
        let Some(shard) = self.shards.get(&id) else {
            return;
        };
        let is_asked = shard
            .reads
            .iter()
            .any(|read| matches!(read, AwaitedRead::Suspicion(_)));
        if !is_asked && shard.behind.is_none() {
            self.await_read(id, AwaitedRead::Suspicion(behind), effects);
        }
    }

    pub(super) fn await_read(&mut self, id: ShardId, read: AwaitedRead, effects: &mut Vec<Effect>) {
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        assert!(
            shard.reads.len() < READS_MAX,
            "reads of {id} are not answered"
        );
        shard.reads.push_back(read);
        effects.push(Effect::Read {
            key: Key::Shard(id),
        });
    }

    pub(super) fn election_written(
        &mut self,
        now: Time,
        id: ShardId,
        election: u64,
        request: RequestId,
        outcome: WriteOutcome,
        effects: &mut Vec<Effect>,
    ) {
        if !self
            .shards
            .get(&id)
            .is_some_and(|shard| shard.is_electing(election))
        {
            effects.push(Effect::Note(Note::Dropped(
                "answer to an election that is over",
            )));
            return;
        }
        let result = match outcome {
            WriteOutcome::Stored(version) => Swapped::Done(version),
            WriteOutcome::Unknown => Swapped::Unknown,
            WriteOutcome::Conflict => {
                self.await_read(id, AwaitedRead::Swap { election, request }, effects);
                return;
            }
        };
        self.drive(now, id, ElectionInput::Swapped { request, result }, effects);
    }

    pub(super) fn shard_read(
        &mut self,
        now: Time,
        id: ShardId,
        outcome: ReadOutcome,
        effects: &mut Vec<Effect>,
    ) {
        let found = match outcome {
            ReadOutcome::Found(Stored {
                version,
                row: Row::Shard(record),
            }) => Some((record, version)),
            ReadOutcome::Found(_) | ReadOutcome::Absent | ReadOutcome::Failed => None,
        };
        let Some(shard) = self.shards.get_mut(&id) else {
            self.created_shard_read(now, id, found, effects);
            return;
        };
        let Some(awaited) = shard.reads.pop_front() else {
            effects.push(Effect::Note(Note::Dropped("read that nobody waits for")));
            return;
        };
        match awaited {
            AwaitedRead::Swap { election, request } if shard.is_electing(election) => {
                let result = match found {
                    Some((record, version)) => Swapped::Conflict { record, version },
                    None => Swapped::Unknown,
                };
                self.drive(now, id, ElectionInput::Swapped { request, result }, effects);
            }
            AwaitedRead::Read { election, request } if shard.is_electing(election) => {
                self.drive(now, id, ElectionInput::Read { request, found }, effects);
            }
            AwaitedRead::Swap { .. } | AwaitedRead::Read { .. } => {
                effects.push(Effect::Note(Note::Dropped(
                    "answer to an election that is over",
                )));
            }
            AwaitedRead::Suspicion(behind) => {
                let Some((record, version)) = found else {
                    return;
                };
                if shard.election.is_none() {
                    shard.learn(record.clone(), version);
                }
                if behind.known > record.claim.epoch {
                    shard.behind = Some(behind);
                    effects.push(Effect::Note(Note::StoreBehind {
                        shard: id,
                        record: record.claim.epoch,
                        known: behind.known,
                        node: behind.node,
                    }));
                }
                self.is_changed = true;
                self.judge(now, id, effects);
            }
        }
    }
}

/// A target that has everything is waited for longer than one that is merely preferred.
fn election_config(config: &Config, cause: ElectionCause) -> ElectionConfig {
    let usual = ElectionConfig::default();
    let preferred_wait = match cause {
        ElectionCause::Moved(_) => Duration(config.node_timeout.0 / 4),
        ElectionCause::Leaderless
        | ElectionCause::Dead(_)
        | ElectionCause::LostQuorum
        | ElectionCause::DiskStalled
        | ElectionCause::NotLeading => usual.preferred_wait,
    };
    ElectionConfig {
        lead_timeout: config.node_timeout,
        preferred_wait,
        ..usual
    }
}

/// An election's event as a note.
fn note(shard: ShardId, event: ElectionEvent) -> Note {
    match event {
        ElectionEvent::Claimed(claim) => Note::Claimed { shard, claim },
        ElectionEvent::Granted(claim, leader) => Note::Granted {
            shard,
            leader,
            claim,
        },
        ElectionEvent::Claims(_)
        | ElectionEvent::Chose(..)
        | ElectionEvent::Leads(..)
        | ElectionEvent::Serves(..)
        | ElectionEvent::StartsOver(_)
        | ElectionEvent::Dropped(_) => Note::Election { shard, event },
    }
}
