//! Redaction as the user writes it.

use auditship_rule::Words;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What is taken out before anything leaves the node.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RedactConfig {
    /// The built-in rules: `default`, or `none` to turn them all off.
    #[serde(default)]
    pub catalogue: Catalogue,
    /// Rules of your own, applied besides the built-in ones.
    #[serde(default)]
    pub rules: Vec<RedactRule>,
    /// What built-in rules do, by the rule's name, where it is not what the catalogue says.
    #[serde(default)]
    pub actions: BTreeMap<String, Action>,
    /// What stays although a rule would take it, each with the reason why. What could not be read, bytes that are no
    /// UTF-8 and documents beyond the limits of nesting go all the same.
    #[serde(default)]
    pub allow: Vec<Allow>,
}

/// Which built-in rules apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Catalogue {
    /// All of them.
    #[default]
    Default,
    /// None: everything leaves as the API server wrote it.
    None,
}

/// One rule: values at some paths of some events.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RedactRule {
    /// Name of the rule, as it appears in counts and in the replacement.
    pub name: String,
    /// Which events; all when absent.
    #[serde(default, rename = "match")]
    pub matches: Words,
    /// Where the values stand, from the event's root: `requestObject.data.*`. `*` is any one key, `**` any
    /// number of them, `a*` a key that begins with a; arrays are passed through; a key that holds a dot is
    /// written `metadata.annotations["example.com/key"]`. A path to an object selects everything in it.
    pub paths: Vec<String>,
    /// What happens to the values.
    #[serde(default)]
    pub action: Action,
}

/// One thing that stays: by exactly one of `value`, `path` and `pattern`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("oneOf" = [{"required": ["value"]}, {"required": ["path"]}, {"required": ["pattern"]}]))]
pub struct Allow {
    /// Why it may leave. What stays is counted under this text, so let each say something of its own, and nothing
    /// secret.
    pub reason: String,
    /// One value, by its keyed hash: the `KEY-HASH` at the end of a token that took its place, or what
    /// `auditship redact --hash` prints of it. After a change of the key it has another hash, and goes again.
    pub value: Option<String>,
    /// Whatever stands at this path, written as in a rule: from the event's root, arrays passed through, everything in
    /// an object or in a document in a string included.
    pub path: Option<String>,
    /// Every value that fits as a whole, as it would be taken out: `*` is any run of characters, `?` is one.
    pub pattern: Option<String>,
    /// Names of the rules that let it be, built-in or of your own; all when absent. Where several rules find something
    /// in one value, it goes under the name of the first.
    #[serde(default)]
    pub rules: Vec<String>,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Replaced by `redacted:RULE`.
    #[default]
    Mask,
    /// Replaced by `redacted:RULE:KEY-HASH`: a keyed hash, so that equal values stay equal and cannot be guessed.
    Token,
    /// Replaced by nothing: an empty string.
    Remove,
    /// Replaced by `redacted:RULE:sha256-DIGEST:LENGTH`, for what is public and bulky. Not for a configuration to
    /// choose: whoever guesses a value can test the guess.
    #[serde(skip)]
    Digest,
}
