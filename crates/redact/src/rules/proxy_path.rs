//! Tokens in the paths of proxied requests.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use crate::detect::{is_base64url, run};
use crate::values::is_mixed;
use std::ops::Range;

/// What follows `/proxy/` in a URI is the path of another server (k8s.io/kubernetes
/// `pkg/registry/core/service/proxy`), and such paths hold one-time tokens: `/reset/Ab3…/confirm`.
pub(super) static RULE: Rule = Rule {
    name: "proxy-path",
    doc: "opaque segments of the path behind `/proxy/`, from 16 characters, with both cases and digits, or as random as that",
    selector: Selector::Text { needles: &[Needle::Begin("proxy/")], find },
    action: Action::Mask,
};

fn find(text: &[u8], at: usize, needle: &str) -> Option<Range<usize>> {
    if !text[..at].ends_with(b"/") || is_within(&text[..at]) {
        return None;
    }
    let mut start = at + needle.len();
    loop {
        let end = run(text, start, is_path);
        let segment = &text[start..end];
        if segment.len() >= 16 && is_mixed(segment) && !segment.contains(&b'.') && end < text.len() {
            return Some(start..end);
        }
        if text.get(end) != Some(&b'/') {
            return None;
        }
        start = end + 1;
    }
}

/// A byte of a segment.
fn is_path(byte: u8) -> bool {
    is_base64url(byte) || b"~.%=+:@,".contains(&byte)
}

/// Whether another `/proxy/` stands before the slash at the end of `before`, in the same path: that one has followed
/// it to its end. Goes no further back than to that one.
fn is_within(before: &[u8]) -> bool {
    let mut path = &before[..before.len() - 1];
    while let Some(slash) = memchr::memrchr(b'/', path) {
        let segment = &path[slash + 1..];
        if segment == b"proxy" {
            return true;
        }
        if !segment.iter().all(|b| is_path(*b)) {
            return false;
        }
        path = &path[..slash];
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn in_uris() {
        check(
            r#"{"requestURI":"/api/v1/namespaces/n/services/http:app:80/proxy/reset/R0qiNVBIEnE174V1KiIC/confirm"}"#,
            r#"{"requestURI":"/api/v1/namespaces/n/services/http:app:80/proxy/reset/‹proxy-path›/confirm"}"#,
        );
    }

    #[test]
    fn a_token_without_a_digit() {
        check(
            r#"{"requestURI":"/api/v1/namespaces/n/services/any/proxy/hooks/RNSyoPlWDQXKKBKITtwvIASColSOOEOs"}"#,
            r#"{"requestURI":"/api/v1/namespaces/n/services/any/proxy/hooks/‹proxy-path›"}"#,
        );
        unchanged(
            r#"{"requestURI":"/api/v1/namespaces/n/services/any/proxy/MyControllerManager/GetHTTPAndXMLFromAPI"}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(r#"{"requestURI":"/api/v1/nodes/n/proxy/logs/pods/5d6f7c8b9x2x4z/metrics?x=1"}"#);
    }
}
