//! The matching language as written in a configuration.
//!
//! Nothing is judged here beyond the shape: [`crate::Matcher::compile`] says what is wrong with a word, with
//! its path. The words of a Kubernetes audit policy mean what they mean there
//! (k8s.io/apiserver `pkg/apis/audit/v1/types.go` `PolicyRule`, `pkg/audit/policy/checker.go`).

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Which events a rule is about. Inside a list any entry may match; all words that are given must match. A word
/// that is absent or empty matches every event, so no words at all match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Words {
    /// User names, exactly. An impersonated request counts for the user who impersonates. Never matches a
    /// request whose authentication failed (401): it has no user.
    pub users: Vec<String>,
    /// Groups, exactly, of which the user must be in one. Never matches a request whose authentication failed.
    pub user_groups: Vec<String>,
    /// Beginnings of user names, such as `system:serviceaccount:kube-system:`.
    pub user_prefixes: Vec<String>,
    /// Verbs, exactly (there is no `*`): get, list, watch, create, update, patch, delete, deletecollection; for
    /// non-resource requests the HTTP method in lower case.
    pub verbs: Vec<String>,
    /// Namespaces, exactly. Only requests for resources match. The empty string stands for cluster-scoped
    /// resources and for requests over all namespaces; a namespace object carries its own name.
    pub namespaces: Vec<String>,
    /// Beginnings of namespaces, such as `team-a-`. Only requests for resources match.
    pub namespace_prefixes: Vec<String>,
    /// Resources. Only requests for resources match.
    pub resources: Vec<ResourceWord>,
    /// Paths of non-resource requests, without the query: `*`, a path exactly, or the beginning of one followed
    /// by `*` (`/healthz*`). Cannot be combined with namespaces or resources.
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
    /// Levels at which the event was recorded.
    pub levels: Vec<LevelWord>,
    /// Stages of the request.
    pub stages: Vec<StageWord>,
    /// HTTP status codes: `401`, `4xx`, `500-599`. Events without a response (stage RequestReceived) never match.
    pub codes: Vec<CodeWord>,
    /// What the authorizer decided (annotation `authorization.k8s.io/decision`).
    pub decisions: Vec<DecisionWord>,
    /// Addresses or networks (`192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`), compared with the last one of
    /// sourceIPs: the API server saw that one itself, all before it are whatever the client claimed in headers.
    #[serde(rename = "sourceIPs")]
    pub source_ips: Vec<String>,
    /// User agents, with `*` for any text and `?` for one character. Chosen by the client.
    pub user_agents: Vec<String>,
    /// Annotations that must all be there: key to value, both with `*` and `?`. An empty value stands for any.
    pub annotations: BTreeMap<String, String>,
    /// How long the request took, up to this event's stage: `>1s`, `>=500ms`, `<2s`, `<=1.5s`.
    #[schemars(regex(pattern = r"^\s*[<>]=?\s*[0-9]+(\.[0-9]+)?\s*(us|µs|ms|s|m|h)\s*$"))]
    pub latency: Option<String>,
    /// Whether the request impersonated another user.
    pub impersonated: Option<bool>,
    /// Words of which the whole must not match.
    pub not: Option<Box<Words>>,
}

/// Resources of one API group.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ResourceWord {
    /// The API group without a version; empty for the core group, `*` for every group.
    pub group: String,
    /// Resources by their plural names; empty for all of the group. `pods` are pods without subresources,
    /// `pods/log` is one subresource, `pods/*` are pods with and without subresources, `*/scale` is one
    /// subresource of all resources, `*` is everything.
    pub resources: Vec<String>,
    /// Names of objects as they stand in the request's URL (so none for a create of the object itself).
    /// Needs resources.
    pub resource_names: Vec<String>,
}

/// A level of the audit policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
pub enum LevelWord {
    /// Nothing is recorded; no event has it.
    None,
    /// Who, what and when.
    Metadata,
    /// With the request's body.
    Request,
    /// With the bodies of request and response.
    RequestResponse,
}

/// A stage in the handling of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
pub enum StageWord {
    /// The request arrived.
    RequestReceived,
    /// The answer began: long-running requests, and every request whose authentication failed.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The handler panicked.
    Panic,
}

/// The authorizer's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecisionWord {
    /// `allow`
    Allow,
    /// `forbid`
    Forbid,
}

/// A status code, a class of codes or a range, as written: `401`, `4xx`, `500-599`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeWord(pub String);

impl From<&str> for CodeWord {
    fn from(text: &str) -> CodeWord {
        CodeWord(text.to_string())
    }
}

impl<'de> Deserialize<'de> for CodeWord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<CodeWord, D::Error> {
        from.deserialize_any(TextOrNumber).map(CodeWord)
    }
}

impl JsonSchema for CodeWord {
    fn schema_name() -> Cow<'static, str> {
        "CodeWord".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A status code, a class or a range: `401`, `4xx`, `500-599`.",
            "type": ["string", "integer"],
            "pattern": "^([1-5][0-9]{2}|[1-5]xx|[1-5][0-9]{2}-[1-5][0-9]{2})$",
            "minimum": 100,
            "maximum": 599,
        })
    }
}

struct TextOrNumber;

impl Visitor<'_> for TextOrNumber {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status code, such as 401, 4xx or 500-599")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Words = serde_json::from_str(
            r#"{"users":["u"],"userGroups":["g"],"userPrefixes":["p"],"verbs":["get"],"namespaces":[""],
            "namespacePrefixes":["t-"],"resources":[{"group":"apps","resources":["*"],"resourceNames":["n"]}],
            "nonResourceURLs":["/x*"],"levels":["RequestResponse"],"stages":["Panic"],"codes":[401,"4xx"],
            "decisions":["forbid"],"sourceIPs":["10.0.0.0/8"],"userAgents":["curl*"],"annotations":{"k":"v"},
            "latency":">1s","impersonated":true,"not":{"verbs":["list"]}}"#,
        )
        .unwrap();
        assert_eq!(words.codes, [CodeWord::from("401"), CodeWord::from("4xx")]);
        assert_eq!(words.resources[0].resource_names, ["n"]);
        assert_eq!(words.decisions, [DecisionWord::Forbid]);
        assert_eq!(words.not.unwrap().verbs, ["list"]);
    }

    #[test]
    fn unknown_words_are_refused() {
        for bad in [
            r#"{"verb":["get"]}"#,
            r#"{"resources":[{"resource":["pods"]}]}"#,
            r#"{"not":{"verb":[]}}"#,
            r#"{"stages":["Complete"]}"#,
            r#"{"codes":[[401]]}"#,
            r#"{"codes":[4.5]}"#,
        ] {
            assert!(serde_json::from_str::<Words>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_schema_describes_every_word() {
        let schema = serde_json::to_value(schemars::schema_for!(Words)).unwrap();
        let words = schema["properties"].as_object().unwrap();
        assert_eq!(words.len(), 18);
        for (name, word) in words {
            assert!(word["description"].is_string(), "{name}");
        }
    }
}
