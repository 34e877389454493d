//! Values beside a telling name, by the form in which both are written.

use super::{Rule, Selector};
use crate::config::Action;
use crate::pairs::Form;

const fn rule(name: &'static str, doc: &'static str, form: Form) -> Rule {
    Rule { name, doc, selector: Selector::Pair(form), action: Action::Mask }
}

/// Members of any object: custom resources, annotations, labels, `user.extra`, kubeconfigs.
pub(super) static MEMBER: Rule = rule(
    "sensitive-member",
    "values of members that are named `password`, `token`, `apiKey` and the like",
    Form::Member,
);
/// Variables of containers, HTTP headers, Helm's values, operations of a JSON Patch.
pub(super) static NAMED: Rule =
    rule("named-value", "`value` beside a `name` such as `DB_PASSWORD`", Form::Named);
/// Command lines.
pub(super) static ARGUMENT: Rule = rule("argument", "values of options such as `--password`", Form::Argument);
/// URLs, `requestURI` above all.
pub(super) static QUERY: Rule =
    rule("url-query", "parameters such as `token`, `code`, `sig`, `X-Amz-Signature`", Form::Query);
/// Text of all kinds.
pub(super) static TEXT: Rule =
    rule("key-value-text", "values after a key such as `password` and `=` or `:`", Form::Text);

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn members_at_any_level() {
        check(
            r#"{"requestObject":{"spec":{"adminPassword":"a","users":[{"apiToken":"b","passwd":"c"}],"credentials":{"connectionString":"d"}}}}"#,
            r#"{"requestObject":{"spec":{"adminPassword":"‹sensitive-member›","users":[{"apiToken":"‹sensitive-member›","passwd":"‹sensitive-member›"}],"credentials":{"connectionString":"‹sensitive-member›"}}}}"#,
        );
        check(
            r#"{"requestObject":{"a":"{\"password\":\"x\\\"y\",\"b\":\"{\\\"token\\\": \\\"a1b2c3d4e5f6a7b8\\\"}\"}"}}"#,
            r#"{"requestObject":{"a":"{\"password\":\"‹sensitive-member›\",\"b\":\"{\\\"token\\\": \\\"‹sensitive-member›\\\"}\"}"}}"#,
        );
        check(
            r#"{"impersonatedUser":{"extra":{"session-token":["q","r"],"authentication.kubernetes.io/credential-id":["JTI=1"]}},"a":{"x.io/token":"Ab3dEf6hIj9k"}}"#,
            r#"{"impersonatedUser":{"extra":{"session-token":["‹sensitive-member›","‹sensitive-member›"],"authentication.kubernetes.io/credential-id":["JTI=1"]}},"a":{"x.io/token":"‹sensitive-member›"}}"#,
        );
    }

    #[test]
    fn names_and_values() {
        check(
            r#"{"requestObject":[{"name":"DB_PASSWORD","value":"x"},{"value":"q\"r","name":"apiKey"},{"name":"TOKEN","n":1,"value":"a1b2C3d4"},{"op":"add","path":"/spec/containers/0/env/1/value","value":"z"},{"op":"add","path":"/spec/authToken","value":"z"}]}"#,
            r#"{"requestObject":[{"name":"DB_PASSWORD","value":"‹named-value›"},{"value":"‹named-value›","name":"apiKey"},{"name":"TOKEN","n":1,"value":"‹named-value›"},{"op":"add","path":"/spec/containers/0/env/1/value","value":"‹named-value›"},{"op":"add","path":"/spec/authToken","value":"‹named-value›"}]}"#,
        );
    }

    #[test]
    fn arguments() {
        check(
            r#"{"requestObject":{"args":["--password","x","--db-password=y z","--token=a1b2c3d4e5f6a7b8","-v"],"c":"sh -c 'app --password hunter2 --x'"},"requestURI":"/exec?command=app\u0026command=--password\u0026command=pw1\u0026stdin=true"}"#,
            r#"{"requestObject":{"args":["--password","‹argument›","--db-password=‹argument›","--token=‹argument›","-v"],"c":"sh -c 'app --password ‹argument› --x'"},"requestURI":"/exec?command=app\u0026command=--password\u0026command=‹argument›\u0026stdin=true"}"#,
        );
    }

    #[test]
    fn queries() {
        check(
            r#"{"requestURI":"/api?access_token=ab\u0026x=1\u0026code=q%2Fr\u0026X-Amz-Signature=77","a":"https://h/?a=1&sig=zz#f","b":"u%3Fpassword%3Dpw%26x"}"#,
            r#"{"requestURI":"/api?access_token=‹url-query›\u0026x=1\u0026code=‹url-query›\u0026X-Amz-Signature=‹url-query›","a":"https://h/?a=1&sig=‹url-query›#f","b":"u%3Fpassword%3D‹url-query›%26x"}"#,
        );
    }

    #[test]
    fn texts() {
        check(
            r#"{"requestObject":{"data":{"a":"x=1\ndb.password=p q\nurl=y\n","b":"users:\n  - password: \"p\"\n    token: 'a1b2c3d4e5f6a7b8'\n","c":"A=1\nAPI_KEY=k1 # n\n","d":"Server=x;Password=p;Db=y","e":"\u003cpassword\u003ep\u003c/password\u003e"},"m":"PGPASSWORD=x psql -h y"}}"#,
            r#"{"requestObject":{"data":{"a":"x=1\ndb.password=‹key-value-text›\nurl=y\n","b":"users:\n  - password: \"‹key-value-text›\"\n    token: '‹key-value-text›'\n","c":"A=1\nAPI_KEY=‹key-value-text› # n\n","d":"Server=x;Password=‹key-value-text›;Db=y","e":"\u003cpassword\u003e‹key-value-text›\u003c/password\u003e"},"m":"PGPASSWORD=‹key-value-text› psql -h y"}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"requestObject":{"env":[{"name":"DB_PASSWORD","valueFrom":{"secretKeyRef":{"name":"db-password","key":"password"}}},{"name":"PASSWORD_FILE","value":"/run/secrets/password"},{"name":"TOKEN_PATH","value":"/var/run/secrets/token"}],"secretName":"s","passwordSecretRef":{"name":"x"},"tokenExpirationSeconds":3600,"automountServiceAccountToken":false,"max_tokens":"4096","volumes":[{"name":"token","secret":{"secretName":"app-token"}}]}}"#,
        );
        unchanged(
            r#"{"responseStatus":{"message":"secrets \"app-token\" not found: the password is wrong, invalid bearer token: expired; token: required"},"a":"--token-file=/x --password-file /y","b":{"password":"$(PW)","secret":"app-tls-secret","token":"default"},"c":"a password: try again"}"#,
        );
        unchanged(
            r#"{"rules":[{"resources":["secrets","tokenreviews"],"verbs":["get"]}],"topologyKey":"kubernetes.io/hostname","pwd":"/home","requestURI":"/api/v1/namespaces/n/secrets/s?code=","key":"node.kubernetes.io/not-ready"}"#,
        );
    }
}
