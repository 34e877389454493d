//! Private keys of OpenShift Routes.

use super::{Resource, Rule, Selector};
use crate::config::Action;

/// The private key of a Route (github.com/openshift/api `route/v1/types.go`, `TLSConfig`), whatever its form.
pub(super) static RULE: Rule = Rule {
    name: "openshift-route",
    doc: "`spec.tls.key` of OpenShift Routes",
    selector: Selector::Fields {
        kinds: &["Route", "RouteList"],
        resources: &[Resource { group: "route.openshift.io", resource: "routes", subresource: "*" }],
        paths: &["spec.tls.key", "items.spec.tls.key"],
    },
    action: Action::Token,
};

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn objects_lists_and_patches() {
        check(
            r#"{"responseObject":{"kind":"RouteList","items":[{"spec":{"tls":{"key":"opaque","certificate":"public"}}}]}}"#,
            r#"{"responseObject":{"kind":"RouteList","items":[{"spec":{"tls":{"key":"‹openshift-route›","certificate":"public"}}}]}}"#,
        );
        check(
            r#"{"objectRef":{"resource":"routes","apiGroup":"route.openshift.io"},"requestObject":[{"op":"replace","path":"/spec/tls/key","value":"opaque"}],"responseObject":{"kind":"Route","spec":{"tls":{"key":"opaque"}}}}"#,
            r#"{"objectRef":{"resource":"routes","apiGroup":"route.openshift.io"},"requestObject":[{"op":"replace","path":"/spec/tls/key","value":"‹openshift-route›"}],"responseObject":{"kind":"Route","spec":{"tls":{"key":"‹openshift-route›"}}}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"requestObject":{"kind":"Route","spec":{"host":"a.example.com","tls":{"termination":"edge","certificate":"x","caCertificate":"y"}}}}"#,
        );
    }
}
