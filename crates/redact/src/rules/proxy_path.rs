//! Tokens in the paths of proxied requests.

use super::{Rule, Selector};
use crate::config::Action;
use crate::detect::{is_base64url, run};
use crate::values::is_mixed;
use std::ops::Range;

/// What follows `/proxy/` in a URI is the path of another server (k8s.io/kubernetes
/// `pkg/registry/core/service/proxy`), and such paths hold one-time tokens: `/reset/Ab3…/confirm`.
pub(super) static RULE: Rule = Rule {
    name: "proxy-path",
    doc: "opaque segments of the path behind `/proxy/`, from 16 characters, with both cases and digits",
    selector: Selector::Text { needles: &["/proxy/"], find },
    action: Action::Mask,
};

/// How far a path is followed.
const MAX: usize = 1024;

fn find(text: &[u8], at: usize) -> Option<Range<usize>> {
    let path = &text[..text.len().min(at + MAX)];
    let mut start = at + "/proxy/".len();
    loop {
        let end = run(path, start, |b| is_base64url(b) || b"~.%=+:@,".contains(&b));
        let segment = &path[start..end];
        if segment.len() >= 16 && is_mixed(segment) && !segment.contains(&b'.') && end < path.len() {
            return Some(start..end);
        }
        if path.get(end) != Some(&b'/') {
            return None;
        }
        start = end + 1;
    }
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
    fn what_must_not_change() {
        unchanged(r#"{"requestURI":"/api/v1/nodes/n/proxy/logs/pods/5d6f7c8b9x2x4z/metrics?x=1"}"#);
    }
}
