//! One storage node: puts its parts together, opens its shards, follows the topology, stops.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use quorate_log::{
    Checkpoints, DiskError, LogError, NodeDisk, Readers, RealDisk, SledStore, StoreError, Writers,
};
use quorate_proto::internal::v1::{AttendRequest, Register, Topology};
use quorate_replication::{DiskId, Member, NodeId, ShardId, WriteId};
use quorate_service::{health::Health, metrics::Metrics as Registry, shutdown::Shutdown};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    config::Config,
    coordinator::Attendance,
    frames::Costed,
    leaving::{Attending, Leaving},
    limits::{COORDINATOR_OUTBOX_BYTES, READER_THREADS, STOP_TIMEOUT, WRITER_THREADS},
    mailbox::Mailbox,
    metrics::Metrics,
    open::open_shard,
    peer::Peers,
    routes::{self, Routes},
    runtime::{DiskAccess, Item, NodeParts, Shards, Workers, fail_stop},
    server::{self, Identity, ServeError, Services},
    sessions::Sessions,
    shard::{OpenError, input::Input},
    topology::{self, TopologyFile},
};

/// Health: the data folder is open.
pub const COMPONENT_DISK: &str = "disk";
/// Health: this node has its number and its shards.
pub const COMPONENT_SHARDS: &str = "shards";

/// Why a node cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder cannot be used.
    #[error("open data folder")]
    Disk(#[from] DiskError),
    /// The data folder cannot be made or read.
    #[error("open data folder")]
    Io(#[from] std::io::Error),
    /// The checkpoints cannot be opened.
    #[error("open checkpoints")]
    Store(#[from] StoreError),
    /// The log of a shard cannot be written.
    #[error("rebuild log")]
    Log(#[from] LogError),
    /// A shard cannot be opened even without its checkpoint.
    #[error("open shard {shard}")]
    Shard {
        /// The shard.
        shard: ShardId,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// The port cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A thread of this node died.
    #[error("a task of this node died")]
    Task(#[from] tokio::task::JoinError),
}

/// Runs a node until a stop is asked for.
///
/// # Errors
/// If it cannot start. Once it runs, a failing disk ends the process.
pub async fn run(
    config: Config,
    health: Health,
    registry: Registry,
    shutdown: Shutdown,
) -> Result<(), NodeError> {
    let listener = server::listen(config.listen).await?;
    let shards = Arc::new(Shards::default());
    let disk = {
        let (config, shards) = (config.clone(), Arc::clone(&shards));
        tokio::task::spawn_blocking(move || open_disk(&config, shards)).await??
    };
    health.ready(COMPONENT_DISK);
    let outbox = Arc::new(Mailbox::new(COORDINATOR_OUTBOX_BYTES));
    let file = TopologyFile::new(&config.data);
    let (attending, mut numbers, topology) = attend(&config, &disk, &outbox, &file);
    health.not_ready(
        COMPONENT_SHARDS,
        "no coordinator has given this node its number yet",
    );
    let node = tokio::select! {
        found = numbers.wait_for(Option::is_some) => {
            found.ok().and_then(|node| *node).expect("waited for a number, and its sender lives")
        }
        () = shutdown.requested() => return Ok(()),
    };
    disk.disk.register(node)?;
    let member = Member {
        node,
        disk: disk.disk.disk_id(),
    };
    let incarnation = disk.disk.incarnation();
    let parts = Arc::new(NodeParts {
        shards: Arc::clone(&shards),
        peers: Arc::new(Peers::new(config.cluster.clone(), node, incarnation)),
        routes: Routes::default(),
        sessions: Arc::new(Sessions::new(Arc::clone(&shards))),
        coordinator: outbox,
        disk,
        metrics: Metrics::new(&registry),
        node_timeout: replica_config(&config).node_timeout,
    });
    let kept = (Arc::clone(&shards), topology.clone(), health.clone());
    let stop = Leaving::new(node, attending, kept).begin(shutdown);
    let services = Arc::new(Services {
        cluster: config.cluster.clone(),
        shards,
        sessions: Arc::clone(&parts.sessions),
        identity: Arc::new(Identity {
            name: config.name.clone(),
            node,
            incarnation,
        }),
        shutdown: stop.clone(),
    });
    let opener = Opener {
        workers: Workers::start(config.worker_threads())?,
        config: replica_config(&config),
        parts: Arc::clone(&parts),
        member,
        health: health.clone(),
        file,
        opened: BTreeSet::new(),
    };
    let following = tokio::spawn(opener.follow(topology));
    let serving = server::serve(listener, services, &health);
    tokio::select! {
        served = serving => served?,
        followed = following => followed??,
        () = stop_timeout(&stop) => warn!("streams did not end in time"),
    }
    health.not_ready(COMPONENT_SHARDS, "stopping");
    tokio::task::spawn_blocking(move || close(&parts)).await?;
    Ok(())
}

/// Starts the stream to the coordinator; returns where the node's number and the topology appear.
fn attend(
    config: &Config,
    disk: &DiskAccess,
    outbox: &Arc<Mailbox<Costed<AttendRequest>>>,
    file: &TopologyFile,
) -> (
    Attending,
    watch::Receiver<Option<NodeId>>,
    watch::Receiver<Option<Topology>>,
) {
    let (node, numbers) = watch::channel(disk.disk.node());
    let (topology, topologies) = watch::channel(file.load());
    let (is_attending, attends) = watch::channel(false);
    let (leaving, is_leaving) = watch::channel(false);
    let attendance = Attendance {
        coordinators: config.coordinators.clone(),
        register: register(config, &disk.disk),
        node_timeout: Duration::from_millis(config.node_timeout_ms),
        shards: Arc::clone(&disk.shards),
        outbox: Arc::clone(outbox),
        node,
        topology,
        is_attending,
        is_leaving,
    };
    tokio::spawn(attendance.run());
    let attending = Attending {
        is_attending: attends,
        leaving,
    };
    (attending, numbers, topologies)
}

async fn stop_timeout(shutdown: &Shutdown) {
    shutdown.requested().await;
    tokio::time::sleep(STOP_TIMEOUT).await;
}

/// Takes the logs back, which makes what was handed in durable. Nothing was confirmed that was not.
fn close(parts: &NodeParts) {
    for (shard, handle) in parts.shards.all() {
        handle.mailbox.close();
        drop(parts.disk.writers.release(shard));
    }
    info!("stopped");
}

fn open_disk(config: &Config, shards: Arc<Shards>) -> Result<DiskAccess, NodeError> {
    std::fs::create_dir_all(&config.data)?;
    let fresh = DiskId(getrandom::u64().map_err(std::io::Error::other)?);
    let real = RealDisk::open(&config.data)?;
    let disk = NodeDisk::open(real, &config.cluster, fresh)?;
    let store = SledStore::open(&Path::new(&config.data).join("checkpoints"))?;
    let answers = Arc::clone(&shards);
    let completion = Box::new(
        move |shard, result: Result<WriteId, LogError>| match result {
            Ok(write) => answers.tell(shard, Item::Input(Input::Persisted(write))),
            Err(error) if error.is_retryable() => answers.tell(shard, Item::DiskFull),
            Err(error) => fail_stop(shard, &error),
        },
    );
    Ok(DiskAccess {
        disk,
        writers: Arc::new(Writers::start(WRITER_THREADS, completion)),
        readers: Arc::new(Readers::start(READER_THREADS)),
        background: Arc::new(Readers::start(1)),
        checkpoints: Checkpoints::new(Arc::new(store)),
        shards,
        staged: Arc::default(),
        folder: config.data.clone(),
    })
}

fn register(config: &Config, disk: &NodeDisk) -> Register {
    Register {
        cluster: config.cluster.clone(),
        name: config.name.clone(),
        address: config.address(),
        disk: disk.disk_id().0,
        boot: disk.incarnation().0,
        incarnation: disk.incarnation().0,
        pid: std::process::id(),
        node: disk.node().map_or(0, |node| node.0),
        zone: config.zone.clone(),
        weight: config.weight,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        // Filled in when it registers.
        wall_ms: 0,
    }
}

fn replica_config(config: &Config) -> quorate_replication::Config {
    quorate_replication::Config {
        node_timeout: quorate_replication::Duration::from_millis(config.node_timeout_ms),
        heartbeat: quorate_replication::Duration::from_millis(config.heartbeat_ms),
        tail_bytes: config.tail_bytes,
        ..quorate_replication::Config::default()
    }
}

/// Opens the shards that this node is to have, and keeps the links to its peers.
struct Opener {
    workers: Workers,
    config: quorate_replication::Config,
    parts: Arc<NodeParts>,
    member: Member,
    health: Health,
    file: TopologyFile,
    opened: BTreeSet<ShardId>,
}

impl Opener {
    async fn follow(
        mut self,
        mut topology: watch::Receiver<Option<Topology>>,
    ) -> Result<(), NodeError> {
        let mut kept = topology.borrow_and_update().clone();
        if let Some(known) = &kept {
            self.parts
                .peers
                .set(&topology::peers(known, self.member.node));
            self.parts.routes.learn(known);
        }
        let on_disk = self.parts.disk.disk.shards()?;
        self.open_all(on_disk).await?;
        if let Some(known) = &kept {
            self.place(known);
        }
        if self.opened.is_empty() {
            self.health
                .not_ready(COMPONENT_SHARDS, "no shard is placed on this node yet");
        }
        loop {
            if topology.changed().await.is_err() {
                return Ok(());
            }
            let Some(new) = topology.borrow_and_update().clone() else {
                continue;
            };
            self.parts
                .peers
                .set(&topology::peers(&new, self.member.node));
            self.parts.routes.learn(&new);
            self.parts
                .metrics
                .sessions
                .set(i64::try_from(self.parts.sessions.len()).unwrap_or(i64::MAX));
            let wanted = topology::shards_of(&new, self.member);
            let is_any_new = self.open_all(wanted).await?;
            // Not with each picture of an election: that would wake every shard for nothing.
            if is_any_new || topology::places_anew(kept.as_ref(), &new) {
                self.place(&new);
            }
            if topology::differs(kept.as_ref(), &new) {
                let (file, new) = (self.file.clone(), new.clone());
                if let Err(error) = tokio::task::spawn_blocking(move || file.save(&new)).await? {
                    warn!(%error, "topology is not kept; this node needs a coordinator at its next start");
                }
            }
            kept = Some(new);
        }
    }

    /// Tells every shard where destinations live, and by which settings they go.
    fn place(&self, topology: &Topology) {
        if let Some(placement) = routes::placement(topology) {
            for (shard, _) in self.parts.shards.all() {
                let placed = Input::Placed(placement.clone());
                self.parts.shards.tell(shard, Item::Input(placed));
            }
        }
        if let Some(settings) = routes::settings(topology) {
            for (shard, _) in self.parts.shards.all() {
                let governed = Input::Governed(Arc::clone(&settings));
                self.parts.shards.tell(shard, Item::Input(governed));
            }
        }
    }

    /// Opens those that are not open; whether there were any.
    async fn open_all(&mut self, wanted: Vec<ShardId>) -> Result<bool, NodeError> {
        let missing: Vec<ShardId> = wanted
            .into_iter()
            .filter(|shard| !self.opened.contains(shard))
            .collect();
        let is_any_new = !missing.is_empty();
        for shard in missing {
            let (parts, config) = (Arc::clone(&self.parts), self.config.clone());
            let task =
                tokio::task::spawn_blocking(move || open_shard(shard, config, &parts)).await??;
            if let Some(task) = task {
                self.workers.run(shard, task);
            }
            self.opened.insert(shard);
        }
        if !self.opened.is_empty() {
            self.health.ready(COMPONENT_SHARDS);
        }
        Ok(is_any_new)
    }
}
