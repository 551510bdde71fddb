//! What the real client sent (`crates/wire/tests/capture`) goes through both doors and comes back.

use std::fs;
use std::path::Path;

use bytes::{BufMut, BytesMut};
use quorate_message::MessagePosition;
use quorate_wire::openwire::{self, Command, Decoder, Map, Offer};

use super::super::names::is_composite;
use super::properties::seen;
use super::{published, received};

/// Data types of messages.
const MESSAGES: std::ops::RangeInclusive<u8> = 23..=29;

fn frame(line: &str) -> BytesMut {
    let digits = line.as_bytes().chunks(2);
    let bytes: Vec<u8> = digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("a byte in hexadecimal")
        })
        .collect();
    let mut frame = BytesMut::new();
    frame.put_u32(bytes.len().try_into().expect("a short frame"));
    frame.put_slice(&bytes);
    frame
}

/// The messages that the client sent in a dialogue of the newest version.
fn sent(dialogue: &str) -> Vec<openwire::Message> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/vectors");
    let text = fs::read_to_string(folder.join(dialogue)).expect("it is part of the project");
    let offer = Offer::default();
    let format = offer.agree(&offer.info()).expect("one of our own kind");
    let mut messages = Vec::new();
    let mut is_clients = false;
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# ") {
            is_clients = head.contains("client");
            continue;
        }
        let mut frame = frame(line);
        if !is_clients || !MESSAGES.contains(&frame[4]) {
            continue;
        }
        let mut decoder = Decoder::new();
        decoder.agree(format);
        decoder.open();
        match decoder.next(&mut frame) {
            Ok(Some(Command::Message(message))) => messages.push(*message),
            other => panic!("{dialogue}: {other:?}"),
        }
    }
    messages
}

#[test]
fn what_the_real_client_sent_comes_back() {
    for (dialogue, count) in [
        ("bodies.txt", 11),
        ("compressed.txt", 5),
        ("options.txt", 1),
        ("request_reply.txt", 2),
    ] {
        let messages = sent(dialogue);
        assert_eq!(messages.len(), count, "{dialogue}");
        for mut message in messages {
            let publication = published(message.clone());
            let position = match publication.non_persistent {
                true => MessagePosition::transient(1, 1),
                false => MessagePosition::new(1, 1),
            };
            let again = received(&publication.message, position, &message.destination);
            if is_composite(&message.destination) {
                message.original_destination = Some(message.destination.clone());
            }
            assert_eq!(seen(&again), seen(&message), "{dialogue}");
            assert_eq!(again.destination, message.destination);
            let map = message.marshalled_properties.filter(|map| {
                let map = Map::decode(map).expect("the client's own");
                !map.is_empty()
            });
            assert_eq!(again.marshalled_properties, map, "{dialogue}");
        }
    }
}
