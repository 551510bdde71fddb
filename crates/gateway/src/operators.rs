//! What operators want of nodes and leaders: asked of the active coordinator.

use quorate_proto::internal::v1::{
    self as wire, coordination_service_client::CoordinationServiceClient, operate_request::Kind,
};
use tonic::{Code, Status};

use crate::{
    limits::{CONNECT_TIMEOUT, QUESTION_TIMEOUT},
    upstream::{describe, endpoint},
};

/// The way to the coordinators. Clones share nothing that changes.
#[derive(Clone, Debug)]
pub(crate) struct Operators {
    pub(crate) cluster: String,
    pub(crate) coordinators: Vec<String>,
}

impl Operators {
    /// Asks the coordinators in turn; those that are not active say so. What is asked for may be asked for again.
    pub(crate) async fn ask(&self, kind: Kind) -> Result<(), Status> {
        let mut why = "none is configured".to_owned();
        for coordinator in &self.coordinators {
            let request = wire::OperateRequest {
                cluster: self.cluster.clone(),
                kind: Some(kind.clone()),
            };
            match ask(coordinator, request).await {
                Ok(()) => return Ok(()),
                Err(status) if status.code() == Code::FailedPrecondition => {
                    why = format!("{coordinator}: {}", status.message());
                }
                Err(status) => return Err(status),
            }
        }
        Err(Status::unavailable(format!(
            "no coordinator takes the wish ({why}); everything stays as it is, retry"
        )))
    }
}

/// Asks one coordinator. One that cannot be reached counts as not active.
async fn ask(coordinator: &str, request: wire::OperateRequest) -> Result<(), Status> {
    let endpoint = endpoint(coordinator).map_err(Status::failed_precondition)?;
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await;
    let channel = connected
        .map_err(|_| Status::failed_precondition("it does not answer in time"))?
        .map_err(|error| Status::failed_precondition(describe(&error)))?;
    let mut client = CoordinationServiceClient::new(channel);
    let answer = tokio::time::timeout(QUESTION_TIMEOUT, client.operate(request)).await;
    let answer = answer.map_err(|_| {
        Status::unavailable(
            "the coordinator does not answer in time; look at the cluster, then retry",
        )
    })?;
    answer.map(|_| ())
}
