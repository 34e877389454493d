//! One JSON value, spelled in the ways that JSON allows: escapes, white space, members twice, odd values beside.

use super::chance::Chance;
use serde_json::Value;

/// How an event is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spelling {
    /// As serde writes it.
    Plain,
    /// As Go writes it: `&`, `<` and `>` as escapes.
    Go,
    /// With escapes that nothing asks for, in keys and values.
    Escaped,
    /// With white space between tokens.
    Spaced,
    /// With members repeated, and `1e400` and a lone surrogate beside them.
    Odd,
}

pub const ALL: &[Spelling] =
    &[Spelling::Plain, Spelling::Go, Spelling::Escaped, Spelling::Spaced, Spelling::Odd];

const SPACES: &[&str] = &[" ", "\t", "  "];

impl Spelling {
    pub fn write(self, value: &Value, chance: &mut Chance) -> String {
        let mut out = String::new();
        self.value(value, chance, &mut out);
        out
    }

    fn value(self, value: &Value, chance: &mut Chance, out: &mut String) {
        match value {
            Value::String(text) => self.string(text, chance, out),
            Value::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    self.joint(if at > 0 { "," } else { "" }, chance, out);
                    self.value(item, chance, out);
                }
                self.joint("]", chance, out);
            }
            Value::Object(members) => {
                out.push('{');
                let mut members: Vec<_> = members.iter().collect();
                if self != Spelling::Plain && !members.is_empty() {
                    // Members may stand in any order.
                    let first = chance.below(members.len());
                    members.rotate_left(first);
                }
                for (at, (key, item)) in members.into_iter().enumerate() {
                    self.joint(if at > 0 { "," } else { "" }, chance, out);
                    self.member(key, item, chance, out);
                }
                self.joint("}", chance, out);
            }
            other => out.push_str(&other.to_string()),
        }
    }

    fn member(self, key: &str, item: &Value, chance: &mut Chance, out: &mut String) {
        if self == Spelling::Odd {
            match chance.below(12) {
                0 => out.push_str(r#""odd":1e400,"#),
                1 => out.push_str(r#""odd":"\ud800","#),
                2 => {
                    self.string(key, chance, out);
                    out.push_str(":null,");
                }
                3 if item.is_string() => {
                    self.string(key, chance, out);
                    out.push(':');
                    self.value(item, chance, out);
                    out.push(',');
                }
                _ => {}
            }
        }
        self.string(key, chance, out);
        self.joint(":", chance, out);
        self.value(item, chance, out);
    }

    fn joint(self, text: &str, chance: &mut Chance, out: &mut String) {
        if self != Spelling::Spaced {
            out.push_str(text);
            return;
        }
        for part in ["", text, ""] {
            out.push_str(part);
            if chance.once_in(4) {
                let space: &&str = chance.pick(SPACES);
                out.push_str(space);
            }
        }
    }

    fn string(self, text: &str, chance: &mut Chance, out: &mut String) {
        out.push('"');
        match self {
            Spelling::Escaped => out.push_str(&escaped(text, 8, chance)),
            _ => {
                let plain = escaped(text, usize::MAX, chance);
                let go = || plain.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
                out.push_str(&if self == Spelling::Go { go() } else { plain.clone() });
            }
        }
        out.push('"');
    }
}

/// The inside of a JSON string; once in `times` a character is an escape that need not be one.
pub fn escaped(text: &str, times: usize, chance: &mut Chance) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        let needless = times != usize::MAX && letter.is_ascii() && chance.once_in(times);
        match letter {
            '/' if needless => out.push_str("\\/"),
            _ if needless => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            letter if letter < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out
}
