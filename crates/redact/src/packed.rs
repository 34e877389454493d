//! What is packed inside a string: base64 of text, of base64, of gzip. Opened to look inside, never written back.
//!
//! A string may be packed as a whole, or hold runs of base64 among other text, wrapped over several lines or glued to
//! a word.
//!
//! Bounded: one string gives at most [`MAX_OPENED`] bytes, and all strings of a line [`LINE_BUDGET`] together. What
//! is larger counts as unreadable.

use crate::values::is_mixed;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::io::Read;
use std::ops::Range;

/// Most bytes that one string may give.
const MAX_OPENED: usize = 4 << 20;
/// Most bytes that the strings of one line may give.
pub(crate) const LINE_BUDGET: usize = 32 << 20;
/// Shorter strings hold no credential worth the name after decoding.
pub(crate) const MIN: usize = 24;
const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
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

/// Whether `text[range]` may be one run of base64 as a whole.
pub(crate) fn is_all(text: &[u8], range: &Range<usize>) -> bool {
    may_be(&text[range.clone()]) && run(text, range.start, range) == *range
}

/// Whether `raw` may be base64. Looks at a few bytes only: names, paths, digests and identifiers fail soon.
fn may_be(raw: &[u8]) -> bool {
    const HEAD: usize = 16;
    let Some(head) = raw.get(..HEAD).filter(|_| raw.len() >= MIN) else { return false };
    head.iter().all(|b| is_base64(*b))
        && raw[..raw.len().min(4 * HEAD)].iter().any(u8::is_ascii_uppercase)
        && raw.last().is_some_and(|b| is_base64(*b) || *b == b'=')
}

/// The run of base64 around `at` in `text[within]`. Lines of equal length are one run.
pub(crate) fn run(text: &[u8], at: usize, within: &Range<usize>) -> Range<usize> {
    let is = |b: &u8| is_base64(*b);
    let start = text[within.start..at]
        .iter()
        .rposition(|b| !is(b))
        .map_or(within.start, |step| within.start + step + 1);
    // Only the letters of an escape seem to belong to it.
    let start = if start > within.start && text[start - 1] == b'\\' { start + 1 } else { start };
    let mut end = line_end(&text[..within.end], at);
    let width = end - start;
    let mut last = width;
    while last == width && width >= MIN_WIDTH {
        let next = line_break(text, end).min(within.end);
        let more = line_end(&text[..within.end], next);
        last = more - next;
        // A line of other text may begin with a word.
        let word = match text[more..within.end] {
            [b' ' | b':' | b'.' | b',' | b'(' | b'@', ..] => true,
            [b'=', after, ..] => is_base64(after),
            _ => false,
        };
        if next == end || last == 0 || last > width || word {
            break;
        }
        end = more;
    }
    while end < within.end && text[end] == b'=' {
        end += 1;
    }
    start..end
}

/// Shorter lines are not base64 that was wrapped (RFC 2045 §6.8 and RFC 7468 §2 wrap at 76 and 64).
const MIN_WIDTH: usize = 32;

/// Where the line after the one that ends at `end` begins, its indentation passed over; `end` where there is none.
fn line_break(text: &[u8], end: usize) -> usize {
    let mut at = end;
    loop {
        // Line breaks of a document that stands in a string are written with backslashes.
        let slashes = text[at..].iter().take(16).take_while(|b| **b == b'\\').count();
        at += slashes + 1;
        match text.get(at - 1) {
            Some(b'\r') if slashes == 0 => {}
            Some(b'r') if slashes > 0 => {}
            Some(b'\n') if slashes == 0 => break,
            Some(b'n') if slashes > 0 => break,
            _ => return end,
        }
    }
    at + text[at..].iter().take_while(|b| **b == b' ').count()
}

/// Whether a run may be base64 of something: names, paths, digests and identifiers are none.
pub(crate) fn may_hold(run: &[u8]) -> bool {
    let head = &run[..run.len().min(64)];
    let joints = head.iter().filter(|b| matches!(b, b'-' | b'_' | b'/')).count();
    match run.len() {
        // U+FFFD, which stands for bytes that are no text, is half joints: a long run is none only where it is a line.
        48.. => joints < head.len(),
        // Words in CamelCase are mixed little, but are shorter.
        MIN.. => joints * 2 <= head.len() && is_mixed(head),
        _ => false,
    }
}

/// Opens a run, however it is cut: wrapped, without its end, glued to the end of a word. Where the letters in the middle
/// of its first line give neither text nor gzip, it is none: other bytes hold nothing that rules look for.
pub(crate) fn open_run(run: &[u8], out: &mut Vec<u8>, budget: &mut usize) -> Opened {
    let first = &run[..line_end(run, 0)];
    let Some(skip) = (0..4).find(|skip| gives_text(first, *skip)) else { return Opened::No };
    let mut letters: Vec<u8> = Vec::with_capacity(run.len());
    let mut line = skip;
    while line < run.len() {
        let end = line_end(run, line);
        letters.extend_from_slice(&run[line..end]);
        let next = line_break(run, end);
        line = if next == end { run.len() } else { next };
    }
    // A single letter holds no byte.
    if letters.len() % 4 == 1 {
        letters.pop();
    }
    open(&letters, out, budget)
}

/// Whether `letters`, cut into fours from `skip` on, are base64 of text, or of gzip.
fn gives_text(letters: &[u8], skip: usize) -> bool {
    let letters = letters.get(skip..).unwrap_or_default();
    if skip == 0 && letters.starts_with(GZIP_LETTERS) {
        return true;
    }
    let from = (letters.len().saturating_sub(WINDOW) / 2) & !3;
    let window = &letters[from..letters.len().min(from + WINDOW)];
    let window = &window[..window.len() & !3];
    let mut opened = [0; WINDOW / 4 * 3];
    let length =
        STANDARD.decode_slice(window, &mut opened).or_else(|_| URL_SAFE.decode_slice(window, &mut opened));
    let Ok(length @ 6..) = length else { return false };
    // A character may be cut at either end.
    let text = &opened[..length];
    let begin = text.iter().take(3).take_while(|b| (0x80..0xc0).contains(*b)).count();
    match std::str::from_utf8(&text[begin..]) {
        Ok(_) => true,
        Err(bad) => bad.error_len().is_none(),
    }
}

/// So many letters show what a run is.
const WINDOW: usize = 24;
/// How gzip begins (RFC 1952 §2.3.1), and how it begins in base64.
const GZIP: &[u8] = &[0x1f, 0x8b];
const GZIP_LETTERS: &[u8] = b"H4sI";

fn line_end(run: &[u8], from: usize) -> usize {
    run[from..].iter().position(|b| !is_base64(*b)).map_or(run.len(), |step| from + step)
}

/// Opens `raw` into `out`.
pub(crate) fn open(raw: &[u8], out: &mut Vec<u8>, budget: &mut usize) -> Opened {
    out.clear();
    let Some(mut inside) = decoded(raw) else { return Opened::No };
    if inside.len() > MAX_OPENED || inside.len() > *budget {
        return Opened::TooLarge;
    }
    *budget -= inside.len();
    if inside.starts_with(GZIP) {
        let limit = MAX_OPENED.min(*budget);
        let mut plain = Vec::new();
        let read = flate2::read::GzDecoder::new(&*inside).take(limit as u64 + 1).read_to_end(&mut plain);
        if plain.len() > limit {
            return Opened::TooLarge;
        }
        *budget -= plain.len();
        // A stream that breaks off still shows what came before.
        if read.is_ok() || !plain.is_empty() {
            inside = plain;
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
        assert_eq!(opened(&BASE64.encode(&once)), (Opened::Yes, once), "one layer at a time");
        assert_eq!(opened(&BASE64.encode(gzip(plain.as_bytes()))), (Opened::Yes, plain.into()));
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
