//! The session of an active coordinator: a lease in etcd, and a clock of our own that runs out before it.
//!
//! ```text
//! sent ---- answered                       the lease lapses at the earliest
//!   |<------ window: 2/3 of the session ----->|..................|
//!   this process counts as active until here  |
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quorate_service::clock;
use tokio::sync::{oneshot, watch};
use tracing::debug;

use crate::store::etcd::endpoints::Endpoints;

/// Signs of life within the window: one or two may go unanswered.
const SIGNS: u32 = 4;

/// Longest sleep before the clock is looked at: tokio's stands still while the machine sleeps, ours does not.
const LOOK: Duration = Duration::from_millis(100);

/// A session that was won.
#[derive(Debug)]
pub(super) struct Session {
    /// The lease.
    pub(super) lease: i64,
    /// Create revision of the key that says who is active: every change compares it.
    pub(super) fence: i64,
    /// By the clock that runs through suspension, in microseconds.
    valid_until: AtomicU64,
    has_ended: watch::Sender<bool>,
}

/// A session in the hands of its owner. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Held {
    session: Arc<Session>,
    _owner: oneshot::Sender<()>,
}

impl Held {
    /// Begins to keep a lease alive. `sent` is when it was asked for.
    pub(super) fn new(
        endpoints: Arc<Endpoints>,
        lease: i64,
        fence: i64,
        sent: u64,
        window: Duration,
    ) -> Self {
        let session = Arc::new(Session {
            lease,
            fence,
            valid_until: AtomicU64::new(sent + micros(window)),
            has_ended: watch::channel(false).0,
        });
        let (owner, disowned) = oneshot::channel();
        tokio::spawn(keep(endpoints, Arc::clone(&session), disowned, window));
        Self {
            session,
            _owner: owner,
        }
    }

    pub(super) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }
}

impl Session {
    /// Whether this process may take itself for the active one.
    pub(super) fn is_valid(&self) -> bool {
        !*self.has_ended.borrow()
            && clock::monotonic_micros() < self.valid_until.load(Ordering::Acquire)
    }

    /// Ends it, for good.
    pub(super) fn end(&self) {
        self.has_ended.send_replace(true);
    }

    /// Waits until it is over, by whatever happens first.
    pub(super) async fn ended(&self) {
        let mut has_ended = self.has_ended.subscribe();
        while self.is_valid() {
            let left = self
                .valid_until
                .load(Ordering::Acquire)
                .saturating_sub(clock::monotonic_micros());
            let wait = Duration::from_micros(left).min(LOOK);
            tokio::select! {
                _ = has_ended.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.end();
    }
}

/// Says that this process lives, until the session is over or its owner is gone.
async fn keep(
    endpoints: Arc<Endpoints>,
    session: Arc<Session>,
    mut disowned: oneshot::Receiver<()>,
    window: Duration,
) {
    loop {
        tokio::select! {
            biased;
            _ = &mut disowned => {
                session.end();
                // An error leaves the lease to lapse by itself.
                drop(endpoints.revoke(session.lease).await);
                return;
            }
            () = session.ended() => return,
            () = sign(&endpoints, &session, window) => {}
        }
    }
}

async fn sign(endpoints: &Endpoints, session: &Session, window: Duration) {
    tokio::time::sleep(window / SIGNS).await;
    let sent = clock::monotonic_micros();
    match endpoints.keep_alive(session.lease).await {
        Ok(true) => {
            let until = sent + micros(window);
            session.valid_until.store(until, Ordering::Release);
        }
        Ok(false) => session.end(),
        Err(error) => debug!(%error, "sign of life was not answered"),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
