//! The negotiation: what each side offers in its first frame, and what both then keep to.
//!
//! What one side leaves out counts as declined. Tight encoding, the object cache and stack traces are never offered here,
//! so they are never agreed.

use std::time::Duration;

use bytes::{BufMut, Bytes};
use thiserror::Error;

use super::field::{Field, Typed};
use super::input::{DecodeError, Fault, Input};
use super::output::{EncodeError, Output};
use super::value::{Map, Value};
use super::version::Version;
use crate::limits::FRAME_BYTES_MAX;

/// The first frame of each side. It has the same layout in all versions.
#[derive(Clone, Debug, PartialEq)]
pub struct WireFormatInfo {
    /// The highest version that the sender speaks.
    pub version: i32,
    /// What else it offers and says of itself.
    pub properties: Option<Map>,
}

const MAGIC: &[u8; 8] = b"ActiveMQ";

const TIGHT_ENCODING: &str = "TightEncodingEnabled";
const CACHE: &str = "CacheEnabled";
const SIZE_PREFIX_DISABLED: &str = "SizePrefixDisabled";
const STACK_TRACE: &str = "StackTraceEnabled";
const TCP_NO_DELAY: &str = "TcpNoDelayEnabled";
const FRAME_SIZE: &str = "MaxFrameSize";
const INACTIVITY: &str = "MaxInactivityDuration";
/// As it is spelt on the wire.
const INACTIVITY_INITIAL_DELAY: &str = "MaxInactivityDurationInitalDelay";
const PROVIDER_NAME: &str = "ProviderName";
const PROVIDER_VERSION: &str = "ProviderVersion";
const PLATFORM: &str = "PlatformDetails";
const HOST: &str = "Host";

impl WireFormatInfo {
    /// The number of this structure on the wire.
    pub const DATA_TYPE: u8 = 1;

    fn boolean(&self, name: &str) -> bool {
        match self.properties.as_ref().and_then(|map| map.get(name)) {
            Some(Value::Boolean(boolean)) => *boolean,
            Some(_) | None => false,
        }
    }

    fn number(&self, name: &str) -> i64 {
        match self.properties.as_ref().and_then(|map| map.get(name)) {
            Some(Value::Long(number)) => *number,
            Some(Value::Int(number)) => (*number).into(),
            Some(_) | None => 0,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.properties.as_ref().and_then(|map| map.get(name)) {
            Some(Value::Text(text)) => Some(text),
            Some(_) | None => None,
        }
    }

    /// Whether the sender would compress frames by bits; we never agree.
    #[must_use]
    pub fn tight_encoding(&self) -> bool {
        self.boolean(TIGHT_ENCODING)
    }

    /// Whether the sender would replace repeated structures by numbers; we never agree.
    #[must_use]
    pub fn cache(&self) -> bool {
        self.boolean(CACHE)
    }

    /// Whether the sender would leave out the lengths of frames; we never agree.
    #[must_use]
    pub fn size_prefix_disabled(&self) -> bool {
        self.boolean(SIZE_PREFIX_DISABLED)
    }

    /// Whether the sender would send the stacks of exceptions; we never agree.
    #[must_use]
    pub fn stack_trace(&self) -> bool {
        self.boolean(STACK_TRACE)
    }

    /// The name of the sender's implementation.
    #[must_use]
    pub fn provider_name(&self) -> Option<&str> {
        self.text(PROVIDER_NAME)
    }

    /// The version of the sender's implementation.
    #[must_use]
    pub fn provider_version(&self) -> Option<&str> {
        self.text(PROVIDER_VERSION)
    }

    /// What the sender runs on.
    #[must_use]
    pub fn platform(&self) -> Option<&str> {
        self.text(PLATFORM)
    }

    /// The host of the address that a client connected to.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.text(HOST)
    }
}

impl Typed for WireFormatInfo {
    fn admits(data_type: u8) -> bool {
        data_type == Self::DATA_TYPE
    }

    fn data_type(&self) -> u8 {
        Self::DATA_TYPE
    }

    fn decode_fields(_data_type: u8, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        if input.reader.take(MAGIC.len())? != MAGIC {
            return Err(DecodeError::from(Fault::Magic).within("WireFormatInfo.magic"));
        }
        let version = i32::decode(input)?;
        let properties = Option::<Bytes>::decode(input)
            .and_then(|bytes| {
                let map = bytes.as_ref().map(Map::decode).transpose();
                map.map_err(|error| Fault::Value(error).into())
            })
            .map_err(|error| error.within("WireFormatInfo.properties"))?;
        Ok(Self {
            version,
            properties,
        })
    }

    fn encode_fields(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        output.bytes.put_slice(MAGIC);
        self.version.encode(output)?;
        let properties = self.properties.as_ref().map(Map::encode).transpose()?;
        properties.encode(output)
    }
}

/// What we offer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// The highest version.
    pub version: Version,
    /// Bytes of a frame, without its length.
    pub frame_bytes_max: usize,
    /// A peer from which nothing comes for so long is taken to be gone; zero: no such check.
    pub inactivity: Duration,
    /// How long the check waits for the peer to settle.
    pub inactivity_initial_delay: Duration,
    /// What the peer shall know of us: implementation, its version, platform.
    pub provider: [String; 3],
}

impl Default for Offer {
    /// What ActiveMQ's broker offers as it is shipped, but for what is declined.
    fn default() -> Self {
        Self {
            version: Version::LATEST,
            frame_bytes_max: FRAME_BYTES_MAX,
            inactivity: Duration::from_secs(30),
            inactivity_initial_delay: Duration::from_secs(10),
            provider: [
                "Quorate".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
                "Rust".to_owned(),
            ],
        }
    }
}

/// What both sides keep to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Format {
    /// The version.
    pub version: Version,
    /// Bytes of a frame, without its length, in either direction.
    pub frame_bytes_max: usize,
    /// A peer from which nothing comes for so long is gone; none: neither side checks. Each side says something at least
    /// every third of it.
    pub inactivity: Option<Duration>,
    /// How long the check waits at first.
    pub inactivity_initial_delay: Duration,
    /// Whether both want small packets sent at once.
    pub tcp_no_delay: bool,
}

/// A peer with whom there is nothing to agree on.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Incompatible {
    /// Its version is below the first.
    #[error("version {0} does not exist")]
    Version(i32),
}

impl Offer {
    /// The frame that says it, to be sent first.
    #[must_use]
    pub fn info(&self) -> WireFormatInfo {
        let [name, version, platform] = &self.provider;
        let mut properties = Map::new();
        for declined in [TIGHT_ENCODING, CACHE, SIZE_PREFIX_DISABLED, STACK_TRACE] {
            properties.push(declined, Value::Boolean(false));
        }
        properties.push(TCP_NO_DELAY, Value::Boolean(true));
        let frame_size = i64::try_from(self.frame_bytes_max).unwrap_or(i64::MAX);
        properties.push(FRAME_SIZE, Value::Long(frame_size));
        properties.push(INACTIVITY, milliseconds(self.inactivity));
        properties.push(
            INACTIVITY_INITIAL_DELAY,
            milliseconds(self.inactivity_initial_delay),
        );
        properties.push(PROVIDER_NAME, Value::Text(name.clone()));
        properties.push(PROVIDER_VERSION, Value::Text(version.clone()));
        properties.push(PLATFORM, Value::Text(platform.clone()));
        WireFormatInfo {
            version: self.version.number().into(),
            properties: Some(properties),
        }
    }

    /// What both keep to: of each the lower.
    ///
    /// # Errors
    /// The peer's version does not exist.
    pub fn agree(&self, theirs: &WireFormatInfo) -> Result<Format, Incompatible> {
        let lower = theirs.version.min(self.version.number().into());
        let version = u8::try_from(lower)
            .ok()
            .and_then(Version::new)
            .ok_or(Incompatible::Version(theirs.version))?;
        let frame_bytes_max = usize::try_from(theirs.number(FRAME_SIZE))
            .ok()
            .filter(|bytes| *bytes > 0)
            .map_or(self.frame_bytes_max, |bytes| {
                bytes.min(self.frame_bytes_max)
            });
        let inactivity = self.inactivity.min(theirs.duration(INACTIVITY));
        Ok(Format {
            version,
            frame_bytes_max,
            inactivity: Some(inactivity).filter(|duration| !duration.is_zero()),
            inactivity_initial_delay: self
                .inactivity_initial_delay
                .min(theirs.duration(INACTIVITY_INITIAL_DELAY)),
            tcp_no_delay: theirs.boolean(TCP_NO_DELAY),
        })
    }
}

impl WireFormatInfo {
    /// A number of milliseconds; one below zero is none.
    fn duration(&self, name: &str) -> Duration {
        Duration::from_millis(u64::try_from(self.number(name)).unwrap_or(0))
    }
}

fn milliseconds(duration: Duration) -> Value {
    Value::Long(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theirs(version: i32, properties: &[(&str, Value)]) -> WireFormatInfo {
        let entries = properties.iter();
        WireFormatInfo {
            version,
            properties: Some(
                entries
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect(),
            ),
        }
    }

    #[test]
    fn the_lower_of_each_is_kept_to() {
        let info = theirs(
            9,
            &[
                (FRAME_SIZE, Value::Long(5000)),
                (INACTIVITY, Value::Long(40_000)),
                (INACTIVITY_INITIAL_DELAY, Value::Long(1)),
                (TCP_NO_DELAY, Value::Boolean(true)),
                (TIGHT_ENCODING, Value::Boolean(true)),
            ],
        );
        let format = Offer::default().agree(&info);
        assert_eq!(
            format,
            Ok(Format {
                version: Version::new(9).expect("a version"),
                frame_bytes_max: 5000,
                inactivity: Some(Duration::from_secs(30)),
                inactivity_initial_delay: Duration::from_millis(1),
                tcp_no_delay: true,
            })
        );
        assert!(info.tight_encoding() && !info.cache());
    }

    #[test]
    fn what_is_left_out_is_declined() {
        for info in [
            theirs(12, &[]),
            WireFormatInfo {
                version: 12,
                properties: None,
            },
            theirs(
                12,
                &[(FRAME_SIZE, Value::Long(-1)), (INACTIVITY, Value::Long(-1))],
            ),
        ] {
            let format = Offer::default().agree(&info);
            assert_eq!(
                format,
                Ok(Format {
                    version: Version::LATEST,
                    frame_bytes_max: FRAME_BYTES_MAX,
                    inactivity: None,
                    inactivity_initial_delay: Duration::ZERO,
                    tcp_no_delay: false,
                })
            );
        }
    }

    #[test]
    fn a_later_version_comes_down_to_ours_and_none_is_refused() {
        let agree = |version| Offer::default().agree(&theirs(version, &[]));
        assert_eq!(agree(99).map(|format| format.version), Ok(Version::LATEST));
        for version in [0, -1, i32::MIN] {
            assert_eq!(agree(version), Err(Incompatible::Version(version)));
        }
    }

    #[test]
    fn our_offer_is_agreed_with_by_ourselves() {
        let offer = Offer::default();
        let format = offer.agree(&offer.info()).expect("our own version");
        assert_eq!(format.frame_bytes_max, offer.frame_bytes_max);
        assert_eq!(format.inactivity, Some(offer.inactivity));
        let info = offer.info();
        assert!(!info.tight_encoding() && !info.cache());
        assert!(!info.size_prefix_disabled() && !info.stack_trace());
        assert_eq!(info.provider_name(), Some("Quorate"));
        assert_eq!(info.platform(), Some("Rust"));
        assert!(info.provider_version().is_some() && info.host().is_none());
    }
}
