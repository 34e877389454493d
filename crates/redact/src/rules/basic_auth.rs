//! Credentials after the word `Basic`.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use crate::detect::run;
use crate::values::is_basic;
use std::ops::Range;

/// The credential of an `Authorization: Basic …` header (RFC 7617 §2): base64 of `user:password`.
pub(super) static RULE: Rule = Rule {
    name: "basic-auth",
    doc: "base64 of `user:password` after the word `Basic`, in any text",
    selector: Selector::Text {
        needles: &[Needle::Begin("Basic "), Needle::Begin("basic "), Needle::Begin("BASIC ")],
        find,
    },
    action: Action::Token,
};

fn find(text: &[u8], at: usize, needle: &str) -> Option<Range<usize>> {
    let start = at + needle.len();
    let window = &text[..text.len().min(start + 4096)];
    let end = run(window, start, |b| b.is_ascii_alphanumeric() || b"+/=-_".contains(&b));
    is_basic(&text[start..end]).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn headers() {
        check(
            r#"{"requestObject":{"httpHeaders":[{"name":"Authorization","value":"Basic YWRtaW46aHVudGVyMg=="}],"x":"proxy_set_header Authorization \"Basic YWRtaW46aHVudGVyMg==\";"}}"#,
            r#"{"requestObject":{"httpHeaders":[{"name":"Authorization","value":"Basic ‹basic-auth›"}],"x":"proxy_set_header Authorization \"Basic ‹basic-auth›\";"}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(r#"{"a":"Basic authentication is off","b":"basic YWJjZGVm","c":"a basic right"}"#);
    }
}
