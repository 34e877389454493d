//! The Helm chart as far as no tool is needed: `cargo xtask chart` renders the golden files that are read here.
//!
//! What holds for every manifest, whatever values it was rendered with: how hard it is, that the directory is mounted and never
//! the file, and that the agent takes the configuration.

use crate::support::{auditship, run};
use expect_test::expect_file;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The chart's folder.
pub fn chart() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/auditship"))
}

/// A file of the chart.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(chart().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file of one document.
pub fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn names(folder: &str, extension: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(chart().join(folder)).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// The members of an object, or nothing.
fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The items of a list, or nothing.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// One object of a golden file, or one that is inside of an object for nodes.
struct Object {
    golden: String,
    value: Value,
}

impl Object {
    fn kind(&self) -> &str {
        text(&self.value["kind"])
    }

    /// The preset or case that the golden file is of: an example's name begins with its preset.
    fn of(&self) -> &str {
        self.golden.trim_start_matches("example-")
    }

    /// The Pod, where it is one or makes one.
    fn pod(&self) -> Option<&Value> {
        match self.kind() {
            "Pod" => Some(&self.value["spec"]),
            "DaemonSet" | "Job" => Some(&self.value["spec"]["template"]["spec"]),
            _ => None,
        }
    }

    /// What a ConfigMap or Secret holds.
    fn data(&self) -> &Value {
        if self.kind() == "Secret" { &self.value["stringData"] } else { &self.value["data"] }
    }

    /// Whether its Pod is the agent's, and not that of a check.
    fn is_agent(&self) -> bool {
        matches!(self.kind(), "Pod" | "DaemonSet")
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.golden, self.kind(), self.value["metadata"]["name"])
    }
}

/// Everything in the golden files.
fn objects() -> Vec<Object> {
    let mut objects = Vec::new();
    for golden in names("tests/golden", "yaml") {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&read(&format!("tests/golden/{golden}.yaml")))
                .unwrap_or_else(|error| panic!("{golden}: {error}"));
        for value in documents.into_iter().filter(|document| !document.is_null()) {
            objects.push(Object { golden: golden.clone(), value });
        }
    }
    let inside: Vec<Object> = objects
        .iter()
        .filter(|object| matches!(object.kind(), "ConfigMap" | "Secret"))
        .flat_map(|object| {
            members(object.data())
                .filter(|(name, _)| ["auditship.yaml", "kube-apiserver.yaml"].contains(&name.as_str()))
                .map(|(_, manifest)| Object {
                    golden: object.golden.clone(),
                    value: serde_saphyr::from_str(text(manifest)).unwrap(),
                })
        })
        .collect();
    objects.extend(inside);
    objects
}

/// The objects that have a Pod.
fn pods() -> Vec<Object> {
    let pods: Vec<Object> = objects().into_iter().filter(|object| object.pod().is_some()).collect();
    assert!(pods.len() > 30, "only {} Pods in the golden files", pods.len());
    pods
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    items(&pod["initContainers"]).iter().chain(items(&pod["containers"]))
}

#[test]
fn every_preset_has_a_golden_file_in_every_mode_that_it_allows() {
    let golden = names("tests/golden", "yaml");
    let presets = names("presets", "yaml");
    assert_eq!(presets.len(), 8, "{presets:?}");
    for preset in presets {
        let facts = yaml(&format!("presets/{preset}.yaml"));
        for mode in ["daemonset", "static-pod", "sidecar"] {
            let refused = mode == "sidecar" && facts["noSidecar"].is_string();
            assert_eq!(golden.contains(&format!("{preset}-{mode}")), !refused, "{preset}-{mode}");
        }
    }
}

#[test]
fn every_container_is_hardened() {
    for object in pods() {
        let pod = object.pod().unwrap();
        for container in containers(pod) {
            let context = &container["securityContext"];
            let what = format!("{object}, container {}", container["name"]);
            assert_eq!(context["allowPrivilegeEscalation"], false, "{what}");
            assert_eq!(context["privileged"], false, "{what}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{what}");
            assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]), "{what}");
            let seccomp =
                [&context["seccompProfile"]["type"], &pod["securityContext"]["seccompProfile"]["type"]];
            assert!(seccomp.contains(&&Value::from("RuntimeDefault")), "{what}");
            let added = items(&context["capabilities"]["add"]);
            let foreign =
                ["talos", "everything", "static-secret"].iter().any(|it| object.of().starts_with(it));
            let wanted: &[Value] =
                if foreign && object.is_agent() { &["DAC_READ_SEARCH".into()] } else { &[] };
            assert_eq!(added, wanted, "{what}");
            for bound in ["requests", "limits"] {
                for resource in ["cpu", "memory"] {
                    assert!(
                        !container["resources"][bound][resource].is_null(),
                        "{what}: {bound} of {resource}"
                    );
                }
            }
            for probe in [&container["livenessProbe"], &container["readinessProbe"]] {
                assert!(probe["exec"].is_null(), "{what}: there is no shell in the image");
            }
        }
    }
}

#[test]
fn no_token_is_mounted_and_no_right_is_given() {
    let objects = objects();
    for object in &objects {
        let rbac = ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
        assert!(!rbac.contains(&object.kind()), "{object}");
        if object.kind() == "ServiceAccount" {
            assert_eq!(object.value["automountServiceAccountToken"], false, "{object}");
        }
        // The sidecar's Pod is the API server's, which has its own settings.
        if let Some(pod) = object.pod().filter(|_| !object.golden.ends_with("-sidecar")) {
            assert_eq!(pod["automountServiceAccountToken"], false, "{object}");
            for word in ["hostPID", "hostIPC", "shareProcessNamespace"] {
                assert!(pod[word].is_null(), "{object}: {word}");
            }
        }
    }
    let allowed: Vec<&Object> =
        objects.iter().filter(|it| it.kind() == "SecurityContextConstraints").collect();
    assert_eq!(allowed.len(), 2, "for OpenShift alone");
    for object in allowed {
        assert!(object.of().starts_with("openshift"), "{object}");
        assert_eq!(items(&object.value["users"]), ["system:serviceaccount:auditship:auditship"]);
        assert!(items(&object.value["groups"]).is_empty());
    }
}

#[test]
fn the_audit_directory_is_mounted_read_only_and_the_state_elsewhere() {
    for object in pods().iter().filter(|object| object.is_agent()) {
        let pod = object.pod().unwrap();
        let volumes: BTreeMap<&str, &Value> =
            items(&pod["volumes"]).iter().map(|volume| (text(&volume["name"]), volume)).collect();
        let agent = items(&pod["containers"]).iter().find(|it| it["name"] == "auditship").unwrap();
        let (mut audit, mut state) = (0, 0);
        for mount in items(&agent["volumeMounts"]) {
            let name = text(&mount["name"]);
            let host = &volumes[name]["hostPath"];
            let short = name.trim_start_matches("auditship-");
            if host["path"].is_string() {
                let kinds = ["Directory", "DirectoryOrCreate"];
                assert!(kinds.contains(&text(&host["type"])), "{object}: {name} is no directory");
            }
            if short.starts_with("audit-") {
                assert_eq!(mount["readOnly"], true, "{object}: {name}");
                assert_eq!(mount["mountPath"], host["path"], "{object}: {name}");
                assert!(!text(&host["path"]).ends_with(".log"), "{object}: a file: {host}");
                audit += 1;
            } else if short == "state" {
                assert_eq!(host["type"], "DirectoryOrCreate", "{object}");
                state += 1;
            } else if !short.starts_with("archive-") {
                assert_eq!(mount["readOnly"], true, "{object}: {name} can be written");
            }
            assert!(mount["subPath"].is_null(), "{object}: {name}: a change would not be seen");
        }
        assert!(audit > 0 && state == 1, "{object}: {audit} audit directories, {state} for the state");
    }
}

#[test]
fn the_api_server_never_waits_for_its_sidecar() {
    let sidecars: Vec<Object> = pods().into_iter().filter(|it| it.golden.ends_with("-sidecar")).collect();
    assert!(sidecars.len() >= 3, "kubeadm, kind, custom");
    for object in sidecars {
        let pod = object.pod().unwrap();
        assert!(pod["initContainers"].is_null(), "{object}: it would have to succeed first");
        assert!(pod["containers"][0]["readinessProbe"].is_null(), "{object}");
        for volume in items(&pod["volumes"]) {
            assert_eq!(volume["hostPath"]["type"], "DirectoryOrCreate", "{object}: {volume}");
            assert!(text(&volume["name"]).starts_with("auditship-"), "{object}: {volume}");
        }
    }
}

/// The checks of Pod Security that a Pod fails, by the names of the standard.
///
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
fn violations(pod: &Value) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for volume in items(&pod["volumes"]) {
        if !volume["hostPath"].is_null() {
            found.extend(["HostPath Volumes", "Volume Types"]);
        }
    }
    if pod["hostNetwork"] == true {
        found.insert("Host Namespaces");
    }
    for container in containers(pod) {
        let context = &container["securityContext"];
        for port in items(&container["ports"]) {
            // On the host's network every port is one of the host's.
            if !port["hostPort"].is_null() || pod["hostNetwork"] == true {
                found.insert("Host Ports");
            }
        }
        if !items(&context["capabilities"]["add"]).is_empty() {
            found.insert("Capabilities");
        }
        let selinux = &context["seLinuxOptions"]["type"];
        let allowed = ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
        if selinux.as_str().is_some_and(|it| !allowed.contains(&it)) {
            found.insert("SELinux");
        }
        for probe in ["livenessProbe", "readinessProbe"] {
            if !container[probe]["httpGet"]["host"].is_null() {
                found.insert("Host Probes");
            }
        }
        let of =
            |word: &str| [&context[word], &pod["securityContext"][word]].into_iter().find(|it| !it.is_null());
        if of("runAsNonRoot") != Some(&Value::Bool(true)) {
            found.insert("Running as Non-root");
        }
        if of("runAsUser") == Some(&Value::from(0)) {
            found.insert("Running as Non-root user");
        }
    }
    found
}

#[test]
fn pod_security_is_what_the_readme_says() {
    const OFTEN: &[&str] =
        &["HostPath Volumes", "Volume Types", "Running as Non-root", "Running as Non-root user"];
    for object in pods() {
        let mut want: BTreeSet<&str> = BTreeSet::new();
        let golden = object.of();
        if object.is_agent() {
            want.extend(OFTEN);
        }
        let own = object.kind() == "DaemonSet";
        if object.is_agent()
            && ["talos", "everything", "static-secret"].iter().any(|it| golden.starts_with(it))
        {
            want.insert("Capabilities");
        }
        if object.is_agent() && ["rke2", "openshift", "everything"].iter().any(|it| golden.starts_with(it)) {
            want.insert("SELinux");
        }
        if object.is_agent() && (!own || golden == "host-network") {
            want.insert("Host Probes");
            // A sidecar's Pod says that itself, in its own manifest.
            if !object.golden.ends_with("-sidecar") {
                want.extend(["Host Namespaces", "Host Ports"]);
            }
        }
        assert_eq!(violations(object.pod().unwrap()), want, "{object}");
    }
    let readme = read("README.md");
    for check in
        OFTEN.iter().chain(&["Capabilities", "SELinux", "Host Namespaces", "Host Ports", "Host Probes"])
    {
        assert!(readme.contains(check), "the chart's README does not name the check {check}");
    }
}

#[test]
fn the_agent_takes_every_rendered_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for object in objects() {
        for (_, config) in members(object.data()).filter(|(name, _)| *name == "config.yaml") {
            // What a file behind a `${file:…}` holds is not the chart's concern, only that the path is one.
            let secret = folder.path().join("secret");
            std::fs::write(&secret, "example").unwrap();
            let mut config = text(config).to_owned();
            while let Some(at) = config.find("${file:/") {
                let end = at + config[at..].find('}').unwrap();
                config.replace_range(
                    at..=end,
                    &format!("${{file:{}}}", secret.display()).replace("${file:/", "${FILE:/"),
                );
            }
            let config = config.replace("${FILE:", "${file:");
            let path = folder.path().join("config.yaml");
            std::fs::write(&path, config).unwrap();
            let mut command = auditship();
            command.arg("check");
            if object.golden == "existing-config" {
                // The rest of it is in a Secret of the user's; the chart's part is laid over it.
                let users = folder.path().join("users.yaml");
                std::fs::write(&users, "cluster: a\nnode: b\noutputs: {a: {type: stdout}}\n").unwrap();
                command.arg("--config").arg(users);
            }
            let env = [("NODE_NAME", "cp-1"), ("ES_USER", "auditship"), ("DD_API_KEY", "example")];
            let ran = run(command.arg("--config").arg(&path).envs(env), b"");
            assert_eq!(ran.code, 0, "{object}:\n{}{}", ran.out, ran.err);
            assert!(ran.out.starts_with("ok: "), "{object}: {}", ran.out);
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} configurations");
}

#[test]
fn what_the_chart_lets_a_configuration_say_is_what_the_agent_reads() {
    let of = |path: &str, pointer: &str| -> BTreeSet<String> {
        let schema: Value =
            serde_json::from_str(&std::fs::read_to_string(chart().join(path)).unwrap()).unwrap();
        members(schema.pointer(pointer).unwrap()).map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(
        of("values.schema.json", "/properties/config/properties"),
        of("../../docs/configuration.schema.json", "/properties")
    );
}

#[test]
fn the_chart_is_of_this_version() {
    let about = yaml("Chart.yaml");
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// Every value with its default and what it means, from `values.yaml` and `values.schema.json`.
#[test]
fn the_page_of_values_is_current() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut rows = String::new();
    rows.push_str("# Values\n\n");
    rows.push_str("Made from `values.schema.json` and `values.yaml` by `UPDATE_EXPECT=1 cargo test -p auditship --test it chart`.\n\n");
    rows.push_str("| value | default | means |\n|---|---|---|\n");
    describe(&schema, &yaml("values.yaml"), "", &mut rows);
    expect_file![chart().join("VALUES.md")].assert_eq(&rows);
}

/// A line for each value below `path`; fails where a value has no description, or a default no place in the schema.
fn describe(schema: &Value, defaults: &Value, path: &str, rows: &mut String) {
    for (name, default) in members(defaults) {
        let property = &schema["properties"][name];
        assert!(property.is_object(), "{path}{name} is in values.yaml, and not in values.schema.json");
        let means =
            property["description"].as_str().unwrap_or_else(|| panic!("{path}{name} is not described"));
        let is_group =
            property["additionalProperties"] == false && default.as_object().is_some_and(|it| !it.is_empty());
        let shown = if is_group { String::new() } else { format!("`{default}`") };
        let choice: Vec<&str> = items(&property["enum"]).iter().map(text).collect();
        let choice =
            if choice.is_empty() { String::new() } else { format!(" One of `{}`.", choice.join("`, `")) };
        rows.push_str(&format!("| `{path}{name}` | {shown} | {means}{choice} |\n"));
        if is_group {
            describe(property, default, &format!("{path}{name}."), rows);
        }
    }
    for (name, _) in members(&schema["properties"]) {
        let known = defaults.get(name).is_some() || name == "global";
        assert!(known, "{path}{name} is in values.schema.json, and not in values.yaml");
    }
}
