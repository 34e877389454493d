//! The annotation `kubectl.kubernetes.io/last-applied-configuration`.

use super::{Rule, Selector};
use crate::config::Action;

/// `kubectl apply` keeps the whole object as JSON text in an annotation. It is opened like any document inside a
/// string, so that the other rules reach into it; where it cannot be read it goes as a whole.
pub(super) static RULE: Rule = Rule {
    name: "last-applied",
    doc: "annotation `last-applied-configuration` where it cannot be read (else the other rules look inside it)",
    selector: Selector::LastApplied,
    action: Action::Mask,
};

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn other_rules_look_inside() {
        check(
            r#"{"requestObject":{"kind":"Secret","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"data\":{\"k\":\"QQ==\"},\"kind\":\"Secret\"}\n"}}}}"#,
            r#"{"requestObject":{"kind":"Secret","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"data\":{\"k\":\"‹secret-data›\"},\"kind\":\"Secret\"}\n"}}}}"#,
        );
    }

    #[test]
    fn in_a_request_for_secrets_the_kind_may_be_missing() {
        check(
            r#"{"objectRef":{"resource":"secrets"},"requestObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"k\":\"QQ==\"}}"}}}}"#,
            r#"{"objectRef":{"resource":"secrets"},"requestObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"k\":\"‹secret-data›\"}}"}}}}"#,
        );
    }

    #[test]
    fn what_cannot_be_read_goes() {
        check(
            r#"{"requestObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"k\":\"QQ"}}}}"#,
            r#"{"requestObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"‹last-applied›"}}}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"requestObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"kind\":\"Service\",\"spec\":{\"x\":1}}\n"}}}}"#,
        );
        unchanged(
            r#"{"requestObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":""}}}}"#,
        );
    }
}
