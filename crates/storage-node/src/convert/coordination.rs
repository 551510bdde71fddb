//! Orders, reports and the topology.

use quorate_proto::internal::v1::{self as proto, shard_order, shard_report};
use quorate_replication::{
    Claim, ClaimId, DiskId, Epoch, FenceAnswer, Incarnation, Member, NodeId, Nonce, Order,
    Position, RecordVersion, Report, ShardId, ShardRecord,
};

use super::Malformed;
use crate::shard::input::ClockJudgement;

/// An order, from the wire.
pub(crate) fn decode_order(order: proto::ShardOrder) -> Result<(ShardId, Order), Malformed> {
    let decoded = match order.kind.ok_or(Malformed("kind"))? {
        shard_order::Kind::Probe(probe) => Order::Probe {
            nonce: Nonce(probe.nonce),
        },
        shard_order::Kind::Fence(fence) => Order::Fence {
            claim: decode_claim(fence.claim)?,
        },
        shard_order::Kind::Lead(lead) => {
            let record = lead.record.ok_or(Malformed("record"))?;
            Order::Lead {
                claim: decode_claim(lead.claim)?,
                incarnation: Incarnation(lead.incarnation),
                version: RecordVersion(record.version),
                record: decode_record(record)?,
            }
        }
        shard_order::Kind::HandOver(order) => Order::HandOver {
            claim: decode_claim(order.claim)?,
            to: decode_member(&order.to.ok_or(Malformed("to"))?),
        },
    };
    Ok((ShardId(order.shard), decoded))
}

/// What is thought of this node's wall clock, from the wire.
pub(crate) fn decode_clock(answer: &proto::HeartbeatAnswer) -> ClockJudgement {
    match answer.clock_off_ms {
        0 if answer.clock_agrees => ClockJudgement::Agrees,
        0 => ClockJudgement::Unknown,
        ahead_ms => ClockJudgement::Off { ahead_ms },
    }
}

/// A report, to the wire.
pub(crate) fn encode_report(shard: ShardId, report: Report) -> proto::ShardReport {
    let kind = match report {
        Report::Probed {
            nonce,
            impaired,
            wiped,
        } => shard_report::Kind::Probed(proto::Probed {
            nonce: nonce.0,
            impaired,
            wiped,
        }),
        Report::Fenced(answer) => shard_report::Kind::Fenced(encode_fenced(&answer)),
        Report::FenceRefused { claim, promise } => {
            shard_report::Kind::FenceRefused(proto::FenceRefused {
                claim: Some(encode_claim(claim)),
                promise: Some(encode_claim(promise)),
            })
        }
        Report::Leading { epoch, serving } => shard_report::Kind::Led(proto::Led {
            epoch: epoch.0,
            serving,
        }),
        Report::LeadRefused { claim, promise } => {
            shard_report::Kind::LeadRefused(proto::LeadRefused {
                claim: Some(encode_claim(claim)),
                promise: Some(encode_claim(promise)),
            })
        }
        Report::Outranked { promise } => shard_report::Kind::Outranked(proto::Outranked {
            promise: Some(encode_claim(promise)),
        }),
        Report::HandedOver { claim, to, ready } => {
            shard_report::Kind::HandedOver(proto::HandedOver {
                claim: Some(encode_claim(claim)),
                to: Some(proto::Member {
                    node: to.node.0,
                    disk: to.disk.0,
                }),
                ready,
            })
        }
        Report::LostQuorum { epoch } => {
            shard_report::Kind::LostQuorum(proto::LostQuorum { epoch: epoch.0 })
        }
    };
    proto::ShardReport {
        shard: shard.0,
        kind: Some(kind),
    }
}

fn encode_fenced(answer: &FenceAnswer) -> proto::Fenced {
    proto::Fenced {
        claim: Some(encode_claim(answer.claim)),
        end: Some(encode_position(answer.end)),
        impaired: answer.impaired,
        wiped: answer.wiped,
        bound: answer.bound.map(encode_position),
        has_bound: answer.bound.is_some(),
        disk: answer.disk.0,
        incarnation: answer.incarnation.0,
    }
}

fn decode_record(record: proto::Record) -> Result<ShardRecord, Malformed> {
    let mut voters: Vec<Member> = record.voters.iter().map(decode_member).collect();
    voters.sort_unstable();
    let mut next_voters: Vec<Member> = record.next_voters.iter().map(decode_member).collect();
    next_voters.sort_unstable();
    Ok(ShardRecord {
        shard: ShardId(record.shard),
        claim: decode_claim(record.claim)?,
        leader: record.leader.as_ref().map(decode_member),
        voters,
        next_voters: (!next_voters.is_empty()).then_some(next_voters),
        learners: record.learners.iter().map(decode_member).collect(),
    })
}

/// A member, from the wire.
pub(crate) fn decode_member(member: &proto::Member) -> Member {
    Member {
        node: NodeId(member.node),
        disk: DiskId(member.disk),
    }
}

fn encode_claim(claim: Claim) -> proto::ClaimId {
    proto::ClaimId {
        epoch: claim.epoch.0,
        id: claim.id.0,
    }
}

fn decode_claim(claim: Option<proto::ClaimId>) -> Result<Claim, Malformed> {
    let claim = claim.ok_or(Malformed("claim"))?;
    Ok(Claim {
        epoch: Epoch(claim.epoch),
        id: ClaimId(claim.id),
    })
}

fn encode_position(position: Position) -> proto::EntryPosition {
    proto::EntryPosition {
        epoch: position.epoch.0,
        index: position.index.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_to_lead_needs_its_record() {
        let claim = Some(proto::ClaimId { epoch: 4, id: 9 });
        let member = |node| proto::Member { node, disk: 7 };
        let order = |record| proto::ShardOrder {
            shard: 2,
            kind: Some(shard_order::Kind::Lead(proto::Lead {
                claim,
                incarnation: 5,
                record,
            })),
        };
        assert_eq!(decode_order(order(None)), Err(Malformed("record")));
        let record = proto::Record {
            shard: 2,
            version: 12,
            claim,
            leader: Some(member(1)),
            voters: vec![member(3), member(1), member(2)],
            next_voters: Vec::new(),
            learners: Vec::new(),
        };
        let decoded = decode_order(order(Some(record))).unwrap();
        let (
            shard,
            Order::Lead {
                record, version, ..
            },
        ) = decoded
        else {
            panic!("{decoded:?}");
        };
        assert_eq!((shard, version), (ShardId(2), RecordVersion(12)));
        assert_eq!(record.next_voters, None);
        let nodes: Vec<u32> = record.voters.iter().map(|member| member.node.0).collect();
        assert_eq!(nodes, [1, 2, 3]);
    }

    #[test]
    fn a_fence_answer_tells_a_missing_bound_from_one_at_zero() {
        let answer = |bound| {
            Report::Fenced(FenceAnswer {
                claim: Claim::default(),
                end: Position::default(),
                impaired: false,
                wiped: false,
                bound,
                disk: DiskId(1),
                incarnation: Incarnation(1),
            })
        };
        for bound in [None, Some(Position::default())] {
            let report = encode_report(ShardId(1), answer(bound));
            let Some(shard_report::Kind::Fenced(fenced)) = report.kind else {
                panic!("{report:?}");
            };
            assert_eq!(fenced.has_bound, bound.is_some());
        }
    }
}
