//! An operator: changes settings while messages flow, purges, pauses, moves, copies, retries and browses.

use std::collections::BTreeSet;

use quorate_coordinator::controller as coordination;
use quorate_gateway::session::{CallId, Input, Removal};
use quorate_message::settings::Rule;
use quorate_message::{Destination, Pattern, Settings};
use quorate_replication::{Epoch, ShardId};
use quorate_storage_node::shard::input::{BrowseQuery, Input as ShardInput};
use quorate_storage_node::shard::moving::{MoveAction, MoveQuery};

use super::{Purge, Role};
use crate::cluster::Cluster;
use crate::cluster::content::name;
use crate::cluster::packet::ClientEvent;

/// Messages of one page of a move.
const PAGE: u32 = 8;

/// Something that an operator does.
#[derive(Clone, Debug)]
pub(in crate::cluster) enum Deed {
    /// A setting of a pattern gets one of these values.
    Vary(&'static str, &'static str, &'static [&'static str]),
    Purge(&'static str),
    /// With whatever is in it.
    Delete(&'static str),
    Pause(&'static str),
    Move(&'static str, &'static str),
    Copy(&'static str, &'static str),
    Retry(&'static str),
    Browse(&'static str),
    /// To another shard, with all that it holds.
    Relocate(&'static str),
}

/// An operator.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Operator {
    deeds: Vec<Deed>,
    /// The call that is not answered, and what it asks for.
    call: Option<(usize, CallId, Asked)>,
    /// Queues that may be paused.
    paused: BTreeSet<&'static str>,
    /// Queues whose pause was not answered: it may come behind a resume that was (docs/settings.md).
    doubtful: BTreeSet<&'static str>,
}

/// What an operator's call asks for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// The purge at this place.
    Purge(usize),
    Pause(&'static str),
    Resume(&'static str),
}

impl Operator {
    pub(in crate::cluster) fn new(deeds: Vec<Deed>) -> Self {
        Self {
            deeds,
            ..Self::default()
        }
    }

    /// Whether everything that it does has an end.
    pub(in crate::cluster) fn is_done(&self) -> bool {
        self.call.is_none() && self.paused.is_empty()
    }

    pub(super) fn gateway_died(&mut self, gateway: usize) {
        if let Some((.., asked)) = self.call.take_if(|(at, ..)| *at == gateway) {
            self.doubt(asked);
        }
    }

    fn doubt(&mut self, asked: Asked) {
        if let Asked::Pause(queue) = asked {
            self.doubtful.insert(queue);
        }
    }
}

impl Cluster {
    pub(super) fn operator_acts(&mut self, client: usize) {
        self.govern();
        let is_calm = self.is_draining;
        if is_calm {
            self.look_at_doubtful(client);
        }
        let drawn = self.rng.word();
        let Role::Operator(operator) = &mut self.clients[client].role else {
            return;
        };
        if operator.call.is_some() {
            return;
        }
        if let Some(queue) = operator.paused.first().copied()
            && (is_calm || drawn.is_multiple_of(2))
        {
            return self.set_paused(client, Asked::Resume(queue));
        }
        if is_calm || operator.deeds.is_empty() {
            return;
        }
        let at = self.rng.index(operator.deeds.len());
        let deed = operator.deeds[at].clone();
        self.say(format_args!("operator: {deed:?}"));
        self.carry_out_deed(client, deed);
    }

    /// Which queues are paused after all is looked up, as an operator does who got an error. Others are not looked up: a
    /// resume that is answered has to hold.
    fn look_at_doubtful(&mut self, client: usize) {
        let Role::Operator(operator) = &self.clients[client].role else {
            return;
        };
        let is_paused = |queue: &str| {
            let hosts = self.nodes.iter();
            let runtimes = hosts.filter_map(|host| Some(host.process.as_ref()?.shards.values()));
            let mut serving = runtimes.flatten().filter(|one| one.shard.is_serving());
            serving.any(|one| {
                let mut queues = one.shard.broker().queues();
                queues.any(|status| status.name.as_str() == queue && status.is_paused)
            })
        };
        let doubtful = operator.doubtful.iter().copied();
        let paused: Vec<_> = doubtful.filter(|queue| is_paused(queue)).collect();
        if let Role::Operator(operator) = &mut self.clients[client].role {
            operator.paused.extend(paused);
        }
    }

    fn carry_out_deed(&mut self, client: usize, deed: Deed) {
        match deed {
            Deed::Vary(pattern, setting, values) => {
                let at = self.rng.index(values.len());
                self.set_rule(pattern, setting, values[at]);
            }
            Deed::Purge(queue) => self.purge(client, queue, Removal::Messages),
            Deed::Delete(queue) => self.purge(client, queue, Removal::Destination),
            Deed::Pause(queue) => {
                if let Role::Operator(operator) = &mut self.clients[client].role {
                    operator.paused.insert(queue);
                }
                self.set_paused(client, Asked::Pause(queue));
            }
            Deed::Move(from, to) => {
                self.move_page(from, MoveAction::Move(Destination::queue(name(to))))
            }
            Deed::Copy(from, to) => {
                self.move_page(from, MoveAction::Copy(Destination::queue(name(to))))
            }
            Deed::Retry(from) => self.move_page(from, MoveAction::Retry),
            Deed::Browse(queue) => self.browse(queue),
            Deed::Relocate(queue) => self.relocate(queue),
        }
    }

    /// Whether a coordinator shows that some name moves.
    pub(in crate::cluster) fn is_any_moving(&self) -> bool {
        let pictures = self.coordinators.iter();
        let pictures = pictures.filter_map(|host| host.process.as_ref()?.picture());
        let mut places = pictures.flat_map(|picture| picture.overrides.iter());
        places.any(|(_, place)| place.moving.is_some())
    }

    /// Wants a queue to live in any shard.
    fn relocate(&mut self, queue: &str) {
        let to = 1 + self.rng.index(self.options.shards as usize);
        let Some(active) = self.active_coordinator() else {
            return;
        };
        self.settings_asked += 1;
        let input = coordination::Input::MoveWanted {
            request: coordination::MoveRequest(self.settings_asked),
            name: name(queue),
            to: ShardId(u32::try_from(to).expect("a small option")),
        };
        self.step_coordinator(active, input);
    }

    fn active_coordinator(&self) -> Option<usize> {
        self.coordinators.iter().position(|host| {
            let is_active = host
                .process
                .as_ref()
                .is_some_and(|process| process.generation > 0);
            is_active && host.body.is_up() && host.body.paused.is_none()
        })
    }

    /// Sets one setting of one pattern, as wanted.
    pub(in crate::cluster) fn set_rule(&mut self, pattern: &str, setting: &str, value: &str) {
        let pattern = Pattern::new(pattern).expect("the patterns of the workload are valid");
        let mut settings = self
            .wanted
            .rule(&pattern)
            .map(|rule| rule.settings.clone())
            .unwrap_or_default();
        settings
            .set_text(setting, value)
            .expect("the settings of the workload are valid");
        self.wanted
            .set(Rule { pattern, settings })
            .expect("the rules of the workload are valid");
        self.is_dropping |= value == "drop-head";
    }

    /// Asks the active coordinator for the settings that are wanted, unless it has them.
    fn govern(&mut self) {
        let Some(active) = self.active_coordinator() else {
            return;
        };
        let process = self.coordinators[active].process.as_ref();
        let Some(picture) = process.and_then(|process| process.picture()) else {
            return;
        };
        if picture.settings.rules() == self.wanted.rules() {
            return;
        }
        let expected = picture.settings.version();
        self.settings_asked += 1;
        let input = coordination::Input::SettingsWanted {
            request: coordination::SettingsRequest(self.settings_asked),
            expected,
            settings: Settings::clone(&self.wanted),
        };
        self.step_coordinator(active, input);
    }

    fn purge(&mut self, client: usize, queue: &'static str, what: Removal) {
        let Some((gateway, call)) = self.call(client, None) else {
            return;
        };
        self.purges.push(Purge {
            queue,
            is_deletion: what != Removal::Messages,
            asked_us: self.now(),
            done_us: None,
        });
        let purge = self.purges.len() - 1;
        if let Role::Operator(operator) = &mut self.clients[client].role {
            operator.call = Some((gateway, call, Asked::Purge(purge)));
        }
        let destination = Destination::queue(name(queue));
        let input = Input::Purge {
            call,
            destination,
            what,
        };
        self.step_gateway(gateway, input);
    }

    fn set_paused(&mut self, client: usize, asked: Asked) {
        let (queue, is_paused) = match asked {
            Asked::Pause(queue) => (queue, true),
            Asked::Resume(queue) => (queue, false),
            Asked::Purge(_) => return,
        };
        let Some((gateway, call)) = self.call(client, None) else {
            return;
        };
        self.say(format_args!("operator asks gateway {gateway}: {asked:?}"));
        if let Role::Operator(operator) = &mut self.clients[client].role {
            operator.call = Some((gateway, call, asked));
        }
        let input = Input::Pause {
            call,
            queue: name(queue),
            is_paused,
        };
        self.step_gateway(gateway, input);
    }

    pub(super) fn operator_hears(&mut self, client: usize, call: CallId, event: &ClientEvent) {
        let now = self.now();
        let Role::Operator(operator) = &mut self.clients[client].role else {
            return;
        };
        let Some((gateway, _, asked)) = operator.call.take_if(|(_, present, _)| *present == call)
        else {
            return;
        };
        if matches!(event, ClientEvent::Done) {
            match asked {
                Asked::Purge(purge) => {
                    self.counts.purges += 1;
                    self.purges[purge].done_us = Some(now);
                }
                Asked::Resume(queue) => {
                    self.counts.resumes += 1;
                    operator.paused.remove(queue);
                }
                Asked::Pause(_) => {}
            }
        } else {
            operator.doubt(asked);
        }
        self.say(format_args!("operator: {asked:?} is answered: {event:?}"));
        if let Some(process) = self.gateways[gateway].process.as_mut() {
            process.calls.remove(&call);
            self.step_gateway(gateway, Input::Dropped { call });
        }
    }

    fn move_page(&mut self, queue: &str, action: MoveAction) {
        let Some((node, shard)) = self.leader_of(queue) else {
            return;
        };
        self.queries += 1;
        let query = MoveQuery {
            query: self.queries,
            queue: name(queue),
            action,
            only: Vec::new(),
            after: None,
            upto: None,
            limit: PAGE,
            selector: None,
        };
        self.step_shard(node, shard, ShardInput::Move(Box::new(query)));
    }

    fn browse(&mut self, queue: &str) {
        let Some((node, shard)) = self.newest_leader_of(queue) else {
            return;
        };
        self.queries += 1;
        let query = BrowseQuery {
            query: self.queries,
            queue: name(queue),
            after: None,
            limit: 50,
        };
        let now = self.now();
        self.browses.insert(self.queries, now);
        self.step_shard(node, shard, ShardInput::Browse(query));
    }

    /// A node that serves a queue, or thinks so, and can be reached.
    fn leader_of(&self, queue: &str) -> Option<(usize, ShardId)> {
        self.leaders_of(queue)
            .next()
            .map(|(at, shard, _)| (at, shard))
    }

    /// One that nobody has followed. One that was deposed and does not know it shows what it has (docs/cli.md, browse).
    fn newest_leader_of(&self, queue: &str) -> Option<(usize, ShardId)> {
        let is_newest = |(_, shard, epoch): &(usize, ShardId, Epoch)| {
            self.judge.newest_epoch(*shard) == Some(*epoch)
        };
        let newest = self.leaders_of(queue).find(is_newest);
        newest.map(|(at, shard, _)| (at, shard))
    }

    fn leaders_of(&self, queue: &str) -> impl Iterator<Item = (usize, ShardId, Epoch)> {
        let topology = self.nodes.iter().find_map(|node| node.topology.as_ref());
        let slot = quorate_message::slot(&name(queue));
        let shard = topology.and_then(|one| one.slots.get(usize::from(slot.0)).copied());
        self.nodes.iter().enumerate().filter_map(move |(at, host)| {
            let shard = shard?;
            let runtime = host.process.as_ref()?.shards.get(&shard)?;
            let is_reached = host.body.is_up() && host.body.paused.is_none();
            let is_leader = is_reached && runtime.shard.is_serving();
            is_leader.then(|| (at, shard, runtime.shard.replica().epoch()))
        })
    }
}
