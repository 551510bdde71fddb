//! What a run does beside the plain queues: a few scenes, drawn from its seed.

use std::collections::BTreeSet;

use quorate_broker::{Selector, Terms};
use quorate_message::{Destination, Lifetime, Pattern, Sharing, Start, Subscription};

use crate::cluster::Cluster;
use crate::cluster::client::{
    Consumer, Deed, Habits, Load, Operator, Producer, Role, Source, Transactor,
};
use crate::cluster::content::name;
use crate::rng::Rng;

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scene {
    /// Topics with live, durable and shared subscriptions, wildcards, virtual topics, composites.
    Topics,
    /// Transactions of one and several shards.
    Transactions,
    /// Delays, times to live, repeats.
    Timed,
    /// Returns, rejects, redelivery delays, dead letters, retries.
    Failing,
    /// Queues that are full.
    Bounded,
    /// Message groups.
    Grouped,
    /// Exclusive consumers.
    Exclusive,
    /// Selectors.
    Selecting,
    /// Priorities of messages and consumers.
    Urgent,
    /// Purges, pauses, moves, copies and browsing.
    Operated,
    /// Non-persistent messages.
    Transient,
    /// A queue that moves from shard to shard.
    Moved,
    /// A topic that does, with its subscriptions.
    MovedTopic,
}

/// Those that are drawn. Operators are asked for by themselves.
const SCENES: [Scene; 10] = [
    Scene::Topics,
    Scene::Transactions,
    Scene::Timed,
    Scene::Failing,
    Scene::Bounded,
    Scene::Grouped,
    Scene::Exclusive,
    Scene::Selecting,
    Scene::Urgent,
    Scene::Transient,
];

/// Where messages go that nothing else is said about.
pub(super) const DEAD: &str = "ActiveMQ.DLQ";

/// The queue that moves.
const ROAMER: &str = "roamer";

/// The topic that moves.
const TOURIST: &str = "tour";

/// What a run's scenes say of its queues.
#[derive(Debug, Default)]
pub(super) struct Scenes {
    /// Queues in whose messages nothing says how often they came before: dead letters, what was moved and retried.
    loose: BTreeSet<&'static str>,
    /// Expired messages of `timed` are dropped.
    pub(super) drops_expired: bool,
    /// Rejected messages of `fail` are dropped.
    pub(super) drops_rejected: bool,
}

impl Scenes {
    pub(super) fn is_loose(&self, queue: &str) -> bool {
        self.loose.contains(queue)
    }

    /// Whether a message of a queue or topic may be at one position and later at another.
    pub(super) fn is_roaming(&self, name: &str) -> bool {
        name == ROAMER || name == TOURIST
    }
}

/// A subscription, or the queue of a virtual topic, as those who publish see it.
#[derive(Clone, Debug)]
pub(super) struct Subscriber {
    /// Names it in the history.
    pub(super) name: String,
    pub(super) pattern: Pattern,
    /// A client was told that it is open, and nothing can have ended it since.
    pub(super) is_open: bool,
    /// How often it ended.
    pub(super) times_made: u64,
}

impl Subscriber {
    pub(super) fn opens(&mut self) {
        self.is_open = true;
    }

    /// It may have ended: what was pending may be gone.
    pub(super) fn ends(&mut self) {
        self.is_open = false;
        self.times_made += 1;
    }

    /// Another one takes its place.
    pub(super) fn begins_anew(&mut self) {
        self.is_open = false;
        self.times_made = 0;
        self.name.push('\'');
    }
}

/// Draws the scenes of a run.
pub(super) fn draw(rng: &mut Rng) -> Vec<Scene> {
    let mut all = SCENES.to_vec();
    rng.shuffle(&mut all);
    let count = rng.index(4).min(2);
    all.truncate(count);
    all.sort_unstable();
    all
}

fn queue(text: &str) -> Destination {
    Destination::queue(name(text))
}

fn subscription(pattern: &str, of: (&str, Lifetime, Sharing)) -> Box<Subscription> {
    let (named, lifetime, sharing) = of;
    Box::new(Subscription {
        pattern: Pattern::new(pattern).expect("the patterns of the workload are valid"),
        selector: String::new(),
        lifetime,
        sharing,
        client: if named.is_empty() {
            String::new()
        } else {
            "app".to_owned()
        },
        name: named.to_owned(),
        owner: [0; 16],
        generation: 0,
        wants_retained: false,
        start: Start::Next,
    })
}

impl Cluster {
    /// Adds the clients of the run's scenes.
    pub(super) fn set_scenes(&mut self) {
        let scenes = self.options.scenes.clone();
        if scenes.is_empty() {
            return;
        }
        self.scenes.loose.extend([DEAD]);
        self.add_consumer(DEAD, Terms::default(), Habits::USUAL);
        let mut deeds = Vec::new();
        for scene in scenes {
            match scene {
                Scene::Topics => self.set_topics(),
                Scene::Transactions => self.set_transactions(),
                Scene::Timed => self.set_timed(),
                Scene::Failing => self.set_failing(&mut deeds),
                Scene::Bounded => self.set_bounded(&mut deeds),
                Scene::Grouped => self.set_plain(
                    "grouped",
                    Load::Grouped,
                    [Terms::default(), Terms::default(), Terms::default()],
                ),
                Scene::Exclusive => self.set_plain("sole", Load::Plain, [sole(), sole(), sole()]),
                Scene::Selecting => self.set_plain(
                    "picky",
                    Load::Picky,
                    [
                        picky("kind = 0"),
                        picky("kind = 1"),
                        picky("kind > 1 OR kind IS NULL"),
                    ],
                ),
                Scene::Urgent => self.set_plain(
                    "urgent",
                    Load::Urgent,
                    [Terms::default(), ranked(), Terms::default()],
                ),
                Scene::Operated => self.set_operated(&mut deeds),
                Scene::Moved => {
                    self.set_plain(
                        ROAMER,
                        Load::Plain,
                        [Terms::default(), Terms::default(), Terms::default()],
                    );
                    deeds.extend([Deed::Relocate(ROAMER), Deed::Pause(ROAMER)]);
                }
                Scene::MovedTopic => {
                    self.set_moving_topic();
                    deeds.push(Deed::Relocate(TOURIST));
                }
                Scene::Transient => self.set_plain(
                    "fleeting",
                    Load::Transient,
                    [Terms::default(), Terms::default(), Terms::default()],
                ),
            }
        }
        self.add_client(Role::Operator(Operator::new(deeds)));
    }

    fn add_producer(&mut self, targets: &[Destination], load: Load, last: u64) {
        let id = self.random_id();
        let number = self.clients.len();
        let producer = Producer::new(id, format!("s{number}"), (load, targets.to_vec()), last);
        self.add_client(Role::Producer(producer));
    }

    fn add_consumer(&mut self, from: &str, terms: Terms, habits: Habits) {
        let id = self.random_id();
        let number = self.clients.len();
        let consumer = Consumer::new(id, format!("c{number}"), Source::Queue(from.to_owned()));
        let prefetch = self.rng.between(2, 12);
        let consumer = consumer
            .with_terms(terms)
            .with_habits(habits)
            .with_prefetch(prefetch);
        self.add_client(Role::Consumer(consumer));
    }

    /// One queue, one producer, consumers on these terms.
    fn set_plain(&mut self, at: &str, load: Load, terms: [Terms; 3]) {
        let last = self.rng.between(20, 60);
        self.add_producer(&[queue(at)], load, last);
        for terms in terms {
            self.add_consumer(at, terms, Habits::USUAL);
        }
    }

    fn set_topics(&mut self) {
        let topic = |text: &str| Destination::topic(name(text));
        let targets = [
            queue("pair"),
            topic("news.a"),
            topic("news.b.c"),
            topic("VirtualTopic.v"),
        ];
        let last = self.rng.between(20, 50);
        self.add_producer(&targets, Load::Topics, last);
        self.add_consumer("pair", Terms::default(), Habits::USUAL);
        let mut kinds = [0, 1, 2, 3, 4];
        self.rng.shuffle(&mut kinds);
        for kind in &kinds[..3] {
            match kind {
                0 => self.subscribe(
                    "news.>",
                    ("audit", Lifetime::Durable, Sharing::Exclusive),
                    1,
                ),
                1 => self.subscribe("news.a", ("work", Lifetime::Durable, Sharing::Shared), 2),
                2 => self.subscribe("news.a", ("", Lifetime::Live, Sharing::Exclusive), 1),
                3 => self.subscribe("news.*", ("", Lifetime::Live, Sharing::Exclusive), 1),
                _ => {
                    let at = self.add_subscriber("virtual", "VirtualTopic.v");
                    let id = self.random_id();
                    let source = Source::Queue("Consumer.A.VirtualTopic.v".to_owned());
                    let number = self.clients.len();
                    let consumer =
                        Consumer::new(id, format!("c{number}"), source).with_subscriber(at);
                    self.add_client(Role::Consumer(consumer));
                }
            }
        }
    }

    fn set_moving_topic(&mut self) {
        let last = self.rng.between(20, 60);
        let targets = [Destination::topic(name(TOURIST))];
        self.add_producer(&targets, Load::Plain, last);
        let durable = Lifetime::Durable;
        self.subscribe(TOURIST, ("audit", durable, Sharing::Exclusive), 1);
        self.subscribe(TOURIST, ("work", durable, Sharing::Shared), 2);
        self.subscribe(TOURIST, ("", Lifetime::Live, Sharing::Exclusive), 1);
    }

    fn add_subscriber(&mut self, named: &str, pattern: &str) -> usize {
        self.subscribers.push(Subscriber {
            name: format!("{named}{}", self.subscribers.len()),
            pattern: Pattern::new(pattern).expect("the patterns of the workload are valid"),
            is_open: false,
            times_made: 0,
        });
        self.subscribers.len() - 1
    }

    fn subscribe(&mut self, pattern: &str, of: (&str, Lifetime, Sharing), consumers: usize) {
        let at = self.add_subscriber(of.0, pattern);
        for _ in 0..consumers {
            let id = self.random_id();
            let number = self.clients.len();
            let source = Source::Subscription(subscription(pattern, of));
            let consumer = Consumer::new(id, format!("c{number}"), source).with_subscriber(at);
            self.add_client(Role::Consumer(consumer));
        }
    }

    fn set_transactions(&mut self) {
        let last = self.rng.between(15, 40);
        self.add_producer(&[queue("inbox")], Load::Plain, last);
        let out: Vec<String> = (0..3).map(|number| format!("outbox.{number}")).collect();
        for queue in &out {
            self.add_consumer(queue, Terms::default(), Habits::USUAL);
        }
        for _ in 0..2 {
            let (id, origin) = (self.random_id(), self.random_id());
            let number = self.clients.len();
            let last = self.rng.between(5, 15);
            let transactor = Transactor::new(origin, format!("t{number}"), out.clone(), last);
            let source = Source::Queue("inbox".to_owned());
            let consumer =
                Consumer::new(id, format!("c{number}"), source).with_transactor(transactor);
            self.add_client(Role::Consumer(consumer));
        }
    }

    fn set_timed(&mut self) {
        self.scenes.drops_expired = self.rng.chance(1, 2);
        if self.scenes.drops_expired {
            self.set_rule("timed", "expired", "drop");
        }
        let last = self.rng.between(20, 60);
        self.add_producer(&[queue("timed")], Load::Timed, last);
        self.add_consumer("timed", Terms::default(), Habits::USUAL);
        self.add_producer(&[queue("repeated")], Load::Repeated, 6);
        self.scenes.loose.extend(["repeated"]);
        self.add_consumer("repeated", Terms::default(), Habits::USUAL);
    }

    fn set_failing(&mut self, deeds: &mut Vec<Deed>) {
        self.set_rule("fail", "max_deliveries", "2");
        self.set_rule("fail", "dead_letter_queue", "dead.fail");
        if self.rng.chance(1, 2) {
            self.set_rule("fail", "redelivery_delay_ms", "100");
            self.set_rule("fail", "redelivery_multiplier_percent", "200");
        }
        self.scenes.drops_rejected = self.rng.chance(1, 3);
        if self.scenes.drops_rejected {
            self.set_rule("fail", "rejected", "drop");
        }
        let last = self.rng.between(20, 60);
        self.add_producer(&[queue("fail")], Load::Plain, last);
        self.add_consumer("fail", Terms::default(), Habits::BAD);
        self.add_consumer("fail", Terms::default(), Habits::BAD);
        self.scenes.loose.extend(["dead.fail"]);
        self.add_consumer("dead.fail", Terms::default(), Habits::USUAL);
        deeds.push(Deed::Vary("fail", "max_deliveries", &["2", "3", "5"]));
        if self.rng.chance(1, 2) {
            self.scenes.loose.extend(["fail"]);
            deeds.push(Deed::Retry("dead.fail"));
        }
    }

    fn set_bounded(&mut self, deeds: &mut Vec<Deed>) {
        const POLICIES: [&str; 4] = ["refuse", "drop-head", "dead-letter", "block"];
        let first = POLICIES[self.rng.index(POLICIES.len())];
        self.set_rule("full", "max_messages", "6");
        self.set_rule("full", "on_full", first);
        let last = self.rng.between(20, 60);
        self.add_producer(&[queue("full")], Load::Bounded, last);
        self.add_consumer("full", Terms::default(), Habits::USUAL);
        if self.rng.chance(1, 2) {
            deeds.push(Deed::Vary("full", "on_full", &POLICIES));
        }
        deeds.push(Deed::Vary("full", "max_messages", &["3", "6", "12"]));
    }

    fn set_operated(&mut self, deeds: &mut Vec<Deed>) {
        let last = self.rng.between(30, 80);
        self.add_producer(&[queue("ops")], Load::Plain, last);
        self.scenes.loose.extend(["ops.moved", "ops.copies"]);
        for at in ["ops", "ops.moved", "ops.copies"] {
            self.add_consumer(at, Terms::default(), Habits::USUAL);
        }
        deeds.extend([
            Deed::Pause("ops"),
            Deed::Move("ops", "ops.moved"),
            Deed::Copy("ops", "ops.copies"),
            Deed::Browse("ops"),
        ]);
        if self.rng.chance(1, 3) {
            deeds.push(Deed::Purge("ops"));
        } else if self.rng.chance(1, 2) {
            deeds.push(Deed::Delete("ops"));
        }
    }
}

fn sole() -> Terms {
    Terms {
        is_exclusive: true,
        ..Terms::default()
    }
}

fn ranked() -> Terms {
    Terms {
        priority: 5,
        ..Terms::default()
    }
}

fn picky(selector: &str) -> Terms {
    Terms {
        selector: Selector::parse_optional(selector)
            .expect("the selectors of the workload are valid"),
        ..Terms::default()
    }
}

/// Where messages of a queue may end, beside it: as dead letters, or moved.
pub(super) fn elsewhere(queue: &str) -> &'static [&'static str] {
    match queue {
        "fail" => &["dead.fail", DEAD],
        "ops" => &["ops.moved", DEAD],
        _ => &[DEAD],
    }
}
