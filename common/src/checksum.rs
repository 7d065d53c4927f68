//! SHA-256 checksums over the fields of a message or a file. A byte that moves from one field to the next changes them.

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
pub type Checksum = [u8; 32];

/// Hashes fields one after another.
#[derive(Debug, Clone, Default)]
pub struct FieldHasher(Sha256);

impl FieldHasher {
    /// Returns a hasher without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field of fixed size, such as a number's little-endian bytes.
    #[must_use]
    pub fn fixed<const N: usize>(mut self, bytes: [u8; N]) -> Self {
        self.0.update(bytes);
        self
    }

    /// Adds a field of any length, with the length (u64, little-endian) before it.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Returns the checksum of all fields so far.
    pub fn finish(self) -> Checksum {
        self.0.finalize().into()
    }
}

/// Returns the SHA-256 of `bytes`.
pub fn digest(bytes: &[u8]) -> Checksum {
    Sha256::digest(bytes).into()
}

/// Returns 32 bytes, such as a checksum, in hexadecimal.
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
        assert_eq!(hex(&FieldHasher::new().fixed(*b"abc").finish()), abc);
    }

    #[test]
    fn a_byte_that_moves_to_the_next_field_changes_the_checksum() {
        let of = |fields: [&[u8]; 2]| {
            let [first, second] = fields;
            FieldHasher::new().bytes(first).bytes(second).finish()
        };
        assert_ne!(of([b"ab", b"c"]), of([b"a", b"bc"]));
        assert_ne!(of([b"", b"abc"]), of([b"abc", b""]));
        assert_eq!(of([b"ab", b"c"]), of([b"ab", b"c"]));
    }
}
