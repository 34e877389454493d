//! JSON Web Tokens anywhere.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use crate::detect::{begins, is_base64url, run};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::ops::Range;

/// A JWS or JWE in compact form (RFC 7519 §3): a header that decodes to JSON with an `alg` member, then one to
/// four more parts. Two parts are a token cut short.
pub(super) static RULE: Rule = Rule {
    name: "jwt",
    doc: "JSON Web Tokens, in any text",
    // `{"`, `{ `, `{\n`, `{\r`, `{\t` in base64.
    selector: Selector::Text {
        needles: &[
            Needle::Begin("eyJ"),
            Needle::Begin("eyA"),
            Needle::Begin("ewo"),
            Needle::Begin("ew0"),
            Needle::Begin("ewk"),
        ],
        find,
    },
    action: Action::Token,
};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Longest header looked at; real ones are below 1 KiB (certificate chains are the exception).
const MAX_HEADER: usize = 16 << 10;

/// Longest header of a token that is glued to a word before it (`token-eyJ…`), and how many places are tried.
const MAX_GLUED: usize = 512;
const MAX_TRIES: usize = 4;

fn find(text: &[u8], at: usize, _: &str) -> Option<Range<usize>> {
    if !begins(text, at) {
        return None;
    }
    compact(text, at).or_else(|| glued(text, at))
}

/// The token that begins at `at`.
fn compact(text: &[u8], at: usize) -> Option<Range<usize>> {
    let header_end = run(&text[..text.len().min(at + MAX_HEADER + 1)], at, is_base64url);
    if text.get(header_end) != Some(&b'.') {
        return None;
    }
    let mut end = header_end;
    for part in 0..4 {
        if text.get(end) != Some(&b'.') {
            break;
        }
        let next = run(text, end + 1, is_base64url);
        // Only a JWE's key may be empty (RFC 7516 §3.1); dots after a cut token are prose.
        if part > 0 && next == end + 1 {
            break;
        }
        end = next;
    }
    if end < header_end + 9 {
        return None;
    }
    let header = LENIENT.decode(&text[at..header_end]).ok()?;
    memchr::memmem::find(&header, b"\"alg\"").map(|_| at..end)
}

/// The token whose second part begins at `at`, where a word and a dash or underscore stand before its header.
fn glued(text: &[u8], at: usize) -> Option<Range<usize>> {
    let before = text[..at].strip_suffix(b".")?;
    let floor = before.len().saturating_sub(MAX_GLUED);
    let from = before[floor..].iter().rposition(|b| !is_base64url(*b)).map_or(floor, |step| floor + step + 1);
    let starts = (from + 1..before.len())
        .filter(|at| matches!(before[at - 1], b'-' | b'_') && before[*at..].starts_with(b"e"));
    starts.take(MAX_TRIES).find_map(|at| compact(text, at))
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ";

    #[test]
    fn anywhere() {
        check(
            &format!(
                r#"{{"requestURI":"/api?token={JWT}\u0026x=1","userAgent":"a {JWT}, b","requestObject":{{"a":["x={JWT}"],"{JWT}":"key"}}}}"#
            ),
            r#"{"requestURI":"/api?token=‹jwt›\u0026x=1","userAgent":"a ‹jwt›, b","requestObject":{"a":["x=‹jwt›"],"‹jwt›":"key"}}"#,
        );
        let cut = &JWT[..60];
        check(&format!(r#"{{"userAgent":"{cut}...TRUNCATED"}}"#), r#"{"userAgent":"‹jwt›...TRUNCATED"}"#);
        check(&format!(r#"{{"a":"x-token-{JWT}/y","b":"{JWT}"}}"#), r#"{"a":"x-token-‹jwt›/y","b":"‹jwt›"}"#);
    }

    #[test]
    fn spelled_with_escapes() {
        let spelled = JWT.replacen("ey", r"\u0065y", 1).replacen('.', r"\u002e", 1);
        check(
            &format!(r#"{{"requestObject":{{"a":"x {spelled} y"}}}}"#),
            r#"{"requestObject":{"a":"x ‹jwt› y"}}"#,
        );
        let nested = serde_json::to_string(&format!(r#"{{"t":"{spelled}"}}"#)).unwrap();
        check(
            &format!(r#"{{"requestObject":{{"a":{nested}}}}}"#),
            r#"{"requestObject":{"a":"{\"t\":\"‹jwt›\"}"}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        // A list's continue token, a file name, a version.
        unchanged(r#"{"requestURI":"/api/v1/pods?continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MX0"}"#);
        unchanged(r#"{"requestObject":{"a":"eyJhIjoxfQ.txt.gz","b":"eyes.only","c":"ewoks.are.short"}}"#);
    }
}
