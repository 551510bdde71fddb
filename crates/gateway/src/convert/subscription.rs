//! What a client that opens a consumer wants to read, out of the generated types.

use quorate_message::{ConsumerId, Destination, DestinationName, Start, Subscription};
use quorate_proto::v1;
use tonic::Status;

use crate::source::{self, FROM_ALONE, Wanted};

/// The destination that a consumer is attached to, and the subscription behind it.
pub(crate) fn source(
    open: &v1::OpenConsumer,
    consumer: ConsumerId,
) -> Result<(Destination, Option<Subscription>), Status> {
    let start = match (&open.from, open.since_ms) {
        (None, 0) => Start::Next,
        (None, since_ms) => Start::Time(since_ms),
        (Some(from), 0) => source::from_position(from.value),
        (Some(_), _) => return Err(Status::invalid_argument(FROM_ALONE)),
    };
    let wanted = Wanted {
        at: &open.queue,
        client_id: &open.client_id,
        subscription: &open.subscription,
        selector: &open.selector,
        is_durable: open.durable,
        is_shared: open.shared,
        wants_retained: open.retained,
        start,
    };
    source::source(&wanted, consumer).map_err(Status::invalid_argument)
}

/// The key of a subscription, as clients name it to delete it.
pub(crate) fn key_to_delete(client_id: &str, name: &str) -> Result<DestinationName, Status> {
    source::key_to_delete(client_id, name).map_err(Status::invalid_argument)
}

#[cfg(test)]
mod tests {
    use quorate_message::Lifetime;

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
        assert!(refused(&|_| {}, "topic://quorate.internal.x").contains("the cluster's own"));
        assert!(refused(&|o| o.selector = "a ==".to_owned(), "topic://a").contains("column 4"));
    }
}
