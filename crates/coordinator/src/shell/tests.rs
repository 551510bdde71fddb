//! The shell with a store in the hands of the test.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto::internal::v1::attend_response::Kind;
use quorate_replication::{DiskId, Incarnation};
use quorate_service::metrics::Metrics;
use tokio::sync::{Mutex, Notify, oneshot};

use super::*;
use crate::{
    controller::Registration,
    rows,
    store::{StoreError, Swap, Swapped, Versioned},
};

type Answer = oneshot::Sender<Result<Vec<Swapped>, StoreError>>;

/// A store whose writes wait for the test's answers.
#[derive(Clone)]
struct HeldStore {
    writes: mpsc::Sender<Answer>,
    loss: Arc<Notify>,
    generation: Arc<Mutex<Option<Versioned>>>,
}

impl Store for HeldStore {
    async fn campaign(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn lost(&self) {
        self.loss.notified().await;
    }

    async fn resign(&self) {}

    async fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        let generation = self.generation.lock().await.clone();
        Ok(generation.filter(|found| found.key == key))
    }

    async fn read_all(&self, _prefix: &str) -> Result<Vec<Versioned>, StoreError> {
        Ok(Vec::new())
    }

    async fn compare_and_set_many(&self, swaps: Vec<Swap>) -> Result<Vec<Swapped>, StoreError> {
        if let [swap] = swaps.as_slice()
            && swap.key == rows::generation::GENERATION
        {
            let version = swap.expected + 1;
            *self.generation.lock().await = Some(Versioned {
                key: swap.key.clone(),
                version,
                value: swap.value.clone(),
            });
            return Ok(vec![Swapped::Stored(version)]);
        }
        let (answer, answered) = oneshot::channel();
        self.writes.send(answer).await.expect("the test listens");
        answered.await.expect("the test answers")
    }

    async fn publish_member(&self, _: &str, _: Option<Bytes>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A node that registers on a new stream; what it is told.
async fn register(
    events: &mpsc::Sender<Event>,
    stream: u64,
) -> (
    mpsc::Receiver<Result<AttendResponse, Status>>,
    oneshot::Receiver<()>,
) {
    let (messages, told) = mpsc::channel(16);
    let (reader, is_read) = oneshot::channel();
    let event = Event::Registered {
        stream: StreamId(stream),
        registration: Registration {
            name: "mq01".to_owned(),
            address: "127.0.0.1:61601".to_owned(),
            disk: DiskId(1),
            boot: 1,
            incarnation: Incarnation(1),
            pid: 1,
            node: None,
            zone: String::new(),
            weight: 100,
            version: String::new(),
            wall_ms: 0,
        },
        outgoing: Outgoing {
            messages,
            _reader: reader,
        },
    };
    events.send(event).await.expect("the shell runs");
    (told, is_read)
}

#[tokio::test]
async fn an_answer_to_an_earlier_activation_is_not_taken_for_one_to_this() {
    let (writes, mut held) = mpsc::channel(16);
    let loss = Arc::new(Notify::new());
    let store = HeldStore {
        writes,
        loss: Arc::clone(&loss),
        generation: Arc::default(),
    };
    let (events, received) = mpsc::channel(64);
    let (topology, mut pictures) = watch::channel(None);
    let shell = Shell::new(
        Config::default(),
        store,
        events.clone(),
        received,
        topology,
        Health::new(&[ACTIVE]),
        Counts::register(&Metrics::new("coordinator")),
    );
    let _running = tokio::spawn(shell.run());
    let is_active = |picture: &Option<Arc<ProtoTopology>>| picture.is_some();
    pictures.wait_for(is_active).await.expect("active");
    let (mut first, _reads_first) = register(&events, 1).await;
    let early = held.recv().await.expect("its row is written");

    loss.notify_one();
    let ended = first.recv().await.expect("it is told");
    assert_eq!(
        ended.expect_err("not active").code(),
        tonic::Code::FailedPrecondition
    );
    pictures
        .wait_for(|picture| {
            let generation = picture.as_ref().map(|picture| picture.version >> 32);
            generation == Some(2)
        })
        .await
        .expect("active again");
    let (mut second, _reads_second) = register(&events, 2).await;
    let late = held
        .recv()
        .await
        .expect("its row is written, as another first write");

    // Both writes are the first ones of their activations. The answer to the early one comes now.
    early.send(Ok(vec![Swapped::Stored(1)])).expect("it waits");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    late.send(Ok(vec![Swapped::Conflict(9)])).expect("it waits");
    match second.recv().await.expect("it is told") {
        Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status}"),
        Ok(AttendResponse {
            kind: Some(Kind::Registered(_)),
        }) => panic!("admitted by an answer that was none to it"),
        Ok(other) => panic!("{other:?}"),
    }
}
