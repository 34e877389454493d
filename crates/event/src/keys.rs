//! One master key, and what is derived from it: the record's uid, the sampling hash, tokens.
//!
//! All are keyed, so that nobody without the key can test a guess of a redacted value against a uid, choose events
//! that are sampled away, or compute a token. Uids and samples are keyed BLAKE3, for they are made of every line;
//! tokens are HMAC-SHA-256 (RFC 2104), which whoever holds the key can compute with any tool.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// 128 bits that name an event: equal for byte-identical lines of one cluster, on every node and every run
/// with the same key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(pub [u8; 16]);

impl Uid {
    /// The 32 lower-case hexadecimal digits.
    pub fn hex(self) -> [u8; 32] {
        hex(self.0)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex<const N: usize, const M: usize>(bytes: [u8; N]) -> [u8; M] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; M];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

/// Which master key was used: 8 hexadecimal digits that say nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The derived keys. `Debug` shows the key's id alone.
#[derive(Clone)]
pub struct Keys {
    uid: [u8; 32],
    sample: [u8; 32],
    /// The state after the key, so that a token costs no more than its value.
    token: Hmac<Sha256>,
    id: KeyId,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.id)
    }
}

impl Keys {
    /// Derives all keys from the master key; the uid key from the cluster's name too, so that equal lines of
    /// two clusters are two events.
    pub fn derive(master: &[u8], cluster: &str) -> Keys {
        let derive = |context: &str, more: &str| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(&(master.len() as u64).to_le_bytes()).update(master).update(more.as_bytes());
            *hasher.finalize().as_bytes()
        };
        let id = derive("auditship 2026-11 key id", "");
        let mut short = [0; 4];
        short.copy_from_slice(&id[..4]);
        Keys {
            uid: derive("auditship 2026-11 record uid", cluster),
            sample: derive("auditship 2026-11 sampling", ""),
            token: Hmac::new_from_slice(&derive("auditship 2026-11 token", ""))
                .expect("HMAC takes keys of any length"),
            id: KeyId(hex(short)),
        }
    }

    /// Which master key this is.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The uid of an event's raw bytes (no terminator, no container runtime's prefix).
    pub fn uid(&self, raw: &[u8]) -> Uid {
        let mut uid = [0; 16];
        uid.copy_from_slice(&blake3::keyed_hash(&self.uid, raw).as_bytes()[..16]);
        Uid(uid)
    }

    /// A uniform 64-bit number for `parts`, for sampling. The parts are told apart by their lengths.
    pub fn sample(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.sample);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let mut number = [0; 8];
        number.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(number)
    }

    /// The first 64 bits of the value's HMAC-SHA-256, as 16 hexadecimal digits: equal for equal values.
    pub fn token(&self, value: &[u8]) -> [u8; 16] {
        let mut mac = self.token.clone();
        mac.update(value);
        let mut short = [0; 8];
        short.copy_from_slice(&mac.finalize().into_bytes()[..8]);
        hex(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_key_cluster_and_line() {
        let keys = Keys::derive(b"k", "a");
        assert_eq!(keys.uid(b"line"), Keys::derive(b"k", "a").uid(b"line"));
        assert_ne!(keys.uid(b"line"), keys.uid(b"line2"));
        assert_ne!(keys.uid(b"line"), Keys::derive(b"k", "b").uid(b"line"));
        assert_ne!(keys.uid(b"line"), Keys::derive(b"l", "a").uid(b"line"));
        assert_eq!(keys.id(), Keys::derive(b"k", "b").id());
        assert_ne!(keys.id(), Keys::derive(b"l", "b").id());
        assert_eq!(keys.uid(b"line").to_string().len(), 32);
    }

    #[test]
    fn sampling_tells_parts_apart() {
        let keys = Keys::derive(b"k", "a");
        assert_ne!(keys.sample(&[b"ab", b"c"]), keys.sample(&[b"a", b"bc"]));
    }

    #[test]
    fn tokens_are_hmac_sha_256() {
        let mut keys = Keys::derive(b"k", "a");
        assert_eq!(keys.token(b"value"), keys.token(b"value"));
        assert_ne!(keys.token(b"value"), keys.token(b"other"));
        // RFC 4231 §4.3.
        keys.token = Hmac::new_from_slice(b"Jefe").unwrap();
        assert_eq!(&keys.token(b"what do ya want for nothing?"), b"5bdcc146bf60754e");
    }

    #[test]
    fn nothing_prints_a_key() {
        let keys = Keys::derive(b"k", "a");
        assert_eq!(format!("{keys:?}"), format!("Keys({})", keys.id()));
    }
}
