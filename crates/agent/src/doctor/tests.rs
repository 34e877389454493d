//! Every distribution's API server, healthy and with one defect each, and what is said of it.
//!
//! The manifests stand in `tests/`, each with where it is from. A case changes a piece of text, or a fact of the node.

mod anything;
mod healthy;
mod kubeadm;
mod others;
mod policy;

use super::facts::{Backup, Content, Facts, Live, Log, Node, Process, Seen, Stat, System};
use super::rancher;
use super::server::{Place, Server};
use super::{Grade, Wanted, examine, mend, show, yaml};
use crate::distribution::Distribution;
use crate::show::Colour;
use expect_test::{Expect, expect};
use jiff::Timestamp;
use std::time::Duration;

const KUBEADM: &str = include_str!("tests/kubeadm.yaml");
const KIND: &str = include_str!("tests/kind.yaml");
const RKE2: &str = include_str!("tests/rke2.yaml");
const K3S: &str = include_str!("tests/k3s.yaml");
const KOPS: &str = include_str!("tests/kops.yaml");
const TALOS: &str = include_str!("tests/talos.yaml");
const OPENSHIFT: &str = include_str!("tests/openshift.yaml");

const MB: u64 = 1_000_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A node on which nothing is wrong: 100 kB/s for the last hours, a disk with room, files that are the API server's.
fn node(server: &Server) -> Node {
    let owner = server.distribution.places().owner;
    let stat = |mode, is_dir| Stat { mode, user: owner, group: owner, is_dir };
    let content = Content::Events { first: at(0), last: at(500) };
    let path = match server.place(server.flags.get("audit-log-path").unwrap_or_default()) {
        Place::Host(path, _) => path,
        Place::Volume(_) | Place::Layer => "/nowhere/audit.log".to_owned(),
    };
    let backup = |number: i64| Backup { bytes: 100 * MB, on_disk: 8 * MB, first: Some(at(-1000 * number)) };
    Node {
        now: at(502),
        user: 0,
        process: Some(Process { pid: 4242, ..Process::default() }),
        log: Some(Log {
            path,
            dir: Seen::Is(stat(0o700, true)),
            file: Seen::Is(Live {
                stat: stat(0o600, false),
                bytes: 50 * MB,
                content: Some(content),
                refused: None,
            }),
            system: Some(System { kind: "ext4".to_owned(), bytes: 100_000 * MB, free: 60_000 * MB }),
            backups: (1..=20).rev().map(backup).collect(),
            logrotate: Vec::new(),
        }),
    }
}

fn facts(name: &str, manifest: &str, distribution: Option<Distribution>) -> Facts {
    let documents = yaml::documents(manifest.as_bytes()).unwrap();
    let mut server = rancher::read(name, &documents).unwrap_or_else(|| Server::read(&documents).unwrap());
    if let Some(distribution) = distribution {
        server.distribution = distribution;
    }
    let node = node(&server);
    Facts {
        server,
        from: name.to_owned(),
        policy: Some(Seen::Is(mend::POLICY.as_bytes().to_vec())),
        node: Some(node),
    }
}

fn wanted() -> Wanted {
    Wanted { hold: DAY, rate: None }
}

#[track_caller]
fn healthy(name: &str, manifest: &str, expect: Expect) {
    let facts = facts(name, manifest, (name == "kind.yaml").then_some(Distribution::Kind));
    let verdicts = examine(&facts, wanted());
    expect.assert_eq(&show::text(&facts, &verdicts, Colour::No));
    assert!(verdicts.iter().all(|verdict| verdict.grade == Grade::Ok), "{name} is not healthy");
}

/// What is said of `manifest` after `change`, apart from what is well.
#[track_caller]
fn defect(manifest: &str, change: impl FnOnce(&mut Facts), expect: Expect) {
    let mut facts = facts("manifest.yaml", manifest, None);
    change(&mut facts);
    expect.assert_eq(&bad(&facts, wanted()));
}

fn bad(facts: &Facts, wanted: Wanted) -> String {
    let mut verdicts = examine(facts, wanted);
    verdicts.retain(|verdict| verdict.grade != Grade::Ok);
    if verdicts.is_empty() {
        return "nothing\n".to_owned();
    }
    let all = show::text(facts, &verdicts, Colour::No);
    // The end is the same for all: it is looked at where nothing is wrong.
    all.split("\n\n").next().unwrap().to_owned() + "\n"
}

/// `text` with one piece of it replaced, which must be there.
#[track_caller]
fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in the manifest");
    text.replace(from, to)
}

fn log(facts: &mut Facts) -> &mut Log {
    facts.node.as_mut().unwrap().log.as_mut().unwrap()
}

fn live(facts: &mut Facts) -> &mut Live {
    match &mut log(facts).file {
        Seen::Is(live) => live,
        other => panic!("{other:?}"),
    }
}

fn policy(facts: &mut Facts, rest: &str) {
    let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n{rest}\n");
    facts.policy = Some(Seen::Is(text.into_bytes()));
}

#[test]
fn off_the_node_a_rate_can_be_told() {
    let mut facts = facts("manifest.yaml", KUBEADM, None);
    (facts.node, facts.policy) = (None, None);
    expect![[r#"
        skip  policy      the policy file was not looked at (/etc/kubernetes/audit/policy.yaml)
        skip  history     how long backups last is not known: the rate was not measured (--rate 500KB/s says how fast it grows)
        skip  disk        the file itself, its disk and the clock were not looked at (--root DIR looks at a node's files below DIR)
    "#]].assert_eq(&bad(&facts, wanted()));
    let told = Wanted { rate: Some(super::Rate::told(500_000.0)), ..wanted() };
    expect![[r#"
        skip  policy      the policy file was not looked at (/etc/kubernetes/audit/policy.yaml)
        warn  history     what is not shipped within 5.8 h is deleted, 24 h are wanted (500.0 kB/s)
                            in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                              apiServer:
                                extraArgs:
                                - {name: audit-log-maxbackup, value: "206"}
                                - {name: audit-log-maxsize, value: "200"}
                            that holds 24 h and takes 5.82 GB of disk at most
        skip  disk        the file itself, its disk and the clock were not looked at (--root DIR looks at a node's files below DIR)
    "#]].assert_eq(&bad(&facts, told));
}

#[test]
fn several_mends_are_one_patch_for_programs_and_people() {
    let manifest = with(
        KUBEADM,
        "--audit-log-maxbackup=100",
        "--audit-log-maxbackup=3\n    - --audit-log-format=legacy",
    );
    let facts = facts("kubeadm.yaml", &manifest, None);
    let verdicts = examine(&facts, wanted());
    let text = show::text(&facts, &verdicts, Colour::No);
    let end = text.split_once("\n\n").unwrap().1;
    expect![[r#"
        all settings together
          in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
            apiServer:
              extraArgs:
              - {name: audit-log-format, value: "json"}
              - {name: audit-log-maxbackup, value: "83"}
              - {name: audit-log-maxsize, value: "100"}

        how settings come into effect
          kubectl -n kube-system edit configmap kubeadm-config    # put the lines in, under apiServer
          # then on each control plane node, one after the other; the kubelet restarts the API server:
          kubectl -n kube-system get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}' > kubeadm.yaml
          sudo kubeadm init phase control-plane apiserver --config kubeadm.yaml

        to follow this log
          inputs: {apiserver: {type: file, path: /var/log/kubernetes/audit/audit.log}}

        14 ok, 0 warn, 2 fail
    "#]].assert_eq(end);
    let json = show::json(&facts, &verdicts);
    assert_eq!(json["ok"], false);
    assert_eq!(json["distribution"], "kubeadm");
    let grades: Vec<_> =
        json["verdicts"].as_array().unwrap().iter().map(|it| it["grade"].as_str().unwrap()).collect();
    assert_eq!(grades.iter().filter(|grade| **grade == "fail").count(), 2, "{grades:?}");
    let patch = json["patch"].as_array().unwrap();
    assert!(patch.iter().any(|line| line.as_str().unwrap().contains("name: audit-log-format")), "{patch:?}");
}

#[test]
fn nothing_from_a_file_moves_a_cursor() {
    let manifest = KUBEADM.replace("/var/log/kubernetes/audit", "/var/log/\\e[31mred");
    let manifest = manifest.replace(
        "- --audit-log-path=/var/log/\\e[31mred/audit.log",
        "- \"--audit-log-path=/var/log/\\e[31mred/audit.log\"",
    );
    let manifest = manifest.replace("/var/log/\\e[31mred\n", "\"/var/log/\\e[31mred\"\n");
    let facts = facts("kubeadm.yaml", &manifest, None);
    assert!(facts.server.flags.get("audit-log-path").unwrap().contains('\u{1b}'));
    let verdicts = examine(&facts, wanted());
    assert!(!show::text(&facts, &verdicts, Colour::No).contains('\u{1b}'));
    assert!(!show::json(&facts, &verdicts).to_string().contains("\\u001b"));
    assert!(show::text(&facts, &verdicts, Colour::Yes).contains("\u{1b}[32mok"));
}
