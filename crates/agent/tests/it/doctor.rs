//! `auditship doctor` on trees that look like nodes: what it finds by itself, and what it says of what is none.

use crate::support::{Ran, auditship, run};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const KUBEADM: &str = include_str!("../../src/doctor/tests/kubeadm.yaml");
const K3S: &str = include_str!("../../src/doctor/tests/k3s.yaml");
const RKE2: &str = include_str!("../../src/doctor/tests/rke2.yaml");
const OPENSHIFT: &str = include_str!("../../src/doctor/tests/openshift.yaml");
const POLICY: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";

/// A directory that looks like a node.
struct Node(TempDir);

impl Node {
    fn new() -> Node {
        Node(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Node {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Node {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    /// An API server's process, whose command line is that of the manifest.
    fn process(&self, pid: u32, manifest: &str) -> &Node {
        let flags = manifest.lines().filter_map(|line| line.trim().strip_prefix("- --"));
        let words: Vec<String> = flags.map(|flag| format!("--{flag}")).collect();
        self.write(&format!("/proc/{pid}/cmdline"), format!("kube-apiserver\0{}\0", words.join("\0")))
    }

    /// A log in `dir`: a compressed and a plain backup, and the live file, a minute each, up to now.
    fn log(&self, dir: &str) -> &Node {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&events(180, 120)).unwrap();
        self.write(&format!("{dir}/audit-2026-01-02T03-04-05.000.log.gz"), packed.finish().unwrap());
        self.write(&format!("{dir}/audit-2026-01-02T03-05-05.000.log"), events(120, 60));
        self.write(&format!("{dir}/audit.log"), events(60, 0))
    }

    fn doctor(&self, args: &[&str]) -> Ran {
        run(auditship().arg("doctor").arg("--root").arg(self.0.path()).args(args), b"")
    }

    /// The verdicts as JSON, and the exit code.
    #[track_caller]
    fn verdicts(&self, args: &[&str]) -> (Value, i32) {
        let ran = self.doctor(&[&["--json"], args].concat());
        (serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}")), ran.code)
    }
}

/// An event of 1,000 bytes for each second from so many seconds ago to so many.
fn events(from: u64, to: u64) -> Vec<u8> {
    let now = SystemTime::now();
    let event = |ago| {
        let at = jiff::Timestamp::try_from(now - Duration::from_secs(ago)).unwrap();
        let head = "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"stage\":\"ResponseComplete\",\"requestURI\":\"/";
        let tail = format!("\",\"stageTimestamp\":\"{at:.6}\"}}\n");
        format!("{head}{}{tail}", "x".repeat(1000 - head.len() - tail.len()))
    };
    (to..from).rev().map(event).collect::<String>().into_bytes()
}

/// All grades of a check.
fn grades<'a>(verdicts: &'a Value, check: &str) -> Vec<&'a str> {
    let all = verdicts["verdicts"].as_array().unwrap().iter().filter(|it| it["check"] == check);
    all.map(|it| it["grade"].as_str().unwrap()).collect()
}

fn said(verdicts: &Value, check: &str) -> String {
    let all = verdicts["verdicts"].as_array().unwrap().iter().filter(|it| it["check"] == check);
    all.map(|it| format!("{} ({})\n{}\n", it["text"], it["evidence"], it["mend"])).collect()
}

fn kubeadm() -> Node {
    let node = Node::new();
    node.write("/etc/kubernetes/manifests/kube-apiserver.yaml", KUBEADM)
        .write("/etc/kubernetes/audit/policy.yaml", POLICY)
        .log("/var/log/kubernetes/audit")
        .process(4242, KUBEADM);
    node
}

#[test]
fn a_kubeadm_node_is_found_and_measured() {
    let node = kubeadm();
    node.link("/proc/4242/fd/7", "/var/log/kubernetes/audit/audit.log");
    let (verdicts, _) = node.verdicts(&[]);
    assert_eq!(verdicts["distribution"], "kubeadm", "{verdicts:#}");
    assert_eq!(verdicts["from"], "/etc/kubernetes/manifests/kube-apiserver.yaml");
    assert_eq!(verdicts["log"], "/var/log/kubernetes/audit/audit.log");
    for check in
        ["server", "process", "policy", "stages", "mount", "format", "mode", "rotation", "history", "clock"]
    {
        assert_eq!(grades(&verdicts, check), ["ok"], "{check}: {verdicts:#}");
    }
    // A thousand bytes a second, over two backups and the live file: 180 s, of which the last one is under way.
    assert!(
        said(&verdicts, "history").contains("1005 B/s over the last 3 min"),
        "{}",
        said(&verdicts, "history")
    );
}

#[test]
fn what_only_the_process_shows() {
    let node = kubeadm();
    node.link("/proc/4242/fd/7", "/var/log/kubernetes/audit/audit.log (deleted)").write(
        "/proc/4242/mountinfo",
        "1 0 8:1 / / rw - overlay overlay rw\n\
         2 1 8:1 /var/log/kubernetes/audit/audit.log /var/log/kubernetes/audit/audit.log rw - ext4 /dev/sda rw\n",
    );
    let (verdicts, code) = node.verdicts(&[]);
    assert_eq!((grades(&verdicts, "process"), code), (vec!["ok", "fail"], 2), "{verdicts:#}");
    assert_eq!(grades(&verdicts, "mount"), ["fail"], "{verdicts:#}");
}

#[test]
fn a_process_with_other_flags_is_told() {
    let node = kubeadm();
    node.process(4242, &KUBEADM.replace("maxbackup=100", "maxbackup=10"));
    node.process(4243, "- --audit-log-path=/other");
    let (verdicts, _) = node.verdicts(&[]);
    assert_eq!(grades(&verdicts, "process"), ["warn"]);
    assert!(said(&verdicts, "process").contains("process 4242; also 4243"), "{verdicts:#}");
    assert!(said(&verdicts, "process").contains("audit-log-maxbackup"), "{verdicts:#}");
}

#[test]
fn logrotate_beside_it() {
    for (rule, want) in [
        ("/var/log/kubernetes/audit/*.log {\n  daily\n  copytruncate\n}\n", 1),
        ("# /var/log/kubernetes/audit/*.log\n/var/log/*.log { daily }\n", 0),
    ] {
        let node = kubeadm();
        node.write("/etc/logrotate.d/k8s", rule);
        let (verdicts, _) = node.verdicts(&[]);
        assert_eq!(grades(&verdicts, "logrotate").len(), want, "{rule}");
    }
}

#[test]
fn a_kind_node_is_told_from_kubeadm() {
    let node = kubeadm();
    node.write("/kind/version", "v0.30.0\n");
    assert_eq!(node.verdicts(&[]).0["distribution"], "kind");
    assert_eq!(node.verdicts(&["--distribution", "other"]).0["distribution"], "other");
}

#[test]
fn k3s_by_its_files_and_its_unit() {
    let node = Node::new();
    std::fs::create_dir_all(node.path("/var/lib/rancher/k3s/server")).unwrap();
    node.write("/etc/rancher/k3s/config.yaml", K3S)
        .write("/etc/rancher/k3s/config.yaml.d/50.yaml", "kube-apiserver-arg+: [audit-log-maxbackup=7]\n")
        .write("/var/lib/rancher/k3s/server/audit.yaml", POLICY)
        .log("/var/lib/rancher/k3s/server/logs");
    let (verdicts, _) = node.verdicts(&[]);
    assert_eq!(verdicts["distribution"], "k3s");
    assert!(said(&verdicts, "rotation").contains("7 backups of 100 MiB"), "{verdicts:#}");
    assert_eq!(grades(&verdicts, "mount"), ["ok"]);
    assert!(said(&verdicts, "history").contains("B/s"), "{verdicts:#}");

    // Arguments in the unit replace those of files, and what to do says so.
    node.write(
        "/etc/systemd/system/k3s.service",
        "[Service]\nExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--kube-apiserver-arg=audit-log-path=/var/lib/rancher/k3s/server/logs/audit.log' \\\n",
    );
    let (verdicts, code) = node.verdicts(&[]);
    assert_eq!((grades(&verdicts, "policy"), code), (vec!["fail"], 2), "{verdicts:#}");
    assert!(
        said(&verdicts, "policy").contains("ExecStart of /etc/systemd/system/k3s.service"),
        "{verdicts:#}"
    );
}

#[test]
fn an_agent_of_k3s_is_no_server() {
    let node = Node::new();
    node.write("/etc/rancher/k3s/config.yaml", "server: https://k3s.example:6443\n");
    let ran = node.doctor(&[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("no API server found below"), "{ran:?}");
}

#[test]
fn rke2_by_its_pod_elsewhere() {
    let node = Node::new();
    node.write("/etc/rancher/rke2/config.yaml", "data-dir: /data/rke2\n")
        .write("/data/rke2/agent/pod-manifests/kube-apiserver.yaml", RKE2)
        .write("/data/rke2/server/tls/x", "");
    let (verdicts, _) = node.verdicts(&[]);
    assert_eq!(verdicts["from"], "/data/rke2/agent/pod-manifests/kube-apiserver.yaml", "{verdicts:#}");
    assert_eq!(verdicts["distribution"], "rke2");
}

#[test]
fn openshift_with_the_flags_in_a_file() {
    let (pod, config) = OPENSHIFT.split_once("---\n").unwrap();
    let resources = "/etc/kubernetes/static-pod-resources/kube-apiserver-pod-17/configmaps";
    let node = Node::new();
    node.write("/etc/kubernetes/manifests/kube-apiserver-pod.yaml", pod)
        .write(&format!("{resources}/config/config.yaml"), config)
        .write(&format!("{resources}/kube-apiserver-audit-policies/policy.yaml"), POLICY)
        .log("/var/log/kube-apiserver");
    let (verdicts, _) = node.verdicts(&[]);
    assert_eq!(verdicts["distribution"], "openshift", "{verdicts:#}");
    for check in ["policy", "mount", "rotation", "history", "clock"] {
        assert_eq!(grades(&verdicts, check), ["ok"], "{check}: {verdicts:#}");
    }
    let off_node = run(auditship().args(["doctor", "--manifest", "-"]), pod.as_bytes());
    assert_eq!(off_node.code, 1);
    assert!(off_node.err.contains("configmaps/config/config.yaml: give that"), "{off_node:?}");
}

#[test]
fn a_process_without_a_manifest_is_seen_with_its_own_eyes() {
    let node = Node::new();
    node.process(77, KUBEADM)
        .write(
            "/proc/77/mountinfo",
            "1 0 8:1 / / rw - overlay overlay rw\n2 1 8:1 /a /var/log/kubernetes/audit rw - ext4 /dev/sda rw\n\
             3 1 8:1 /b /etc/kubernetes/audit ro - ext4 /dev/sda rw\n",
        )
        .write("/proc/77/root/etc/kubernetes/audit/policy.yaml", POLICY)
        .log("/proc/77/root/var/log/kubernetes/audit");
    for args in [&[][..], &["--process", "77"]] {
        let (verdicts, _) = node.verdicts(args);
        assert_eq!((&verdicts["distribution"], &verdicts["from"]), (&"other".into(), &"process 77".into()));
        for check in ["process", "policy", "mount", "history"] {
            assert_eq!(grades(&verdicts, check), ["ok"], "{check}: {verdicts:#}");
        }
    }
    node.write("/proc/77/mountinfo", "1 0 8:1 / / rw - overlay overlay rw\n");
    let (verdicts, code) = node.verdicts(&[]);
    assert_eq!((grades(&verdicts, "mount"), code), (vec!["fail"], 2), "{verdicts:#}");
    // A unit of the node, with a mount namespace of its own: its root is the node's.
    node.write(
        "/proc/77/mountinfo",
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / /tmp rw - tmpfs tmpfs rw\n",
    );
    let (verdicts, _) = node.verdicts(&[]);
    assert_eq!(grades(&verdicts, "mount"), ["ok"], "{verdicts:#}");
    assert!(said(&verdicts, "mount").contains("on the node itself"), "{verdicts:#}");
    node.write("/proc/78/cmdline", "etcd\0--name=x\0");
    let ran = node.doctor(&["--process", "78"]);
    assert!(ran.code == 1 && ran.err.contains("process 78 is no kube-apiserver"), "{ran:?}");
}

#[test]
fn off_the_node_nothing_else_is_looked_at() {
    let node = Node::new();
    node.write("pod.yaml", KUBEADM).write("policy.yaml", POLICY);
    let ran = run(
        auditship().current_dir(node.path("/")).args([
            "doctor",
            "--manifest",
            "pod.yaml",
            "--policy",
            "policy.yaml",
            "--rate",
            "2MB/s",
            "--json",
        ]),
        b"",
    );
    let verdicts: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(grades(&verdicts, "policy"), ["ok"]);
    assert_eq!(grades(&verdicts, "history"), ["warn"]);
    assert_eq!(grades(&verdicts, "disk"), ["skip"]);
    assert_eq!(grades(&verdicts, "access"), Vec::<&str>::new());
    let piped = run(auditship().args(["doctor", "--manifest", "-"]), KUBEADM.as_bytes());
    assert_eq!(piped.code, 0, "{piped:?}");
    assert!(piped.out.starts_with("ok    server"), "{piped:?}");
    assert!(!piped.out.contains('\u{1b}'), "no colours where there is no terminal");
}

#[test]
fn what_is_no_manifest_is_told_and_nothing_breaks() {
    let node = Node::new();
    node.write("binary", b"\x7fELF\x02\x01\x01\0\0\0")
        .write("huge", vec![b'a'; (1 << 20) + 1])
        .write("deep", "[".repeat(100_000))
        .write("empty", "")
        .write("broken", "password: hunter2\nb: [hunter3\n")
        .write("pod", "apiVersion: v1\nkind: Pod\nspec: {containers: [{command: [etcd]}]}\n")
        .write("kind", "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n");
    for (name, want) in [
        ("binary", "binary: not text"),
        ("huge", "longer than 1 MiB"),
        ("deep", "not valid YAML"),
        ("empty", "empty: empty"),
        ("broken", "not valid YAML"),
        ("pod", "describes no API server (v1 Pod)"),
        ("kind", "kind.x-k8s.io/v1alpha4 Cluster"),
        (".", "it is a directory"),
        ("none", "No such file"),
        ("/dev/null", "no regular file"),
    ] {
        let ran = run(auditship().current_dir(node.path("/")).args(["doctor", "--manifest", name]), b"");
        assert_eq!((ran.code, &*ran.out), (1, ""), "{name}: {ran:?}");
        assert!(ran.err.starts_with("error: ") && ran.err.contains(want), "{name}: {}", ran.err);
        assert!(!ran.err.contains("hunter") && !ran.err.contains("panic"), "{name}: {}", ran.err);
    }
    // The same on the node, where it is found by itself.
    let path = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    node.write(path, b"\0\0\0");
    let ran = node.doctor(&[]);
    assert!(ran.code == 1 && ran.err.contains(&format!("{path}: not text")), "{ran:?}");
}

#[test]
fn a_manifest_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let node = kubeadm();
    let path = node.path("/etc/kubernetes/manifests/kube-apiserver.yaml");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
    if std::fs::read(&path).is_ok() {
        // Root reads it all the same.
        assert_eq!(node.verdicts(&[]).0["distribution"], "kubeadm");
        return;
    }
    let ran = node.doctor(&[]);
    assert!(
        ran.code == 1 && ran.err.contains("Permission denied (os error 13); run this as root"),
        "{ran:?}"
    );
}

#[test]
fn bad_usage() {
    for args in [
        &["--hold", "0"][..],
        &["--manifest", "x", "--process", "1"],
        &["--rate", "fast"],
        &["--distribution", "minikube"],
        &["extra"],
    ] {
        let ran = run(auditship().arg("doctor").args(args), b"");
        assert_eq!(ran.code, 64, "{args:?}: {ran:?}");
    }
    let help = run(auditship().args(["doctor", "--help"]), b"");
    assert!(help.code == 0 && help.out.contains("Examples: sudo auditship doctor"), "{help:?}");
}

#[test]
fn a_node_that_is_none() {
    let ran = run(auditship().args(["doctor", "--root"]).arg(Path::new("/nowhere/at/all")), b"");
    assert!(ran.code == 1 && ran.err.contains("look at /nowhere/at/all"), "{ran:?}");
}
