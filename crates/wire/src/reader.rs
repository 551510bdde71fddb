//! Reads big-endian fields off a frame, each checked. Byte strings are slices of the frame, not copies.

use bytes::Bytes;
use thiserror::Error;

/// A frame and what of it has not been read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

/// A read beyond the end.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("{wanted} bytes wanted, {left} left")]
pub struct Truncated {
    /// How many bytes the read wanted.
    pub wanted: usize,
    /// How many there were.
    pub left: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(frame: &'a Bytes) -> Self {
        Self { frame, rest: frame }
    }

    /// How many bytes have not been read.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Truncated {
            wanted: count,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `count` bytes as a slice that shares the frame's memory.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<Bytes, Truncated> {
        Ok(self.frame.slice_ref(self.take(count)?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Truncated {
            wanted: N,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, Truncated> {
        self.array().map(i8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Truncated> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Truncated> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Truncated> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn f32(&mut self) -> Result<f32, Truncated> {
        self.array().map(f32::from_be_bytes)
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Truncated> {
        self.array().map(f64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_never_beyond_the_end() {
        let frame = Bytes::from_static(&[1, 0, 2, 0, 0, 0, 3, 9]);
        let mut reader = Reader::new(&frame);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(2));
        assert_eq!(reader.i32(), Ok(3));
        assert_eq!(reader.remaining(), 1);
        assert_eq!(reader.i16(), Err(Truncated { wanted: 2, left: 1 }));
        assert_eq!(reader.take(2), Err(Truncated { wanted: 2, left: 1 }));
        assert_eq!(reader.bytes(1), Ok(Bytes::from_static(&[9])));
        assert_eq!(reader.bytes(0), Ok(Bytes::new()));
        assert_eq!(reader.u8(), Err(Truncated { wanted: 1, left: 0 }));
    }
}
