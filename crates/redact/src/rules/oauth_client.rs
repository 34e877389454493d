//! Secrets of OpenShift OAuthClients.

use super::{Resource, Rule, Selector};
use crate::config::Action;

/// The secrets of an OAuthClient (github.com/openshift/api `oauth/v1/types.go`). They may be words, which no detector
/// would take for a credential.
pub(super) static RULE: Rule = Rule {
    name: "openshift-oauth-client",
    doc: "`secret` and `additionalSecrets` of OpenShift OAuthClients",
    selector: Selector::Fields {
        kinds: &["OAuthClient", "OAuthClientList"],
        resources: &[Resource { group: "oauth.openshift.io", resource: "oauthclients", subresource: "*" }],
        paths: &["secret", "additionalSecrets", "items.secret", "items.additionalSecrets"],
    },
    action: Action::Token,
};

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn objects_lists_and_patches() {
        check(
            r#"{"responseObject":{"kind":"OAuthClientList","items":[{"secret":"word","additionalSecrets":["old","older"]}]}}"#,
            r#"{"responseObject":{"kind":"OAuthClientList","items":[{"secret":"‹openshift-oauth-client›","additionalSecrets":["‹openshift-oauth-client›","‹openshift-oauth-client›"]}]}}"#,
        );
        check(
            r#"{"objectRef":{"resource":"oauthclients","apiGroup":"oauth.openshift.io"},"requestObject":[{"op":"add","path":"/additionalSecrets/-","value":"word"}],"responseObject":{"kind":"OAuthClient","secret":"word"}}"#,
            r#"{"objectRef":{"resource":"oauthclients","apiGroup":"oauth.openshift.io"},"requestObject":[{"op":"add","path":"/additionalSecrets/-","value":"‹openshift-oauth-client›"}],"responseObject":{"kind":"OAuthClient","secret":"‹openshift-oauth-client›"}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"requestObject":{"kind":"OAuthClient","metadata":{"name":"console"},"redirectURIs":["https://console.example.com/auth"],"grantMethod":"auto"}}"#,
        );
    }
}
