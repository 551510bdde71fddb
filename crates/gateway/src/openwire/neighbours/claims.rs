//! Client ids over all gateways: who asked for each, in the order in which all gateways hear it. Made of what is heard
//! alone, one's own words included, so that whoever missed nothing comes to the same.
//!
//! The first has the id. A claim for another connection while it is had is not written down: it is refused. One for the
//! same connection stands behind: its client has come back elsewhere, and waits for the place.

use std::collections::BTreeMap;

use quorate_message::GatewayId;

use super::frame::Claim;

#[derive(Debug, Default)]
pub(super) struct Claims {
    by_client: BTreeMap<String, Vec<Entry>>,
    count: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    life: GatewayId,
    connection_id: String,
    holder: String,
    /// Its gateway said that the connection is in, whoever asked first.
    is_held: bool,
    /// It was not said again since its gateway began to say all.
    is_stale: bool,
}

/// How a gateway's claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody is before it.
    First,
    /// That gateway has the same connection in its earlier place.
    Behind(GatewayId),
    /// That gateway has another connection of this client id.
    Taken { by: GatewayId, holder: String },
    /// It is not written down, and nobody has the id.
    Unknown,
}

impl Claims {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// A gateway asks for a client id, or asks again.
    pub(super) fn claimed(&mut self, life: GatewayId, claim: &Claim) {
        self.forget_other(life, claim);
        let is_taken = self
            .entries(&claim.client_id)
            .iter()
            .any(|entry| entry.life != life && entry.connection_id != claim.connection_id);
        if !is_taken {
            self.put(life, claim, false);
        }
    }

    /// A gateway says that a connection has a client id.
    pub(super) fn held(&mut self, life: GatewayId, claim: &Claim) {
        self.forget_other(life, claim);
        self.put(life, claim, true);
    }

    pub(super) fn released(&mut self, life: GatewayId, client_id: &str) {
        self.retain(client_id, |entry| entry.life != life);
    }

    /// A gateway begins to say all that it has.
    pub(super) fn begun(&mut self, life: GatewayId) {
        let entries = self.by_client.values_mut().flatten();
        for entry in entries.filter(|entry| entry.life == life) {
            entry.is_stale = true;
        }
    }

    /// It has said all.
    pub(super) fn ended(&mut self, life: GatewayId) {
        self.retain_all(|entry| entry.life != life || !entry.is_stale);
    }

    /// A gateway is gone.
    pub(super) fn lost(&mut self, life: GatewayId) {
        self.retain_all(|entry| entry.life != life);
    }

    pub(super) fn standing(
        &self,
        own: GatewayId,
        client_id: &str,
        connection_id: &str,
    ) -> Standing {
        let entries = self.entries(client_id);
        let place = entries.iter().position(|entry| entry.life == own);
        // Who is in stays in, whoever asked first.
        let mut others = entries.iter().enumerate();
        let taken = others.find(|(at, entry)| {
            let is_before = place.is_none_or(|place| *at < place);
            let is_other = entry.life != own && entry.connection_id != connection_id;
            is_other && (is_before || entry.is_held)
        });
        if let Some((_, entry)) = taken {
            return Standing::Taken {
                by: entry.life,
                holder: entry.holder.clone(),
            };
        }
        match place {
            None => Standing::Unknown,
            Some(0) => Standing::First,
            Some(place) => Standing::Behind(entries[place - 1].life),
        }
    }

    /// Whoever has a client id by what was heard.
    #[cfg(test)]
    pub(super) fn all(&self) -> BTreeMap<String, Vec<(GatewayId, String)>> {
        let each = self.by_client.iter();
        each.map(|(id, entries)| {
            let entries = entries.iter();
            let entries = entries.map(|entry| (entry.life, entry.connection_id.clone()));
            (id.clone(), entries.collect())
        })
        .collect()
    }

    fn entries(&self, client_id: &str) -> &[Entry] {
        self.by_client.get(client_id).map_or(&[], Vec::as_slice)
    }

    /// What a gateway has of the same client id for another connection ends with its word about this one.
    fn forget_other(&mut self, life: GatewayId, claim: &Claim) {
        let connection = &claim.connection_id;
        self.retain(&claim.client_id, |entry| {
            entry.life != life || entry.connection_id == *connection
        });
    }

    fn put(&mut self, life: GatewayId, claim: &Claim, is_held: bool) {
        let entries = self.by_client.entry(claim.client_id.clone()).or_default();
        if let Some(known) = entries.iter_mut().find(|entry| entry.life == life) {
            known.is_stale = false;
            known.is_held |= is_held;
            known.holder.clone_from(&claim.holder);
            return;
        }
        self.count += 1;
        entries.push(Entry {
            life,
            connection_id: claim.connection_id.clone(),
            holder: claim.holder.clone(),
            is_held,
            is_stale: false,
        });
    }

    fn retain(&mut self, client_id: &str, is_kept: impl Fn(&Entry) -> bool) {
        let Some(entries) = self.by_client.get_mut(client_id) else {
            return;
        };
        let before = entries.len();
        entries.retain(|entry| is_kept(entry));
        self.count -= before - entries.len();
        if entries.is_empty() {
            self.by_client.remove(client_id);
        }
    }

    fn retain_all(&mut self, is_kept: impl Fn(&Entry) -> bool) {
        let mut count = 0;
        self.by_client.retain(|_, entries| {
            entries.retain(|entry| is_kept(entry));
            count += entries.len();
            !entries.is_empty()
        });
        self.count = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openwire::neighbours::SeatId;

    const ONE: GatewayId = GatewayId([1; 16]);
    const TWO: GatewayId = GatewayId([2; 16]);
    const THREE: GatewayId = GatewayId([3; 16]);

    fn claim(connection: &str) -> Claim {
        Claim {
            seat: SeatId(1),
            client_id: "orders".to_owned(),
            connection_id: connection.to_owned(),
            holder: format!("holder of {connection}"),
        }
    }

    fn standing(claims: &Claims, life: GatewayId, connection: &str) -> Standing {
        claims.standing(life, "orders", connection)
    }

    fn taken(by: GatewayId, connection: &str) -> Standing {
        Standing::Taken {
            by,
            holder: format!("holder of {connection}"),
        }
    }

    #[test]
    fn the_first_has_it_and_the_next_gets_it_after_the_release() {
        let mut claims = Claims::default();
        claims.claimed(ONE, &claim("a"));
        claims.claimed(TWO, &claim("b"));
        assert_eq!(standing(&claims, ONE, "a"), Standing::First);
        assert_eq!(standing(&claims, TWO, "b"), taken(ONE, "a"));
        // One that was refused stands in nobody's way.
        claims.released(ONE, "orders");
        claims.claimed(THREE, &claim("c"));
        assert_eq!(standing(&claims, THREE, "c"), Standing::First);
        claims.released(TWO, "orders");
        claims.released(THREE, "orders");
        assert_eq!((claims.count(), claims.all().len()), (0, 0));
    }

    #[test]
    fn the_same_connection_elsewhere_waits_for_its_earlier_place() {
        let mut claims = Claims::default();
        claims.claimed(ONE, &claim("a"));
        claims.claimed(TWO, &claim("a"));
        assert_eq!(standing(&claims, TWO, "a"), Standing::Behind(ONE));
        assert_eq!(standing(&claims, THREE, "b"), taken(ONE, "a"));
        claims.released(ONE, "orders");
        assert_eq!(standing(&claims, TWO, "a"), Standing::First);
    }

    #[test]
    fn who_is_in_stays_in_though_another_asked_before() {
        let mut claims = Claims::default();
        claims.claimed(ONE, &claim("a"));
        claims.held(TWO, &claim("b"));
        assert_eq!(standing(&claims, ONE, "a"), taken(TWO, "b"));
    }

    #[test]
    fn what_is_not_said_again_is_gone_and_what_is_keeps_its_place() {
        let mut claims = Claims::default();
        claims.claimed(ONE, &claim("a"));
        claims.claimed(TWO, &claim("a"));
        claims.begun(ONE);
        claims.held(ONE, &claim("a"));
        claims.ended(ONE);
        assert_eq!(standing(&claims, TWO, "a"), Standing::Behind(ONE));
        claims.begun(ONE);
        claims.ended(ONE);
        assert_eq!(standing(&claims, TWO, "a"), Standing::First);
        claims.lost(TWO);
        assert_eq!((claims.count(), claims.all().len()), (0, 0));
    }

    #[test]
    fn another_connection_of_the_same_gateway_asks_anew() {
        let mut claims = Claims::default();
        claims.claimed(ONE, &claim("a"));
        claims.claimed(TWO, &claim("a"));
        claims.claimed(ONE, &claim("b"));
        assert_eq!(standing(&claims, ONE, "b"), taken(TWO, "a"));
        assert_eq!(standing(&claims, TWO, "a"), Standing::First);
        assert_eq!(claims.count(), 1);
    }
}
