//! What the Helm chart renders, before a real API server: each object of its golden files is accepted
//! (`kubectl apply --dry-run=server`), in a namespace with the Pod Security level that the chart's README asks for, and its
//! Pods fail the stricter levels for the documented reasons alone.
//!
//! The golden files are what `helm template` makes: `cargo xtask chart` compares them. So no helm is needed here.

use super::client::{Client, Request};
use super::cluster::{Audit, Cluster, USERS};
use super::programs::Programs;
use crate::repo;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Where the chart's README says to install it, and the level that this namespace enforces.
const NAMESPACE: (&str, &str) = ("auditship", "privileged");

/// Every level, each enforced in a namespace of its name. The agent's Pods reach the first, that of the check all.
const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];

/// What the level `baseline` has against them, by the beginning of Kubernetes' words for it.
const DOCUMENTED: [&str; 6] = [
    "hostPath volumes",
    "non-default capabilities",
    "seLinuxOptions",
    "host namespaces",
    "hostPort",
    "probe",
];

/// By what a patch is known that is merged strategically.
const PATCH_MARK: &str = "$setElementOrder";

/// OpenShift's control-plane nodes are found by the older of two labels.
const EXPECTED_WARNING: &str = "nodeSelector[node-role.kubernetes.io/master]";

/// Kinds that are not Kubernetes' own: group, plural, kind, scope.
const FOREIGN: [(&str, &str, &str, &str); 4] = [
    ("monitoring.coreos.com", "podmonitors", "PodMonitor", "Namespaced"),
    ("monitoring.coreos.com", "servicemonitors", "ServiceMonitor", "Namespaced"),
    ("monitoring.coreos.com", "prometheusrules", "PrometheusRule", "Namespaced"),
    ("security.openshift.io", "securitycontextconstraints", "SecurityContextConstraints", "Cluster"),
];

/// Starts an API server and shows it everything.
pub(crate) fn check(programs: &Programs, policy: PathBuf) -> Result<()> {
    let golden = golden_files()?;
    if golden.is_empty() {
        println!("skipped: the chart has no golden files: cargo xtask chart --update");
        return Ok(());
    }
    let work = tempfile::tempdir().context("make a folder")?;
    let tokens = USERS.iter().map(|(user, _)| format!("token-of-{user}")).collect();
    let mut cluster = Cluster::start(programs, work.path(), Audit { policy, max_backups: 1 }, tokens)?;
    cluster.wait_ready()?;
    let mut examiner =
        Examiner { administrator: cluster.client(true)?, cluster, reasons: BTreeMap::new(), pods: 0 };
    examiner.prepare()?;
    let mut objects = 0;
    for path in &golden {
        objects += examiner.file(path).with_context(|| format!("{}", path.display()))?;
    }
    println!(
        "{objects} objects of {} golden files and {} Pods of theirs are accepted",
        golden.len(),
        examiner.pods
    );
    for (reason, pods) in &examiner.reasons {
        println!("  baseline has against {pods} of them: {reason}");
    }
    Ok(())
}

fn golden_files() -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(repo::root().join("charts/auditship/tests/golden")) else {
        return Ok(Vec::new());
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.context("list the golden files")?.path());
    }
    paths.sort();
    Ok(paths)
}

struct Examiner {
    administrator: Client,
    cluster: Cluster,
    /// How many Pods fail a stricter level for what.
    reasons: BTreeMap<String, usize>,
    pods: usize,
}

impl Examiner {
    /// Namespaces of every level, and definitions of the kinds that operators bring.
    fn prepare(&mut self) -> Result<()> {
        for (name, level) in LEVELS.map(|level| (level, level)).into_iter().chain([NAMESPACE]) {
            let labels = json!({"pod-security.kubernetes.io/enforce": level});
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
            let (status, answer) = self.post("/api/v1/namespaces", &namespace)?;
            ensure!(status == 201, "make namespace {name}: {answer}");
        }
        // A static Pod needs none, but it is shown as one that is created.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let (status, answer) = self.post("/api/v1/namespaces/kube-system/serviceaccounts", &account)?;
        ensure!(matches!(status, 201 | 409), "make a service account: {answer}");
        let definitions: Vec<Value> = FOREIGN
            .iter()
            .map(|(group, plural, kind, scope)| {
                let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
                json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.{group}"), "annotations":
                    {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"}},
                "spec": {"group": group, "scope": scope, "names": {"plural": plural, "kind": kind},
                    "versions": [{"name": "v1", "served": true, "storage": true,
                        "schema": {"openAPIV3Schema": schema}}]}})
            })
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": definitions});
        self.kubectl(&["create", "-f", "-"], &list.to_string())?;
        let names = FOREIGN.map(|(group, plural, ..)| format!("crd/{plural}.{group}"));
        let mut wait = vec!["wait", "--for=condition=Established", "--timeout=60s"];
        wait.extend(names.iter().map(String::as_str));
        self.kubectl(&wait, "").map(drop)
    }

    /// Shows one golden file to the API server; gives how many objects it has.
    fn file(&mut self, path: &Path) -> Result<usize> {
        let text = std::fs::read_to_string(path).context("read it")?;
        let objects = self.apply(&text)?;
        for object in &objects {
            let template = &object["spec"]["template"];
            if template["spec"]["containers"].is_array() {
                let pod = json!({"metadata": template["metadata"], "spec": template["spec"]});
                let is_agent = object["kind"] != "Job";
                self.pod(pod, is_agent).with_context(|| format!("the Pod of {}", object["kind"]))?;
            }
            for (name, inner) in object["data"].as_object().into_iter().flatten() {
                // A manifest for the kubelet, or a part of one.
                let Some(inner) =
                    inner.as_str().filter(|inner| inner.lines().any(|line| line == "kind: Pod"))
                else {
                    continue;
                };
                let whole = match inner.contains(PATCH_MARK) {
                    true => self.patched(inner).with_context(|| name.clone())?,
                    false => inner.to_owned(),
                };
                for pod in self.apply(&whole).with_context(|| name.clone())? {
                    self.pod(pod, true).with_context(|| name.clone())?;
                }
            }
        }
        Ok(objects.len())
    }

    /// The manifest of an API server with a patch for it, merged as kubeadm does.
    fn patched(&self, patch: &str) -> Result<String> {
        let container = json!({"name": "kube-apiserver", "image": "registry.k8s.io/kube-apiserver:v1", "command":
            ["kube-apiserver", "--audit-log-path=/var/log/kubernetes/audit/audit.log"]});
        let manifest = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "kube-apiserver", "namespace": "kube-system"},
            "spec": {"hostNetwork": true, "priorityClassName": "system-node-critical", "containers": [container]}});
        let paths = ["manifest.json", "patch.yaml"].map(|name| self.cluster.pki.path(name));
        std::fs::write(&paths[0], manifest.to_string()).context("write the manifest")?;
        std::fs::write(&paths[1], patch).context("write the patch")?;
        let [manifest, patch] = paths.map(|path| path.display().to_string());
        self.kubectl(
            &["patch", "--local", "-f", &manifest, "--type=strategic", "--patch-file", &patch, "-o", "json"],
            "",
        )
    }

    /// What the API server makes of YAML, without keeping it; a warning is an error.
    fn apply(&self, yaml: &str) -> Result<Vec<Value>> {
        let told =
            self.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"], yaml)?;
        let told: Value = serde_json::from_str(&told).context("understand kubectl")?;
        Ok(match told["kind"] == "List" {
            true => told["items"].as_array().cloned().unwrap_or_default(),
            false => vec![told],
        })
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.cluster.kubectl()?;
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start kubectl")?;
        child
            .stdin
            .take()
            .context("kubectl has an input")?
            .write_all(input.as_bytes())
            .context("feed kubectl")?;
        let output = child.wait_with_output().context("wait for kubectl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let unexpected =
            said.lines().any(|line| !(line.starts_with("Warning:") && line.contains(EXPECTED_WARNING)));
        ensure!(output.status.success() && !unexpected, "kubectl {}: {}", arguments[0], said.trim());
        String::from_utf8(output.stdout).context("read kubectl")
    }

    /// Shows a Pod to every level.
    fn pod(&mut self, mut pod: Value, is_agent: bool) -> Result<()> {
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned();
        let labels = pod["metadata"]["labels"].clone();
        for level in LEVELS {
            let accounts = format!("/api/v1/namespaces/{level}/serviceaccounts");
            let (status, answer) = self.post(
                &accounts,
                &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}),
            )?;
            ensure!(matches!(status, 201 | 409), "make a service account: {answer}");
            pod["metadata"] = json!({"name": "shown", "namespace": level, "labels": labels});
            let target = format!("/api/v1/namespaces/{level}/pods?dryRun=All&fieldValidation=Strict");
            let (status, answer) = self.post(&target, &pod)?;
            let wanted = if level == NAMESPACE.1 || !is_agent { 201 } else { 403 };
            ensure!(status == wanted, "under {level}: {status} {answer}");
            if status == 403 && level == LEVELS[1] {
                self.note(&reasons(&answer))?;
            }
        }
        self.pods += 1;
        Ok(())
    }

    fn note(&mut self, reasons: &BTreeSet<String>) -> Result<()> {
        let documented = |reason: &&String| DOCUMENTED.iter().any(|known| reason.starts_with(known));
        let unknown: Vec<&String> = reasons.iter().filter(|reason| !documented(reason)).collect();
        ensure!(unknown.is_empty(), "baseline has something else against it: {unknown:?}");
        ensure!(!reasons.is_empty(), "baseline gives no reason");
        for reason in reasons {
            *self.reasons.entry(reason.clone()).or_default() += 1;
        }
        Ok(())
    }

    fn post(&mut self, target: &str, object: &Value) -> Result<(u16, String)> {
        let body = Some(("application/json", object.to_string().into_bytes()));
        let answer = self.administrator.send(&Request {
            method: "POST",
            target: target.to_owned(),
            body,
            ..Request::default()
        })?;
        Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }
}

/// What a refusal by Pod Security names: `violates PodSecurity "baseline:latest": hostPath volumes (…), …`, without what is in
/// parentheses.
fn reasons(answer: &str) -> BTreeSet<String> {
    let message =
        serde_json::from_str::<Value>(answer).map(|answer| answer["message"].clone()).unwrap_or_default();
    let message = message.as_str().unwrap_or_default();
    let Some((_, list)) = message.split_once("violates PodSecurity") else { return BTreeSet::new() };
    let list = list.split_once("\": ").map_or("", |(_, list)| list);
    let (mut depth, mut plain) = (0, String::new());
    for character in list.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            other if depth == 0 => plain.push(other),
            _ => {}
        }
    }
    plain.split(", ").map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_pod_security() {
        let message = "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": hostPath volumes (volumes \"log\", \
            \"state\"), non-default capabilities (container \"a\" must not include \"DAC_READ_SEARCH\" in x)";
        let answer = json!({"message": message}).to_string();
        let want: BTreeSet<String> =
            ["hostPath volumes", "non-default capabilities"].map(str::to_owned).into();
        assert_eq!(reasons(&answer), want);
        assert!(reasons("{\"message\":\"exceeded quota\"}").is_empty());
    }
}
