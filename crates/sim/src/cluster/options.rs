//! What a seed decides before the run begins.

use crate::cluster::scene::{self, Scene};
use crate::network::Weather;
use crate::rng::Rng;

/// The shape of one run, drawn from its seed and printed with its trace.
#[derive(Clone, Debug)]
pub struct Options {
    /// Storage nodes.
    pub nodes: usize,
    /// Gateways.
    pub gateways: usize,
    /// Coordinators.
    pub coordinators: usize,
    /// Shards.
    pub shards: u32,
    /// Queues.
    pub queues: usize,
    /// Producers.
    pub producers: usize,
    /// Consumers.
    pub consumers: usize,
    /// Messages of each producer.
    pub messages: u64,
    /// Before the first fault.
    pub calm_us: u64,
    /// Faults.
    pub strikes: u32,
    /// Longest time between two faults.
    pub strike_gap_us: u64,
    /// Longest time between two sends of a producer.
    pub send_gap_us: u64,
    /// Longest time between two settlements of a consumer.
    pub settle_gap_us: u64,
    /// The network while there are faults.
    pub weather: Weather,
    /// Longest usual disk operation.
    pub disk_us: u64,
    /// Of 1,000 disk operations so many take up to a second and a half.
    pub disk_stalls: u64,
    /// Of 1,000 questions to the store so many take up to two seconds.
    pub store_slow: u64,
    /// Of 1,000 answers of the store so many are lost.
    pub store_unknown: u64,
    /// How fast clocks may be wrong.
    pub drift_ppm: u64,
    /// How wrong wall clocks may be.
    pub wall_error_ms: u64,
    /// Leaderships are moved back.
    pub rebalances: bool,
    /// Bits rot on one node.
    pub rots: bool,
    /// Leaderships are moved as planned, and nothing else goes wrong.
    pub is_planned: bool,
    /// Messages are non-persistent.
    pub is_volatile: bool,
    /// The run idles long enough for checkpoints before its faults end.
    pub is_long: bool,
    /// What is done beside the plain queues.
    pub scenes: Vec<Scene>,
}

impl Options {
    /// Draws the shape of a run.
    pub fn draw(rng: &mut Rng) -> Self {
        let rough = rng.below(4);
        let pick = |rng: &mut Rng, of: [u64; 4]| of[rng.index(4)];
        let weather = Weather {
            delay_min: 20,
            delay_max: pick(rng, [200, 1_000, 5_000, 20_000]),
            lost: pick(rng, [0, 5, 30, 150]) * rough.min(1),
            repeated: pick(rng, [0, 5, 30, 100]),
            straggling: pick(rng, [0, 5, 30, 100]),
            straggle_max: pick(rng, [1_000, 20_000, 300_000, 2_000_000]),
        };
        let shards = rng.between(1, 2);
        let is_long = rng.chance(1, 6);
        Self {
            nodes: if rng.chance(1, 5) { 4 } else { 3 },
            gateways: 2,
            coordinators: 2,
            shards: u32::try_from(shards).expect("small"),
            queues: usize::try_from(rng.between(1, 3)).expect("small"),
            producers: 3,
            consumers: 4,
            messages: rng.between(40, 160),
            calm_us: rng.between(400_000, 1_500_000),
            strikes: u32::try_from(rng.between(3, 10)).expect("small"),
            strike_gap_us: pick(rng, [200_000, 700_000, 1_500_000, 3_000_000]),
            send_gap_us: pick(rng, [10_000, 60_000, 200_000, 400_000]),
            settle_gap_us: pick(rng, [5_000, 30_000, 120_000, 300_000]),
            weather,
            disk_us: pick(rng, [300, 1_500, 5_000, 20_000]),
            disk_stalls: pick(rng, [0, 0, 2, 10]),
            store_slow: pick(rng, [0, 0, 50, 300]),
            store_unknown: pick(rng, [0, 0, 50, 250]),
            drift_ppm: pick(rng, [0, 50, 500, crate::clock::DRIFT_PPM_MAX]),
            wall_error_ms: pick(rng, [0, 10, 1_000, 4_000]),
            rebalances: rng.chance(1, 2),
            rots: rng.chance(1, if is_long { 2 } else { 8 }),
            is_planned: false,
            is_volatile: false,
            is_long,
            scenes: Vec::new(),
        }
    }

    /// Draws scenes to be played beside the plain queues.
    pub fn stage(&mut self, rng: &mut Rng) {
        self.scenes = scene::draw(rng);
        if !self.scenes.is_empty() {
            self.messages = self.messages.min(60);
        }
    }

    /// Has an operator at work.
    pub fn operate(&mut self, _: &mut Rng) {
        self.scenes = vec![Scene::Operated];
    }

    /// Has an operator move a queue from shard to shard.
    pub fn relocate(&mut self, rng: &mut Rng) {
        self.scenes = vec![Scene::Moved];
        self.shards = u32::try_from(rng.between(2, 3)).expect("small");
    }

    /// Has an operator move a topic from shard to shard.
    pub fn relocate_topic(&mut self, rng: &mut Rng) {
        self.scenes = vec![Scene::MovedTopic];
        self.shards = u32::try_from(rng.between(2, 3)).expect("small");
    }

    /// Leaves nothing of what may go wrong but moves of leaderships.
    pub fn calm(&mut self, rng: &mut Rng) {
        self.is_planned = true;
        self.is_volatile = rng.chance(1, 2);
        self.weather = Weather {
            delay_min: 20,
            delay_max: self.weather.delay_max.min(5_000),
            ..Weather::CALM
        };
        self.disk_us = self.disk_us.min(5_000);
        (self.disk_stalls, self.store_slow, self.store_unknown) = (0, 0, 0);
        (self.rots, self.is_long, self.rebalances) = (false, false, false);
        self.strikes = 20;
        self.strike_gap_us = 400_000;
        self.messages = 200;
        self.send_gap_us = self.send_gap_us.min(60_000);
    }

    /// Whether logs may come back damaged.
    #[must_use]
    pub fn is_damaging(&self) -> bool {
        self.rots
    }
}
