//! Which protocol a connection speaks, told from the first bytes that the client sends.
//!
//! | protocol | first bytes |
//! |---|---|
//! | OpenWire | length (4 bytes), type 1, `ActiveMQ` |
//! | HTTP/2 (gRPC) | `PRI * HTTP/2.0` CR LF CR LF `SM` CR LF CR LF (RFC 9113, 3.4) |
//! | TLS | a handshake record: 0x16, 0x03 (RFC 8446, 5.1) |
//!
//! OpenWire without length prefixes cannot begin a connection: the prefix is only left out once both sides agreed.

use crate::limits::NEGOTIATION_BYTES_MAX;

/// What the first bytes say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Detection {
    /// All bytes so far are the beginning of a known protocol, but not enough of it to be sure.
    NeedsMore,
    /// OpenWire: [`crate::openwire`].
    OpenWire,
    /// HTTP/2 with prior knowledge, which is gRPC.
    Http2,
    /// A TLS handshake; what is spoken inside is told from its first bytes in turn.
    Tls,
    /// None of these, whatever follows.
    Unknown,
}

/// No protocol needs more bytes than this to be told.
pub const DETECTION_BYTES_MAX: usize = HTTP2.len();

const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const TLS: &[u8] = &[0x16, 0x03];
const OPENWIRE: &[u8] = b"\x01ActiveMQ";
const OPENWIRE_LENGTH_BYTES: usize = 4;

/// How far bytes agree with the beginning of a protocol.
#[derive(Clone, Copy, PartialEq)]
enum Fit {
    Whole,
    Partly,
    Not,
}

/// Tells the protocol from the bytes received so far; to be asked again with more after [`Detection::NeedsMore`].
///
/// ```
/// use quorate_wire::{Detection, detect};
/// assert_eq!(detect(b"PRI * HT"), Detection::NeedsMore);
/// assert_eq!(detect(b"GET / HTTP/1.1\r\n"), Detection::Unknown);
/// ```
#[must_use]
pub fn detect(received: &[u8]) -> Detection {
    let candidates = [
        (openwire(received), Detection::OpenWire),
        (fit(received, HTTP2), Detection::Http2),
        (fit(received, TLS), Detection::Tls),
    ];
    let whole = candidates.iter().find(|(fit, _)| *fit == Fit::Whole);
    if let Some((_, detection)) = whole {
        *detection
    } else if candidates.iter().any(|(fit, _)| *fit == Fit::Partly) {
        Detection::NeedsMore
    } else {
        Detection::Unknown
    }
}

fn fit(received: &[u8], beginning: &[u8]) -> Fit {
    if received.starts_with(beginning) {
        Fit::Whole
    } else if beginning.starts_with(received) {
        Fit::Partly
    } else {
        Fit::Not
    }
}

/// The length is judged too, so that other protocols whose first byte happens to be zero are refused early.
fn openwire(received: &[u8]) -> Fit {
    let Some((length, rest)) = received.split_first_chunk::<OPENWIRE_LENGTH_BYTES>() else {
        let could_be_small = received.iter().take(2).all(|byte| *byte == 0);
        return if could_be_small {
            Fit::Partly
        } else {
            Fit::Not
        };
    };
    let fits = usize::try_from(u32::from_be_bytes(*length))
        .is_ok_and(|length| (OPENWIRE.len()..=NEGOTIATION_BYTES_MAX).contains(&length));
    if fits { fit(rest, OPENWIRE) } else { Fit::Not }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every shorter beginning must ask for more, and every continuation must not change the answer.
    fn check(bytes: &[u8], needed: usize, detection: Detection) {
        for length in 0..needed {
            assert_eq!(
                detect(&bytes[..length]),
                Detection::NeedsMore,
                "{length} bytes"
            );
        }
        for length in needed..=bytes.len() {
            assert_eq!(detect(&bytes[..length]), detection, "{length} bytes");
        }
        assert!(needed <= DETECTION_BYTES_MAX);
    }

    #[test]
    fn openwire_is_told_by_thirteen_bytes() {
        let first = b"\x00\x00\x01\x52\x01ActiveMQ\x00\x00\x00\x0c\x01";
        check(first, 13, Detection::OpenWire);
    }

    #[test]
    fn http2_is_told_by_its_preface() {
        check(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00",
            24,
            Detection::Http2,
        );
    }

    #[test]
    fn tls_is_told_by_two_bytes() {
        check(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01], 2, Detection::Tls);
    }

    #[test]
    fn others_are_unknown_as_soon_as_they_differ() {
        for bytes in [
            &b"G"[..],
            b"CONNECT\n",
            b"PRI * HTTP/1",
            b"AMQP\x00\x01\x00\x00",
            b"\x10\x1a\x00\x04MQTT",
            b"\x16\x02",
            b"\x00\x01",
            b"\x00\x00\x00\x08",
            b"\x00\x00\xff\xff",
            b"\x00\x00\x01\x52\x02",
            b"\x00\x00\x01\x52\x01ActiveMX",
            b"\x01ActiveMQ\x00\x00\x00\x0c",
        ] {
            assert_eq!(detect(bytes), Detection::Unknown, "{bytes:?}");
        }
    }
}
