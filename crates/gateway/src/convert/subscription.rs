//! What a client that opens a consumer wants to read: a queue, topics, a subscription of its own or a shared one.

use quorate_message::{
    ConsumerId, Destination, DestinationName, Lifetime, MessagePosition, Pattern, Selector,
    Sharing, Start, Subscription, subscription_key, virtual_topic,
};
use quorate_proto::v1;
use tonic::Status;

/// The destination that a consumer is attached to, and the subscription behind it.
pub(crate) fn source(
    open: &v1::OpenConsumer,
    consumer: ConsumerId,
) -> Result<(Destination, Option<Subscription>), Status> {
    let (kind, name) = open
        .queue
        .split_once("://")
        .unwrap_or(("queue", &open.queue));
    match kind {
        "topic" => subscribed(open, name, consumer).map(|(key, wanted)| (key, Some(wanted))),
        _ if is_subscriber(open) => Err(Status::invalid_argument(format!(
            "consumer of {:?} asks for a subscription; only topics have them, write topic://NAME",
            open.queue
        ))),
        _ => match virtual_topic(name).map(Pattern::new) {
            // Its consumers share what comes in, in each shard.
            Some(Ok(pattern)) if !pattern.is_exact() => {
                let key = key("queue", "", name)?;
                let mut wanted = blank(pattern, Lifetime::Durable, Sharing::Shared);
                wanted.name = name.to_owned();
                Ok((Destination::subscription(key), Some(wanted)))
            }
            _ => super::queue(&open.queue).map(|queue| (Destination::queue(queue), None)),
        },
    }
}

/// The key of a subscription, as clients name it to delete it: that of consumers of a pattern of queues has the pattern's
/// name.
pub(crate) fn key_to_delete(client_id: &str, name: &str) -> Result<DestinationName, Status> {
    let pattern = virtual_topic(name).filter(|_| client_id.is_empty());
    match pattern.map(Pattern::new) {
        Some(Ok(pattern)) if !pattern.is_exact() => key("queue", "", name),
        Some(Ok(_) | Err(_)) | None => named_key(client_id, name),
    }
}

/// The key of a durable or shared subscription, as clients name it.
fn named_key(client_id: &str, name: &str) -> Result<DestinationName, Status> {
    key("named", client_id, name)
}

fn is_subscriber(open: &v1::OpenConsumer) -> bool {
    open.durable
        || open.shared
        || open.retained
        || open.since_ms != 0
        || open.from.is_some()
        || !open.subscription.is_empty()
}

fn subscribed(
    open: &v1::OpenConsumer,
    name: &str,
    consumer: ConsumerId,
) -> Result<(Destination, Subscription), Status> {
    let pattern = Pattern::new(name)
        .map_err(|error| Status::invalid_argument(format!("topic {name:?}: {error}")))?;
    let lifetime = match open.durable {
        true => Lifetime::Durable,
        false => Lifetime::Live,
    };
    let sharing = match open.shared {
        true => Sharing::Shared,
        false => Sharing::Exclusive,
    };
    let key = match (open.durable || open.shared, open.subscription.as_str()) {
        (true, "") => {
            return Err(Status::invalid_argument(
                "a durable or shared subscription needs a name; set `subscription`",
            ));
        }
        (false, "") => key("live", "", &hex(consumer))?,
        (false, _) => {
            return Err(Status::invalid_argument(
                "only a durable or shared subscription has a name; set `durable` or `shared`",
            ));
        }
        (true, named) => {
            if open.client_id.is_empty() && !open.shared {
                return Err(Status::invalid_argument(
                    "a durable subscription belongs to a client; set `client_id`, or `shared`",
                ));
            }
            named_key(&open.client_id, named)?
        }
    };
    let start = match (&open.from, open.since_ms) {
        (None, 0) => Start::Next,
        (None, since_ms) => Start::Time(since_ms),
        (Some(from), 0) if pattern.is_exact() => {
            Start::Position(MessagePosition::from_value(from.value))
        }
        (Some(_), _) => {
            return Err(Status::invalid_argument(
                "`from` names a position of one topic and goes neither with wildcards nor with `since_ms`",
            ));
        }
    };
    let selector = super::terms::selector(&open.selector)?;
    let wanted = Subscription {
        selector: selector
            .map_or_else(String::new, |selector: Selector| selector.text().to_owned()),
        client: open.client_id.clone(),
        name: open.subscription.clone(),
        wants_retained: open.retained,
        start,
        ..blank(pattern, lifetime, sharing)
    };
    wanted
        .check()
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok((Destination::subscription(key), wanted))
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

fn key(scope: &str, client: &str, name: &str) -> Result<DestinationName, Status> {
    subscription_key(scope, client, name)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

fn hex(consumer: ConsumerId) -> String {
    consumer
        .0
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(queue: &str) -> v1::OpenConsumer {
        v1::OpenConsumer {
            queue: queue.to_owned(),
            ..v1::OpenConsumer::default()
        }
    }

    fn read(open: &v1::OpenConsumer) -> Result<(String, Option<Subscription>), String> {
        let read = source(open, ConsumerId([7; 16]));
        read.map(|(at, wanted)| (at.to_string(), wanted))
            .map_err(|status| status.message().to_owned())
    }

    #[test]
    fn each_kind_of_consumer_has_its_place() {
        let (at, wanted) = read(&open("orders")).expect("a queue");
        assert_eq!((at.as_str(), wanted), ("queue://orders", None));
        let (at, wanted) = read(&open("Consumer.A.VirtualTopic.X")).expect("a queue");
        assert_eq!(
            (at.as_str(), wanted),
            ("queue://Consumer.A.VirtualTopic.X", None)
        );
        let (at, wanted) = read(&open("Consumer.A.VirtualTopic.>")).expect("a pattern");
        let wanted = wanted.expect("a subscription");
        assert_eq!(wanted.pattern.as_str(), "VirtualTopic.>");
        let key = key_to_delete("", "Consumer.A.VirtualTopic.>").expect("a key");
        assert_eq!(at, format!("subscription://{key}"), "it can be deleted");
        let key = key_to_delete("", "Consumer.A.VirtualTopic.X").expect("a key");
        assert_eq!(key.as_str(), "named::Consumer.A.VirtualTopic.X");
        assert_eq!(wanted.lifetime, Lifetime::Durable);
        let (at, wanted) = read(&open("topic://prices.*")).expect("a live one");
        assert_eq!(at, format!("subscription://live::{}", "07".repeat(16)));
        assert_eq!(wanted.expect("a subscription").lifetime, Lifetime::Live);
        let durable = v1::OpenConsumer {
            durable: true,
            client_id: "app".to_owned(),
            subscription: "audit".to_owned(),
            ..open("topic://prices")
        };
        let selective = v1::OpenConsumer {
            selector: "region = 'north'".to_owned(),
            ..open("topic://prices.*")
        };
        let (_, wanted) = read(&selective).expect("a live one");
        assert_eq!(wanted.expect("a subscription").selector, selective.selector);
        assert_eq!(
            read(&durable).expect("durable").0,
            "subscription://named:app:audit"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_remedy() {
        let refused = |change: &dyn Fn(&mut v1::OpenConsumer), queue: &str| {
            let mut open = open(queue);
            change(&mut open);
            read(&open).expect_err("refused")
        };
        assert!(refused(&|o| o.durable = true, "orders").contains("topic://NAME"));
        assert!(refused(&|o| o.durable = true, "topic://a").contains("`subscription`"));
        let unnamed = |o: &mut v1::OpenConsumer| {
            o.durable = true;
            o.subscription = "s".to_owned();
        };
        assert!(refused(&unnamed, "topic://a").contains("`client_id`"));
        assert!(refused(&|o| o.subscription = "s".to_owned(), "topic://a").contains("`durable`"));
        assert!(refused(&|_| {}, "topic://>.a").contains('>'));
        assert!(refused(&|_| {}, "orders.>").contains('>'));
        assert!(refused(&|o| o.selector = "a ==".to_owned(), "topic://a").contains("column 4"));
    }
}
