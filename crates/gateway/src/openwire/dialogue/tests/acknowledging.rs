//! What a client says of the messages that it has.

use super::*;

fn open(prefetch: i32, count: u64) -> (Bench, Vec<MessageId>) {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", prefetch);
    let ids = bench.receive(call, count);
    (bench, ids)
}

#[test]
fn a_standard_acknowledgement_accepts_the_range() {
    let (mut bench, ids) = open(10, 4);
    let effects = bench.acknowledge(1, AckType::Standard, Some(&ids[1]), &ids[2]);
    assert_eq!(settled(&effects), [(Settlement::Accept, vec![2, 3])]);
    assert_eq!(lent(&effects), 2);
    let effects = bench.acknowledge(1, AckType::Standard, None, &ids[3]);
    assert_eq!(settled(&effects), [(Settlement::Accept, vec![1, 4])]);
}

#[test]
fn an_individual_acknowledgement_accepts_one() {
    let (mut bench, ids) = open(10, 3);
    let effects = bench.acknowledge(1, AckType::Individual, None, &ids[1]);
    assert_eq!(settled(&effects), [(Settlement::Accept, vec![2])]);
    assert_eq!(lent(&effects), 1);
}

#[test]
fn poison_is_rejected() {
    let (mut bench, ids) = open(10, 3);
    let effects = bench.acknowledge(1, AckType::Poison, Some(&ids[0]), &ids[1]);
    assert_eq!(settled(&effects), [(Settlement::Reject, vec![1, 2])]);
    assert_eq!(lent(&effects), 2);
}

#[test]
fn what_expired_at_the_client_goes_back_for_the_leader_to_see() {
    let (mut bench, ids) = open(10, 2);
    let effects = bench.acknowledge(1, AckType::Expired, Some(&ids[0]), &ids[0]);
    assert_eq!(settled(&effects), [(Settlement::Return, vec![1])]);
}

#[test]
fn a_report_of_arrival_widens_the_window_and_settles_nothing() {
    let (mut bench, ids) = open(4, 4);
    let effects = bench.acknowledge(1, AckType::Delivered, Some(&ids[0]), &ids[1]);
    assert!(settled(&effects).is_empty());
    assert_eq!(lent(&effects), 2);
    assert_eq!(
        lent(&bench.acknowledge(1, AckType::Delivered, Some(&ids[0]), &ids[1])),
        0
    );
    let effects = bench.acknowledge(1, AckType::Standard, Some(&ids[0]), &ids[2]);
    assert_eq!(settled(&effects), [(Settlement::Accept, vec![1, 2, 3])]);
    assert_eq!(lent(&effects), 1, "two were counted before");
}

#[test]
fn what_the_client_delivers_again_itself_is_its_own_concern() {
    let (mut bench, ids) = open(2, 2);
    assert!(
        bench
            .acknowledge(1, AckType::Redelivered, Some(&ids[0]), &ids[1])
            .is_empty()
    );
    let effects = bench.acknowledge(1, AckType::Standard, Some(&ids[0]), &ids[1]);
    assert_eq!(settled(&effects), [(Settlement::Accept, vec![1, 2])]);
}

#[test]
fn what_is_said_of_unknown_messages_and_consumers_is_ignored() {
    let (mut bench, ids) = open(10, 2);
    let mut stale = ids[0].clone();
    stale.broker_sequence_id -= 1_000_000;
    assert!(
        bench
            .acknowledge(1, AckType::Standard, None, &stale)
            .is_empty()
    );
    assert!(
        bench
            .acknowledge(9, AckType::Standard, None, &ids[0])
            .is_empty()
    );
    bench.acknowledge(1, AckType::Individual, None, &ids[0]);
    assert!(
        bench
            .acknowledge(1, AckType::Individual, None, &ids[0])
            .is_empty(),
        "twice"
    );
}

#[test]
fn an_acknowledgement_that_wants_a_response_gets_one() {
    let (mut bench, ids) = open(10, 1);
    let effects = bench.ask(|header| ack(header, (1, AckType::Standard), (None, &ids[0]), None));
    assert_eq!(response(&effects), None);
}
