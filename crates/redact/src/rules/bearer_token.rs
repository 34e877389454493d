//! Tokens after the word `Bearer`.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use crate::detect::run;
use std::ops::Range;

/// The credential of an `Authorization: Bearer …` header (RFC 6750 §2.1), in any text, also where spaces are
/// percent-encoded.
pub(super) static RULE: Rule = Rule {
    name: "bearer-token",
    doc: "tokens after the word `Bearer`, in any text",
    selector: Selector::Text {
        needles: &[Needle::Begin("Bearer"), Needle::Begin("bearer"), Needle::Begin("BEARER")],
        find,
    },
    action: Action::Token,
};

/// Shorter words are prose.
const MIN: usize = 8;
/// A word without a digit must be this long.
const MIN_LETTERS: usize = 20;

fn find(text: &[u8], at: usize, needle: &str) -> Option<Range<usize>> {
    let start = separators(text, at + needle.len())?;
    let mut end = run(text, start, |b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b));
    let token = &text[start..end];
    let long = token.len() >= MIN_LETTERS || (token.len() >= MIN && token.iter().any(u8::is_ascii_digit));
    if !long {
        return None;
    }
    end = run(text, end, |b| b == b'=');
    Some(start..end)
}

/// What stands between the word and the token: at least one space, plus sign, `%20` or colon.
fn separators(text: &[u8], mut at: usize) -> Option<usize> {
    let from = at;
    loop {
        match text.get(at..) {
            Some([b' ' | b'+' | b':' | b'\t', ..]) => at += 1,
            Some([b'%', b'2', b'0', ..]) => at += 3,
            _ => break,
        }
    }
    (at > from).then_some(at)
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn anywhere() {
        check(
            r#"{"requestObject":{"a":"Authorization: Bearer abcdef123456==","b":"bearer  0123456789"},"requestURI":"/x?h=Bearer%20abcdefgh1\u0026y=1"}"#,
            r#"{"requestObject":{"a":"Authorization: Bearer ‹bearer-token›","b":"bearer  ‹bearer-token›"},"requestURI":"/x?h=Bearer%20‹bearer-token›\u0026y=1"}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(r#"{"responseStatus":{"message":"Authentication failed, attempted: bearer, x509"}}"#);
        unchanged(
            r#"{"a":"invalid bearer token","b":"the bearer of this letter","c":"Bearer authentication"}"#,
        );
    }
}
