//! The data folder of one storage node: who it is, and the folders of its shards.
//!
//! ```text
//! identity            two slots: disk id, boot counter, node number, cluster
//! slots               of every shard three pairs of slots: its promise, its state, its draft
//! reserve, spare/     room for a full disk, files to be used again
//! shards/00007/       mark: a hint of how far shard 7 is durable; log/: its segments
//! ```
//!
//! The identity is made when the folder is first used. A node that comes back with another one is not the member that
//! promised, so shard folders without an identity beside them are refused.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BufMut;
use quorate_replication::{
    Claim, DiskId, Incarnation, Index, NodeId, Position, Recovered, ShardId, Stamp,
};

use crate::disk::Disk;
use crate::fields::{Fields, put_u64s};
use crate::limits::CLUSTER_NAME_BYTES_MAX;
use crate::recovery;
use crate::shard_files;
use crate::shard_log::ShardLog;
use crate::slots::Slots;
use crate::space::{Room, Sizes, Space};

const IDENTITY: &str = "identity";
const IDENTITY_NEW: &str = "identity.new";
pub(crate) const SHARDS: &str = "shards";

/// The data folder of one storage node. Cheap to clone; the clones are one.
#[derive(Clone, Debug)]
pub struct NodeDisk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    room: Room,
    cluster: String,
    id: DiskId,
    boot: Incarnation,
    registration: Mutex<Registration>,
    /// A write or sync failed somewhere on this disk: nothing is written any more.
    failed: AtomicBool,
    salts: AtomicU64,
}

#[derive(Debug)]
struct Registration {
    slots: Slots,
    node: Option<NodeId>,
}

/// The data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The folder belongs to another cluster.
    #[error("data folder belongs to cluster {found}, not {expected}; give the node another folder")]
    OtherCluster {
        /// Cluster in the folder.
        found: String,
        /// Cluster asked for.
        expected: String,
    },
    /// The identity is missing or unreadable, while there are shards.
    #[error("identity of the data folder is lost; start the node with an empty folder")]
    IdentityLost,
    /// The node number is set already, to another.
    #[error("data folder belongs to node {found}, not {expected}")]
    OtherNode {
        /// Node in the folder.
        found: NodeId,
        /// Node asked for.
        expected: NodeId,
    },
    /// The disk failed.
    #[error("{attempt}")]
    Io {
        /// What was tried.
        attempt: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// The newest durable checkpoint of a shard, as the checkpoint store has it. Default: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointMark {
    /// The entry that it stands for.
    pub at: Position,
    /// Stamp of that entry.
    pub stamp: Stamp,
}

/// An opened shard.
#[derive(Debug)]
pub struct Opened {
    /// The log, ready to be written.
    pub log: ShardLog,
    /// What the replica starts from. `committed` is the index of the checkpoint; or zero, and the log empty, if the
    /// log below the checkpoint is damaged: then the checkpoint must not be used either, and everything comes from the
    /// leader.
    pub recovered: Recovered,
    /// What recovery met that somebody should know of; to be logged.
    pub findings: Vec<Finding>,
}

/// What recovery or a scrub found. `Display` is one line for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Writes that no sync covered were cut off the end: normal after a crash.
    #[error("unsynced writes after entry {after} were cut off")]
    TornTail {
        /// Last index that stays.
        after: Index,
    },
    /// Damage at or below what may have been acknowledged: the replica is impaired.
    #[error("log is damaged from entry {at} on: {what}")]
    Damage {
        /// First index that is bad or missing.
        at: Index,
        /// What was seen.
        what: &'static str,
    },
    /// The damaged log was put aside, in the shard's folder `damaged`; everything comes from the leader.
    #[error("the damaged log was put aside")]
    PutAside,
    /// No valid promise: the replica has forgotten what it promised and counts for nothing.
    #[error(
        "no valid promise was found; the replica counts for nothing until it is made a member anew"
    )]
    Wiped,
    /// A checkpoint transfer was finished that a crash had interrupted.
    #[error("finished an interrupted install")]
    InstallFinished,
    /// A checkpoint transfer that a crash had interrupted was thrown away.
    #[error("discarded an interrupted install")]
    InstallDiscarded,
}

impl Finding {
    /// Whether it means that something was lost, and not only a crash.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damage { .. } | Self::PutAside | Self::Wiped => true,
            Self::TornTail { .. } | Self::InstallFinished | Self::InstallDiscarded => false,
        }
    }
}

impl NodeDisk {
    /// Opens a data folder, or takes an empty one into use under the identity `fresh` (chosen at random by the
    /// caller). Raises the boot counter, durably.
    pub fn open(disk: Arc<dyn Disk>, cluster: &str, fresh: DiskId) -> Result<Self, DiskError> {
        Self::open_sized(disk, cluster, fresh, Sizes::default())
    }

    /// As [`NodeDisk::open`], with other sizes of files.
    pub fn open_sized(
        disk: Arc<dyn Disk>,
        cluster: &str,
        fresh: DiskId,
        sizes: Sizes,
    ) -> Result<Self, DiskError> {
        assert!(
            cluster.len() <= CLUSTER_NAME_BYTES_MAX,
            "the cluster's name is checked with the configuration"
        );
        disk.create_folder(SHARDS)
            .map_err(io_error("create folder of shards"))?;
        let (mut slots, found) = open_identity(disk.as_ref())?;
        let mut identity = match found {
            Some(identity) => identity,
            None => Identity {
                id: fresh,
                boot: Incarnation(0),
                node: None,
                cluster: cluster.to_owned(),
            },
        };
        if identity.cluster != cluster {
            return Err(DiskError::OtherCluster {
                found: identity.cluster,
                expected: cluster.to_owned(),
            });
        }
        identity.boot.0 += 1;
        slots
            .write(&identity.encode())
            .map_err(io_error("write identity"))?;
        if found_new(disk.as_ref())? {
            disk.rename(IDENTITY_NEW, IDENTITY)
                .map_err(io_error("name identity"))?;
        }
        make_slots(disk.as_ref()).map_err(io_error("make slots of shards"))?;
        disk.sync_folder("").map_err(io_error("sync data folder"))?;
        let room = Room::open(Arc::clone(&disk), sizes).map_err(io_error("take the reserve"))?;
        disk.sync_folder("").map_err(io_error("sync data folder"))?;
        Ok(Self {
            inner: Arc::new(Inner {
                disk,
                room,
                cluster: identity.cluster,
                id: identity.id,
                boot: identity.boot,
                registration: Mutex::new(Registration {
                    slots,
                    node: identity.node,
                }),
                failed: AtomicBool::new(false),
                salts: AtomicU64::new(1),
            }),
        })
    }

    /// The identity of the disk.
    #[must_use]
    pub fn disk_id(&self) -> DiskId {
        self.inner.id
    }

    /// This life of the node: the boot counter.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.inner.boot
    }

    /// The node's number, once it has registered.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        let registration = &self.inner.registration;
        registration
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .node
    }

    /// Keeps the node's number, durably. Asking for the same one again is fine.
    pub fn register(&self, node: NodeId) -> Result<(), DiskError> {
        let registration = &self.inner.registration;
        let mut registration = registration.lock().unwrap_or_else(PoisonError::into_inner);
        match registration.node {
            Some(found) if found == node => return Ok(()),
            Some(found) => {
                return Err(DiskError::OtherNode {
                    found,
                    expected: node,
                });
            }
            None => {}
        }
        let identity = Identity {
            id: self.inner.id,
            boot: self.inner.boot,
            node: Some(node),
            cluster: self.inner.cluster.clone(),
        };
        let written = registration.slots.write(&identity.encode());
        written.map_err(io_error("write identity"))?;
        registration.node = Some(node);
        Ok(())
    }

    /// The shards that have a folder here, ascending.
    pub fn shards(&self) -> Result<Vec<ShardId>, DiskError> {
        let names = self
            .inner
            .disk
            .list(SHARDS)
            .map_err(io_error("list shards"))?;
        Ok(names
            .iter()
            .filter_map(|name| shard_files::parse_folder(name))
            .collect())
    }

    /// Makes the folder of a shard that this disk never had, with its first promise. Durable when it returns. A folder
    /// that is there is left as it is: its promise counts.
    pub fn create_shard(&self, shard: ShardId, initial: Claim) -> Result<(), DiskError> {
        shard_files::create(self, shard, Some(initial)).map_err(io_error("create shard"))
    }

    /// Opens a shard. `checkpoint` is the newest durable one in the checkpoint store; a sealed install is finished
    /// if the checkpoint is its own and discarded otherwise.
    pub fn open_shard(
        &self,
        shard: ShardId,
        checkpoint: CheckpointMark,
    ) -> Result<Opened, DiskError> {
        recovery::open(self, shard, checkpoint).map_err(io_error("open shard"))
    }

    /// Whether there is room for new messages. To be asked before proposals; costs one atomic load.
    #[must_use]
    pub fn space(&self) -> Space {
        self.inner.room.space()
    }

    /// Tries to take the reserve back after space was freed; to be called now and then while `space` is `Reserve`.
    pub fn reclaim(&self) -> Result<Space, DiskError> {
        self.inner
            .room
            .reclaim()
            .map_err(io_error("take the reserve back"))
    }

    /// Whether a write or sync failed on this disk: all its logs are closed for good.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.inner.failed.load(Ordering::Acquire)
    }

    pub(crate) fn fail(&self) {
        self.inner.failed.store(true, Ordering::Release);
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.inner.disk.as_ref()
    }

    pub(crate) fn room(&self) -> &Room {
        &self.inner.room
    }

    /// A salt that no segment of this disk has had.
    pub(crate) fn salt(&self) -> u64 {
        let count = self.inner.salts.fetch_add(1, Ordering::Relaxed);
        (self.inner.boot.0 << 32) | count
    }
}

struct Identity {
    id: DiskId,
    boot: Incarnation,
    node: Option<NodeId>,
    cluster: String,
}

impl Identity {
    fn encode(&self) -> Vec<u8> {
        let node = self.node.map_or(0, |node| u64::from(node.0));
        let mut bytes = Vec::new();
        put_u64s(
            &mut bytes,
            &[self.id.0, self.boot.0, node, self.cluster.len() as u64],
        );
        bytes.put_slice(self.cluster.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let id = DiskId(fields.u64()?);
        let boot = Incarnation(fields.u64()?);
        let node = u32::try_from(fields.u64()?).ok()?;
        let length = usize::try_from(fields.u64()?).ok()?;
        let cluster = std::str::from_utf8(fields.bytes(length)?).ok()?;
        Some(Self {
            id,
            boot,
            node: (node != 0).then_some(NodeId(node)),
            cluster: cluster.to_owned(),
        })
    }
}

/// Opens the identity file, or makes one under a name of its own until it is written.
fn open_identity(disk: &dyn Disk) -> Result<(Slots, Option<Identity>), DiskError> {
    match Slots::open(disk, IDENTITY) {
        Ok((slots, payload)) => {
            let identity = payload.as_deref().and_then(Identity::decode);
            Ok((slots, Some(identity.ok_or(DiskError::IdentityLost)?)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let shards = disk.list(SHARDS).map_err(io_error("list shards"))?;
            if !shards.is_empty() {
                return Err(DiskError::IdentityLost);
            }
            crate::space::remove_if_there(disk, IDENTITY_NEW)
                .map_err(io_error("create identity"))?;
            let slots = Slots::create(disk, IDENTITY_NEW).map_err(io_error("create identity"))?;
            Ok((slots, None))
        }
        Err(error) => Err(io_error("open identity")(error)),
    }
}

/// Makes the file of the shards' slots where there is none. A shard that had its promise there is wiped then.
fn make_slots(disk: &dyn Disk) -> io::Result<()> {
    match disk.create(shard_files::SLOTS) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn found_new(disk: &dyn Disk) -> Result<bool, DiskError> {
    let names = disk.list("").map_err(io_error("list data folder"))?;
    let has = |name: &str| names.iter().any(|found| found == name);
    Ok(has(IDENTITY_NEW) && !has(IDENTITY))
}

fn io_error(attempt: &'static str) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError::Io {
        attempt: attempt.to_owned(),
        source,
    }
}
