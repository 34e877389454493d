//! TokenReview `spec.token`.

use super::{Resource, Rule, Selector};
use crate::config::Action;

/// The token that somebody asks the API server to check (k8s.io/api `authentication/v1/types.go`).
pub(super) static RULE: Rule = Rule {
    name: "token-review",
    doc: "`spec.token` of TokenReviews",
    selector: Selector::Fields {
        kinds: &["TokenReview"],
        resources: &[Resource { group: "authentication.k8s.io", resource: "tokenreviews", subresource: "*" }],
        paths: &["spec.token"],
    },
    action: Action::Token,
};

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn request_and_response() {
        check(
            r#"{"requestObject":{"kind":"TokenReview","spec":{"token":"opaque","audiences":["a"]}},"responseObject":{"kind":"TokenReview","spec":{"token":"opaque"},"status":{"authenticated":true}}}"#,
            r#"{"requestObject":{"kind":"TokenReview","spec":{"token":"‹token-review›","audiences":["a"]}},"responseObject":{"kind":"TokenReview","spec":{"token":"‹token-review›"},"status":{"authenticated":true}}}"#,
        );
        check(
            r#"{"objectRef":{"resource":"tokenreviews","apiGroup":"authentication.k8s.io"},"requestObject":{"spec":{"token":"opaque"}}}"#,
            r#"{"objectRef":{"resource":"tokenreviews","apiGroup":"authentication.k8s.io"},"requestObject":{"spec":{"token":"‹token-review›"}}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(r#"{"requestObject":{"kind":"TokenReview","status":{"error":"invalid bearer token"}}}"#);
    }
}
