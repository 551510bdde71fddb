//! Frames: the bytes of a socket become commands, and commands bytes.

use bytes::{Buf, BufMut, BytesMut};
use thiserror::Error;

use super::command::{Command, Structure};
use super::field::Typed;
use super::format::{Format, WireFormatInfo};
use super::input::{DecodeError, Fault, Input};
use super::output::{EncodeError, Output};
use super::version::Version;
use crate::limits::{LOGIN_BYTES_MAX, NEGOTIATION_BYTES_MAX};

/// Takes the bytes of one direction of a connection and gives its commands.
///
/// It allows as much as the peer has shown a right to: one small frame for the negotiation, small ones until
/// [`Decoder::open`] says that the peer has logged in, and then what was agreed.
#[derive(Debug, Default)]
pub struct Decoder {
    stage: Stage,
}

/// How far a connection is.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Negotiation,
    Login(Format),
    Open(Format),
}

/// A frame that ends the connection.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FrameError {
    /// It is longer than allowed at this point; nothing has been allocated for it.
    #[error("frame of {bytes} bytes where {bytes_max} are allowed")]
    TooLarge {
        /// The length that it announced; one below zero appears as what it is without a sign.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// It has no data type.
    #[error("frame without a command")]
    Empty,
    /// The connection does not begin with the negotiation.
    #[error("data type {0} where the negotiation is due")]
    NotNegotiated(u8),
    /// It is not a command of this protocol.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = size_of::<u32>();

impl Decoder {
    /// A decoder for a connection that begins.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The negotiation is over: the next frame has this format. Call it when the peer's [`WireFormatInfo`] has come.
    pub fn agree(&mut self, format: Format) {
        self.stage = Stage::Login(format);
    }

    /// The peer has logged in: frames may be as large as was agreed.
    pub fn open(&mut self) {
        self.stage = match std::mem::take(&mut self.stage) {
            Stage::Negotiation => Stage::Negotiation,
            Stage::Login(format) | Stage::Open(format) => Stage::Open(format),
        };
    }

    /// How many bytes a frame may have at this point, its length not counted.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        match &self.stage {
            Stage::Negotiation => NEGOTIATION_BYTES_MAX,
            Stage::Login(format) => format.frame_bytes_max.min(LOGIN_BYTES_MAX),
            Stage::Open(format) => format.frame_bytes_max,
        }
    }

    /// Takes the next frame off the buffer, or nothing as long as it is not complete. The command's byte strings share
    /// the buffer's memory, so whoever keeps them for long copies them.
    ///
    /// # Errors
    /// The peer breaks the protocol; the connection cannot go on.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Command>, FrameError> {
        let Some((length, _)) = buffer.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let bytes_max = self.frame_bytes_max();
        if bytes > bytes_max {
            return Err(FrameError::TooLarge { bytes, bytes_max });
        }
        let data_type = buffer.get(LENGTH_BYTES).copied();
        match (&self.stage, data_type) {
            _ if bytes == 0 => return Err(FrameError::Empty),
            (Stage::Negotiation, Some(other)) if other != WireFormatInfo::DATA_TYPE => {
                return Err(FrameError::NotNegotiated(other));
            }
            (Stage::Negotiation | Stage::Login(_) | Stage::Open(_), _) => {}
        }
        if buffer.len().saturating_sub(LENGTH_BYTES) < bytes {
            return Ok(None);
        }
        buffer.advance(LENGTH_BYTES);
        let frame = buffer.split_to(bytes).freeze();
        let version = match &self.stage {
            Stage::Negotiation => Version::OLDEST,
            Stage::Login(format) | Stage::Open(format) => format.version,
        };
        Ok(Some(decode(&mut Input::new(&frame, version))?))
    }
}

/// Decodes a frame behind its length.
fn decode(input: &mut Input<'_>) -> Result<Command, DecodeError> {
    let data_type = input.reader.u8()?;
    if !Command::admits(data_type) {
        return Err(if Structure::admits(data_type) {
            Fault::UnexpectedType(data_type).into()
        } else {
            Fault::UnknownType(data_type).into()
        });
    }
    let command = input.nested(|input| Command::decode_fields(data_type, input))?;
    match input.reader.remaining() {
        0 => Ok(command),
        trailing => Err(Fault::Trailing(trailing).into()),
    }
}

/// Appends a command as one frame of this format.
///
/// # Errors
/// The format cannot carry it; nothing has been appended.
pub fn encode(command: &Command, format: &Format, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    let written = encode_frame(command, format, start, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn encode_frame(
    command: &Command,
    format: &Format,
    start: usize,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    out.put_u32(0);
    out.put_u8(command.data_type());
    command.encode_fields(&mut Output {
        bytes: out,
        version: format.version,
    })?;
    let bytes = out.len().saturating_sub(start).saturating_sub(LENGTH_BYTES);
    let too_large = EncodeError::TooLarge {
        bytes,
        bytes_max: format.frame_bytes_max,
    };
    if bytes > format.frame_bytes_max {
        return Err(too_large);
    }
    let length = u32::try_from(bytes).map_err(|_| too_large)?;
    let place = out.iter_mut().skip(start);
    for (place, byte) in place.zip(length.to_be_bytes()) {
        *place = byte;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
