//! Messages between shards.

use quorate_broker::{Outcomes, Resolution};
use quorate_message::{Attempt, Decision, Outcome, ProducerId, TransactionId};
use quorate_proto::{
    internal::v1::{self as proto, peer_message::Kind as PeerKind, shard_message::Kind},
    v1,
};
use quorate_replication::{Epoch, ShardId};

use super::{Malformed, session};
use crate::shard::between::{Ask, ShardMessage, Unwilling};

/// What a message costs in a queue.
pub(crate) fn cost_bytes(message: &ShardMessage) -> usize {
    const FIXED: usize = 128;
    FIXED
        + match message {
            ShardMessage::Submit { batch, .. } => batch.len(),
            ShardMessage::Outcomes { outcomes, .. } => match outcomes {
                Outcomes::All { .. } => 0,
                Outcomes::Each(each) => each.len(),
            },
            ShardMessage::Refused { .. } | ShardMessage::Resolution(_) => 0,
        }
}

/// To the wire, for the node that leads `to`.
pub(crate) fn encode(from: ShardId, to: ShardId, message: ShardMessage) -> proto::PeerMessage {
    let kind = match message {
        ShardMessage::Submit { ask, batch } => Kind::Submit(proto::ShardSubmit {
            ask: Some(encode_ask(ask)),
            batch,
        }),
        ShardMessage::Outcomes { ask, outcomes } => {
            let (all, each) = match &outcomes {
                Outcomes::All { outcome, .. } => (encode_outcome(*outcome), Vec::new()),
                Outcomes::Each(each) => {
                    let each = each.iter().map(|outcome| encode_outcome(*outcome));
                    (0, each.collect())
                }
            };
            Kind::Outcomes(proto::ShardOutcomes {
                ask: Some(encode_ask(ask)),
                count: u32::try_from(outcomes.len()).unwrap_or(u32::MAX),
                all,
                each,
            })
        }
        ShardMessage::Resolution(message) => Kind::Resolution(encode_resolution(message)),
        ShardMessage::Refused { ask, reason } => Kind::Refused(proto::ShardRefused {
            ask: Some(encode_ask(ask)),
            reason: match reason {
                Unwilling::NotLeading => 1,
                Unwilling::Overloaded => 2,
                Unwilling::Malformed => 3,
            },
        }),
    };
    proto::PeerMessage {
        shard: to.0,
        kind: Some(PeerKind::ShardMessage(proto::ShardMessage {
            from: from.0,
            kind: Some(kind),
        })),
    }
}

/// From the wire: who says it, and what.
pub(crate) fn decode(message: proto::ShardMessage) -> Result<(ShardId, ShardMessage), Malformed> {
    let from = ShardId(message.from);
    let decoded = match message.kind.ok_or(Malformed("kind"))? {
        Kind::Submit(submit) => ShardMessage::Submit {
            ask: decode_ask(submit.ask)?,
            batch: submit.batch,
        },
        Kind::Outcomes(told) => ShardMessage::Outcomes {
            ask: decode_ask(told.ask)?,
            outcomes: decode_outcomes(told.count, told.all, &told.each)?,
        },
        Kind::Resolution(told) => ShardMessage::Resolution(decode_resolution(&told)?),
        Kind::Refused(refused) => ShardMessage::Refused {
            ask: decode_ask(refused.ask)?,
            reason: match refused.reason {
                1 => Unwilling::NotLeading,
                2 => Unwilling::Overloaded,
                _ => Unwilling::Malformed,
            },
        },
    };
    Ok((from, decoded))
}

fn decode_outcomes(count: u32, all: i32, each: &[i32]) -> Result<Outcomes, Malformed> {
    if all == 0 {
        let each: Result<Vec<Outcome>, Malformed> =
            each.iter().map(|code| decode_outcome(*code)).collect();
        return each.map(Outcomes::Each);
    }
    let count = usize::try_from(count).map_err(|_| Malformed("count"))?;
    if count > quorate_message::limits::BATCH_COMMANDS_MAX {
        return Err(Malformed("count"));
    }
    let outcome = decode_outcome(all)?;
    Ok(Outcomes::All { outcome, count })
}

fn encode_outcome(outcome: Outcome) -> i32 {
    session::encode_outcome(outcome) as i32
}

fn decode_outcome(code: i32) -> Result<Outcome, Malformed> {
    const MALFORMED: Malformed = Malformed("outcomes");
    Ok(match v1::Outcome::try_from(code).map_err(|_| MALFORMED)? {
        v1::Outcome::Stored => Outcome::Stored,
        v1::Outcome::Duplicate => Outcome::Duplicate,
        v1::Outcome::Applied => Outcome::Applied,
        v1::Outcome::UnknownMessage => Outcome::UnknownMessage,
        v1::Outcome::NumberTooOld => Outcome::NumberTooOld,
        v1::Outcome::LimitReached => Outcome::LimitReached,
        v1::Outcome::QueueFull => Outcome::QueueFull,
        v1::Outcome::Blocked => Outcome::Blocked,
        v1::Outcome::UnknownDestination => Outcome::UnknownDestination,
        v1::Outcome::RolledBack => Outcome::RolledBack,
        v1::Outcome::InDoubt => Outcome::InDoubt,
        v1::Outcome::Moved => Outcome::Moved,
        v1::Outcome::Unspecified | v1::Outcome::Invalid => return Err(MALFORMED),
    })
}

fn encode_ask(ask: Ask) -> proto::ShardAsk {
    proto::ShardAsk {
        epoch: ask.epoch.0,
        number: ask.number,
    }
}

fn decode_ask(ask: Option<proto::ShardAsk>) -> Result<Ask, Malformed> {
    let ask = ask.ok_or(Malformed("ask"))?;
    Ok(Ask {
        epoch: Epoch(ask.epoch),
        number: ask.number,
    })
}

/// What is said of an attempt, by number.
const ASK: u32 = 1;
const COMMITTED: u32 = 2;
const ROLLED_BACK: u32 = 3;
const FINISHED: u32 = 4;

fn encode_resolution(message: Resolution) -> proto::ShardResolution {
    let (what, id, attempt) = match message {
        Resolution::Ask { id, attempt } => (ASK, id, attempt),
        Resolution::Decided {
            id,
            attempt,
            decision: Decision::Commit,
        } => (COMMITTED, id, attempt),
        Resolution::Decided {
            id,
            attempt,
            decision: Decision::Rollback,
        } => (ROLLED_BACK, id, attempt),
        Resolution::Finished { id, attempt } => (FINISHED, id, attempt),
    };
    proto::ShardResolution {
        what,
        origin: bytes::Bytes::copy_from_slice(&id.origin.0),
        number: id.number,
        attempt: attempt.value(),
    }
}

fn decode_resolution(told: &proto::ShardResolution) -> Result<Resolution, Malformed> {
    let id = TransactionId {
        origin: ProducerId::try_from(&told.origin[..])
            .map_err(|_| Malformed("shard_message.resolution.origin"))?,
        number: told.number,
    };
    // Number 0 names no transaction: no batch could carry it.
    if id.number == 0 {
        return Err(Malformed("shard_message.resolution.number"));
    }
    let attempt = Attempt::from_value(told.attempt);
    let decided = |decision| Resolution::Decided {
        id,
        attempt,
        decision,
    };
    match told.what {
        ASK => Ok(Resolution::Ask { id, attempt }),
        COMMITTED => Ok(decided(Decision::Commit)),
        ROLLED_BACK => Ok(decided(Decision::Rollback)),
        FINISHED => Ok(Resolution::Finished { id, attempt }),
        _ => Err(Malformed("shard_message.resolution.what")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn every_message_comes_back_as_it_was() {
        let ask = Ask {
            epoch: Epoch(7),
            number: 9,
        };
        let same = Outcomes::All {
            outcome: Outcome::Stored,
            count: 3,
        };
        let mixed = Outcomes::Each(vec![Outcome::Duplicate, Outcome::LimitReached]);
        let refused = |reason| ShardMessage::Refused { ask, reason };
        let messages = [
            ShardMessage::Submit {
                ask,
                batch: Bytes::from_static(b"batch"),
            },
            ShardMessage::Outcomes {
                ask,
                outcomes: same,
            },
            ShardMessage::Outcomes {
                ask,
                outcomes: mixed,
            },
            refused(Unwilling::NotLeading),
            refused(Unwilling::Overloaded),
            refused(Unwilling::Malformed),
        ];
        for message in messages {
            let encoded = encode(ShardId(4), ShardId(5), message.clone());
            assert_eq!(encoded.shard, 5);
            let Some(PeerKind::ShardMessage(inner)) = encoded.kind else {
                panic!("another kind");
            };
            assert_eq!(decode(inner), Ok((ShardId(4), message)));
        }
    }

    #[test]
    fn what_lacks_a_part_is_refused() {
        assert_eq!(
            decode(proto::ShardMessage::default()),
            Err(Malformed("kind"))
        );
        let told = proto::ShardOutcomes {
            ask: Some(proto::ShardAsk::default()),
            count: 2_000_000,
            all: 1,
            each: Vec::new(),
        };
        let message = proto::ShardMessage {
            from: 1,
            kind: Some(Kind::Outcomes(told)),
        };
        assert_eq!(decode(message), Err(Malformed("count")));
    }
}
