//! Whether a canary can be read from some bytes, as they are or after undoing whatever is easily undone: JSON and its
//! escapes, percent-encoding, base64 at every alignment, gzip, one inside of the other.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::io::Read;

/// So often something is undone.
const DEPTH: usize = 9;
/// The shortest run that can hold a canary in base64.
const RUN: usize = 16;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether `canary` can be read from `text`.
pub fn holds(text: &[u8], canary: &str) -> bool {
    look(text, canary.as_bytes(), DEPTH)
}

fn look(text: &[u8], canary: &[u8], depth: usize) -> bool {
    if memchr::memmem::find(text, canary).is_some() {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else { return false };
    unescaped(text).is_some_and(|inside| look(&inside, canary, depth))
        || unpercented(text, b'+').is_some_and(|inside| look(&inside, canary, depth))
        // In a query a plus sign is a space, elsewhere it is itself.
        || unpercented(text, b' ').is_some_and(|inside| look(&inside, canary, depth))
        || packed(text, canary, depth)
}

/// The text without the escapes of JSON strings, wherever they stand; `None` where there is none. Undone all over the
/// text, not by string: what is broken is read too.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'\\', text)?;
    let mut out = Vec::with_capacity(text.len());
    auditship_event::text::unescape(text, &mut out, |_, _| {});
    Some(out)
}

fn unpercented(text: &[u8], plus: u8) -> Option<Vec<u8>> {
    memchr::memchr(b'%', text)?;
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (text[at], digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(if byte == b'+' { plus } else { byte });
                at += 1;
            }
        }
    }
    (out.len() < text.len()).then_some(out)
}

/// Looks into every run of base64, of either alphabet, wrapped or not, from each of four beginnings.
fn packed(text: &[u8], canary: &[u8], depth: usize) -> bool {
    let mut at = 0;
    while at < text.len() {
        if value_of(text[at]).is_none() {
            at += 1;
            continue;
        }
        let (mut run, mut end) = (Vec::new(), at);
        while let Some(byte) = text.get(end) {
            match (value_of(*byte), byte) {
                (Some(letter), _) => run.push(letter),
                // A line that is wrapped goes on, indented or not.
                (None, b'\n' | b'\r') => {}
                (None, b' ' | b'\t') if matches!(text[end - 1], b'\n' | b' ' | b'\t') => {}
                _ => break,
            }
            end += 1;
        }
        if run.len() >= RUN && (0..4).any(|skip| inside(&run[skip..], canary, depth)) {
            return true;
        }
        at = end;
    }
    false
}

/// The letter of the standard alphabet that means the same as `byte` in either.
fn value_of(byte: u8) -> Option<u8> {
    match byte {
        b'-' => Some(b'+'),
        b'_' => Some(b'/'),
        b'+' | b'/' => Some(byte),
        _ => byte.is_ascii_alphanumeric().then_some(byte),
    }
}

fn inside(run: &[u8], canary: &[u8], depth: usize) -> bool {
    let whole = if run.len() % 4 == 1 { &run[..run.len() - 1] } else { run };
    let Ok(plain) = BASE64.decode(whole) else { return false };
    if plain.starts_with(&[0x1f, 0x8b]) {
        let mut text = Vec::new();
        // A stream that breaks off shows what came before.
        let _ = flate2::read::GzDecoder::new(&*plain).take(1 << 22).read_to_end(&mut text);
        return look(&text, canary, depth);
    }
    // Random bytes need no further look.
    let readable = plain.iter().filter(|b| (0x20..0x7f).contains(*b) || b"\n\r\t".contains(b)).count();
    if readable * 10 < plain.len() * 8 {
        return memchr::memmem::find(&plain, canary).is_some();
    }
    look(&plain, canary, depth)
}

#[test]
fn finds_a_canary_however_it_is_written() {
    use std::io::Write;
    let canary = "Kq7Vx2Mb9Tz4";
    let base64 = |text: &[u8]| base64::engine::general_purpose::STANDARD.encode(text);
    let json = |text: &str| serde_json::to_string(text).unwrap();
    let gzip = |text: &[u8]| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text).unwrap();
        gz.finish().unwrap()
    };
    let percent = |text: &str| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
    let escapes = |text: &str| text.bytes().map(|b| format!("\\u{b:04x}")).collect::<String>();
    let plain = format!("password: {canary}\n");
    for text in [
        plain.clone(),
        json(&json(&plain)),
        escapes(canary),
        percent(canary),
        base64(plain.as_bytes()),
        base64(format!("x{plain}").as_bytes()),
        base64(format!("xy{plain}").as_bytes()),
        base64(base64(plain.as_bytes()).as_bytes()),
        base64(&gzip(plain.as_bytes())),
        base64(base64(&gzip(json(&plain).as_bytes())).as_bytes()),
        base64(escapes(&json(&plain)).as_bytes()),
        json(
            &base64(plain.as_bytes())
                .as_bytes()
                .chunks(8)
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        base64(plain.as_bytes()).replace('=', "").replace('+', "-").replace('/', "_"),
    ] {
        assert!(holds(format!("{{\"a\":\"{text}\"}}").as_bytes(), canary), "{text}");
        assert!(!holds(format!("{{\"a\":\"{text}\"}}").as_bytes(), "Kq7Vx2Mb9Tz5"), "{text}");
    }
}
