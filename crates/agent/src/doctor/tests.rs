//! Every distribution's API server, healthy and with one defect each, and what is said of it.
//!
//! The manifests stand in `tests/`, each with where it is from. A case changes a piece of text, or a fact of the node.

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
fn kubeadm_healthy() {
    healthy(
        "kubeadm.yaml",
        KUBEADM,
        expect![[r#"
            ok    server      kubeadm, Kubernetes 1.33 (kubeadm.yaml)
            ok    process     runs with these flags (process 4242)
            ok    policy      5 rules, and what they do not take is logged at Metadata (/etc/kubernetes/audit/policy.yaml)
            ok    stages      RequestReceived is left out, refusals and panics are not
            ok    bodies      no bodies of Secrets and tokens are logged
            ok    mount       the log's directory is mounted from the node (/var/log/kubernetes/audit)
            ok    format      events are written as JSON, audit.k8s.io/v1
            ok    mode        an event is written before its request is answered
            ok    webhook     no webhook besides
            ok    rotation    100 backups of 100 MiB, 30 days at most (audit-log-maxage=30 audit-log-maxbackup=100 audit-log-maxsize=100)
            ok    history     what is not shipped lasts 29.1 h on disk, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
            ok    compression backups are compressed (about 1.52 GB of disk at most)
            ok    disk        the log is on a local disk (ext4 under /var/log/kubernetes/audit)
            ok    space       60 % of the disk is free, enough for all backups (60.00 GB of 100.00 GB free)
            ok    access      root reads the log without any capability, and others do not (/var/log/kubernetes/audit/audit.log is 0600 0:0, /var/log/kubernetes/audit is 0700 0:0)
            ok    clock       the last event is 2 s old (the last event is of 2027-01-15T08:08:20Z)

            to follow this log
              inputs: {apiserver: {type: file, path: /var/log/kubernetes/audit/audit.log}}

            16 ok, 0 warn, 0 fail
        "#]],
    );
}

#[test]
fn kind_healthy() {
    healthy(
        "kind.yaml",
        KIND,
        expect![[r#"
        ok    server      kind, Kubernetes 1.34 (kind.yaml)
        ok    process     runs with these flags (process 4242)
        ok    policy      5 rules, and what they do not take is logged at Metadata (/etc/kubernetes/policies/audit-policy.yaml)
        ok    stages      RequestReceived is left out, refusals and panics are not
        ok    bodies      no bodies of Secrets and tokens are logged
        ok    mount       the log's directory is mounted from the node (/var/log/kubernetes)
        ok    format      events are written as JSON, audit.k8s.io/v1
        ok    mode        an event is written before its request is answered
        ok    webhook     no webhook besides
        ok    rotation    100 backups of 100 MiB (audit-log-maxbackup=100)
        ok    history     what is not shipped lasts 29.1 h on disk, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
        ok    compression backups are not compressed, which costs disk and no CPU (10.70 GB of disk at most; about 1.52 GB with --audit-log-compress)
        ok    disk        the log is on a local disk (ext4 under /var/log/kubernetes)
        ok    space       60 % of the disk is free, enough for all backups (60.00 GB of 100.00 GB free)
        ok    access      root reads the log without any capability, and others do not (/var/log/kubernetes/kube-apiserver-audit.log is 0600 0:0, /var/log/kubernetes is 0700 0:0)
        ok    clock       the last event is 2 s old (the last event is of 2027-01-15T08:08:20Z)

        to follow this log
          inputs: {apiserver: {type: file, path: /var/log/kubernetes/kube-apiserver-audit.log}}

        16 ok, 0 warn, 0 fail
    "#]],
    );
}

#[test]
fn rke2_healthy() {
    healthy(
        "rke2.yaml",
        RKE2,
        expect![[r#"
        ok    server      rke2, Kubernetes 1.33 (rke2.yaml)
        ok    process     runs with these flags (process 4242)
        ok    policy      5 rules, and what they do not take is logged at Metadata (/etc/rancher/rke2/audit-policy.yaml)
        ok    stages      RequestReceived is left out, refusals and panics are not
        ok    bodies      no bodies of Secrets and tokens are logged
        ok    mount       the log's directory is mounted from the node (/var/lib/rancher/rke2/server/logs)
        ok    format      events are written as JSON, audit.k8s.io/v1
        ok    mode        an event is written before its request is answered
        ok    webhook     no webhook besides
        ok    rotation    100 backups of 100 MiB, 30 days at most (audit-log-maxage=30 audit-log-maxbackup=100 audit-log-maxsize=100)
        ok    history     what is not shipped lasts 29.1 h on disk, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
        ok    compression backups are not compressed, which costs disk and no CPU (10.70 GB of disk at most; about 1.52 GB with --audit-log-compress)
        ok    disk        the log is on a local disk (ext4 under /var/lib/rancher/rke2/server/logs)
        ok    space       60 % of the disk is free, enough for all backups (60.00 GB of 100.00 GB free)
        ok    access      root reads the log without any capability, and others do not (/var/lib/rancher/rke2/server/logs/audit.log is 0600 0:0, /var/lib/rancher/rke2/server/logs is 0700 0:0)
        ok    clock       the last event is 2 s old (the last event is of 2027-01-15T08:08:20Z)

        to follow this log
          inputs: {apiserver: {type: file, path: /var/lib/rancher/rke2/server/logs/audit.log}}

        16 ok, 0 warn, 0 fail
    "#]],
    );
}

#[test]
fn k3s_healthy() {
    healthy(
        "k3s.yaml",
        K3S,
        expect![[r#"
        ok    server      k3s (k3s.yaml)
        ok    process     runs with these flags (process 4242)
        ok    policy      5 rules, and what they do not take is logged at Metadata (/var/lib/rancher/k3s/server/audit.yaml)
        ok    stages      RequestReceived is left out, refusals and panics are not
        ok    bodies      no bodies of Secrets and tokens are logged
        ok    mount       the log is on the node itself (/var/lib/rancher/k3s/server/logs/audit.log)
        ok    format      events are written as JSON, audit.k8s.io/v1
        ok    mode        an event is written before its request is answered
        ok    webhook     no webhook besides
        ok    rotation    100 backups of 100 MiB, 30 days at most (audit-log-maxage=30 audit-log-maxbackup=100 audit-log-maxsize=100)
        ok    history     what is not shipped lasts 29.1 h on disk, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
        ok    compression backups are not compressed, which costs disk and no CPU (10.70 GB of disk at most; about 1.52 GB with --audit-log-compress)
        ok    disk        the log is on a local disk (ext4 under /var/lib/rancher/k3s/server/logs)
        ok    space       60 % of the disk is free, enough for all backups (60.00 GB of 100.00 GB free)
        ok    access      root reads the log without any capability, and others do not (/var/lib/rancher/k3s/server/logs/audit.log is 0600 0:0, /var/lib/rancher/k3s/server/logs is 0700 0:0)
        ok    clock       the last event is 2 s old (the last event is of 2027-01-15T08:08:20Z)

        to follow this log
          inputs: {apiserver: {type: file, path: /var/lib/rancher/k3s/server/logs/audit.log}}

        16 ok, 0 warn, 0 fail
    "#]],
    );
}

#[test]
fn kops_healthy() {
    healthy(
        "kops.yaml",
        KOPS,
        expect![[r#"
        ok    server      kops, Kubernetes 1.32 (kops.yaml)
        ok    process     runs with these flags (process 4242)
        ok    policy      5 rules, and what they do not take is logged at Metadata (/srv/kubernetes/kube-apiserver/audit-policy.yaml)
        ok    stages      RequestReceived is left out, refusals and panics are not
        ok    bodies      no bodies of Secrets and tokens are logged
        ok    mount       the log's directory is mounted from the node (/var/log/kubernetes/audit)
        ok    format      events are written as JSON, audit.k8s.io/v1
        ok    mode        an event is written before its request is answered
        ok    webhook     no webhook besides
        ok    rotation    100 backups of 100 MiB, 10 days at most (audit-log-maxage=10 audit-log-maxbackup=100 audit-log-maxsize=100)
        ok    history     what is not shipped lasts 29.1 h on disk, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
        ok    compression backups are not compressed, which costs disk and no CPU (10.70 GB of disk at most; about 1.52 GB with --audit-log-compress)
        ok    disk        the log is on a local disk (ext4 under /var/log/kubernetes/audit)
        ok    space       60 % of the disk is free, enough for all backups (60.00 GB of 100.00 GB free)
        ok    access      root reads the log without any capability, and others do not (/var/log/kubernetes/audit/audit.log is 0600 0:0, /var/log/kubernetes/audit is 0700 0:0)
        ok    clock       the last event is 2 s old (the last event is of 2027-01-15T08:08:20Z)

        to follow this log
          inputs: {apiserver: {type: file, path: /var/log/kubernetes/audit/audit.log}}

        16 ok, 0 warn, 0 fail
    "#]],
    );
}

#[test]
fn talos_healthy() {
    healthy(
        "talos.yaml",
        TALOS,
        expect![[r#"
        ok    server      talos, Kubernetes 1.35 (talos.yaml)
        ok    process     runs with these flags (process 4242)
        ok    policy      5 rules, and what they do not take is logged at Metadata (/system/config/kubernetes/kube-apiserver/auditpolicy.yaml)
        ok    stages      RequestReceived is left out, refusals and panics are not
        ok    bodies      no bodies of Secrets and tokens are logged
        ok    mount       the log's directory is mounted from the node (/var/log/audit/kube)
        ok    format      events are written as JSON, audit.k8s.io/v1
        ok    mode        an event is written before its request is answered
        ok    webhook     no webhook besides
        ok    rotation    100 backups of 100 MiB, 30 days at most (audit-log-maxage=30 audit-log-maxbackup=100 audit-log-maxsize=100)
        ok    history     what is not shipped lasts 29.1 h on disk, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
        ok    compression backups are not compressed, which costs disk and no CPU (10.70 GB of disk at most; about 1.52 GB with --audit-log-compress)
        ok    disk        the log is on a local disk (ext4 under /var/log/audit/kube)
        ok    space       60 % of the disk is free, enough for all backups (60.00 GB of 100.00 GB free)
        ok    access      the log is user 65534's alone; the preset talos gives the agent CAP_DAC_READ_SEARCH for it (/var/log/audit/kube/kube-apiserver.log is 0600 65534:65534, /var/log/audit/kube is 0700 65534:65534)
        ok    clock       the last event is 2 s old (the last event is of 2027-01-15T08:08:20Z)

        to follow this log
          inputs: {apiserver: {type: file, path: /var/log/audit/kube/kube-apiserver.log}}

        16 ok, 0 warn, 0 fail
    "#]],
    );
}

#[test]
fn openshift_healthy() {
    healthy(
        "openshift.yaml",
        OPENSHIFT,
        expect![[r#"
        ok    server      openshift (openshift.yaml)
        ok    process     runs with these flags (process 4242)
        ok    policy      5 rules, and what they do not take is logged at Metadata (/etc/kubernetes/static-pod-resources/configmaps/kube-apiserver-audit-policies/policy.yaml)
        ok    stages      RequestReceived is left out, refusals and panics are not
        ok    bodies      no bodies of Secrets and tokens are logged
        ok    mount       the log's directory is mounted from the node (/var/log/kube-apiserver)
        ok    format      events are written as JSON, audit.k8s.io/v1
        ok    mode        an event is written before its request is answered
        ok    webhook     no webhook besides
        ok    rotation    100 backups of 200 MiB (audit-log-maxbackup=100 audit-log-maxsize=200)
        ok    history     what is not shipped lasts 2.4 days on disk, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
        ok    compression backups are not compressed, which costs disk and no CPU (21.39 GB of disk at most; about 3.04 GB with --audit-log-compress)
        ok    disk        the log is on a local disk (ext4 under /var/log/kube-apiserver)
        ok    space       60 % of the disk is free, enough for all backups (60.00 GB of 100.00 GB free)
        ok    access      root reads the log without any capability, and others do not (/var/log/kube-apiserver/audit.log is 0600 0:0, /var/log/kube-apiserver is 0700 0:0)
        ok    clock       the last event is 2 s old (the last event is of 2027-01-15T08:08:20Z)

        to follow this log
          inputs: {apiserver: {type: file, path: /var/log/kube-apiserver/audit.log}}

        16 ok, 0 warn, 0 fail
    "#]],
    );
}

#[test]
fn kubeadm_without_a_policy() {
    let manifest = with(KUBEADM, "    - --audit-policy-file=/etc/kubernetes/audit/policy.yaml\n", "");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  policy      there is no policy, and without one nothing is logged (--audit-policy-file is not set)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-policy-file, value: "/etc/kubernetes/audit/policy.yaml"}
                                write /etc/kubernetes/audit/policy.yaml, on every control plane node:
                                  apiVersion: audit.k8s.io/v1
                                  kind: Policy
                                  omitStages: [RequestReceived]
                                  omitManagedFields: true
                                  rules:
                                  - {level: None, nonResourceURLs: ['/healthz*', '/livez*', '/readyz*', '/logs*', /metrics, '/openapi/*', '/swagger*', /version]}
                                  - {level: Metadata, resources: [{group: authentication.k8s.io, resources: [tokenreviews]}]}
                                  - {level: RequestResponse, resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]}
                                  - {level: RequestResponse, verbs: [create, update, patch, delete, deletecollection], resources: [{group: '', resources: [pods]}]}
                                  - {level: Metadata}
        "#]],
    );
}

#[test]
fn kubeadm_without_anything() {
    let mut lines: Vec<&str> = KUBEADM.lines().filter(|line| !line.contains("--audit-")).collect();
    lines.push("");
    defect(
        &lines.join("\n"),
        |facts| facts.node = None,
        expect![[r#"
            fail  policy      there is no policy, and without one nothing is logged (--audit-policy-file is not set)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-policy-file, value: "/etc/kubernetes/audit/policy.yaml"}
                                write /etc/kubernetes/audit/policy.yaml, on every control plane node:
                                  apiVersion: audit.k8s.io/v1
                                  kind: Policy
                                  omitStages: [RequestReceived]
                                  omitManagedFields: true
                                  rules:
                                  - {level: None, nonResourceURLs: ['/healthz*', '/livez*', '/readyz*', '/logs*', /metrics, '/openapi/*', '/swagger*', /version]}
                                  - {level: Metadata, resources: [{group: authentication.k8s.io, resources: [tokenreviews]}]}
                                  - {level: RequestResponse, resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]}
                                  - {level: RequestResponse, verbs: [create, update, patch, delete, deletecollection], resources: [{group: '', resources: [pods]}]}
                                  - {level: Metadata}
            fail  log         there is no audit log (--audit-log-path is not set)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-maxbackup, value: "20"}
                                    - {name: audit-log-maxsize, value: "100"}
                                    - {name: audit-log-path, value: "/var/log/kubernetes/audit/audit.log"}
                                    extraVolumes:
                                    - {name: audit-log, hostPath: /var/log/kubernetes/audit, mountPath: /var/log/kubernetes/audit, pathType: DirectoryOrCreate}
        "#]],
    );
}

#[test]
fn kubeadm_with_the_log_mounted_as_a_file() {
    let manifest = with(
        KUBEADM,
        "mountPath: /var/log/kubernetes/audit\n",
        "mountPath: /var/log/kubernetes/audit/audit.log\n",
    );
    let manifest = with(
        &manifest,
        "path: /var/log/kubernetes/audit\n      type: DirectoryOrCreate",
        "path: /var/log/kubernetes/audit/audit.log\n      type: FileOrCreate",
    );
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  mount       the log is mounted as a file: the API server cannot rename it, so rotation fails, and what follows it sees the old one (/var/log/kubernetes/audit/audit.log on /var/log/kubernetes/audit/audit.log)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraVolumes:
                                    - {name: audit-log, hostPath: /var/log/kubernetes/audit, mountPath: /var/log/kubernetes/audit, pathType: DirectoryOrCreate}
                                take the mount of the file out
        "#]],
    );
}

#[test]
fn kubeadm_with_a_file_in_a_shared_directory() {
    let manifest = KUBEADM.replace("/var/log/kubernetes/audit/audit.log", "/var/log/audit.log");
    let manifest =
        with(&manifest, "mountPath: /var/log/kubernetes/audit\n", "mountPath: /var/log/audit.log\n");
    let manifest = with(
        &manifest,
        "path: /var/log/kubernetes/audit\n      type: DirectoryOrCreate",
        "path: /var/log/audit.log\n      type: File",
    );
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  mount       the log is mounted as a file: the API server cannot rename it, so rotation fails, and what follows it sees the old one (/var/log/audit.log on /var/log/audit.log)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-path, value: "/var/log/kubernetes/audit/audit.log"}
                                    extraVolumes:
                                    - {name: audit-log, hostPath: /var/log/kubernetes/audit, mountPath: /var/log/kubernetes/audit, pathType: DirectoryOrCreate}
                                take the mount of the file out
        "#]],
    );
}

#[test]
fn kubeadm_with_the_log_not_mounted() {
    let manifest = with(KUBEADM, "    - mountPath: /var/log/kubernetes/audit\n      name: audit-log\n", "");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  mount       the log is written into the container's own layer: nobody else sees it, and it is gone with the container (/var/log/kubernetes/audit/audit.log)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraVolumes:
                                    - {name: audit-log, hostPath: /var/log/kubernetes/audit, mountPath: /var/log/kubernetes/audit, pathType: DirectoryOrCreate}
        "#]],
    );
}

#[test]
fn kubeadm_with_a_read_only_directory() {
    let manifest = with(
        KUBEADM,
        "/audit\n      name: audit-log\n",
        "/audit\n      name: audit-log\n      readOnly: true\n",
    );
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  mount       the log's directory is mounted read-only: the API server cannot write (/var/log/kubernetes/audit)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraVolumes:
                                    - {name: audit-log, hostPath: /var/log/kubernetes/audit, mountPath: /var/log/kubernetes/audit, pathType: DirectoryOrCreate}
        "#]],
    );
}

#[test]
fn kubeadm_with_the_policy_not_mounted() {
    let manifest = with(
        KUBEADM,
        "    - mountPath: /etc/kubernetes/audit\n      name: audit-policy\n      readOnly: true\n",
        "",
    );
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  policy      the policy file is not mounted into the container, so the API server cannot start (/etc/kubernetes/audit/policy.yaml)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraVolumes:
                                    - {name: audit-policy, hostPath: /etc/kubernetes/audit, mountPath: /etc/kubernetes/audit, pathType: DirectoryOrCreate, readOnly: true}
        "#]],
    );
}

#[test]
fn kubeadm_with_the_legacy_format() {
    let manifest =
        with(KUBEADM, "--audit-log-maxage=30", "--audit-log-maxage=30\n    - --audit-log-format=legacy");
    defect(
        &manifest,
        |facts| live(facts).content = Some(Content::Legacy),
        expect![[r#"
            fail  format      events are written as text lines without bodies, which auditship skips (--audit-log-format=legacy)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-format, value: "json"}
            skip  history     how long backups last is not known: the rate was not measured (the log shows no events)
            fail  content     the log holds text lines of the legacy format, which auditship skips (/var/log/kubernetes/audit/audit.log)
        "#]],
    );
}

#[test]
fn kubeadm_with_standard_output() {
    let manifest =
        with(KUBEADM, "--audit-log-path=/var/log/kubernetes/audit/audit.log", "--audit-log-path=-");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            warn  log         events go to standard output, among other lines; the kubelet rotates them away at 10 MiB × 5 (--audit-log-path=-)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-path, value: "/var/log/kubernetes/audit/audit.log"}
                                    extraVolumes:
                                    - {name: audit-log, hostPath: /var/log/kubernetes/audit, mountPath: /var/log/kubernetes/audit, pathType: DirectoryOrCreate}
                                or follow /var/log/pods/kube-system_kube-apiserver-*/kube-apiserver/*.log with format: cri
        "#]],
    );
}

#[test]
fn kubeadm_with_few_backups() {
    let manifest = with(KUBEADM, "--audit-log-maxbackup=100", "--audit-log-maxbackup=10");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            warn  history     what is not shipped within 2.9 h is deleted, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-maxbackup, value: "83"}
                                    - {name: audit-log-maxsize, value: "100"}
                                that holds 24.2 h and takes 1.30 GB of disk at most
        "#]],
    );
}

#[test]
fn kubeadm_with_a_busy_log() {
    let change = |facts: &mut Facts| {
        for backup in &mut log(facts).backups {
            backup.bytes *= 100;
        }
        live(facts).bytes *= 100;
    };
    defect(
        KUBEADM,
        change,
        expect![[r#"
            fail  history     what is not shipped within 17 min is deleted, 24 h are wanted (10.0 MB/s over the last 5.7 h; on disk now: 5.7 h)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-maxbackup, value: "232"}
                                    - {name: audit-log-maxsize, value: "1000"}
                                that holds 6.8 h and takes 32.51 GB of disk at most, which is half of what there is: more needs a larger disk
        "#]],
    );
}

#[test]
fn kubeadm_with_a_full_disk() {
    let change = |facts: &mut Facts| log(facts).system.as_mut().unwrap().free = 4_000 * MB;
    defect(
        KUBEADM,
        change,
        expect![[r#"
            fail  space       only 4 % of the disk is free: unread files are let go of below 10 %, and etcd may share it (4.00 GB of 100.00 GB free)
                                free some, or keep less: a smaller audit-log-maxbackup, audit-log-compress=true
        "#]],
    );
}

#[test]
fn kubeadm_with_more_backups_than_disk() {
    let manifest = with(KUBEADM, "    - --audit-log-compress=true\n", "");
    let change = |facts: &mut Facts| {
        log(facts).system = Some(System { kind: "xfs".to_owned(), bytes: 20_000 * MB, free: 6_000 * MB });
    };
    defect(
        &manifest,
        change,
        expect![[r#"
            warn  space       rotation may take 10.49 GB more than it has now, and the disk has less (6.00 GB of 20.00 GB free)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-compress, value: "true"}
        "#]],
    );
}

#[test]
fn kubeadm_without_rotation() {
    let manifest = with(
        KUBEADM,
        "    - --audit-log-maxage=30\n    - --audit-log-maxbackup=100\n    - --audit-log-maxsize=100\n",
        "",
    );
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  rotation    backups are never deleted: they grow until the disk is full (no flag is set, these are the defaults)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-maxbackup, value: "20"}
        "#]],
    );
}

#[test]
fn kubernetes_1_36_has_defaults() {
    let manifest = with(
        KUBEADM,
        "    - --audit-log-maxage=30\n    - --audit-log-maxbackup=100\n    - --audit-log-maxsize=100\n",
        "",
    );
    let manifest = with(&manifest, ":v1.33.2", ":v1.36.0");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            nothing
        "#]],
    );
    let manifest =
        with(&manifest, "    - --audit-log-path", "    - --audit-log-maxsize=0\n    - --audit-log-path");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  rotation    the log is never rotated: it grows until the disk is full (audit-log-maxsize=0)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-maxsize, value: "100"}
        "#]],
    );
}

#[test]
fn a_process_tells_no_version() {
    let manifest = with(
        KUBEADM,
        "    - --audit-log-maxage=30\n    - --audit-log-maxbackup=100\n    - --audit-log-maxsize=100\n",
        "    - --audit-log-maxsize=1\n",
    );
    defect(
        &manifest,
        |facts| facts.server.minor = None,
        expect![[r#"
        warn  rotation    an event longer than 1 MiB is lost, and a change of a large object can be (audit-log-maxsize=1)
                            in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                              apiServer:
                                extraArgs:
                                - {name: audit-log-maxsize, value: "100"}
        warn  rotation    before Kubernetes 1.36 backups are never deleted, and grow until the disk is full (audit-log-maxsize=1)
                            in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                              apiServer:
                                extraArgs:
                                - {name: audit-log-maxbackup, value: "20"}
    "#]],
    );
}

#[test]
fn kubeadm_with_a_flag_that_is_no_number() {
    let manifest = with(KUBEADM, "--audit-log-maxsize=100", "--audit-log-maxsize=100M");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  rotation    --audit-log-maxsize is no number, so the API server cannot start: 100M
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-maxsize, value: "100"}
        "#]],
    );
}

#[test]
fn kubeadm_with_tiny_files() {
    let manifest = with(KUBEADM, "--audit-log-maxsize=100", "--audit-log-maxsize=1");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            warn  rotation    an event longer than 1 MiB is lost, and a change of a large object can be (audit-log-maxage=30 audit-log-maxbackup=100 audit-log-maxsize=1)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-maxsize, value: "100"}
            fail  history     what is not shipped within 17 min is deleted, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
                                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                                  apiServer:
                                    extraArgs:
                                    - {name: audit-log-maxbackup, value: "83"}
                                    - {name: audit-log-maxsize, value: "100"}
                                that holds 24.2 h and takes 1.30 GB of disk at most
        "#]],
    );
}

#[test]
fn kubeadm_with_batches_truncation_and_a_webhook() {
    let manifest = with(
        KUBEADM,
        "--audit-log-maxage=30",
        "--audit-log-mode=batch\n    - --audit-log-truncate-enabled\n    - --audit-webhook-config-file=/etc/kubernetes/audit/webhook.yaml",
    );
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            warn  mode        events wait in memory: they are lost in a crash, and dropped when the buffer is full (--audit-log-mode=batch)
                                take out of ClusterConfiguration's apiServer.extraArgs: audit-log-mode
            warn  truncation  bodies of events over 102400 bytes are cut out (--audit-log-truncate-enabled)
                                take out of ClusterConfiguration's apiServer.extraArgs: audit-log-truncate-enabled
            warn  webhook     every event goes to a webhook as well: twice the events downstream, unless somebody needs it (--audit-webhook-config-file=/etc/kubernetes/audit/webhook.yaml)
                                take out of ClusterConfiguration's apiServer.extraArgs: audit-webhook-config-file
        "#]],
    );
}

#[test]
fn kubeadm_that_runs_otherwise() {
    let change = |facts: &mut Facts| {
        let process = facts.node.as_mut().unwrap().process.as_mut().unwrap();
        process.differs = vec!["audit-log-maxbackup".to_owned()];
        process.writes_deleted = true;
    };
    defect(
        KUBEADM,
        change,
        expect![[r#"
            warn  process     runs with other flags than it is told: audit-log-maxbackup (process 4242)
                                restart it: move its manifest out of the directory, wait until the pod is gone, move it back
            fail  process     writes into a log that was deleted or moved away: what it writes is lost when it restarts (process 4242)
                                restart the API server; leave its log to its own rotation (kubernetes/kubernetes#111208)
        "#]],
    );
}

#[test]
fn kubeadm_with_logrotate() {
    let change = |facts: &mut Facts| log(facts).logrotate = vec!["/etc/logrotate.d/kubernetes".to_owned()];
    defect(
        KUBEADM,
        change,
        expect![[r#"
            fail  logrotate   logrotate rotates the log too: what it truncates or moves away is lost to the API server's own rotation (/etc/logrotate.d/kubernetes)
                                take it out of /etc/logrotate.d/kubernetes
        "#]],
    );
}

#[test]
fn kubeadm_in_memory() {
    let change = |facts: &mut Facts| log(facts).system.as_mut().unwrap().kind = "tmpfs".to_owned();
    defect(
        KUBEADM,
        change,
        expect![[r#"
            fail  disk        the log is in memory: it is gone when the node restarts, and takes memory from it (tmpfs under /var/log/kubernetes/audit)
                                put the log on a local disk, /var/log/kubernetes/audit for example
        "#]],
    );
}

#[test]
fn kubeadm_with_a_log_of_somebody_else() {
    let change = |facts: &mut Facts| live(facts).stat.user = 1000;
    defect(
        KUBEADM,
        change,
        expect![[r#"
            warn  access      the log is user 1000's alone: root without capabilities, which the chart uses, cannot read it (/var/log/kubernetes/audit/audit.log is 0600 1000:0, /var/log/kubernetes/audit is 0700 0:0)
                                give the agent CAP_DAC_READ_SEARCH: audit.rootOwned=false in the chart, or `auditship manifests … --owner 1000`
        "#]],
    );
}

#[test]
fn kubeadm_with_a_log_for_everybody() {
    let change = |facts: &mut Facts| {
        live(facts).stat.mode = 0o644;
        log(facts).dir = Seen::Is(Stat { mode: 0o755, user: 0, group: 0, is_dir: true });
    };
    defect(
        KUBEADM,
        change,
        expect![[r#"
            warn  access      everybody on the node may read the log, with the tokens in it (/var/log/kubernetes/audit/audit.log is 0644 0:0, /var/log/kubernetes/audit is 0755 0:0)
                                run: chmod 700 /var/log/kubernetes/audit && chmod 600 /var/log/kubernetes/audit/audit.log
        "#]],
    );
}

#[test]
fn kubeadm_without_permission() {
    let change = |facts: &mut Facts| {
        facts.node.as_mut().unwrap().user = 1000;
        facts.policy = Some(Seen::Refused("Permission denied (os error 13)".to_owned()));
        let log = log(facts);
        (log.file, log.backups) = (Seen::Refused("Permission denied (os error 13)".to_owned()), vec![]);
    };
    defect(
        KUBEADM,
        change,
        expect![[r#"
            skip  policy      the policy file cannot be read: Permission denied (os error 13) (/etc/kubernetes/audit/policy.yaml)
            skip  history     how long backups last is not known: the rate was not measured (the log cannot be read)
            skip  access      user 1000 cannot read it: Permission denied (os error 13) (/var/log/kubernetes/audit/audit.log)
                                run this as root, as the agent will be
        "#]],
    );
}

#[test]
fn kubeadm_that_has_not_written() {
    let change = |facts: &mut Facts| {
        let log = log(facts);
        (log.file, log.backups) = (Seen::Missing, vec![]);
    };
    defect(
        KUBEADM,
        change,
        expect![[r#"
            skip  history     how long backups last is not known: the rate was not measured (the log shows no events)
            fail  access      there is no such file: the API server has not written, or writes elsewhere (/var/log/kubernetes/audit/audit.log)
                                look at the API server's own log: an audit backend that cannot start is told there
        "#]],
    );
    let change = |facts: &mut Facts| {
        let log = log(facts);
        (log.dir, log.file, log.system, log.backups) = (Seen::Missing, Seen::Missing, None, vec![]);
    };
    defect(
        KUBEADM,
        change,
        expect![[r#"
            skip  history     how long backups last is not known: the rate was not measured (the log shows no events)
            fail  access      the log's directory does not exist on the node (/var/log/kubernetes/audit)
                                run: mkdir -p -m 700 /var/log/kubernetes/audit
        "#]],
    );
}

#[test]
fn kubeadm_with_a_wrong_clock_and_with_silence() {
    defect(
        KUBEADM,
        |facts| facts.node.as_mut().unwrap().now = at(-3000),
        expect![[r#"
            warn  clock       the last event is 58 min ahead of this clock (the last event is of 2027-01-15T08:08:20Z)
                                set the node's clock by NTP (chronyc tracking, timedatectl)
        "#]],
    );
    defect(
        KUBEADM,
        |facts| facts.node.as_mut().unwrap().now = at(20_000),
        expect![[r#"
            warn  clock       no event for 5.4 h: the API server is down, its log is another one, or this clock is wrong (the last event is of 2027-01-15T08:08:20Z)
                                see whether the API server runs, and whether --audit-log-path is this file
        "#]],
    );
}

#[test]
fn kubeadm_with_a_policy_that() {
    for (rest, want) in [
        // Is gone, or is none.
        (
            "",
            expect![[r#"
            fail  policy      the API server refuses the policy: there is no rule (/etc/kubernetes/audit/policy.yaml)
        "#]],
        ),
        (
            "rules: [{level: All}]",
            expect![[r#"
            fail  policy      the API server refuses the policy: rules[0].level: no level "All" (/etc/kubernetes/audit/policy.yaml)
        "#]],
        ),
        // Logs nothing, or not everything.
        (
            "rules: [{level: None}]",
            expect![[r#"
                fail  policy      every rule says None (1 rule), so nothing is logged (/etc/kubernetes/audit/policy.yaml)
                                    in the policy file, which the API server reads when it starts:
                                      rules:
                                      # …the others, then:
                                      - {level: Metadata}
            "#]],
        ),
        (
            "rules: [{level: None}, {level: Metadata}]",
            expect![[r#"
                fail  policy      the first rule takes every request and logs nothing of it (/etc/kubernetes/audit/policy.yaml)
                                    the first rule that matches decides: move it to the end, or narrow it
            "#]],
        ),
        (
            "rules: [{level: Metadata, verbs: [create]}]",
            expect![[r#"
                warn  policy      what no rule takes is not logged (1 rule, none for the rest) (/etc/kubernetes/audit/policy.yaml)
                                    in the policy file, which the API server reads when it starts:
                                      rules:
                                      # …the others, then:
                                      - {level: Metadata}
            "#]],
        ),
        (
            "rules: [{level: Metadata, verbs: [create]}, {level: None}]",
            expect![[r#"
                warn  policy      what no rule takes is not logged (2 rules, the last one says None) (/etc/kubernetes/audit/policy.yaml)
                                    in the policy file, which the API server reads when it starts:
                                      rules:
                                      # …the others, then:
                                      - {level: Metadata}
            "#]],
        ),
        (
            "rules: [{level: Metadata}, {level: Request, verbs: [create]}]",
            expect![[r#"
                warn  policy      rule 1 of 2 takes every request, so those after it never match (/etc/kubernetes/audit/policy.yaml)
                                    the first rule that matches decides: move it to the end, or narrow it
            "#]],
        ),
        // Logs too much.
        (
            "rules: [{level: RequestResponse}]",
            expect![[r#"
                warn  policy      what no narrower rule takes is logged with both bodies (1 rule): many times the bytes (/etc/kubernetes/audit/policy.yaml)
                                    in the policy file, which the API server reads when it starts:
                                      rules:
                                      # …the others, then:
                                      - {level: Metadata}
                warn  bodies      credentials are written to the node's disk with the bodies of what holds them (secrets by rule 1, serviceaccounts/token by rule 1, tokenreviews by rule 1)
                                    in the policy file, which the API server reads when it starts:
                                      rules:
                                      # in front of the rules named above; auditship takes them out, but the file on the node has them
                                      - level: Metadata
                                        resources:
                                        - {group: '', resources: [secrets, serviceaccounts/token]}
                                        - {group: authentication.k8s.io, resources: [tokenreviews]}
            "#]],
        ),
        // Misspells a key.
        (
            "rules: [{level: None, resource: [{resources: [leases]}]}, {level: Metadata}]",
            expect![[r#"
                fail  policy      the first rule takes every request and logs nothing of it (/etc/kubernetes/audit/policy.yaml)
                                    the first rule that matches decides: move it to the end, or narrow it
                fail  policy      the API server passes over keys that it does not know: rules[0].resource (/etc/kubernetes/audit/policy.yaml)
                                    a misspelt key makes a rule match more than was meant: correct it
            "#]],
        ),
    ] {
        defect(KUBEADM, |facts| policy(facts, rest), want);
    }
}

#[test]
fn kubeadm_with_a_policy_whose_stages() {
    for (stages, want) in [
        (
            "",
            expect![[r#"
                warn  stages      RequestReceived is logged too: nearly twice the events, and nothing that the later one lacks
                                    in the policy file, which the API server reads when it starts:
                                      omitStages: [RequestReceived]
            "#]],
        ),
        (
            "ResponseStarted, RequestReceived, Panic",
            expect![[r#"
                warn  stages      ResponseStarted is left out, and with it every refused authentication (401)
                                    take ResponseStarted out of omitStages
            "#]],
        ),
        (
            "RequestReceived, Panic",
            expect![[r#"
                warn  stages      Panic is left out: requests that crash their handler leave no trace
                                    take Panic out of omitStages
            "#]],
        ),
        (
            "ResponseComplete",
            expect![[r#"
                fail  stages      ResponseComplete is left out, which is nearly every event
                                    take ResponseComplete out of omitStages
            "#]],
        ),
    ] {
        let text = with(mend::POLICY, "omitStages: [RequestReceived]", &format!("omitStages: [{stages}]"));
        defect(KUBEADM, |facts| facts.policy = Some(Seen::Is(text.into_bytes())), want);
    }
}

#[test]
fn kubeadm_with_a_policy_file_that_is_not_one() {
    for (text, want) in [
        (
            Seen::Missing,
            expect![[r#"
                fail  policy      the policy file does not exist, so the API server cannot start (/etc/kubernetes/audit/policy.yaml)
                                    write /etc/kubernetes/audit/policy.yaml, on every control plane node:
                                      apiVersion: audit.k8s.io/v1
                                      kind: Policy
                                      omitStages: [RequestReceived]
                                      omitManagedFields: true
                                      rules:
                                      - {level: None, nonResourceURLs: ['/healthz*', '/livez*', '/readyz*', '/logs*', /metrics, '/openapi/*', '/swagger*', /version]}
                                      - {level: Metadata, resources: [{group: authentication.k8s.io, resources: [tokenreviews]}]}
                                      - {level: RequestResponse, resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]}
                                      - {level: RequestResponse, verbs: [create, update, patch, delete, deletecollection], resources: [{group: '', resources: [pods]}]}
                                      - {level: Metadata}
            "#]],
        ),
        (
            Seen::Is(b"\x7fELF\x00".to_vec()),
            expect![[r#"
                fail  policy      the policy file is no policy, so the API server cannot start: not text, and so no YAML (/etc/kubernetes/audit/policy.yaml)
                                    write /etc/kubernetes/audit/policy.yaml, on every control plane node:
                                      apiVersion: audit.k8s.io/v1
                                      kind: Policy
                                      omitStages: [RequestReceived]
                                      omitManagedFields: true
                                      rules:
                                      - {level: None, nonResourceURLs: ['/healthz*', '/livez*', '/readyz*', '/logs*', /metrics, '/openapi/*', '/swagger*', /version]}
                                      - {level: Metadata, resources: [{group: authentication.k8s.io, resources: [tokenreviews]}]}
                                      - {level: RequestResponse, resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]}
                                      - {level: RequestResponse, verbs: [create, update, patch, delete, deletecollection], resources: [{group: '', resources: [pods]}]}
                                      - {level: Metadata}
            "#]],
        ),
        (
            Seen::Is(mend::POLICY.replace("/v1\n", "/v1beta1\n").into_bytes()),
            expect![[r#"
                fail  policy      the policy is audit.k8s.io/v1beta1, which Kubernetes 1.24 and later refuse (/etc/kubernetes/audit/policy.yaml)
                                    in the policy file, which the API server reads when it starts:
                                      apiVersion: audit.k8s.io/v1
            "#]],
        ),
        (
            Seen::Is(b"kind: Pod".to_vec()),
            expect![[r#"
                fail  policy      the policy file is no policy, so the API server cannot start: no audit policy: it wants apiVersion: audit.k8s.io/v1 and kind: Policy (/etc/kubernetes/audit/policy.yaml)
                                    write /etc/kubernetes/audit/policy.yaml, on every control plane node:
                                      apiVersion: audit.k8s.io/v1
                                      kind: Policy
                                      omitStages: [RequestReceived]
                                      omitManagedFields: true
                                      rules:
                                      - {level: None, nonResourceURLs: ['/healthz*', '/livez*', '/readyz*', '/logs*', /metrics, '/openapi/*', '/swagger*', /version]}
                                      - {level: Metadata, resources: [{group: authentication.k8s.io, resources: [tokenreviews]}]}
                                      - {level: RequestResponse, resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]}
                                      - {level: RequestResponse, verbs: [create, update, patch, delete, deletecollection], resources: [{group: '', resources: [pods]}]}
                                      - {level: Metadata}
            "#]],
        ),
    ] {
        defect(KUBEADM, |facts| facts.policy = Some(text), want);
    }
}

#[test]
fn kind_without_a_mount() {
    let manifest = with(KIND, "    - {mountPath: /var/log/kubernetes, name: audit-logs}\n", "");
    defect(
        &manifest,
        |facts| facts.server.distribution = Distribution::Kind,
        expect![[r#"
            fail  mount       the log is written into the container's own layer: nobody else sees it, and it is gone with the container (/var/log/kubernetes/kube-apiserver-audit.log)
                                in kind's cluster configuration, under the control-plane node:
                                  kubeadmConfigPatches:
                                  - |
                                    kind: ClusterConfiguration
                                    apiServer:
                                      extraVolumes:
                                      - {name: audit-log, hostPath: /var/log/kubernetes, mountPath: /var/log/kubernetes, pathType: DirectoryOrCreate}
                                  extraMounts:
                                  - {hostPath: ./audit-log, containerPath: /var/log/kubernetes, readOnly: false}
        "#]],
    );
}

#[test]
fn rke2_as_it_comes() {
    let manifest = with(RKE2, "    - --audit-log-maxbackup=100\n", "");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            warn  history     what is not shipped within 2.9 h is deleted, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
                                in /etc/rancher/rke2/config.yaml.d/90-audit.yaml, on every server:
                                  kube-apiserver-arg+:
                                  - audit-log-maxbackup=83
                                  - audit-log-maxsize=100
                                that holds 24.2 h and takes 8.91 GB of disk at most
        "#]],
    );
    // A log elsewhere, of which older versions mounted the file alone.
    let manifest = with(
        RKE2,
        "mountPath: /var/lib/rancher/rke2/server/logs, name: dir0",
        "mountPath: /var/lib/rancher/rke2/server/logs/audit.log, name: dir0",
    );
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  mount       the log is mounted as a file: the API server cannot rename it, so rotation fails, and what follows it sees the old one (/var/lib/rancher/rke2/server/logs on /var/lib/rancher/rke2/server/logs/audit.log)
                                in /etc/rancher/rke2/config.yaml.d/90-audit.yaml, on every server:
                                  kube-apiserver-extra-mount+:
                                  - "/var/lib/rancher/rke2/server/logs:/var/lib/rancher/rke2/server/logs:rw"
                                take the mount of the file out
        "#]],
    );
}

#[test]
fn k3s_as_it_comes() {
    defect(
        "tls-san: [k3s.example]\nwrite-kubeconfig-mode: '0600'\n",
        |_| {},
        expect![[r#"
            fail  policy      there is no policy, and without one nothing is logged (--audit-policy-file is not set)
                                in /etc/rancher/k3s/config.yaml.d/90-audit.yaml, on every server:
                                  kube-apiserver-arg+:
                                  - audit-policy-file=/var/lib/rancher/k3s/server/audit.yaml
                                write /var/lib/rancher/k3s/server/audit.yaml, on every control plane node:
                                  apiVersion: audit.k8s.io/v1
                                  kind: Policy
                                  omitStages: [RequestReceived]
                                  omitManagedFields: true
                                  rules:
                                  - {level: None, nonResourceURLs: ['/healthz*', '/livez*', '/readyz*', '/logs*', /metrics, '/openapi/*', '/swagger*', /version]}
                                  - {level: Metadata, resources: [{group: authentication.k8s.io, resources: [tokenreviews]}]}
                                  - {level: RequestResponse, resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]}
                                  - {level: RequestResponse, verbs: [create, update, patch, delete, deletecollection], resources: [{group: '', resources: [pods]}]}
                                  - {level: Metadata}
            fail  log         there is no audit log (--audit-log-path is not set)
                                in /etc/rancher/k3s/config.yaml.d/90-audit.yaml, on every server:
                                  kube-apiserver-arg+:
                                  - audit-log-maxbackup=20
                                  - audit-log-maxsize=100
                                  - audit-log-path=/var/lib/rancher/k3s/server/logs/audit.log
        "#]],
    );
}

#[test]
fn k3s_with_its_arguments_in_the_unit() {
    let manifest = with(K3S, "audit-log-maxbackup=100", "audit-log-maxbackup=5");
    let change = |facts: &mut Facts| facts.server.unit = Some("/etc/systemd/system/k3s.service".to_owned());
    defect(
        &manifest,
        change,
        expect![[r#"
            warn  history     what is not shipped within 87 min is deleted, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
                                in ExecStart of /etc/systemd/system/k3s.service (arguments there replace those of config.yaml):
                                  '--kube-apiserver-arg=audit-log-maxbackup=83' \
                                  '--kube-apiserver-arg=audit-log-maxsize=100' \
                                that holds 24.2 h and takes 8.91 GB of disk at most
        "#]],
    );
}

#[test]
fn kops_as_documented() {
    let manifest = with(KOPS, "maxbackup=100", "maxbackup=1");
    let manifest = with(&manifest, "/var/log/kubernetes/audit", "/var/log");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            fail  history     what is not shipped within 17 min is deleted, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
                                in the cluster's spec:
                                  spec:
                                    kubeAPIServer:
                                      auditLogMaxBackups: 83
                                      auditLogMaxSize: 100
                                that holds 24.2 h and takes 8.91 GB of disk at most
        "#]],
    );
}

#[test]
fn talos_as_it_comes() {
    let manifest = with(TALOS, "maxbackup=100", "maxbackup=10");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            warn  history     what is not shipped within 2.9 h is deleted, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
                                as a patch of the machine configuration:
                                  cluster:
                                    apiServer:
                                      extraArgs:
                                        audit-log-maxbackup: "83"
                                        audit-log-maxsize: "100"
                                that holds 24.2 h and takes 8.91 GB of disk at most
        "#]],
    );
    defect(
        TALOS,
        |facts| policy(facts, "rules: [{level: None}]"),
        expect![[r#"
            fail  policy      every rule says None (1 rule), so nothing is logged (/system/config/kubernetes/kube-apiserver/auditpolicy.yaml)
                                in the machine configuration, under cluster.apiServer.auditPolicy:
                                  rules:
                                  # …the others, then:
                                  - {level: Metadata}
        "#]],
    );
}

#[test]
fn openshift_as_it_comes() {
    let manifest = with(OPENSHIFT, "audit-log-maxbackup: [\"100\"]", "audit-log-maxbackup: [\"10\"]");
    defect(
        &manifest,
        |_| {},
        expect![[r#"
            warn  history     what is not shipped within 5.8 h is deleted, 24 h are wanted (100.0 kB/s over the last 5.7 h; on disk now: 5.7 h)
                                OpenShift's operator owns these flags, and only overrides that it does not support change them:
                                  --audit-log-maxbackup=83 --audit-log-maxsize=100
                                that holds 24.2 h and takes 8.91 GB of disk at most
        "#]],
    );
    defect(
        OPENSHIFT,
        |facts| policy(facts, "rules: [{level: RequestResponse}]"),
        expect![[r#"
            warn  policy      what no narrower rule takes is logged with both bodies (1 rule): many times the bytes (/etc/kubernetes/static-pod-resources/configmaps/kube-apiserver-audit-policies/policy.yaml)
                                run: oc patch apiserver cluster --type merge -p '{"spec":{"audit":{"profile":"Default"}}}'    # or WriteRequestBodies; policies are profiles here
            warn  bodies      credentials are written to the node's disk with the bodies of what holds them (secrets by rule 1, serviceaccounts/token by rule 1, tokenreviews by rule 1)
                                run: oc patch apiserver cluster --type merge -p '{"spec":{"audit":{"profile":"Default"}}}'    # or WriteRequestBodies; policies are profiles here
        "#]],
    );
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

mod anything {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a manifest and a policy hold, there is an error or a verdict, and nothing in it acts on a terminal.
        #[test]
        fn is_judged(
            which in 0..7usize,
            holes in proptest::collection::vec((any::<prop::sample::Index>(), 0..12usize, "[ -~\n\u{1b}\u{202e}]{0,8}"), 0..6),
            policy in "(apiVersion: audit.k8s.io/v1\nkind: Policy\n)?[ -~\n]{0,80}",
            rate in any::<u64>(),
        ) {
            let mut text = [KUBEADM, KIND, RKE2, K3S, KOPS, TALOS, OPENSHIFT][which].as_bytes().to_vec();
            for (at, length, instead) in holes {
                let at = at.index(text.len());
                text.splice(at..(at + length).min(text.len()), instead.bytes());
            }
            let Ok(documents) = yaml::documents(&text) else { return Ok(()) };
            let Some(server) = rancher::read("x", &documents).or_else(|| Server::read(&documents).ok()) else {
                return Ok(());
            };
            let node = node(&server);
            let policy = Some(Seen::Is(policy.into_bytes()));
            let facts = Facts { server, from: "x".to_owned(), policy, node: Some(node) };
            let rate = Some(super::super::Rate::told(rate as f64));
            let verdicts = examine(&facts, Wanted { rate, ..wanted() });
            prop_assert!(verdicts.len() > 1);
            let shown = show::text(&facts, &verdicts, Colour::No);
            prop_assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
        }
    }
}
