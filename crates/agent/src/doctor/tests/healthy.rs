//! What is said of each distribution where nothing is wrong.

use super::*;

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
