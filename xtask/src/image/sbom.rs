//! The software bill of materials of the binary, as CycloneDX 1.6: what Cargo has resolved for it, with the checksums of
//! `Cargo.lock`. Tools for building and for tests are not in it, because they are not in the binary.

use super::dist::Origin;
use super::oci;
use crate::repo;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The same packages are resolved for the other architecture.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The document's text.
pub(crate) fn document(origin: &Origin) -> Result<String> {
    let mut cargo = repo::cargo();
    cargo.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]);
    let metadata: Value =
        serde_json::from_str(&repo::output(&mut cargo)?).context("read the output of cargo metadata")?;
    let lock = std::fs::read_to_string(repo::root().join("Cargo.lock")).context("read Cargo.lock")?;
    Ok(of(&metadata, &checksums(&lock), origin)?.to_string())
}

fn of(metadata: &Value, checksums: &BTreeMap<(String, String), String>, origin: &Origin) -> Result<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (text(&node["id"]), node)).collect();
    let root =
        packages.values().find(|package| package["name"] == "auditship").context("the agent's package")?;
    let root = text(&root["id"]);
    let is_in_binary =
        |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut open = vec![root.clone()];
    while let Some(id) = open.pop() {
        if found.contains_key(&id) {
            continue;
        }
        let node = nodes.get(&id).with_context(|| format!("{id} is not resolved"))?;
        let uses: BTreeSet<String> =
            list(&node["deps"]).iter().filter(|dep| is_in_binary(dep)).map(|dep| text(&dep["pkg"])).collect();
        open.extend(uses.iter().cloned());
        found.insert(id, uses);
    }
    let (mut components, mut dependencies) = (Vec::new(), Vec::new());
    for (id, uses) in &found {
        let references = uses.iter().map(|id| reference(&packages[id])).collect::<BTreeSet<_>>();
        dependencies.push(json!({"ref": reference(&packages[id]), "dependsOn": references}));
        if *id == root {
            continue;
        }
        let package = &packages[id];
        let mut component = json!({
            "type": "library",
            "bom-ref": reference(package),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(package),
        });
        if let Some(license) = package["license"].as_str() {
            // Some still write a slash for "or".
            component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
        }
        if let Some(checksum) = checksums.get(&(text(&package["name"]), text(&package["version"]))) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        components.push(component);
    }
    ensure!(components.len() > 1, "nothing is in the binary");
    components.sort_by_key(|component| component["bom-ref"].to_string());
    dependencies.sort_by_key(|dependency| dependency["ref"].to_string());
    // The same parts have the same serial number: a UUID made from a name (RFC 9562 §5.8).
    let hash = oci::digest(Value::from(components.clone()).to_string().as_bytes()).replace("sha256:", "");
    let serial = format!(
        "urn:uuid:{}-{}-8{}-8{}-{}",
        &hash[..8],
        &hash[8..12],
        &hash[12..15],
        &hash[15..18],
        &hash[18..30]
    );
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial,
        "version": 1,
        "metadata": {
            "timestamp": origin.created,
            "component": {
                "type": "application",
                "bom-ref": reference(&packages[&root]),
                "name": "auditship",
                "version": origin.version,
                "purl": reference(&packages[&root]),
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// A package URL.
fn reference(package: &Value) -> String {
    let text = |name: &str| package[name].as_str().unwrap_or_default();
    format!("pkg:cargo/{}@{}", text("name"), text("version").replace('+', "%2B"))
}

/// Checksums by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='))?;
            Some(line.trim().trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (field("name"), field("version"), field("checksum"))
        {
            found.insert((name, version), checksum);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_binary() {
        let package =
            |name: &str| json!({"id": name, "name": name, "version": "1.0.0+a", "license": "MIT/Apache-2.0"});
        let dep = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("auditship"), package("a"), package("b"), package("test-only")],
            "resolve": {"nodes": [
                {"id": "auditship", "deps": [dep("a", Value::Null), dep("test-only", "dev".into())]},
                {"id": "a", "deps": [dep("b", Value::Null), dep("test-only", "build".into())]},
                {"id": "b", "deps": []},
                {"id": "test-only", "deps": []},
            ]},
        });
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0+a\"\nchecksum = \"c0ffee\"\n";
        let origin = Origin {
            version: "1.2.3".to_owned(),
            revision: String::new(),
            created: "2026-01-02T03:04:05Z".to_owned(),
            source: String::new(),
        };
        let made = of(&metadata, &checksums(lock), &origin).unwrap();
        let purls: Vec<&str> = made["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part["purl"].as_str().unwrap())
            .collect();
        assert_eq!(purls, ["pkg:cargo/a@1.0.0%2Ba", "pkg:cargo/b@1.0.0%2Ba"]);
        assert_eq!(made["components"][0]["hashes"][0]["content"], "c0ffee");
        assert_eq!(made["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(
            made["dependencies"][0],
            json!({"ref": "pkg:cargo/a@1.0.0%2Ba", "dependsOn": ["pkg:cargo/b@1.0.0%2Ba"]})
        );
    }
}
