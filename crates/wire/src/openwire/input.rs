//! What a structure is decoded from: the rest of one frame, the version agreed, and what bounds are left.

use bytes::Bytes;
use thiserror::Error;

use super::modified_utf8::MalformedText;
use super::version::Version;
use crate::limits::{NESTING_MAX, STRUCTURES_MAX};
use crate::reader::{Reader, Truncated};

/// A frame that is not a command of this protocol. The connection cannot go on: nothing that follows is to be trusted.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("decode {field}: {fault}")]
pub struct DecodeError {
    /// The innermost field that was being read, such as `ConsumerInfo.selector`.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a frame.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Fault {
    /// The frame ends within a field.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// The frame goes on after its command.
    #[error("{0} bytes after the command")]
    Trailing(usize),
    /// A boolean that is neither 0 nor 1.
    #[error("{0} is not a boolean")]
    Boolean(u8),
    /// A length below zero.
    #[error("length {0} is negative")]
    NegativeLength(i32),
    /// A text that is not modified UTF-8.
    #[error(transparent)]
    Text(#[from] MalformedText),
    /// A field that has to be there and is null.
    #[error("null where a value is required")]
    Null,
    /// A data type that does not exist, or that this codec does not know.
    #[error("unknown data type {0}")]
    UnknownType(u8),
    /// A data type that cannot stand at this place.
    #[error("data type {0} does not belong here")]
    UnexpectedType(u8),
    /// A number that none of the meanings of its field has.
    #[error("code {0} has no meaning")]
    UnknownCode(i8),
    /// Structures within structures beyond the bound.
    #[error("structures nested deeper than {NESTING_MAX}")]
    TooDeep,
    /// More structures in a frame than the bound.
    #[error("more than {STRUCTURES_MAX} structures in a frame")]
    TooMany,
    /// The first bytes of the negotiation are not those of the protocol.
    #[error("not the magic of the protocol")]
    Magic,
    /// The property map of the negotiation.
    #[error(transparent)]
    Value(#[from] super::value::ValueError),
}

/// The field that an error names as long as no structure has been entered.
const OUTSIDE: &str = "frame";

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        Self {
            field: OUTSIDE,
            fault,
        }
    }
}

impl From<Truncated> for DecodeError {
    fn from(truncated: Truncated) -> Self {
        Fault::from(truncated).into()
    }
}

impl DecodeError {
    /// Names the field, unless one further inside is named already.
    pub(crate) fn within(mut self, field: &'static str) -> Self {
        if self.field == OUTSIDE {
            self.field = field;
        }
        self
    }
}

/// One frame that is being decoded.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) reader: Reader<'a>,
    pub(crate) version: Version,
    depth_left: u8,
    structures_left: u32,
}

impl<'a> Input<'a> {
    pub(crate) fn new(frame: &'a Bytes, version: Version) -> Self {
        Self {
            reader: Reader::new(frame),
            version,
            depth_left: NESTING_MAX,
            structures_left: STRUCTURES_MAX,
        }
    }

    /// Reads a structure with `read`, one level deeper.
    pub(crate) fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.structures_left = self.structures_left.checked_sub(1).ok_or(Fault::TooMany)?;
        self.depth_left = self.depth_left.checked_sub(1).ok_or(Fault::TooDeep)?;
        let structure = read(self)?;
        self.depth_left = self.depth_left.saturating_add(1);
        Ok(structure)
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, DecodeError> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Fault::Boolean(other).into()),
        }
    }

    /// A length of four bytes, which Java knows as signed.
    pub(crate) fn length(&mut self) -> Result<usize, DecodeError> {
        let length = self.reader.i32()?;
        usize::try_from(length).map_err(|_| Fault::NegativeLength(length).into())
    }
}
