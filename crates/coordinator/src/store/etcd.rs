//! The coordination store in etcd.
//!
//! ```text
//! <path>/rows/<key>     one row; its version is the key's mod revision
//! <path>/active         who is the active coordinator, under a lease; the key's create revision is the fence
//! <members path>/<name> a live storage node for operators, under the same lease
//! ```
//! Every change is a transaction that first compares the create revision of `active`: a coordinator that was paused and
//! whose lease lapsed changes nothing, however late its request comes. It also stops by itself at two thirds of the
//! session after the last answered keep-alive was sent, by a clock that runs through suspension (`session`).
//!
//! One server is asked at a time, and another when it fails (`endpoints`). A change is sent once: when its answer does
//! not come, the caller is told that the store is away, and has to read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use crate::store::{
    MEMBERS, OptionsError, Store, StoreError, StoreOptions, Swap, Swapped, Versioned,
};
use endpoints::Repeat;
use place::Place;
use session::{Held, Session};

mod campaign;
mod endpoints;
mod failure;
mod place;
mod session;
mod swaps;

/// A handle of the store; clones share it, and with it the campaign.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    place: Arc<Place>,
    campaign: Arc<Campaign>,
}

/// What this process has of the place of the active coordinator.
#[derive(Debug, Default)]
struct Campaign {
    /// There once this process won; the session may be over.
    held: Mutex<Option<Held>>,
    /// The lease of the last session: what is left of it is removed before the next one.
    last_lease: Mutex<Option<i64>>,
}

impl EtcdStore {
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

    /// What every change compares first.
    fn fence(&self, session: &Session) -> Compare {
        Compare::create_revision(self.place.active_key(), CompareOp::Equal, session.fence)
    }
}

impl Campaign {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_lease(&self) -> MutexGuard<'_, Option<i64>> {
        self.last_lease
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for EtcdStore {
    async fn campaign(&self) -> Result<(), StoreError> {
        if self.session().is_ok() {
            return Ok(());
        }
        let held = campaign::win(self).await?;
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
            held.session().tenure.end();
            // An error leaves the lease to lapse by itself.
            drop(self.place.endpoints.revoke(held.session().lease).await);
        }
    }

    async fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        let path = self.place.key(key);
        let answer = self
            .place
            .endpoints
            .call(Repeat::Safe, |mut client| {
                let path = path.clone();
                async move { client.get(path, None).await }
            })
            .await?;
        Ok(answer.kvs().first().map(|kv| Versioned {
            key: key.to_owned(),
            version: version(kv.mod_revision()),
            value: Bytes::copy_from_slice(kv.value()),
        }))
    }

    async fn read_all(&self, prefix: &str) -> Result<Vec<Versioned>, StoreError> {
        self.place.find(prefix).await
    }

    async fn compare_and_set_many(&self, swaps: Vec<Swap>) -> Result<Vec<Swapped>, StoreError> {
        let session = self.session()?;
        let mut outcomes = Vec::with_capacity(swaps.len());
        let mut rest = swaps.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(swaps::in_one(rest));
            rest = later;
            if !session.tenure.is_valid() {
                return Err(StoreError::NotActive);
            }
            let txn = swaps::txn(&self.place, self.fence(&session), now)?;
            let answer = self
                .place
                .endpoints
                .call(Repeat::Once, |mut client| {
                    let txn = txn.clone();
                    async move { client.txn(txn).await }
                })
                .await?;
            if !answer.succeeded() {
                session.tenure.end();
                return Err(StoreError::NotActive);
            }
            swaps::outcomes(&answer, now.len(), &mut outcomes)?;
        }
        Ok(outcomes)
    }

    async fn publish_member(&self, name: &str, member: Option<Bytes>) -> Result<(), StoreError> {
        let session = self.session()?;
        let key = self.place.key(&format!("{MEMBERS}{name}"));
        let change = match member {
            Some(member) => {
                let options = PutOptions::new().with_lease(session.lease);
                TxnOp::put(key, member.to_vec(), Some(options))
            }
            None => TxnOp::delete(key, None),
        };
        let txn = Txn::new().when([self.fence(&session)]).and_then([change]);
        // The same member twice is the same member.
        let answer = self
            .place
            .endpoints
            .call(Repeat::Safe, |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
        if answer.succeeded() {
            return Ok(());
        }
        session.tenure.end();
        Err(StoreError::NotActive)
    }
}

/// A mod revision as a version: etcd counts from 1.
fn version(mod_revision: i64) -> u64 {
    u64::try_from(mod_revision).unwrap_or_default()
}

fn revision(header: Option<&etcd_client::ResponseHeader>) -> Result<i64, StoreError> {
    header
        .map(etcd_client::ResponseHeader::revision)
        .ok_or_else(|| StoreError::Away("an answer without its head".to_owned()))
}
