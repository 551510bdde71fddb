//! Operators' moves, and what is on its way.

use quorate_broker::{OutboxStatus, Selector};
use quorate_message::{Destination, MessagePosition};
use quorate_proto::{internal::v1 as proto, v1};
use quorate_replication::ShardId;
use tonic::Status;

use super::{Malformed, session};
use crate::{
    limits::MOVE_POSITIONS_MAX,
    shard::moving::{MoveAction, MovePage, MoveQuery},
};

/// From the wire.
pub(crate) fn decode_query(request: proto::MovePageRequest) -> Result<MoveQuery, Status> {
    if request.positions.len() > MOVE_POSITIONS_MAX {
        return Err(Malformed("positions").into());
    }
    let target = || {
        let target: Result<Destination, _> = request.target.parse();
        target.map_err(|_| Malformed("target"))
    };
    let action = match request.action {
        1 => MoveAction::Move(target()?),
        2 => MoveAction::Copy(target()?),
        3 => MoveAction::Retry,
        4 => MoveAction::Remove,
        _ => return Err(Malformed("action").into()),
    };
    let selector = Selector::parse_optional(&request.selector)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let position = |value: u64| (value != 0).then(|| MessagePosition::from_value(value));
    let mut only: Vec<MessagePosition> = request
        .positions
        .into_iter()
        .map(MessagePosition::from_value)
        .collect();
    only.sort_unstable();
    Ok(MoveQuery {
        query: 0,
        queue: session::decode_queue(&request.queue)?,
        action,
        only,
        after: position(request.after),
        upto: position(request.upto),
        limit: request.limit,
        selector,
    })
}

/// To the wire.
pub(crate) fn encode_page(page: MovePage) -> Result<proto::MovePageResponse, Status> {
    match page {
        MovePage::Done(moved) => Ok(proto::MovePageResponse {
            moved: moved.moved,
            skipped: moved.skipped,
            last: moved.last.map_or(0, MessagePosition::value),
            upto: moved.upto.value(),
            end: moved.end,
            full: moved.is_full,
        }),
        MovePage::NotLeading { epoch } => Err(Status::failed_precondition(format!(
            "this node does not lead the shard; it knows {epoch}"
        ))),
        MovePage::Overloaded => Err(Status::resource_exhausted(
            "too much is under way in this shard; try again",
        )),
        MovePage::LeaderLost => Err(Status::aborted(
            "the leader changed meanwhile, so that it is not known what the page did; look, then go on",
        )),
    }
}

/// What is on its way to one target, to the wire.
pub(crate) fn encode_target(shard: ShardId, status: &OutboxStatus) -> proto::OutboxTarget {
    let refusal = status.refusal.map(session::encode_outcome);
    proto::OutboxTarget {
        shard: shard.0,
        target: status.target.to_string(),
        messages: status.messages,
        oldest_ms: status.oldest_ms,
        refusal: refusal.unwrap_or(v1::Outcome::Unspecified) as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: u32) -> proto::MovePageRequest {
        proto::MovePageRequest {
            shard: 1,
            queue: "orders".to_owned(),
            action,
            target: "queue://other".to_owned(),
            positions: vec![9, 3],
            selector: "colour = 'red'".to_owned(),
            ..proto::MovePageRequest::default()
        }
    }

    #[test]
    fn a_query_is_checked_where_it_comes_in() {
        let query = decode_query(request(1)).unwrap();
        let only: Vec<u64> = query.only.iter().map(|position| position.value()).collect();
        assert_eq!(only, [3, 9]);
        assert_eq!((query.after, query.upto), (None, None));
        let refused = |request| decode_query(request).unwrap_err().message().to_owned();
        assert!(refused(request(5)).contains("`action`"));
        let nowhere = proto::MovePageRequest {
            target: String::new(),
            ..request(2)
        };
        assert!(refused(nowhere).contains("`target`"));
        let odd = proto::MovePageRequest {
            selector: "colour =".to_owned(),
            ..request(3)
        };
        assert!(refused(odd).contains("column"));
    }
}
