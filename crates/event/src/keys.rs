//! One master key, and what is derived from it: the record's uid, the sampling hash, tokens.
//!
//! All are keyed, so that nobody without the key can test a guess of a redacted value against a uid, choose events
//! that are sampled away, or compute a token. Tokens are HMAC-SHA-256 (RFC 2104), which whoever holds the key can
//! compute with any tool; samples are keyed BLAKE3.
//!
//! A uid is made of every byte that leaves, so it is made in two steps: POLYVAL (RFC 8452 §3), a universal hash under a
//! secret key, shortens the line to 128 bits at several times the speed of BLAKE3; keyed BLAKE3 makes the uid of them.
//! A universal hash alone would give its key away. Behind a pseudorandom function it does not: as long as no two lines
//! collide, uids are as good as random numbers to whoever lacks the keys (Wegman and Carter, "New hash functions and
//! their use in authentication and set equality", 1981; as a theorem: Boneh and Shoup, "A Graduate Course in Applied
//! Cryptography", §7.3, the PRF(UHF) composition). Two lines of at most 4 MiB collide with a probability below
//! 2^-109 under a random key, whoever chose them; 2^40 lines hold a colliding pair with one below 2^-30.

use hmac::{Hmac, KeyInit, Mac};
use polyval::universal_hash::UniversalHash;
use polyval::{Block, Polyval};
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

impl KeyId {
    /// The digits.
    pub fn digits(&self) -> &[u8; 8] {
        &self.0
    }
}

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
    /// Before the first byte of a line.
    line: Polyval,
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
    /// Derives all keys from the master key; those of the uid from the cluster's name too, so that equal lines of
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
        let mut line = polyval::Key::default();
        line.copy_from_slice(&derive("auditship 2026-11 line hash", cluster)[..polyval::KEY_SIZE]);
        Keys {
            line: Polyval::new(&line),
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

    /// The uid of an event's raw bytes (no terminator, no container runtime's prefix): the first 128 bits of keyed BLAKE3
    /// over their POLYVAL, for which they are padded with zeros and followed by a block that tells their length.
    pub fn uid(&self, raw: &[u8]) -> Uid {
        let mut line = self.line.clone();
        line.update_padded(raw);
        line.update(&[length_block(raw.len())]);
        let mut uid = [0; 16];
        uid.copy_from_slice(&blake3::keyed_hash(&self.uid, &line.finalize()).as_bytes()[..16]);
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

/// A number of bytes as a block: what tells a line from the same with zeros after it.
fn length_block(bytes: usize) -> Block {
    let mut block = Block::default();
    block[..8].copy_from_slice(&(bytes as u64).to_le_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by a program of its own from the text of RFC 8452 §3 and of the BLAKE3 paper.
    #[test]
    fn uids_are_blake3_of_polyval() {
        let mut keys = Keys::derive(b"k", "a");
        // The key of RFC 8452, appendix A.
        let key = u128::from_str_radix("25629347589242761d31f826ba4b757b", 16).unwrap().to_be_bytes();
        keys.line = Polyval::new(&key.into());
        keys.uid = std::array::from_fn(|at| at as u8);
        let long: Vec<u8> = (0..1000u32).map(|at| (at * 7 % 251) as u8).collect();
        for (raw, want) in [
            (&b""[..], "a85252b4d7c460bc71e7341ef89d9351"),
            (b"line", "2be16899a4b8ceff62ee7452814f1249"),
            (b"line\0", "6def4b3da3d4af91b9005d261b93e255"),
            (b"exactly 16 bytes", "783312e87e32d066e0848be89146c427"),
            (&long, "5845d7024ad5176f2d921bbd3709b0d0"),
        ] {
            assert_eq!(keys.uid(raw).to_string(), want, "{} bytes", raw.len());
        }
    }

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
