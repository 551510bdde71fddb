//! How a process becomes the active coordinator: by creating one key under its lease, when nobody else's is there.

use std::{sync::Arc, time::Duration};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use quorate_service::clock;
use tracing::debug;

use crate::{
    limits::STORE_CAMPAIGN_POLL_MS,
    store::{
        StoreError,
        etcd::{EtcdStore, endpoints::Repeat, revision, session::Held},
    },
};

/// Waits until the key of the active coordinator is this process's.
pub(super) async fn win(store: &EtcdStore) -> Result<Held, StoreError> {
    loop {
        match holder(store).await? {
            None => {
                if let Some(held) = create(store).await? {
                    return Ok(held);
                }
            }
            Some(lease) if Some(lease) == *store.campaign.last_lease() => {
                // A session of this very process that is over for it: nobody has to wait for it to lapse.
                debug!("former session is given back");
                store.place.endpoints.revoke(lease).await?;
            }
            Some(_) => {
                tokio::time::sleep(Duration::from_millis(STORE_CAMPAIGN_POLL_MS)).await;
            }
        }
    }
}

/// The lease of whoever is active.
async fn holder(store: &EtcdStore) -> Result<Option<i64>, StoreError> {
    let key = store.place.active_key();
    let answer = store
        .place
        .endpoints
        .call(Repeat::Safe, |mut client| {
            let key = key.clone();
            async move { client.get(key, None).await }
        })
        .await?;
    Ok(answer.kvs().first().map(etcd_client::KeyValue::lease))
}

/// Creates the key; none if somebody was faster.
async fn create(store: &EtcdStore) -> Result<Option<Held>, StoreError> {
    let endpoints = &store.place.endpoints;
    let options = &store.place.options;
    let sent = clock::monotonic_micros();
    let seconds = options.session_seconds();
    // A lease whose grant is not heard of lapses by itself.
    let granted = endpoints
        .call(Repeat::Safe, |mut client| async move {
            client.lease_grant(seconds, None).await
        })
        .await?;
    let lease = granted.id();
    *store.campaign.last_lease() = Some(lease);
    let key = store.place.active_key();
    let txn = Txn::new()
        .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(
            key,
            options.name.clone(),
            Some(PutOptions::new().with_lease(lease)),
        )]);
    let created = endpoints
        .call(Repeat::Once, |mut client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        })
        .await;
    match created {
        Ok(answer) if answer.succeeded() => {
            let fence = revision(answer.header())?;
            let held = Held::new(Arc::clone(endpoints), lease, fence, sent, options.window());
            Ok(Some(held))
        }
        Ok(_) => {
            // An error leaves the lease to lapse by itself.
            drop(endpoints.revoke(lease).await);
            Ok(None)
        }
        // Whether the key is there is not known: the next try finds it under this process's last lease.
        Err(error) => Err(error),
    }
}
