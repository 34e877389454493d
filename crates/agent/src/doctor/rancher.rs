//! What k3s and RKE2 are told: configuration files, drop-ins, and the arguments in their unit.
//!
//! Pure. It owns their rules: later files replace a key, or add to a list where the key ends with `+`; arguments replace
//! what files say (docs.k3s.io, "Configuration Options"; docs.rke2.io, the same page).

use super::flags::{Flags, split};
use super::server::Server;
use super::yaml::{text, texts};
use crate::distribution::Distribution;
use serde_json::Value;
use std::collections::BTreeMap;

const ARGS: &str = "kube-apiserver-arg";

/// The keys that only such a file has; one is enough.
const OWN: &[&str] =
    &[ARGS, "kube-apiserver-arg+", "audit-policy-file", "tls-san", "cluster-cidr", "write-kubeconfig-mode"];

/// What the files and the unit say together.
#[derive(Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, Vec<String>>,
    unit: Option<String>,
}

/// Whether the document can be such a configuration: it has no kind and a key of theirs.
pub fn is_config(document: &Value) -> bool {
    document.get("kind").is_none() && OWN.iter().any(|key| document.get(key).is_some())
}

impl Settings {
    /// Takes the next file.
    pub fn file(&mut self, documents: &[Value]) {
        for (key, value) in documents.iter().filter_map(Value::as_object).flatten() {
            match key.strip_suffix('+') {
                Some(key) => self.values.entry(key.to_owned()).or_default().extend(texts(value)),
                None => drop(self.values.insert(key.clone(), texts(value))),
            }
        }
    }

    /// Takes the unit's text; `path` is where it stands.
    pub fn unit(&mut self, path: &str, unit: &str) {
        let Some((_, start)) = unit.split_once("ExecStart=") else { return };
        // The command ends where a line does not end with a backslash.
        let mut end = start.len();
        for (at, _) in start.match_indices('\n') {
            if !start[..at].ends_with('\\') {
                end = at;
                break;
            }
        }
        let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut words = split(&start[..end]).into_iter().peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--") else { continue };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (flag.to_owned(), words.next_if(|next| !next.starts_with("--"))),
            };
            given.entry(name).or_default().push(value.unwrap_or_else(|| "true".to_owned()));
        }
        if given.contains_key(ARGS) {
            self.unit = Some(path.to_owned());
        }
        self.values.extend(given);
    }

    fn last(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.last().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The directory for everything else, if it is another one than usual.
    pub fn data_dir(&self) -> Option<&str> {
        self.last("data-dir")
    }

    /// The API server that comes of it.
    pub fn server(&self, distribution: Distribution) -> Server {
        let mut flags = Flags::default();
        if distribution == Distribution::Rke2 {
            self.defaults(&mut flags);
        }
        for arg in self.values.get(ARGS).into_iter().flatten() {
            flags.take(arg);
        }
        Server { unit: self.unit.clone(), ..Server::of_flags(distribution, flags) }
    }

    /// What RKE2 adds by itself (rancher/rke2 `pkg/executor/staticpod/staticpod.go`, `APIServer`).
    fn defaults(&self, flags: &mut Flags) {
        let profile = self.last("profile").is_some_and(|profile| profile.starts_with("cis"));
        let own = profile.then_some("/etc/rancher/rke2/audit-policy.yaml");
        let Some(policy) = self.last("audit-policy-file").or(own) else { return };
        let dir = self.data_dir().unwrap_or("/var/lib/rancher/rke2");
        for (name, value) in [
            ("audit-policy-file", policy.to_owned()),
            ("audit-log-maxage", "30".to_owned()),
            ("audit-log-maxbackup", "10".to_owned()),
            ("audit-log-maxsize", "100".to_owned()),
            ("audit-log-path", format!("{dir}/server/logs/audit.log")),
        ] {
            flags.set(name, value);
        }
    }
}

/// Reads one file by itself, as `--manifest` gives it; whose it is, its name says, or else it is taken for k3s'.
pub fn read(path: &str, documents: &[Value]) -> Option<Server> {
    if !documents.iter().any(is_config) {
        return None;
    }
    let mut settings = Settings::default();
    settings.file(documents);
    let rke2 = path.contains("rke2")
        || documents.iter().any(|document| {
            document.get("audit-policy-file").is_some()
                || document["data-dir"].as_str().is_some_and(|dir| dir.contains("rke2"))
                || document["cni"].as_str().is_some()
                || text(&document["profile"]).is_some()
        });
    Some(settings.server(if rke2 { Distribution::Rke2 } else { Distribution::K3s }))
}

#[cfg(test)]
mod tests {
    use super::super::yaml::documents;
    use super::*;

    fn audit(server: &Server) -> Vec<String> {
        server.flags.audit().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn settings(files: &[&str]) -> Settings {
        let mut settings = Settings::default();
        for file in files {
            settings.file(&documents(file.as_bytes()).unwrap());
        }
        settings
    }

    #[test]
    fn later_files_replace_or_add() {
        let one = "kube-apiserver-arg: [audit-log-path=/a, audit-log-maxage=1]\ntls-san: x\n";
        let server = |files: &[&str]| audit(&settings(files).server(Distribution::K3s));
        assert_eq!(
            server(&[one, "kube-apiserver-arg+: audit-log-maxage=2"]),
            ["audit-log-maxage=2", "audit-log-path=/a"]
        );
        assert_eq!(server(&[one, "kube-apiserver-arg: [audit-log-maxage=2]"]), ["audit-log-maxage=2"]);
        assert_eq!(server(&["tls-san: x"]), Vec::<String>::new());
    }

    #[test]
    fn arguments_of_the_unit_replace_those_of_files() {
        let unit = "[Service]\nExecStart=/usr/local/bin/k3s \\\n    server \\\n        '--kube-apiserver-arg=audit-log-path=/u/audit.log' \\\n        '--kube-apiserver-arg' 'audit-log-maxsize=5' \\\n\nRestart=always\n";
        let mut settings = settings(&["kube-apiserver-arg: [audit-log-maxage=1]"]);
        settings.unit("/etc/systemd/system/k3s.service", unit);
        let server = settings.server(Distribution::K3s);
        assert_eq!(audit(&server), ["audit-log-maxsize=5", "audit-log-path=/u/audit.log"]);
        assert_eq!(server.unit.as_deref(), Some("/etc/systemd/system/k3s.service"));
    }

    #[test]
    fn a_unit_without_them_changes_nothing() {
        let mut settings = settings(&["kube-apiserver-arg: [audit-log-maxage=1]"]);
        settings.unit("/u", "[Service]\nExecStart=/usr/local/bin/k3s server --data-dir /d\n");
        let server = settings.server(Distribution::K3s);
        assert_eq!((audit(&server), server.unit.clone()), (vec!["audit-log-maxage=1".to_owned()], None));
        assert_eq!(settings.data_dir(), Some("/d"));
    }

    #[test]
    fn rke2_adds_its_own() {
        let server = settings(&[
            "audit-policy-file: /p.yaml\nkube-apiserver-arg: [audit-log-maxbackup=40]\ndata-dir: /d",
        ]);
        assert_eq!(
            audit(&server.server(Distribution::Rke2)),
            [
                "audit-log-maxage=30",
                "audit-log-maxbackup=40",
                "audit-log-maxsize=100",
                "audit-log-path=/d/server/logs/audit.log",
                "audit-policy-file=/p.yaml"
            ]
        );
        assert_eq!(audit(&settings(&["cni: canal"]).server(Distribution::Rke2)), Vec::<String>::new());
        let cis = settings(&["profile: cis"]).server(Distribution::Rke2);
        assert_eq!(cis.flags.get("audit-policy-file"), Some("/etc/rancher/rke2/audit-policy.yaml"));
    }

    #[test]
    fn a_file_by_itself() {
        let read = |path, text: &str| read(path, &documents(text.as_bytes()).unwrap());
        let args = "kube-apiserver-arg: [audit-log-path=/a]";
        assert_eq!(read("config.yaml", args).unwrap().distribution, Distribution::K3s);
        assert_eq!(read("/etc/rancher/rke2/config.yaml", args).unwrap().distribution, Distribution::Rke2);
        assert!(read("x", "kind: Pod\nkube-apiserver-arg: []").is_none());
        assert!(read("x", "a: 1").is_none());
    }
}
