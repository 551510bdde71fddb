//! Messages between replicas.

use quorate_proto::internal::v1::{self as proto, peer_message::Kind};
use quorate_replication::{
    Claim, ClaimId, DiskId, Entry, EntryKind, Epoch, Index, Message, Nonce, Position, Round,
    ShardId, Stamp,
};

use super::{Malformed, apart};

const KIND_NEW_EPOCH: u32 = 1;
const KIND_COMMANDS: u32 = 2;

/// What a message costs in a queue.
pub(crate) fn cost_bytes(message: &Message) -> usize {
    const FIXED: usize = 128;
    FIXED
        + match message {
            Message::Append { entries, .. } => entries.iter().map(Entry::cost_bytes).sum(),
            Message::InstallChunk { data, .. } | Message::HandOver { data, .. } => data.len(),
            Message::Appended { .. }
            | Message::Parted { .. }
            | Message::Refused { .. }
            | Message::HealAsk { .. }
            | Message::HealAnswer { .. }
            | Message::HandOverTaken { .. }
            | Message::InstallAnswer { .. } => 0,
        }
}

/// To the wire.
pub(crate) fn encode(shard: ShardId, message: Message) -> proto::PeerMessage {
    proto::PeerMessage {
        shard: shard.0,
        kind: Some(encode_kind(message)),
    }
}

#[expect(clippy::too_many_lines, reason = "one arm per message, nothing else")]
fn encode_kind(message: Message) -> Kind {
    match message {
        Message::Append {
            claim,
            previous,
            entries,
            commit,
            round,
            steady,
        } => Kind::Append(proto::Append {
            claim: Some(encode_claim(claim)),
            previous: Some(encode_position(previous)),
            entries: entries.into_iter().map(encode_entry).collect(),
            commit: commit.0,
            round: round.0,
            record_version: 0,
            steady,
        }),
        Message::Appended {
            epoch,
            disk,
            impaired,
            matched,
            round,
        } => Kind::Appended(proto::Appended {
            epoch: epoch.0,
            disk: disk.0,
            impaired,
            matched: matched.0,
            round: round.0,
        }),
        Message::Parted {
            epoch,
            disk,
            round,
            hint,
        } => Kind::Parted(proto::Parted {
            epoch: epoch.0,
            disk: disk.0,
            round: round.0,
            hint: Some(encode_position(hint)),
        }),
        Message::Refused { promise, round } => Kind::Refused(proto::AppendRefused {
            promise: Some(encode_claim(promise)),
            round: round.0,
        }),
        Message::HealAsk { epoch, nonce } => Kind::HealAsk(proto::HealAsk {
            epoch: epoch.0,
            nonce: nonce.0,
        }),
        Message::HealAnswer { epoch, nonce, end } => Kind::HealAnswer(proto::HealAnswer {
            epoch: epoch.0,
            nonce: nonce.0,
            end: end.0,
        }),
        Message::InstallChunk { .. } | Message::InstallAnswer { .. } => encode_install(message),
        Message::HandOver {
            claim,
            at,
            number,
            offset,
            data,
            last,
        } => Kind::HandOver(proto::HandOver {
            claim: Some(encode_claim(claim)),
            at: Some(encode_position(at)),
            number,
            offset,
            data,
            last,
        }),
        Message::HandOverTaken {
            claim,
            number,
            taken,
        } => Kind::HandOverTaken(proto::HandOverTaken {
            claim: Some(encode_claim(claim)),
            number,
            taken,
        }),
    }
}

fn encode_install(message: Message) -> Kind {
    match message {
        Message::InstallChunk {
            claim,
            at,
            transfer,
            offset,
            data,
            last,
            round,
        } => Kind::InstallChunk(proto::InstallChunk {
            claim: Some(encode_claim(claim)),
            at: Some(encode_position(at)),
            transfer: transfer.0,
            offset,
            data,
            last,
            round: round.0,
        }),
        Message::InstallAnswer {
            epoch,
            disk,
            transfer,
            taken,
            installed,
            round,
        } => Kind::InstallAnswer(proto::InstallAnswer {
            epoch: epoch.0,
            disk: disk.0,
            transfer: transfer.0,
            taken,
            installed,
            round: round.0,
        }),
        Message::Append { .. }
        | Message::Appended { .. }
        | Message::Parted { .. }
        | Message::Refused { .. }
        | Message::HealAsk { .. }
        | Message::HandOver { .. }
        | Message::HandOverTaken { .. }
        | Message::HealAnswer { .. } => unreachable!("only what belongs to a transfer comes here"),
    }
}

/// From the wire.
#[expect(clippy::too_many_lines, reason = "one arm per message, nothing else")]
pub(crate) fn decode(message: proto::PeerMessage) -> Result<(ShardId, Message), Malformed> {
    let shard = ShardId(message.shard);
    let decoded = match message.kind.ok_or(Malformed("kind"))? {
        Kind::Append(append) => Message::Append {
            claim: decode_claim(append.claim)?,
            previous: decode_position(append.previous)?,
            entries: append
                .entries
                .into_iter()
                .map(decode_entry)
                .collect::<Result<_, _>>()?,
            commit: Index(append.commit),
            round: Round(append.round),
            steady: append.steady,
        },
        Kind::Appended(appended) => Message::Appended {
            epoch: Epoch(appended.epoch),
            disk: DiskId(appended.disk),
            impaired: appended.impaired,
            matched: Index(appended.matched),
            round: Round(appended.round),
        },
        Kind::Parted(parted) => Message::Parted {
            epoch: Epoch(parted.epoch),
            disk: DiskId(parted.disk),
            round: Round(parted.round),
            hint: decode_position(parted.hint)?,
        },
        Kind::Refused(refused) => Message::Refused {
            promise: decode_claim(refused.promise)?,
            round: Round(refused.round),
        },
        Kind::HealAsk(ask) => Message::HealAsk {
            epoch: Epoch(ask.epoch),
            nonce: Nonce(ask.nonce),
        },
        Kind::HealAnswer(answer) => Message::HealAnswer {
            epoch: Epoch(answer.epoch),
            nonce: Nonce(answer.nonce),
            end: Index(answer.end),
        },
        Kind::InstallChunk(chunk) => Message::InstallChunk {
            claim: decode_claim(chunk.claim)?,
            at: decode_position(chunk.at)?,
            transfer: Nonce(chunk.transfer),
            offset: chunk.offset,
            data: chunk.data,
            last: chunk.last,
            round: Round(chunk.round),
        },
        Kind::InstallAnswer(answer) => Message::InstallAnswer {
            epoch: Epoch(answer.epoch),
            disk: DiskId(answer.disk),
            transfer: Nonce(answer.transfer),
            taken: answer.taken,
            installed: answer.installed,
            round: Round(answer.round),
        },
        Kind::HandOver(piece) => Message::HandOver {
            claim: decode_claim(piece.claim)?,
            at: decode_position(piece.at)?,
            number: piece.number,
            offset: piece.offset,
            data: piece.data,
            last: piece.last,
        },
        Kind::HandOverTaken(answer) => Message::HandOverTaken {
            claim: decode_claim(answer.claim)?,
            number: answer.number,
            taken: answer.taken,
        },
        // Those have a way of their own, since they name another sender.
        Kind::ShardMessage(_) => return Err(Malformed("kind")),
    };
    Ok((shard, decoded))
}

fn encode_entry(entry: Entry) -> proto::LogEntry {
    proto::LogEntry {
        epoch: entry.epoch.0,
        index: entry.index.0,
        stamp_ms: entry.stamp.0,
        kind: match entry.kind {
            EntryKind::NewEpoch => KIND_NEW_EPOCH,
            EntryKind::Commands => KIND_COMMANDS,
        },
        payload: entry.payload,
    }
}

fn decode_entry(entry: proto::LogEntry) -> Result<Entry, Malformed> {
    Ok(Entry {
        epoch: Epoch(entry.epoch),
        index: Index(entry.index),
        stamp: Stamp(entry.stamp_ms),
        kind: match entry.kind {
            KIND_NEW_EPOCH => EntryKind::NewEpoch,
            KIND_COMMANDS => EntryKind::Commands,
            _ => return Err(Malformed("entries.kind")),
        },
        payload: apart(&entry.payload),
    })
}

fn encode_claim(claim: Claim) -> proto::Claim {
    proto::Claim {
        epoch: claim.epoch.0,
        id: claim.id.0,
    }
}

fn decode_claim(claim: Option<proto::Claim>) -> Result<Claim, Malformed> {
    let claim = claim.ok_or(Malformed("claim"))?;
    Ok(Claim {
        epoch: Epoch(claim.epoch),
        id: ClaimId(claim.id),
    })
}

fn encode_position(position: Position) -> proto::LogPosition {
    proto::LogPosition {
        epoch: position.epoch.0,
        index: position.index.0,
    }
}

fn decode_position(position: Option<proto::LogPosition>) -> Result<Position, Malformed> {
    let position = position.ok_or(Malformed("position"))?;
    Ok(Position {
        epoch: Epoch(position.epoch),
        index: Index(position.index),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[expect(clippy::too_many_lines, reason = "one of each message")]
    fn messages() -> Vec<Message> {
        let (epoch, index) = (Epoch(2), Index(9));
        let at = Position { epoch, index };
        let (epoch, id) = (Epoch(3), ClaimId(4));
        let claim = Claim { epoch, id };
        let entry = |kind, index| Entry {
            epoch: Epoch(3),
            index: Index(index),
            stamp: Stamp(77),
            kind,
            payload: Bytes::from_static(b"payload"),
        };
        vec![
            Message::Append {
                claim,
                previous: at,
                entries: vec![
                    entry(EntryKind::NewEpoch, 10),
                    entry(EntryKind::Commands, 11),
                ],
                commit: Index(8),
                round: Round(5),
                steady: true,
            },
            Message::Appended {
                epoch: Epoch(3),
                disk: DiskId(6),
                impaired: true,
                matched: Index(11),
                round: Round(5),
            },
            Message::Parted {
                epoch: Epoch(3),
                disk: DiskId(6),
                round: Round(5),
                hint: at,
            },
            Message::Refused {
                promise: claim,
                round: Round(5),
            },
            Message::HealAsk {
                epoch: Epoch(3),
                nonce: Nonce(1),
            },
            Message::HealAnswer {
                epoch: Epoch(3),
                nonce: Nonce(1),
                end: Index(11),
            },
            Message::InstallChunk {
                claim,
                at,
                transfer: Nonce(2),
                offset: 44,
                data: Bytes::from_static(b"data"),
                last: true,
                round: Round(0),
            },
            Message::InstallAnswer {
                epoch: Epoch(3),
                disk: DiskId(6),
                transfer: Nonce(2),
                taken: 48,
                installed: true,
                round: Round(0),
            },
            Message::HandOver {
                claim,
                at,
                number: 3,
                offset: 44,
                data: Bytes::from_static(b"data"),
                last: true,
            },
            Message::HandOverTaken {
                claim,
                number: 3,
                taken: 48,
            },
        ]
    }

    #[test]
    fn every_message_comes_back_as_it_was() {
        for message in messages() {
            let encoded = encode(ShardId(7), message.clone());
            assert_eq!(decode(encoded), Ok((ShardId(7), message)));
        }
    }

    #[test]
    fn an_entry_does_not_keep_the_frame_that_brought_it() {
        let frame = Bytes::from(b"entry 10 and much more".to_vec());
        let sent = proto::LogEntry {
            kind: KIND_COMMANDS,
            payload: frame.slice(..8),
            ..proto::LogEntry::default()
        };
        let entry = decode_entry(sent).expect("a good entry");
        assert_eq!(entry.payload, &b"entry 10"[..]);
        assert!(frame.is_unique());
    }

    #[test]
    fn what_lacks_a_part_is_refused() {
        let nothing = proto::PeerMessage {
            shard: 1,
            kind: None,
        };
        assert_eq!(decode(nothing), Err(Malformed("kind")));
        let no_claim = proto::PeerMessage {
            shard: 1,
            kind: Some(Kind::Append(proto::Append::default())),
        };
        assert_eq!(decode(no_claim), Err(Malformed("claim")));
    }
}
