//! Incoming links of peers.

use std::sync::Arc;

use quorate_proto::internal::v1::{
    LinkRequest, LinkResponse, PeerMessage, link_request::Kind, peer_message,
    replication_service_server::ReplicationService,
};
use quorate_replication::{NodeId, ShardId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info};

use super::{Services, check_hello, first};
use crate::{
    convert::{Malformed, between, peer},
    runtime::Item,
    shard::input::Input,
};

#[tonic::async_trait]
impl ReplicationService for Services {
    type LinkStream = ReceiverStream<Result<LinkResponse, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let mut stream = request.into_inner();
        let Some(Kind::Hello(hello)) = first(&mut stream).await?.kind else {
            return Err(Status::invalid_argument(
                "link: the first frame must be `hello`",
            ));
        };
        check_hello(&self.cluster, &hello.cluster, "")?;
        let from = NodeId(hello.node);
        info!(%from, incarnation = hello.incarnation, "peer linked to this node");
        let (answers, receiver) = mpsc::channel(1);
        let shards = Arc::clone(&self.shards);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            // Dropped at the end: it ends the answer stream, which tells the peer.
            let answers = answers;
            loop {
                let frame = tokio::select! {
                    frame = stream.message() => frame,
                    () = answers.closed() => return,
                    () = shutdown.requested() => return,
                };
                let status = match frame {
                    Ok(Some(frame)) => match route(&shards, from, frame) {
                        Ok(()) => continue,
                        Err(status) => status,
                    },
                    Ok(None) => return,
                    Err(status) => {
                        info!(%from, %status, "link of a peer broke");
                        return;
                    }
                };
                // The peer may be gone already.
                drop(answers.try_send(Err(status)));
                return;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// What a message tells a shard, and what it costs in the shard's queue.
fn decode(from: NodeId, message: PeerMessage) -> Result<(ShardId, usize, Input), Malformed> {
    let shard = ShardId(message.shard);
    if let Some(peer_message::Kind::ShardMessage(message)) = message.kind {
        let (from, message) = between::decode(message)?;
        let cost = between::cost_bytes(&message);
        return Ok((shard, cost, Input::FromShard { from, message }));
    }
    let (shard, message) = peer::decode(message)?;
    let cost = peer::cost_bytes(&message);
    Ok((shard, cost, Input::Peer { from, message }))
}

/// Hands the messages of a frame to their shards, those of one shard together.
fn route(shards: &crate::runtime::Shards, from: NodeId, frame: LinkRequest) -> Result<(), Status> {
    let Some(Kind::Messages(messages)) = frame.kind else {
        return Err(Status::invalid_argument(
            "link: only `messages` may follow the first frame",
        ));
    };
    let mut gathered: Vec<(ShardId, Vec<Item>, usize)> = Vec::new();
    for message in messages.messages {
        let (shard, cost, input) = decode(from, message)?;
        let item = Item::Input(input);
        match gathered.iter_mut().find(|(known, ..)| *known == shard) {
            Some((_, items, size_bytes)) => {
                items.push(item);
                *size_bytes += cost;
            }
            None => gathered.push((shard, vec![item], cost)),
        }
    }
    for (shard, items, size_bytes) in gathered {
        if let Err(refused) = shards.offer(shard, items, size_bytes) {
            // The protocol repairs it.
            debug!(%from, %shard, ?refused, "messages of a peer dropped");
        }
    }
    Ok(())
}
