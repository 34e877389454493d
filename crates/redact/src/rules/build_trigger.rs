//! Secrets of OpenShift's build triggers.

use super::{Resource, Rule, Selector};
use crate::config::Action;

/// `secret` of a webhook trigger (github.com/openshift/api `build/v1/types.go`, `WebHookTrigger`): whoever knows it can
/// start builds. It stands in the trigger's address too, where `webhook-url` takes it.
pub(super) static RULE: Rule = Rule {
    name: "openshift-build-trigger",
    doc: "`secret` of the webhook triggers of OpenShift BuildConfigs",
    selector: Selector::Fields {
        kinds: &["BuildConfig", "BuildConfigList"],
        resources: &[Resource { group: "build.openshift.io", resource: "buildconfigs", subresource: "*" }],
        paths: &[
            "spec.triggers.github.secret",
            "spec.triggers.gitlab.secret",
            "spec.triggers.bitbucket.secret",
            "spec.triggers.generic.secret",
            "items.spec.triggers.github.secret",
            "items.spec.triggers.gitlab.secret",
            "items.spec.triggers.bitbucket.secret",
            "items.spec.triggers.generic.secret",
        ],
    },
    action: Action::Token,
};

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn triggers_and_patches() {
        check(
            r#"{"requestObject":{"kind":"BuildConfig","spec":{"triggers":[{"type":"GitHub","github":{"secret":"word"}},{"type":"Generic","generic":{"secret":"word","allowEnv":true}}]}}}"#,
            r#"{"requestObject":{"kind":"BuildConfig","spec":{"triggers":[{"type":"GitHub","github":{"secret":"‹openshift-build-trigger›"}},{"type":"Generic","generic":{"secret":"‹openshift-build-trigger›","allowEnv":true}}]}}}"#,
        );
        check(
            r#"{"objectRef":{"resource":"buildconfigs","apiGroup":"build.openshift.io"},"requestObject":[{"op":"replace","path":"/spec/triggers/0/gitlab/secret","value":"word"}]}"#,
            r#"{"objectRef":{"resource":"buildconfigs","apiGroup":"build.openshift.io"},"requestObject":[{"op":"replace","path":"/spec/triggers/0/gitlab/secret","value":"‹openshift-build-trigger›"}]}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"requestObject":{"kind":"BuildConfig","spec":{"triggers":[{"type":"GitHub","github":{"secretReference":{"name":"hook"}}},{"type":"ConfigChange"}]}}}"#,
        );
    }
}
