//! The digest of a public value: which certificate it was can be told, and its bulk is gone.
//!
//! The digest is not keyed, so that anybody who has the certificate can compute it (`sha256sum`). That is no harm where
//! the value is public, and a way to test guesses where it is not: what holds no certificate gets no digest.

use crate::allow::plain_text;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// What a certificate and a request for one have in common as PEM (RFC 7468 §5 and §7).
const CERTIFICATE: &[u8] = b"CERTIFICATE";
/// A file may hold the key beside the certificate.
const PRIVATE: &[u8] = b"PRIVATE KEY";

/// Appends `:sha256-DIGEST:LENGTH`. The digest is that of what `raw`, the inside of a JSON string, holds as base64,
/// else that of its text; the length is that of `raw`. False where it holds no certificate: nothing is appended.
pub(crate) fn write(raw: &[u8], out: &mut Vec<u8>) -> bool {
    let plain = plain_text(raw);
    // As the API server decodes bytes: it passes over ends of lines (Go's encoding/base64).
    let joined: Vec<u8> = plain.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let value = STANDARD.decode(&joined).map_or(plain, Cow::Owned);
    let holds = |word| memchr::memmem::find(&value, word).is_some();
    if !holds(CERTIFICATE) || holds(PRIVATE) {
        return false;
    }
    let digest = Sha256::digest(&value);
    out.extend_from_slice(b":sha256-");
    for byte in digest {
        out.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    out.extend_from_slice(format!(":{}", raw.len()).as_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
    /// `printf -- '…' | sha256sum`
    const SUM: &str = "66c3b95b78454ee53b0f72c57c05984cd776ef867f780ef97232914ad0ef4d74";

    fn written(raw: &str) -> Option<String> {
        let mut out = Vec::new();
        write(raw.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn of_what_is_decoded_else_of_the_text() {
        let packed = STANDARD.encode(PEM);
        assert_eq!(written(&packed), Some(format!(":sha256-{SUM}:{}", packed.len())));
        let escaped = packed.replace('L', "\\u004c");
        assert_eq!(written(&escaped), Some(format!(":sha256-{SUM}:{}", escaped.len())));
        let wrapped = format!("{}\\n{}", &packed[..20], &packed[20..]);
        assert_eq!(written(&wrapped), Some(format!(":sha256-{SUM}:{}", wrapped.len())));
        let text = PEM.replace('\n', "\\n");
        assert_eq!(written(&text), Some(format!(":sha256-{SUM}:{}", text.len())));
    }

    #[test]
    fn not_of_what_could_be_guessed() {
        let beside = format!("{PEM}-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n");
        for value in ["", "hunter2", &STANDARD.encode("hunter2"), &STANDARD.encode(beside)] {
            assert_eq!(written(value), None, "{value}");
        }
    }
}
