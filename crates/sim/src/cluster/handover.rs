//! Judges what a change of leader must not do: send a message twice to consumers whose gateway lived, or mark one that
//! nobody can have had.
//!
//! A message that came to a client may come to another one only when the first gave it back or was gone, or when its
//! shard gave up the gateway of the first, between the two sendings; and a message is marked only when a leader sent it
//! before, or when somebody's hands were lost sight of. A gateway is given up only when it had no session with the
//! leader for the grace, or when the leader serves for so long and it was silent.

use std::collections::{BTreeMap, BTreeSet};

use quorate_broker::SessionId;
use quorate_message::GatewayId;
use quorate_replication::ShardId;
use quorate_storage_node::shard::input::SessionRequest;

use crate::schedule::Moment;

/// A message by its queue, producer and number.
pub(super) type Key = (String, String, u64);

/// The grace of a gateway without a session, shortened by how fast a clock may be wrong.
const GRACE_US: u64 = quorate_broker::limits::REATTACH_GRACE
    * (1_000_000 - 2 * crate::clock::DRIFT_PPM_MAX)
    / 1_000_000;

/// What is known of who has what.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Who got each message.
    hands: BTreeMap<Key, Vec<Hold>>,
    /// Attachments of consumers that are over.
    ended: BTreeSet<String>,
    /// What consumers gave back.
    given_back: BTreeSet<(Key, String)>,
    /// The gateways of each shard, after the entry that was applied last anywhere.
    attached: BTreeMap<ShardId, (u64, BTreeSet<GatewayId>)>,
    /// Those that the leader of a shard gives up now.
    giving_up: BTreeMap<(usize, ShardId), BTreeSet<GatewayId>>,
    /// When a shard gave up a gateway.
    given_up: BTreeMap<(GatewayId, ShardId), BTreeSet<Moment>>,
    /// The sessions of each gateway in which it spoke to a shard on a node.
    sessions: BTreeMap<(usize, ShardId, GatewayId), Sessions>,
    /// Since when a node serves a shard.
    serving: BTreeMap<(usize, ShardId), Moment>,
}

#[derive(Debug, Default)]
struct Sessions {
    open: BTreeSet<SessionId>,
    /// When the last one ended.
    none_since: Moment,
    /// When it last said all that it holds.
    reported: Option<Moment>,
    /// Sessions of which something was refused since their report began.
    torn: BTreeSet<SessionId>,
}

/// What a gateway says to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Its report begins.
    Begins,
    /// That was all that it holds.
    Ends,
    More,
}

impl Said {
    pub(super) fn of(request: &SessionRequest) -> Self {
        match request {
            SessionRequest::Report { is_first: true, .. } => Self::Begins,
            SessionRequest::Reported => Self::Ends,
            SessionRequest::Report {
                is_first: false, ..
            }
            | SessionRequest::Attach { .. }
            | SessionRequest::Recall { .. }
            | SessionRequest::Detach { .. }
            | SessionRequest::Credit { .. }
            | SessionRequest::Leave => Self::More,
        }
    }
}

/// A message in a consumer's hands.
#[derive(Debug)]
struct Hold {
    consumer: String,
    gateway: GatewayId,
    shard: ShardId,
    sent_us: Moment,
}

/// A message that came to a client.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) key: Key,
    pub(super) consumer: String,
    pub(super) gateway: GatewayId,
    pub(super) shard: ShardId,
    /// When the leader sent it.
    pub(super) sent_us: Moment,
    pub(super) is_marked: bool,
    /// A leader sent it before, to whomever.
    pub(super) was_sent: bool,
}

/// What a replica that serves knows of gateways.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) node: usize,
    pub(super) shard: ShardId,
    /// The entry that it applied last.
    pub(super) applied: u64,
    /// Those that are attached by then.
    pub(super) attached: BTreeSet<GatewayId>,
    /// Those that it gives up.
    pub(super) giving_up: BTreeSet<GatewayId>,
}

impl Handover {
    /// A gateway asked a shard on a node for something. A report of which something was refused is not one of all that it
    /// holds (docs/handover.md, At a new leader).
    pub(super) fn spoke(
        &mut self,
        (node, shard): (usize, ShardId),
        (gateway, session): (GatewayId, SessionId),
        said: Said,
        now: Moment,
    ) {
        let sessions = self.sessions.entry((node, shard, gateway)).or_default();
        sessions.open.insert(session);
        match said {
            Said::Begins => drop(sessions.torn.remove(&session)),
            Said::Ends if !sessions.torn.contains(&session) => sessions.reported = Some(now),
            Said::Ends | Said::More => {}
        }
    }

    /// A shard on a node told a session that it does not lead.
    pub(super) fn refused(&mut self, (node, shard): (usize, ShardId), session: SessionId) {
        for ((of, at, _), sessions) in &mut self.sessions {
            if (*of, *at) == (node, shard) && sessions.open.contains(&session) {
                sessions.torn.insert(session);
            }
        }
    }

    /// A session with a node ended.
    pub(super) fn session_ends(&mut self, node: usize, session: SessionId, now: Moment) {
        for ((of, _, _), sessions) in &mut self.sessions {
            if *of == node && sessions.open.remove(&session) {
                sessions.none_since = now;
            }
        }
    }

    /// A process of a node is gone with all that it knew.
    pub(super) fn node_ends(&mut self, node: usize) {
        self.sessions.retain(|(of, _, _), _| *of != node);
        self.serving.retain(|(of, _), _| *of != node);
        self.giving_up.retain(|(of, _), _| *of != node);
    }

    /// A replica does not serve.
    pub(super) fn is_idle(&mut self, node: usize, shard: ShardId) {
        self.serving.remove(&(node, shard));
        self.giving_up.remove(&(node, shard));
    }

    /// Looks at a replica that serves, after a step. Returns what must not be.
    pub(super) fn look_at(&mut self, seen: Seen, now: Moment) -> Vec<String> {
        let (node, shard) = (seen.node, seen.shard);
        let serves_since = *self.serving.entry((node, shard)).or_insert(now);
        let (newest, known) = self.attached.entry(shard).or_default();
        if *newest < seen.applied {
            *newest = seen.applied;
            for lost in known.difference(&seen.attached) {
                self.given_up.entry((*lost, shard)).or_default().insert(now);
            }
            *known = seen.attached;
        }
        let before = self.giving_up.entry((node, shard)).or_default();
        let mut wrong = Vec::new();
        for gateway in seen.giving_up.difference(before) {
            self.given_up
                .entry((*gateway, shard))
                .or_default()
                .insert(now);
            let sessions = self.sessions.get(&(node, shard, *gateway));
            let is_away = sessions.is_none_or(|sessions| {
                sessions.open.is_empty() && sessions.none_since + GRACE_US <= now
            });
            let reported = sessions.and_then(|sessions| sessions.reported);
            let is_silent = serves_since + GRACE_US <= now
                && reported.is_none_or(|reported| reported < serves_since);
            if !is_away && !is_silent {
                wrong.push(format!(
                    "{shard}: node {node} gives up {gateway:?}, which was there"
                ));
            }
        }
        *before = seen.giving_up;
        wrong
    }

    pub(super) fn ended(&mut self, consumer: String) {
        self.ended.insert(consumer);
    }

    pub(super) fn gave_back(&mut self, key: Key, consumer: String) {
        self.given_back.insert((key, consumer));
    }

    /// Whether the shard gave up this gateway between two moments.
    pub(super) fn was_given_up(
        &self,
        (gateway, shard): (GatewayId, ShardId),
        from: Moment,
        upto: Moment,
    ) -> bool {
        let moments = self.given_up.get(&(gateway, shard));
        moments.is_some_and(|moments| moments.range(from..=upto).next().is_some())
    }

    /// Whether an attachment of a consumer is over.
    pub(super) fn has_ended(&self, consumer: &str) -> bool {
        self.ended.contains(consumer)
    }

    /// Whether the one of two sendings that was sent first was to a gateway that was given up before the other.
    fn was_replaced(&self, hold: &Hold, (gateway, sent_us): (GatewayId, Moment)) -> bool {
        if hold.sent_us <= sent_us {
            self.was_given_up((hold.gateway, hold.shard), hold.sent_us, sent_us)
        } else {
            self.was_given_up((gateway, hold.shard), sent_us, hold.sent_us)
        }
    }

    /// A message came to a client. Returns what must not be.
    pub(super) fn arrived(&mut self, arrival: Arrival) -> Option<String> {
        let Arrival {
            key,
            consumer,
            gateway,
            shard,
            sent_us,
            is_marked,
            was_sent,
        } = arrival;
        let hands = self.hands.get(&key);
        let again = hands.into_iter().flatten().find(|hold| {
            !self.ended.contains(&hold.consumer)
                && !self.was_replaced(hold, (gateway, sent_us))
                && !self
                    .given_back
                    .contains(&(key.clone(), hold.consumer.clone()))
        });
        let (queue, producer, number) = &key;
        let name = format!("{queue}/{producer}#{number}");
        let wrong = match again {
            Some(hold) => Some(format!(
                "sent twice: {name} came to {consumer} while {} had it",
                hold.consumer
            )),
            None if is_marked && !was_sent && hands.is_none() && self.given_up.is_empty() => {
                Some(format!(
                    "marked: {name} came to {consumer} as redelivered and was never sent before"
                ))
            }
            None => None,
        };
        self.hands.entry(key).or_default().push(Hold {
            consumer,
            gateway,
            shard,
            sent_us,
        });
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);
    const FIRST: GatewayId = GatewayId([1; 16]);
    const SECOND: GatewayId = GatewayId([2; 16]);

    fn came(to: &str, through: GatewayId, sent_us: Moment) -> Arrival {
        Arrival {
            key: ("orders".into(), "p".into(), 7),
            consumer: to.into(),
            gateway: through,
            shard: SHARD,
            sent_us,
            is_marked: true,
            was_sent: true,
        }
    }

    fn seen(applied: u64, attached: &[GatewayId], giving_up: &[GatewayId]) -> Seen {
        Seen {
            node: 0,
            shard: SHARD,
            applied,
            attached: attached.iter().copied().collect(),
            giving_up: giving_up.iter().copied().collect(),
        }
    }

    fn session(gateway: GatewayId) -> SessionId {
        SessionId(u64::from(gateway.0[0]))
    }

    fn speaks(handover: &mut Handover, gateway: GatewayId) {
        handover.spoke((0, SHARD), (gateway, session(gateway)), Said::Ends, 0);
    }

    /// Both gateways are attached at a leader that serves since the beginning.
    fn handover() -> Handover {
        let mut handover = Handover::default();
        for gateway in [FIRST, SECOND] {
            speaks(&mut handover, gateway);
        }
        assert!(
            handover
                .look_at(seen(1, &[FIRST, SECOND], &[]), 0)
                .is_empty()
        );
        assert_eq!(handover.arrived(came("a", FIRST, 10_000_000)), None);
        handover
    }

    #[test]
    fn a_second_sending_while_the_first_one_has_it_is_caught() {
        let wrong = handover().arrived(came("b", SECOND, 11_000_000));
        assert!(wrong.is_some_and(|text| text.starts_with("sent twice")));
    }

    #[test]
    fn it_may_come_again_when_it_was_given_back_or_its_consumer_is_gone() {
        let mut given_back = handover();
        given_back.gave_back(came("a", FIRST, 0).key, "a".into());
        assert_eq!(given_back.arrived(came("b", SECOND, 11_000_000)), None);
        let mut ended = handover();
        ended.ended("a".into());
        assert_eq!(ended.arrived(came("b", SECOND, 11_000_000)), None);
    }

    #[test]
    fn a_gateway_given_up_meanwhile_excuses_and_at_another_time_does_not() {
        let give_up = |at: Moment| {
            let mut handover = handover();
            handover.session_ends(0, session(FIRST), at - 1_000_000);
            assert!(
                handover
                    .look_at(seen(2, &[FIRST, SECOND], &[FIRST]), at)
                    .is_empty()
            );
            handover
        };
        assert_eq!(
            give_up(10_500_000).arrived(came("b", SECOND, 11_000_000)),
            None
        );
        for at in [9_000_000, 12_000_000] {
            let wrong = give_up(at).arrived(came("b", SECOND, 11_000_000));
            assert!(wrong.is_some(), "given up at {at}");
        }
        // The log says it as well as the leader does.
        let mut logged = handover();
        assert!(
            logged
                .look_at(seen(2, &[SECOND], &[]), 10_500_000)
                .is_empty()
        );
        assert_eq!(logged.arrived(came("b", SECOND, 11_000_000)), None);
    }

    #[test]
    fn what_was_sent_to_a_gateway_before_it_was_given_up_may_arrive_late() {
        let late = |given_up: GatewayId| {
            let mut handover = handover();
            handover.session_ends(0, session(given_up), 8_000_000);
            let wrong = handover.look_at(seen(2, &[FIRST, SECOND], &[given_up]), 9_500_000);
            assert!(wrong.is_empty());
            handover.arrived(came("b", SECOND, 9_000_000))
        };
        assert_eq!(late(SECOND), None);
        assert!(late(FIRST).is_some());
    }

    #[test]
    fn a_gateway_given_up_without_having_been_away_is_caught() {
        let mut present = Handover::default();
        speaks(&mut present, FIRST);
        assert_eq!(present.look_at(seen(1, &[FIRST], &[FIRST]), 0).len(), 1);
        let mut short = Handover::default();
        speaks(&mut short, FIRST);
        short.session_ends(0, session(FIRST), 100_000);
        assert_eq!(short.look_at(seen(1, &[FIRST], &[FIRST]), 900_000).len(), 1);
    }

    #[test]
    fn a_report_of_which_something_was_refused_is_none() {
        let of = |refused: &[bool]| {
            let mut handover = Handover::default();
            assert!(handover.look_at(seen(1, &[FIRST], &[]), 0).is_empty());
            let (at, who) = ((0, SHARD), (FIRST, session(FIRST)));
            for is_refused in refused {
                handover.spoke(at, who, Said::Begins, 10);
                if *is_refused {
                    handover.refused(at, who.1);
                }
                handover.spoke(at, who, Said::Ends, 20);
            }
            handover.look_at(seen(1, &[FIRST], &[FIRST]), 1_500_000)
        };
        assert!(of(&[true]).is_empty());
        assert_eq!(of(&[false]).len(), 1);
        assert_eq!(of(&[true, false]).len(), 1);
    }

    #[test]
    fn a_mark_on_what_was_never_sent_is_caught() {
        let mut handover = Handover::default();
        let arrival = Arrival {
            was_sent: false,
            ..came("a", FIRST, 1)
        };
        let wrong = handover.arrived(arrival);
        assert!(wrong.is_some_and(|text| text.starts_with("marked")));
    }
}
