//! The coordination store in ZooKeeper.
//!
//! ```text
//! <path>/rows/<key>                one row, `/` written as `:`; its version is the node's data version and one
//! <path>/candidates/<id>-<number>  who wants to be the active coordinator, ephemeral and sequential: the lowest is it
//! <members path>/<name>-<number>   a live storage node for operators, ephemeral and sequential
//! ```
//! Every change is a transaction that first checks that this process's candidate is there: a coordinator that was paused
//! and whose session lapsed changes nothing, however late its request comes. The client learns of the end of its session
//! only from a server that answers, so there is a clock of our own beside it (`session`).
//!
//! Calls of the client wait while it has no server, so each has a time limit here. A change is sent once: when its answer
//! does not come, the caller is told that the store is away, and has to read. What is read is read after a change that
//! changes nothing was agreed on by a majority, so that a server that lags behind shows nothing old.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::store::{OptionsError, Store, StoreError, StoreOptions, Swap, Swapped, Versioned};
use place::Place;
use session::{Held, Session};

mod campaign;
mod failure;
mod members;
mod place;
mod security;
mod session;
mod swaps;

/// A handle of the store; clones share it, and with it the campaign.
#[derive(Clone, Debug)]
pub struct ZookeeperStore {
    place: Arc<Place>,
    campaign: Arc<Campaign>,
}

/// What this process has of the place of the active coordinator.
#[derive(Debug, Default)]
struct Campaign {
    /// There once this process won; the session may be over.
    held: Mutex<Option<Held>>,
    /// Candidates of sessions that are over for this process, until they are seen to be gone: nobody has to wait for
    /// them to lapse.
    former: Mutex<Vec<String>>,
}

impl ZookeeperStore {
    /// Makes a handle; connects when it is used.
    ///
    /// # Errors
    /// When an address or certificate is none.
    pub fn new(options: StoreOptions) -> Result<Self, OptionsError> {
        Ok(Self {
            place: Arc::new(Place::new(options)?),
            campaign: Arc::new(Campaign::default()),
        })
    }

    fn session(&self) -> Result<Arc<Session>, StoreError> {
        let session = self.campaign.held().as_ref().map(Held::session);
        session
            .filter(|session| session.tenure.is_valid())
            .ok_or(StoreError::NotActive)
    }

    /// The client of the session, or one for this call.
    async fn client(&self) -> Result<zookeeper_client::Client, StoreError> {
        let active = self.session().ok().and_then(|session| session.client());
        match active {
            Some(client) => Ok(client),
            None => self.place.connect().await,
        }
    }
}

impl Campaign {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn former(&self) -> MutexGuard<'_, Vec<String>> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for ZookeeperStore {
    async fn campaign(&self) -> Result<(), StoreError> {
        if self.session().is_ok() {
            return Ok(());
        }
        let held = campaign::win(&self.place, &self.campaign).await?;
        *self.campaign.held() = Some(held);
        Ok(())
    }

    async fn lost(&self) {
        let session = self.campaign.held().as_ref().map(Held::session);
        if let Some(session) = session {
            session.tenure.ended().await;
        }
    }

    async fn resign(&self) {
        let held = self.campaign.held().take();
        if let Some(held) = held {
            held.session().give_back().await;
        }
    }

    async fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        let client = self.client().await?;
        self.place.read(&client, key).await
    }

    async fn read_all(&self, prefix: &str) -> Result<Vec<Versioned>, StoreError> {
        let client = self.client().await?;
        let found = self.place.find(&client, prefix).await?;
        Ok(found.into_iter().map(|(_, row)| row).collect())
    }

    async fn compare_and_set_many(&self, swaps: Vec<Swap>) -> Result<Vec<Swapped>, StoreError> {
        let session = self.session()?;
        let mut outcomes = Vec::with_capacity(swaps.len());
        let mut rest = swaps.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(swaps::in_one(rest));
            rest = later;
            swaps::swap(&self.place, &session, now, &mut outcomes).await?;
        }
        Ok(outcomes)
    }

    async fn publish_member(&self, name: &str, member: Option<Bytes>) -> Result<(), StoreError> {
        let session = self.session()?;
        members::publish(&self.place, &session, name, member).await
    }
}
