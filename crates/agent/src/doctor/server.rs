//! What an API server is told: its audit flags and its mounts, read from whatever describes it.
//!
//! Pure. It owns the shapes of these descriptions: a (static) pod, wherever it stands in the document, kubeadm's
//! `ClusterConfiguration`, OpenShift's `KubeAPIServerConfig`. What k3s and RKE2 read is `rancher.rs`.

use super::flags::Flags;
use super::yaml::{text, texts};
use crate::distribution::Distribution;
use serde_json::Value;

/// How deep a pod is looked for: an item of a list, the template of a hosted control plane, a Talos resource.
const DEPTH_MAX: usize = 6;

/// An API server as it is described somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Whose it is, as far as the description tells.
    pub distribution: Distribution,
    /// Its audit flags.
    pub flags: Flags,
    /// Kubernetes' minor version, 33 of v1.33.2, from the image's tag.
    pub minor: Option<u32>,
    /// What is mounted into its container; `None` where it runs on the node itself, or where that is not told.
    pub mounts: Option<Vec<Mount>>,
    /// The user it runs as, where that is told.
    pub user: Option<u32>,
    /// The unit whose `ExecStart` has its flags: k3s and RKE2 that were installed with arguments.
    pub unit: Option<String>,
}

/// A directory or a file in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its place in the container.
    pub inside: String,
    /// What is behind it.
    pub backing: Backing,
    /// Nothing can be written.
    pub read_only: bool,
}

/// What is behind a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A path of the node; `file` where the manifest asks for a file.
    Host {
        /// On the node.
        path: String,
        /// The manifest says `File` or `FileOrCreate`.
        file: bool,
    },
    /// A directory that goes with the pod.
    Empty,
    /// Something else, by its kind: `configMap`, `persistentVolumeClaim`.
    Other(String),
}

/// Where a path of the container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// On the node, through this mount; without one the API server runs on the node.
    Host(String, Option<&'a Mount>),
    /// In a volume that is no path of the node.
    Volume(&'a Mount),
    /// In the container's own layer.
    Layer,
}

impl Server {
    fn new(distribution: Distribution) -> Server {
        Server { distribution, flags: Flags::default(), minor: None, mounts: None, user: None, unit: None }
    }

    /// One of which only the flags are known.
    pub fn of_flags(distribution: Distribution, flags: Flags) -> Server {
        Server { flags, ..Server::new(distribution) }
    }

    /// Reads a description.
    ///
    /// # Errors
    /// What was found instead; fit to follow a file's name and a colon.
    pub fn read(documents: &[Value]) -> Result<Server, String> {
        if documents.is_empty() {
            return Err("empty".to_owned());
        }
        let read = |document: &Value| pod(document, 0).or_else(|| configuration(document));
        if let Some(mut server) = documents.iter().find_map(read) {
            if server.flags.config_file().is_some()
                && let Some(config) = documents.iter().find_map(configuration)
            {
                server.flags.merge(config.flags);
            }
            return Ok(server);
        }
        let kinds: Vec<String> = documents.iter().map(kind_of).collect();
        Err(format!(
            "describes no API server ({}); what does: a pod that runs kube-apiserver, kubeadm's ClusterConfiguration, \
             the config.yaml of k3s or RKE2, OpenShift's KubeAPIServerConfig",
            kinds.join(", ")
        ))
    }

    /// Where the API server's `path` is on the node.
    pub fn place(&self, path: &str) -> Place<'_> {
        let path = normal(path);
        let Some(mounts) = &self.mounts else { return Place::Host(path, None) };
        let rest = |mount: &Mount| {
            let rest = path.strip_prefix(normal(&mount.inside).trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        let behind = mounts.iter().filter_map(|mount| Some((mount, rest(mount)?)));
        match behind.min_by_key(|(_, rest)| rest.len()) {
            None => Place::Layer,
            Some((mount, rest)) => match &mount.backing {
                Backing::Host { path, .. } => {
                    Place::Host(normal(&format!("{}{rest}", path.trim_end_matches('/'))), Some(mount))
                }
                Backing::Empty | Backing::Other(_) => Place::Volume(mount),
            },
        }
    }
}

/// A path without `.`, `..` and doubled slashes.
pub fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let absolute = if path.starts_with('/') { "/" } else { "" };
    format!("{absolute}{}", parts.join("/"))
}

/// What a document says that it is, in safe letters.
fn kind_of(document: &Value) -> String {
    let word = |key: &str| document[key].as_str().filter(|word| word.len() < 80).unwrap_or_default();
    match (word("apiVersion"), word("kind")) {
        ("", "") => "no kind".to_owned(),
        (version, kind) => crate::show::printable(format!("{version} {kind}").trim()),
    }
}

/// The first pod in the document that runs an API server.
fn pod(document: &Value, depth: usize) -> Option<Server> {
    if depth > DEPTH_MAX {
        return None;
    }
    if let Some(containers) = document["containers"].as_array()
        && let Some(container) = containers.iter().find(|container| runs(container))
    {
        return Some(of_pod(document, container));
    }
    let inner = match document {
        Value::Object(map) => map.values().find_map(|value| pod(value, depth + 1)),
        Value::Array(items) => items.iter().find_map(|value| pod(value, depth + 1)),
        _ => None,
    };
    // The outer document has what tells one distribution from another.
    let mut server = inner?;
    if let Some(found) = labelled(document) {
        server.distribution = found;
    }
    Some(server)
}

fn words(container: &Value) -> Vec<String> {
    [&container["command"], &container["args"]].into_iter().flat_map(texts).collect()
}

/// Whether one of its words is the program, or a script that starts it.
fn runs(container: &Value) -> bool {
    let starts = |word: &str| word == "kube-apiserver" || word.ends_with("/kube-apiserver");
    words(container).iter().any(|word| {
        starts(word) || (word.contains(char::is_whitespace) && word.split_whitespace().any(starts))
    })
}

fn of_pod(spec: &Value, container: &Value) -> Server {
    let words = words(container);
    let mut server = Server::new(of_words(&words));
    server.flags = Flags::read(words.iter().map(String::as_str));
    server.minor = container["image"].as_str().and_then(minor);
    let user = |context: &Value| context["runAsUser"].as_u64().and_then(|user| u32::try_from(user).ok());
    server.user = user(&container["securityContext"]).or_else(|| user(&spec["securityContext"]));
    let mounts = container["volumeMounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    server.mounts = Some(mounts.iter().filter_map(|it| mount(it, &spec["volumes"])).collect());
    server
}

fn mount(mount: &Value, volumes: &Value) -> Option<Mount> {
    let inside = mount["mountPath"].as_str()?.to_owned();
    let name = mount["name"].as_str()?;
    let volume = volumes.as_array()?.iter().find(|volume| volume["name"] == name)?;
    let backing = if let Some(host) = volume["hostPath"].as_object() {
        let below = mount["subPath"].as_str().map_or_else(String::new, |sub| format!("/{sub}"));
        let path = host.get("path").and_then(Value::as_str).unwrap_or_default();
        let kind = host.get("type").and_then(Value::as_str).unwrap_or_default();
        Backing::Host {
            path: normal(&format!("{path}{below}")),
            file: below.is_empty() && matches!(kind, "File" | "FileOrCreate"),
        }
    } else if volume.get("emptyDir").is_some() {
        Backing::Empty
    } else {
        let kind = volume.as_object()?.keys().find(|key| *key != "name");
        Backing::Other(kind.map_or("nothing", String::as_str).to_owned())
    };
    Some(Mount { inside, backing, read_only: mount["readOnly"].as_bool().unwrap_or(false) })
}

/// The minor version in an image's tag.
fn minor(image: &str) -> Option<u32> {
    let (_, tag) = image.rsplit_once(":v1.")?;
    let digits = tag.find(|c: char| !c.is_ascii_digit()).map_or(tag, |end| &tag[..end]);
    digits.parse().ok()
}

/// Whose pod it is, by its command line.
fn of_words(words: &[String]) -> Distribution {
    let has = |text: &str| words.iter().any(|word| word.contains(text));
    if has("--openshift-config") {
        Distribution::Openshift
    } else if has("/system/config/kubernetes") || has("/system/secrets/kubernetes") {
        Distribution::Talos
    } else if has("/var/lib/rancher/rke2") {
        Distribution::Rke2
    } else if has("/srv/kubernetes/kube-apiserver") || has("/go-runner") {
        Distribution::Kops
    } else {
        Distribution::Other
    }
}

/// Whose pod it is, by its metadata; nothing where they tell nothing.
fn labelled(document: &Value) -> Option<Distribution> {
    let metadata = &document["metadata"];
    let label = |key: &str| metadata["labels"][key].as_str().unwrap_or_default();
    let annotations = metadata["annotations"].as_object();
    let by_kubeadm =
        annotations.is_some_and(|all| all.keys().any(|key| key.starts_with("kubeadm.kubernetes.io/")));
    if metadata["namespace"] == "openshift-kube-apiserver" {
        Some(Distribution::Openshift)
    } else if label("app.kubernetes.io/managed-by") == "Talos" {
        Some(Distribution::Talos)
    } else if by_kubeadm {
        Some(Distribution::Kubeadm)
    } else {
        None
    }
}

/// Configurations that say it in words of their own.
fn configuration(document: &Value) -> Option<Server> {
    if document["kind"] == "ClusterConfiguration" {
        return Some(of_kubeadm(document));
    }
    let arguments = document["apiServerArguments"].as_object()?;
    let mut server = Server::new(Distribution::Openshift);
    for (name, value) in arguments {
        // A list, of which all are flags; for those of audit the last one counts.
        if let Some(value) = texts(value).pop() {
            server.flags.set(name, value);
        }
    }
    Some(server)
}

/// `kubeadm.k8s.io/v1beta4`, where `extraArgs` is a list, and `v1beta3`, where it is a map.
fn of_kubeadm(document: &Value) -> Server {
    let mut server = Server::new(Distribution::Kubeadm);
    let api = &document["apiServer"];
    match &api["extraArgs"] {
        Value::Array(list) => {
            for arg in list {
                if let (Some(name), Some(value)) = (arg["name"].as_str(), text(&arg["value"])) {
                    server.flags.set(name, value);
                }
            }
        }
        Value::Object(map) => {
            for (name, value) in map {
                server.flags.set(name, text(value).unwrap_or_default());
            }
        }
        _ => {}
    }
    server.minor = document["kubernetesVersion"].as_str().and_then(|version| minor(&format!(":{version}")));
    let volumes = api["extraVolumes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mount = |volume: &Value| {
        let word = |key: &str| volume[key].as_str();
        let file = matches!(word("pathType"), Some("File" | "FileOrCreate"));
        Some(Mount {
            inside: word("mountPath")?.to_owned(),
            backing: Backing::Host { path: normal(word("hostPath")?), file },
            read_only: volume["readOnly"].as_bool().unwrap_or(false),
        })
    };
    server.mounts = Some(volumes.iter().filter_map(mount).collect());
    server
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    fn read(text: &str) -> Result<Server, String> {
        Server::read(&yaml::documents(text.as_bytes()).unwrap())
    }

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  annotations: {kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: 10.0.0.1:6443}
spec:
  securityContext: {runAsUser: 7}
  containers:
  - {name: other, command: [watch]}
  - name: kube-apiserver
    image: registry.k8s.io/kube-apiserver:v1.33.2
    command: [kube-apiserver, --audit-log-path=/logs/audit/audit.log]
    volumeMounts:
    - {mountPath: /logs, name: logs}
    - {mountPath: /logs/audit/, name: audit}
    - {mountPath: /one.log, name: one}
    - {mountPath: /sub, name: logs, subPath: below, readOnly: true}
    - {mountPath: /tmp, name: scratch}
    - {mountPath: /cm, name: cm}
    - {mountPath: /gone, name: nobody}
  volumes:
  - {name: logs, hostPath: {path: /var/log, type: Directory}}
  - {name: audit, hostPath: {path: /srv/audit}}
  - {name: one, hostPath: {path: /srv/one.log, type: FileOrCreate}}
  - {name: scratch, emptyDir: {medium: Memory}}
  - {name: cm, configMap: {name: x}}
";

    #[test]
    fn a_pod() {
        let server = read(POD).unwrap();
        assert_eq!(
            (server.distribution, server.minor, server.user),
            (Distribution::Kubeadm, Some(33), Some(7))
        );
        let place = |path| match server.place(path) {
            Place::Host(path, Some(mount)) => {
                format!("{path} {:?} {}", mount.backing, if mount.read_only { "ro" } else { "rw" })
            }
            Place::Host(path, None) => path,
            Place::Volume(mount) => format!("{:?}", mount.backing),
            Place::Layer => "layer".to_owned(),
        };
        let host = |path: &str, file| format!("{:?}", Backing::Host { path: path.to_owned(), file });
        for (path, want) in [
            ("/logs/audit/audit.log", format!("/srv/audit/audit.log {} rw", host("/srv/audit", false))),
            ("/logs/audit/../x.log", format!("/var/log/x.log {} rw", host("/var/log", false))),
            ("/logs/auditor.log", format!("/var/log/auditor.log {} rw", host("/var/log", false))),
            ("/one.log", format!("/srv/one.log {} rw", host("/srv/one.log", true))),
            ("/sub/x", format!("/var/log/below/x {} ro", host("/var/log/below", false))),
            ("/tmp/x", "Empty".to_owned()),
            ("/cm/x", "Other(\"configMap\")".to_owned()),
            ("/gone/x", "layer".to_owned()),
            ("/etc/x", "layer".to_owned()),
        ] {
            assert_eq!(place(path), want, "{path}");
        }
    }

    #[test]
    fn a_pod_anywhere_in_the_document() {
        let indent = |by: usize| POD.replace('\n', &format!("\n{}", " ".repeat(by)));
        for text in [
            format!("kind: List\nitems:\n- {{kind: ConfigMap}}\n- x: 1{}", indent(2)),
            format!("metadata: {{type: StaticPods.kubernetes.talos.dev}}\nspec:{}", indent(4)),
            format!("kind: ConfigMap\n---\n{POD}"),
        ] {
            let server = read(&text).unwrap();
            assert_eq!(server.flags.get("audit-log-path"), Some("/logs/audit/audit.log"), "{text}");
            assert_eq!(server.distribution, Distribution::Kubeadm, "{text}");
        }
    }

    #[test]
    fn what_kubeadm_is_given() {
        let v4 = "kind: ClusterConfiguration\nkubernetesVersion: v1.36.0\napiServer:\n  extraArgs:\n  - {name: audit-log-maxage, value: \"3\"}\n  - {name: v, value: \"2\"}\n  extraVolumes: [{name: a, hostPath: /a, mountPath: /b, pathType: File, readOnly: true}]\n";
        let v3 = "kind: ClusterConfiguration\napiServer:\n  extraArgs: {audit-log-maxage: 3}\n";
        let server = read(v4).unwrap();
        assert_eq!((server.flags.get("audit-log-maxage"), server.minor), (Some("3"), Some(36)));
        let mount = Mount {
            inside: "/b".to_owned(),
            backing: Backing::Host { path: "/a".to_owned(), file: true },
            read_only: true,
        };
        assert_eq!(server.mounts, Some(vec![mount]));
        assert_eq!(read(v3).unwrap().flags.get("audit-log-maxage"), Some("3"));
    }

    #[test]
    fn a_pod_and_its_configuration() {
        let pod = POD.replace("--audit-log-path=/logs/audit/audit.log", "--openshift-config=/c.yaml");
        assert_eq!(read(&pod).unwrap().flags.audit().count(), 0);
        let both = format!("{pod}---\napiServerArguments: {{audit-log-path: [/logs/a.log]}}\n");
        assert_eq!(read(&both).unwrap().flags.get("audit-log-path"), Some("/logs/a.log"));
    }

    #[test]
    fn what_openshift_has() {
        let text = "apiServerArguments:\n  audit-log-path: [/var/log/kube-apiserver/audit.log]\n  audit-log-maxbackup: [\"10\"]\n  v: []\n";
        let server = read(text).unwrap();
        assert_eq!(server.distribution, Distribution::Openshift);
        assert_eq!(server.flags.audit().count(), 2);
        assert_eq!(server.place("/x/../y"), Place::Host("/y".to_owned(), None));
    }

    #[test]
    fn what_is_none_says_what_it_is() {
        for (text, want) in [
            ("apiVersion: v1\nkind: Pod\nspec: {containers: [{command: [etcd]}]}", "v1 Pod"),
            ("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4", "kind.x-k8s.io/v1alpha4 Cluster"),
            ("[1, 2]", "no kind"),
            ("a: 1\n---\nkind: \"x\\e[2J\"", "\\u{1b}[2J"),
            ("", "empty"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(want), "{text}: {told}");
        }
    }

    #[test]
    fn versions() {
        for (image, want) in [
            ("registry.k8s.io/kube-apiserver:v1.36.0-beta.0", Some(36)),
            ("index.docker.io/rancher/hardened-kubernetes:v1.33.1-rke2r1-build20250515", Some(33)),
            ("registry:5000/kube-apiserver", None),
            ("quay.io/openshift@sha256:00", None),
        ] {
            assert_eq!(minor(image), want, "{image}");
        }
    }
}
