//! Java's modified UTF-8, which is that of OpenWire's texts: NUL takes two bytes, and a character beyond the basic plane
//! is a pair of surrogates of three bytes each.
//!
//! Every Rust text comes back as it went in. The other way a Java text may hold a surrogate without its partner, which no
//! Rust text can: it is read as U+FFFD. To refuse it would cut the connection of a client that then sends it again for
//! ever. Overlong forms and a plain NUL are read as Java reads them; four-byte forms are malformed, as in Java.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Bytes that are not modified UTF-8.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("malformed text at byte {at}")]
pub struct MalformedText {
    /// Where the first malformed character begins.
    pub at: usize,
}

/// Reads a text.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, MalformedText> {
    // Plain UTF-8 without surrogates and four-byte forms is the same in both, and is nearly all there is.
    if let Ok(text) = std::str::from_utf8(bytes)
        && bytes.iter().all(|byte| *byte < 0xF0)
    {
        return Ok(text.to_owned());
    }
    let mut text = String::with_capacity(bytes.len());
    let units = Units { bytes, rest: bytes };
    let mut malformed = None;
    let well_formed = units.map_while(|unit| unit.map_err(|at| malformed = Some(at)).ok());
    for character in char::decode_utf16(well_formed) {
        text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    malformed.map_or(Ok(text), Err)
}

/// The UTF-16 units of encoded bytes.
struct Units<'a> {
    bytes: &'a [u8],
    rest: &'a [u8],
}

impl Iterator for Units<'_> {
    type Item = Result<u16, MalformedText>;

    fn next(&mut self) -> Option<Self::Item> {
        let (unit, rest) = match self.rest {
            [] => return None,
            [a @ 0..=0x7F, rest @ ..] => (u16::from(*a), rest),
            [a @ 0xC0..=0xDF, b @ 0x80..=0xBF, rest @ ..] => {
                (low(*a, 0x1F) << 6 | low(*b, 0x3F), rest)
            }
            [a @ 0xE0..=0xEF, b @ 0x80..=0xBF, c @ 0x80..=0xBF, rest @ ..] => (
                low(*a, 0x0F) << 12 | low(*b, 0x3F) << 6 | low(*c, 0x3F),
                rest,
            ),
            [..] => {
                let at = self.bytes.len().saturating_sub(self.rest.len());
                return Some(Err(MalformedText { at }));
            }
        };
        self.rest = rest;
        Some(Ok(unit))
    }
}

fn low(byte: u8, mask: u8) -> u16 {
    u16::from(byte & mask)
}

/// How many bytes [`encode`] writes for a text.
pub(crate) fn encoded_len(text: &str) -> usize {
    let chars = text.chars().map(|character| match character {
        '\0' => 2_usize,
        '\u{10000}'.. => 6,
        other => other.len_utf8(),
    });
    chars.sum()
}

/// Writes a text, without its length.
pub(crate) fn encode(text: &str, out: &mut BytesMut) {
    if text.bytes().all(|byte| (1..0xF0).contains(&byte)) {
        out.put_slice(text.as_bytes());
        return;
    }
    let mut buffer = [0; 4];
    for character in text.chars() {
        match character {
            '\0' => out.put_slice(&[0xC0, 0x80]),
            '\u{10000}'.. => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    let [high, low] = unit.to_be_bytes();
                    out.put_slice(&[
                        0xE0 | high >> 4,
                        0x80 | (high & 0x0F) << 2 | low >> 6,
                        0x80 | low & 0x3F,
                    ]);
                }
            }
            other => out.put_slice(other.encode_utf8(&mut buffer).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, bytes: &[u8]) {
        let mut out = BytesMut::new();
        encode(text, &mut out);
        assert_eq!(out, bytes, "{text:?}");
        assert_eq!(encoded_len(text), bytes.len());
        assert_eq!(decode(bytes).as_deref(), Ok(text));
    }

    #[test]
    fn texts_come_back_as_they_went_in() {
        check("", b"");
        check("queue://a.b", b"queue://a.b");
        check("a\0b", b"a\xC0\x80b");
        check("é€", b"\xC3\xA9\xE2\x82\xAC");
        check("x\u{1F600}y", b"x\xED\xA0\xBD\xED\xB8\x80y");
        check("\u{FFFF}\u{10000}", b"\xEF\xBF\xBF\xED\xA0\x80\xED\xB0\x80");
    }

    #[test]
    fn a_surrogate_without_its_partner_is_replaced() {
        assert_eq!(decode(b"a\xED\xA0\xBD!").as_deref(), Ok("a\u{FFFD}!"));
        assert_eq!(decode(b"\xED\xB8\x80").as_deref(), Ok("\u{FFFD}"));
    }

    #[test]
    fn what_java_tolerates_is_tolerated() {
        assert_eq!(decode(b"a\0").as_deref(), Ok("a\0"));
        assert_eq!(decode(b"\xC1\x81").as_deref(), Ok("A"));
    }

    #[test]
    fn malformed_bytes_are_named_by_their_place() {
        for (bytes, at) in [
            (&b"ab\x80"[..], 2),
            (b"\xC3", 0),
            (b"a\xE2\x82", 1),
            (b"\xF0\x9F\x98\x80", 0),
            (b"a\xFF", 1),
        ] {
            assert_eq!(decode(bytes), Err(MalformedText { at }), "{bytes:?}");
        }
    }
}
