//! What is packed inside a string: base64 of text, of base64, of gzip. Opened to look inside, never written back.
//!
//! Bounded: one string gives at most [`MAX_OPENED`] bytes, and all strings of a line [`LINE_BUDGET`] together. What
//! is larger counts as unreadable.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::io::Read;

/// Most bytes that one string may give.
const MAX_OPENED: usize = 4 << 20;
/// Most bytes that the strings of one line may give.
pub(crate) const LINE_BUDGET: usize = 32 << 20;
/// Shorter strings hold no credential worth the name after decoding.
pub(crate) const MIN: usize = 24;
/// How often base64 and gzip are taken off. A Helm release has three layers in a Secret (helm.sh/helm
/// `pkg/storage/driver/util.go`, and the API's own).
const MAX_LAYERS: usize = 4;

const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// Base64, padded or not (RFC 4648 §4).
pub(crate) const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG);

/// What came of opening a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It is not packed.
    No,
    /// Its inside has been appended.
    Yes,
    /// Its inside is larger than the bounds allow.
    TooLarge,
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// Whether `raw` may be base64. Looks at a few bytes only: names, paths, digests and identifiers fail soon.
pub(crate) fn may_be(raw: &[u8]) -> bool {
    const HEAD: usize = 16;
    let Some(head) = raw.get(..HEAD).filter(|_| raw.len() >= MIN) else { return false };
    head.iter().all(|b| is_base64(*b))
        && head.iter().any(u8::is_ascii_uppercase)
        && raw.last().is_some_and(|b| is_base64(*b) || *b == b'=')
}

/// Opens `raw` into `out`.
pub(crate) fn open(raw: &[u8], out: &mut Vec<u8>, budget: &mut usize) -> Opened {
    out.clear();
    let Some(mut inside) = decoded(raw) else { return Opened::No };
    for _ in 1..MAX_LAYERS {
        if inside.len() > MAX_OPENED || inside.len() > *budget {
            return Opened::TooLarge;
        }
        *budget -= inside.len();
        if inside.starts_with(&[0x1f, 0x8b]) {
            let limit = MAX_OPENED.min(*budget);
            let mut plain = Vec::new();
            let read = flate2::read::GzDecoder::new(&*inside).take(limit as u64 + 1).read_to_end(&mut plain);
            // A stream that breaks off still shows what came before.
            if read.is_err() && plain.is_empty() {
                break;
            }
            if plain.len() > limit {
                return Opened::TooLarge;
            }
            inside = plain;
        } else if may_be(&inside) {
            match decoded(inside.trim_ascii_end()) {
                Some(plain) => inside = plain,
                None => break,
            }
        } else {
            break;
        }
    }
    out.append(&mut inside);
    Opened::Yes
}

fn decoded(raw: &[u8]) -> Option<Vec<u8>> {
    // A digest in hexadecimal is base64 by its alphabet too.
    let end = raw.iter().rposition(|b| *b != b'=').map_or(0, |at| at + 1);
    if raw.len() - end > 2 || end % 4 == 1 || raw[..end].iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    STANDARD.decode(raw).or_else(|_| URL_SAFE.decode(raw)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use std::io::Write;

    fn opened(raw: &str) -> (Opened, String) {
        let (mut out, mut budget) = (Vec::new(), LINE_BUDGET);
        let what =
            if may_be(raw.as_bytes()) { open(raw.as_bytes(), &mut out, &mut budget) } else { Opened::No };
        (what, String::from_utf8_lossy(&out).into_owned())
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(plain).unwrap();
        gz.finish().unwrap()
    }

    #[test]
    fn layers() {
        let plain = "some text that is long enough";
        let once = BASE64.encode(plain);
        assert_eq!(opened(&once), (Opened::Yes, plain.into()));
        assert_eq!(opened(&BASE64.encode(&once)), (Opened::Yes, plain.into()));
        let helm = BASE64.encode(BASE64.encode(gzip(plain.as_bytes())));
        assert_eq!(opened(&helm), (Opened::Yes, plain.into()));
        for raw in [
            "0123456789abcdef0123456789abcdef",
            "app-5d6f7c8b9-x2x4z-and-more-of-it",
            "docker.io/library/nginx:1.25-alpine",
        ] {
            assert_eq!(opened(raw).0, Opened::No, "{raw}");
        }
    }

    #[test]
    fn a_bomb_is_too_large() {
        let bomb = BASE64.encode(gzip(&vec![0; 64 << 20]));
        assert_eq!(opened(&bomb).0, Opened::TooLarge);
        let mut budget = 10;
        assert_eq!(open(b"QUJDREVGR0hJSktMTU5PUFFSU1Q=", &mut Vec::new(), &mut budget), Opened::TooLarge);
    }
}
