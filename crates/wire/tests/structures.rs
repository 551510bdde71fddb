//! Every structure as ActiveMQ's own marshallers of each version write it: decodes in exactly those versions, and encodes
//! to the same bytes.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

use std::{fs, path::Path};

use bytes::{BufMut, BytesMut};
use quorate_wire::openwire::{Command, Decoder, Format, Offer, Version, encode};

struct Golden {
    name: String,
    versions: std::ops::RangeInclusive<u8>,
    bytes: Vec<u8>,
}

fn goldens() -> Vec<Golden> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/structures.txt");
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().skip(3).collect();
    let pairs = lines.chunks(2).map(|pair| {
        let [_, name, first, last] = pair[0].split(' ').collect::<Vec<_>>()[..] else {
            panic!("{}", pair[0]);
        };
        let digits: Vec<u8> = pair[1].bytes().collect();
        let bytes = digits.chunks(2);
        Golden {
            name: name.to_owned(),
            versions: first.parse().unwrap()..=last.parse().unwrap(),
            bytes: bytes
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect(),
        }
    });
    pairs.collect()
}

fn format(version: u8) -> Format {
    let offer = Offer {
        version: Version::new(version).unwrap(),
        ..Offer::default()
    };
    offer.agree(&offer.info()).unwrap()
}

fn decode(bytes: &[u8], version: u8) -> Option<Command> {
    let mut buffer = BytesMut::new();
    buffer.put_u32(bytes.len().try_into().unwrap());
    buffer.put_slice(bytes);
    let mut decoder = Decoder::new();
    decoder.agree(format(version));
    decoder.open();
    decoder.next(&mut buffer).ok().flatten()
}

/// Fields that `Structures.java` leaves out, as they then appear.
const LEFT_OUT: &[&str] = &[
    "peers: None",
    "additional_predicate: None",
    "network_subscription: false",
];

#[test]
fn every_structure_is_read_and_written_as_java_does() {
    let goldens = goldens();
    assert!(goldens.len() > 60);
    for golden in &goldens {
        for version in golden.versions.clone() {
            let command = decode(&golden.bytes, version)
                .unwrap_or_else(|| panic!("{} {version}", golden.name));
            let mut again = BytesMut::new();
            encode(&command, &format(version), &mut again).unwrap();
            assert_eq!(again[4..], golden.bytes, "{} {version}", golden.name);
        }
    }
}

#[test]
fn the_latest_version_leaves_no_field_unread() {
    let goldens = goldens();
    let latest = goldens
        .iter()
        .filter(|golden| *golden.versions.end() == Version::LATEST.number());
    for golden in latest {
        let command = decode(&golden.bytes, Version::LATEST.number()).unwrap();
        let mut text = format!("{command:?}");
        if !matches!(command, Command::DataResponse(_)) || golden.name == "DataResponse" {
            assert!(text.contains("response_required: true"), "{text}");
        }
        for field in LEFT_OUT {
            text = text.replace(field, "");
        }
        let bare = text.replace("response_required: false", "");
        assert!(!bare.contains("None") && !bare.contains("false"), "{text}");
    }
}

/// Structures whose first version is not marked: who agreed on an earlier one does not send them.
const UNMARKED: &[&str] = &["ProducerAck", "MessagePull", "ActiveMQBlobMessage"];

#[test]
fn another_version_does_not_have_the_bytes() {
    let goldens = goldens();
    let whole = goldens.iter().filter(|golden| {
        let unmarked = UNMARKED.contains(&golden.name.as_str());
        *golden.versions.end() > 1 && !unmarked && *golden.versions.start() < 12
    });
    for golden in whole {
        for version in Version::OLDEST.number()..=Version::LATEST.number() {
            let decodes = decode(&golden.bytes, version).is_some();
            let expected = golden.versions.contains(&version);
            assert_eq!(decodes, expected, "{} {version}", golden.name);
        }
    }
}
