//! The configuration as written: every word a user can set, its default and what it means.
//!
//! The comments here are the reference that users read: they go into the JSON Schema. Nothing is compiled and
//! nothing is judged beyond its shape; [`Config::validate`] judges what words say of each other.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time;

use auditship_redact::{FilterConfig, RedactConfig};
use auditship_route::RouteConfig;
use auditship_ship::{ByteSize, Duration};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected};

use super::kinds::{Input, Output};
use super::origin::Shape;

/// The whole configuration of auditship.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the cluster. It is part of every event's `uid` and of every record, so it must be the same on all
    /// nodes, and must not change. `${env:NAME}` and `${file:PATH}` are resolved.
    #[serde(default = "default_cluster")]
    pub cluster: String,
    /// Name of this node (the host's name). `${env:NAME}` and `${file:PATH}` are resolved.
    pub node: Option<String>,
    /// Directory for checkpoints, dead letters and the generated key; readable by its owner alone.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// File with the master key that `uid`, sampling and tokens are derived from. All nodes of a cluster should
    /// have the same. Without it a key is generated once in the state directory.
    pub key_file: Option<PathBuf>,
    /// Where lines come from, by name.
    #[serde(default)]
    pub inputs: BTreeMap<String, Input>,
    /// What is taken out of every event before it leaves the node.
    #[serde(default)]
    pub redact: RedactConfig,
    /// Which events are dropped. Without it the built-in filter applies.
    pub filter: Option<FilterConfig>,
    /// Which index and which outputs an event goes to, and what fraction is kept. The first match takes the
    /// event, unless it says `continue: true`. Without it the built-in routes apply.
    pub routes: Option<Vec<RouteConfig>>,
    /// Where records go, by name.
    #[serde(default)]
    pub outputs: BTreeMap<String, Output>,
    /// The endpoint for metrics and probes.
    #[serde(default)]
    pub admin: Admin,
    /// Bounds on what the agent may use.
    #[serde(default)]
    pub limits: Limits,
    /// How long a stop may take: what is not acknowledged by then is sent again after the next start (20s).
    #[serde(default = "default_shutdown_deadline")]
    pub shutdown_deadline: Duration,
}

/// The endpoint for metrics and probes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address and port of `/metrics`, `/healthz`, `/readyz` and `/status`; `null` turns it off.
    #[serde(default = "default_listen", deserialize_with = "read_listen")]
    pub listen: Option<SocketAddr>,
}

/// Bounds on what the agent may use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory for lines, batches and what is in flight, all outputs together (48MiB). The process counts for 6MiB of
    /// it, and each output for 2MiB.
    #[serde(default = "default_memory")]
    pub memory: ByteSize,
}

/// The form of an input's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One audit event a line, as the API server writes its audit log.
    Audit,
    /// Audit events in a container's log, as the kubelet writes it (`--audit-log-path=-`).
    Cri,
    /// Found out from the first line.
    #[default]
    Auto,
}

/// Where to begin when there is no checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// With the oldest backup that is still there.
    #[default]
    Beginning,
    /// With what is written from now on.
    End,
    /// With the oldest backup that was last written within this time, such as `{since: 24h}`; some of its events may be
    /// older.
    Since(Duration),
}

/// An audit log file, followed through its rotations.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileInput {
    /// The file that the API server writes; `*` and `?` are wildcards. Rotated backups beside it, also compressed
    /// ones, are found by themselves.
    pub path: PathBuf,
    /// The form of the lines.
    #[serde(default)]
    pub format: Format,
    /// Where to begin when there is no checkpoint.
    #[serde(default)]
    pub start_at: StartAt,
    /// The longest line; of a longer one only what its two ends tell is shipped (4MiB).
    #[serde(default = "default_max_line")]
    pub max_line: ByteSize,
}

/// Standard input, read once to its end. Nothing is saved: what is not acknowledged is lost with the process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdinInput {
    /// The form of the lines.
    #[serde(default)]
    pub format: Format,
    /// The longest line; of a longer one only what its two ends tell is shipped (4MiB).
    #[serde(default = "default_max_line")]
    pub max_line: ByteSize,
}

fn default_cluster() -> String {
    "default".to_owned()
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/auditship")
}

fn default_listen() -> Option<SocketAddr> {
    Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9600)))
}

fn read_listen<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let expected = "an address and port such as 127.0.0.1:9600, or `null`";
    text.parse().map(Some).map_err(|_| de::Error::invalid_value(Unexpected::Str(&text), &expected))
}

fn default_memory() -> ByteSize {
    ByteSize(48 << 20)
}

fn default_max_line() -> ByteSize {
    ByteSize(4 << 20)
}

fn default_shutdown_deadline() -> Duration {
    Duration(time::Duration::from_secs(20))
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: default_cluster(),
            node: None,
            state_dir: default_state_dir(),
            key_file: None,
            inputs: BTreeMap::new(),
            redact: RedactConfig::default(),
            filter: None,
            routes: None,
            outputs: BTreeMap::new(),
            admin: Admin::default(),
            limits: Limits::default(),
            shutdown_deadline: default_shutdown_deadline(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: default_listen() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: default_memory() }
    }
}

impl Default for StdinInput {
    fn default() -> Self {
        Self { format: Format::default(), max_line: default_max_line() }
    }
}

/// What the loader has to know about the paths of [`Config`].
pub(crate) const SHAPE: Shape = Shape {
    secret: is_secret,
    resolves: |words| {
        is_secret(words) || matches!(words, ["cluster"] | ["node"] | ["outputs", _, "bucket" | "region"])
    },
    open: &[
        "cluster",
        "node",
        "state_dir",
        "key_file",
        "inputs",
        "redact",
        "filter",
        "routes",
        "admin",
        "limits",
        "shutdown_deadline",
    ],
    extra: |words| match words {
        ["inputs", _] => &["type"],
        ["outputs", _] => &["type", "filter"],
        _ => &[],
    },
};

/// Whether a value may be a secret.
fn is_secret(words: &[&str]) -> bool {
    matches!(
        words,
        ["outputs", _, "auth" | "credentials" | "headers", ..]
            | ["outputs", _, "connection", "proxy_auth", ..]
    )
}

/// The JSON Schema of the configuration (draft 7: what editors understand best).
pub fn schema() -> serde_json::Value {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Config>();
    let mut schema = schema.to_value();
    if let Some(top) = schema.as_object_mut() {
        top.insert("title".to_owned(), "auditship".into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use auditship_redact::{Action, Catalogue};
    use auditship_ship::sinks::SINKS;

    use super::*;
    use crate::config::FilterUse;
    use crate::config::tests::config;

    const ALL: &str = r#"
cluster: prod-eu1
node: ${env:NODE_NAME}
state_dir: /var/lib/auditship
key_file: /etc/auditship/key
inputs:
  apiserver:
    type: file
    path: /var/log/kubernetes/apiserver/audit.log
    format: auto
    start_at: {since: 24h}
    max_line: 4MiB
redact:
  catalogue: default
  rules:
    - name: payroll-configmaps
      match: {resources: [{group: "", resources: [configmaps]}], namespaces: [payroll]}
      paths: [requestObject.data.*, responseObject.data.*]
      action: token
  actions: {jwt: mask}
  allow:
    - {reason: the value of every new cluster, value: e776f6a3-97c70949aad3f71e}
    - {reason: placeholders, pattern: changeme*, rules: [sensitive-member, payroll-configmaps]}
filter:
  packs: [noise]
  rules:
    - {name: request-received, match: {stages: [RequestReceived]}, do: drop}
routes:
  - {name: everything, index: audit, outputs: [archive], continue: true}
  - {name: refused, match: {codes: ["401", 403], nonResourceURLs: ["*"]}, index: k8s-audit, outputs: [search]}
  - {name: reads, index: k8s-audit-reads, outputs: [search], keep: 2%}
outputs:
  search:
    endpoint: https://logs.example:9200
    type: elasticsearch
    auth: {api_key: "${file:/key}"}
    compression: gzip
    rate_limit: {bytes: 20MiB/s, requests: 50/s}
  hook:
    type: http
    url: https://hook.example/ingest
    headers: {X-Token: "${env:NODE_NAME}"}
    filter: none
  archive:
    type: dir
    path: /var/log/auditship-archive
admin: {listen: null}
limits: {memory: 64MiB}
shutdown_deadline: 1m30s
"#;

    #[test]
    fn every_word_of_the_design_is_read() {
        let text = ALL.replace("outputs: [archive], continue", "outputs: [archive, hook], continue");
        let (config, located) = config(&text).unwrap();
        assert_eq!((config.cluster.as_str(), config.node.as_deref()), ("prod-eu1", Some("node-1")));
        let Input::File(file) = &config.inputs["apiserver"] else { panic!("not a file") };
        assert_eq!(file.start_at, StartAt::Since(Duration(time::Duration::from_secs(86_400))));
        assert_eq!(config.redact.catalogue, Catalogue::Default);
        assert_eq!(config.redact.rules[0].action, Action::Token);
        assert_eq!(config.redact.actions["jwt"], Action::Mask);
        assert_eq!(config.redact.allow[0].value.as_deref(), Some("e776f6a3-97c70949aad3f71e"));
        assert_eq!(config.redact.allow[1].rules.len(), 2);
        assert_eq!(config.filter.unwrap().packs, ["noise"]);
        let routes = config.routes.unwrap();
        assert!(routes[0].goes_on);
        assert_eq!(routes[1].words.codes.len(), 2);
        assert_eq!(routes[1].words.non_resource_urls, ["*"]);
        let filters: Vec<FilterUse> = config.outputs.values().map(|output| output.filter).collect();
        assert_eq!(filters, [FilterUse::None, FilterUse::None, FilterUse::Default]);
        assert_eq!(config.outputs["archive"].sink.kind().name, "dir");
        assert_eq!(config.admin.listen, None);
        assert_eq!(config.limits.memory, ByteSize(64 << 20));
        assert!(located.warnings().is_empty(), "{:?}", located.warnings());
    }

    #[test]
    fn what_is_not_written_has_its_default() {
        let (config, _) = config("{}").unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
        assert!(config.routes.is_none() && config.filter.is_none() && config.node.is_none());
        assert_eq!(config.admin.listen.unwrap().to_string(), "127.0.0.1:9600");
    }

    #[test]
    fn no_secret_is_in_debug() {
        let text =
            "outputs: {h: {type: http, url: \"https://x\", headers: {A: hunter2}, auth: {bearer: hunter2}}}";
        let (config, located) = config(text).unwrap();
        assert!(!format!("{config:?} {located:?}").contains("hunter2"));
    }

    #[test]
    fn the_schema_names_every_type_and_says_what_each_word_means() {
        let schema = schema();
        let pointer = |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("{path} in {schema:#}"));
        let kinds = pointer("/definitions/Output/oneOf").as_array().unwrap();
        let names: Vec<&str> =
            kinds.iter().map(|kind| kind["properties"]["type"]["const"].as_str().unwrap()).collect();
        assert_eq!(names, SINKS.iter().map(|sink| sink.name).collect::<Vec<_>>());
        for kind in kinds {
            assert_eq!(kind["additionalProperties"], false, "{kind:#}");
            assert_eq!(kind["required"][0], "type", "{kind:#}");
            assert!(kind["properties"]["filter"].is_object() && kind["description"].is_string(), "{kind:#}");
        }
        let inputs = pointer("/definitions/Input/oneOf").as_array().unwrap();
        assert_eq!(inputs[0]["required"], serde_json::json!(["type", "path"]));
        for (word, property) in pointer("/properties").as_object().unwrap() {
            assert!(property["description"].is_string(), "`{word}` has no description");
        }
        assert_eq!(pointer("/additionalProperties"), false);
        assert_every_reference_resolves(&schema, &schema);
    }

    fn assert_every_reference_resolves(value: &serde_json::Value, schema: &serde_json::Value) {
        if let Some(reference) = value.get("$ref").and_then(|reference| reference.as_str()) {
            assert!(schema.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        let children: Vec<&serde_json::Value> = match value {
            serde_json::Value::Object(object) => object.values().collect(),
            serde_json::Value::Array(array) => array.iter().collect(),
            _ => Vec::new(),
        };
        for child in children {
            assert_every_reference_resolves(child, schema);
        }
    }
}
