//! Checksums over the fields of a message or a file. A byte that moves from one field to the next changes them.
//!
//! Messages have XXH3, which finds damage in transit in a fraction of SHA-256's time. Against forgery there is TLS.
//! Files and tokens have SHA-256.

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::Xxh3;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// An XXH3 checksum of 128 bits, little-endian.
pub type MessageChecksum = [u8; 16];

/// A hash function that takes its input in pieces.
pub trait Hash: Default {
    /// The hash function's result.
    type Output;

    /// Adds bytes.
    fn update(&mut self, bytes: &[u8]);

    /// Returns the hash of all bytes so far.
    fn finish(self) -> Self::Output;
}

impl Hash for Sha256 {
    type Output = Digest;

    fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(self, bytes);
    }

    fn finish(self) -> Digest {
        self.finalize().into()
    }
}

impl Hash for Xxh3 {
    type Output = MessageChecksum;

    fn update(&mut self, bytes: &[u8]) {
        Self::update(self, bytes);
    }

    fn finish(self) -> MessageChecksum {
        self.digest128().to_le_bytes()
    }
}

/// Hashes the fields of a file one after another.
pub type FileHasher = FieldHasher<Sha256>;

/// Hashes the fields of a message one after another.
pub type MessageHasher = FieldHasher<Xxh3>;

/// Hashes fields one after another.
#[derive(Debug, Clone, Default)]
pub struct FieldHasher<H>(H);

impl<H: Hash> FieldHasher<H> {
    /// Returns a hasher without fields.
    pub fn new() -> Self {
        Self(H::default())
    }

    /// Adds a field of fixed size, such as a number's little-endian bytes.
    #[must_use]
    pub fn fixed<const N: usize>(mut self, bytes: [u8; N]) -> Self {
        self.0.update(&bytes);
        self
    }

    /// Adds a field of any length, with the length (u64, little-endian) before it.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Returns the checksum of all fields so far.
    pub fn finish(self) -> H::Output {
        self.0.finish()
    }
}

/// Returns the SHA-256 of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// Returns 32 bytes, such as a digest, in hexadecimal.
pub fn hex(bytes: &[u8; 32]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn the_digest_is_sha_256() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&digest(b"abc")), abc);
        assert_eq!(hex(&FileHasher::new().fixed(*b"abc").finish()), abc);
    }

    /// The XXH3 of nothing, from the specification's reference implementation (xxhsum -H2).
    #[test]
    fn the_message_checksum_is_xxh3() {
        let nothing = 0x99aa_06d3_0147_98d8_6001_c324_468d_497f_u128;
        assert_eq!(MessageHasher::new().finish(), nothing.to_le_bytes());
    }

    fn checksum<H: Hash>(fields: [&[u8]; 2]) -> H::Output {
        let [first, second] = fields;
        FieldHasher::<H>::new().bytes(first).bytes(second).finish()
    }

    fn moved_bytes_show<H: Hash<Output: PartialEq>>() {
        let of = checksum::<H>;
        assert!(of([b"ab", b"c"]) != of([b"a", b"bc"]));
        assert!(of([b"", b"abc"]) != of([b"abc", b""]));
        assert!(of([b"ab", b"c"]) == of([b"ab", b"c"]));
    }

    #[test]
    fn a_byte_that_moves_to_the_next_field_changes_the_checksum() {
        moved_bytes_show::<Sha256>();
        moved_bytes_show::<Xxh3>();
    }
}
