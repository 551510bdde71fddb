//! Scenarios as text: commands behind `>`, what the broker does about them below. `UPDATE=1` rewrites the files.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

#[path = "words/relocations.rs"]
mod relocations;
#[path = "words/transactions.rs"]
mod transactions;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use quorate_broker::{
    Broker, Clock, Credit, Delivery, Effect, Input, Leaving, Limits, Selector, SessionId, Terms,
};
use quorate_message::{
    Batch, BatchBuilder, Command, ConsumerId, Destination, DestinationKind, DestinationName,
    GROUP_PROPERTY, GROUP_SEQUENCE_PROPERTY, GatewayId, Group, Lifetime, Message, MessagePosition,
    MoveReason, Outcome, Pattern, ProducerId, Publication, Schedule, Settings, Settlement, Sharing,
    Start, Subscription, Value,
    settings::{PartialSettings, Rule},
};

/// A broker with its log, told what to do word by word.
struct Stage {
    broker: Broker,
    now: u64,
    entry: u64,
    log: BTreeMap<u64, Batch>,
    proposals: Vec<Batch>,
    fetches: Vec<Vec<MessagePosition>>,
}

fn name(text: &str) -> DestinationName {
    DestinationName::new(text).unwrap()
}

fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("`{text}` is no number"))
}

fn identity(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

fn shown(consumer: ConsumerId) -> String {
    String::from_utf8_lossy(&consumer.0)
        .trim_end_matches('\0')
        .to_owned()
}

/// `orders`, `topic://prices`, `sub:KEY`.
fn destination(text: &str) -> Destination {
    match text.strip_prefix("sub:") {
        Some(key) => Destination::subscription(name(key)),
        None => text.parse().unwrap(),
    }
}

/// `PATTERN WORD..`, the words being `durable`, `shared`, `retained`, `gen=N`, `after=POSITION`, `since=MILLIS`,
/// `selector=TEXT`.
fn subscription(pattern: &str, words: &[&str]) -> Subscription {
    let mut wanted = Subscription {
        pattern: Pattern::new(pattern).unwrap(),
        selector: String::new(),
        lifetime: Lifetime::Live,
        sharing: Sharing::Exclusive,
        client: "client".to_owned(),
        name: String::new(),
        owner: [0; 16],
        generation: 1,
        wants_retained: false,
        start: Start::Next,
    };
    for word in words {
        match word.split_once('=') {
            None if *word == "durable" => wanted.lifetime = Lifetime::Durable,
            None if *word == "shared" => wanted.sharing = Sharing::Shared,
            None if *word == "retained" => wanted.wants_retained = true,
            Some(("gen", value)) => wanted.generation = number(value),
            Some(("since", value)) => wanted.start = Start::Time(number(value)),
            Some(("from", value)) => wanted.start = Start::Position(position(value)),
            Some(("selector", text)) => wanted.selector = text.to_owned(),
            Some(("name", text)) => wanted.name = text.to_owned(),
            _ => panic!("unknown word `{word}`"),
        }
    }
    wanted
}

fn position(text: &str) -> MessagePosition {
    if let Some(count) = text.strip_prefix('t') {
        return MessagePosition::from_value(1 << 63 | number(count));
    }
    let (entry, ordinal) = text.split_once('.').expect("a position is ENTRY.ORDINAL");
    MessagePosition::new(number(entry), ordinal.parse().unwrap())
}

fn positions(words: &[&str]) -> Vec<MessagePosition> {
    words.iter().map(|word| position(word)).collect()
}

fn list(positions: &[MessagePosition]) -> String {
    let words: Vec<String> = positions.iter().map(ToString::to_string).collect();
    words.join(" ")
}

fn limits() -> Limits {
    Limits {
        queues_max: 3,
        outbox_max: 6,
        transient_bytes_max: 500,
        ..Limits::default()
    }
}

impl Stage {
    fn new() -> Self {
        Self {
            broker: Broker::new(limits()),
            now: 0,
            entry: 0,
            log: BTreeMap::new(),
            proposals: Vec::new(),
            fetches: Vec::new(),
        }
    }

    /// Another replica takes over what the frozen leader knows.
    fn move_leader(&mut self, epoch: u64, shown: &mut String) {
        self.tell(Input::Freeze, shown);
        let Some(image) = self.broker.hand_over() else {
            writeln!(shown, "does not know all").unwrap();
            self.tell(Input::Thaw, shown);
            return;
        };
        writeln!(shown, "hands over").unwrap();
        self.broker = Broker::restore(&self.broker.checkpoint()).unwrap();
        self.entry += 1;
        let at = self.entry;
        self.tell(Input::Serving { epoch, at }, shown);
        for end in 0..image.len() {
            let mut broker = self.broker.clone();
            let image = image.slice(..end);
            broker.step(
                Clock::default(),
                Input::HandedOver { image },
                &mut Vec::new(),
            );
            let taken = broker.counters().taken_over;
            assert_eq!(taken, 0, "a part of an image is none");
        }
        self.tell(Input::HandedOver { image }, shown);
        let taken = self.broker.counters().taken_over;
        assert_eq!(taken, 1, "the image is taken");
    }

    #[expect(clippy::too_many_lines, reason = "one arm per command, nothing else")]
    fn run(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        let mut shown = String::new();
        match words[..] {
            ["serve", epoch] => {
                self.entry += 1;
                let (epoch, at) = (number(epoch), self.entry);
                self.tell(Input::Serving { epoch, at }, &mut shown);
            }
            ["freeze"] => self.tell(Input::Freeze, &mut shown),
            ["thaw"] => self.tell(Input::Thaw, &mut shown),
            ["move", epoch] => self.move_leader(number(epoch), &mut shown),
            ["depose"] => self.tell(Input::Deposed, &mut shown),
            ["lease", held] => {
                let held = held == "held";
                self.tell(Input::Lease { held }, &mut shown);
            }
            ["wait", millis] => {
                self.now += number(millis) * 1000;
                self.tell(Input::Elapsed, &mut shown);
            }
            ["publish", queue, producer, ref numbers @ ..] => {
                let mut builder = BatchBuilder::persistent();
                publish(&mut builder, queue, producer, numbers, self.now / 1000);
                self.commit(&mut builder, &mut shown);
            }
            ["schedule", queue, producer, number_text, ref schedule @ ..] => {
                let mut builder = BatchBuilder::persistent();
                let publication = Publication {
                    destination: &destination(queue),
                    producer: ProducerId(identity(producer)),
                    number: number(number_text),
                    priority: 4,
                    expires_at_ms: 0,
                    is_retained: false,
                };
                let message = Message::with_body(format!("{producer}-{number_text}"));
                let mut encoded = BytesMut::new();
                message.encode(&mut encoded).unwrap();
                builder
                    .publish_scheduled(&publication, &schedule_of(schedule), &encoded)
                    .unwrap();
                self.commit(&mut builder, &mut shown);
            }
            ["letter", queue, producer, ref numbers @ ..] => {
                let mut builder = BatchBuilder::persistent();
                publish_messages(&mut builder, queue, producer, numbers);
                self.commit(&mut builder, &mut shown);
            }
            ["transient", queue, producer, ref numbers @ ..] => {
                let mut builder = BatchBuilder::transient();
                publish(&mut builder, queue, producer, numbers, self.now / 1000);
                self.transient(&mut builder, &mut shown);
            }
            [
                "attach",
                consumer,
                generation,
                session,
                queue,
                credit,
                ref held @ ..,
            ] => {
                let input = Input::Attach {
                    session: SessionId(number(session)),
                    consumer: ConsumerId(identity(consumer)),
                    generation: number(generation),
                    queue: destination(queue),
                    credit: credit_of(credit),
                    held: positions(&held_in(held)),
                    terms: terms_in(held),
                    shares_credit: consumer.starts_with("shared"),
                };
                self.tell(input, &mut shown);
            }
            // With properties: NUMBER[@PRIORITY][:NAME=VALUE,...].
            ["send", queue, producer, ref sent @ ..] => {
                let mut builder = BatchBuilder::persistent();
                send(&mut builder, queue, producer, sent);
                self.commit(&mut builder, &mut shown);
            }
            ["transient-send", queue, producer, ref sent @ ..] => {
                let mut builder = BatchBuilder::transient();
                send(&mut builder, queue, producer, sent);
                self.transient(&mut builder, &mut shown);
            }
            ["detach", consumer, generation, session] => {
                let input = Input::Detach {
                    session: SessionId(number(session)),
                    consumer: ConsumerId(identity(consumer)),
                    generation: number(generation),
                };
                self.tell(input, &mut shown);
            }
            ["lost", session] => {
                let session = SessionId(number(session));
                self.tell(Input::SessionLost { session }, &mut shown);
            }
            ["recall", consumer, generation, session] => {
                let input = Input::Recall {
                    session: SessionId(number(session)),
                    consumer: ConsumerId(identity(consumer)),
                    generation: number(generation),
                };
                self.tell(input, &mut shown);
            }
            ["credit", consumer, session, credit] => {
                let input = Input::Credited {
                    session: SessionId(number(session)),
                    consumer: ConsumerId(identity(consumer)),
                    credit: credit_of(credit),
                };
                self.tell(input, &mut shown);
            }
            ["queues", "max", most] => {
                let queues_max = u32::try_from(number(most)).unwrap();
                self.broker = Broker::new(Limits {
                    queues_max,
                    ..limits()
                });
            }
            ["restart"] => self.broker = Broker::restore(&self.broker.checkpoint()).unwrap(),
            [how @ ("retain" | "clear"), topic, producer, number] => {
                let mut builder = BatchBuilder::persistent();
                retain(&mut builder, how == "clear", topic, producer, number);
                self.commit(&mut builder, &mut shown);
            }
            ["subscribe", key, pattern, ref words @ ..] => {
                let mut builder = BatchBuilder::persistent();
                let wanted = subscription(pattern, words);
                builder.subscribe(&name(key), &wanted).unwrap();
                self.commit(&mut builder, &mut shown);
            }
            ["unsubscribe", key, generation] => {
                let mut builder = BatchBuilder::persistent();
                builder.unsubscribe(&name(key), number(generation)).unwrap();
                self.commit(&mut builder, &mut shown);
            }
            // Queues of a virtual topic, `Consumer.FIRST.TOPIC` and so on.
            ["register", first, count, topic] => {
                let mut builder = BatchBuilder::persistent();
                for place in number(first)..number(first) + number(count) {
                    let queue = name(&format!("Consumer.{place}.{topic}"));
                    builder.register(&queue).unwrap();
                }
                self.committed(Batch::parse(builder.finish()).unwrap(), &mut String::new());
            }
            ["register", queue] => {
                let mut builder = BatchBuilder::persistent();
                builder.register(&name(queue)).unwrap();
                self.commit(&mut builder, &mut shown);
            }
            ["live"] => {
                let live: Vec<String> = self
                    .broker
                    .live_entries(0, 1000)
                    .map(|e| e.to_string())
                    .collect();
                writeln!(shown, "entries {}", live.join(" ")).unwrap();
            }
            ["topics"] => self.listed(DestinationKind::Topic, &mut shown),
            ["subscriptions"] => self.listed(DestinationKind::Subscription, &mut shown),
            ["join", session, gateway] => {
                let input = Input::Joined {
                    session: SessionId(number(session)),
                    gateway: GatewayId(identity(gateway)),
                };
                self.tell(input, &mut shown);
            }
            ["report", session] => self.report(session, true, Vec::new(), &mut shown),
            ["leaving", session, consumer, queue, ref leaving @ ..] => {
                let batch = leaving.first().and_then(|word| word.strip_prefix("batch="));
                let leaving = Leaving {
                    consumer: ConsumerId(identity(consumer)),
                    queue: destination(queue),
                    number: batch.map_or(0, number),
                    positions: positions(&leaving[usize::from(batch.is_some())..]),
                };
                self.report(session, false, vec![leaving], &mut shown);
            }
            ["reported", session] => {
                let session = SessionId(number(session));
                self.tell(Input::Reported { session }, &mut shown);
            }
            ["left", session] => {
                let session = SessionId(number(session));
                self.tell(Input::Left { session }, &mut shown);
            }
            [
                "batch",
                gateway,
                count,
                how @ ("accept" | "release" | "return"),
                queue,
                ref settled @ ..,
            ] => {
                let mut builder = BatchBuilder::persistent();
                let gateway = GatewayId(identity(gateway));
                builder.origin(gateway, number(count)).unwrap();
                self.settle_in(builder, (how, queue), &positions(settled), &mut shown);
            }
            [
                how @ ("accept" | "release" | "return" | "reject" | "cancel"),
                queue,
                ref settled @ ..,
            ] => {
                self.settle(how, queue, &positions(settled), &mut shown);
            }
            ["delete", at, ref how @ ..] => {
                let mut builder = BatchBuilder::persistent();
                let with_messages = how == ["with-messages"];
                builder.delete(&destination(at), with_messages).unwrap();
                self.commit(&mut builder, &mut shown);
            }
            ["purge", queue] => {
                let mut builder = BatchBuilder::persistent();
                builder.purge(&name(queue)).unwrap();
                self.commit(&mut builder, &mut shown);
            }
            ["configure", version, ref rules @ ..] => {
                let settings = settings_of(number(version), rules);
                let mut builder = BatchBuilder::persistent();
                builder.configure(&settings).unwrap();
                self.commit(&mut builder, &mut shown);
            }
            [how @ ("pause" | "resume"), queue] => {
                let mut builder = BatchBuilder::persistent();
                builder.pause(&name(queue), how == "pause").unwrap();
                self.commit(&mut builder, &mut shown);
            }
            ["first", queue, producer, ref numbers @ ..] => {
                let mut builder = BatchBuilder::persistent();
                publish(&mut builder, queue, producer, numbers, self.now / 1000);
                builder.mark_first(0);
                self.commit(&mut builder, &mut shown);
            }
            ["room", ref kind @ ..] => {
                let kind = match kind {
                    ["subscriptions"] => DestinationKind::Subscription,
                    _ => DestinationKind::Queue,
                };
                for queue in self.broker.statuses(kind) {
                    let paused = if queue.is_paused { ", paused" } else { "" };
                    writeln!(
                        shown,
                        "{}: {} messages, {} bytes{paused}",
                        queue.name, queue.messages, queue.bytes
                    )
                    .unwrap();
                }
            }
            ["transfer", reason, queue, position_, target] => {
                let mut builder = BatchBuilder::persistent();
                let target = destination(target);
                builder
                    .transfer(
                        &name(queue),
                        position(position_),
                        &target,
                        reason_of(reason),
                    )
                    .unwrap();
                self.commit(&mut builder, &mut shown);
            }
            ["forwarded", target, outcome, ref numbers @ ..] => {
                let outcome = match outcome {
                    "stored" => Outcome::Stored,
                    "duplicate" => Outcome::Duplicate,
                    _ => Outcome::LimitReached,
                };
                let input = Input::Forwarded {
                    target: destination(target),
                    outcomes: numbers.iter().map(|word| (number(word), outcome)).collect(),
                };
                self.tell(input, &mut shown);
            }
            ["unreachable", target] => {
                let target = destination(target);
                self.tell(Input::ForwardRefused { target }, &mut shown);
            }
            ["outbox"] => {
                for target in self.broker.outbox() {
                    let refusal = target
                        .refusal
                        .map_or(String::new(), |why| format!(", {why:?}"));
                    let (to, messages) = (target.target, target.messages);
                    writeln!(
                        shown,
                        "{to}: {messages} since {}{refusal}",
                        target.oldest_ms
                    )
                    .unwrap();
                }
            }
            ["live", first, last] => {
                let entries = self.broker.live_entries(number(first), number(last));
                let entries: Vec<String> = entries.map(|entry| entry.to_string()).collect();
                writeln!(shown, "live entries [{}]", entries.join(" ")).unwrap();
            }
            ["read"] => self.read(false, &mut shown),
            ["fail", "to", "read"] => self.read(true, &mut shown),
            ["commit"] => {
                for batch in std::mem::take(&mut self.proposals) {
                    self.committed(batch, &mut shown);
                }
            }
            ["queues"] => self.queues(&mut shown),
            ["browse", queue] => {
                let found = self.broker.browse(&name(queue), None, 100);
                writeln!(shown, "{}", list(&found)).unwrap();
            }
            _ if self.transaction(&words, &mut shown) => {}
            _ if self.relocation(&words, &mut shown) => {}
            _ => panic!("unknown command `{command}`"),
        }
        quorate_broker::invariant::check(&self.broker).unwrap();
        shown
    }

    fn report(&mut self, session: &str, is_first: bool, leaving: Vec<Leaving>, shown: &mut String) {
        let input = Input::Reporting {
            session: SessionId(number(session)),
            is_first,
            leaving,
        };
        self.tell(input, shown);
    }

    fn settle(&mut self, how: &str, queue: &str, settled: &[MessagePosition], shown: &mut String) {
        let builder = if settled[0].is_transient() {
            BatchBuilder::transient()
        } else {
            BatchBuilder::persistent()
        };
        self.settle_in(builder, (how, queue), settled, shown);
    }

    fn settle_in(
        &mut self,
        mut builder: BatchBuilder,
        (how, queue): (&str, &str),
        settled: &[MessagePosition],
        shown: &mut String,
    ) {
        let settlement = match how {
            "accept" => Settlement::Accept,
            "release" => Settlement::Release,
            "return" => Settlement::Return,
            "cancel" => Settlement::Cancel,
            _ => Settlement::Reject,
        };
        for position in settled {
            let at = destination(queue);
            builder
                .settle_at((at.kind, &at.name), *position, settlement)
                .unwrap();
        }
        if builder.is_transient() {
            self.transient(&mut builder, shown);
        } else {
            self.commit(&mut builder, shown);
        }
    }

    fn commit(&mut self, builder: &mut BatchBuilder, shown: &mut String) {
        self.committed(Batch::parse(builder.finish()).unwrap(), shown);
    }

    fn committed(&mut self, batch: Batch, shown: &mut String) {
        self.entry += 1;
        self.log.insert(self.entry, batch.clone());
        let input = Input::Committed {
            entry: self.entry,
            stamp_ms: self.now / 1000,
            batch,
        };
        self.tell(input, shown);
    }

    fn transient(&mut self, builder: &mut BatchBuilder, shown: &mut String) {
        let input = Input::Transient {
            session: SessionId(1),
            number: 1,
            batch: Batch::parse(builder.finish()).unwrap(),
        };
        self.tell(input, shown);
    }

    fn read(&mut self, fails: bool, shown: &mut String) {
        for positions in std::mem::take(&mut self.fetches) {
            let input = if fails {
                Input::Fetched {
                    messages: Vec::new(),
                    missing: positions,
                }
            } else {
                let read = |at: MessagePosition| self.log[&at.entry()].message(at.ordinal());
                Input::Fetched {
                    messages: positions
                        .iter()
                        .map(|at| (*at, read(*at).unwrap()))
                        .collect(),
                    missing: Vec::new(),
                }
            };
            self.tell(input, shown);
        }
    }

    fn queues(&self, shown: &mut String) {
        self.listed(DestinationKind::Queue, shown);
    }

    fn listed(&self, kind: DestinationKind, shown: &mut String) {
        for queue in self.broker.statuses(kind) {
            writeln!(
                shown,
                "{}: {} messages, {} in flight, {} consumers, {} in all, {} settled, {} in memory",
                queue.name,
                queue.messages,
                queue.in_flight,
                queue.consumers,
                queue.enqueued_total,
                queue.settled_total,
                queue.non_persistent
            )
            .unwrap();
            if queue.scheduled > 0 || queue.expired_total > 0 {
                let (scheduled, expired) = (queue.scheduled, queue.expired_total);
                writeln!(shown, "    {scheduled} scheduled, {expired} expired").unwrap();
            }
        }
    }

    fn tell(&mut self, input: Input, shown: &mut String) {
        let mut effects = Vec::new();
        let now = Clock {
            micros: self.now,
            stamp_ms: self.now / 1000,
        };
        self.broker.step(now, input, &mut effects);
        if let Some(at) = self.broker.next_deadline() {
            assert!(at > self.now, "what is due at {at} is done at {}", self.now);
        }
        for effect in effects {
            self.show(effect, shown);
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm per effect, nothing else")]
    fn show(&mut self, effect: Effect, shown_: &mut String) {
        let line = match effect {
            Effect::Applied {
                entry,
                outcomes,
                removed,
            } => {
                let outcomes: Vec<_> = outcomes.iter().collect();
                let removed = if removed > 0 {
                    format!(", {removed} removed")
                } else {
                    String::new()
                };
                format!("applied {entry}: {outcomes:?}{removed}")
            }
            Effect::TransientApplied { outcomes, .. } => {
                let outcomes: Vec<_> = outcomes.iter().collect();
                format!("in memory: {outcomes:?}")
            }
            Effect::Deliver {
                session,
                consumer,
                generation,
                deliveries,
            } => {
                let mut line = format!("{} g{generation} s{} gets", shown(consumer), session.0);
                for delivery in deliveries {
                    let text = shown_body(&delivery);
                    let again = if delivery.redelivered { " again" } else { "" };
                    let count = delivery.count;
                    write!(line, " [{} {text} x{count}{again}]", delivery.position).unwrap();
                }
                line
            }
            Effect::Attached {
                consumer,
                generation,
                lost,
                ..
            } => format!(
                "{} g{generation} attached, lost [{}]",
                shown(consumer),
                list(&lost)
            ),
            Effect::Waiting { consumer, .. } => format!("messages wait for {}", shown(consumer)),
            Effect::Recalled {
                consumer, credit, ..
            } => format!(
                "{} gives back {}/{}",
                shown(consumer),
                credit.messages,
                credit.bytes
            ),
            Effect::AttachRefused {
                consumer, reason, ..
            } => format!("{} refused: {reason}", shown(consumer)),
            Effect::Fetch { positions } => {
                let line = format!("fetch {}", list(&positions));
                self.fetches.push(positions);
                line
            }
            Effect::Propose { batch } => {
                let batch = Batch::parse(batch).unwrap();
                let line = format!("propose {}", proposed(&batch));
                self.proposals.push(batch);
                line
            }
            Effect::Forward { target, messages } => {
                let mut line = format!("forward to {target}");
                for message in messages {
                    let text = shown_message(&message.message);
                    write!(line, " [#{} p{} {text}]", message.number, message.priority).unwrap();
                }
                line
            }
            Effect::Ask { shard, name, batch } => {
                relocations::show_ask(shard, &name, &Batch::parse(batch).unwrap())
            }
            Effect::Resolve { shard, message } => transactions::show(shard, message),
            Effect::Diverged { entry } => format!("diverged at {entry}"),
        };
        writeln!(shown_, "{line}").unwrap();
    }
}

fn reason_of(text: &str) -> MoveReason {
    let mut reasons = (1..=u8::MAX).map_while(MoveReason::from_code);
    let reason = reasons.find(|reason| reason.to_string() == text);
    reason.unwrap_or_else(|| panic!("`{text}` is no reason"))
}

/// The text of a body, and what a dead letter tells.
fn shown_message(bytes: &Bytes) -> String {
    let Ok(message) = Message::decode(bytes) else {
        return String::from_utf8_lossy(bytes).into_owned();
    };
    let body = String::from_utf8_lossy(&message.body).into_owned();
    let told = message.properties.iter().map(|(name, value)| {
        let name = name.strip_prefix("quorate_dead_letter_").unwrap_or(name);
        match value {
            Value::Text(text) => format!("{name}={text:?}"),
            Value::Int(number) => format!("{name}={number}"),
            Value::Long(number) => format!("{name}={number}"),
            other => format!("{name}={other:?}"),
        }
    });
    std::iter::once(body)
        .chain(told)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Rules as `PATTERN NAME=VALUE ...`, in any number, brought to this version.
fn settings_of(version: u64, words: &[&str]) -> Settings {
    let mut rules: Vec<Rule> = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => {
                let rule = rules.last_mut().expect("a pattern comes first");
                rule.settings.set_text(name, value).unwrap();
            }
            None => rules.push(Rule {
                pattern: word.parse().unwrap(),
                settings: PartialSettings::default(),
            }),
        }
    }
    let settings = Settings::with_rules(version, rules).unwrap();
    assert_eq!(settings.version(), version);
    settings
}

/// What a batch of the broker's own is about.
fn proposed(batch: &Batch) -> String {
    let commands: Vec<Command> = batch.commands().map(|(_, command)| command).collect();
    match commands[..] {
        [Command::GatewayAttached { gateway }] => {
            format!("gateway {} attached", shown(ConsumerId(gateway.0)))
        }
        [Command::GatewayLost { gateway, is_known }] => {
            let known = if is_known { "known" } else { "unknown" };
            let gateway = shown(ConsumerId(gateway.0));
            format!("gateway {gateway} lost, what it held is {known}")
        }
        [
            Command::Skip {
                destination,
                judged_to,
                ..
            },
        ] => {
            let key = &batch.destination(destination).name;
            let skipped = batch.skipped(0).unwrap();
            let runs = |runs: &quorate_message::Runs| {
                let runs = runs.iter().map(|(first, last)| format!("{first}-{last}"));
                runs.collect::<Vec<_>>().join(" ")
            };
            let ranges = runs(&skipped.ranges);
            let late = runs(&skipped.late_skipped);
            let selected = runs(&skipped.late_selected);
            format!(
                "{key} skips [{ranges}] late [{late}], selects late [{selected}], judged to {judged_to}"
            )
        }
        [Command::Tick { until_ms }] => format!("tick to {until_ms}"),
        [Command::Dispatched { destination, upto }] => {
            let queue = &batch.destination(destination).name;
            let upto = MessagePosition::from_value(upto);
            format!("{queue} may be sent up to {upto}")
        }
        _ => format!("{} commands", commands.len()),
    }
}

/// `MESSAGES` or `MESSAGES/BYTES`.
fn credit_of(text: &str) -> Credit {
    let (messages, bytes) = text.split_once('/').unwrap_or((text, "100000"));
    Credit {
        messages: messages.parse().unwrap(),
        bytes: number(bytes),
    }
}

/// `NUMBER`, with `@PRIORITY` and `~TIME_TO_LIVE` behind it. One that expires is a whole message.
fn publish(builder: &mut BatchBuilder, queue: &str, producer: &str, numbers: &[&str], now_ms: u64) {
    for sent in numbers {
        let (sent, time_to_live) = sent.split_once('~').unwrap_or((sent, "0"));
        let (number_text, priority) = sent.split_once('@').unwrap_or((sent, "4"));
        let publication = Publication {
            destination: &destination(queue),
            producer: ProducerId(identity(producer)),
            number: number(number_text),
            priority: priority.parse().unwrap(),
            expires_at_ms: match number(time_to_live) {
                0 => 0,
                time_to_live => now_ms + time_to_live,
            },
            is_retained: false,
        };
        let body = format!("{producer}-{number_text}");
        if publication.expires_at_ms == 0 {
            builder.publish(&publication, body.as_bytes()).unwrap();
        } else {
            let message = Message {
                expires_at_ms: publication.expires_at_ms,
                ..Message::with_body(body)
            };
            builder.publish_message(&publication, &message).unwrap();
        }
    }
}

/// The words of an attachment before its terms.
fn held_in<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let is_position = |word: &&&str| word.starts_with(|c: char| c.is_ascii_digit() || c == 't');
    let held = words.iter().take_while(|word| **word != "where");
    held.filter(is_position).copied().collect()
}

/// `exclusive`, `active`, `priority=N`, `owns=GROUP,...`, and last `where SELECTOR`.
fn terms_in(words: &[&str]) -> Terms {
    let mut terms = Terms::default();
    for (place, word) in words.iter().enumerate() {
        match word.split_once('=') {
            _ if *word == "where" => {
                let text = words[place + 1..].join(" ");
                terms.selector = Some(Selector::parse(&text).unwrap());
                break;
            }
            Some(("priority", priority)) => terms.priority = priority.parse().unwrap(),
            Some(("owns", groups)) => {
                let groups = groups.split(',');
                terms.owned_groups = groups
                    .map(|name| Group { name, sequence: 0 }.id())
                    .collect();
            }
            _ => {
                terms.is_exclusive |= *word == "exclusive";
                terms.was_active |= *word == "active";
            }
        }
    }
    terms
}

fn send(builder: &mut BatchBuilder, queue: &str, producer: &str, sent: &[&str]) {
    for sent in sent {
        let (sent, properties) = sent.split_once(':').unwrap_or((sent, ""));
        let (number_text, priority) = sent.split_once('@').unwrap_or((sent, "4"));
        let priority = priority.parse().unwrap();
        let properties = properties
            .split(',')
            .filter_map(|property| property.split_once('='));
        let publication = Publication {
            destination: &destination(queue),
            producer: ProducerId(identity(producer)),
            number: number(number_text),
            priority,
            expires_at_ms: 0,
            is_retained: false,
        };
        let message = Message {
            priority,
            properties: properties.map(property).collect(),
            ..Message::with_body(format!("{producer}-{number_text}"))
        };
        builder.publish_message(&publication, &message).unwrap();
    }
}

fn property((name, value): (&str, &str)) -> (String, Value) {
    let name = match name {
        "group" => GROUP_PROPERTY,
        "seq" => GROUP_SEQUENCE_PROPERTY,
        other => other,
    };
    let value = value
        .parse()
        .map_or_else(|_| Value::Text(value.to_owned()), Value::Int);
    (name.to_owned(), value)
}

/// The text of a body, and what is said of the group.
fn shown_body(delivery: &Delivery) -> String {
    let body = Message::decode(&delivery.message).map_or_else(
        |_| String::from_utf8_lossy(&delivery.message).into_owned(),
        |message| String::from_utf8_lossy(&message.body).into_owned(),
    );
    match delivery.group {
        None => body,
        Some(mark) if mark.is_first && mark.is_last => format!("{body} first+last"),
        Some(mark) if mark.is_first => format!("{body} first"),
        Some(mark) if mark.is_last => format!("{body} last"),
        Some(_) => body,
    }
}

/// `delay=MS`, `period=MS`, `repeat=N` and `cron=M_H_D_M_W`, in any order.
fn schedule_of(words: &[&str]) -> Schedule {
    let mut schedule = Schedule::default();
    for word in words {
        match word.split_once('=') {
            Some(("delay", millis)) => schedule.delay_ms = number(millis),
            Some(("period", millis)) => schedule.period_ms = number(millis),
            Some(("repeat", times)) => schedule.repeat = times.parse().unwrap(),
            Some(("cron", fields)) => schedule.cron = fields.replace('_', " "),
            _ => panic!("`{word}` is no part of a schedule"),
        }
    }
    schedule
}

/// Whole messages of priority 7 that expire at 5,000.
fn publish_messages(builder: &mut BatchBuilder, queue: &str, producer: &str, numbers: &[&str]) {
    for number_text in numbers {
        let publication = Publication {
            destination: &destination(queue),
            producer: ProducerId(identity(producer)),
            number: number(number_text),
            priority: 7,
            expires_at_ms: 5_000,
            is_retained: false,
        };
        let message = Message {
            priority: 7,
            expires_at_ms: 5_000,
            ..Message::with_body(format!("{producer}-{number_text}"))
        };
        builder.publish_message(&publication, &message).unwrap();
    }
}

/// A retained message; one without a body clears.
fn retain(builder: &mut BatchBuilder, clears: bool, topic: &str, producer: &str, with: &str) {
    let publication = Publication {
        destination: &destination(topic),
        producer: ProducerId(identity(producer)),
        number: number(with),
        priority: 4,
        expires_at_ms: 0,
        is_retained: true,
    };
    let body = format!("{producer}-{with}");
    match clears {
        true => builder.publish_message(&publication, &Message::with_body(Vec::new())),
        false => builder.publish(&publication, body.as_bytes()),
    }
    .unwrap();
}

fn play(script: &str) -> String {
    let mut stage = Stage::new();
    let mut played = String::new();
    for line in script.lines() {
        if line.starts_with('#') || line.is_empty() {
            writeln!(played, "{line}").unwrap();
        } else if let Some(command) = line.strip_prefix("> ") {
            write!(played, "{line}\n{}", stage.run(command)).unwrap();
        }
    }
    played
}

#[test]
fn scenarios_play_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut scenarios: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    scenarios.sort();
    assert!(!scenarios.is_empty());
    for path in scenarios {
        let script = fs::read_to_string(&path).unwrap();
        let played = play(&script);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, played).unwrap();
        } else {
            assert_eq!(played, script, "{}", path.display());
        }
    }
}
