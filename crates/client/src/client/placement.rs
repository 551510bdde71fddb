//! Where destinations live.

use quorate_proto::v1::{
    MoveDestinationRequest, MoveDestinationResponse, ShowPlacementRequest, ShowPlacementResponse,
    admin_service_client::AdminServiceClient,
};

use super::{Client, question};
use crate::{Error, limits::ANSWER_BYTES};

impl Client {
    /// Tells where destinations live: the slot map in short, names that live elsewhere, moves that are under way, and,
    /// unless `destination` is empty, where that one lives and why.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn placement(&self, destination: &str) -> Result<ShowPlacementResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES)
                .show_placement(question(ShowPlacementRequest {
                    destination: destination.to_owned(),
                }))
                .await
        })
        .await
    }

    /// Moves a queue or topic, with all that it holds, to another shard while it is used. It goes on by itself after the
    /// answer; [`Client::placement`] shows it until it is there.
    ///
    /// # Errors
    /// If no gateway answers in time, the name or the shard is wrong, the destination cannot be moved, is being moved, or
    /// is there.
    pub async fn move_destination(
        &self,
        destination: &str,
        shard: u32,
    ) -> Result<MoveDestinationResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .move_destination(question(MoveDestinationRequest {
                    destination: destination.to_owned(),
                    shard,
                }))
                .await
        })
        .await
    }
}
