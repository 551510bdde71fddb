//! What waits for its time: listed page by page, each as the leader has it at that moment, and cancelled one by one.

use quorate_message::{Destination, MessagePosition};
use quorate_proto::{internal::v1 as wire, v1};
use tonic::Status;

use crate::nodes::Nodes;

/// Messages of a page for which no number is given.
const PAGE_MESSAGES: u32 = 100;

/// A page of what waits in a queue or topic.
pub(crate) async fn list(
    nodes: &Nodes,
    request: v1::ListScheduledRequest,
) -> Result<v1::ListScheduledResponse, Status> {
    let destination = destination(&request.destination)?;
    let after = request.after.unwrap_or_default();
    let place = nodes.place(&destination.name)?;
    let shard = place.shard.id;
    let leader = place.leader.ok_or_else(|| {
        Status::unavailable(format!(
            "shard {shard} has no leader ({}); retry",
            place.shard.leaderless_reason
        ))
    })?;
    let question = wire::ListScheduledRequest {
        shard,
        destination: destination.to_string(),
        after_due_ms: after.due_ms,
        after: after.position.map_or(0, |position| position.value),
        limit: match request.limit {
            0 => PAGE_MESSAGES,
            limit => limit,
        },
    };
    let page = nodes.client(&leader)?.list_scheduled(question).await?;
    let page = page.into_inner();
    let messages = page.messages.into_iter().map(|message| v1::Scheduled {
        position: Some(v1::Position {
            shard,
            value: message.position,
        }),
        due_ms: message.due_ms,
        period_ms: message.period_ms,
        deliveries_left: message.left,
        cron: message.cron,
    });
    Ok(v1::ListScheduledResponse {
        messages: messages.collect(),
        end: page.end,
    })
}

/// Which message is to be cancelled.
pub(crate) fn cancelled(
    request: v1::CancelScheduledRequest,
) -> Result<(Destination, MessagePosition), Status> {
    let position = request.position.ok_or_else(|| {
        Status::invalid_argument("no position is given; take that of the scheduled message")
    })?;
    let position = MessagePosition::from_value(position.value);
    if position.is_transient() {
        return Err(Status::invalid_argument(
            "a non-persistent message has no schedule",
        ));
    }
    Ok((destination(&request.destination)?, position))
}

fn destination(text: &str) -> Result<Destination, Status> {
    let parsed: Result<Destination, _> = text.parse();
    parsed.map_err(|error| Status::invalid_argument(error.to_string()))
}
