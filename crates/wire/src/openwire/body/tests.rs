//! Unit tests of bodies.

use super::*;

fn decode(kind: &MessageKind, content: &'static [u8]) -> Result<Body, BodyError> {
    Body::decode(kind, Some(&Bytes::from_static(content)))
}

#[test]
fn a_text_is_there_or_null() {
    let text = |text: &str| Ok(Body::Text(Some(text.to_owned())));
    assert_eq!(decode(&MessageKind::Text, b"\0\0\0\x02hi"), text("hi"));
    assert_eq!(decode(&MessageKind::Text, b"\0\0\0\0"), text(""));
    assert_eq!(
        decode(&MessageKind::Text, b"\xFF\xFF\xFF\xFF"),
        Ok(Body::Text(None))
    );
    assert_eq!(Body::decode(&MessageKind::Text, None), Ok(Body::Text(None)));
}

#[test]
fn a_text_that_is_none_is_refused() {
    let truncated = Truncated { wanted: 3, left: 2 };
    for (content, error) in [
        (&b"\0\0\0\x03hi"[..], truncated.into()),
        (b"\0\0\0\x01hi", BodyError::Trailing(1)),
        (b"\xFF\xFF\xFF\xFE", BodyError::NegativeLength(-2)),
        (b"\0\0\0\x01\xFF", MalformedText { at: 0 }.into()),
    ] {
        assert_eq!(decode(&MessageKind::Text, content), Err(error));
    }
}

#[test]
fn no_content_is_an_empty_body_of_its_kind() {
    for (kind, body) in [
        (MessageKind::Plain, Body::Empty),
        (MessageKind::Bytes, Body::Bytes(Bytes::new())),
        (MessageKind::Map, Body::Map(Map::new())),
        (MessageKind::Stream, Body::Stream(Vec::new())),
        (MessageKind::Object, Body::Object(None)),
    ] {
        assert_eq!(Body::decode(&kind, None), Ok(body));
    }
}

#[test]
fn bytes_that_were_compressed_say_how_many_they_are() {
    let content = Bytes::from_static(b"\0\0\0\x64\x78\x9C");
    let of_bytes = compressed(&MessageKind::Bytes, &content);
    let expected = Compressed {
        inflated_length: Some(100),
        zlib: Bytes::from_static(b"\x78\x9C"),
    };
    assert_eq!(of_bytes, Ok(Body::Compressed(expected.clone())));
    assert_eq!(expected.content(), Ok(content.clone()));
    let of_map = Compressed {
        inflated_length: None,
        zlib: content.clone(),
    };
    assert_eq!(
        compressed(&MessageKind::Map, &content),
        Ok(Body::Compressed(of_map))
    );
    let negative = Bytes::from_static(b"\xFF\xFF\xFF\xFF");
    assert_eq!(
        compressed(&MessageKind::Bytes, &negative),
        Err(BodyError::NegativeLength(-1))
    );
}
