//! Moving, copying, retrying and removing messages of a queue: a call is one page, done by the queue's leader.
//!
//! A page that fails on the way is asked for again. What has left does not leave twice, so that this is safe for all but
//! copies: of those a page may come twice.

use quorate_message::{Destination, DestinationKind, DestinationName};
use quorate_proto::{internal::v1 as wire, v1};
use tokio::time::Instant;
use tonic::Status;

use crate::{
    convert,
    limits::{QUESTION_PAUSE, TRANSFER_POSITIONS_MAX},
    nodes::Nodes,
    topology::pause,
};

/// What becomes of the messages.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// They go there.
    Move(Destination),
    /// Copies go there.
    Copy(Destination),
    /// They go back to where they came from.
    Retry,
    /// They are removed.
    Remove,
}

/// Where messages go.
pub(crate) fn target(text: &str) -> Result<Destination, Status> {
    let target: Destination = text
        .parse()
        .map_err(|error| Status::invalid_argument(format!("target {text:?}: {error}")))?;
    Ok(target)
}

/// Does a page.
pub(crate) async fn page(
    nodes: &Nodes,
    selection: Option<v1::MessageSelection>,
    action: Action,
) -> Result<v1::TransferResponse, Status> {
    let (queue, request) = request(selection.unwrap_or_default(), &action)?;
    let end = nodes.deadline();
    let mut view = nodes.view_receiver();
    loop {
        view.mark_unchanged();
        let refused = match nodes.move_page(&queue, request.clone()).await {
            Ok(page) if page.full && page.moved == 0 => {
                Status::resource_exhausted("too many messages of its shard are on their way")
            }
            Ok(page) => return Ok(response(&page)),
            Err(status) if crate::nodes::is_permanent(&status) => return Err(status),
            Err(status) => status,
        };
        if Instant::now() >= end {
            return Err(Status::deadline_exceeded(format!(
                "messages of {queue} cannot be moved now: {}; retry",
                refused.message()
            )));
        }
        pause(&mut view, QUESTION_PAUSE).await;
    }
}

fn request(
    selection: v1::MessageSelection,
    action: &Action,
) -> Result<(DestinationName, wire::MovePageRequest), Status> {
    let name = match (action, selection.queue.is_empty()) {
        (Action::Retry, true) => quorate_message::settings::DEAD_LETTER_QUEUE,
        (Action::Move(_) | Action::Copy(_) | Action::Retry | Action::Remove, _) => &selection.queue,
    };
    let queue = convert::queue(name)?;
    if selection.positions.len() > TRANSFER_POSITIONS_MAX {
        return Err(Status::invalid_argument(format!(
            "selection names {} positions; at most {TRANSFER_POSITIONS_MAX} are allowed",
            selection.positions.len()
        )));
    }
    let (code, target) = match action {
        Action::Move(target) => (1, Some(target)),
        Action::Copy(target) => (2, Some(target)),
        Action::Retry => (3, None),
        Action::Remove => (4, None),
    };
    if let Some(target) = target
        && target.kind == DestinationKind::Queue
        && target.name == queue
    {
        return Err(Status::invalid_argument(format!(
            "target {target} is where the messages are; name another"
        )));
    }
    let cursor = selection.cursor.unwrap_or_default();
    let request = wire::MovePageRequest {
        shard: 0,
        queue: queue.as_str().to_owned(),
        action: code,
        target: target.map(ToString::to_string).unwrap_or_default(),
        positions: selection
            .positions
            .into_iter()
            .map(|position| position.value)
            .collect(),
        after: cursor.after,
        upto: cursor.upto,
        limit: match selection.limit {
            0 => u32::MAX,
            limit => limit,
        },
        selector: selection.selector,
    };
    Ok((queue, request))
}

fn response(page: &wire::MovePageResponse) -> v1::TransferResponse {
    v1::TransferResponse {
        transferred: page.moved,
        skipped: page.skipped,
        next: (!page.end).then_some(v1::TransferCursor {
            after: page.last,
            upto: page.upto,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(queue: &str) -> v1::MessageSelection {
        v1::MessageSelection {
            queue: queue.to_owned(),
            ..v1::MessageSelection::default()
        }
    }

    #[test]
    fn a_queue_is_not_moved_onto_itself() {
        let action = Action::Move(target("queue://a").unwrap());
        let refused = request(selection("a"), &action).unwrap_err();
        assert!(refused.message().contains("name another"), "{refused}");
        let (_, request) = request(selection("b"), &action).unwrap();
        assert_eq!((request.action, request.limit), (1, u32::MAX));
    }

    #[test]
    fn dead_letters_are_retried_from_where_they_are_by_default() {
        let (queue, request) = request(selection(""), &Action::Retry).unwrap();
        assert_eq!(queue.as_str(), "ActiveMQ.DLQ");
        assert_eq!((request.action, request.target.as_str()), (3, ""));
        assert!(self::request(selection(""), &Action::Remove).is_err());
    }

    #[test]
    fn the_last_page_names_no_next() {
        let mut page = wire::MovePageResponse {
            moved: 5,
            last: 9,
            upto: 20,
            ..wire::MovePageResponse::default()
        };
        let next = response(&page).next.unwrap();
        assert_eq!((next.after, next.upto), (9, 20));
        page.end = true;
        assert_eq!(response(&page).next, None);
    }
}
