//! Encodings: a text in, a text out from which the first can be read again.

use super::chance::Chance;
use super::spelling::escaped;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use std::io::Write;

/// How a text is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrap {
    /// A member of a JSON document.
    Json,
    /// The same, spelled with `\u` where nothing asks for it.
    Escapes,
    /// Standard, URL-safe, with padding or without.
    Base64,
    /// In lines of 76 characters (RFC 2045).
    Base64Lines,
    /// gzip inside of base64.
    Gzip,
    /// Percent-encoding.
    Percent,
    /// A YAML block scalar.
    YamlBlock,
    /// A YAML string in double quotes.
    YamlQuoted,
    /// Base64 in the midst of other text.
    Base64Among,
}

pub const ALL: &[Wrap] = &[
    Wrap::Json,
    Wrap::Escapes,
    Wrap::Base64,
    Wrap::Base64Lines,
    Wrap::Gzip,
    Wrap::Percent,
    Wrap::YamlBlock,
    Wrap::YamlQuoted,
    Wrap::Base64Among,
];

pub const QUOTES: &[Wrap] = &[Wrap::Json, Wrap::YamlQuoted];

impl Wrap {
    pub fn apply(self, text: &str, chance: &mut Chance) -> String {
        match self {
            Wrap::Json => serde_json::json!({"a": 1, "doc": text}).to_string(),
            Wrap::Escapes => format!("{{\"doc\":\"{}\"}}", escaped(text, 3, chance)),
            Wrap::Base64 => base64(text.as_bytes(), chance),
            Wrap::Base64Lines => {
                let text = STANDARD.encode(text);
                text.as_bytes().chunks(76).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n")
            }
            Wrap::Gzip => {
                let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gz.write_all(text.as_bytes()).expect("memory takes all");
                STANDARD.encode(gz.finish().expect("memory takes all"))
            }
            Wrap::Percent => text
                .bytes()
                .map(|b| match b {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        char::from(b).to_string()
                    }
                    _ => format!("%{b:02X}"),
                })
                .collect(),
            Wrap::YamlBlock => {
                let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
                format!("a: 1\nconfig: |\n{}\n", lines.join("\n"))
            }
            Wrap::YamlQuoted => {
                format!("a: 1\nconfig: {}\n", serde_json::to_string(text).expect("a string is JSON"))
            }
            Wrap::Base64Among => format!("a: 1\nfile: {}\nb: 2\n", base64(text.as_bytes(), chance)),
        }
    }
}

fn base64(text: &[u8], chance: &mut Chance) -> String {
    match chance.below(4) {
        0 => STANDARD.encode(text),
        1 => STANDARD_NO_PAD.encode(text),
        2 => URL_SAFE.encode(text),
        _ => URL_SAFE_NO_PAD.encode(text),
    }
}
