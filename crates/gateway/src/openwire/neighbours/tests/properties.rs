//! Whatever the gateways' clients do and in whatever order things arrive: nobody is let in beside another while nothing is
//! lost; and after losses and some quiet all know the same, which is what there is.

use proptest::prelude::*;

use super::*;
use crate::limits::TAKEOVER_TIMEOUT;

#[derive(Clone, Debug)]
enum Op {
    Announce(u8, u8, bool),
    Claim(u8, u8, u8),
    Release(u8, u8),
    Publish(u8),
    Refuse(u8),
    Hear(u8),
    Lose,
    Swallow,
    Restart(u8),
    Stop(u8),
    Wait(u64),
}

fn clients_do() -> impl Strategy<Value = Op> {
    let gateway = 1..4_u8;
    let few = 0..3_u8;
    prop_oneof![
        6 => (gateway.clone(), few.clone(), any::<bool>())
            .prop_map(|(g, which, is_there)| Op::Announce(g, which, is_there)),
        6 => (gateway.clone(), few.clone(), few).prop_map(|(g, id, c)| Op::Claim(g, id, c)),
        4 => (gateway.clone(), any::<u8>()).prop_map(|(g, at)| Op::Release(g, at)),
        12 => gateway.clone().prop_map(Op::Publish),
        20 => gateway.prop_map(Op::Hear),
    ]
}

fn faults_too() -> impl Strategy<Value = Op> {
    let gateway = 1..4_u8;
    prop_oneof![
        50 => clients_do(),
        1 => gateway.clone().prop_map(Op::Refuse),
        1 => Just(Op::Lose),
        1 => Just(Op::Swallow),
        1 => gateway.clone().prop_map(Op::Restart),
        1 => gateway.prop_map(Op::Stop),
        2 => (1..3_000_000_u64).prop_map(Op::Wait),
    ]
}

/// The world, and what its clients have.
struct Play {
    world: World,
    /// The seats at each gateway that have not left, by their client id, with their connection.
    seats: BTreeMap<u8, BTreeMap<String, (u64, String)>>,
    made: BTreeMap<u8, BTreeSet<Destination>>,
    next_seat: u64,
    next_life: u8,
    /// The present life of each gateway.
    lives: BTreeMap<u8, u8>,
}

impl Play {
    fn new() -> Self {
        Self {
            world: World::at_rest(3),
            seats: BTreeMap::new(),
            made: BTreeMap::new(),
            next_seat: 1,
            next_life: 10,
            lives: (1..4).map(|number| (number, number)).collect(),
        }
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Announce(gateway, which, is_there) => {
                let life = self.lives[&gateway];
                let destination = queue(&format!("host-{gateway}:{which}"));
                let made = self.made.entry(gateway).or_default();
                match is_there {
                    true => drop(made.insert(destination.clone())),
                    false => drop(made.remove(&destination)),
                }
                self.world.announce(life, &destination, is_there);
            }
            Op::Claim(gateway, client, connection) => self.claim(gateway, client, connection),
            Op::Release(gateway, at) => {
                let seats = self.seats.entry(gateway).or_default();
                let place = usize::from(at) % seats.len().max(1);
                if let Some(client) = seats.keys().nth(place).cloned() {
                    self.leave(gateway, &client);
                }
            }
            Op::Publish(gateway) => drop(self.world.publish(self.lives[&gateway])),
            Op::Hear(gateway) => drop(self.world.hear(self.lives[&gateway])),
            Op::Refuse(gateway) => {
                let life = self.lives[&gateway];
                let gateway = self.world.gateways.get_mut(&life).expect("it runs");
                if gateway.in_flight.take().is_some() {
                    self.world.tell(life, Input::Published { is_taken: false });
                }
            }
            Op::Lose => self.world.lose(),
            Op::Swallow => self.swallow(),
            Op::Restart(gateway) => self.restart(gateway),
            Op::Stop(gateway) => {
                let life = self.lives[&gateway];
                self.world.tell(life, Input::Left);
                self.world.publish(life);
                self.world.publish(life);
                self.restart(gateway);
            }
            Op::Wait(micros) => self.world.wait(micros),
        }
        self.turn_out();
    }

    /// As the gateway's own table has it: a client id once, and a connection that comes back instead of itself.
    fn claim(&mut self, gateway: u8, client: u8, connection: u8) {
        let client = format!("client {client}");
        let connection = format!("connection {connection}");
        let known = self
            .seats
            .get(&gateway)
            .and_then(|seats| seats.get(&client));
        if known.is_some_and(|(_, other)| *other != connection) {
            return;
        }
        if known.is_some() {
            self.leave(gateway, &client);
        }
        let seat = self.next_seat;
        self.next_seat += 1;
        let seats = self.seats.entry(gateway).or_default();
        seats.insert(client.clone(), (seat, connection.clone()));
        self.world
            .claim(self.lives[&gateway], seat, &client, &connection);
    }

    fn leave(&mut self, gateway: u8, client: &str) {
        let seats = self.seats.entry(gateway).or_default();
        if let Some((seat, _)) = seats.remove(client) {
            self.world.release(self.lives[&gateway], seat, client);
        }
    }

    /// Connections that were refused or taken over leave.
    fn turn_out(&mut self) {
        for (gateway, life) in self.lives.clone() {
            let seats = self.seats.entry(gateway).or_default().clone();
            for (client, (seat, _)) in seats {
                let state = &self.world.gateways[&life];
                let is_out = matches!(state.decided.get(&SeatId(seat)), Some(Err(_)));
                if is_out || state.leaves.contains(&SeatId(seat)) {
                    self.leave(gateway, &client);
                }
            }
        }
    }

    /// A gateway dies and begins another life.
    fn restart(&mut self, gateway: u8) {
        self.world.gateways.remove(&self.lives[&gateway]);
        self.seats.remove(&gateway);
        self.made.remove(&gateway);
        let life = self.next_life;
        self.next_life += 1;
        self.lives.insert(gateway, life);
        self.world.start(life, gateway);
        self.world.attend();
        self.world.tell(life, Input::Opened);
    }

    /// The last thing that somebody has not heard is lost, and all are told that something may be.
    fn swallow(&mut self) {
        let heard = self.world.gateways.values().map(|gateway| gateway.heard);
        if heard.max() < Some(self.world.topic.len()) {
            *self.world.topic.last_mut().expect("there is one") = None;
        }
        self.world.reopen();
    }

    /// Who is let in, of each client id, by connection.
    fn let_in(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (gateway, seats) in &self.seats {
            let decided = &self.world.gateways[&self.lives[gateway]].decided;
            for (client, (seat, connection)) in seats {
                if decided.get(&SeatId(*seat)) == Some(&Ok(())) {
                    let having = all.entry(client.clone()).or_default();
                    having.insert(connection.clone());
                }
            }
        }
        all
    }

    /// All are told that something may be lost; every claim is decided, every life that is over is missed.
    fn rest(&mut self) {
        self.world.reopen();
        let patience = u64::try_from(TAKEOVER_TIMEOUT.as_micros()).expect("short");
        for _ in 0..10 {
            self.world.wait(patience);
            self.turn_out();
        }
    }

    fn demand_agreement(&self) {
        let mut tables = BTreeSet::new();
        for (gateway, life) in &self.lives {
            let state = &self.world.gateways[life];
            let others = self.made.iter().filter(|(other, _)| *other != gateway);
            let others: BTreeSet<Destination> = others.flat_map(|(_, made)| made.clone()).collect();
            assert_eq!(state.announced, others, "gateway {gateway}");
            let all = state.machine.claims.all();
            let all: Vec<_> = all
                .into_iter()
                .map(|(id, mut entries)| {
                    entries.sort();
                    (id, entries)
                })
                .collect();
            tables.insert(format!("{all:?}"));
            let pending = state.machine.own_claims.values();
            assert!(pending.into_iter().all(OwnClaim::is_granted));
            let seats = self.seats.get(gateway).map_or(0, BTreeMap::len);
            assert_eq!(state.machine.own_claims.len(), seats, "gateway {gateway}");
        }
        assert_eq!(tables.len(), 1, "{tables:#?}");
    }
}

#[test]
fn a_claim_that_is_decided_after_a_loss_is_known_to_all() {
    let mut play = Play::new();
    for op in [
        Op::Claim(3, 2, 2),
        Op::Claim(3, 2, 2),
        Op::Publish(3),
        Op::Claim(1, 2, 0),
        Op::Hear(3),
        Op::Lose,
    ] {
        play.play(op);
    }
    play.rest();
    play.demand_agreement();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn while_nothing_is_lost_a_client_id_is_had_by_one_connection(ops in prop::collection::vec(clients_do(), 1..120)) {
        let mut play = Play::new();
        for op in ops {
            play.play(op);
            for (client, connections) in play.let_in() {
                assert!(connections.len() <= 1, "{client}: {connections:?}");
            }
        }
        play.world.settle();
        play.turn_out();
        play.world.wait(100_000);
        play.turn_out();
        play.world.settle();
        play.demand_agreement();
    }

    #[test]
    fn after_losses_and_some_quiet_all_know_what_there_is(ops in prop::collection::vec(faults_too(), 1..120)) {
        let mut play = Play::new();
        for op in ops {
            play.play(op);
        }
        play.rest();
        play.demand_agreement();
        let before = play.world.published;
        play.world.wait(600_000_000);
        assert_eq!(play.world.published, before, "they are at rest");
    }
}
