//! Every command comes back as it went in, in every version, and no bytes make a decoder panic.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

mod properties {
    pub(crate) mod arbitrary;
}

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_wire::openwire::{
    Body, Command, Decoder, Format, FrameError, Map, Message, MessageId, MessageKind, Offer, Value,
    Version, encode,
};
use quorate_wire::{DETECTION_BYTES_MAX, Detection, detect};

use properties::arbitrary::{KINDS, Source};

fn format(version: u8) -> Format {
    let offer = Offer {
        version: Version::new(version).unwrap(),
        ..Offer::default()
    };
    offer.agree(&offer.info()).unwrap()
}

fn decode(buffer: &mut BytesMut, version: u8) -> Result<Option<Command>, FrameError> {
    let mut decoder = Decoder::new();
    decoder.agree(format(version));
    decoder.open();
    decoder.next(buffer)
}

fn encoded(command: &Command, version: u8) -> BytesMut {
    let mut out = BytesMut::new();
    encode(command, &format(version), &mut out).unwrap();
    out
}

/// A command that was accepted means the same after another round.
fn check_stable(command: &Command, version: u8) {
    let bytes = encoded(command, version);
    let again = decode(&mut bytes.clone(), version).unwrap().unwrap();
    // Compared by bytes: a floating point number may be none.
    assert_eq!(encoded(&again, version), bytes, "{command:?}");
}

fn framed(bytes: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::new();
    buffer.put_u32(bytes.len().try_into().unwrap());
    buffer.put_slice(bytes);
    buffer
}

/// How many values a map has, nested ones included.
fn values_of_map(map: &Map) -> usize {
    map.iter().map(|(_, value)| values_of_value(value)).sum()
}

fn values_of_value(value: &Value) -> usize {
    1 + match value {
        Value::Map(map) => values_of_map(map),
        Value::List(list) => list.iter().map(values_of_value).sum(),
        _ => 0,
    }
}

fn values_of(body: &Body) -> usize {
    match body {
        Body::Map(map) => values_of_map(map),
        Body::Stream(values) => values.iter().map(values_of_value).sum(),
        _ => 0,
    }
}

/// Reads whatever of a message is bytes: what comes of it is bounded by them.
fn read_all(command: &Command) {
    let message = match command {
        Command::Message(message) => Some(message),
        Command::MessageDispatch(dispatch) => dispatch.message.as_ref(),
        _ => None,
    };
    let Some(message) = message else {
        return;
    };
    if let Ok(body) = message.body() {
        assert!(values_of(&body) <= message.content.as_ref().map_or(0, Bytes::len));
    }
    if let Ok(properties) = message.properties() {
        let bytes = message.marshalled_properties.as_ref();
        assert!(values_of_map(&properties) <= bytes.map_or(0, Bytes::len));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn commands_come_back_as_they_went_in(
        kind in 0..KINDS,
        seed in vec(any::<u8>(), 0..700),
    ) {
        let command = Source::new(&seed).command(kind);
        let latest = Version::LATEST.number();
        let back = decode(&mut encoded(&command, latest), latest).unwrap();
        prop_assert_eq!(back, Some(command));
    }

    #[test]
    fn commands_keep_what_their_version_has(
        kind in 0..KINDS,
        version in 1..=12_u8,
        seed in vec(any::<u8>(), 0..700),
    ) {
        let command = Source::new(&seed).command(kind);
        let bytes = encoded(&command, version);
        let back = decode(&mut bytes.clone(), version).unwrap().unwrap();
        let mut again = encoded(&back, version);
        prop_assert_eq!(&again, &bytes);
        prop_assert_eq!(decode(&mut again, version).unwrap(), Some(back));
    }

    #[test]
    fn mutated_frames_do_no_harm(
        kind in 0..KINDS,
        version in 1..=12_u8,
        seed in vec(any::<u8>(), 0..700),
        mutations in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = encoded(&Source::new(&seed).command(kind), version).split_off(4);
        for (at, byte) in mutations {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(Some(command)) = decode(&mut framed(&bytes), version) {
            check_stable(&command, version);
            read_all(&command);
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        data_type in 0..128_u8,
        version in 1..=12_u8,
        bytes in vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..300),
    ) {
        let mut frame = vec![data_type];
        frame.extend(&bytes);
        if let Ok(Some(command)) = decode(&mut framed(&frame), version) {
            check_stable(&command, version);
            read_all(&command);
        }
        let bytes = Bytes::from(bytes);
        if let Ok(map) = Map::decode(&bytes) {
            prop_assert!(values_of_map(&map) <= bytes.len());
        }
        for kind in [
            MessageKind::Text,
            MessageKind::Map,
            MessageKind::Stream,
            MessageKind::Bytes,
        ] {
            if let Ok(body) = Body::decode(&kind, Some(&bytes)) {
                prop_assert!(values_of(&body) <= bytes.len());
            }
        }
    }

    #[test]
    fn a_stream_of_bytes_does_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut decoder = Decoder::new();
        while let Ok(Some(_)) = decoder.next(&mut buffer) {}
    }

    #[test]
    fn values_come_back_as_they_went_in(seed in vec(any::<u8>(), 0..500)) {
        let map = Source::new(&seed).map(0);
        let bytes = map.encode().unwrap();
        prop_assert_eq!(Map::decode(&bytes), Ok(map));
    }

    #[test]
    fn bodies_come_back_as_they_went_in(seed in vec(any::<u8>(), 0..500)) {
        let mut source = Source::new(&seed);
        let mut message: Message = source.message();
        let body = source.body();
        message.set_body(body.clone()).unwrap();
        prop_assert_eq!(message.body(), Ok(body));
    }

    #[test]
    fn properties_come_back_as_they_went_in(seed in vec(any::<u8>(), 0..500)) {
        let mut source = Source::new(&seed);
        let mut message = source.message();
        let map = source.map(0);
        message.set_properties(&map).unwrap();
        prop_assert_eq!(message.properties(), Ok(map));
    }

    #[test]
    fn texts_come_back_as_they_went_in(text in any::<String>()) {
        let map = Map::from_iter([(text.clone(), Value::Text(text))]);
        let bytes = map.encode().unwrap();
        prop_assert_eq!(Map::decode(&bytes), Ok(map));
    }

    #[test]
    fn message_ids_come_back_from_their_text(seed in vec(any::<u8>(), 0..100)) {
        let mut id = Source::new(&seed).message_id();
        id.text_view = None;
        id.broker_sequence_id = 0;
        prop_assert_eq!(id.to_string().parse::<MessageId>(), Ok(id));
    }

    #[test]
    fn detection_never_changes_its_mind(bytes in vec(any::<u8>(), 0..40)) {
        let mut previous = Detection::NeedsMore;
        for length in 0..=bytes.len() {
            let detection = detect(&bytes[..length]);
            prop_assert!(previous == Detection::NeedsMore || previous == detection);
            prop_assert!(length < DETECTION_BYTES_MAX || detection != Detection::NeedsMore);
            previous = detection;
        }
    }
}
