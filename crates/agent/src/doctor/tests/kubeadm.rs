//! kubeadm's API server with one defect each: flags, mounts, rotation, the file and its disk.

use super::*;

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
