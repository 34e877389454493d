//! Password files: `.netrc` and `.pgpass`.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use std::ops::Range;

/// `machine h login u password p`, on one line or several (ftp(1), "The .netrc File").
pub(super) static NETRC: Rule = Rule {
    name: "netrc",
    doc: "passwords in `.netrc` files",
    selector: Selector::Text { needles: &[Needle::Begin("machine"), Needle::Begin("login")], find: netrc },
    action: Action::Mask,
};

/// `host:port:database:user:password` (PostgreSQL, "The Password File").
pub(super) static PGPASS: Rule = Rule {
    name: "pgpass",
    doc: "passwords in `.pgpass` files",
    selector: Selector::Text {
        needles: &[
            Needle::Mark(":5432:"),
            Needle::Mark(":5433:"),
            Needle::Mark(":6432:"),
            Needle::Mark(":*:"),
        ],
        find: pgpass,
    },
    action: Action::Mask,
};

/// How far from its beginning an entry is followed.
const MAX: usize = 1024;

fn netrc(text: &[u8], at: usize, _: &str) -> Option<Range<usize>> {
    let entry = &text[..text.len().min(at + MAX)];
    let mut word = at..word_end(entry, at);
    // Names and values take turns; the name of the machine may be missing (`default`).
    loop {
        let name = &entry[word.clone()];
        let value = next_word(entry, word.end)?;
        match name {
            b"password" => return (!value.is_empty()).then_some(value),
            b"machine" | b"login" | b"account" => word = next_word(entry, value.end)?,
            _ => return None,
        }
    }
}

/// The word after `at`, over spaces and line breaks, which may be escaped.
fn next_word(text: &[u8], at: usize) -> Option<Range<usize>> {
    let mut start = at;
    loop {
        match text.get(start..)? {
            [b' ' | b'\t' | b'\n' | b'\r', ..] => start += 1,
            [b'\\', b'n' | b'r' | b't', ..] => start += 2,
            _ => break,
        }
    }
    (start > at && start < text.len()).then(|| start..word_end(text, start))
}

fn word_end(text: &[u8], at: usize) -> usize {
    let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\\');
    text[at..].iter().position(ends).map_or(text.len(), |step| at + step)
}

fn pgpass(text: &[u8], at: usize, _: &str) -> Option<Range<usize>> {
    let line = &text[..line_end(text, at)];
    let begins = text[at.saturating_sub(256)..at].iter().rev().take_while(|b| is_field(**b)).count();
    let mut field = at + 1;
    for _ in 0..3 {
        field += line[field..].iter().position(|b| *b == b':').filter(|width| *width > 0)? + 1;
    }
    (begins > 0 && field < line.len()).then_some(field..line.len())
}

fn is_field(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_*/".contains(&byte)
}

fn line_end(text: &[u8], at: usize) -> usize {
    let window = &text[at..text.len().min(at + MAX)];
    let ends = |b: &u8| matches!(b, b'\n' | b'\r' | b'"' | b' ' | b'\'' | b'\\');
    at + window.iter().position(ends).unwrap_or(window.len())
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn netrc() {
        check(
            r#"{"a":"machine h login me password s3cr#t\nmachine i\n  login you\n  password other\n","b":"default login x password y"}"#,
            r#"{"a":"machine h login me password ‹netrc›\nmachine i\n  login you\n  password ‹netrc›\n","b":"default login x password ‹netrc›"}"#,
        );
    }

    #[test]
    fn pgpass() {
        check(
            r#"{"a":"db.example.com:5432:app:me:s3cr:t\n*:*:*:you:other\n","b":"x","c":"echo h:5432:*:u:p > f"}"#,
            r#"{"a":"db.example.com:5432:app:me:‹pgpass›\n*:*:*:you:‹pgpass›\n","b":"x","c":"echo h:5432:*:u:‹pgpass› > f"}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"a":"machine learning, a login page","b":"login failed: password","c":"10.0.0.1:5432: refused","d":"a:*:b","e":"machine a login b account c"}"#,
        );
    }
}
