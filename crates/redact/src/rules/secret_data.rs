//! Secret `data` and `stringData`.

use super::{Resource, Rule, Selector};
use crate::config::Action;

/// Everything under `data` and `stringData` of a Secret (k8s.io/api `core/v1/types.go`, `Secret`), also in lists,
/// table rows and patches, and in Secrets that stand inside other objects or inside strings.
pub(super) static RULE: Rule = Rule {
    name: "secret-data",
    doc: "values of `data` and `stringData` of Secrets, wherever a Secret stands",
    selector: Selector::Fields {
        kinds: &["Secret", "SecretList"],
        resources: &[Resource { group: "", resource: "secrets", subresource: "*" }],
        paths: &["**.data", "**.stringData"],
    },
    action: Action::Token,
};

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    const REF: &str = r#""objectRef":{"resource":"secrets","namespace":"n","name":"s","apiVersion":"v1"}"#;

    #[test]
    fn request_and_response() {
        check(
            &format!(
                r#"{{{REF},"requestObject":{{"kind":"Secret","data":{{"a":"QQ==","b":""}},"stringData":{{"c":"x\"y"}}}},"responseObject":{{"data":{{"a":"QQ=="}},"type":"Opaque"}}}}"#
            ),
            &format!(
                r#"{{{REF},"requestObject":{{"kind":"Secret","data":{{"a":"‹secret-data›","b":""}},"stringData":{{"c":"‹secret-data›"}}}},"responseObject":{{"data":{{"a":"‹secret-data›"}},"type":"Opaque"}}}}"#
            ),
        );
    }

    #[test]
    fn lists_tables_and_foreign_objects() {
        check(
            r#"{"responseObject":{"kind":"SecretList","items":[{"metadata":{"name":"a"},"data":{"k":"QQ=="}}]}}"#,
            r#"{"responseObject":{"kind":"SecretList","items":[{"metadata":{"name":"a"},"data":{"k":"‹secret-data›"}}]}}"#,
        );
        check(
            r#"{"responseObject":{"kind":"List","items":[{"data":{"k":"QQ=="},"kind":"Secret"},{"kind":"ConfigMap","data":{"k":"QQ=="}}]}}"#,
            r#"{"responseObject":{"kind":"List","items":[{"data":{"k":"‹secret-data›"},"kind":"Secret"},{"kind":"ConfigMap","data":{"k":"QQ=="}}]}}"#,
        );
        check(
            r#"{"responseObject":{"kind":"Table","rows":[{"cells":["a","Opaque",1],"object":{"kind":"Secret","data":{"k":"QQ=="}}}]}}"#,
            r#"{"responseObject":{"kind":"Table","rows":[{"cells":["a","Opaque",1],"object":{"kind":"Secret","data":{"k":"‹secret-data›"}}}]}}"#,
        );
        check(
            r#"{"requestObject":{"kind":"Application","spec":{"manifests":[{"stringData":{"k":"v"},"kind":"Secret"}]}}}"#,
            r#"{"requestObject":{"kind":"Application","spec":{"manifests":[{"stringData":{"k":"‹secret-data›"},"kind":"Secret"}]}}}"#,
        );
    }

    #[test]
    fn patches_of_every_kind() {
        check(
            &format!(
                r#"{{"verb":"patch",{REF},"requestObject":{{"data":{{"a":"QQ==","gone":null,"n":1e400}}}}}}"#
            ),
            &format!(
                r#"{{"verb":"patch",{REF},"requestObject":{{"data":{{"a":"‹secret-data›","gone":null,"n":"‹secret-data›"}}}}}}"#
            ),
        );
        check(
            &format!(
                r#"{{{REF},"requestObject":[{{"op":"test","path":"/metadata/name","value":"s"}},{{"op":"replace","path":"/data/a","value":"QQ=="}},{{"value":{{"b":"QQ=="}},"op":"add","path":"/data"}},{{"op":"add","path":"","value":{{"metadata":{{"name":"s"}},"stringData":{{"c":"v"}}}}}},{{"op":"add","path":"/d\u0061ta/x~1y","value":"QQ=="}}]}}"#
            ),
            &format!(
                r#"{{{REF},"requestObject":[{{"op":"test","path":"/metadata/name","value":"s"}},{{"op":"replace","path":"/data/a","value":"‹secret-data›"}},{{"value":{{"b":"‹secret-data›"}},"op":"add","path":"/data"}},{{"op":"add","path":"","value":{{"metadata":{{"name":"s"}},"stringData":{{"c":"‹secret-data›"}}}}}},{{"op":"add","path":"/d\u0061ta/x~1y","value":"‹secret-data›"}}]}}"#
            ),
        );
    }

    #[test]
    fn a_webhooks_patch_in_an_annotation() {
        check(
            &format!(
                r#"{{{REF},"annotations":{{"patch.webhook.admission.k8s.io/round_0_index_0":"{{\"configuration\":\"c\",\"patch\":[{{\"op\":\"add\",\"path\":\"/data/a\",\"value\":\"QQ==\"}}],\"patchType\":\"JSONPatch\"}}"}}}}"#
            ),
            &format!(
                r#"{{{REF},"annotations":{{"patch.webhook.admission.k8s.io/round_0_index_0":"{{\"configuration\":\"c\",\"patch\":[{{\"op\":\"add\",\"path\":\"/data/a\",\"value\":\"‹secret-data›\"}}],\"patchType\":\"JSONPatch\"}}"}}}}"#
            ),
        );
    }

    #[test]
    fn inside_strings_at_any_depth() {
        let secret = r#"{"kind":"Secret","data":{"k":"QQ==","n":7},"metadata":{"name":"s"}}"#;
        let gone =
            r#"{"kind":"Secret","data":{"k":"‹secret-data›","n":"‹secret-data›"},"metadata":{"name":"s"}}"#;
        let nest = |text: &str| serde_json::to_string(text).unwrap();
        for depth in 1..5 {
            let (mut line, mut want) = (secret.to_owned(), gone.to_owned());
            for _ in 1..depth {
                line = format!(r#"{{"doc":{}}}"#, nest(&line));
                want = format!(r#"{{"doc":{}}}"#, nest(&want));
            }
            check(
                &format!(r#"{{"requestObject":{{"kind":"ConfigMap","data":{{"x":{}}}}}}}"#, nest(&line)),
                &format!(r#"{{"requestObject":{{"kind":"ConfigMap","data":{{"x":{}}}}}}}"#, nest(&want)),
            );
        }
    }

    #[test]
    fn escaped_and_duplicate_keys() {
        check(
            &format!(
                r#"{{{REF},"requestObject":{{"d\u0061ta":{{"a":"QQ=="}},"data":{{"a":"1","a":"2"}},"data":"3"}}}}"#
            ),
            &format!(
                r#"{{{REF},"requestObject":{{"d\u0061ta":{{"a":"‹secret-data›"}},"data":{{"a":"‹secret-data›","a":"‹secret-data›"}},"data":"‹secret-data›"}}}}"#
            ),
        );
        check(
            r#"{"requestObject":{"k\u0069nd":"S\u0065cret","data":{"a":"QQ=="}}}"#,
            r#"{"requestObject":{"k\u0069nd":"S\u0065cret","data":{"a":"‹secret-data›"}}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"objectRef":{"resource":"configmaps"},"requestObject":{"kind":"ConfigMap","data":{"a":"QQ=="}}}"#,
        );
        unchanged(&format!(
            r#"{{{REF},"requestObject":{{"kind":"DeleteOptions","gracePeriodSeconds":0}},"responseObject":{{"kind":"Status","details":{{"name":"s","kind":"secrets"}}}}}}"#
        ));
        unchanged(
            r#"{"requestObject":{"kind":"Pod","spec":{"volumes":[{"secret":{"secretName":"s"}}],"x":{"secretKeyRef":{"name":"s","key":"k"}}}}}"#,
        );
    }
}
