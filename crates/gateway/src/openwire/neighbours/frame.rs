//! What gateways say to each other, as bytes. Whatever comes is read whole or not at all.
//!
//! ```text
//! frame  version 1 | life 16 | number 8 | name | news ...
//! news   kind 1 | what that kind has
//! text   length 2 | UTF-8
//! ```
//! Numbers are big-endian.

use quorate_message::{DestinationName, GatewayId};
use quorate_wire::openwire::{Destination, TempQueue, TempTopic};

use super::SeatId;
use crate::{
    limits::{NEIGHBOUR_FRAME_BYTES, NEIGHBOUR_TEXT_BYTES_MAX},
    openwire::translate,
};

const VERSION: u8 = 1;

/// What one gateway says at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its life.
    pub(super) life: GatewayId,
    /// Counts its frames, from 1.
    pub(super) number: u64,
    /// Its name, which its next life has as well.
    pub(super) name: String,
    pub(super) news: Vec<News>,
}

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Whoever hears this says all that it has.
    Hello,
    /// All that it has follows.
    Begin,
    /// That was all: what was not said since `Begin` it has not.
    End,
    /// It stops.
    Goodbye,
    /// That life is over, or else it says all again.
    Lost(GatewayId),
    /// A temporary destination of one of its clients.
    There(Destination),
    /// No longer.
    Gone(Destination),
    /// A client id is wanted for one of its connections.
    Claim(Claim),
    /// It is that connection's, whatever others say.
    Held(Claim),
    /// A client id is not wanted any longer.
    Released(String),
}

/// Who has a client id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The connection's place at its gateway: its claim is told from an earlier one by this.
    pub(super) seat: SeatId,
    pub(super) client_id: String,
    pub(super) connection_id: String,
    /// What helps to find the connection.
    pub(super) holder: String,
}

/// Why a frame is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it ends too early")]
    Short,
    #[error("it has version {0}")]
    Version(u8),
    #[error("there are no news of kind {0}")]
    Kind(u8),
    #[error("a text is too long, empty or no text")]
    Text,
    #[error("a destination is not a temporary one")]
    Destination,
}

const HELLO: u8 = 1;
const BEGIN: u8 = 2;
const END: u8 = 3;
const GOODBYE: u8 = 4;
const LOST: u8 = 5;
const QUEUE_THERE: u8 = 6;
const TOPIC_THERE: u8 = 7;
const QUEUE_GONE: u8 = 8;
const TOPIC_GONE: u8 = 9;
const CLAIM: u8 = 10;
const HELD: u8 = 11;
const RELEASED: u8 = 12;

/// Whether a text has the length that one may have in a frame.
pub(super) fn fits(text: &str) -> bool {
    (1..=NEIGHBOUR_TEXT_BYTES_MAX).contains(&text.len())
}

impl Frame {
    /// # Errors
    /// When the bytes are none that a gateway of this version makes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let version = reader.byte()?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let life = reader.life()?;
        let number = u64::from_be_bytes(reader.array()?);
        let name = reader.text()?;
        let mut news = Vec::new();
        while !reader.0.is_empty() {
            news.push(reader.news()?);
        }
        Ok(Self {
            life,
            number,
            name,
            news,
        })
    }
}

/// A frame in the making.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(life: GatewayId, number: u64, name: &str) -> Self {
        let mut writer = Self(vec![VERSION]);
        writer.0.extend_from_slice(&life.0);
        writer.0.extend_from_slice(&number.to_be_bytes());
        writer.text(name);
        writer
    }

    /// Whether there is room for any news.
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < NEIGHBOUR_FRAME_BYTES
    }

    pub(super) fn push(&mut self, news: &News) {
        match news {
            News::Hello => self.0.push(HELLO),
            News::Begin => self.0.push(BEGIN),
            News::End => self.0.push(END),
            News::Goodbye => self.0.push(GOODBYE),
            News::Lost(life) => {
                self.0.push(LOST);
                self.0.extend_from_slice(&life.0);
            }
            News::There(destination) => self.destination(destination, (QUEUE_THERE, TOPIC_THERE)),
            News::Gone(destination) => self.destination(destination, (QUEUE_GONE, TOPIC_GONE)),
            News::Claim(claim) => self.claim(CLAIM, claim),
            News::Held(claim) => self.claim(HELD, claim),
            News::Released(client_id) => {
                self.0.push(RELEASED);
                self.text(client_id);
            }
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn destination(&mut self, destination: &Destination, (queue, topic): (u8, u8)) {
        self.0.push(match destination {
            Destination::TempQueue(_) | Destination::Queue(_) => queue,
            Destination::TempTopic(_) | Destination::Topic(_) => topic,
        });
        self.text(destination.name());
    }

    fn claim(&mut self, kind: u8, claim: &Claim) {
        self.0.push(kind);
        self.0.extend_from_slice(&claim.seat.0.to_be_bytes());
        self.text(&claim.client_id);
        self.text(&claim.connection_id);
        self.text(&claim.holder);
    }

    fn text(&mut self, text: &str) {
        let length = u16::try_from(text.len()).expect("texts are checked before they are kept");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn news(&mut self) -> Result<News, Malformed> {
        Ok(match self.byte()? {
            HELLO => News::Hello,
            BEGIN => News::Begin,
            END => News::End,
            GOODBYE => News::Goodbye,
            LOST => News::Lost(self.life()?),
            QUEUE_THERE => News::There(self.queue()?),
            TOPIC_THERE => News::There(self.topic()?),
            QUEUE_GONE => News::Gone(self.queue()?),
            TOPIC_GONE => News::Gone(self.topic()?),
            CLAIM => News::Claim(self.claim()?),
            HELD => News::Held(self.claim()?),
            RELEASED => News::Released(self.text()?),
            kind => return Err(Malformed::Kind(kind)),
        })
    }

    fn claim(&mut self) -> Result<Claim, Malformed> {
        Ok(Claim {
            seat: SeatId(u64::from_be_bytes(self.array()?)),
            client_id: self.text()?,
            connection_id: self.text()?,
            holder: self.text()?,
        })
    }

    fn queue(&mut self) -> Result<Destination, Malformed> {
        let physical_name = self.temporary()?;
        Ok(TempQueue { physical_name }.into())
    }

    fn topic(&mut self) -> Result<Destination, Malformed> {
        let physical_name = self.temporary()?;
        Ok(TempTopic { physical_name }.into())
    }

    fn temporary(&mut self) -> Result<String, Malformed> {
        let name = self.text()?;
        match is_temporary(&name) {
            true => Ok(name),
            false => Err(Malformed::Destination),
        }
    }

    fn life(&mut self) -> Result<GatewayId, Malformed> {
        self.array().map(GatewayId)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let (text, rest) = self.0.split_at_checked(length).ok_or(Malformed::Short)?;
        self.0 = rest;
        let text = std::str::from_utf8(text).map_err(|_| Malformed::Text)?;
        match fits(text) {
            true => Ok(text.to_owned()),
            false => Err(Malformed::Text),
        }
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*array)
    }
}

/// Whether a name is one that clients give their temporary destinations, and can be a destination at all.
pub(super) fn is_temporary(name: &str) -> bool {
    translate::owner(name).is_some() && DestinationName::new(name).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim() -> Claim {
        Claim {
            seat: SeatId(5),
            client_id: "orders".to_owned(),
            connection_id: "ID:host-1-1:1".to_owned(),
            holder: "127.0.0.1:1".to_owned(),
        }
    }

    fn every_kind() -> Frame {
        let physical_name = "ID:host-1-1:1:3".to_owned();
        let queue: Destination = TempQueue {
            physical_name: physical_name.clone(),
        }
        .into();
        let topic: Destination = TempTopic { physical_name }.into();
        Frame {
            life: GatewayId([7; 16]),
            number: 9,
            name: "gw01".to_owned(),
            news: vec![
                News::Hello,
                News::Begin,
                News::There(queue.clone()),
                News::There(topic.clone()),
                News::Gone(queue),
                News::Gone(topic),
                News::Claim(claim()),
                News::Held(claim()),
                News::Released("orders".to_owned()),
                News::Lost(GatewayId([8; 16])),
                News::End,
                News::Goodbye,
            ],
        }
    }

    fn encode(frame: &Frame) -> Vec<u8> {
        let mut writer = Writer::new(frame.life, frame.number, &frame.name);
        for news in &frame.news {
            writer.push(news);
        }
        writer.finish()
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        let frame = every_kind();
        assert_eq!(Frame::decode(&encode(&frame)), Ok(frame));
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let whole = encode(&every_kind());
        let refused = |bytes: &[u8]| Frame::decode(bytes).expect_err("refused");
        assert_eq!(refused(&[]), Malformed::Short);
        assert_eq!(refused(&[2]), Malformed::Version(2));
        assert_eq!(refused(&[&whole[..], &[99]].concat()), Malformed::Kind(99));
        assert_eq!(
            refused(&[&whole[..], &[RELEASED, 0, 2, 0xff, 0xff]].concat()),
            Malformed::Text
        );
        assert_eq!(
            refused(&[&whole[..], &[RELEASED, 0, 0]].concat()),
            Malformed::Text
        );
        let long = vec![b'x'; NEIGHBOUR_TEXT_BYTES_MAX + 1];
        let length = u16::try_from(long.len()).expect("short").to_be_bytes();
        assert_eq!(
            refused(&[&whole[..], &[RELEASED], &length[..], &long].concat()),
            Malformed::Text
        );
        for name in ["orders", "ID:h", "ID:h:1,ID:h:2"] {
            let length = u16::try_from(name.len()).expect("short").to_be_bytes();
            let bytes = [&whole[..], &[QUEUE_THERE], &length[..], name.as_bytes()].concat();
            assert_eq!(refused(&bytes), Malformed::Destination, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..400_usize, at in 0..400_usize) {
            drop(Frame::decode(&bytes));
            let mut whole = encode(&every_kind());
            whole.truncate(cut);
            if let Some(byte) = whole.get_mut(at) {
                *byte = bytes.first().copied().unwrap_or_default();
            }
            drop(Frame::decode(&whole));
        }
    }
}
