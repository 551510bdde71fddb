//! Who lives: streams, heartbeats, redials, silence; and what this coordinator believes of itself.

use quorate_replication::{Duration, ElectionInput, NodeId, ShardRecord, Time, quorum};

use super::Active;
use crate::{
    controller::{
        clock::ClockVerdict,
        effect::{DeathCause, Effect, Note, Refusal},
        input::{Attempt, Heartbeat, RedialOutcome, StreamId},
        node::{Node, Redial, State},
        shard::Behind,
    },
    limits::{DEAF_TIMEOUTS, GRACE_TIMEOUTS},
};

impl Active {
    /// A gap of more than half the node timeout between two steps, or in which no node at all was heard, says
    /// nothing about the nodes and much about this process or its network: everybody gets a whole timeout anew.
    pub(super) fn notice_pause(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let half = Duration(self.config.node_timeout.0 / 2);
        if now.since(self.last_step) > half {
            self.restart_clocks(now, effects);
            effects.push(Effect::Note(Note::Stalled));
        }
    }

    /// Gives everybody a whole timeout anew. Whoever was given up while nobody at all was heard is asked again: a
    /// redial that is refused settles it at once.
    fn restart_clocks(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut revived = Vec::new();
        for node in self.nodes.values_mut() {
            match node.state {
                State::Alive => node.heard = now,
                State::Absent => node.since = now,
                State::Silent if node.since > self.heard_any => {
                    node.become_state(State::Alive, now);
                    node.heard = now;
                    if node.stream.is_some() {
                        revived.push(node.member());
                    }
                }
                State::Dead(_) if node.since > self.heard_any => {
                    node.become_state(State::Absent, now);
                    node.redial = Some(Redial::new(now));
                }
                State::Silent | State::Dead(_) => {}
            }
        }
        self.heard_any = now;
        self.is_changed = true;
        for member in revived {
            self.tell_elections(now, member, &ElectionInput::Came(member), effects);
        }
    }

    /// Whether no node at all was heard for a while: then this coordinator may be the one that is cut off, and there
    /// is nobody to elect anyway.
    pub(super) fn is_deaf(&self, now: Time) -> bool {
        now.since(self.heard_any) > Duration(self.config.node_timeout.0 / 2)
    }

    /// Somebody is heard.
    pub(super) fn end_deafness(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.is_deaf(now) {
            // A coordinator that just started has heard nobody yet, which is nothing to speak of.
            if self.nodes.values().any(|node| node.stream.is_some()) {
                effects.push(Effect::Note(Note::Stalled));
            }
            self.restart_clocks(now, effects);
        }
        self.heard_any = now;
    }

    /// Notes that the node of an admitted stream was heard. None: the stream is not admitted.
    pub(super) fn heard(
        &mut self,
        now: Time,
        stream: StreamId,
        effects: &mut Vec<Effect>,
    ) -> Option<NodeId> {
        let number = *self.streams.get(&stream)?;
        if self.nodes.get(&number)?.stream != Some(stream) {
            return None;
        }
        self.end_deafness(now, effects);
        let node = self.nodes.get_mut(&number)?;
        node.heard = now;
        if node.state != State::Alive {
            node.become_state(State::Alive, now);
            let member = node.member();
            self.steady_since = now;
            self.is_changed = true;
            effects.push(Effect::Note(Note::Returned { node: number }));
            self.keep_leaderships(number, effects);
            self.tell_elections(now, member, &ElectionInput::Came(member), effects);
        }
        Some(number)
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Time,
        stream: StreamId,
        heartbeat: Heartbeat,
        effects: &mut Vec<Effect>,
    ) {
        let Some(number) = self.heard(now, stream, effects) else {
            let refusal = Refusal::NotRegistered;
            // A registration that is being stored may be followed by a heartbeat: it is early, not wrong.
            if !self.streams.contains_key(&stream) {
                effects.push(Effect::Refuse { stream, refusal });
            }
            return;
        };
        let clock = self.clock_read(now, number, heartbeat.wall_ms, effects);
        effects.push(Effect::AnswerHeartbeat {
            stream,
            number: heartbeat.number,
            clock,
        });
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        let was_healthy = node.heartbeat.is_disk_healthy;
        let was_leaving = node.heartbeat.is_leaving;
        let member = node.member();
        node.heartbeat = heartbeat;
        if was_healthy != node.heartbeat.is_disk_healthy {
            self.steady_since = now;
        }
        if was_leaving != node.heartbeat.is_leaving {
            self.is_changed = true;
            if !was_leaving {
                self.forget_vain_moves(member);
            }
        }
        self.check_leaderships(now, number, effects);
        self.judge_silent(now, effects);
    }

    /// Takes in what a node's wall clock shows.
    pub(super) fn clock_read(
        &mut self,
        now: Time,
        number: NodeId,
        wall_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> ClockVerdict {
        // What the clock of one that is gone showed is nothing to go by.
        let is_there = |node: &&Node| match node.state {
            State::Alive | State::Absent => true,
            State::Silent | State::Dead(_) => false,
        };
        let others = self.nodes.values().filter(is_there);
        let others = others.filter(|node| node.row.node != number);
        let others = others.filter_map(|node| node.clock.reading_ms).collect();
        let Some(node) = self.nodes.get_mut(&number) else {
            return ClockVerdict::Unknown;
        };
        let before = node.clock.verdict;
        node.clock.read(now, wall_ms, others);
        let verdict = node.clock.verdict;
        if before.off_ms() != verdict.off_ms() {
            self.is_changed = true;
            // Who may lead has changed; what follows from it comes before what is merely even.
            self.steady_since = now;
            let name = node.row.name.clone();
            let node = number;
            effects.push(Effect::Note(match verdict.off_ms() {
                Some(ahead_ms) => Note::ClockOff {
                    node,
                    name,
                    ahead_ms,
                },
                None => Note::ClockRight { node, name },
            }));
        }
        verdict
    }

    /// Compares what the store says a node leads with what its heartbeat says.
    fn check_leaderships(&mut self, now: Time, number: NodeId, effects: &mut Vec<Effect>) {
        let Some(node) = self.nodes.get(&number) else {
            return;
        };
        let member = node.member();
        let incarnation = node.row.incarnation;
        let led = node.heartbeat.led.clone();
        let mut suspicions = Vec::new();
        let mut doubtful = Vec::new();
        for shard in self.shards.values_mut() {
            let id = shard.record.shard;
            let claimed = led.iter().find(|led| led.shard == id);
            if let Some(led) = claimed
                && led.epoch > shard.record.claim.epoch
            {
                suspicions.push((id, led.epoch));
                continue;
            }
            if shard.record.leader != Some(member) || shard.election.is_some() {
                continue;
            }
            match claimed.filter(|led| led.epoch == shard.record.claim.epoch) {
                Some(led) if led.serving => {
                    shard.led_by = Some(incarnation);
                    shard.missed = 0;
                    shard.unserved_since = None;
                }
                Some(_) => {
                    shard.missed = 0;
                    shard.unserved_since.get_or_insert(now);
                    doubtful.push(id);
                }
                None => {
                    shard.missed = shard.missed.saturating_add(1);
                    doubtful.push(id);
                }
            }
        }
        for (shard, known) in suspicions {
            let node = number;
            self.suspect(shard, Behind { node, known }, effects);
        }
        for shard in doubtful {
            self.judge(now, shard, effects);
        }
    }

    pub(super) fn stream_closed(&mut self, now: Time, stream: StreamId, effects: &mut Vec<Effect>) {
        let Some(number) = self.streams.remove(&stream) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        if node.stream != Some(stream) {
            return;
        }
        node.stream = None;
        node.redial = Some(Redial::new(now));
        if node.state == State::Alive {
            // From here on it has the node timeout to come back, unless its address refuses.
            node.heard = now;
        }
        effects.push(Effect::Note(Note::StreamBroken { node: number }));
    }

    /// A new active coordinator asks all known addresses at once: one that refuses needs no grace time.
    pub(super) fn redial_absent(&mut self, now: Time) {
        for node in self.nodes.values_mut() {
            node.redial = Some(Redial::new(now));
        }
    }

    pub(super) fn run_redials(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for node in self.nodes.values_mut() {
            let Some(redial) = &mut node.redial else {
                continue;
            };
            if redial.attempt.is_some() || redial.next > now {
                continue;
            }
            self.last_attempt.0 += 1;
            redial.attempt = Some(self.last_attempt);
            effects.push(Effect::Redial {
                attempt: self.last_attempt,
                node: node.row.node,
                address: node.row.address.clone(),
            });
        }
    }

    pub(super) fn redialed(
        &mut self,
        now: Time,
        attempt: Attempt,
        outcome: RedialOutcome,
        effects: &mut Vec<Effect>,
    ) {
        let Some(node) = self.nodes.values_mut().find(|node| {
            node.redial
                .as_ref()
                .is_some_and(|redial| redial.attempt == Some(attempt))
        }) else {
            // It attended meanwhile.
            return;
        };
        match outcome {
            RedialOutcome::Refused => {
                let number = node.row.node;
                self.die(now, number, DeathCause::Refused, effects);
            }
            RedialOutcome::Accepted | RedialOutcome::Unanswered => {
                if let Some(redial) = &mut node.redial {
                    redial.wait(now);
                }
            }
        }
    }

    /// Looks for nodes whose time is over.
    pub(super) fn find_silent(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let deaf_max = self.timeouts(DEAF_TIMEOUTS);
        if self.is_deaf(now) && now.since(self.heard_any) < deaf_max {
            return;
        }
        let grace = self.timeouts(GRACE_TIMEOUTS);
        let mut absent = Vec::new();
        let mut silent = Vec::new();
        for node in self.nodes.values() {
            match node.state {
                State::Alive if now.since(node.heard) >= self.config.node_timeout => {
                    silent.push(node.row.node);
                }
                State::Absent if now.since(node.since) >= grace => absent.push(node.row.node),
                State::Alive | State::Absent | State::Silent | State::Dead(_) => {}
            }
        }
        for node in absent {
            self.die(now, node, DeathCause::Absent, effects);
        }
        for number in silent {
            let Some(node) = self.nodes.get_mut(&number) else {
                continue;
            };
            node.become_state(State::Silent, now);
            let member = node.member();
            self.steady_since = now;
            self.is_changed = true;
            let (node, cause) = (number, DeathCause::Silent);
            effects.push(Effect::Note(Note::Died { node, cause }));
            self.tell_elections(now, member, &ElectionInput::Lost(member), effects);
        }
        self.judge_silent(now, effects);
    }

    fn die(&mut self, now: Time, number: NodeId, cause: DeathCause, effects: &mut Vec<Effect>) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        node.become_state(State::Dead(cause), now);
        node.redial = None;
        let member = node.member();
        self.steady_since = now;
        self.is_changed = true;
        let node = number;
        effects.push(Effect::Note(Note::Died { node, cause }));
        self.tell_elections(now, member, &ElectionInput::Lost(member), effects);
        self.judge_led_by(now, number, effects);
    }

    /// Judges the shards of silent leaders, whose followers may have changed their mind about hearing them.
    fn judge_silent(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let silent: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|node| node.state == State::Silent)
            .map(|node| node.row.node)
            .collect();
        for node in silent {
            self.judge_led_by(now, node, effects);
        }
    }

    /// Whether a majority of the leader's followers hears it.
    pub(super) fn is_heard_by_followers(
        &self,
        now: Time,
        leader: NodeId,
        record: &ShardRecord,
    ) -> bool {
        let followers = || record.voters.iter().filter(|voter| voter.node != leader);
        let hearing = followers().filter(|follower| {
            self.nodes.get(&follower.node).is_some_and(|node| {
                node.is_alive()
                    && node.row.disk == follower.disk
                    && now.since(node.heard) < self.config.node_timeout
                    && node.heartbeat.hears.contains(&leader)
            })
        });
        let hearing = hearing.count();
        hearing > 0 && hearing >= quorum::majority(followers().count())
    }
}
