//! The call of a transaction: its requests are moved to the engine, and its one answer back.

use quorate_message::TransactionId;
use quorate_proto::v1;
use quorate_service::clock::wall_ms;
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

use crate::{
    convert::{self, Publications},
    engine::{Answer, Caller, Engine, Event},
    limits::FIRST_REQUEST_TIMEOUT,
    listener::first,
    session::{CallId, Failure, Input, Publication},
    status::failure_status,
};

/// The client's side of a transaction.
pub(crate) struct TransactReader {
    engine: Engine,
    publications: Publications,
    transaction: Option<TransactionId>,
}

impl TransactReader {
    pub(crate) fn new(engine: &Engine, message_bytes_max: usize) -> Self {
        Self {
            engine: engine.clone(),
            publications: Publications::new(message_bytes_max),
            transaction: None,
        }
    }

    /// Moves all of it to the engine and waits for the end. To drop this before the commit rolls it back.
    pub(crate) async fn run(
        mut self,
        mut requests: Streaming<v1::TransactRequest>,
    ) -> Result<v1::TransactResponse, Status> {
        let (reply, mut answer) = oneshot::channel();
        let guard = self.engine.call(Caller::Unary(reply)).await?;
        let call = guard.call;
        loop {
            // A transaction that fails while it is told is answered at once.
            let request = tokio::select! {
                answer = &mut answer => return committed(answer),
                request = first(requests.message(), FIRST_REQUEST_TIMEOUT) => request?,
            };
            let is_last = request.commit;
            let input = self.check(call, request)?;
            self.engine.tell(Event::Input(input)).await?;
            if is_last {
                break;
            }
        }
        let nonce =
            getrandom::u64().map_err(|error| Status::internal(format!("randomness: {error}")))?;
        let input = Input::Commit {
            call,
            wall_ms: wall_ms(),
            nonce,
        };
        self.engine.tell(Event::Input(input)).await?;
        committed(answer.await)
    }

    fn check(&mut self, call: CallId, request: v1::TransactRequest) -> Result<Input, Status> {
        let transaction = convert::transaction(&request.transaction_id, request.number)?;
        if *self.transaction.get_or_insert(transaction) != transaction {
            return Err(Status::invalid_argument(
                "transaction_id or number changed within the call; open another call for another transaction",
            ));
        }
        let settlements = request.settlements.iter().map(convert::transacted);
        Ok(Input::Transact {
            call,
            transaction,
            sends: unscheduled(self.publications.read_all(request.messages, false)?)?,
            settlements: settlements.collect::<Result<_, _>>()?,
        })
    }
}

fn committed(
    answer: Result<Result<Answer, Failure>, oneshot::error::RecvError>,
) -> Result<v1::TransactResponse, Status> {
    let answer =
        answer.map_err(|_| Status::unavailable("gateway is stopping; retry on another gateway"))?;
    match answer.map_err(|failure| failure_status(&failure))? {
        Answer::Committed => Ok(v1::TransactResponse {}),
        Answer::Confirmed(..) | Answer::Wrong(_) | Answer::Purged(_) | Answer::Unsubscribed(_) => {
            Err(Status::internal(
                "a transaction was answered as something else",
            ))
        }
    }
}

/// Its time would run before it is decided whether there is such a message.
fn unscheduled(sends: Vec<Publication>) -> Result<Vec<Publication>, Status> {
    match sends
        .iter()
        .find(|publication| publication.schedule.is_some())
    {
        None => Ok(sends),
        Some(publication) => Err(Status::invalid_argument(format!(
            "message for {} has a schedule, which a transaction cannot have; send it by itself",
            publication.destination
        ))),
    }
}
