//! Rows as text: JSON that an operator can read, with a format number in each.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_message::{
    DestinationName, Moving, Overrides, Pattern, Place, RefusedMove, Settings,
    settings::{PartialSettings, Rule},
};
use quorate_replication::{
    Claim, ClaimId, DiskId, Epoch, Incarnation, Member, NodeId, RecordVersion, ShardId, ShardRecord,
};
use serde::{Deserialize, Serialize};

use crate::{
    controller::{Change, ClusterRow, Key, NodeRow, Row, Stored},
    store::{Swap, Versioned},
};

pub(crate) mod generation;

use generation::Closed;

/// The format that is written. A greater one is refused: an older program must not undo what a newer one wrote.
const FORMAT: u32 = 1;

/// Why a row cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    /// It was written by a newer program.
    #[error("row {key} has format {format}, this program knows up to {FORMAT}; upgrade it")]
    Format {
        /// The key.
        key: String,
        /// The format found.
        format: u32,
    },
    /// It is not what it should be.
    #[error("row {key} cannot be read: {reason}; put back the newest copy of the store")]
    Damaged {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The store is that of another cluster.
    #[error(
        "the store belongs to cluster {found}, this coordinator is configured for {expected}; change the key \
         `cluster`, or `data` or `store_path`"
    )]
    OtherCluster {
        /// Named in the store.
        found: String,
        /// Named in the configuration.
        expected: String,
    },
    /// No coordinator may use the store.
    #[error("{0}")]
    Closed(Closed),
}

#[derive(Serialize, Deserialize)]
struct Text<T> {
    format: u32,
    #[serde(flatten)]
    row: T,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct ClusterText {
    shards: u32,
    replicas: u32,
    /// Ranges of slots, in order: number of slots and their shard.
    slots: Vec<(u32, u32)>,
}

#[derive(Serialize, Deserialize)]
struct NodeText {
    node: u32,
    name: String,
    address: String,
    disk: u64,
    boots: Vec<BootText>,
    incarnation: u64,
    pid: u32,
    zone: String,
    weight: u32,
    version: String,
    #[serde(default)]
    drained: bool,
}

#[derive(Serialize, Deserialize)]
struct BootText {
    disk: u64,
    boot: u64,
}

#[derive(Serialize, Deserialize)]
struct MemberText {
    node: u32,
    disk: u64,
}

/// Values are texts, as operators write them.
#[derive(Serialize, Deserialize)]
struct SettingsText {
    version: u64,
    rules: Vec<RuleText>,
}

#[derive(Serialize, Deserialize)]
struct RuleText {
    pattern: String,
    settings: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct OverridesText {
    version: u64,
    places: BTreeMap<String, PlaceText>,
    #[serde(default)]
    refused: BTreeMap<String, RefusedText>,
}

#[derive(Serialize, Deserialize)]
struct RefusedText {
    to: u32,
    number: u64,
    reason: String,
}

#[derive(Serialize, Deserialize)]
struct PlaceText {
    shard: u32,
    /// The shard that it leaves, and the number of the move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moving: Option<(u32, u64)>,
}

#[derive(Serialize, Deserialize)]
struct ShardText {
    shard: u32,
    epoch: u64,
    claim: u64,
    leader: Option<MemberText>,
    voters: Vec<MemberText>,
    next_voters: Option<Vec<MemberText>>,
    learners: Vec<MemberText>,
}

/// Returns the text of a key.
#[must_use]
pub(crate) fn key_text(key: Key) -> String {
    match key {
        Key::Cluster => "cluster".to_owned(),
        Key::Node(node) => format!("nodes/{}", node.0),
        Key::Shard(shard) => format!("shards/{}", shard.0),
        Key::Settings => "settings".to_owned(),
        Key::Overrides => "overrides".to_owned(),
    }
}

/// Returns a change as the store takes it.
#[must_use]
pub(crate) fn swap(change: &Change) -> Swap {
    Swap {
        key: key_text(change.row.key()),
        expected: change.expected.0,
        value: encode(&change.row),
    }
}

fn encode(row: &Row) -> Bytes {
    match row {
        Row::Cluster(row) => text(ClusterText {
            shards: row.shards,
            replicas: row.replicas,
            slots: ranges(&row.slots),
        }),
        Row::Node(row) => text(NodeText {
            node: row.node.0,
            name: row.name.clone(),
            address: row.address.clone(),
            disk: row.disk.0,
            boots: row
                .boots
                .iter()
                .map(|(disk, boot)| BootText {
                    disk: disk.0,
                    boot: *boot,
                })
                .collect(),
            incarnation: row.incarnation.0,
            pid: row.pid,
            zone: row.zone.clone(),
            weight: row.weight,
            version: row.version.clone(),
            drained: row.is_drained,
        }),
        Row::Shard(record) => text(ShardText {
            shard: record.shard.0,
            epoch: record.claim.epoch.0,
            claim: record.claim.id.0,
            leader: record.leader.map(member_text),
            voters: record.voters.iter().copied().map(member_text).collect(),
            next_voters: record
                .next_voters
                .as_ref()
                .map(|voters| voters.iter().copied().map(member_text).collect()),
            learners: record.learners.iter().copied().map(member_text).collect(),
        }),
        Row::Settings(settings) => text(SettingsText {
            version: settings.version(),
            rules: settings.rules().iter().map(rule_text).collect(),
        }),
        Row::Overrides(overrides) => text(OverridesText {
            version: overrides.version(),
            places: overrides.iter().map(place_text).collect(),
            refused: overrides.refused().map(refused_text).collect(),
        }),
    }
}

fn place_text((name, place): (&DestinationName, &Place)) -> (String, PlaceText) {
    let moving = place.moving.map(|moving| (moving.from, moving.number));
    let shard = place.shard;
    (name.as_str().to_owned(), PlaceText { shard, moving })
}

fn refused_text((name, refused): (&DestinationName, &RefusedMove)) -> (String, RefusedText) {
    let text = RefusedText {
        to: refused.to,
        number: refused.number,
        reason: refused.reason.clone(),
    };
    (name.as_str().to_owned(), text)
}

fn overrides(found: &Versioned) -> Result<Overrides, RowError> {
    let text: OverridesText = parse(found)?;
    let named = |name: &str| {
        let name = DestinationName::new(name);
        name.map_err(|error| damaged(found, &error.to_string()))
    };
    let mut places = Vec::with_capacity(text.places.len());
    for (name, place) in &text.places {
        let name = named(name)?;
        let moving = place.moving.map(|(from, number)| Moving { from, number });
        let shard = place.shard;
        places.push((name, Place { shard, moving }));
    }
    let mut refused = Vec::with_capacity(text.refused.len());
    for (name, RefusedText { to, number, reason }) in text.refused {
        let told = RefusedMove { to, number, reason };
        refused.push((named(&name)?, told));
    }
    Overrides::with_places(text.version, places, refused)
        .ok_or_else(|| damaged(found, "it holds overrides that cannot be"))
}

fn rule_text(rule: &Rule) -> RuleText {
    let texts = rule.settings.texts().into_iter();
    RuleText {
        pattern: rule.pattern.as_str().to_owned(),
        settings: texts
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

fn settings(found: &Versioned) -> Result<Settings, RowError> {
    let wrong = |error: &dyn std::fmt::Display| damaged(found, &error.to_string());
    let text: SettingsText = parse(found)?;
    let mut rules = Vec::new();
    for rule in text.rules {
        let pattern = Pattern::new(&rule.pattern).map_err(|error| wrong(&error))?;
        let mut settings = PartialSettings::default();
        for (name, value) in &rule.settings {
            let read = settings.set_text(name, value);
            read.map_err(|error| wrong(&error))?;
        }
        rules.push(Rule { pattern, settings });
    }
    Settings::with_rules(text.version, rules).map_err(|error| wrong(&error))
}

fn text(row: impl Serialize) -> Bytes {
    let format = FORMAT;
    let text = serde_json::to_vec(&Text { format, row });
    Bytes::from(text.expect("rows hold nothing that JSON cannot express"))
}

/// Reads a row. None: a key that is not the controller's.
///
/// # Errors
/// When the row is of a newer format or damaged.
pub(crate) fn decode(found: &Versioned) -> Result<Option<Stored>, RowError> {
    let number = |prefix: &str| found.key.strip_prefix(prefix);
    let row = if found.key == "cluster" {
        Row::Cluster(cluster(found)?)
    } else if number("nodes/").is_some() {
        Row::Node(node(parse(found)?))
    } else if number("shards/").is_some() {
        Row::Shard(shard(parse(found)?))
    } else if found.key == "settings" {
        Row::Settings(settings(found)?)
    } else if found.key == "overrides" {
        Row::Overrides(overrides(found)?)
    } else {
        return Ok(None);
    };
    if key_text(row.key()) != found.key {
        return Err(damaged(found, "it names another row"));
    }
    Ok(Some(Stored {
        version: RecordVersion(found.version),
        row,
    }))
}

fn parse<T: for<'a> Deserialize<'a>>(found: &Versioned) -> Result<T, RowError> {
    let wrong = |error: serde_json::Error| damaged(found, &error.to_string());
    let head: Head = serde_json::from_slice(&found.value).map_err(wrong)?;
    if head.format != FORMAT {
        return Err(RowError::Format {
            key: found.key.clone(),
            format: head.format,
        });
    }
    let text: Text<T> = serde_json::from_slice(&found.value).map_err(wrong)?;
    Ok(text.row)
}

fn damaged(found: &Versioned, reason: &str) -> RowError {
    RowError::Damaged {
        key: found.key.clone(),
        reason: reason.to_owned(),
    }
}

fn cluster(found: &Versioned) -> Result<ClusterRow, RowError> {
    let text: ClusterText = parse(found)?;
    let total: u64 = text.slots.iter().map(|(count, _)| u64::from(*count)).sum();
    if total != u64::from(crate::limits::SLOTS) {
        return Err(damaged(found, "its slots are not all there"));
    }
    let mut slots = Vec::new();
    for (count, shard) in text.slots {
        slots.extend((0..count).map(|_| ShardId(shard)));
    }
    Ok(ClusterRow {
        shards: text.shards,
        replicas: text.replicas,
        slots,
    })
}

fn ranges(slots: &[ShardId]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((count, shard)) if *shard == slot.0 => *count += 1,
            Some(_) | None => ranges.push((1, slot.0)),
        }
    }
    ranges
}

fn node(text: NodeText) -> NodeRow {
    NodeRow {
        node: NodeId(text.node),
        name: text.name,
        address: text.address,
        disk: DiskId(text.disk),
        boots: text
            .boots
            .into_iter()
            .map(|text| (DiskId(text.disk), text.boot))
            .collect(),
        incarnation: Incarnation(text.incarnation),
        pid: text.pid,
        zone: text.zone,
        weight: text.weight,
        version: text.version,
        is_drained: text.drained,
    }
}

fn shard(text: ShardText) -> ShardRecord {
    let members = |texts: Vec<MemberText>| texts.into_iter().map(member).collect();
    ShardRecord {
        shard: ShardId(text.shard),
        claim: Claim {
            epoch: Epoch(text.epoch),
            id: ClaimId(text.claim),
        },
        leader: text.leader.map(member),
        voters: members(text.voters),
        next_voters: text.next_voters.map(members),
        learners: members(text.learners),
    }
}

fn member_text(member: Member) -> MemberText {
    MemberText {
        node: member.node.0,
        disk: member.disk.0,
    }
}

fn member(text: MemberText) -> Member {
    Member {
        node: NodeId(text.node),
        disk: DiskId(text.disk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(row: Row) {
        let found = Versioned {
            key: key_text(row.key()),
            version: 7,
            value: encode(&row),
        };
        let stored = decode(&found).expect("readable").expect("a row");
        assert_eq!((stored.version, stored.row), (RecordVersion(7), row));
    }

    fn some_member(node: u32) -> Member {
        Member {
            node: NodeId(node),
            disk: DiskId(u64::MAX - u64::from(node)),
        }
    }

    #[test]
    fn every_row_is_read_as_it_was_written() {
        round_trip(Row::Cluster(ClusterRow {
            shards: 3,
            replicas: 3,
            slots: (0..1024).map(|slot| ShardId(1 + slot % 3)).collect(),
        }));
        round_trip(Row::Node(NodeRow {
            node: NodeId(2),
            name: "mq02".to_owned(),
            address: "127.0.0.1:61602".to_owned(),
            disk: DiskId(u64::MAX),
            boots: BTreeMap::from([(DiskId(u64::MAX), 4), (DiskId(3), u64::MAX)]),
            incarnation: Incarnation(9),
            pid: 77,
            zone: "a".to_owned(),
            weight: 100,
            is_drained: true,
            version: "0.1.0".to_owned(),
        }));
        round_trip(Row::Shard(ShardRecord {
            shard: ShardId(8),
            claim: Claim {
                epoch: Epoch(5),
                id: ClaimId(u64::MAX),
            },
            leader: Some(some_member(2)),
            voters: vec![some_member(1), some_member(2)],
            next_voters: Some(vec![some_member(3)]),
            learners: vec![some_member(4)],
        }));
        let mut rule = Rule {
            pattern: Pattern::new("orders.>").expect("a pattern"),
            settings: PartialSettings::default(),
        };
        for (name, value) in [
            ("max_messages", "5"),
            ("dead_letter_queue", ""),
            ("on_full", "block"),
        ] {
            rule.settings.set_text(name, value).expect("a setting");
        }
        let settings = Settings::with_rules(9, [rule]).expect("good rules");
        round_trip(Row::Settings(settings));
        let name = |text| DestinationName::new(text).expect("a name");
        let overrides = Overrides::new().begin(&name("orders"), 1, 2);
        let overrides = overrides.and_then(|first| first.begin(&name("a"), 3, 4));
        let overrides = overrides.expect("moves begin");
        let overrides = overrides.end(&name("a"), 2, (3, None)).expect("under way");
        let overrides = overrides.end(&name("orders"), 1, (1, Some("it is full")));
        let overrides = overrides.expect("under way");
        round_trip(Row::Overrides(overrides));
    }

    #[test]
    fn a_newer_format_and_damage_are_refused() {
        let with = |value: &str| Versioned {
            key: "shards/1".to_owned(),
            version: 1,
            value: Bytes::copy_from_slice(value.as_bytes()),
        };
        let newer = decode(&with(r#"{"format":2,"something":"else"}"#));
        assert!(matches!(newer, Err(RowError::Format { format: 2, .. })));
        for text in ["", "{}", r#"{"format":1}"#, "[1]"] {
            assert!(matches!(decode(&with(text)), Err(RowError::Damaged { .. })));
        }
    }
}
