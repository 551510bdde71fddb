//! Unit tests of frames: what is accepted, and what is refused by which name.

use bytes::{BufMut, BytesMut};

use super::{Decoder, FrameError, encode};
use crate::limits::{LOGIN_BYTES_MAX, NEGOTIATION_BYTES_MAX};
use crate::openwire::{
    BrokerId, BrokerInfo, Command, ConnectionId, DataArrayResponse, DecodeError, EncodeError,
    Fault, Format, KeepAliveInfo, Offer, Response, SessionId, SessionInfo, Structure,
};
use crate::reader::Truncated;

fn format() -> Format {
    Offer::default().agree(&Offer::default().info()).unwrap()
}

fn opened() -> Decoder {
    let mut decoder = Decoder::new();
    decoder.agree(format());
    decoder.open();
    decoder
}

fn frame(bytes: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::new();
    buffer.put_u32(bytes.len().try_into().unwrap());
    buffer.put_slice(bytes);
    buffer
}

/// A frame that has to be refused, and why.
fn check(bytes: &[u8], field: &'static str, fault: Fault) {
    let refused = opened().next(&mut frame(bytes)).unwrap_err();
    let expected = DecodeError { field, fault };
    assert_eq!(refused, FrameError::Decode(expected));
}

fn session() -> Command {
    Command::SessionInfo(SessionInfo {
        header: Default::default(),
        session_id: SessionId {
            connection_id: "c".to_owned(),
            value: 1,
        },
    })
}

#[test]
fn a_session_is_these_bytes() {
    let mut out = BytesMut::new();
    encode(&session(), &format(), &mut out).unwrap();
    let bytes = b"\0\0\0\x14\x04\0\0\0\0\0\x01\x79\x01\0\x01c\0\0\0\0\0\0\0\x01";
    assert_eq!(out, bytes[..]);
}

#[test]
fn frames_come_in_pieces_and_together() {
    let mut bytes = BytesMut::new();
    for command in [Offer::default().info().into(), session(), session()] {
        encode(&command, &format(), &mut bytes).unwrap();
    }
    for piece in 1..bytes.len() {
        let mut decoder = Decoder::new();
        let mut buffer = BytesMut::new();
        let mut names = Vec::new();
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(command) = decoder.next(&mut buffer).unwrap() {
                names.push(command.name());
                decoder.agree(format());
            }
        }
        assert_eq!(names, ["WireFormatInfo", "SessionInfo", "SessionInfo"]);
        assert!(buffer.is_empty());
    }
}

#[test]
fn the_negotiation_comes_first() {
    let mut decoder = Decoder::new();
    let mut buffer = frame(&[10, 0, 0, 0, 0, 0]);
    assert_eq!(
        decoder.next(&mut buffer),
        Err(FrameError::NotNegotiated(10))
    );
    // It is refused as soon as its type is there.
    buffer.truncate(5);
    assert_eq!(
        decoder.next(&mut buffer),
        Err(FrameError::NotNegotiated(10))
    );
}

#[test]
fn a_frame_is_refused_by_its_length_alone() {
    let mut decoder = Decoder::new();
    for bytes_max in [
        NEGOTIATION_BYTES_MAX,
        LOGIN_BYTES_MAX,
        format().frame_bytes_max,
    ] {
        for bytes in [bytes_max + 1, 0xFFFF_FFFF] {
            let mut buffer = BytesMut::new();
            buffer.put_u32(bytes.try_into().unwrap());
            let refused = decoder.next(&mut buffer);
            assert_eq!(refused, Err(FrameError::TooLarge { bytes, bytes_max }));
        }
        let mut buffer = BytesMut::new();
        buffer.put_u32(bytes_max.try_into().unwrap());
        assert_eq!(decoder.next(&mut buffer), Ok(None));
        match bytes_max {
            NEGOTIATION_BYTES_MAX => decoder.agree(format()),
            _ => decoder.open(),
        }
    }
}

#[test]
fn opening_needs_an_agreement() {
    let mut decoder = Decoder::new();
    decoder.open();
    assert_eq!(decoder.frame_bytes_max(), NEGOTIATION_BYTES_MAX);
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(opened().next(&mut frame(&[])), Err(FrameError::Empty));
    check(&[200], "frame", Fault::UnknownType(200));
    check(&[0], "frame", Fault::UnknownType(0));
    check(&[100, 1, 0, 0], "frame", Fault::UnexpectedType(100));
    check(&[10, 0, 0, 0, 0, 0, 9], "frame", Fault::Trailing(1));
    check(
        &[10, 0, 0, 0, 0, 7],
        "Header.response_required",
        Fault::Boolean(7),
    );
    let truncated = Truncated { wanted: 4, left: 2 };
    check(&[10, 0, 0], "Header.command_id", truncated.into());
    let session = [4, 0, 0, 0, 0, 0];
    let of_session = |rest: &[u8]| [&session[..], rest].concat();
    check(&of_session(&[0]), "SessionInfo.session_id", Fault::Null);
    check(
        &of_session(&[1, 120]),
        "SessionInfo.session_id",
        Fault::UnexpectedType(120),
    );
    check(
        &of_session(&[1, 91]),
        "SessionInfo.session_id",
        Fault::UnknownType(91),
    );
    check(
        &of_session(&[1, 121, 0]),
        "SessionId.connection_id",
        Fault::Null,
    );
    // An operation of a transaction.
    check(
        &[7, 0, 0, 0, 0, 0, 0, 0, 8],
        "TransactionInfo.operation",
        Fault::UnknownCode(8),
    );
    // A token of a connection's control.
    let mut control = vec![18];
    control.extend([0; 13]);
    control.extend([1, 0xFF, 0xFF, 0xFF, 0xFF]);
    check(
        &control,
        "ConnectionControl.token",
        Fault::NegativeLength(-1),
    );
    check(b"\x01ActiveMX", "WireFormatInfo.magic", Fault::Magic);
}

/// A broker that knows a broker that knows a broker.
fn nested(depth: u8) -> BrokerInfo {
    BrokerInfo {
        peers: depth.checked_sub(1).map(|depth| vec![nested(depth)]),
        ..Default::default()
    }
}

#[test]
fn structures_are_nested_so_deep_and_no_deeper() {
    let decode = |depth| {
        let mut out = BytesMut::new();
        encode(&Box::new(nested(depth)).into(), &format(), &mut out).unwrap();
        opened().next(&mut out).map(|command| command.is_some())
    };
    assert_eq!(decode(7), Ok(true));
    let too_deep = DecodeError {
        field: "BrokerInfo.peers",
        fault: Fault::TooDeep,
    };
    assert_eq!(decode(8), Err(too_deep.into()));
}

#[test]
fn structures_are_so_many_and_no_more() {
    let many = |count| {
        let broker = Structure::BrokerId(BrokerId {
            value: String::new(),
        });
        Structure::Command(Box::new(Command::DataArrayResponse(DataArrayResponse {
            data: Some(vec![broker; count]),
            ..Default::default()
        })))
    };
    let decode = |counts: [usize; 2]| {
        let command = Command::DataArrayResponse(DataArrayResponse {
            data: Some(counts.map(many).to_vec()),
            ..Default::default()
        });
        let mut out = BytesMut::new();
        encode(&command, &format(), &mut out).unwrap();
        opened().next(&mut out).map(|command| command.is_some())
    };
    // The three responses count too.
    assert_eq!(decode([65_000, 533]), Ok(true));
    let too_many = DecodeError {
        field: "DataArrayResponse.data",
        fault: Fault::TooMany,
    };
    assert_eq!(decode([65_000, 534]), Err(too_many.into()));
}

#[test]
fn what_cannot_be_encoded_leaves_nothing_behind() {
    let mut out = BytesMut::from(&b"before"[..]);
    let long = |bytes| {
        Command::SessionInfo(SessionInfo {
            header: Default::default(),
            session_id: SessionId {
                connection_id: "x".repeat(bytes),
                value: 1,
            },
        })
    };
    let refused = encode(&long(65_536), &format(), &mut out);
    assert_eq!(refused, Err(EncodeError::TextTooLong { bytes: 65_536 }));
    assert_eq!(out, b"before"[..]);
    let small = Format {
        frame_bytes_max: 100,
        ..format()
    };
    let refused = encode(&long(82), &small, &mut out);
    let too_large = EncodeError::TooLarge {
        bytes: 101,
        bytes_max: 100,
    };
    assert_eq!(refused, Err(too_large));
    assert_eq!(out, b"before"[..]);
    encode(&long(81), &small, &mut out).unwrap();
    assert_eq!(out.len(), 6 + 4 + 100);
}

#[test]
fn commands_have_names_and_headers() {
    let alive = Command::from(KeepAliveInfo::default());
    assert_eq!(alive.name(), "KeepAliveInfo");
    assert!(alive.header().is_some());
    assert_eq!(Command::from(Offer::default().info()).header(), None);
    let response = Command::from(Response::default());
    assert_eq!(response.name(), "Response");
    let connection = Structure::from(ConnectionId {
        value: "c".to_owned(),
    });
    assert!(matches!(connection, Structure::ConnectionId(_)));
}
