//! Other distributions' API servers as they come, or with one defect.

use super::*;

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
