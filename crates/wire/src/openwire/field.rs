//! The kinds of fields that structures are made of, and how each is read and written.
//!
//! The Rust type of a field decides: `Option` is what may be null on the wire, anything else must be there.

use bytes::{BufMut, Bytes};

use super::command::Structure;
use super::input::{DecodeError, Fault, Input};
use super::modified_utf8;
use super::output::{EncodeError, Output};

/// A field of a structure. [`Default`] is its value where the version agreed does not have it.
pub(crate) trait Field: Sized {
    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError>;
    fn encode(&self, output: &mut Output<'_>) -> Result<(), EncodeError>;
}

/// A kind of field that may be null: on the wire, a boolean "present" stands before it.
pub(crate) trait Nullable: Sized {
    fn decode_present(input: &mut Input<'_>) -> Result<Self, DecodeError>;
    fn encode_present(&self, output: &mut Output<'_>) -> Result<(), EncodeError>;
}

/// One of the structures of a kind, such as a destination: which one stands before its fields.
pub(crate) trait Typed: Sized {
    /// Whether this data type is one of the kind.
    fn admits(data_type: u8) -> bool;
    fn data_type(&self) -> u8;
    /// Reads the fields of a structure whose data type the kind admits.
    fn decode_fields(data_type: u8, input: &mut Input<'_>) -> Result<Self, DecodeError>;
    fn encode_fields(&self, output: &mut Output<'_>) -> Result<(), EncodeError>;
}

impl<T: Nullable> Field for Option<T> {
    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        if input.boolean()? {
            T::decode_present(input).map(Some)
        } else {
            Ok(None)
        }
    }

    fn encode(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        output.bytes.put_u8(self.is_some().into());
        self.as_ref()
            .map_or(Ok(()), |present| present.encode_present(output))
    }
}

/// Reads what must not be null.
pub(crate) fn decode_required<T: Nullable>(input: &mut Input<'_>) -> Result<T, DecodeError> {
    Option::<T>::decode(input)?.ok_or_else(|| Fault::Null.into())
}

/// Writes what is never null.
pub(crate) fn encode_required<T: Nullable>(
    present: &T,
    output: &mut Output<'_>,
) -> Result<(), EncodeError> {
    output.bytes.put_u8(1);
    present.encode_present(output)
}

impl<T: Typed> Nullable for T {
    fn decode_present(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let data_type = input.reader.u8()?;
        if T::admits(data_type) {
            input.nested(|input| T::decode_fields(data_type, input))
        } else if Structure::admits(data_type) {
            Err(Fault::UnexpectedType(data_type).into())
        } else {
            Err(Fault::UnknownType(data_type).into())
        }
    }

    fn encode_present(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        output.bytes.put_u8(self.data_type());
        self.encode_fields(output)
    }
}

impl<T: Typed> Typed for Box<T> {
    fn admits(data_type: u8) -> bool {
        T::admits(data_type)
    }

    fn data_type(&self) -> u8 {
        T::data_type(self)
    }

    fn decode_fields(data_type: u8, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        T::decode_fields(data_type, input).map(Self::new)
    }

    fn encode_fields(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        T::encode_fields(self, output)
    }
}

impl<T: Typed> Field for T {
    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        decode_required(input)
    }

    fn encode(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        encode_required(self, output)
    }
}

/// Texts and byte strings may be required as well as optional.
macro_rules! required {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                decode_required(input)
            }

            fn encode(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
                encode_required(self, output)
            }
        }
    )*};
}

required!(String, Bytes);

impl Nullable for String {
    fn decode_present(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let length = input.reader.u16()?;
        let bytes = input.reader.take(length.into())?;
        modified_utf8::decode(bytes).map_err(|malformed| Fault::Text(malformed).into())
    }

    fn encode_present(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        let bytes = modified_utf8::encoded_len(self);
        let length = u16::try_from(bytes).map_err(|_| EncodeError::TextTooLong { bytes })?;
        output.bytes.put_u16(length);
        modified_utf8::encode(self, output.bytes);
        Ok(())
    }
}

impl Nullable for Bytes {
    fn decode_present(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let length = input.length()?;
        Ok(input.reader.bytes(length)?)
    }

    fn encode_present(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        output.bytes.put_i32(signed_length(self.len())?);
        output.bytes.put_slice(self);
        Ok(())
    }
}

/// The length of bytes as Java counts it.
pub(crate) fn signed_length(bytes: usize) -> Result<i32, EncodeError> {
    i32::try_from(bytes).map_err(|_| EncodeError::TooLarge {
        bytes,
        bytes_max: usize::try_from(i32::MAX).unwrap_or(usize::MAX),
    })
}

impl<T: Typed> Nullable for Vec<T> {
    /// Memory is taken as elements come, not by the count.
    fn decode_present(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let count = input.reader.u16()?;
        (0..count).map(|_| decode_required(input)).collect()
    }

    fn encode_present(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        let too_long = |_| EncodeError::ArrayTooLong { count: self.len() };
        output
            .bytes
            .put_u16(u16::try_from(self.len()).map_err(too_long)?);
        self.iter()
            .try_for_each(|element| encode_required(element, output))
    }
}

impl Field for bool {
    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        input.boolean()
    }

    fn encode(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        output.bytes.put_u8((*self).into());
        Ok(())
    }
}

macro_rules! numbers {
    ($($number:ident $put:ident),*) => {$(
        impl Field for $number {
            fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                Ok(input.reader.$number()?)
            }

            fn encode(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
                output.bytes.$put(*self);
                Ok(())
            }
        }
    )*};
}

numbers!(i8 put_i8, i32 put_i32, i64 put_i64);
