//! What operators want of nodes and leaders: asked of the active coordinator.

use quorate_proto::internal::v1::{self as wire, operate_request::Kind};
use tonic::Status;

use crate::coordinators::{Coordinator, Coordinators, Words};

/// Has the active coordinator do it. What is asked for may be asked for again.
pub(crate) async fn operate(coordinators: &Coordinators, kind: Kind) -> Result<(), Status> {
    let question = |mut coordinator: Coordinator| {
        let request = wire::OperateRequest {
            cluster: coordinators.cluster.clone(),
            kind: Some(kind.clone()),
        };
        async move { coordinator.operate(request).await }
    };
    let words = Words {
        wish: "the wish",
        untouched: "everything stays as it is",
        in_doubt: "look at the cluster",
    };
    let answer = coordinators.ask(question, words).await;
    answer.map(|wire::OperateResponse {}| ())
}
