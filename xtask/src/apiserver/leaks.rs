//! Looks for planted secrets in what has left: as they are, as JSON, base64 and percent-encoding write them, and behind
//! whatever base64 and gzip a string can be unpacked from.

use super::secrets::{base64, base64_url};
use aho_corasick::AhoCorasick;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// How often a string is unpacked.
const DEPTH: usize = 4;

/// The most that a packed string is unpacked to.
const UNPACKED_MAX: u64 = 16 << 20;

/// Shorter values would be found by chance, once they are in base64.
const MIN_BYTES: usize = 12;

/// Every spelling of every planted secret.
pub(crate) struct Needles {
    automaton: AhoCorasick,
    /// Which value a spelling is of.
    values: Vec<(String, &'static str)>,
    owners: Vec<usize>,
}

/// A value that was found. It is made up, so it can be shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Leak {
    pub(crate) kind: &'static str,
    pub(crate) value: String,
    /// In what it was found.
    pub(crate) place: String,
    /// The text around it.
    pub(crate) around: String,
}

impl Needles {
    pub(crate) fn new(planted: &BTreeMap<String, &'static str>) -> Result<Needles> {
        let (mut spellings, mut owners, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (value, kind) in planted.iter().filter(|(value, _)| value.len() >= MIN_BYTES) {
            for spelling in spelled(value) {
                spellings.push(spelling);
                owners.push(values.len());
            }
            values.push((value.clone(), *kind));
        }
        let automaton = AhoCorasick::new(&spellings).context("make the search for the planted secrets")?;
        Ok(Needles { automaton, values, owners })
    }

    /// Looks into text of any kind, and where it is JSON into its strings.
    pub(crate) fn search(&self, text: &[u8], place: &str, found: &mut BTreeSet<Leak>) {
        self.plain(text, place, found);
        if let Ok(value) = serde_json::from_slice::<Value>(text) {
            self.strings(&value, place, DEPTH, found);
        }
    }

    fn plain(&self, text: &[u8], place: &str, found: &mut BTreeSet<Leak>) {
        for hit in self.automaton.find_iter(text) {
            let (value, kind) = &self.values[self.owners[hit.pattern().as_usize()]];
            let around = &text[hit.start().saturating_sub(120)..text.len().min(hit.end() + 60)];
            let around = String::from_utf8_lossy(around).into_owned();
            found.insert(Leak { kind, value: value.clone(), place: place.to_owned(), around });
        }
    }

    fn strings(&self, value: &Value, place: &str, depth: usize, found: &mut BTreeSet<Leak>) {
        match value {
            Value::String(text) => self.unpacked(text.as_bytes(), place, depth, found),
            Value::Array(items) => items.iter().for_each(|item| self.strings(item, place, depth, found)),
            Value::Object(members) => members.iter().for_each(|(key, value)| {
                self.unpacked(key.as_bytes(), place, depth, found);
                self.strings(value, place, depth, found);
            }),
            _ => {}
        }
    }

    /// Looks into a string's content, and into what it unpacks to.
    fn unpacked(&self, text: &[u8], place: &str, depth: usize, found: &mut BTreeSet<Leak>) {
        self.plain(text, place, found);
        if depth == 0 {
            return;
        }
        for inner in [unbase64(text), gunzip(text)].into_iter().flatten() {
            self.unpacked(&inner, place, depth - 1, found);
        }
        if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_slice::<Value>(text) {
            self.strings(&value, place, depth - 1, found);
        }
    }
}

/// A value as it is, and as what stands around it may write it.
fn spelled(value: &str) -> BTreeSet<Vec<u8>> {
    let json = Value::from(value).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let html = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let percent: String = value
        .bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    let mut spellings: BTreeSet<Vec<u8>> =
        [value.to_owned(), json.clone(), html, percent].into_iter().map(String::into_bytes).collect();
    // Of a JSON Web Token the signature is what must not be known.
    if let (true, Some((_, signature))) = (value.starts_with("eyJ"), value.rsplit_once('.')) {
        spellings.insert(signature.as_bytes().to_vec());
    }
    for text in [value.as_bytes(), json.as_bytes()] {
        // In a longer text a value begins at any of three places of a group, and its ends share their digits.
        for shift in 0..3 {
            let padded = [&[0u8; 2][..shift], text].concat();
            for encode in [base64, base64_url] {
                let digits = encode(&padded);
                let from = [0, 2, 3][shift];
                let to = padded.len() * 8 / 6;
                spellings.insert(digits.as_bytes()[from..to].to_vec());
            }
        }
    }
    spellings
}

/// What a string in base64 holds, of whatever alphabet; `None` where it is none.
fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digits = &digits[..digits.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1)];
    if digits.len() < MIN_BYTES {
        return None;
    }
    let (mut out, mut bits, mut held) = (Vec::with_capacity(digits.len()), 0u32, 0u32);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        (bits, held) = (bits << 6 | u32::from(value), held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    Some(out)
}

fn gunzip(text: &[u8]) -> Option<Vec<u8>> {
    if !text.starts_with(&[0x1f, 0x8b]) {
        return None;
    }
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(text).take(UNPACKED_MAX).read_to_end(&mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const SECRET: &str = "P4ssw<&>rd\"ü/long-enough";

    fn found(text: &[u8]) -> usize {
        let planted = BTreeMap::from([(SECRET.to_owned(), "password"), ("short".to_owned(), "password")]);
        let mut found = BTreeSet::new();
        Needles::new(&planted).unwrap().search(text, "here", &mut found);
        found.len()
    }

    #[test]
    fn every_spelling_is_found() {
        let json = Value::from(SECRET).to_string();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(SECRET.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        for text in [
            SECRET.to_owned(),
            format!("{{\"a\":[{json}]}}"),
            format!("{{\"a\":[{}]}}", json.replace('&', "\\u0026").replace('ü', "\\u00FC")),
            base64(SECRET.as_bytes()),
            base64(format!("x{SECRET}y").as_bytes()),
            base64_url(format!("xy{SECRET}").as_bytes()),
            format!("{{\"a\":\"{}\"}}", base64(base64(SECRET.as_bytes()).as_bytes())),
            format!("{{\"a\":\"{}\"}}", base64(&gzip)),
            format!("{{\"a\":{}}}", Value::from(format!("{{\"b\":{json}}}"))),
            "command=P4ssw%3C%26%3Erd%22%C3%BC%2Flong-enough&x".to_owned(),
        ] {
            assert!(found(text.as_bytes()) > 0, "{text}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for text in ["{\"a\":\"redacted:jwt\",\"short\":\"short\"}", "P4ssw<&>rd", ""] {
            assert_eq!(found(text.as_bytes()), 0, "{text}");
        }
    }
}
