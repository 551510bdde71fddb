//! The session of an active coordinator: a lease in etcd, and the tenure that runs out before it.

use std::{sync::Arc, time::Duration};

use quorate_service::clock;
use tokio::sync::oneshot;
use tracing::debug;

use crate::store::{etcd::endpoints::Endpoints, tenure::Tenure};

/// A session that was won.
#[derive(Debug)]
pub(super) struct Session {
    /// The lease.
    pub(super) lease: i64,
    /// Create revision of the key that says who is active: every change compares it.
    pub(super) fence: i64,
    pub(super) tenure: Tenure,
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
            tenure: Tenure::new(sent, window),
        });
        let (owner, disowned) = oneshot::channel();
        tokio::spawn(keep(endpoints, Arc::clone(&session), disowned));
        Self {
            session,
            _owner: owner,
        }
    }

    pub(super) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }
}

/// Says that this process lives, until the session is over or its owner is gone.
async fn keep(
    endpoints: Arc<Endpoints>,
    session: Arc<Session>,
    mut disowned: oneshot::Receiver<()>,
) {
    loop {
        tokio::select! {
            biased;
            _ = &mut disowned => {
                session.tenure.end();
                // An error leaves the lease to lapse by itself.
                drop(endpoints.revoke(session.lease).await);
                return;
            }
            () = session.tenure.ended() => return,
            () = sign(&endpoints, &session) => {}
        }
    }
}

async fn sign(endpoints: &Endpoints, session: &Session) {
    tokio::time::sleep(session.tenure.pause()).await;
    let sent = clock::monotonic_micros();
    match endpoints.keep_alive(session.lease).await {
        Ok(true) => session.tenure.extend(sent),
        Ok(false) => session.tenure.end(),
        Err(error) => debug!(%error, "sign of life was not answered"),
    }
}
