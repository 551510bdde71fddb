//! What ActiveMQ's client and broker said to each other, as `capture/` noted it: every frame decodes, encodes to the same
//! bytes, and means what the dialogue was about.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

use std::{fs, path::Path};

use bytes::{BufMut, Bytes, BytesMut};
use quorate_wire::openwire::{
    AckType, Body, Command, Decoder, Destination, Format, Message, MessageKind, Offer, Removed,
    Structure, TransactionId, TransactionOperation, Value, Version, WireFormatInfo, encode,
};
use quorate_wire::{Detection, detect};

/// A frame of a dialogue: whether the client sent it, its bytes without the length.
struct Frame {
    by_client: bool,
    bytes: Vec<u8>,
}

fn hex(line: &str) -> Vec<u8> {
    let digits: Vec<u8> = line.bytes().collect();
    let bytes = digits.chunks(2);
    bytes
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn frames(name: &str) -> Vec<Frame> {
    let file = format!("tests/vectors/{name}.txt");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let mut frames = Vec::new();
    let mut head = "";
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            head = comment;
        } else {
            frames.push(Frame {
                by_client: head.contains("client"),
                bytes: hex(line),
            });
        }
    }
    frames
}

fn framed(bytes: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::new();
    buffer.put_u32(bytes.len().try_into().unwrap());
    buffer.put_slice(bytes);
    buffer
}

/// What both sides of a dialogue keep to: of the versions that they offer the lowest, the latest where the negotiation is
/// left out.
fn agreed(frames: &[Frame]) -> Format {
    let theirs =
        frames.iter().filter_map(
            |frame| match Decoder::new().next(&mut framed(&frame.bytes)) {
                Ok(Some(Command::WireFormatInfo(info))) => Some(info),
                _ => None,
            },
        );
    let formats = theirs.map(|info| Offer::default().agree(&info).unwrap());
    formats
        .min_by_key(|format| format.version)
        .unwrap_or_else(|| Offer::default().agree(&Offer::default().info()).unwrap())
}

/// Decodes a dialogue, checks that every frame encodes to the same bytes, and gives its commands and whether the client
/// sent them.
fn play(name: &str) -> Vec<(bool, Command)> {
    let frames = frames(name);
    let format = agreed(&frames);
    let mut commands = Vec::new();
    for frame in &frames {
        let whole = framed(&frame.bytes);
        let mut decoder = Decoder::new();
        if frame.bytes[0] == WireFormatInfo::DATA_TYPE {
            assert_eq!(detect(&whole), Detection::OpenWire);
        } else {
            decoder.agree(format);
            decoder.open();
        }
        let mut buffer = whole.clone();
        let command = decoder.next(&mut buffer).unwrap().unwrap();
        assert!(buffer.is_empty());
        let mut again = BytesMut::new();
        encode(&command, &format, &mut again).unwrap();
        assert_eq!(again, whole, "{name}: {command:?}");
        commands.push((frame.by_client, command));
    }
    commands
}

/// The kinds of the commands of one side, in order.
fn kinds(commands: &[(bool, Command)], by_client: bool) -> Vec<&'static str> {
    let of_side = commands.iter().filter(|(client, _)| *client == by_client);
    of_side.map(|(_, command)| command.name()).collect()
}

fn dispatched(commands: &[(bool, Command)]) -> Vec<&Message> {
    let dispatches = commands.iter().filter_map(|(_, command)| match command {
        Command::MessageDispatch(dispatch) => dispatch.message.as_deref(),
        _ => None,
    });
    dispatches.collect()
}

fn sent(commands: &[(bool, Command)]) -> Vec<&Message> {
    let messages = commands.iter().filter_map(|(_, command)| match command {
        Command::Message(message) => Some(message.as_ref()),
        _ => None,
    });
    messages.collect()
}

fn acks(commands: &[(bool, Command)]) -> Vec<(AckType, i32)> {
    let acks = commands.iter().filter_map(|(_, command)| match command {
        Command::MessageAck(ack) => Some((ack.ack_type, ack.message_count)),
        _ => None,
    });
    acks.collect()
}

/// The bodies of messages, as far as they are texts.
fn texts(messages: &[&Message]) -> Vec<String> {
    let texts = messages
        .iter()
        .map(|message| match message.body().unwrap() {
            Body::Text(Some(text)) => text,
            other => format!("{other:?}"),
        });
    texts.collect()
}

fn transactions(commands: &[(bool, Command)]) -> Vec<TransactionOperation> {
    let operations = commands.iter().filter_map(|(_, command)| match command {
        Command::TransactionInfo(info) => Some(info.operation),
        _ => None,
    });
    operations.collect()
}

fn exceptions(commands: &[(bool, Command)]) -> Vec<&str> {
    let exceptions = commands.iter().filter_map(|(_, command)| match command {
        Command::ExceptionResponse(response) => Some(response.exception.as_ref()?.class.as_str()),
        _ => None,
    });
    exceptions.collect()
}

#[test]
fn a_connection_is_negotiated_opened_and_closed() {
    let commands = play("connect");
    assert_eq!(
        kinds(&commands, true),
        [
            "WireFormatInfo",
            "ConnectionInfo",
            "ConsumerInfo",
            "SessionInfo",
            "RemoveInfo",
            "RemoveInfo",
            "RemoveInfo",
            "ShutdownInfo"
        ]
    );
    let mut by_broker = kinds(&commands, false);
    by_broker.sort_unstable();
    assert_eq!(
        by_broker,
        [
            "BrokerInfo",
            "ConnectionControl",
            "Response",
            "Response",
            "Response",
            "WireFormatInfo"
        ]
    );
    let Command::WireFormatInfo(info) = &commands[0].1 else {
        panic!("negotiation first");
    };
    assert_eq!(info.version, 12);
    assert_eq!(info.provider_name(), Some("ActiveMQ"));
    assert_eq!(info.host(), Some("127.0.0.1"));
    let format = Offer::default().agree(info).unwrap();
    assert_eq!(format, {
        let ours = Offer::default().info();
        Offer::default().agree(&ours).unwrap()
    });
    let login = commands.iter().find_map(|(_, command)| match command {
        Command::ConnectionInfo(info) => Some(info),
        _ => None,
    });
    let login = login.unwrap();
    assert_eq!(login.user_name.as_deref(), Some("user"));
    assert_eq!(login.password.as_deref(), Some("secret"));
    assert!(login.header.response_required && login.manageable);
}

#[test]
fn every_kind_of_body_is_read() {
    let commands = play("bodies");
    let sent = sent(&commands);
    assert_eq!(sent.len(), 11);
    assert_eq!(sent[0].body(), Ok(Body::Empty));
    assert_eq!(
        texts(&sent[1..4]),
        [
            "text: \0 \u{e9} \u{20ac} \u{1F600}",
            "Text(None)",
            "half a pair: \u{FFFD}"
        ]
    );
    let bytes = Bytes::from_static(b"\0\x05bytes\x3F\xF8\0\0\0\0\0\0");
    assert_eq!(sent[4].body(), Ok(Body::Bytes(bytes)));
    let Ok(Body::Map(map)) = sent[5].body() else {
        panic!("a map");
    };
    assert_eq!(map.len(), 13);
    assert_eq!(map.get("char"), Some(&Value::Char(0x20AC)));
    assert_eq!(map.get("double"), Some(&Value::Double(1e300)));
    let list = vec![
        Value::Int(1),
        Value::Text("two".to_owned()),
        Value::List(vec![Value::Long(3)]),
    ];
    assert_eq!(map.get("list"), Some(&Value::List(list)));
    assert!(matches!(sent[6].body(), Ok(Body::Map(map)) if map.is_empty()));
    assert!(matches!(sent[7].body(), Ok(Body::Stream(values)) if values.len() == 11));
    assert!(
        matches!(sent[8].body(), Ok(Body::Object(Some(object))) if object.starts_with(&[0xAC, 0xED]))
    );
    assert!(matches!(&sent[9].kind, MessageKind::Blob(blob) if blob.mime_type.is_some()));
    assert_eq!(sent[10].body(), Ok(Body::Text(Some(String::new()))));
}

#[test]
fn properties_of_every_kind_are_read() {
    let commands = play("bodies");
    let message = sent(&commands)[0];
    let properties = message.properties().unwrap();
    for (name, value) in [
        ("boolean", Value::Boolean(true)),
        ("byte", Value::Byte(-2)),
        ("short", Value::Short(300)),
        ("int", Value::Int(-70_000)),
        ("long", Value::Long(1 << 40)),
        ("float", Value::Float(1.25)),
        ("double", Value::Double(-2.5)),
        ("text", Value::Text("\u{e9}\0\u{1F600}".to_owned())),
        ("null", Value::Null),
    ] {
        assert_eq!(properties.get(name), Some(&value), "{name}");
    }
    assert_eq!(properties.len(), 9);
    assert_eq!(
        properties.encode().unwrap(),
        message.marshalled_properties.clone().unwrap()
    );
    assert_eq!(message.group_id.as_deref(), Some("group"));
    assert_eq!(message.group_sequence, 3);
    assert_eq!(message.correlation_id.as_deref(), Some("correlation"));
    assert_eq!(message.jms_type.as_deref(), Some("type"));
}

#[test]
fn bodies_are_written_as_the_client_writes_them() {
    for name in ["bodies", "compressed"] {
        let commands = play(name);
        for message in sent(&commands) {
            let mut again = message.clone();
            again.set_body(message.body().unwrap()).unwrap();
            // A surrogate without its partner is the one text that does not come back.
            if texts(&[message])[0].contains('\u{FFFD}') {
                continue;
            }
            assert_eq!(again.content, message.content, "{message:?}");
            assert_eq!(again.kind, message.kind);
        }
    }
}

#[test]
fn compressed_bodies_stay_as_they_are() {
    let commands = play("compressed");
    let sent = sent(&commands);
    let lengths = sent.iter().map(|message| match message.body().unwrap() {
        Body::Compressed(compressed) => {
            assert_eq!(compressed.zlib[0], 0x78, "{message:?}");
            Some(compressed.inflated_length)
        }
        _ => None,
    });
    let lengths: Vec<Option<Option<u32>>> = lengths.collect();
    assert_eq!(
        lengths,
        [Some(None), None, Some(Some(100)), Some(None), Some(None)]
    );
}

#[test]
fn acknowledgements_say_what_the_client_means() {
    let (delivered, standard) = (AckType::Delivered, AckType::Standard);
    assert_eq!(
        acks(&play("acknowledge")),
        [
            (delivered, 1),
            (delivered, 1),
            (standard, 2),
            (delivered, 1),
            (AckType::Individual, 1),
            (delivered, 1),
            (AckType::Individual, 1)
        ]
    );
    assert_eq!(acks(&play("transaction")), [(standard, 1), (standard, 2)]);
    assert_eq!(acks(&play("browser")), [(standard, 1), (standard, 1)]);
}

#[test]
fn a_transaction_is_rolled_back_and_committed() {
    use TransactionOperation::{Begin, CommitOnePhase, Rollback};
    let commands = play("transaction");
    assert_eq!(
        transactions(&commands),
        [
            Begin,
            CommitOnePhase,
            Begin,
            Rollback,
            Begin,
            CommitOnePhase
        ]
    );
    for message in sent(&commands) {
        assert!(matches!(
            message.transaction_id,
            Some(TransactionId::Local(_))
        ));
        assert!(!message.header.response_required);
    }
}

#[test]
fn a_poisoned_message_comes_back_from_the_dead_letters() {
    let commands = play("dead_letter");
    let causes = commands.iter().filter_map(|(_, command)| match command {
        Command::MessageAck(ack) if ack.ack_type == AckType::Poison => ack.poison_cause.as_ref(),
        _ => None,
    });
    let causes: Vec<&str> = causes.map(|cause| cause.class.as_str()).collect();
    assert_eq!(causes, ["java.lang.Throwable"]);
    let dead = dispatched(&commands)[1];
    assert_eq!(dead.destination.name(), "ActiveMQ.DLQ");
    let original = dead.original_destination.as_ref().unwrap();
    assert_eq!(original.name(), "capture.dead");
    let properties = dead.properties().unwrap();
    assert!(matches!(
        properties.get("dlqDeliveryFailureCause"),
        Some(Value::Text(cause)) if cause.starts_with("java.lang.Throwable: Delivery[2] exceeds")
    ));
    assert_eq!(properties.get("originalExpiration"), Some(&Value::Long(0)));
}

/// Rollbacks of the client are its own affair; the broker counts one delivery when the session ends.
#[test]
fn a_message_comes_again_at_the_client_and_then_from_the_broker() {
    let commands = play("redelivery");
    let redeliveries = commands.iter().filter_map(|(_, command)| match command {
        Command::MessageAck(ack) if ack.ack_type == AckType::Redelivered => {
            Some(ack.transaction_id.is_none())
        }
        _ => None,
    });
    assert_eq!(redeliveries.collect::<Vec<_>>(), [true, true, true]);
    let counters = commands.iter().filter_map(|(_, command)| match command {
        Command::MessageDispatch(dispatch) => Some(dispatch.redelivery_counter),
        _ => None,
    });
    assert_eq!(counters.collect::<Vec<_>>(), [0, 0, 1, 0]);
    let first = dispatched(&commands)[0].message_id.broker_sequence_id;
    let ends = commands.iter().filter_map(|(_, command)| match command {
        Command::RemoveInfo(info) => match info.object_id {
            Removed::Session(_) => Some(info.last_delivered_sequence_id),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [first]);
}

#[test]
fn a_message_expires_at_the_client() {
    let commands = play("expiry");
    assert_eq!(acks(&commands), [(AckType::Expired, 1)]);
    assert!(dispatched(&commands)[0].expiration > 0);
}

#[test]
fn a_durable_subscription_has_a_name_and_a_selector() {
    let commands = play("durable");
    let consumers = commands.iter().filter_map(|(_, command)| match command {
        Command::ConsumerInfo(info) => Some((info.subscription_name.as_deref(), info.no_local)),
        _ => None,
    });
    let consumers: Vec<_> = consumers.collect();
    assert_eq!(consumers, [(Some("name"), true), (Some("name"), false)]);
    assert!(kinds(&commands, true).contains(&"RemoveSubscriptionInfo"));
}

#[test]
fn a_reply_goes_to_a_temporary_queue_that_an_advisory_tells_of() {
    let commands = play("request_reply");
    let [request, reply] = sent(&commands)[..] else {
        panic!("request and reply");
    };
    assert!(matches!(request.reply_to, Some(Destination::TempQueue(_))));
    assert_eq!(request.reply_to.as_ref(), Some(&reply.destination));
    assert_eq!(reply.correlation_id, Some(request.message_id.to_string()));
    let told = dispatched(&commands).into_iter().filter_map(|message| {
        match message.data_structure.as_ref()? {
            Structure::Command(command) => match command.as_ref() {
                Command::DestinationInfo(info) => Some((&info.destination, info.operation.code())),
                _ => None,
            },
            _ => None,
        }
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 4);
    assert_eq!(told[0], (&reply.destination, 0));
    assert_eq!(told[1], (&reply.destination, 1));
    assert!(matches!(told[2], (Destination::TempTopic(_), 0)));
}

#[test]
fn a_browser_and_a_pull_end_with_a_dispatch_of_nothing() {
    for (name, with_message) in [
        ("browser", vec![true, true, false]),
        ("pull", vec![false, false, true, true]),
    ] {
        let commands = play(name);
        let dispatches = commands.iter().filter_map(|(_, command)| match command {
            Command::MessageDispatch(dispatch) => {
                assert_eq!(dispatch.destination.is_some(), dispatch.message.is_some());
                Some(dispatch.message.is_some())
            }
            _ => None,
        });
        assert_eq!(dispatches.collect::<Vec<_>>(), with_message, "{name}");
    }
    let commands = play("pull");
    let timeouts = commands.iter().filter_map(|(_, command)| match command {
        Command::MessagePull(pull) => Some(pull.timeout),
        _ => None,
    });
    assert_eq!(timeouts.collect::<Vec<_>>(), [-1, 200, 5000, 0]);
}

#[test]
fn a_distributed_transaction_is_prepared_and_recovered() {
    use TransactionOperation::{
        Begin, CommitOnePhase, CommitTwoPhase, End, Prepare, Recover, Rollback,
    };
    let commands = play("xa");
    assert_eq!(
        transactions(&commands),
        [
            Recover,
            Begin,
            End,
            Prepare,
            Recover,
            CommitTwoPhase,
            Begin,
            End,
            Rollback,
            CommitOnePhase
        ]
    );
    let recovered = commands.iter().filter_map(|(_, command)| match command {
        Command::DataArrayResponse(response) => response.data.as_ref(),
        _ => None,
    });
    let recovered: Vec<_> = recovered.collect();
    assert!(recovered[0].is_empty());
    assert!(matches!(
        &recovered[1][..],
        [Structure::TransactionId(TransactionId::Xa(branch))] if branch.format_id == 7
    ));
    assert_eq!(exceptions(&commands), ["javax.transaction.xa.XAException"]);
}

#[test]
fn refusals_name_a_class_of_java() {
    assert_eq!(
        exceptions(&play("errors")),
        [
            "javax.jms.InvalidDestinationException",
            "javax.jms.InvalidClientIDException"
        ]
    );
}

#[test]
fn a_producers_window_is_given_back_as_it_was_taken() {
    let commands = play("window");
    let given = commands.iter().filter_map(|(_, command)| match command {
        Command::ProducerAck(ack) => Some(ack.size),
        _ => None,
    });
    let taken = sent(&commands);
    let taken = taken.iter().map(|message| message.window_bytes());
    assert_eq!(given.collect::<Vec<_>>(), taken.collect::<Vec<_>>());
}

#[test]
fn options_of_consumers_and_producers_arrive() {
    let commands = play("options");
    let consumers = commands.iter().filter_map(|(_, command)| match command {
        Command::ConsumerInfo(info) => Some(info),
        _ => None,
    });
    let consumers: Vec<_> = consumers.collect();
    assert!(consumers[0].exclusive);
    assert_eq!((consumers[0].priority, consumers[0].prefetch_size), (10, 7));
    assert_eq!(consumers[0].destination.name(), "capture.options.*");
    assert!(consumers[2].retroactive);
    assert_eq!(consumers[2].maximum_pending_message_limit, 9);
    assert_eq!(consumers[3].selector.as_deref(), Some("n > 1"));
    let message = sent(&commands)[0];
    assert!(!message.persistent && message.priority == 9);
    assert_eq!(message.expiration - message.timestamp, 60_000);
    assert_eq!(
        message.destination.name(),
        "capture.options.a,topic://capture.options.b"
    );
}

#[test]
fn both_sides_say_that_they_are_alive() {
    let commands = play("idle");
    let Command::WireFormatInfo(info) = &commands[0].1 else {
        panic!("negotiation first");
    };
    let format = Offer::default().agree(info).unwrap();
    assert_eq!(
        format.inactivity,
        Some(std::time::Duration::from_millis(600))
    );
    for by_client in [true, false] {
        assert!(kinds(&commands, by_client).contains(&"KeepAliveInfo"));
    }
}

#[test]
fn a_client_that_reconnects_repeats_itself() {
    let commands = play("failover");
    let logins = commands.iter().filter_map(|(_, command)| match command {
        Command::ConnectionInfo(info) => Some((&info.connection_id, info.failover_reconnect)),
        _ => None,
    });
    let logins: Vec<_> = logins.collect();
    assert_eq!(logins.len(), 2);
    assert_eq!(logins[0].0, logins[1].0);
    assert_eq!((logins[0].1, logins[1].1), (false, true));
}

#[test]
fn the_oldest_version_is_spoken() {
    assert_eq!(agreed(&frames("version_1")).version, Version::OLDEST);
    let commands = play("version_1");
    assert_eq!(texts(&dispatched(&commands)), ["0"]);
    assert_eq!(acks(&commands), [(AckType::Standard, 1)]);
}

#[test]
fn every_captured_frame_is_accounted_for() {
    let mut names = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")).unwrap()
    {
        let path = entry.unwrap().path();
        names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    let dialogues = names.iter().filter(|name| *name != "structures");
    let frames: usize = dialogues.map(|name| play(name).len()).sum();
    assert!(frames > 250, "{frames}");
}
