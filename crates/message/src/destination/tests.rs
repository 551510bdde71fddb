//! What is a name and what is not, and where names hash to.

use super::*;

#[track_caller]
fn check_refused(text: &str, expected: DestinationError) {
    assert_eq!(text.parse::<Destination>(), Err(expected));
}

#[test]
fn a_bare_name_is_a_queue() {
    let destination: Destination = "orders.eu".parse().unwrap();
    assert_eq!(destination.kind, DestinationKind::Queue);
    assert_eq!(destination.to_string(), "queue://orders.eu");
}

#[test]
fn what_is_displayed_parses_to_the_same() {
    for text in [
        "queue://orders",
        "topic://a.b",
        "queue://queue://a",
        "queue://ä ö",
    ] {
        let destination: Destination = text.parse().unwrap();
        assert_eq!(destination.to_string(), text);
    }
}

#[test]
fn names_that_break_a_rule_are_refused() {
    check_refused("", DestinationError::Empty);
    check_refused("queue://", DestinationError::Empty);
    check_refused(&"a".repeat(256), DestinationError::TooLong { bytes: 256 });
    check_refused("a\nb", DestinationError::Character { character: '\n' });
    check_refused("a,b", DestinationError::Character { character: ',' });
    check_refused(" a", DestinationError::OuterSpace);
    check_refused("a ", DestinationError::OuterSpace);
    check_refused("a.*.b", DestinationError::Wildcard { element: '*' });
    check_refused("a.>", DestinationError::Wildcard { element: '>' });
    check_refused(
        "temp://a",
        DestinationError::Kind {
            kind: "temp".to_owned(),
        },
    );
    assert!("a".repeat(255).parse::<Destination>().is_ok());
    assert!("a*b.c>".parse::<Destination>().is_ok());
}

#[test]
fn slots_never_change() {
    let slot_of = |name: &str| slot(&DestinationName::new(name).unwrap()).0;
    assert_eq!(
        [slot_of("orders"), slot_of("a"), slot_of("prices.eu")],
        [608, 705, 83]
    );
}

#[test]
fn names_with_one_tag_share_a_slot() {
    let slot_of = |name: &str| slot(&DestinationName::new(name).unwrap());
    assert_eq!(slot_of("a.{eu}.x"), slot_of("b.{eu}"));
    assert_eq!(slot_of("a.{eu}.x"), slot_of("eu"));
    assert_ne!(slot_of("a.{}.x"), slot_of("b.{}.x"));
}

#[test]
fn a_virtual_topic_and_its_queues_share_a_slot() {
    let topic = slot(&DestinationName::new("VirtualTopic.Orders.EU").expect("a name"));
    for queue in [
        "Consumer.A.VirtualTopic.Orders.EU",
        "Consumer.b-2.VirtualTopic.Orders.EU",
    ] {
        let queue = DestinationName::new(queue).expect("a name");
        assert_eq!(slot(&queue), topic);
    }
    assert_eq!(
        virtual_topic("Consumer.A.VirtualTopic.>"),
        Some("VirtualTopic.>")
    );
    for other in [
        "Consumer..VirtualTopic.X",
        "Consumer.A.VirtualTopic.",
        "Consumer.A.B.VirtualTopic.X",
        "VirtualTopic.X",
    ] {
        assert_eq!(virtual_topic(other), None, "{other}");
    }
}

#[test]
fn slots_are_spread() {
    let mut filled = vec![0_u32; usize::from(SLOTS)];
    for number in 0..102_400 {
        let name = DestinationName::new(&format!("queue.{number}")).unwrap();
        filled[usize::from(slot(&name).0)] += 1;
    }
    let (least, most) = (filled.iter().min().unwrap(), filled.iter().max().unwrap());
    assert!(
        *least > 40 && *most < 200,
        "100 expected in each, got {least} to {most}"
    );
}

#[test]
fn names_of_the_cluster_itself_are_known() {
    let is_internal = |name: &str| DestinationName::new(name).unwrap().is_internal();
    assert!(is_internal("quorate.internal.neighbours"));
    for other in [
        "quorate.internal",
        "quorate.internals.x",
        "a.quorate.internal.x",
    ] {
        assert!(!is_internal(other), "{other}");
    }
}
