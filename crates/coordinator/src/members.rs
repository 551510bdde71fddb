//! The live storage nodes as operators see them in the store: one child each, with JSON. No decision hangs on it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tracing::debug;

use crate::{
    controller::Topology,
    limits::STORE_RETRY_MS,
    store::{Store, StoreError},
};

/// A live storage node.
#[derive(Serialize)]
struct MemberText<'a> {
    id: u32,
    address: &'a str,
    weight: u32,
    /// Whether it leads anything.
    elected: bool,
    leads: Vec<u32>,
}

type Members = BTreeMap<String, Bytes>;

/// Publishes for one activation; what it published goes with the session. Ends when it is dropped.
pub(crate) struct Publisher {
    wanted: watch::Sender<Members>,
}

impl Publisher {
    pub(crate) fn start(store: impl Store) -> Self {
        let (wanted, news) = watch::channel(Members::new());
        tokio::spawn(run(store, news));
        Self { wanted }
    }

    /// Wants the store to show this picture's live nodes.
    pub(crate) fn publish(&self, topology: &Topology) {
        let members = members(topology);
        self.wanted.send_if_modified(|wanted| {
            let is_new = *wanted != members;
            *wanted = members;
            is_new
        });
    }
}

async fn run(store: impl Store, mut news: watch::Receiver<Members>) {
    let mut shown = Members::new();
    loop {
        let wanted = news.borrow_and_update().clone();
        match show(&store, &mut shown, &wanted).await {
            Ok(()) => {
                if news.changed().await.is_err() {
                    return;
                }
            }
            Err(StoreError::Away(reason)) => {
                debug!(reason, "live nodes cannot be shown at the moment");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(STORE_RETRY_MS)) => {}
                    changed = news.changed() => if changed.is_err() {
                        return;
                    }
                }
            }
            // Whoever decides hears of it by its own writes.
            Err(StoreError::Broken(_) | StoreError::NotActive) => return,
        }
    }
}

/// Makes the store show what is wanted, change by change, and notes each in `shown`.
async fn show(store: &impl Store, shown: &mut Members, wanted: &Members) -> Result<(), StoreError> {
    let gone: Vec<String> = shown
        .keys()
        .filter(|name| !wanted.contains_key(*name))
        .cloned()
        .collect();
    for name in gone {
        store.publish_member(&name, None).await?;
        shown.remove(&name);
    }
    for (name, member) in wanted {
        if shown.get(name) != Some(member) {
            store.publish_member(name, Some(member.clone())).await?;
            shown.insert(name.clone(), member.clone());
        }
    }
    Ok(())
}

fn members(topology: &Topology) -> Members {
    let alive = topology.nodes.iter().filter(|node| node.is_alive);
    alive
        .map(|node| {
            let led = topology
                .shards
                .iter()
                .filter(|shard| shard.leader.is_some_and(|leader| leader.node == node.node));
            let leads: Vec<u32> = led.map(|shard| shard.shard.0).collect();
            let text = serde_json::to_vec(&MemberText {
                id: node.node.0,
                address: &node.address,
                weight: node.weight,
                elected: !leads.is_empty(),
                leads,
            });
            let text = text.expect("a member holds nothing that JSON cannot express");
            (node.name.clone(), Bytes::from(text))
        })
        .collect()
}
