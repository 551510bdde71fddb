//! The live storage nodes as operators see them in the store: one child each, with JSON. No decision hangs on it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use quorate_replication::NodeId;
use serde::Serialize;
use tokio::sync::watch;
use tracing::debug;

use crate::{
    controller::Topology,
    limits::{MEMBERS_REFRESH_MS, STORE_RETRY_MS},
    store::{Store, StoreError},
};

/// A live storage node, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Member {
    id: u32,
    name: String,
    address: String,
    /// Sum of the ends of its logs, as it said a moment ago; 0: it has not said yet.
    position: u64,
    weight: u32,
    /// Whether it leads anything.
    elected: bool,
    leads: Vec<u32>,
}

/// What the store shows of members, by their names.
type Shown = BTreeMap<String, Bytes>;

/// How far the logs of nodes reach.
type Positions = Arc<Mutex<BTreeMap<NodeId, u64>>>;

/// Publishes for one activation; what it published goes with the session. Ends when it is dropped.
pub(crate) struct Publisher {
    wanted: watch::Sender<Vec<Member>>,
    positions: Positions,
}

impl Publisher {
    pub(crate) fn start(store: impl Store) -> Self {
        let (wanted, news) = watch::channel(Vec::new());
        let positions = Positions::default();
        tokio::spawn(run(store, news, Arc::clone(&positions)));
        Self { wanted, positions }
    }

    /// Wants the store to show this picture's live nodes, at once.
    pub(crate) fn publish(&self, topology: &Topology) {
        let members = members(topology);
        let is_alive = |node: &NodeId| members.iter().any(|member| member.id == node.0);
        lock(&self.positions).retain(|node, _| is_alive(node));
        self.wanted.send_if_modified(|wanted| {
            let is_new = *wanted != members;
            *wanted = members;
            is_new
        });
    }

    /// Notes how far a node's logs reach; shown when the store is brought up to date the next time.
    pub(crate) fn note_position(&self, node: NodeId, position: u64) {
        lock(&self.positions).insert(node, position);
    }
}

fn lock(positions: &Positions) -> MutexGuard<'_, BTreeMap<NodeId, u64>> {
    positions.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(store: impl Store, mut news: watch::Receiver<Vec<Member>>, positions: Positions) {
    let mut shown = Shown::new();
    loop {
        let members = news.borrow_and_update().clone();
        let wanted = texts(members, &lock(&positions).clone());
        let pause = match show(&store, &mut shown, &wanted).await {
            Ok(()) => MEMBERS_REFRESH_MS,
            Err(StoreError::Away(reason)) => {
                debug!(reason, "live nodes cannot be shown at the moment");
                STORE_RETRY_MS
            }
            // Whoever decides hears of it by its own writes.
            Err(StoreError::Broken(_) | StoreError::NotActive) => return,
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
            changed = news.changed() => if changed.is_err() {
                return;
            }
        }
    }
}

/// Makes the store show what is wanted, change by change, and notes each in `shown`.
async fn show(store: &impl Store, shown: &mut Shown, wanted: &Shown) -> Result<(), StoreError> {
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

fn members(topology: &Topology) -> Vec<Member> {
    let alive = topology.nodes.iter().filter(|node| node.is_alive);
    alive
        .map(|node| {
            let led = topology
                .shards
                .iter()
                .filter(|shard| shard.leader.is_some_and(|leader| leader.node == node.node));
            let leads: Vec<u32> = led.map(|shard| shard.shard.0).collect();
            Member {
                id: node.node.0,
                name: node.name.clone(),
                address: node.address.clone(),
                position: 0,
                weight: node.weight,
                elected: !leads.is_empty(),
                leads,
            }
        })
        .collect()
}

fn texts(members: Vec<Member>, positions: &BTreeMap<NodeId, u64>) -> Shown {
    let text = |mut member: Member| {
        let known = positions.get(&NodeId(member.id));
        member.position = known.copied().unwrap_or_default();
        let text = serde_json::to_vec(&member);
        let text = text.expect("a member holds nothing that JSON cannot express");
        (member.name, Bytes::from(text))
    };
    members.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_shown_as_readable_json() {
        let member = Member {
            id: 2,
            name: "mq02".to_owned(),
            address: "192.0.2.2:61616".to_owned(),
            position: 0,
            weight: 100,
            elected: true,
            leads: vec![1, 4],
        };
        let shown = texts(vec![member], &BTreeMap::from([(NodeId(2), 4711)]));
        assert_eq!(
            shown["mq02"],
            "{\"id\":2,\"name\":\"mq02\",\"address\":\"192.0.2.2:61616\",\"position\":4711,\"weight\":100,\
             \"elected\":true,\"leads\":[1,4]}"
        );
    }
}
