//! Redaction as the user writes it.

use auditship_rule::Words;
use schemars::JsonSchema;
use serde::Deserialize;

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
}
