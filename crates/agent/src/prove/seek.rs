//! Finds a canary in what leaves, however it is written there: JSON escapes, percent encoding, base64 of either
//! alphabet at any alignment and also in lines, gzip; one inside the other, to a bounded depth.
//!
//! It errs on the side of finding: a piece of a secret counts as the secret.

use auditship_event::text;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;
use std::collections::HashSet;
use std::io::Read;

/// Encodings inside encodings that are taken off.
const MAX_DEPTH: usize = 10;
/// Most bytes that are looked at for one text, all that is decoded from it included.
const MAX_BYTES: usize = 4 << 20;
/// Most bytes that gzip may give.
const MAX_GUNZIP: u64 = 1 << 20;
/// So much of a secret is a piece of it that must not leave either.
const PIECE: usize = 8;
/// Base64 of a piece is at least this long.
const MIN_BASE64: usize = 11;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG);

/// What must not be found.
#[derive(Clone, Debug)]
pub struct Needle {
    pieces: Vec<memmem::Finder<'static>>,
}

impl Needle {
    /// Overlapping pieces of the parts of a secret, which need not stand together; a short part counts as a whole.
    pub fn new(parts: &[&str]) -> Needle {
        let mut pieces = Vec::new();
        for part in parts.iter().map(|part| part.as_bytes()).filter(|part| !part.is_empty()) {
            // Long secrets are cut somewhere in the middle, if at all: fewer pieces find that too.
            let step = if part.len() > 64 { PIECE } else { PIECE / 2 };
            let last = part.len().saturating_sub(PIECE);
            for at in (0..last).step_by(step).chain([last]) {
                pieces.push(memmem::Finder::new(&part[at..part.len().min(at + PIECE)]).into_owned());
            }
        }
        Needle { pieces }
    }

    /// Adds the pieces of `other`.
    pub fn and(mut self, other: Needle) -> Needle {
        self.pieces.extend(other.pieces);
        self
    }

    /// Whether a piece of it stands in `text`.
    pub fn is_in(&self, text: &[u8]) -> bool {
        let mut search = Search { needle: self, seen: HashSet::new(), budget: MAX_BYTES };
        search.look(text, MAX_DEPTH)
    }
}

/// One search through one text.
struct Search<'n> {
    needle: &'n Needle,
    /// Base64 that was opened already: most of it stands in every layer of escapes.
    seen: HashSet<Vec<u8>>,
    budget: usize,
}

impl Search<'_> {
    fn look(&mut self, text: &[u8], depth: usize) -> bool {
        if self.needle.pieces.iter().any(|piece| piece.find(text).is_some()) {
            return true;
        }
        if depth == 0 || text.len() > self.budget {
            return false;
        }
        self.budget -= text.len();
        if text.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            // What comes before a break is looked at too.
            let _ = flate2::read::GzDecoder::new(text).take(MAX_GUNZIP).read_to_end(&mut plain);
            return self.look(&plain, depth - 1);
        }
        self.base64(text, depth) || self.escapes(text, depth) || self.percent(text, depth)
    }

    fn escapes(&mut self, raw: &[u8], depth: usize) -> bool {
        if !raw.contains(&b'\\') {
            return false;
        }
        let mut plain = Vec::with_capacity(raw.len());
        text::unescape(raw, &mut plain, |_, _| {});
        self.look(&plain, depth - 1)
    }

    fn percent(&mut self, raw: &[u8], depth: usize) -> bool {
        let mut plain = Vec::with_capacity(raw.len());
        let mut at = 0;
        let digit = |at: usize| raw.get(at).and_then(|b| char::from(*b).to_digit(16));
        while at < raw.len() {
            match (raw[at], digit(at + 1), digit(at + 2)) {
                (b'%', Some(high), Some(low)) => {
                    plain.push((high * 16 + low) as u8);
                    at += 3;
                }
                // A form's spelling of a space.
                (b'+', ..) => {
                    plain.push(b' ');
                    at += 1;
                }
                (byte, ..) => {
                    plain.push(byte);
                    at += 1;
                }
            }
        }
        plain != raw && self.look(&plain, depth - 1)
    }

    fn base64(&mut self, text: &[u8], depth: usize) -> bool {
        self.runs(text, &STANDARD, is_standard, depth) || self.runs(text, &URL_SAFE, is_url_safe, depth)
    }

    /// The runs of one alphabet's letters.
    fn runs(
        &mut self,
        text: &[u8],
        engine: &GeneralPurpose,
        is_letter: fn(&u8) -> bool,
        depth: usize,
    ) -> bool {
        let mut at = 0;
        while let Some(step) = text[at..].iter().position(is_letter) {
            at += step;
            let (mut run, mut end) = (Vec::new(), at);
            loop {
                let step = text[end..].iter().take_while(|b| is_letter(b)).count();
                run.extend_from_slice(&text[end..end + step]);
                end += step;
                // Lines of one text, as `base64` breaks them; short ones are words under each other.
                let breaks = text[end..].iter().take_while(|b| b.is_ascii_whitespace()).count();
                let goes_on = text.get(end + breaks).is_some_and(is_letter);
                if step < 40 || !goes_on || !text[end..end + breaks].contains(&b'\n') {
                    break;
                }
                end += breaks;
            }
            at = end;
            if run.len() >= MIN_BASE64 && self.seen.insert(run.clone()) && self.run(&run, engine, depth) {
                return true;
            }
        }
        false
    }

    /// One run of base64's letters, of which the first may belong to something else.
    fn run(&mut self, run: &[u8], engine: &GeneralPurpose, depth: usize) -> bool {
        for from in 0..4 {
            let Some(part) = run.get(from..) else { break };
            let part = if part.len() % 4 == 1 { &part[..part.len() - 1] } else { part };
            let Ok(plain) = engine.decode(part) else { continue };
            let direct = self.needle.pieces.iter().any(|piece| piece.find(&plain).is_some());
            if direct || (is_worth_it(&plain) && self.look(&plain, depth - 1)) {
                return true;
            }
        }
        false
    }
}

fn is_standard(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

fn is_url_safe(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Whether decoded bytes are something: text, or gzip.
fn is_worth_it(plain: &[u8]) -> bool {
    let head = &plain[..plain.len().min(64)];
    let text = head.iter().filter(|b| matches!(b, b' '..=b'~' | b'\n' | b'\r' | b'\t')).count();
    plain.starts_with(&[0x1f, 0x8b]) || text * 10 >= head.len() * 9
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use std::io::Write;

    const SECRET: &str = "xK9mQ2vL7pR4tY8w";

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(plain).unwrap();
        gz.finish().unwrap()
    }

    #[test]
    fn every_encoding_is_taken_off() {
        let needle = Needle::new(&[SECRET]);
        let json = serde_json::json!({"a": {"password": SECRET}}).to_string();
        let twice = serde_json::json!({"b": json}).to_string();
        let spelled: String = SECRET.bytes().map(|b| format!("\\u{b:04x}")).collect();
        let percent: String = SECRET.bytes().map(|b| format!("%{b:02X}")).collect();
        let aligned = |pad: &str| BASE64.encode(format!("{pad}{SECRET} and more"));
        let long = BASE64.encode(format!("{}{SECRET}", "some words that are long ".repeat(5)));
        let wrapped = format!("{}\n{}\n{}", &long[..76], &long[76..152], &long[152..]);
        for text in [
            SECRET.to_owned(),
            format!("before {} after", &SECRET[4..12]),
            serde_json::json!({"c": twice}).to_string(),
            format!(r#"{{"a":"{spelled}"}}"#),
            format!("/x?q={percent}"),
            format!("/x?q={}", percent.replace('%', "%25")),
            aligned(""),
            aligned("x"),
            aligned("xy"),
            format!("abc{}", aligned("")),
            aligned("ü?~").replace('+', "-").replace('/', "_").replace('=', ""),
            serde_json::json!({"a": wrapped}).to_string(),
            BASE64.encode(BASE64.encode(gzip(json.as_bytes()))),
            serde_json::json!({"k": BASE64.encode(BASE64.encode(gzip(twice.as_bytes())))}).to_string(),
        ] {
            assert!(needle.is_in(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let needle = Needle::new(&[SECRET]);
        for text in
            ["", "xK9mQ2v", "redacted:jwt:e776f6a3-97c70949aad3f71e", &BASE64.encode("something else here")]
        {
            assert!(!needle.is_in(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn hostile_text_comes_to_an_end() {
        let needle = Needle::new(&[SECRET]);
        let mut text = "nothing is in it at all".to_owned();
        for _ in 0..40 {
            text = BASE64.encode(&text);
            text.truncate(100_000);
        }
        assert!(!needle.is_in(text.as_bytes()));
        assert!(!needle.is_in(&b"%25%5c".repeat(20_000)));
        assert!(!needle.is_in(&gzip(&vec![b'a'; 64 << 20])));
    }

    #[test]
    fn pieces_of_short_and_long_secrets() {
        assert!(Needle::new(&["short"]).is_in(b"a short word"));
        assert!(Needle::new(&["first line here", "second line here"]).is_in(b"second line"));
        assert!(Needle::new(&[]).and(Needle::new(&["other-one"])).is_in(b"my other-one"));
    }
}
