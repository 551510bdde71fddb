//! What this node knows of the cluster: who its peers are and which shards it is to have. Kept in a small file, so
//! that a node that is started while every coordinator is away still finds its peers.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use prost::Message;
use quorate_proto::internal::v1::Topology;
use quorate_replication::{Member, NodeId, ShardId};
use tracing::warn;

use crate::{
    convert::coordination::decode_member,
    limits::{NODES_MAX, TOPOLOGY_FILE_BYTES_MAX},
};

const FILE: &str = "topology";

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct TopologyFile {
    folder: PathBuf,
}

impl TopologyFile {
    /// In this data folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// What was kept last; none when there is nothing that can be read.
    pub(crate) fn load(&self) -> Option<Topology> {
        let path = self.folder.join(FILE);
        let mut bytes = Vec::new();
        let read = fs::File::open(&path)
            .and_then(|file| file.take(TOPOLOGY_FILE_BYTES_MAX).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), %error, "last topology cannot be read");
                return None;
            }
        }
        let (sum, body) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*sum) != checksum(body) {
            warn!(path = %path.display(), "last topology is damaged; waiting for a coordinator's");
            return None;
        }
        Topology::decode(body).ok()
    }

    /// Keeps a topology, durably and whole.
    pub(crate) fn save(&self, topology: &Topology) -> io::Result<()> {
        let body = topology.encode_to_vec();
        let fresh = self.folder.join(format!("{FILE}.new"));
        let mut file = fs::File::create(&fresh)?;
        file.write_all(&checksum(&body).to_le_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&fresh, self.folder.join(FILE))?;
        fs::File::open(&self.folder)?.sync_all()
    }
}

/// The other nodes with their addresses.
pub(crate) fn peers(topology: &Topology, this: NodeId) -> BTreeMap<NodeId, String> {
    let nodes = topology.nodes.iter().take(NODES_MAX);
    nodes
        .filter(|node| node.id != this.0 && !node.address.is_empty())
        .map(|node| (NodeId(node.id), node.address.clone()))
        .collect()
}

/// The shards of which this node, with this disk, is a voter.
pub(crate) fn shards_of(topology: &Topology, this: Member) -> Vec<ShardId> {
    let shards = topology.shards.iter().filter(|shard| {
        shard
            .voters
            .iter()
            .any(|voter| decode_member(voter) == this)
    });
    shards.map(|shard| ShardId(shard.id)).collect()
}

/// Whether a picture tells anything that has to be kept: leaders and liveness are known anew at every start.
pub(crate) fn differs(kept: Option<&Topology>, new: &Topology) -> bool {
    let Some(kept) = kept else {
        return true;
    };
    let nodes = |topology: &Topology| -> Vec<(u32, String)> {
        topology
            .nodes
            .iter()
            .map(|node| (node.id, node.address.clone()))
            .collect()
    };
    let shards = |topology: &Topology| -> Vec<_> {
        topology
            .shards
            .iter()
            .map(|shard| (shard.id, shard.voters.clone()))
            .collect()
    };
    nodes(kept) != nodes(new)
        || shards(kept) != shards(new)
        || kept.slots != new.slots
        || kept.overrides != new.overrides
}

/// Whether shards have to be told where destinations live, or by which settings they go.
pub(crate) fn places_anew(kept: Option<&Topology>, new: &Topology) -> bool {
    kept.is_none_or(|kept| {
        kept.slots != new.slots || kept.overrides != new.overrides || kept.settings != new.settings
    })
}

/// FNV-1a, folded: against a file that was not written whole, not against anybody.
fn checksum(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    hash ^ u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use quorate_proto::internal::v1::{Member as ProtoMember, NodeInfo, ShardInfo};
    use quorate_replication::DiskId;

    use super::*;

    fn topology() -> Topology {
        Topology {
            cluster: "c".to_owned(),
            version: 7,
            nodes: (1..=3)
                .map(|id| NodeInfo {
                    id,
                    name: format!("mq0{id}"),
                    address: format!("127.0.0.1:6160{id}"),
                    alive: true,
                    ..NodeInfo::default()
                })
                .collect(),
            shards: vec![ShardInfo {
                id: 4,
                epoch: 2,
                leader: 1,
                voters: vec![
                    ProtoMember { node: 1, disk: 11 },
                    ProtoMember { node: 2, disk: 22 },
                ],
                leaderless_reason: String::new(),
            }],
            ..Topology::default()
        }
    }

    #[test]
    fn the_file_gives_back_what_was_kept_and_nothing_when_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let file = TopologyFile::new(folder.path());
        assert_eq!(file.load(), None);
        file.save(&topology()).unwrap();
        assert_eq!(file.load(), Some(topology()));
        let path = folder.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes[10] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(file.load(), None);
    }

    #[test]
    fn a_shard_is_a_nodes_only_with_the_disk_that_the_record_names() {
        let member = |node, disk| Member {
            node: NodeId(node),
            disk: DiskId(disk),
        };
        assert_eq!(shards_of(&topology(), member(2, 22)), [ShardId(4)]);
        assert_eq!(shards_of(&topology(), member(2, 99)), []);
        assert_eq!(shards_of(&topology(), member(3, 33)), []);
    }

    #[test]
    fn another_leader_is_not_worth_a_write_but_another_voter_is() {
        let mut new = topology();
        new.shards[0].leader = 2;
        new.nodes[0].alive = false;
        assert!(!differs(Some(&topology()), &new));
        new.shards[0].voters.pop();
        assert!(differs(Some(&topology()), &new));
    }

    #[test]
    fn shards_are_told_of_slots_overrides_and_settings_and_of_nothing_else() {
        let mut new = topology();
        new.shards[0].leader = 2;
        new.version += 1;
        assert!(!places_anew(Some(&topology()), &new));
        assert!(places_anew(None, &new));
        let changes: [fn(&mut Topology); 3] = [
            |new| new.slots.push(4),
            |new| new.overrides = vec![1].into(),
            |new| new.settings = vec![1].into(),
        ];
        for change in changes {
            let mut new = topology();
            change(&mut new);
            assert!(places_anew(Some(&topology()), &new));
        }
    }
}
