//! TokenRequest `status.token`.

use super::{Resource, Rule, Selector};
use crate::config::Action;

/// The token that `serviceaccounts/token` hands out (k8s.io/api `authentication/v1/types.go`).
pub(super) static RULE: Rule = Rule {
    name: "token-request",
    doc: "`status.token` of TokenRequests",
    selector: Selector::Fields {
        kinds: &["TokenRequest"],
        resources: &[Resource { group: "", resource: "serviceaccounts", subresource: "token" }],
        paths: &["status.token"],
    },
    action: Action::Token,
};

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn response() {
        check(
            r#"{"responseObject":{"kind":"TokenRequest","status":{"token":"opaque","expirationTimestamp":"2026-01-01T00:00:00Z"}}}"#,
            r#"{"responseObject":{"kind":"TokenRequest","status":{"token":"‹token-request›","expirationTimestamp":"2026-01-01T00:00:00Z"}}}"#,
        );
        check(
            r#"{"objectRef":{"resource":"serviceaccounts","subresource":"token"},"responseObject":{"status":{"token":"opaque"}}}"#,
            r#"{"objectRef":{"resource":"serviceaccounts","subresource":"token"},"responseObject":{"status":{"token":"‹token-request›"}}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"requestObject":{"kind":"TokenRequest","spec":{"audiences":["x"],"boundObjectRef":{"kind":"Secret","name":"s"}}}}"#,
        );
    }
}
