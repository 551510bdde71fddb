//! The stream to the active coordinator: registration, heartbeats, orders, the topology.
//!
//! Whatever happens here, shards go on: without a coordinator nothing is elected, and that is all. The configured
//! coordinators are tried in turn; one that is not active says so and ends the stream.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use quorate_proto::internal::v1::{
    AttendRequest, AttendResponse, Heartbeat, LedShard, Register, Registered, Topology,
    attend_request, attend_response, coordination_service_client::CoordinationServiceClient,
};
use quorate_replication::{NodeId, Order, RoleName, ShardId, Time};
use quorate_service::clock;
use tokio::{sync::watch, time::Interval};
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use crate::{
    convert::coordination::{decode_clock, decode_order, encode_report},
    frames::{Costed, Frames},
    limits::{ALONE_WARNING, PEER_FRAME_BYTES_MAX, RECONNECT_FIRST, RECONNECT_MAX},
    mailbox::Mailbox,
    peer::endpoint,
    runtime::{Item, Question, ShardHandle, Shards},
    shard::input::{ClockJudgement, Input},
};

/// What a message to the coordinator costs in the queue.
const MESSAGE_COST: usize = 256;

/// The node's side of the stream.
#[derive(Debug)]
pub(crate) struct Attendance {
    /// The coordinators, "host:port".
    pub(crate) coordinators: Vec<String>,
    /// Who this node is; its number is filled in when it is known.
    pub(crate) register: Register,
    /// A shard task that has said nothing for this long is stuck.
    pub(crate) node_timeout: Duration,
    /// The shards.
    pub(crate) shards: Arc<Shards>,
    /// What waits for the coordinator.
    pub(crate) outbox: Arc<Mailbox<Costed<AttendRequest>>>,
    /// The number that this node got.
    pub(crate) node: watch::Sender<Option<NodeId>>,
    /// The newest picture of the cluster.
    pub(crate) topology: watch::Sender<Option<Topology>>,
    /// Whether a coordinator takes this node at the moment.
    pub(crate) is_attending: watch::Sender<bool>,
    /// Whether this node is about to stop and wants to lead nothing.
    pub(crate) is_leaving: watch::Receiver<bool>,
}

impl Attendance {
    /// Attends for as long as the process lives.
    pub(crate) async fn run(mut self) {
        let mut wait = Duration::ZERO;
        let mut alone_since = Instant::now();
        let mut is_told = false;
        loop {
            for address in self.coordinators.clone() {
                let attended = self.attend(&address).await;
                self.is_attending.send_replace(false);
                match attended {
                    Ok(()) => {
                        wait = Duration::ZERO;
                        (alone_since, is_told) = (Instant::now(), false);
                    }
                    Err(status) => debug!(address, %status, "coordinator does not take this node"),
                }
            }
            if !is_told && alone_since.elapsed() >= ALONE_WARNING {
                warn!(coordinators = ?self.coordinators, "no coordinator takes this node; it goes on without");
                is_told = true;
            }
            wait = (wait * 2).clamp(RECONNECT_FIRST, RECONNECT_MAX);
            tokio::time::sleep(wait).await;
        }
    }

    /// Attends one coordinator until the stream ends. An error: it never took this node.
    async fn attend(&mut self, address: &str) -> Result<(), Status> {
        let mut answers = self.open(address).await?;
        let mut registered: Option<Registered> = None;
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        let mut number = 0;
        let mut is_leaving = self.is_leaving.clone();
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer,
                () = next_beat(&mut ticks, &mut is_leaving), if registered.is_some() => {
                    number += 1;
                    self.beat(number);
                    continue;
                }
            };
            let kind = match answer {
                Ok(Some(answer)) => answer.kind,
                Ok(None) => break,
                Err(status) if registered.is_some() => {
                    info!(address, %status, "stream to the coordinator broke");
                    break;
                }
                Err(status) => {
                    refused(address, &status);
                    return Err(status);
                }
            };
            match kind {
                Some(attend_response::Kind::Registered(answer)) => {
                    info!(
                        address,
                        node = answer.node,
                        "registered with the coordinator"
                    );
                    self.node.send_replace(Some(NodeId(answer.node)));
                    ticks =
                        tokio::time::interval(Duration::from_millis(answer.heartbeat_ms.max(10)));
                    registered = Some(answer);
                    self.is_attending.send_replace(true);
                }
                Some(attend_response::Kind::Order(order)) => self.order(order),
                Some(attend_response::Kind::Topology(change)) => {
                    self.topology.send_replace(change.topology);
                }
                Some(attend_response::Kind::Heartbeat(answer)) => {
                    self.clock_judged(decode_clock(&answer));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Opens the stream to a coordinator and says who this is.
    async fn open(&mut self, address: &str) -> Result<Streaming<AttendResponse>, Status> {
        let endpoint = endpoint(address)
            .map_err(|error| Status::invalid_argument(format!("address {address}: {error}")))?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client =
            CoordinationServiceClient::new(channel).max_decoding_message_size(PEER_FRAME_BYTES_MAX);
        self.outbox.clear();
        self.register.node = self.node.borrow().map_or(0, |node| node.0);
        self.register.wall_ms = clock::wall_ms();
        let hello = AttendRequest {
            kind: Some(attend_request::Kind::Register(self.register.clone())),
        };
        // One message in each frame.
        let frames = Frames::new(
            Arc::clone(&self.outbox),
            0,
            |mut messages: Vec<AttendRequest>| messages.pop().unwrap_or_default(),
        )
        .first(hello);
        Ok(client.attend(frames).await?.into_inner())
    }

    fn order(&self, order: quorate_proto::internal::v1::ShardOrder) {
        match decode_order(order) {
            Ok((shard, order)) => match self.shards.get(shard) {
                Some(handle) => self.order_shard(shard, &handle, order),
                // Not opened yet: the coordinator repeats it.
                None => debug!(%shard, "order for a shard that this node does not have"),
            },
            Err(malformed) => warn!(%malformed, "order of the coordinator cannot be understood"),
        }
    }

    /// Hands an order to its shard. A probe is answered here where that is possible: it promises nothing, and a node
    /// is probed for hundreds of shards when another one dies.
    fn order_shard(&self, shard: ShardId, handle: &ShardHandle, order: Order) {
        if let Order::Probe { nonce } = order {
            let (now, fresh) = (Time(clock::monotonic_micros()), self.timeout());
            if let Some(report) = handle.probed(nonce, fresh, now) {
                let kind = Some(attend_request::Kind::Report(encode_report(shard, report)));
                let report = (AttendRequest { kind }, MESSAGE_COST);
                if self.outbox.push([report], MESSAGE_COST).is_err() {
                    debug!("answer to a probe dropped: the coordinator does not read");
                }
                return;
            }
        }
        handle
            .mailbox
            .push_always([Item::Input(Input::Order(order))], 0);
    }

    /// How long what a shard published counts.
    fn timeout(&self) -> quorate_replication::Duration {
        let micros = self.node_timeout.as_micros();
        quorate_replication::Duration(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Tells the shards what is thought of this node's wall clock.
    fn clock_judged(&self, judgement: ClockJudgement) {
        let is_news = self.shards.judge_clock(judgement);
        if let ClockJudgement::Off { ahead_ms } = judgement
            && is_news
        {
            warn!(
                ahead_ms,
                "the wall clock of this node is off; it leads nothing while others can"
            );
        }
    }

    /// Sends a heartbeat, and has the shards bring up to date what the next one says.
    fn beat(&self, number: u64) {
        let now = clock::monotonic_micros();
        let timeout = self.timeout().0;
        let mut heartbeat = Heartbeat {
            disk_healthy: true,
            number,
            leaving: *self.is_leaving.borrow(),
            wall_ms: clock::wall_ms(),
            ..Heartbeat::default()
        };
        let mut hears = BTreeSet::new();
        for (shard, handle) in self.shards.all() {
            let status = handle.status();
            let is_stuck = status.at_micros + timeout < now;
            if !status.is_halted && (status.is_disk_stalled || is_stuck) {
                heartbeat.disk_healthy = false;
            }
            if !status.is_halted {
                heartbeat.position = heartbeat.position.saturating_add(status.durable.0);
            }
            if !is_stuck {
                hears.extend(status.hears.map(|node| node.0));
            }
            if status.role == RoleName::Leader && !status.is_halted {
                heartbeat.led.push(LedShard {
                    shard: shard.0,
                    epoch: status.epoch.0,
                    serving: status.is_serving,
                });
            }
            handle
                .mailbox
                .push_always([Item::Question(Question::Status)], 0);
        }
        heartbeat.hears = hears.into_iter().collect();
        let request = AttendRequest {
            kind: Some(attend_request::Kind::Heartbeat(heartbeat)),
        };
        if self
            .outbox
            .push([(request, MESSAGE_COST)], MESSAGE_COST)
            .is_err()
        {
            debug!("heartbeat dropped: the coordinator does not read");
        }
    }
}

/// When the next heartbeat is due: in its time, or at once when this node begins to leave.
async fn next_beat(ticks: &mut Interval, is_leaving: &mut watch::Receiver<bool>) {
    tokio::select! {
        _ = ticks.tick() => {}
        Ok(()) = is_leaving.changed() => {}
    }
}

fn refused(address: &str, status: &Status) {
    match status.code() {
        // Not the active one, or not reachable: the others are tried.
        tonic::Code::FailedPrecondition | tonic::Code::Unavailable => {
            debug!(address, %status, "coordinator does not take this node");
        }
        _ => warn!(address, %status, "coordinator refuses this node"),
    }
}
