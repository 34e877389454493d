//! Schemas of Kubernetes' objects for kubeconform, made from what is in the Go modules: `swagger.json` of Kubernetes itself,
//! and the CustomResourceDefinitions of the Prometheus operator and of OpenShift.
//!
//! They are strict: a field that the API server would drop is an error here.

use super::{documents, read, render};
use crate::backends::tools;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const KUBERNETES: &str = "k8s.io/kubernetes@v1.36.3";
const SWAGGER: &str = "api/openapi-spec/swagger.json";

/// Modules with definitions of custom resources, and where they are in them.
const CUSTOM: &[(&str, &[&str])] = &[
    (
        "github.com/prometheus-operator/prometheus-operator@v0.83.0",
        &[
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        ],
    ),
    (
        "github.com/openshift/api@v0.0.0-20250124212313-a770960d61e0",
        &[
            "security/v1/zz_generated.crd-manifests/0000_03_config-operator_01_securitycontextconstraints-Default.crd.yaml",
        ],
    ),
];

/// Says which schemas these are: a change in how they are made makes them anew.
const STAMP: &str = "3";

/// The folder with one schema a kind, made if it is not there; or why it cannot be had.
pub(super) fn folder() -> Result<Result<PathBuf, String>> {
    let folder = tools::cache()?.join(format!("kube-schemas-{STAMP}"));
    let done = folder.join("done");
    if done.is_file() {
        return Ok(Ok(folder));
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let kubernetes = match module(KUBERNETES)? {
        Ok(path) => path,
        Err(reason) => return Ok(Err(reason)),
    };
    let swagger: Value =
        serde_json::from_str(&read(&kubernetes.join(SWAGGER))?).context("understand swagger.json")?;
    let mut count = native(&swagger, &folder)?;
    for (name, files) in CUSTOM {
        let path = match module(name)? {
            Ok(path) => path,
            Err(reason) => return Ok(Err(reason)),
        };
        for file in *files {
            for definition in documents(&read(&path.join(file))?)? {
                count += custom(&definition, &folder)?;
            }
        }
    }
    println!("schemas of {count} kinds made");
    std::fs::write(&done, STAMP).context("write the stamp")?;
    Ok(Ok(folder))
}

/// Where a Go module is unpacked, or why it cannot be had.
fn module(name: &str) -> Result<Result<PathBuf, String>> {
    let mut go = tools::go();
    go.args(["mod", "download", "-json", name]);
    let Ok(output) = go.output() else { return Ok(Err("go is not installed".to_owned())) };
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(match (told["Dir"].as_str(), told["Error"].as_str()) {
        (Some(folder), _) => Ok(PathBuf::from(folder)),
        (None, Some(error)) => Err(format!("{name}: {error}")),
        (None, None) => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    })
}

/// One file with all definitions, and one a kind that points into it.
fn native(swagger: &Value, folder: &Path) -> Result<usize> {
    let definitions = swagger["definitions"].as_object().context("swagger.json has no definitions")?;
    let strict: Map<String, Value> = definitions
        .iter()
        .map(|(name, definition)| (name.clone(), native_definition(name, definition)))
        .collect();
    write(&folder.join("definitions.json"), &json!({"definitions": strict}))?;
    let mut count = 0;
    for (name, definition) in definitions {
        for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let word = |key: &str| kind[key].as_str().unwrap_or_default();
            let version = match word("group") {
                "" => word("version").to_owned(),
                group => format!("{group}/{}", word("version")),
            };
            let schema = json!({
                "allOf": [{"$ref": format!("definitions.json#/definitions/{name}")}],
                "required": ["apiVersion", "kind"],
                "properties": {"apiVersion": {"const": version}, "kind": {"const": word("kind")}},
            });
            write(&folder.join(file_name(word("kind"), word("group"), word("version"))), &schema)?;
            count += 1;
        }
    }
    ensure!(count > 50, "only {count} kinds in swagger.json");
    Ok(count)
}

fn native_definition(name: &str, definition: &Value) -> Value {
    match name.rsplit('.').next().unwrap_or_default() {
        "IntOrString" | "Quantity" => json!({"type": ["integer", "number", "string"]}),
        _ => strict(definition, "definitions.json"),
    }
}

/// The schema of a CustomResourceDefinition, for each of its versions.
fn custom(definition: &Value, folder: &Path) -> Result<usize> {
    let spec = &definition["spec"];
    let (Some(kind), Some(group)) = (spec["names"]["kind"].as_str(), spec["group"].as_str()) else {
        return Ok(0);
    };
    let versions = spec["versions"].as_array().context("a definition without versions")?;
    for version in versions {
        let name = version["name"].as_str().context("a version without a name")?;
        let mut schema = strict(&version["schema"]["openAPIV3Schema"], "");
        // What every object has, and a definition does not repeat.
        schema["properties"]["metadata"] = json!({"type": "object"});
        write(&folder.join(file_name(kind, group, name)), &schema)?;
    }
    Ok(versions.len())
}

/// As kubeconform asks for it: `{{.ResourceKind}}{{.KindSuffix}}.json`.
fn file_name(kind: &str, group: &str, version: &str) -> String {
    let group = group.split('.').next().unwrap_or_default();
    let suffix = if group.is_empty() { format!("-{version}") } else { format!("-{group}-{version}") };
    format!("{}{suffix}.json", kind.to_lowercase())
}

/// The same schema, allowing no field that it does not name, with references into `file`.
fn strict(schema: &Value, file: &str) -> Value {
    match schema {
        Value::Object(members) => {
            let mut out = Map::new();
            for (key, value) in members {
                let value = match (key.as_str(), value) {
                    ("description" | "format" | "default", Value::String(_)) => continue,
                    ("$ref", Value::String(to)) => json!(format!("{file}{to}")),
                    // Names of fields are no words of a schema.
                    ("properties", Value::Object(fields)) => {
                        fields.iter().map(|(name, field)| (name.clone(), strict(field, file))).collect()
                    }
                    (_, value) => strict(value, file),
                };
                out.insert(key.clone(), value);
            }
            let open = ["additionalProperties", "x-kubernetes-preserve-unknown-fields", "allOf", "$ref"];
            if out.contains_key("properties") && !open.iter().any(|word| out.contains_key(*word)) {
                out.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            if out.remove("x-kubernetes-int-or-string").is_some() {
                return json!({"type": ["integer", "string"]});
            }
            if out.remove("nullable") == Some(Value::Bool(true))
                && let Some(Value::String(kind)) = out.get("type")
            {
                out.insert("type".to_owned(), json!([kind, "null"]));
            }
            Value::Object(out)
        }
        Value::Array(items) => items.iter().map(|item| strict(item, file)).collect(),
        other => other.clone(),
    }
}

fn write(path: &Path, value: &Value) -> Result<()> {
    std::fs::write(path, value.to_string()).with_context(|| format!("write {}", path.display()))
}

/// Every golden file, and the manifests that are inside of the objects for nodes.
pub(super) fn check(kubeconform: &Path, schemas: &Path) -> Result<()> {
    let work = tempfile::tempdir().context("make a folder")?;
    let mut paths = Vec::new();
    for (name, text) in render::golden_files()? {
        let path = work.path().join(format!("{name}.yaml"));
        std::fs::write(&path, &text).context("write manifests")?;
        paths.push(path);
        for object in documents(&text)? {
            let data = if object["kind"] == "Secret" { &object["stringData"] } else { &object["data"] };
            if let Some(pod) = data["auditship.yaml"].as_str() {
                let path = work.path().join(format!("{name}-manifest.yaml"));
                std::fs::write(&path, pod).context("write a manifest")?;
                paths.push(path);
            }
        }
    }
    let location = format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", schemas.display());
    let output = Command::new(kubeconform)
        .args(["-strict", "-summary", "-output", "text", "-schema-location", &location])
        .args(&paths)
        .stdin(Stdio::null())
        .output()
        .context("start kubeconform")?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}{}", told, String::from_utf8_lossy(&output.stderr));
    print!("{told}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_refused_unless_a_schema_is_open() {
        let schema = json!({
            "type": "object",
            "description": "A thing.",
            "properties": {
                "description": {"type": "string", "description": "A field of that name."},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "any": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": true},
                "spec": {"$ref": "#/definitions/Spec"},
                "none": {"type": "integer", "nullable": true},
            },
        });
        assert_eq!(
            strict(&schema, "definitions.json"),
            json!({
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "description": {"type": "string"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "port": {"type": ["integer", "string"]},
                    "any": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": true},
                    "spec": {"$ref": "definitions.json#/definitions/Spec"},
                    "none": {"type": ["integer", "null"]},
                },
            })
        );
    }

    #[test]
    fn file_names_are_those_that_kubeconform_asks_for() {
        for (kind, group, version, want) in [
            ("Pod", "", "v1", "pod-v1.json"),
            ("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicy-networking-v1.json"),
            ("PodMonitor", "monitoring.coreos.com", "v1", "podmonitor-monitoring-v1.json"),
        ] {
            assert_eq!(file_name(kind, group, version), want);
        }
    }
}
