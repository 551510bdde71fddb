//! `quorate cluster`: nodes, shards, leaders, and who is in the quorum; `cluster where`: the place of a destination.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use quorate_client::Client;
use quorate_proto::v1::GetClusterResponse;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    limits::{LOOK_AGAIN, MOVE},
    output,
};

/// Flags of `quorate cluster`.
#[derive(Debug, clap::Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Shows the shard, leader and replicas of a destination
    Where {
        /// The destination
        name: String,
    },
    /// Moves the leadership of a shard to a node, so that no client notices
    MoveLeader {
        /// The shard's number
        shard: u32,
        /// The node's name
        node: String,
    },
}

/// The cluster as it is printed. Nodes are named, not numbered, wherever they are meant.
#[derive(Debug, Serialize)]
pub(crate) struct Picture {
    cluster: String,
    coordinator_reachable: bool,
    topology_version: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) shards: Vec<Shard>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) alive: bool,
    pub(crate) pid: u32,
    drained: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_off_ms: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Shard {
    pub(crate) id: u32,
    pub(crate) leader: Option<String>,
    pub(crate) epoch: u64,
    pub(crate) voters: Vec<String>,
    pub(crate) replicas: Vec<Replica>,
    #[serde(skip_serializing_if = "String::is_empty")]
    leaderless_reason: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Replica {
    node: String,
    pub(crate) in_quorum: bool,
    durable_index: u64,
    commit_index: u64,
    lag_entries: u64,
    impaired: bool,
}

#[derive(Debug, Serialize)]
struct Place {
    destination: String,
    shard: u32,
    leader: Option<String>,
    replicas: Vec<String>,
    epoch: u64,
}

pub(crate) async fn run(common: &Common, arguments: Cluster) -> Result<()> {
    let client = connect(common).await?;
    match arguments.what {
        None => {
            let picture = picture(&client).await?;
            match common.output {
                Format::Json => output::json(&picture),
                Format::Text => print(&picture),
            }
        }
        Some(What::Where { name }) => {
            let place = place(&client, &name).await?;
            match common.output {
                Format::Json => output::json(&place),
                Format::Text => output::line(&format!(
                    "{} is in shard {}, led by {} (epoch {}), on {}",
                    place.destination,
                    place.shard,
                    place.leader.as_deref().unwrap_or("nobody"),
                    place.epoch,
                    place.replicas.join(", ")
                )),
            }
        }
        Some(What::MoveLeader { shard, node }) => {
            let picture = move_leader(&client, shard, &node).await?;
            match common.output {
                Format::Json => output::json(&picture),
                Format::Text => output::line(&format!("{node} leads shard {shard}")),
            }
        }
    }
}

/// Moves a leadership and waits until it is there.
async fn move_leader(client: &Client, shard: u32, node: &str) -> Result<Picture> {
    let asked = client.move_leader(shard, node).await;
    asked.with_context(|| format!("move the leadership of shard {shard} to {node}"))?;
    let until = Instant::now() + MOVE;
    loop {
        let picture = picture(client).await?;
        let mut shards = picture.shards.iter();
        let found = shards.find(|found| found.id == shard);
        let leader = found.and_then(|found| found.leader.as_deref());
        if leader == Some(node) {
            return Ok(picture);
        }
        if Instant::now() >= until {
            bail!(
                "shard {shard} is led by {}: {node} did not catch up in time; try again",
                leader.unwrap_or("nobody")
            );
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

impl Picture {
    /// How many shards a node leads.
    pub(crate) fn leads(&self, node: &str) -> usize {
        let shards = self.shards.iter();
        let led = shards.filter(|shard| shard.leader.as_deref() == Some(node));
        led.count()
    }
}

/// Asks for the cluster.
pub(crate) async fn picture(client: &Client) -> Result<Picture> {
    let response = client.cluster().await.context("ask for the cluster")?;
    Ok(Picture::from(response))
}

/// The names of nodes by number; one that is not known is shown by its number.
struct Names(BTreeMap<u32, String>);

impl Names {
    fn of(response: &GetClusterResponse) -> Self {
        let names = response.nodes.iter();
        Self(names.map(|node| (node.id, node.name.clone())).collect())
    }

    fn name(&self, id: u32) -> String {
        self.0
            .get(&id)
            .cloned()
            .unwrap_or_else(|| format!("node {id}"))
    }

    fn leader(&self, id: u32) -> Option<String> {
        (id != 0).then(|| self.name(id))
    }

    fn all(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|id| self.name(*id)).collect()
    }
}

impl From<GetClusterResponse> for Picture {
    fn from(response: GetClusterResponse) -> Self {
        let names = Names::of(&response);
        let shards = response.shards.into_iter().map(|shard| Shard {
            id: shard.id,
            leader: names.leader(shard.leader),
            epoch: shard.epoch,
            voters: names.all(&shard.voters),
            replicas: shard
                .replicas
                .into_iter()
                .map(|replica| Replica {
                    node: names.name(replica.node),
                    in_quorum: replica.in_quorum,
                    durable_index: replica.durable_index,
                    commit_index: replica.commit_index,
                    lag_entries: replica.lag_entries,
                    impaired: replica.impaired,
                })
                .collect(),
            leaderless_reason: shard.leaderless_reason,
        });
        Self {
            cluster: response.cluster,
            coordinator_reachable: response.coordinator_reachable,
            topology_version: response.topology_version,
            shards: shards.collect(),
            nodes: response
                .nodes
                .into_iter()
                .map(|node| Node {
                    id: node.id,
                    name: node.name,
                    address: node.address,
                    alive: node.alive,
                    pid: node.pid,
                    drained: node.drained,
                    clock_off_ms: (node.clock_off_ms != 0).then_some(node.clock_off_ms),
                })
                .collect(),
        }
    }
}

async fn place(client: &Client, name: &str) -> Result<Place> {
    let response = client
        .locate(name)
        .await
        .with_context(|| format!("locate {name}"))?;
    let names = Names::of(&client.cluster().await.context("ask for the cluster")?);
    Ok(Place {
        destination: response.destination,
        shard: response.shard,
        leader: names.leader(response.leader),
        replicas: names.all(&response.replicas),
        epoch: response.epoch,
    })
}

fn print(picture: &Picture) -> Result<()> {
    let coordinator = if picture.coordinator_reachable {
        "a coordinator answers"
    } else {
        "no coordinator answers: messages flow, but no leader can be replaced"
    };
    output::line(&format!("cluster {}; {coordinator}\n", picture.cluster))?;
    let nodes: Vec<Vec<String>> = picture
        .nodes
        .iter()
        .map(|node| {
            let led = picture.leads(&node.name);
            vec![
                node.name.clone(),
                state(node),
                node.address.clone(),
                node.pid.to_string(),
                led.to_string(),
            ]
        })
        .collect();
    output::table(&["NODE", "STATE", "ADDRESS", "PID", "LEADS"], &nodes)?;
    output::line("")?;
    let shards: Vec<Vec<String>> = picture
        .shards
        .iter()
        .map(|shard| {
            let replicas: Vec<String> = shard.replicas.iter().map(describe).collect();
            vec![
                shard.id.to_string(),
                shard.leader.clone().unwrap_or_else(|| "-".to_owned()),
                shard.epoch.to_string(),
                shard.voters.join(" "),
                if shard.leader.is_some() {
                    replicas.join(", ")
                } else {
                    format!("nobody leads: {}", shard.leaderless_reason)
                },
            ]
        })
        .collect();
    output::table(&["SHARD", "LEADER", "EPOCH", "VOTERS", "REPLICAS"], &shards)
}

fn state(node: &Node) -> String {
    let life = if node.alive { "alive" } else { "away" };
    let drained = if node.drained { ", drained" } else { "" };
    let clock = node.clock_off_ms.map_or_else(String::new, |ahead_ms| {
        let side = if ahead_ms < 0 { "behind" } else { "ahead" };
        let seconds = ahead_ms.unsigned_abs() / 1_000;
        format!(", clock {seconds} s {side}")
    });
    format!("{life}{drained}{clock}")
}

fn describe(replica: &Replica) -> String {
    let state = if replica.impaired {
        "impaired".to_owned()
    } else if !replica.in_quorum {
        "not in the quorum".to_owned()
    } else if replica.lag_entries == 0 {
        "up to date".to_owned()
    } else {
        format!("{} behind", replica.lag_entries)
    };
    format!("{} {state}", replica.node)
}

#[cfg(test)]
mod tests {
    use quorate_proto::v1;

    use super::*;

    #[test]
    fn nodes_are_named_in_json_and_a_missing_leader_is_null() {
        let picture = Picture::from(GetClusterResponse {
            cluster: "dev".to_owned(),
            nodes: vec![v1::Node {
                id: 7,
                name: "mq01".to_owned(),
                address: "127.0.0.1:61601".to_owned(),
                alive: true,
                pid: 42,
                drained: true,
                clock_off_ms: -7_500,
            }],
            shards: vec![
                v1::Shard {
                    id: 1,
                    leader: 7,
                    epoch: 3,
                    voters: vec![7, 8],
                    ..v1::Shard::default()
                },
                v1::Shard::default(),
            ],
            coordinator_reachable: true,
            topology_version: 5,
        });
        let json = serde_json::to_value(&picture).expect("it can be printed");
        assert_eq!(json["shards"][0]["leader"], "mq01");
        assert_eq!(json["shards"][0]["epoch"], 3);
        assert_eq!(json["shards"][0]["voters"][0], "mq01");
        assert_eq!(json["shards"][0]["voters"][1], "node 8");
        assert!(json["shards"][1]["leader"].is_null());
        assert_eq!(json["nodes"][0]["pid"], 42);
        assert_eq!(json["nodes"][0]["drained"], true);
        assert_eq!(json["nodes"][0]["clock_off_ms"], -7_500);
        assert_eq!(state(&picture.nodes[0]), "alive, drained, clock 7 s behind");
        assert_eq!(json["nodes"][0]["address"], "127.0.0.1:61601");
    }
}
