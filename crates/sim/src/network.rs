//! The network between hosts: datagrams that may be lost, repeated and reordered, and streams that keep their order or
//! break.
//!
//! Replicas talk in datagrams, since their protocol claims to bear that; sessions and the links to the coordinator are
//! streams, as they are over gRPC. A cut stalls a stream; if it lasts, the stream breaks, on each side by itself. This
//! file decides fates and delays; who schedules them is the cluster.

use std::collections::{BTreeMap, BTreeSet};

use crate::rng::Rng;
use crate::schedule::Moment;

/// Lanes of a stream: two gRPC streams of one connection keep no order between them.
pub const LANES: usize = 2;

/// One machine or process that can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A storage node, counted from 0.
    Node(usize),
    /// A gateway, counted from 0.
    Gateway(usize),
    /// A coordinator, counted from 0.
    Coordinator(usize),
}

/// How bad the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Shortest delay in microseconds.
    pub delay_min: u64,
    /// Longest usual delay.
    pub delay_max: u64,
    /// Of 1,000 datagrams so many are lost.
    pub lost: u64,
    /// Of 1,000 datagrams so many come twice.
    pub repeated: u64,
    /// Of 1,000 datagrams so many take up to `straggle_max` instead.
    pub straggling: u64,
    /// Delay of a straggler.
    pub straggle_max: u64,
}

impl Weather {
    /// A good network.
    pub const CALM: Self = Self {
        delay_min: 20,
        delay_max: 300,
        lost: 0,
        repeated: 0,
        straggling: 0,
        straggle_max: 0,
    };
}

/// What the network did, for the counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounts {
    /// Datagrams that came through.
    pub delivered: u64,
    /// Datagrams lost by chance.
    pub lost: u64,
    /// Datagrams lost because of a cut.
    pub cut: u64,
    /// Datagrams delivered twice.
    pub repeated: u64,
    /// Datagrams that were late enough to be overtaken.
    pub straggled: u64,
    /// Streams that broke because of a cut.
    pub broken: u64,
}

/// One stream between two processes. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamNumber(pub u64);

/// One end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Who opened it.
    Opener,
    /// Who accepted it.
    Accepter,
}

impl Side {
    /// The other end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Opener => Self::Accepter,
            Self::Accepter => Self::Opener,
        }
    }
}

#[derive(Debug)]
struct Stream<P> {
    ends: [Host; 2],
    /// Whether the end still listens.
    open: [bool; 2],
    /// When the newest message to each end arrives on each lane: the next one comes no earlier.
    last: [[Moment; LANES]; 2],
    /// What waits for a cut to heal, by the end that it goes to.
    stalled: [Vec<P>; 2],
}

/// What becomes of a message on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives then.
    Arrives(Moment),
    /// It waits until the cut heals, or is lost with the stream.
    Stalls,
    /// The stream is closed.
    Void,
}

/// All links between hosts. `P` is what streams carry.
#[derive(Debug)]
pub struct Network<P> {
    rng: Rng,
    weather: Weather,
    cuts: BTreeSet<(Host, Host)>,
    streams: BTreeMap<StreamNumber, Stream<P>>,
    opened: u64,
    counts: NetworkCounts,
}

impl<P> Network<P> {
    /// A network without cuts.
    #[must_use]
    pub fn new(rng: Rng, weather: Weather) -> Self {
        Self {
            rng,
            weather,
            cuts: BTreeSet::new(),
            streams: BTreeMap::new(),
            opened: 0,
            counts: NetworkCounts::default(),
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> NetworkCounts {
        self.counts
    }

    /// Changes the weather.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Whether something sent from one host reaches the other.
    #[must_use]
    pub fn is_cut(&self, from: Host, to: Host) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: Host, to: Host) {
        if from != to {
            self.cuts.insert((from, to));
        }
    }

    /// Heals every cut. What had stalled is returned with its stream and the end that it goes to, in order.
    pub fn heal(&mut self) -> Vec<(StreamNumber, Side, P)> {
        self.cuts.clear();
        let mut freed = Vec::new();
        for (number, stream) in &mut self.streams {
            for side in [Side::Opener, Side::Accepter] {
                let stalled = std::mem::take(&mut stream.stalled[side as usize]);
                freed.extend(stalled.into_iter().map(|payload| (*number, side, payload)));
            }
        }
        freed
    }

    /// Delays of the copies of a datagram that arrive; empty if it is lost.
    pub fn datagram(&mut self, from: Host, to: Host) -> Vec<u64> {
        if self.is_cut(from, to) {
            self.counts.cut += 1;
            return Vec::new();
        }
        if self.rng.chance(self.weather.lost, 1_000) {
            self.counts.lost += 1;
            return Vec::new();
        }
        self.counts.delivered += 1;
        let mut delays = vec![self.delay()];
        if self.rng.chance(self.weather.repeated, 1_000) {
            self.counts.repeated += 1;
            let again = self.delay() + self.rng.short(self.weather.straggle_max);
            delays.push(again);
        }
        if self.rng.chance(self.weather.straggling, 1_000) {
            self.counts.straggled += 1;
            delays[0] += self.rng.short(self.weather.straggle_max);
        }
        delays
    }

    /// Opens a stream between two processes that both live; that takes a handshake through both directions.
    pub fn open(&mut self, opener: Host, accepter: Host, now: Moment) -> Option<StreamNumber> {
        if self.is_cut(opener, accepter) || self.is_cut(accepter, opener) {
            return None;
        }
        self.opened += 1;
        let number = StreamNumber(self.opened);
        let stream = Stream {
            ends: [opener, accepter],
            open: [true, true],
            last: [[now; LANES]; 2],
            stalled: [Vec::new(), Vec::new()],
        };
        self.streams.insert(number, stream);
        Some(number)
    }

    /// When a message to this end arrives; order is kept within a lane. If it stalls, hand it over with
    /// [`Network::stall`].
    pub fn send(&mut self, number: StreamNumber, to: Side, lane: usize, now: Moment) -> Fate {
        let delay = self.delay();
        let Some(stream) = self.streams.get_mut(&number) else {
            return Fate::Void;
        };
        if !stream.open[to as usize] || !stream.open[to.other() as usize] {
            return Fate::Void;
        }
        let from = stream.ends[to.other() as usize];
        let is_cut = self.cuts.contains(&(from, stream.ends[to as usize]));
        if is_cut || !stream.stalled[to as usize].is_empty() {
            return Fate::Stalls;
        }
        let last = &mut stream.last[to as usize][lane];
        let arrives = (now + delay).max(*last);
        *last = arrives;
        Fate::Arrives(arrives)
    }

    /// Keeps a message until the cut heals.
    pub fn stall(&mut self, number: StreamNumber, to: Side, payload: P) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.stalled[to as usize].push(payload);
        }
    }

    /// Whether this end listens.
    #[must_use]
    pub fn is_open(&self, number: StreamNumber, side: Side) -> bool {
        let stream = self.streams.get(&number);
        stream.is_some_and(|stream| stream.open[side as usize])
    }

    /// The host at an end.
    #[must_use]
    pub fn host(&self, number: StreamNumber, side: Side) -> Option<Host> {
        self.streams
            .get(&number)
            .map(|stream| stream.ends[side as usize])
    }

    /// Closes one end; a stream that is closed on both is forgotten. True if the end was open.
    pub fn close(&mut self, number: StreamNumber, side: Side) -> bool {
        let Some(stream) = self.streams.get_mut(&number) else {
            return false;
        };
        let was_open = std::mem::replace(&mut stream.open[side as usize], false);
        if !stream.open[side.other() as usize] {
            self.streams.remove(&number);
        }
        was_open
    }

    /// Streams with an open end at a host, with that end.
    #[must_use]
    pub fn streams_of(&self, host: Host) -> Vec<(StreamNumber, Side)> {
        let mut found = Vec::new();
        for (number, stream) in &self.streams {
            for side in [Side::Opener, Side::Accepter] {
                if stream.ends[side as usize] == host && stream.open[side as usize] {
                    found.push((*number, side));
                }
            }
        }
        found
    }

    /// Streams that a cut stalls in at least one direction: they break if it lasts.
    #[must_use]
    pub fn stalled_streams(&self) -> Vec<StreamNumber> {
        let streams = self.streams.iter();
        let stalled = streams.filter(|(_, stream)| {
            let [opener, accepter] = stream.ends;
            self.is_cut(opener, accepter) || self.is_cut(accepter, opener)
        });
        stalled.map(|(number, _)| *number).collect()
    }

    /// Counts a stream that broke because of a cut.
    pub fn count_broken(&mut self) {
        self.counts.broken += 1;
    }

    /// A delay as a message takes it.
    pub fn delay(&mut self) -> u64 {
        self.rng
            .between(self.weather.delay_min, self.weather.delay_max)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate, Host, Network, Side, Weather};
    use crate::rng::Rng;

    const A: Host = Host::Node(0);
    const B: Host = Host::Gateway(0);

    fn network() -> Network<u32> {
        Network::new(Rng::new(1), Weather::CALM)
    }

    #[test]
    fn a_stream_keeps_its_order() {
        let mut network = network();
        let stream = network.open(B, A, 0).unwrap();
        let mut last = 0;
        for now in 0..1_000 {
            let Fate::Arrives(at) = network.send(stream, Side::Accepter, 0, now) else {
                panic!("a good network delivers");
            };
            assert!(at >= last);
            last = at;
        }
    }

    #[test]
    fn a_cut_works_in_one_direction_and_stalls_streams() {
        let mut network = network();
        let stream = network.open(B, A, 0).unwrap();
        network.cut(A, B);
        assert!(network.datagram(A, B).is_empty());
        assert_eq!(network.datagram(B, A).len(), 1);
        assert_eq!(network.send(stream, Side::Opener, 0, 5), Fate::Stalls);
        network.stall(stream, Side::Opener, 7);
        assert!(network.open(B, A, 6).is_none());
        assert_eq!(network.stalled_streams(), [stream]);
        assert_eq!(network.heal(), [(stream, Side::Opener, 7)]);
        assert!(matches!(
            network.send(stream, Side::Opener, 0, 9),
            Fate::Arrives(_)
        ));
    }

    #[test]
    fn a_closed_end_hears_nothing() {
        let mut network = network();
        let stream = network.open(B, A, 0).unwrap();
        assert!(network.close(stream, Side::Accepter));
        assert_eq!(network.send(stream, Side::Accepter, 0, 1), Fate::Void);
        assert!(!network.close(stream, Side::Accepter));
        assert!(network.close(stream, Side::Opener));
        assert!(!network.is_open(stream, Side::Opener));
    }

    #[test]
    fn bad_weather_loses_repeats_and_reorders() {
        let weather = Weather {
            lost: 100,
            repeated: 100,
            straggling: 100,
            straggle_max: 50_000,
            ..Weather::CALM
        };
        let mut network: Network<u32> = Network::new(Rng::new(5), weather);
        for _ in 0..1_000 {
            network.datagram(A, B);
        }
        let counts = network.counts();
        assert!(
            counts.lost > 50 && counts.repeated > 50 && counts.straggled > 50,
            "{counts:?}"
        );
    }
}
