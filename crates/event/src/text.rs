//! The text inside a JSON string: escapes resolved, with the raw offsets kept on request.

use crate::scan::Str;
use std::borrow::Cow;

/// Appends the decoded text of `raw` (the inside of a valid JSON string) to `out`.
///
/// After every escape `seam(decoded, raw)` is told the two offsets from which plain bytes go on, `decoded`
/// counted in `out` and `raw` in `raw`; it is told once at the beginning too. Lone surrogates become U+FFFD
/// (RFC 8259 §8.2 leaves them to the reader); bytes that are not UTF-8 are copied as they are.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>, mut seam: impl FnMut(usize, usize)) {
    let mut at = 0;
    seam(out.len(), 0);
    while let Some(step) = memchr::memchr(b'\\', &raw[at..]) {
        out.extend_from_slice(&raw[at..at + step]);
        at += step;
        at = escape(raw, at, out);
        seam(out.len(), at);
    }
    out.extend_from_slice(&raw[at..]);
}

/// Decodes the escape at `at` and returns the offset after it.
fn escape(raw: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    let plain = match raw.get(at + 1) {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(b'u') => return unicode(raw, at, out),
        Some(other) => *other,
        // Not valid JSON: keep the backslash, so that nothing disappears.
        None => b'\\',
    };
    out.push(plain);
    (at + 2).min(raw.len())
}

fn unicode(raw: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    let unit = |at: usize| -> Option<u32> {
        let digits = raw.get(at..at + 6)?;
        let digits = digits.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (code, end) = match (unit(at), unit(at + 6)) {
        (Some(high @ 0xD800..0xDC00), Some(low @ 0xDC00..0xE000)) => {
            (0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), at + 12)
        }
        (Some(code), _) => (code, at + 6),
        (None, _) => (0xFFFD, raw.len().min(at + 6)),
    };
    let char = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    end
}

/// The text of `value` inside `doc`: borrowed where it holds no escape and is UTF-8.
pub fn decoded<'a>(doc: &'a [u8], value: Str) -> Cow<'a, str> {
    let raw = value.raw(doc);
    if !value.escaped {
        // Most are short: the general conversion would take longer to begin than they are.
        return std::str::from_utf8(raw).map_or_else(|_| String::from_utf8_lossy(raw), Cow::Borrowed);
    }
    let mut out = Vec::with_capacity(raw.len());
    unescape(raw, &mut out, |_, _| {});
    Cow::Owned(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// Whether the text of a raw string equals `word`, decoded where it holds escapes.
#[inline]
pub fn equals(doc: &[u8], value: Str, word: &str) -> bool {
    if value.escaped { decoded(doc, value) == word } else { value.raw(doc) == word.as_bytes() }
}

/// Appends `text` as the inside of a JSON string (RFC 8259 §7), quotes not included.
pub fn escape_into(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    // Run by run: most text has nothing to escape.
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        let byte = rest[at];
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if byte < 0x20 {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', byte]);
        }
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(raw: &str) -> String {
        let value = Str { start: 0, end: raw.len(), escaped: true };
        decoded(raw.as_bytes(), value).into_owned()
    }

    #[test]
    fn escapes() {
        for (raw, want) in [
            (r#"a\"b\\c\/d"#, "a\"b\\c/d"),
            (r"\n\t\r\b\f", "\n\t\r\u{8}\u{c}"),
            (r"d\u0061ta", "data"),
            (r"\ud83d\ude00!", "😀!"),
            (r"\ud83d!", "\u{fffd}!"),
            (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(text(raw), want, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn round_trip_and_serde_agree(plain in "\\PC{0,40}|[\\x00-\\x7f]{0,20}") {
            let mut raw = Vec::new();
            escape_into(&plain, &mut raw);
            let raw = String::from_utf8(raw).unwrap();
            prop_assert_eq!(&text(&raw), &plain);
            let theirs = serde_json::to_string(&plain).unwrap();
            prop_assert_eq!(text(&theirs[1..theirs.len() - 1]), plain);
        }

        #[test]
        fn seams_lead_back_to_the_raw_bytes(plain in "[a-z\"\\\\\\n]{0,30}") {
            let theirs = serde_json::to_string(&plain).unwrap();
            let raw = &theirs.as_bytes()[1..theirs.len() - 1];
            let (mut out, mut seams) = (Vec::new(), Vec::new());
            unescape(raw, &mut out, |decoded, raw| seams.push((decoded, raw)));
            for (i, byte) in out.iter().enumerate() {
                let (decoded, from) = *seams.iter().rev().find(|(decoded, _)| *decoded <= i).unwrap();
                let there = raw.get(from + (i - decoded));
                prop_assert!(there == Some(byte) || there == Some(&b'\\'));
            }
        }
    }
}
