//! The gateways that are connected: one session each, made of a control and a payload stream.
//!
//! The first of the two streams makes the session, the second joins it by its id; the end of either, or a gateway
//! that does not read what it is sent, ends it. Every shard then hears that it is lost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use quorate_broker::SessionId;
use quorate_message::GatewayId;
use quorate_proto::internal::v1::{ControlEvent, ShardDeliveries};
use tokio::sync::Notify;
use tracing::info;

use crate::{
    frames::Costed,
    limits::{SESSION_CONTROL_BYTES, SESSION_PAYLOAD_BYTES, SESSIONS_MAX},
    mailbox::{Mailbox, Refused},
    runtime::Shards,
};

/// One gateway's connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its number on this node.
    pub(crate) id: SessionId,
    /// The gateway's name.
    pub(crate) gateway: String,
    /// Its life.
    pub(crate) incarnation: GatewayId,
    /// What waits on the control stream.
    pub(crate) control: Arc<Mailbox<Costed<ControlEvent>>>,
    /// What waits on the payload stream.
    pub(crate) payload: Arc<Mailbox<Costed<ShardDeliveries>>>,
    key: Key,
    has_control: AtomicBool,
    has_payload: AtomicBool,
    joined: Notify,
    is_ended: AtomicBool,
}

type Key = (String, u64);

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Consumers, credit, settlements; outcomes.
    Control,
    /// Batches; deliveries.
    Payload,
}

/// All sessions of this node.
#[derive(Debug)]
pub(crate) struct Sessions {
    shards: Arc<Shards>,
    last: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_key: BTreeMap<Key, Arc<Session>>,
    by_id: BTreeMap<u64, Arc<Session>>,
}

/// Why a stream cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinError {
    /// The session has this stream already.
    #[error("session has this stream already; choose a new session id for each pair of streams")]
    Taken,
    /// There are too many.
    #[error("too many sessions are open on this node; close some")]
    TooMany,
}

impl Session {
    /// Adds control events. A gateway that does not read them is cut off.
    pub(crate) fn push_control(&self, events: Vec<Costed<ControlEvent>>) -> Result<(), Refused> {
        let size_bytes = events.iter().map(|(_, cost)| cost).sum();
        self.control.push(events, size_bytes)
    }

    /// Adds one event. If the gateway does not read, its control stream ends, and the session with it.
    pub(crate) fn tell(&self, event: ControlEvent, cost: usize) {
        if self.push_control(vec![(event, cost)]).is_err() {
            self.control.close();
        }
    }

    /// Adds deliveries. A gateway that does not read them is cut off.
    pub(crate) fn push_payload(&self, events: Vec<Costed<ShardDeliveries>>) -> Result<(), Refused> {
        let size_bytes = events.iter().map(|(_, cost)| cost).sum();
        self.payload.push(events, size_bytes)
    }

    /// Waits until both streams are there.
    pub(crate) async fn both(&self) {
        loop {
            let joined = self.joined.notified();
            if self.is_complete() {
                return;
            }
            joined.await;
        }
    }

    /// Whether every shard was told that it is over.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Whether both streams are there.
    fn is_complete(&self) -> bool {
        self.has_control.load(Ordering::Acquire) && self.has_payload.load(Ordering::Acquire)
    }
}

impl Sessions {
    /// None yet.
    pub(crate) fn new(shards: Arc<Shards>) -> Self {
        Self {
            shards,
            last: AtomicU64::new(0),
            open: Mutex::default(),
        }
    }

    /// Joins a stream to its session, which the first of the two makes.
    pub(crate) fn join(
        &self,
        (gateway, incarnation): (String, GatewayId),
        id: u64,
        side: Side,
    ) -> Result<Arc<Session>, JoinError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (gateway, id);
        let session = match open.by_key.get(&key) {
            Some(session) => Arc::clone(session),
            None => {
                if open.by_key.len() >= SESSIONS_MAX {
                    return Err(JoinError::TooMany);
                }
                let session = Arc::new(self.make(key.clone(), incarnation));
                open.by_id.insert(session.id.0, Arc::clone(&session));
                open.by_key.insert(key, Arc::clone(&session));
                session
            }
        };
        let flag = match side {
            Side::Control => &session.has_control,
            Side::Payload => &session.has_payload,
        };
        if flag.swap(true, Ordering::AcqRel) {
            return Err(JoinError::Taken);
        }
        if session.is_complete() {
            session.joined.notify_waiters();
            info!(
                gateway = session.gateway,
                session = session.id.0,
                "gateway connected"
            );
        }
        Ok(session)
    }

    /// The session with this number.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.by_id.get(&id.0).map(Arc::clone)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .len()
    }

    /// Ends a session: both streams end, every shard hears of it. Once; later calls do nothing.
    pub(crate) fn end(&self, session: &Session, reason: &'static str) {
        if session.is_ended.swap(true, Ordering::AcqRel) {
            return;
        }
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.by_key.remove(&session.key);
            open.by_id.remove(&session.id.0);
        }
        info!(
            gateway = session.gateway,
            session = session.id.0,
            reason,
            "session ended"
        );
        session.control.close();
        session.payload.close();
        self.shards.session_lost(session.id);
    }

    fn make(&self, key: Key, incarnation: GatewayId) -> Session {
        Session {
            id: SessionId(self.last.fetch_add(1, Ordering::Relaxed) + 1),
            gateway: key.0.clone(),
            incarnation,
            control: Arc::new(Mailbox::new(SESSION_CONTROL_BYTES)),
            payload: Arc::new(Mailbox::new(SESSION_PAYLOAD_BYTES)),
            key,
            has_control: AtomicBool::new(false),
            has_payload: AtomicBool::new(false),
            joined: Notify::new(),
            is_ended: AtomicBool::new(false),
        }
    }
}
