//! Between the generated gRPC types and those of the controller; everything that comes in is checked here.

use quorate_message::{DestinationName, OverrideError, Settings};
use quorate_proto::internal::v1 as proto;
use quorate_replication::{
    Claim, ClaimId, DiskId, Epoch, FenceAnswer, Incarnation, Index, Member, NodeId, Nonce, Order,
    Position, RecordVersion, Report, ShardId, ShardRecord,
};
use tonic::Status;

use crate::{
    controller::{
        ClockVerdict, Heartbeat, Led, MoveAnswer, MoveRefusal, MoveReport, Refusal, Registration,
        SettingsAnswer, Topology, Wish,
    },
    limits::{ADDRESS_BYTES, NAME_BYTES, NODES_MAX, REFUSAL_BYTES, SHARDS_MAX, WEIGHT_MAX},
};

/// What a node says after its registration.
pub(crate) enum Said {
    /// A heartbeat.
    Heartbeat(Heartbeat),
    /// A report of one replica.
    Report(ShardId, Report),
    /// What became of a move.
    Move(MoveReport),
}

pub(crate) fn registration(register: proto::Register) -> Result<Registration, Status> {
    check_name("name", &register.name)?;
    check_address(&register.address)?;
    check_optional("zone", &register.zone)?;
    check_optional("version", &register.version)?;
    if register.weight > WEIGHT_MAX {
        return Err(invalid(format!("weight is above {WEIGHT_MAX}")));
    }
    if register.disk == 0 || register.boot == 0 {
        return Err(invalid("disk identity and boot counter begin at 1"));
    }
    Ok(Registration {
        name: register.name,
        address: register.address,
        disk: DiskId(register.disk),
        boot: register.boot,
        incarnation: Incarnation(register.incarnation),
        pid: register.pid,
        node: (register.node != 0).then_some(NodeId(register.node)),
        zone: register.zone,
        weight: register.weight,
        version: register.version,
        wall_ms: register.wall_ms,
    })
}

pub(crate) fn check_cluster(expected: &str, found: &str) -> Result<(), Status> {
    if expected == found {
        return Ok(());
    }
    let found: String = found.chars().take(NAME_BYTES).collect();
    Err(Status::permission_denied(format!(
        "this is cluster {expected}, not {found}; change the key `cluster` or the coordinators' addresses"
    )))
}

pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(invalid(format!("{what} is empty")));
    }
    check_optional(what, name)
}

fn check_optional(what: &str, text: &str) -> Result<(), Status> {
    if text.len() > NAME_BYTES {
        return Err(invalid(format!("{what} is longer than {NAME_BYTES} bytes")));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(format!(
            "{what} has other than visible ASCII characters"
        )));
    }
    Ok(())
}

pub(crate) fn check_address(address: &str) -> Result<(), Status> {
    let port = address.rsplit_once(':').map(|(_, port)| port);
    let is_port = port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if address.len() > ADDRESS_BYTES
        || !is_port
        || !address.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(invalid("address is not host:port"));
    }
    Ok(())
}

fn invalid(reason: impl Into<String>) -> Status {
    Status::invalid_argument(reason)
}

pub(crate) fn said(request: proto::AttendRequest) -> Result<Said, Status> {
    use proto::attend_request::Kind;
    match request.kind {
        Some(Kind::Heartbeat(beat)) => heartbeat(beat).map(Said::Heartbeat),
        Some(Kind::Report(report)) => {
            let shard = ShardId(report.shard);
            Ok(Said::Report(shard, self::report(report)?))
        }
        Some(Kind::Name(report)) => move_report(report).map(Said::Move),
        Some(Kind::Register(_)) => Err(invalid("a stream registers once")),
        None => Err(invalid("empty request")),
    }
}

fn heartbeat(beat: proto::Heartbeat) -> Result<Heartbeat, Status> {
    let shards_max = usize::try_from(SHARDS_MAX).unwrap_or(usize::MAX);
    if beat.hears.len() > NODES_MAX || beat.led.len() > shards_max {
        return Err(invalid(
            "heartbeat names more nodes or shards than there can be",
        ));
    }
    Ok(Heartbeat {
        number: beat.number,
        position: beat.position,
        is_disk_healthy: beat.disk_healthy,
        hears: beat.hears.into_iter().map(NodeId).collect(),
        led: beat
            .led
            .into_iter()
            .map(|led| Led {
                shard: ShardId(led.shard),
                epoch: Epoch(led.epoch),
                serving: led.serving,
            })
            .collect(),
        is_leaving: beat.leaving,
        wall_ms: beat.wall_ms,
    })
}

fn report(report: proto::ShardReport) -> Result<Report, Status> {
    use proto::shard_report::Kind;
    Ok(match report.kind.ok_or_else(|| invalid("empty report"))? {
        Kind::Probed(probed) => Report::Probed {
            nonce: Nonce(probed.nonce),
            impaired: probed.impaired,
            wiped: probed.wiped,
        },
        Kind::Fenced(fenced) => Report::Fenced(FenceAnswer {
            claim: claim(fenced.claim)?,
            end: position(fenced.end),
            impaired: fenced.impaired,
            wiped: fenced.wiped,
            bound: fenced.has_bound.then(|| position(fenced.bound)),
            disk: DiskId(fenced.disk),
            incarnation: Incarnation(fenced.incarnation),
        }),
        Kind::FenceRefused(refused) => Report::FenceRefused {
            claim: claim(refused.claim)?,
            promise: claim(refused.promise)?,
        },
        Kind::Led(led) => Report::Leading {
            epoch: Epoch(led.epoch),
            serving: led.serving,
        },
        Kind::LeadRefused(refused) => Report::LeadRefused {
            claim: claim(refused.claim)?,
            promise: claim(refused.promise)?,
        },
        Kind::Outranked(outranked) => Report::Outranked {
            promise: claim(outranked.promise)?,
        },
        Kind::HandedOver(handed) => {
            let to = handed.to.ok_or_else(|| invalid("target is missing"))?;
            Report::HandedOver {
                claim: claim(handed.claim)?,
                to: Member {
                    node: NodeId(to.node),
                    disk: DiskId(to.disk),
                },
                ready: handed.ready,
            }
        }
        Kind::LostQuorum(lost) => Report::LostQuorum {
            epoch: Epoch(lost.epoch),
        },
    })
}

fn claim(claim: Option<proto::ClaimId>) -> Result<Claim, Status> {
    let claim = claim.ok_or_else(|| invalid("claim is missing"))?;
    Ok(Claim {
        epoch: Epoch(claim.epoch),
        id: ClaimId(claim.id),
    })
}

/// An absent position is that before the first entry, as the encoding leaves out what is zero.
fn position(position: Option<proto::EntryPosition>) -> Position {
    let position = position.unwrap_or_default();
    Position {
        epoch: Epoch(position.epoch),
        index: Index(position.index),
    }
}

pub(crate) fn order(shard: ShardId, order: Order) -> proto::AttendResponse {
    use proto::shard_order::Kind;
    let kind = match order {
        Order::Probe { nonce } => Kind::Probe(proto::Probe { nonce: nonce.0 }),
        Order::Fence { claim } => Kind::Fence(proto::Fence {
            claim: Some(claim_out(claim)),
        }),
        Order::Lead {
            claim,
            incarnation,
            record,
            version,
        } => Kind::Lead(proto::Lead {
            claim: Some(claim_out(claim)),
            incarnation: incarnation.0,
            record: Some(record_out(&record, version)),
        }),
        Order::HandOver { claim, to } => Kind::HandOver(proto::OrderHandOver {
            claim: Some(claim_out(claim)),
            to: Some(member_out(to)),
        }),
    };
    response(proto::attend_response::Kind::Order(proto::ShardOrder {
        shard: shard.0,
        kind: Some(kind),
    }))
}

/// The answer to a heartbeat.
pub(crate) fn heartbeat_answer(number: u64, clock: ClockVerdict) -> proto::HeartbeatAnswer {
    proto::HeartbeatAnswer {
        number,
        clock_agrees: clock == ClockVerdict::Agrees,
        clock_off_ms: clock.off_ms().unwrap_or(0),
    }
}

fn claim_out(claim: Claim) -> proto::ClaimId {
    proto::ClaimId {
        epoch: claim.epoch.0,
        id: claim.id.0,
    }
}

fn record_out(record: &ShardRecord, version: RecordVersion) -> proto::Record {
    let next = record.next_voters.as_deref().unwrap_or_default();
    proto::Record {
        shard: record.shard.0,
        version: version.0,
        claim: Some(claim_out(record.claim)),
        leader: record.leader.map(member_out),
        voters: record.voters.iter().copied().map(member_out).collect(),
        next_voters: next.iter().copied().map(member_out).collect(),
        learners: record.learners.iter().copied().map(member_out).collect(),
    }
}

fn member_out(member: Member) -> proto::Member {
    proto::Member {
        node: member.node.0,
        disk: member.disk.0,
    }
}

pub(crate) fn response(kind: proto::attend_response::Kind) -> proto::AttendResponse {
    proto::AttendResponse { kind: Some(kind) }
}

pub(crate) fn topology(cluster: &str, topology: &Topology) -> proto::Topology {
    proto::Topology {
        cluster: cluster.to_owned(),
        version: topology.version,
        nodes: topology
            .nodes
            .iter()
            .map(|node| proto::NodeInfo {
                id: node.node.0,
                name: node.name.clone(),
                address: node.address.clone(),
                alive: node.is_alive,
                pid: node.pid,
                drained: node.is_drained,
                leaving: node.is_leaving,
                clock_off_ms: node.clock_off_ms.unwrap_or(0),
            })
            .collect(),
        shards: topology
            .shards
            .iter()
            .map(|shard| proto::ShardInfo {
                id: shard.shard.0,
                epoch: shard.epoch.0,
                leader: shard.leader.map_or(0, |leader| leader.node.0),
                voters: shard.voters.iter().copied().map(member_out).collect(),
                leaderless_reason: shard.reason.clone(),
            })
            .collect(),
        slots: topology.slots.iter().map(|shard| shard.0).collect(),
        gateways: topology
            .gateways
            .iter()
            .map(|gateway| proto::GatewayInfo {
                name: gateway.name.clone(),
                address: gateway.address.clone(),
            })
            .collect(),
        settings: match topology.settings.version() {
            0 => bytes::Bytes::new(),
            _ => topology.settings.encode().into(),
        },
        overrides: match topology.overrides.version() {
            0 => bytes::Bytes::new(),
            _ => topology.overrides.encode().into(),
        },
    }
}

/// A name that comes in.
pub(crate) fn destination_name(name: &str) -> Result<DestinationName, Status> {
    DestinationName::new(name).map_err(|error| invalid(format!("name: {error}")))
}

/// What became of a move, as a shard's leader reports it.
fn move_report(report: proto::NameReport) -> Result<MoveReport, Status> {
    if report.refusal.len() > REFUSAL_BYTES {
        return Err(invalid("the refusal of a move is too long"));
    }
    Ok(MoveReport {
        from: ShardId(report.shard),
        name: destination_name(&report.name)?,
        number: report.number,
        refusal: (!report.refusal.is_empty()).then_some(report.refusal),
    })
}

/// What a request for a move is answered.
pub(crate) fn move_answer(answer: MoveAnswer) -> Result<proto::MoveNameResponse, Status> {
    match answer {
        MoveAnswer::Begun(overrides) => Ok(proto::MoveNameResponse {
            overrides: overrides.encode().into(),
        }),
        MoveAnswer::Impossible(refusal) => Err(match &refusal {
            MoveRefusal::NoShard { .. } => Status::not_found(refusal.to_string()),
            MoveRefusal::NoShards => Status::unavailable(refusal.to_string()),
            MoveRefusal::Override(error) => match error {
                OverrideError::TooMany => Status::resource_exhausted(refusal.to_string()),
                OverrideError::UnderWay { .. } => Status::aborted(refusal.to_string()),
                OverrideError::Present { .. } => Status::already_exists(refusal.to_string()),
                OverrideError::OfVirtualTopic { .. } => invalid(refusal.to_string()),
            },
        }),
        MoveAnswer::Refused(refusal) => Err(status(&refusal)),
    }
}

/// The settings that somebody wants.
pub(crate) fn wanted_settings(bytes: &[u8]) -> Result<Settings, Status> {
    Settings::decode(bytes)
        .ok_or_else(|| invalid("settings are not as this coordinator reads them"))
}

/// What a request for other settings is answered.
pub(crate) fn settings_answer(
    answer: SettingsAnswer,
) -> Result<proto::ReplaceSettingsResponse, Status> {
    let (replaced, settings) = match answer {
        SettingsAnswer::Replaced(settings) => (true, settings),
        SettingsAnswer::Differ(settings) => (false, settings),
        SettingsAnswer::Refused(refusal) => return Err(status(&refusal)),
    };
    Ok(proto::ReplaceSettingsResponse {
        replaced,
        settings: settings.encode().into(),
    })
}

/// What an operator wants.
pub(crate) fn wish(request: proto::OperateRequest) -> Result<Wish, Status> {
    use proto::operate_request::Kind;
    match request.kind.ok_or_else(|| invalid("empty request"))? {
        Kind::Drain(drain) => {
            check_name("node", &drain.node)?;
            Ok(Wish::Drain {
                node: drain.node,
                is_drained: drain.drained,
            })
        }
        Kind::MoveLeader(wanted) => {
            check_name("node", &wanted.node)?;
            Ok(Wish::MoveLeader {
                shard: ShardId(wanted.shard),
                node: wanted.node,
            })
        }
    }
}

/// The one place where refusals become statuses. Only `FAILED_PRECONDITION` says "try another coordinator".
pub(crate) fn status(refusal: &Refusal) -> Status {
    let reason = refusal.to_string();
    match refusal {
        Refusal::NotActive => Status::failed_precondition(reason),
        Refusal::NameTaken { .. } | Refusal::DiskTaken { .. } => Status::already_exists(reason),
        Refusal::UnknownNumber { .. } | Refusal::OldImage { .. } => Status::data_loss(reason),
        Refusal::Superseded => Status::aborted(reason),
        Refusal::TooManyNodes { .. } | Refusal::TooManyGateways { .. } => {
            Status::resource_exhausted(reason)
        }
        Refusal::UnknownNode { .. } | Refusal::UnknownShard { .. } => Status::not_found(reason),
        Refusal::NoReplica { .. } => Status::invalid_argument(reason),
        Refusal::CannotLead { .. } => Status::aborted(reason),
        Refusal::StoreAway
        | Refusal::SettingsBusy
        | Refusal::MoveBusy
        | Refusal::ShardUnsettled { .. } => Status::unavailable(reason),
        Refusal::NotRegistered => Status::invalid_argument(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register() -> proto::Register {
        proto::Register {
            cluster: "c".to_owned(),
            name: "mq01".to_owned(),
            address: "127.0.0.1:61601".to_owned(),
            disk: 5,
            boot: 1,
            ..proto::Register::default()
        }
    }

    fn refused(change: impl FnOnce(&mut proto::Register)) {
        let mut strange = register();
        change(&mut strange);
        let status = registration(strange).expect_err("strange");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn strange_registrations_are_refused() {
        assert!(registration(register()).is_ok());
        refused(|register| register.name.clear());
        refused(|register| register.name = "x".repeat(65));
        refused(|register| register.name = "a\nb".to_owned());
        refused(|register| register.name = "größe".to_owned());
        refused(|register| register.address = "127.0.0.1".to_owned());
        refused(|register| register.address = "127.0.0.1:0".to_owned());
        refused(|register| register.address = format!("{}:1", "h".repeat(300)));
        refused(|register| register.zone = "z".repeat(65));
        refused(|register| register.weight = u32::MAX);
        refused(|register| register.disk = 0);
        refused(|register| register.boot = 0);
    }

    #[test]
    fn a_claim_that_is_missing_is_refused() {
        let request = proto::AttendRequest {
            kind: Some(proto::attend_request::Kind::Report(proto::ShardReport {
                shard: 1,
                kind: Some(proto::shard_report::Kind::Outranked(proto::Outranked {
                    promise: None,
                })),
            })),
        };
        assert!(said(request).is_err());
        assert!(said(proto::AttendRequest { kind: None }).is_err());
    }

    #[test]
    fn another_cluster_is_refused_clearly() {
        let status = check_cluster("a", "b").expect_err("another cluster");
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
        assert!(status.message().contains("cluster a, not b"));
    }
}
