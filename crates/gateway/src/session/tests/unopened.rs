//! What clients settle before the leader has said what is lost of what they bring.

use super::{
    consuming::{attached, open, settle, settled},
    *,
};

/// What is given back may be another's by now: the leader says so when it attaches the consumer.
#[test]
fn what_a_client_brings_is_settled_when_the_leader_has_said_what_is_lost() {
    for lost in [&[5][..], &[]] {
        let mut bench = Bench::linked();
        open(&mut bench, &[5]);
        let early = settle(&mut bench, Settlement::Return, &[5], 3);
        assert!(commands(&early).is_empty(), "{early:?}");
        let effects = bench.hear(NODE_A, 1, attached(101, lost));
        let sent = commands(&effects).into_iter();
        let sent: Vec<_> = sent
            .filter(|command| matches!(command, Command::Submit { .. }))
            .map(|command| settlements(command).1)
            .collect();
        match lost {
            [] => assert_eq!(sent, [[(position(5), Settlement::Return)]]),
            _ => {
                assert!(sent.is_empty(), "{effects:?}");
                assert_eq!(settled(&effects), [(3, vec![Outcome::UnknownMessage])]);
            }
        }
    }
}

/// By then it may be another consumer's of this gateway.
#[test]
fn what_a_client_that_left_brought_is_settled_when_the_leader_has_said_what_is_lost() {
    for leaves in [
        Input::Dropped { call: CALL },
        Input::Finished { call: CALL },
    ] {
        let mut bench = Bench::linked();
        open(&mut bench, &[5, 6, 7]);
        settle(&mut bench, Settlement::Accept, &[5, 6], 3);
        let effects = bench.step(leaves.clone());
        assert!(commands(&effects).is_empty(), "{effects:?}");
        // It is asked for again like any other.
        let again = bench.wait();
        let [
            Command::Attach {
                generation, held, ..
            },
        ] = commands(&again)[..]
        else {
            panic!("{again:?}");
        };
        assert_eq!(held.len(), 3);
        let generation = generation.0;
        let effects = bench.hear(NODE_A, 1, attached(generation, &[6]));
        assert!(
            !effects
                .iter()
                .any(|effect| matches!(effect, Effect::Opened { .. }))
        );
        let sent = commands(&effects).into_iter();
        let mut sent = sent.filter(|command| matches!(command, Command::Submit { .. }));
        let (number, sent) = settlements(sent.next().unwrap());
        let expected = [
            (position(5), Settlement::Accept),
            (position(7), Settlement::Release),
        ];
        assert_eq!(sent, expected);
        let effects = bench.hear(NODE_A, 1, all(number, Outcome::Applied));
        let last = commands(&effects);
        assert!(matches!(last[..], [Command::Detach { .. }]), "{effects:?}");
        assert_eq!(bench.core.consumers(), 0);
    }
}

/// Nobody answers in time: it is settled all the same, and every later leader knows of it.
#[test]
fn what_was_kept_is_settled_when_the_call_fails() {
    let mut bench = Bench::linked();
    open(&mut bench, &[5]);
    settle(&mut bench, Settlement::Accept, &[5], 3);
    let refused = NodeEvent::AttachRefused {
        consumer: CONSUMER,
        generation: Generation(101),
        reason: "there are too many".into(),
        is_no_subscription: false,
    };
    let effects = bench.hear(NODE_A, 1, refused);
    let sent = commands(&effects).into_iter();
    let mut sent = sent.filter(|command| matches!(command, Command::Submit { .. }));
    let (_, sent) = settlements(sent.next().unwrap());
    assert_eq!(sent, [(position(5), Settlement::Accept)]);
}
