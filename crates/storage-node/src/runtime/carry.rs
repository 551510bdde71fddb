//! Carrying out what a shard asks for: frames for peers and gateways are gathered over a round and handed over once.

use std::collections::BTreeMap;

use quorate_broker::SessionId;
use quorate_proto::internal::v1::{
    AttendRequest, ControlEvent, NameReport, PeerMessage, attend_request,
};
use quorate_replication::{Event, NodeId};
use tracing::{debug, error, info};

use super::{ShardTask, disk::Task};
use crate::{
    convert::{
        coordination::encode_report,
        deliveries::Gathered,
        peer,
        session::{self, Encoded},
    },
    frames::Costed,
    shard::effect::{Act, Note, SessionEvent},
};

/// What goes out at the end of the round.
#[derive(Default)]
pub(super) struct Outgoing {
    peers: BTreeMap<NodeId, Vec<Costed<PeerMessage>>>,
    control: BTreeMap<SessionId, Vec<Costed<ControlEvent>>>,
    payload: BTreeMap<SessionId, Gathered>,
    reports: Vec<Costed<AttendRequest>>,
}

impl ShardTask {
    /// Carries an act out, or gathers it.
    pub(super) fn carry_out(&mut self, act: Act) {
        match act {
            Act::Persist { .. } => unreachable!("writes are gathered before"),
            Act::Send { to, message } => {
                let cost = peer::cost_bytes(&message);
                let message = peer::encode(self.id, message);
                self.outgoing
                    .peers
                    .entry(to)
                    .or_default()
                    .push((message, cost));
            }
            Act::Report(report) => {
                const COST: usize = 256;
                let report = AttendRequest {
                    kind: Some(attend_request::Kind::Report(encode_report(self.id, report))),
                };
                self.outgoing.reports.push((report, COST));
            }
            Act::Load { request, read } => self.start(Task::Read(request, read)),
            Act::LoadCheckpoint { request } => self.start(Task::LoadCheckpoint(request)),
            Act::SaveCheckpoint(checkpoint) => self.start(Task::SaveCheckpoint(checkpoint)),
            Act::ForgetCheckpoint => self.start(Task::ForgetCheckpoint),
            Act::DropSegments(firsts) => self.parts.disk.drop_segments(self.id, firsts),
            Act::InstallBegin {
                transfer,
                at,
                stamp,
            } => self.parts.disk.install_begin(self.id, transfer, at, stamp),
            Act::InstallWrite { transfer, entries } => {
                self.parts.disk.install_write(self.id, transfer, entries);
            }
            Act::InstallCommit {
                transfer,
                checkpoint,
            } => self
                .parts
                .disk
                .install_commit(self.id, transfer, checkpoint),
            Act::ToSession { session, event } => self.tell_later(session, event),
            Act::ToShard { shard, message } => {
                let ways = (&*self.parts.shards, &*self.parts.peers);
                if !self.parts.routes.send(ways, self.id, shard, message) {
                    self.metrics.dropped(1);
                }
            }
            Act::BrowsePage { query, page } => {
                if let Some(answer) = self.browses.remove(&query) {
                    // The one who asked may be gone.
                    drop(answer.send(page));
                }
            }
            Act::MovePage { query, page } => {
                if let Some(answer) = self.moves.remove(&query) {
                    // As above.
                    drop(answer.send(page));
                }
            }
            Act::ReportMove {
                name,
                number,
                refusal,
            } => self.report_move(NameReport {
                shard: self.id.0,
                name: name.as_str().to_owned(),
                number,
                refusal,
            }),
            Act::Note(note) => self.note(&note),
        }
    }

    fn report_move(&mut self, report: NameReport) {
        let cost = 256 + report.name.len() + report.refusal.len();
        let kind = Some(attend_request::Kind::Name(report));
        self.outgoing.reports.push((AttendRequest { kind }, cost));
    }

    fn tell_later(&mut self, session: SessionId, event: SessionEvent) {
        self.traced.end(session, &event);
        match session::encode_event(self.id, event) {
            Encoded::Control(event, cost) => {
                self.outgoing
                    .control
                    .entry(session)
                    .or_default()
                    .push((event, cost));
            }
            Encoded::Payload(said) => {
                let payload = self.outgoing.payload.entry(session).or_default();
                let to = (said.consumer, said.generation);
                payload.add((self.id, said.epoch), to, said.deliveries);
            }
        }
    }

    /// Hands over everything that was gathered.
    pub(super) fn send_all(&mut self) {
        for (node, messages) in std::mem::take(&mut self.outgoing.peers) {
            let count = messages.len() as u64;
            let is_sent = self
                .parts
                .peers
                .outbox(node)
                .is_some_and(|outbox| outbox.push(messages));
            if !is_sent {
                self.metrics.dropped(count);
            }
        }
        for (id, events) in std::mem::take(&mut self.outgoing.control) {
            if let Some(session) = self.parts.sessions.get(id)
                && session.push_control(events).is_err()
            {
                self.parts
                    .sessions
                    .end(&session, "control events were not read");
            }
        }
        for (id, deliveries) in std::mem::take(&mut self.outgoing.payload) {
            if let Some(session) = self.parts.sessions.get(id)
                && session.push_payload(deliveries.into_frames()).is_err()
            {
                self.parts
                    .sessions
                    .end(&session, "deliveries were not read");
            }
        }
        let reports = std::mem::take(&mut self.outgoing.reports);
        if !reports.is_empty() {
            let size_bytes = reports.iter().map(|(_, cost)| cost).sum();
            if self.parts.coordinator.push(reports, size_bytes).is_err() {
                debug!("reports dropped: no coordinator reads them");
            }
        }
    }

    fn note(&self, note: &Note) {
        match note {
            note if note.is_loud() => error!(%note, "replica"),
            // Steps on the way to a leader that serves, for each of the shards that a dead node led.
            Note::Dropped(_)
            | Note::Replica(
                Event::Dropped(_)
                | Event::Promised(_)
                | Event::Follows(..)
                | Event::BecameLeader(_),
            ) => debug!(%note, "replica"),
            note => info!(%note, "replica"),
        }
    }
}
