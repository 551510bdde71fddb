//! Shows a queue page by page. Each page is the leader's at that moment; a change of leader is waited for.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use quorate_message::DestinationName;
use quorate_message::Selector;
use quorate_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;
use tracing::{Instrument, Span};

use crate::{
    convert,
    limits::{BROWSE_PAGE_MESSAGES, OFFER_BYTES},
    nodes::Nodes,
    session::{ShardId, StoredDelivery},
};

/// Clones share the connections to the nodes.
#[derive(Clone, Debug)]
pub(crate) struct Browser {
    pub(crate) nodes: Nodes,
}

/// Messages of one shard, or why there are no more.
pub(crate) type Page = Result<(ShardId, Vec<StoredDelivery>), Status>;

/// The pages of one call.
#[derive(Debug)]
pub(crate) struct Pages(mpsc::Receiver<Page>);

impl Stream for Pages {
    type Item = Result<v1::BrowseResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.0.poll_recv(context);
        polled.map(|page| page.map(|page| page.and_then(response)))
    }
}

fn response((shard, stored): (ShardId, Vec<StoredDelivery>)) -> Result<v1::BrowseResponse, Status> {
    let messages = stored.iter().map(|one| convert::delivery(shard, one));
    let messages = messages.collect::<Result<_, _>>()?;
    Ok(v1::BrowseResponse { messages })
}

impl Browser {
    /// Begins to show a queue. The client's speed is the speed at which pages are asked for.
    pub(crate) fn browse(&self, request: &v1::BrowseRequest, span: Span) -> Result<Pages, Status> {
        let queue = convert::queue(&request.queue)?;
        let selector = convert::terms::selector(&request.selector)?;
        let after = request.after.map_or(0, |position| position.value);
        let left = match request.limit {
            0 => u64::MAX,
            limit => u64::from(limit),
        };
        let pages = self.pages(queue, selector, (after, left), span);
        Ok(Pages(pages))
    }

    /// The messages of a queue behind a position, at most so many.
    pub(crate) fn pages(
        &self,
        queue: DestinationName,
        selector: Option<Selector>,
        (after, left): (u64, u64),
        span: Span,
    ) -> mpsc::Receiver<Page> {
        let (pages, receiver) = mpsc::channel(1);
        let browser = self.clone();
        let show = async move {
            if let Err(status) = browser.show(&queue, selector, (after, left), &pages).await {
                // Nobody to tell: the client left.
                drop(pages.send(Err(status)).await);
            }
        };
        tokio::spawn(show.instrument(span));
        receiver
    }

    async fn show(
        &self,
        queue: &DestinationName,
        selector: Option<Selector>,
        (mut after, mut left): (u64, u64),
        pages: &mpsc::Sender<Page>,
    ) -> Result<(), Status> {
        while left > 0 {
            // With a selector a page may hold few that are wanted: a whole one is asked for.
            let wanted = if selector.is_some() { u64::MAX } else { left };
            let limit = u64::from(BROWSE_PAGE_MESSAGES).min(wanted);
            let limit = u32::try_from(limit).expect("a page is small");
            let (shard, page) = self.nodes.browse_page(queue, after, limit).await?;
            let shard = ShardId(shard);
            let Some(last) = page.messages.last() else {
                return Ok(());
            };
            after = last.position;
            let end = page.end;
            let mut wanted = Vec::new();
            let mut bytes = 0;
            for stored in page.messages {
                let stored = convert::node::delivery(stored)
                    .map_err(|error| Status::internal(error.to_string()))?;
                let is_wanted = selector
                    .as_ref()
                    .is_none_or(|selector| selector.selects(stored.position, &stored.message));
                if left == 0 || !is_wanted {
                    continue;
                }
                left -= 1;
                bytes += stored.message.len();
                wanted.push(stored);
                if bytes >= OFFER_BYTES {
                    bytes = 0;
                    let full = std::mem::take(&mut wanted);
                    if pages.send(Ok((shard, full))).await.is_err() {
                        return Ok(());
                    }
                }
            }
            let whole = wanted.is_empty() || pages.send(Ok((shard, wanted))).await.is_ok();
            if end || !whole {
                return Ok(());
            }
        }
        Ok(())
    }
}
