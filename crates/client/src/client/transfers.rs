//! Moving, copying, retrying and removing messages, and the dead letters.
//!
//! A call does one page, which is committed when the answer comes; `next` in the answer is the cursor for the next call,
//! and its absence the end. After an error the same call goes on: what has left does not leave twice. Of a copy a page
//! may come twice.

use quorate_proto::v1::{
    CopyMessagesRequest, ListDeadLettersRequest, ListDeadLettersResponse, ListOutboxRequest,
    ListOutboxResponse, MessageSelection, MoveMessagesRequest, Position, RemoveMessagesRequest,
    RetryDeadLettersRequest, TransferResponse, admin_service_client::AdminServiceClient,
};

use super::{Client, question};
use crate::{Error, limits::ANSWER_BYTES};

impl Client {
    /// Moves a page of a queue to another destination.
    ///
    /// # Errors
    /// If no gateway answers in time, or a name or the selector is wrong.
    pub async fn move_messages(
        &self,
        selection: &MessageSelection,
        target: &str,
    ) -> Result<TransferResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .move_messages(question(MoveMessagesRequest {
                    selection: Some(selection.clone()),
                    target: target.to_owned(),
                }))
                .await
        })
        .await
    }

    /// Copies a page of a queue to another destination.
    ///
    /// # Errors
    /// If no gateway answers in time, or a name or the selector is wrong.
    pub async fn copy_messages(
        &self,
        selection: &MessageSelection,
        target: &str,
    ) -> Result<TransferResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .copy_messages(question(CopyMessagesRequest {
                    selection: Some(selection.clone()),
                    target: target.to_owned(),
                }))
                .await
        })
        .await
    }

    /// Sends a page of dead letters back to where they came from.
    ///
    /// # Errors
    /// If no gateway answers in time, or a name or the selector is wrong.
    pub async fn retry_dead_letters(
        &self,
        selection: &MessageSelection,
    ) -> Result<TransferResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .retry_dead_letters(question(RetryDeadLettersRequest {
                    selection: Some(selection.clone()),
                }))
                .await
        })
        .await
    }

    /// Removes selected messages of a page of a queue. [`Client::purge`] removes all at once.
    ///
    /// # Errors
    /// If no gateway answers in time, or a name or the selector is wrong.
    pub async fn remove_messages(
        &self,
        selection: &MessageSelection,
    ) -> Result<TransferResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .remove_messages(question(RemoveMessagesRequest {
                    selection: Some(selection.clone()),
                }))
                .await
        })
        .await
    }

    /// Lists a page of dead letters, from the first or after `after`; of `ActiveMQ.DLQ` if no queue is named.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn dead_letters(
        &self,
        queue: &str,
        after: Option<Position>,
        limit: u32,
    ) -> Result<ListDeadLettersResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES)
                .list_dead_letters(question(ListDeadLettersRequest {
                    queue: queue.to_owned(),
                    after,
                    limit,
                }))
                .await
        })
        .await
    }

    /// Tells what is on its way from one destination to another.
    ///
    /// # Errors
    /// If no gateway answers in time.
    pub async fn outbox(&self) -> Result<ListOutboxResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES)
                .list_outbox(question(ListOutboxRequest {}))
                .await
        })
        .await
    }
}
