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

#[test]
fn what_was_kept_is_settled_when_the_client_leaves() {
    for leaves in [
        Input::Dropped { call: CALL },
        Input::Finished { call: CALL },
    ] {
        let mut bench = Bench::linked();
        open(&mut bench, &[5]);
        settle(&mut bench, Settlement::Accept, &[5], 3);
        let effects = bench.step(leaves);
        let sent = commands(&effects).into_iter();
        let sent: Vec<_> = sent
            .filter(|command| matches!(command, Command::Submit { .. }))
            .map(|command| settlements(command).1)
            .collect();
        assert_eq!(sent, [[(position(5), Settlement::Accept)]]);
    }
}
