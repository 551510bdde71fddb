//! What a consumer reads from: a queue, topics, a subscription of its own or a shared one. The same for every protocol;
//! each says in its own words what is wanted, and refuses in its own words what cannot be.

use quorate_message::{
    ConsumerId, Destination, DestinationName, Lifetime, MessagePosition, Pattern, Selector,
    Sharing, Start, Subscription, subscription_key, virtual_topic,
};

use crate::internal;

/// What a consumer wants to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// `queue://NAME`, `topic://NAME` or the bare name of a queue. A topic may be a pattern.
    pub(crate) at: &'a str,
    /// Whose the subscription is.
    pub(crate) client_id: &'a str,
    /// Its name with that client.
    pub(crate) subscription: &'a str,
    /// Which messages; empty: all.
    pub(crate) selector: &'a str,
    /// Whether it stays when its consumer goes.
    pub(crate) is_durable: bool,
    /// Whether it has several consumers.
    pub(crate) is_shared: bool,
    /// Whether it begins with what its topics retain.
    pub(crate) wants_retained: bool,
    /// Where else it begins.
    pub(crate) start: Start,
}

impl<'a> Wanted<'a> {
    /// All that comes from here on.
    pub(crate) fn new(at: &'a str) -> Self {
        Self {
            at,
            client_id: "",
            subscription: "",
            selector: "",
            is_durable: false,
            is_shared: false,
            wants_retained: false,
            start: Start::Next,
        }
    }

    fn is_subscriber(&self) -> bool {
        self.is_durable
            || self.is_shared
            || self.wants_retained
            || self.start != Start::Next
            || !self.subscription.is_empty()
    }
}

/// The destination that a consumer is attached to, and the subscription behind it.
///
/// # Errors
/// Says what is wrong and how to mend it.
pub(crate) fn source(
    wanted: &Wanted<'_>,
    consumer: ConsumerId,
) -> Result<(Destination, Option<Subscription>), String> {
    let (kind, name) = wanted.at.split_once("://").unwrap_or(("queue", wanted.at));
    match kind {
        "topic" => subscribed(wanted, name, consumer).map(|(key, made)| (key, Some(made))),
        _ if wanted.is_subscriber() => Err(format!(
            "consumer of {:?} asks for a subscription; only topics have them, write topic://NAME",
            wanted.at
        )),
        _ => match virtual_topic(name).map(Pattern::new) {
            // Its consumers share what comes in, in each shard.
            Some(Ok(pattern)) if !pattern.is_exact() => {
                let key = key("queue", "", name)?;
                let mut made = blank(pattern, Lifetime::Durable, Sharing::Shared);
                made.name = name.to_owned();
                Ok((Destination::subscription(key), Some(made)))
            }
            _ => queue(wanted.at).map(|queue| (Destination::queue(queue), None)),
        },
    }
}

/// The queue of this name.
pub(crate) fn queue(name: &str) -> Result<DestinationName, String> {
    let destination: Destination = name
        .parse()
        .map_err(|error| format!("destination {name:?}: {error}"))?;
    match destination.kind {
        quorate_message::DestinationKind::Queue => Ok(destination.name),
        quorate_message::DestinationKind::Topic
        | quorate_message::DestinationKind::Subscription => Err(format!(
            "destination {name:?} is a topic; name a queue here"
        )),
    }
}

/// The key of a subscription, as clients name it to delete it: that of consumers of a pattern of queues has the pattern's
/// name.
pub(crate) fn key_to_delete(client_id: &str, name: &str) -> Result<DestinationName, String> {
    let pattern = virtual_topic(name).filter(|_| client_id.is_empty());
    match pattern.map(Pattern::new) {
        Some(Ok(pattern)) if !pattern.is_exact() => key("queue", "", name),
        Some(Ok(_) | Err(_)) | None => named_key(client_id, name),
    }
}

/// The key of a durable or shared subscription, as clients name it.
pub(crate) fn named_key(client_id: &str, name: &str) -> Result<DestinationName, String> {
    key("named", client_id, name)
}

fn subscribed(
    wanted: &Wanted<'_>,
    name: &str,
    consumer: ConsumerId,
) -> Result<(Destination, Subscription), String> {
    let pattern = Pattern::new(name).map_err(|error| format!("topic {name:?}: {error}"))?;
    if let Some(topic) = pattern.as_name() {
        internal::refuse(&Destination::topic(topic))?;
    }
    let lifetime = match wanted.is_durable {
        true => Lifetime::Durable,
        false => Lifetime::Live,
    };
    let sharing = match wanted.is_shared {
        true => Sharing::Shared,
        false => Sharing::Exclusive,
    };
    let key = key_of(wanted, consumer)?;
    if let Start::Position(_) = wanted.start
        && !pattern.is_exact()
    {
        return Err(FROM_ALONE.to_owned());
    }
    let selector = Selector::parse_optional(wanted.selector).map_err(|error| error.to_string())?;
    let made = Subscription {
        selector: selector.map_or_else(String::new, |selector| selector.text().to_owned()),
        client: wanted.client_id.to_owned(),
        name: wanted.subscription.to_owned(),
        wants_retained: wanted.wants_retained,
        start: wanted.start,
        ..blank(pattern, lifetime, sharing)
    };
    made.check().map_err(|error| error.to_string())?;
    Ok((Destination::subscription(key), made))
}

fn key_of(wanted: &Wanted<'_>, consumer: ConsumerId) -> Result<DestinationName, String> {
    match (wanted.is_durable || wanted.is_shared, wanted.subscription) {
        (true, "") => {
            Err("a durable or shared subscription needs a name; set `subscription`".to_owned())
        }
        (false, "") => key("live", "", &consumer.to_string()),
        (false, _) => Err(
            "only a durable or shared subscription has a name; set `durable` or `shared`"
                .to_owned(),
        ),
        (true, _) if wanted.client_id.is_empty() && !wanted.is_shared => Err(
            "a durable subscription belongs to a client; set `client_id`, or `shared`".to_owned(),
        ),
        (true, named) => named_key(wanted.client_id, named),
    }
}

/// Why a position cannot be where a subscription begins.
pub(crate) const FROM_ALONE: &str =
    "`from` names a position of one topic and goes neither with wildcards nor with `since_ms`";

/// What this gateway itself reads a topic with, for as long as its consumer lives.
pub(crate) fn own(topic: &Destination, consumer: ConsumerId) -> (Destination, Subscription) {
    let key = subscription_key("live", "", &consumer.to_string());
    let key = key.expect("the name of a consumer makes a key");
    let pattern = Pattern::exact(&topic.name);
    let subscription = blank(pattern, Lifetime::Live, Sharing::Exclusive);
    (Destination::subscription(key), subscription)
}

fn blank(pattern: Pattern, lifetime: Lifetime, sharing: Sharing) -> Subscription {
    Subscription {
        pattern,
        selector: String::new(),
        lifetime,
        sharing,
        client: String::new(),
        name: String::new(),
        owner: [0; 16],
        generation: 0,
        wants_retained: false,
        start: Start::Next,
    }
}

fn key(scope: &str, client: &str, name: &str) -> Result<DestinationName, String> {
    subscription_key(scope, client, name).map_err(|error| error.to_string())
}

/// Where a subscription begins that starts at a position.
pub(crate) fn from_position(value: u64) -> Start {
    Start::Position(MessagePosition::from_value(value))
}
