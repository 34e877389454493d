//! Names of OpenShift's OAuth tokens, which are the tokens.

use super::{Resource, Rule, Selector};
use crate::config::Action;

/// An OAuthAccessToken's name was the bearer token itself before OpenShift 4.6; so is an OAuthAuthorizeToken's the code
/// (github.com/openshift/api `oauth/v1/types.go`; github.com/openshift/library-go pull request 1941 keeps them out of
/// audit logs). Names that begin with `sha256~` are taken by their form everywhere, for tokens look the same.
pub(super) static RULE: Rule = Rule {
    name: "openshift-oauth-token",
    doc: "names of OpenShift OAuth access and authorize tokens, wherever they stand in the event",
    selector: Selector::Name {
        kinds: &[
            "OAuthAccessToken",
            "OAuthAccessTokenList",
            "OAuthAuthorizeToken",
            "OAuthAuthorizeTokenList",
            "UserOAuthAccessToken",
            "UserOAuthAccessTokenList",
        ],
        resources: &[
            Resource { group: "oauth.openshift.io", resource: "oauthaccesstokens", subresource: "*" },
            Resource { group: "oauth.openshift.io", resource: "oauthauthorizetokens", subresource: "*" },
            Resource { group: "oauth.openshift.io", resource: "useroauthaccesstokens", subresource: "*" },
        ],
    },
    action: Action::Token,
};

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    const NAME: &str = "vCeTnZ6pZ0bAoVJxqTz5VqS0sKx1mXxkxXx8n0c3q1E";

    fn fill(text: &str) -> String {
        text.replace("NAME", NAME)
    }

    #[test]
    fn the_name_in_every_place() {
        check(
            &fill(
                r#"{"requestURI":"/apis/oauth.openshift.io/v1/oauthaccesstokens/NAME?x=1","objectRef":{"resource":"oauthaccesstokens","name":"NAME","apiGroup":"oauth.openshift.io"},"responseStatus":{"message":"oauthaccesstokens \"NAME\" not found"}}"#,
            ),
            r#"{"requestURI":"/apis/oauth.openshift.io/v1/oauthaccesstokens/‹openshift-oauth-token›?x=1","objectRef":{"resource":"oauthaccesstokens","name":"‹openshift-oauth-token›","apiGroup":"oauth.openshift.io"},"responseStatus":{"message":"oauthaccesstokens \"‹openshift-oauth-token›\" not found"}}"#,
        );
    }

    #[test]
    fn objects_lists_and_tables() {
        check(
            r#"{"requestObject":{"kind":"OAuthAuthorizeToken","metadata":{"name":"word","uid":"u"},"userName":"alice"}}"#,
            r#"{"requestObject":{"kind":"OAuthAuthorizeToken","metadata":{"name":"‹openshift-oauth-token›","uid":"u"},"userName":"alice"}}"#,
        );
        check(
            r#"{"responseObject":{"kind":"OAuthAccessTokenList","items":[{"metadata":{"name":"word"}}]}}"#,
            r#"{"responseObject":{"kind":"OAuthAccessTokenList","items":[{"metadata":{"name":"‹openshift-oauth-token›"}}]}}"#,
        );
        check(
            r#"{"objectRef":{"resource":"oauthaccesstokens","apiGroup":"oauth.openshift.io"},"responseObject":{"kind":"Table","rows":[{"cells":["word"],"object":{"kind":"PartialObjectMetadata","metadata":{"name":"word"}}}]}}"#,
            r#"{"objectRef":{"resource":"oauthaccesstokens","apiGroup":"oauth.openshift.io"},"responseObject":{"kind":"Table","rows":[{"cells":["‹openshift-oauth-token›"],"object":{"kind":"PartialObjectMetadata","metadata":{"name":"‹openshift-oauth-token›"}}}]}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"objectRef":{"resource":"oauthclients","name":"console-of-the-cluster","apiGroup":"oauth.openshift.io"}}"#,
        );
    }
}
