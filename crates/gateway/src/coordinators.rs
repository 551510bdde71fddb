//! The way to the coordinators, for what only the active one does: each is asked in turn, until one takes it.

use std::future::Future;

use quorate_proto::internal::v1::coordination_service_client::CoordinationServiceClient;
use tonic::{Code, Response, Status, transport::Channel};

use crate::{
    limits::{CONNECT_TIMEOUT, NODE_FRAME_BYTES_MAX, QUESTION_TIMEOUT},
    upstream::{describe, endpoint},
};

/// A client of one coordinator.
pub(crate) type Coordinator = CoordinationServiceClient<Channel>;

/// What a client of the gateway is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a> {
    /// When nobody takes it, behind "no coordinator takes": what that is.
    pub(crate) wish: &'a str,
    /// And what that means.
    pub(crate) untouched: &'a str,
    /// When one took it and did not answer: what may be, and where to look.
    pub(crate) in_doubt: &'a str,
}

/// See the head of the file. Clones share nothing that changes.
#[derive(Clone, Debug)]
pub(crate) struct Coordinators {
    /// The name of the cluster, for requests.
    pub(crate) cluster: String,
    pub(crate) addresses: Vec<String>,
}

impl Coordinators {
    /// Asks the coordinators in turn: those that are not active say so, and one that cannot be reached counts as not
    /// active.
    ///
    /// # Errors
    /// What the active one says; `UNAVAILABLE` when there is none, or when it does not answer.
    pub(crate) async fn ask<T, F>(
        &self,
        question: impl Fn(Coordinator) -> F,
        words: Words<'_>,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut why = "none is configured".to_owned();
        for address in &self.addresses {
            let asked = match connect(address).await {
                Ok(coordinator) => {
                    let answer = question(coordinator);
                    let answer = tokio::time::timeout(QUESTION_TIMEOUT, answer).await;
                    answer.unwrap_or_else(|_| {
                        Err(Status::unavailable(format!(
                            "the coordinator does not answer in time; {}, then retry",
                            words.in_doubt
                        )))
                    })
                }
                Err(why) => Err(Status::failed_precondition(why)),
            };
            match asked {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if status.code() == Code::FailedPrecondition => {
                    why = format!("{address}: {}", status.message());
                }
                Err(status) => return Err(status),
            }
        }
        let Words {
            wish, untouched, ..
        } = words;
        Err(Status::unavailable(format!(
            "no coordinator takes {wish} ({why}); {untouched}, retry"
        )))
    }
}

async fn connect(address: &str) -> Result<Coordinator, String> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, endpoint(address)?.connect()).await;
    let channel = connected
        .map_err(|_| "it does not answer in time".to_owned())?
        .map_err(|error| describe(&error))?;
    Ok(CoordinationServiceClient::new(channel).max_decoding_message_size(NODE_FRAME_BYTES_MAX))
}
