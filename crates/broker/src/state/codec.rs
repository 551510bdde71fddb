//! The fields of a checkpoint: written to bytes or straight into the digest, read with every length checked.

/// Bytes gathered before they go into the digest.
const SPILL_BYTES: usize = 64 * 1024;

/// Takes the fields of the state. A digesting sink keeps no more than a few of them.
pub(crate) struct Sink {
    bytes: Vec<u8>,
    digest: Option<Digest>,
}

/// A 64-bit hash that takes eight bytes at a time. It finds differences; it is no defence against an attacker.
struct Digest(u64);

impl Digest {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

    fn add(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(Self::MULTIPLIER);
        self.0 = (mixed ^ mixed >> 29).rotate_left(23);
    }

    fn finish(mut self, length: u64) -> u64 {
        self.add(length);
        self.add(Self::MULTIPLIER);
        self.0 ^ self.0 >> 32
    }
}

impl Sink {
    /// Keeps the bytes.
    pub(crate) fn keeping() -> Self {
        Self {
            bytes: Vec::new(),
            digest: None,
        }
    }

    /// Digests the bytes.
    pub(crate) fn digesting() -> Self {
        Self {
            bytes: Vec::with_capacity(2 * SPILL_BYTES),
            digest: Some(Digest(0)),
        }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Seven bits a byte, the lowest first.
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push((value & 0x7f) as u8);
    }

    /// Called now and then while fields are added: lets a digesting sink take in what it has.
    pub(crate) fn spill(&mut self) {
        if let Some(digest) = &mut self.digest
            && self.bytes.len() >= SPILL_BYTES
        {
            let (words, _) = self.bytes.as_chunks();
            words
                .iter()
                .for_each(|word| digest.add(u64::from_le_bytes(*word)));
            let taken = words.len() * 8;
            self.bytes.drain(..taken);
        }
    }

    /// How many bytes a keeping sink has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of a keeping sink.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The digest of a digesting sink.
    pub(crate) fn into_digest(self) -> u64 {
        let mut digest = self.digest.expect("asked of a digesting sink");
        let (words, rest) = self.bytes.as_chunks();
        words
            .iter()
            .for_each(|word| digest.add(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        digest.add(u64::from_le_bytes(last));
        digest.finish(rest.len() as u64)
    }
}

/// Reads what a sink wrote. A read beyond the end is `None`.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // One number has one encoding.
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
