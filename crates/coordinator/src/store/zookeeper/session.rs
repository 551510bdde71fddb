//! The session of an active coordinator: a candidate in ZooKeeper that is the lowest, and the tenure that runs out
//! before ZooKeeper ends the session.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use quorate_service::clock;
use tokio::sync::oneshot;
use tracing::debug;
use zookeeper_client::{Client, Error};

use crate::store::{
    tenure::Tenure,
    zookeeper::failure::{bounded, is_session_over, parts},
};

/// A session that was won.
#[derive(Debug)]
pub(super) struct Session {
    /// There until the session is over here. Its last clone takes the session with it.
    client: Mutex<Option<Client>>,
    /// The node that says that this process is the active one: every change checks that it is there.
    pub(super) candidate: String,
    pub(super) tenure: Tenure,
    /// The nodes of published members. None: whether there is one is not known.
    pub(super) members: tokio::sync::Mutex<BTreeMap<String, Option<String>>>,
}

/// A session in the hands of its owner. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Held {
    session: Arc<Session>,
    _owner: oneshot::Sender<()>,
}

impl Held {
    /// Begins to say that this process lives. `sent` is when that was last said and answered.
    pub(super) fn new(client: Client, candidate: String, sent: u64) -> Self {
        // The rest of the session is for the difference between two clocks, and for what a follower hears before its
        // leader does. What counts is what the servers granted.
        let window = client.session_timeout() * 2 / 3;
        let session = Arc::new(Session {
            client: Mutex::new(Some(client)),
            candidate,
            tenure: Tenure::new(sent, window),
            members: tokio::sync::Mutex::default(),
        });
        let (owner, disowned) = oneshot::channel();
        tokio::spawn(keep(Arc::clone(&session), disowned));
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
    /// The client, while the session is not over.
    pub(super) fn client(&self) -> Option<Client> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.as_ref().filter(|_| self.tenure.is_valid()).cloned()
    }

    /// Ends it, and lets another process be the active one at once if a server answers.
    pub(super) async fn give_back(&self) {
        self.tenure.end();
        let client = {
            let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            client.take()
        };
        let Some(client) = client else { return };
        let members: Vec<String> = {
            let mut members = self.members.lock().await;
            std::mem::take(&mut *members)
                .into_values()
                .flatten()
                .collect()
        };
        // The members go first: the next one is not to find those of this one beside its own.
        for path in members.iter().chain([&self.candidate]) {
            if let Err(error) = bounded(client.delete(path, None)).await {
                debug!(%error, path, "left to the end of the session");
                if !matches!(error, Error::NoNode) {
                    return;
                }
            }
        }
    }
}

/// A sign of life that a majority answers, and that fails once the candidate is gone.
pub(super) async fn sign(client: &Client, candidate: &str) -> Result<(), (Option<usize>, Error)> {
    let mut sign = client.new_multi_writer();
    sign.add_check_version(candidate, -1)
        .map_err(|error| (None, error))?;
    bounded(sign.commit()).await.map_err(parts)?;
    Ok(())
}

/// Says that this process lives, until the session is over or its owner is gone.
async fn keep(session: Arc<Session>, mut disowned: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            biased;
            _ = &mut disowned => break,
            () = session.tenure.ended() => break,
            () = say(&session) => {}
        }
    }
    session.give_back().await;
}

async fn say(session: &Session) {
    tokio::time::sleep(session.tenure.pause()).await;
    let Some(client) = session.client() else {
        return;
    };
    let sent = clock::monotonic_micros();
    match sign(&client, &session.candidate).await {
        Ok(()) => session.tenure.extend(sent),
        Err((Some(_), Error::NoNode)) => session.tenure.end(),
        Err((_, error)) if is_session_over(&error) => session.tenure.end(),
        Err((_, error)) => debug!(%error, "sign of life was not answered"),
    }
}
