//! Judges what a change of leader must not do: send a message twice to consumers whose gateway lived, or mark one that
//! nobody can have had.
//!
//! A message that came to a client may come to another one only when the first gave it back or was gone, or when the
//! gateway of the first had been declared lost; and a message is marked only when a leader sent it before, or when
//! somebody's hands were lost sight of.

use std::collections::{BTreeMap, BTreeSet};

use quorate_message::GatewayId;
use quorate_replication::ShardId;

/// A message by its queue, producer and number.
pub(super) type Key = (String, String, u64);

/// What is known of who has what.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Who got each message, with the gateway that it came through.
    hands: BTreeMap<Key, Vec<(String, GatewayId)>>,
    /// Attachments of consumers that are over.
    ended: BTreeSet<String>,
    /// What consumers gave back.
    given_back: BTreeSet<(Key, String)>,
    /// The gateways of each shard, after the entry that was applied last anywhere.
    attached: BTreeMap<ShardId, (u64, BTreeSet<GatewayId>)>,
    /// Gateways that a shard gave up.
    lost: BTreeSet<GatewayId>,
    /// What must not be, unless this gateway turns out to be given up: what it held goes back right before.
    suspects: Vec<(GatewayId, String)>,
}

/// A message that came to a client.
pub(super) struct Arrival {
    pub(super) key: Key,
    pub(super) consumer: String,
    pub(super) gateway: GatewayId,
    pub(super) is_marked: bool,
    /// A leader sent it before, to whomever.
    pub(super) was_sent: bool,
}

impl Handover {
    /// The gateways that a replica knows as attached after this entry.
    pub(super) fn look_at(
        &mut self,
        shard: ShardId,
        applied: u64,
        gateways: impl Iterator<Item = GatewayId>,
    ) {
        let (newest, known) = self.attached.entry(shard).or_default();
        if *newest >= applied {
            return;
        }
        *newest = applied;
        let gateways: BTreeSet<GatewayId> = gateways.collect();
        if *known != gateways {
            self.lost.extend(known.difference(&gateways));
            *known = gateways;
        }
    }

    /// What must not be, at the end of a run.
    pub(super) fn judge(&mut self) -> Vec<String> {
        let suspects = std::mem::take(&mut self.suspects).into_iter();
        let suspects = suspects.filter(|(gateway, _)| !self.lost.contains(gateway));
        suspects.map(|(_, text)| text).collect()
    }

    pub(super) fn ended(&mut self, consumer: String) {
        self.ended.insert(consumer);
    }

    pub(super) fn gave_back(&mut self, key: Key, consumer: String) {
        self.given_back.insert((key, consumer));
    }

    /// A message came to a client. Returns what must not be.
    pub(super) fn arrived(&mut self, arrival: Arrival) -> Option<String> {
        let Arrival {
            key,
            consumer,
            gateway,
            is_marked,
            was_sent,
        } = arrival;
        let hands = self.hands.entry(key.clone()).or_default();
        let again = hands.iter().find(|(before, through)| {
            !self.ended.contains(before)
                && !self.lost.contains(through)
                && !self.given_back.contains(&(key.clone(), before.clone()))
        });
        let (queue, producer, number) = &key;
        let name = format!("{queue}/{producer}#{number}");
        let wrong = match again {
            Some((before, through)) => {
                let text = format!("sent twice: {name} came to {consumer} while {before} had it");
                self.suspects.push((*through, text));
                None
            }
            None if is_marked && !was_sent && hands.is_empty() && self.lost.is_empty() => {
                Some(format!(
                    "marked: {name} came to {consumer} as redelivered and was never sent before"
                ))
            }
            None => None,
        };
        hands.push((consumer, gateway));
        wrong
    }
}
