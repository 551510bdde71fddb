//! Transactions.

use quorate_wire::openwire::XaTransactionId;

use super::*;
use crate::session::Failure;

fn end(bench: &mut Bench, number: i64, operation: TransactionOperation) -> Vec<Effect> {
    bench.ask(|header| transaction(header, number, operation))
}

fn commit(bench: &mut Bench, number: i64) -> Vec<Effect> {
    end(bench, number, TransactionOperation::CommitOnePhase)
}

fn roll_back(bench: &mut Bench, number: i64) -> Vec<Effect> {
    end(bench, number, TransactionOperation::Rollback)
}

fn send_in(bench: &mut Bench, number: i64, destination: Destination) -> Vec<Effect> {
    bench.say(|header| {
        let mut message = message(header, 1, destination);
        message.transaction_id = Some(transaction_id(number));
        Command::Message(Box::new(message))
    })
}

fn ack_in(bench: &mut Bench, number: i64, kind: AckType, last: &MessageId) -> Vec<Effect> {
    bench.say(|header| ack(header, (1, kind), (None, last), Some(number)))
}

/// Entries that a transaction settles, and how many messages it sends.
fn gathered(effects: &[Effect]) -> (Vec<u64>, usize) {
    let [
        Told::Transact {
            transaction,
            sends,
            settlements,
            ..
        },
    ] = told(effects)[..1]
    else {
        panic!("{effects:?}");
    };
    let connection = ConnectionId {
        value: CLIENT.to_owned(),
    };
    assert_eq!(transaction.origin, translate::origin_id(&connection));
    let settlements = settlements.iter().flat_map(|settlement| {
        assert_eq!(settlement.settlement, Settlement::Accept);
        assert_eq!(
            settlement.consumer,
            Some(translate::consumer_id(&consumer_id(1)))
        );
        settlement
            .positions
            .iter()
            .map(|(_, position)| position.entry())
    });
    (settlements.collect(), sends.len())
}

#[test]
fn sends_and_acknowledgements_happen_with_the_commit() {
    let mut bench = Bench::open();
    let consumer = bench.consume(1, "orders", 10);
    let ids = bench.receive(consumer, 2);
    bench.begin(1);
    let effects = send_in(&mut bench, 1, queue("invoices"));
    let call = begun(&effects).expect("a call");
    assert_eq!(gathered(&effects), (vec![], 1));
    let effects = ack_in(&mut bench, 1, AckType::Standard, &ids[1]);
    assert_eq!(gathered(&effects), (vec![1, 2], 0));
    assert_eq!(
        lent(&effects),
        2,
        "the window widens, or larger transactions would stall"
    );
    let effects = commit(&mut bench, 1);
    assert!(responses(&effects).is_empty());
    assert!(matches!(told(&effects)[..], [Told::Commit { call: of, .. }] if *of == call));
    let effects = bench.answer(Answer::Committed { call });
    assert_eq!(responses(&effects), [(bench.last(), None)]);
    assert_eq!(lent(&effects), 0, "counted before");
    let effects = bench.acknowledge(1, AckType::Standard, None, &ids[1]);
    assert!(settled(&effects).is_empty(), "they are gone");
}

#[test]
fn a_composite_is_several_messages_of_the_transaction() {
    let mut bench = Bench::open();
    bench.begin(1);
    let effects = send_in(&mut bench, 1, queue("a,b,a"));
    assert_eq!(gathered(&effects), (vec![], 2));
}

#[test]
fn a_rollback_leaves_the_messages_with_the_client() {
    let mut bench = Bench::open();
    let consumer = bench.consume(1, "orders", 10);
    let ids = bench.receive(consumer, 2);
    bench.begin(1);
    let call = begun(&ack_in(&mut bench, 1, AckType::Standard, &ids[1])).expect("a call");
    let effects = roll_back(&mut bench, 1);
    assert_eq!(response(&effects), None);
    assert!(matches!(told(&effects)[..], [Told::Dropped { call: of }] if *of == call));
    bench.begin(2);
    let effects = ack_in(&mut bench, 2, AckType::Standard, &ids[1]);
    assert_eq!(gathered(&effects), (vec![1, 2], 0));
}

#[test]
fn what_a_transaction_has_acknowledged_is_not_acknowledged_again() {
    let mut bench = Bench::open();
    let consumer = bench.consume(1, "orders", 10);
    let ids = bench.receive(consumer, 2);
    bench.begin(1);
    ack_in(&mut bench, 1, AckType::Individual, &ids[0]);
    let effects = ack_in(&mut bench, 1, AckType::Standard, &ids[1]);
    assert_eq!(gathered(&effects), (vec![2], 0));
    assert!(ack_in(&mut bench, 1, AckType::Standard, &ids[1]).is_empty());
}

#[test]
fn an_empty_transaction_is_committed_at_once() {
    let mut bench = Bench::open();
    bench.begin(1);
    let effects = commit(&mut bench, 1);
    assert_eq!(response(&effects), None);
    assert!(told(&effects).is_empty());
}

#[test]
fn a_commit_that_was_refused_is_rolled_back() {
    let mut bench = Bench::open();
    let consumer = bench.consume(1, "orders", 10);
    let ids = bench.receive(consumer, 1);
    bench.begin(1);
    let call = begun(&ack_in(&mut bench, 1, AckType::Standard, &ids[0])).expect("a call");
    commit(&mut bench, 1);
    let failure = Failure::NotCommitted {
        shard: SHARD,
        outcome: Outcome::QueueFull,
        cause: None,
    };
    let effects = bench.answer(Answer::Failed { call, failure });
    let class = response(&effects);
    assert_eq!(
        class.as_deref(),
        Some("javax.jms.TransactionRolledBackException")
    );
    let effects = bench.acknowledge(1, AckType::Standard, None, &ids[0]);
    assert_eq!(
        settled(&effects),
        [(Settlement::Accept, vec![1])],
        "it has it still"
    );
}

#[test]
fn a_commit_whose_fate_is_unknown_is_not_called_rolled_back() {
    let mut bench = Bench::open();
    bench.begin(1);
    let call = begun(&send_in(&mut bench, 1, queue("a"))).expect("a call");
    commit(&mut bench, 1);
    let failure = Failure::NotCommitted {
        shard: SHARD,
        outcome: Outcome::InDoubt,
        cause: None,
    };
    let effects = bench.answer(Answer::Failed { call, failure });
    assert_eq!(
        response(&effects).as_deref(),
        Some("javax.jms.JMSException")
    );
}

#[test]
fn a_message_that_cannot_be_sent_fails_the_whole_transaction() {
    let mut bench = Bench::open();
    bench.begin(1);
    let call = begun(&send_in(&mut bench, 1, queue("a"))).expect("a call");
    let effects = send_in(&mut bench, 1, queue("b.>"));
    assert_eq!(errors(&effects).len(), 1);
    let effects = commit(&mut bench, 1);
    let (_, exception) = responses(&effects).remove(0);
    let (class, text) = exception.expect("an exception");
    assert_eq!(class, "javax.jms.TransactionRolledBackException");
    assert!(text.contains("b.>"), "{text}");
    assert!(matches!(told(&effects)[..], [Told::Dropped { call: of }] if *of == call));
}

#[test]
fn a_transaction_that_failed_before_says_so_when_it_is_committed() {
    let mut bench = Bench::open();
    bench.begin(1);
    let call = begun(&send_in(&mut bench, 1, queue("a"))).expect("a call");
    let failure = Failure::TransactionTooLarge;
    let effects = bench.answer(Answer::Failed { call, failure });
    assert!(responses(&effects).is_empty() && errors(&effects).is_empty());
    assert!(told(&send_in(&mut bench, 1, queue("a"))).is_empty());
    let effects = commit(&mut bench, 1);
    let class = response(&effects);
    assert_eq!(
        class.as_deref(),
        Some("javax.jms.TransactionRolledBackException")
    );
}

#[test]
fn what_was_not_begun_is_not_committed() {
    let mut bench = Bench::open();
    let class = response(&commit(&mut bench, 1));
    assert_eq!(
        class.as_deref(),
        Some("javax.jms.TransactionRolledBackException")
    );
    assert_eq!(response(&roll_back(&mut bench, 1)), None);
    assert_eq!(errors(&send_in(&mut bench, 1, queue("a"))).len(), 1);
}

#[test]
fn poison_is_no_part_of_a_transaction() {
    let mut bench = Bench::open();
    let consumer = bench.consume(1, "orders", 10);
    let ids = bench.receive(consumer, 1);
    bench.begin(1);
    let effects = ack_in(&mut bench, 1, AckType::Poison, &ids[0]);
    assert_eq!(errors(&effects).len(), 1);
    assert!(told(&effects).is_empty());
}

#[test]
fn a_distributed_transaction_is_refused_with_its_code_at_the_end() {
    let mut bench = Bench::open();
    let mut about = |operation| {
        let effects = bench.ask(|header| {
            Command::TransactionInfo(TransactionInfo {
                header,
                connection_id: None,
                transaction_id: Some(TransactionId::Xa(XaTransactionId {
                    format_id: 1,
                    global_transaction_id: Bytes::from_static(b"g"),
                    branch_qualifier: Bytes::from_static(b"b"),
                })),
                operation,
            })
        });
        responses(&effects).remove(0).1
    };
    let (class, text) = about(TransactionOperation::Begin).expect("an exception");
    assert_eq!(class, "javax.transaction.xa.XAException");
    assert!(text.ends_with("xaErrorCode:-3"), "{text}");
    assert_eq!(
        about(TransactionOperation::Recover),
        None,
        "none was prepared"
    );
}

#[test]
fn each_attempt_to_commit_has_a_number_of_its_own() {
    let mut bench = Bench::open();
    let nonces: Vec<u64> = (1..=50)
        .map(|number| {
            bench.begin(number);
            send_in(&mut bench, number, queue("a"));
            let effects = commit(&mut bench, number);
            let [Told::Commit { nonce, .. }] = told(&effects)[..] else {
                panic!("{effects:?}");
            };
            *nonce
        })
        .collect();
    let different: BTreeSet<_> = nonces.iter().collect();
    assert_eq!(different.len(), nonces.len());
}
