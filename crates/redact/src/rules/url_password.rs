//! Passwords in URLs.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use std::ops::Range;

/// The password of `scheme://user:password@host` (RFC 3986 §3.2.1). User and host stay.
pub(super) static RULE: Rule = Rule {
    name: "url-password",
    doc: "the password of `scheme://user:password@host`, in any text",
    selector: Selector::Text { needles: &[Needle::Mark("://"), Needle::Mark("%3A%2F%2F")], find },
    action: Action::Mask,
};

/// Longest user information looked at.
const MAX: usize = 512;

fn find(text: &[u8], at: usize, needle: &str) -> Option<Range<usize>> {
    if at == 0 || !text[at - 1].is_ascii_alphanumeric() {
        return None;
    }
    let encoded = text[at] == b'%';
    let start = at + needle.len();
    let window = &text[start..text.len().min(start + MAX)];
    let ends = |b: &u8| {
        matches!(
            b,
            b'/' | b'"' | b'\\' | b'\'' | b' ' | b'<' | b'>' | b'?' | b'#' | b'&' | b'`' | b'{' | b','
        )
    };
    let authority = &window[..window.iter().position(ends).unwrap_or(window.len())];
    let (user, host, width) = if encoded {
        let colon = memchr::memmem::find(authority, b"%3A")?;
        (colon, memchr::memmem::rfind(authority, b"%40")?, 3)
    } else {
        (memchr::memchr(b':', authority)?, memchr::memrchr(b'@', authority)?, 1)
    };
    let from = user + width;
    let password = authority.get(from..host)?;
    let placeholder = password.is_empty()
        || password.starts_with(b"$")
        || password.starts_with(b"redacted:")
        || password.iter().all(|b| *b == b'*');
    (!placeholder).then_some(start + from..start + host)
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn anywhere() {
        check(
            r#"{"a":"dsn=postgres://app:s3cr:et@db:5432/x?y=1","b":["amqp://:pw@mq"],"requestURI":"/x?u=https%3A%2F%2Fme%3Apw%40h%2F"}"#,
            r#"{"a":"dsn=postgres://app:‹url-password›@db:5432/x?y=1","b":["amqp://:‹url-password›@mq"],"requestURI":"/x?u=https%3A%2F%2Fme%3A‹url-password›%40h%2F"}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"a":"https://10.0.0.1:6443/a:b@c","b":"docker-pullable://r/i@sha256:ab","c":"https://user@h:80","d":"x://u:$(PW)@h"}"#,
        );
    }
}
