//! A client comes in.

use quorate_wire::openwire::{KeepAliveInfo, SessionInfo, ShutdownInfo};

use super::*;

#[test]
fn a_client_that_is_let_in_gets_broker_info_its_response_and_the_other_brokers() {
    let mut bench = Bench::fresh();
    let effects = bench.ask(|header| connection(header, CLIENT));
    assert!(matches!(
        &effects[..],
        [Effect::Admit { connection_id, client_id: Some(client), user: Some(_), password: Some(_) }]
            if connection_id == CLIENT && client == "app"
    ));
    assert!(!bench.dialogue.may_read(), "it is being asked");
    let effects = bench.step(Input::Admitted(Ok(())));
    let [Effect::Say(info), Effect::Say(done), Effect::Say(control)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert!(
        matches!(info, Command::BrokerInfo(info) if info.broker_name.as_deref() == Some("mq01"))
    );
    assert!(matches!(done, Command::Response(done) if done.correlation_id.0 == 1));
    let Command::ConnectionControl(control) = control else {
        panic!("{control:?}");
    };
    let brokers = control.connected_brokers.as_deref();
    assert_eq!(brokers, Some("tcp://mq01:61616,tcp://mq02:61616"));
    assert!(!control.close && !control.rebalance_connection);
    assert!(bench.dialogue.may_read());
}

#[test]
fn a_wrong_password_is_a_security_exception_and_the_end() {
    let mut bench = Bench::fresh();
    bench.ask(|header| connection(header, CLIENT));
    let effects = bench.step(Input::Admitted(Err(Refusal::Credentials)));
    assert_eq!(
        response(&effects).as_deref(),
        Some("java.lang.SecurityException")
    );
    assert_eq!(closing(&effects), Some(Closing::Refused));
    assert!(bench.ask(|header| send(header, 1)).is_empty(), "it is over");
}

#[test]
fn a_client_id_in_use_is_refused_by_its_own_exception() {
    let mut bench = Bench::fresh();
    bench.ask(|header| connection(header, CLIENT));
    let holder = "10.0.0.9:40000".to_owned();
    let effects = bench.step(Input::Admitted(Err(Refusal::ClientIdInUse { holder })));
    let class = response(&effects);
    assert_eq!(class.as_deref(), Some("javax.jms.InvalidClientIDException"));
}

#[test]
fn nothing_is_done_for_a_client_that_has_not_said_who_it_is() {
    let mut bench = Bench::fresh();
    let effects = bench.ask(|header| send(header, 1));
    assert_eq!(
        response(&effects).as_deref(),
        Some("java.lang.SecurityException")
    );
    assert_eq!(closing(&effects), Some(Closing::Refused));
    assert!(told(&effects).is_empty());
}

#[test]
fn what_is_said_before_the_client_is_let_in_is_done_afterwards_in_order() {
    let mut bench = Bench::fresh();
    bench.ask(|header| connection(header, CLIENT));
    assert!(bench.ask(|header| producer(header, 1, 0)).is_empty());
    assert!(bench.ask(|header| send(header, 1)).is_empty());
    let effects = bench.step(Input::Admitted(Ok(())));
    let answered: Vec<i32> = responses(&effects).into_iter().map(|(id, _)| id).collect();
    assert_eq!(answered, [1, 2]);
    assert!(matches!(told(&effects)[..], [Told::Publish { .. }]));
}

#[test]
fn a_client_may_say_again_who_it_is_but_not_be_another() {
    let mut bench = Bench::open();
    assert_eq!(
        response(&bench.ask(|header| connection(header, CLIENT))),
        None
    );
    assert!(response(&bench.ask(|header| connection(header, OTHER))).is_some());
}

#[test]
fn a_live_sign_comes_back_only_if_it_wants_to() {
    let mut bench = Bench::open();
    assert!(
        bench
            .say(|header| Command::KeepAliveInfo(KeepAliveInfo { header }))
            .is_empty()
    );
    let effects = bench.ask(|header| Command::KeepAliveInfo(KeepAliveInfo { header }));
    let [Effect::Say(Command::KeepAliveInfo(back))] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert!(!back.header.response_required);
    assert_eq!(back.header.command_id.0, bench.last());
}

#[test]
fn other_brokers_are_told_when_they_change() {
    let mut bench = Bench::open();
    let peers = vec!["tcp://mq03:61616".to_owned()];
    let effects = bench.step(Input::Peers(peers.clone()));
    assert!(matches!(
        &effects[..],
        [Effect::Say(Command::ConnectionControl(control))]
            if control.connected_brokers.as_deref() == Some("tcp://mq03:61616")
    ));
    assert!(bench.step(Input::Peers(peers)).is_empty(), "nothing new");
}

#[test]
fn goodbye_ends_the_connection() {
    let mut bench = Bench::open();
    let effects = bench.say(|header| Command::ShutdownInfo(ShutdownInfo { header }));
    assert_eq!(closing(&effects), Some(Closing::Done));
}

#[test]
fn sessions_are_bounded() {
    let mut bench = Bench::open();
    let mut open = |value| {
        let effects = bench.ask(|header| {
            let session_id = session_id(value);
            Command::SessionInfo(SessionInfo { header, session_id })
        });
        response(&effects)
    };
    for value in 0..crate::limits::SESSIONS_MAX {
        assert_eq!(open(value as i64), None);
    }
    assert_eq!(open(7), None, "it is there");
    assert_eq!(
        open(-1).as_deref(),
        Some("javax.jms.ResourceAllocationException")
    );
}

#[test]
fn ids_of_other_connections_are_refused() {
    let mut bench = Bench::open();
    let foreign = SessionId {
        connection_id: OTHER.to_owned(),
        value: 1,
    };
    let effects = bench.ask(|header| {
        Command::SessionInfo(SessionInfo {
            header,
            session_id: foreign,
        })
    });
    assert!(response(&effects).is_some());
    let effects = bench.ask(|header| {
        let mut message = message(header, 1, queue("orders"));
        message.message_id.producer_id.connection_id = OTHER.to_owned();
        Command::Message(Box::new(message))
    });
    assert!(response(&effects).is_some());
    assert!(
        told(&effects).is_empty(),
        "it would use up another one's numbers"
    );
}
