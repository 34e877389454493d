//! What to do about a finding, in the words of the distribution: the lines to add, and how they come into effect.
//!
//! Pure. It owns where each distribution takes flags and volumes of the API server from; sources stand at each.

use super::server::Server;
use crate::distribution::Distribution;
use std::collections::BTreeMap;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Give the API server this flag.
    Set(&'static str, String),
    /// Take this flag from it.
    Unset(&'static str),
    /// Mount this directory of the node, at the same place.
    Mount {
        /// The volume's name.
        name: &'static str,
        /// On the node and in the container.
        path: String,
        /// Nothing need be written there.
        read_only: bool,
    },
    /// Write this file on the node.
    Write {
        /// Where.
        path: String,
        /// All of it.
        text: &'static str,
    },
    /// Change the policy file so.
    Policy(&'static str),
    /// Run this on the node, as root.
    Run(String),
    /// Something that is no line of a file.
    Say(String),
}

/// A policy to begin with, after Datadog's "How to monitor Kubernetes audit logs": no health checks, tokens never with
/// their bodies, access reviews and changes of pods with them, the rest without.
pub const POLICY: &str = "\
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
";

/// docs.openshift.com, "Configuring the audit log policy".
const PROFILE: &str = "run: oc patch apiserver cluster --type merge -p '{\"spec\":{\"audit\":{\"profile\":\"Default\"}}}'    # or \
                       WriteRequestBodies; policies are profiles here";

/// The lines for a person: what to write and where, then commands and words.
pub fn lines(mends: &[Mend], server: &Server) -> Vec<String> {
    let mut out = settings(mends, server);
    for mend in mends {
        match mend {
            Mend::Set(..) | Mend::Unset(_) | Mend::Mount { .. } => {}
            Mend::Write { path, text } => match server.distribution {
                Distribution::Openshift => out.push(PROFILE.to_owned()),
                Distribution::Talos => {
                    out.push("in the machine configuration, under cluster.apiServer.auditPolicy:".to_owned());
                    out.extend(text.lines().map(|line| format!("  {line}")));
                }
                _ => {
                    out.push(format!("write {path}, on every control plane node:"));
                    out.extend(text.lines().map(|line| format!("  {line}")));
                }
            },
            Mend::Policy(text) => match server.distribution {
                Distribution::Openshift => out.push(PROFILE.to_owned()),
                Distribution::Talos => {
                    out.push("in the machine configuration, under cluster.apiServer.auditPolicy:".to_owned());
                    out.extend(text.lines().map(|line| format!("  {line}")));
                }
                _ => {
                    out.push("in the policy file, which the API server reads when it starts:".to_owned());
                    out.extend(text.lines().map(|line| format!("  {line}")));
                }
            },
            Mend::Run(command) => out.push(format!("run: {command}")),
            Mend::Say(text) => out.push(text.clone()),
        }
    }
    out
}

/// Flags and volumes as the distribution takes them; nothing where there are none.
pub fn settings(mends: &[Mend], server: &Server) -> Vec<String> {
    let mut flags: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    let mut mounts: Vec<(&str, &str, bool)> = Vec::new();
    for mend in mends {
        match mend {
            Mend::Set(name, value) => drop(flags.insert(name, Some(value))),
            Mend::Unset(name) => drop(flags.insert(name, None)),
            Mend::Mount { name, path, read_only } => {
                mounts.retain(|(_, known, _)| known != path);
                mounts.push((name, path, *read_only));
            }
            _ => {}
        }
    }
    if flags.is_empty() && mounts.is_empty() {
        return Vec::new();
    }
    let changes = Changes { flags, mounts };
    match server.distribution {
        Distribution::Kubeadm => changes.kubeadm(server),
        Distribution::Kind => changes.kind(),
        Distribution::K3s => changes.rancher("k3s", server),
        Distribution::Rke2 => changes.rancher("rke2", server),
        Distribution::Kops => changes.kops(),
        Distribution::Talos => changes.talos(),
        Distribution::Openshift => changes.openshift(),
        Distribution::Other => changes.pod(server),
    }
}

/// How changed settings come into effect.
pub fn apply(server: &Server) -> Vec<String> {
    let lines: &[&str] = match server.distribution {
        // kubernetes.io, "Reconfiguring a kubeadm cluster".
        Distribution::Kubeadm => &[
            "kubectl -n kube-system edit configmap kubeadm-config    # put the lines in, under apiServer",
            "# then on each control plane node, one after the other; the kubelet restarts the API server:",
            "kubectl -n kube-system get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}' > kubeadm.yaml",
            "sudo kubeadm init phase control-plane apiserver --config kubeadm.yaml",
        ],
        // kind.sigs.k8s.io, "Auditing": a cluster takes it when it is made.
        Distribution::Kind => &[
            "# a kind cluster takes its configuration when it is made:",
            "kind delete cluster && kind create cluster --config kind.yaml",
        ],
        // docs.k3s.io, "CIS Hardening Guide".
        Distribution::K3s => &[
            "# on each server, one after the other:",
            "sudo systemctl daemon-reload",
            "sudo systemctl restart k3s",
        ],
        // docs.rke2.io, "Advanced Options".
        Distribution::Rke2 => &[
            "# on each server, one after the other:",
            "sudo systemctl daemon-reload",
            "sudo systemctl restart rke2-server",
        ],
        // kops.sigs.k8s.io, "Rolling updates".
        Distribution::Kops => &[
            "kops edit cluster    # put the lines in",
            "kops update cluster --yes",
            "kops rolling-update cluster --instance-group-roles control-plane --yes",
        ],
        // talos.dev, "Editing Machine Configuration".
        Distribution::Talos => &[
            "# save the lines as audit.yaml, then for each control plane node:",
            "talosctl --nodes NODE patch machineconfig --patch @audit.yaml",
        ],
        Distribution::Openshift => &[],
        Distribution::Other => &[
            "# where it is a static pod, change its manifest (the kubelet restarts it); else its unit or Deployment",
        ],
    };
    lines.iter().map(|line| (*line).to_owned()).collect()
}

struct Changes<'a> {
    flags: BTreeMap<&'a str, Option<&'a str>>,
    mounts: Vec<(&'a str, &'a str, bool)>,
}

impl Changes<'_> {
    fn set(&self) -> impl Iterator<Item = (&str, &str)> {
        self.flags.iter().filter_map(|(name, value)| Some((*name, (*value)?)))
    }

    fn unset(&self) -> Vec<&str> {
        self.flags.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect()
    }

    /// `kubeadm.k8s.io/v1beta4` (kubernetes.io, "kubeadm Configuration (v1beta4)").
    fn kubeadm(&self, server: &Server) -> Vec<String> {
        // v1beta4 came with 1.31.
        let old = server.minor.is_some_and(|minor| minor < 31);
        let version = if old { "v1beta4; in v1beta3 extraArgs is a map, `name: value`" } else { "v1beta4" };
        let mut out =
            vec![format!("in ClusterConfiguration ({version}); an entry of the same name is replaced:")];
        out.extend(self.kubeadm_lines("  "));
        if out.len() == 1 {
            out.clear();
        }
        self.removed("", &mut out, "take out of ClusterConfiguration's apiServer.extraArgs: ");
        out
    }

    /// The section `apiServer`; nothing where there is only something to take out.
    fn kubeadm_lines(&self, indent: &str) -> Vec<String> {
        if self.set().next().is_none() && self.mounts.is_empty() {
            return Vec::new();
        }
        let mut out = vec![format!("{indent}apiServer:")];
        if self.set().next().is_some() {
            out.push(format!("{indent}  extraArgs:"));
        }
        for (name, value) in self.set() {
            out.push(format!("{indent}  - {{name: {name}, value: {}}}", quoted(value)));
        }
        if !self.mounts.is_empty() {
            out.push(format!("{indent}  extraVolumes:"));
        }
        for (name, path, read_only) in &self.mounts {
            let read_only = if *read_only { ", readOnly: true" } else { "" };
            out.push(format!(
                "{indent}  - {{name: {name}, hostPath: {path}, mountPath: {path}, pathType: DirectoryOrCreate{read_only}}}"
            ));
        }
        out
    }

    fn removed(&self, indent: &str, out: &mut Vec<String>, words: &str) {
        let unset = self.unset();
        if !unset.is_empty() {
            out.push(format!("{indent}{words}{}", unset.join(", ")));
        }
    }

    /// kind.sigs.k8s.io, "Auditing": a patch of kubeadm's configuration, and mounts into the node.
    fn kind(&self) -> Vec<String> {
        let mut out = Vec::new();
        let lines = self.kubeadm_lines("    ");
        if !lines.is_empty() {
            out.push("in kind's cluster configuration, under the control-plane node:".to_owned());
            out.extend(
                ["  kubeadmConfigPatches:", "  - |", "    kind: ClusterConfiguration"].map(str::to_owned),
            );
            out.extend(lines);
        }
        if !self.mounts.is_empty() {
            out.push("  extraMounts:".to_owned());
        }
        for (name, path, read_only) in &self.mounts {
            out.push(format!("  - {{hostPath: ./{name}, containerPath: {path}, readOnly: {read_only}}}"));
        }
        self.removed("", &mut out, "take out of the extraArgs in kubeadmConfigPatches: ");
        out
    }

    /// docs.k3s.io and docs.rke2.io, "Configuration Options": a drop-in whose lists are added to those before.
    fn rancher(&self, name: &str, server: &Server) -> Vec<String> {
        let mut out = Vec::new();
        let mut lines = Vec::new();
        if let Some(unit) = &server.unit {
            out.push(format!("in ExecStart of {unit} (arguments there replace those of config.yaml):"));
            for (name, value) in self.set() {
                lines.push(format!("  '--kube-apiserver-arg={name}={value}' \\"));
            }
        } else {
            out.push(format!("in /etc/rancher/{name}/config.yaml.d/90-audit.yaml, on every server:"));
            let policy =
                (name == "rke2").then(|| self.flags.get("audit-policy-file").copied().flatten()).flatten();
            if let Some(policy) = policy {
                lines.push(format!("  audit-policy-file: {policy}"));
            }
            let args: Vec<_> =
                self.set().filter(|(name, _)| policy.is_none() || *name != "audit-policy-file").collect();
            if !args.is_empty() {
                lines.push("  kube-apiserver-arg+:".to_owned());
            }
            lines.extend(args.iter().map(|(name, value)| format!("  - {name}={value}")));
            // RKE2 mounts the directory of --audit-log-path and the policy by itself; k3s mounts nothing.
            if name == "rke2" && !self.mounts.is_empty() {
                lines.push("  kube-apiserver-extra-mount+:".to_owned());
                let mode = |read_only: bool| if read_only { "ro" } else { "rw" };
                lines.extend(
                    self.mounts
                        .iter()
                        .map(|(_, path, read_only)| format!("  - \"{path}:{path}:{}\"", mode(*read_only))),
                );
            }
        }
        if lines.is_empty() {
            out.clear();
        }
        out.extend(lines);
        self.removed("", &mut out, "take out of kube-apiserver-arg: ");
        out
    }

    /// kops.sigs.k8s.io, "Cluster resource": each flag has a key of its own, and some have none. kOps mounts the directory
    /// of `auditLogPath` by itself, and a policy is a file asset.
    fn kops(&self) -> Vec<String> {
        let key = |name: &str| {
            Some(match name {
                "audit-log-path" => "auditLogPath",
                "audit-log-maxsize" => "auditLogMaxSize",
                "audit-log-maxbackup" => "auditLogMaxBackups",
                "audit-log-maxage" => "auditLogMaxAge",
                "audit-log-format" => "auditLogFormat",
                "audit-policy-file" => "auditPolicyFile",
                _ => return None,
            })
        };
        let mut out = Vec::new();
        let known: Vec<_> = self.set().filter_map(|(name, value)| Some((key(name)?, value))).collect();
        if !known.is_empty() {
            out.extend(["in the cluster's spec:", "  spec:", "    kubeAPIServer:"].map(str::to_owned));
            out.extend(known.iter().map(|(key, value)| format!("      {key}: {value}")));
        }
        for (name, value) in self.set().filter(|(name, _)| key(name).is_none()) {
            out.push(format!("kOps documents no key for --{name}={value}"));
        }
        for (_, path, read_only) in &self.mounts {
            let how = if *read_only { "with the file as a fileAsset" } else { "by auditLogPath below it" };
            out.push(format!("kOps mounts {path} {how}"));
        }
        self.removed("", &mut out, "take out of spec.kubeAPIServer the key of: ");
        out
    }

    /// talos.dev, "v1alpha1 machine configuration", `cluster.apiServer`.
    fn talos(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.set().next().is_some() || !self.mounts.is_empty() {
            out.extend(
                ["as a patch of the machine configuration:", "  cluster:", "    apiServer:"]
                    .map(str::to_owned),
            );
        }
        if self.set().next().is_some() {
            out.push("      extraArgs:".to_owned());
        }
        for (name, value) in self.set() {
            out.push(format!("        {name}: {}", quoted(value)));
        }
        if !self.mounts.is_empty() {
            out.push("      extraVolumes:".to_owned());
        }
        for (_, path, read_only) in &self.mounts {
            out.push(format!("      - {{hostPath: {path}, mountPath: {path}, readonly: {read_only}}}"));
        }
        self.removed("", &mut out, "take out of cluster.apiServer.extraArgs: ");
        out
    }

    /// docs.openshift.com, "Configuring the audit log policy": the operator owns the flags, a profile is all there is.
    fn openshift(&self) -> Vec<String> {
        let mut flags: Vec<String> = self.set().map(|(name, value)| format!("--{name}={value}")).collect();
        flags.extend(self.unset().iter().map(|name| format!("no --{name}")));
        if flags.is_empty() {
            return Vec::new();
        }
        vec![
            "OpenShift's operator owns these flags, and only overrides that it does not support change them:"
                .to_owned(),
            format!("  {}", flags.join(" ")),
        ]
    }

    /// The manifest of a pod that was written by hand, or a unit.
    fn pod(&self, server: &Server) -> Vec<String> {
        let mut out = vec!["on the API server's command line:".to_owned()];
        if self.set().next().is_none() {
            out.clear();
        }
        out.extend(self.set().map(|(name, value)| format!("  - --{name}={value}")));
        if !self.mounts.is_empty() && server.mounts.is_some() {
            out.push("in its pod:".to_owned());
            for (name, path, read_only) in &self.mounts {
                let read_only = if *read_only { ", readOnly: true" } else { "" };
                out.push(format!("  volumeMounts: - {{name: {name}, mountPath: {path}{read_only}}}"));
                out.push(format!(
                    "  volumes:      - {{name: {name}, hostPath: {{path: {path}, type: DirectoryOrCreate}}}}"
                ));
            }
        }
        self.removed("", &mut out, "take off its command line: --");
        out
    }
}

/// A value in quotes, since YAML would read some as numbers.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::super::flags::Flags;
    use super::super::{policy::Policy, yaml};
    use super::*;
    use expect_test::{Expect, expect};

    fn check(distribution: Distribution, expect: Expect) {
        let mends = [
            Mend::Set("audit-log-maxbackup", "5".to_owned()),
            Mend::Set("audit-log-compress", "true".to_owned()),
            Mend::Set("audit-policy-file", "/p/policy.yaml".to_owned()),
            Mend::Set("audit-log-maxbackup", "40".to_owned()),
            Mend::Unset("audit-log-mode"),
            Mend::Mount { name: "audit-log", path: "/var/log/a".to_owned(), read_only: false },
            Mend::Mount { name: "audit-policy", path: "/p".to_owned(), read_only: true },
        ];
        let mut server = Server::of_flags(distribution, Flags::default());
        server.mounts = Some(Vec::new());
        expect.assert_eq(&(lines(&mends, &server).join("\n") + "\n"));
    }

    #[test]
    fn kubeadm() {
        check(
            Distribution::Kubeadm,
            expect![[r#"
                in ClusterConfiguration (v1beta4); an entry of the same name is replaced:
                  apiServer:
                    extraArgs:
                    - {name: audit-log-compress, value: "true"}
                    - {name: audit-log-maxbackup, value: "40"}
                    - {name: audit-policy-file, value: "/p/policy.yaml"}
                    extraVolumes:
                    - {name: audit-log, hostPath: /var/log/a, mountPath: /var/log/a, pathType: DirectoryOrCreate}
                    - {name: audit-policy, hostPath: /p, mountPath: /p, pathType: DirectoryOrCreate, readOnly: true}
                take out of ClusterConfiguration's apiServer.extraArgs: audit-log-mode
            "#]],
        );
    }

    #[test]
    fn kind() {
        check(
            Distribution::Kind,
            expect![[r#"
                in kind's cluster configuration, under the control-plane node:
                  kubeadmConfigPatches:
                  - |
                    kind: ClusterConfiguration
                    apiServer:
                      extraArgs:
                      - {name: audit-log-compress, value: "true"}
                      - {name: audit-log-maxbackup, value: "40"}
                      - {name: audit-policy-file, value: "/p/policy.yaml"}
                      extraVolumes:
                      - {name: audit-log, hostPath: /var/log/a, mountPath: /var/log/a, pathType: DirectoryOrCreate}
                      - {name: audit-policy, hostPath: /p, mountPath: /p, pathType: DirectoryOrCreate, readOnly: true}
                  extraMounts:
                  - {hostPath: ./audit-log, containerPath: /var/log/a, readOnly: false}
                  - {hostPath: ./audit-policy, containerPath: /p, readOnly: true}
                take out of the extraArgs in kubeadmConfigPatches: audit-log-mode
            "#]],
        );
    }

    #[test]
    fn rke2() {
        check(
            Distribution::Rke2,
            expect![[r#"
                in /etc/rancher/rke2/config.yaml.d/90-audit.yaml, on every server:
                  audit-policy-file: /p/policy.yaml
                  kube-apiserver-arg+:
                  - audit-log-compress=true
                  - audit-log-maxbackup=40
                  kube-apiserver-extra-mount+:
                  - "/var/log/a:/var/log/a:rw"
                  - "/p:/p:ro"
                take out of kube-apiserver-arg: audit-log-mode
            "#]],
        );
    }

    #[test]
    fn k3s() {
        check(
            Distribution::K3s,
            expect![[r#"
                in /etc/rancher/k3s/config.yaml.d/90-audit.yaml, on every server:
                  kube-apiserver-arg+:
                  - audit-log-compress=true
                  - audit-log-maxbackup=40
                  - audit-policy-file=/p/policy.yaml
                take out of kube-apiserver-arg: audit-log-mode
            "#]],
        );
    }

    #[test]
    fn kops() {
        check(
            Distribution::Kops,
            expect![[r#"
                in the cluster's spec:
                  spec:
                    kubeAPIServer:
                      auditLogMaxBackups: 40
                      auditPolicyFile: /p/policy.yaml
                kOps documents no key for --audit-log-compress=true
                kOps mounts /var/log/a by auditLogPath below it
                kOps mounts /p with the file as a fileAsset
                take out of spec.kubeAPIServer the key of: audit-log-mode
            "#]],
        );
    }

    #[test]
    fn talos() {
        check(
            Distribution::Talos,
            expect![[r#"
                as a patch of the machine configuration:
                  cluster:
                    apiServer:
                      extraArgs:
                        audit-log-compress: "true"
                        audit-log-maxbackup: "40"
                        audit-policy-file: "/p/policy.yaml"
                      extraVolumes:
                      - {hostPath: /var/log/a, mountPath: /var/log/a, readonly: false}
                      - {hostPath: /p, mountPath: /p, readonly: true}
                take out of cluster.apiServer.extraArgs: audit-log-mode
            "#]],
        );
    }

    #[test]
    fn openshift() {
        check(
            Distribution::Openshift,
            expect![[r#"
                OpenShift's operator owns these flags, and only overrides that it does not support change them:
                  --audit-log-compress=true --audit-log-maxbackup=40 --audit-policy-file=/p/policy.yaml no --audit-log-mode
            "#]],
        );
    }

    #[test]
    fn by_hand() {
        check(
            Distribution::Other,
            expect![[r#"
                on the API server's command line:
                  - --audit-log-compress=true
                  - --audit-log-maxbackup=40
                  - --audit-policy-file=/p/policy.yaml
                in its pod:
                  volumeMounts: - {name: audit-log, mountPath: /var/log/a}
                  volumes:      - {name: audit-log, hostPath: {path: /var/log/a, type: DirectoryOrCreate}}
                  volumeMounts: - {name: audit-policy, mountPath: /p, readOnly: true}
                  volumes:      - {name: audit-policy, hostPath: {path: /p, type: DirectoryOrCreate}}
                take off its command line: --audit-log-mode
            "#]],
        );
    }

    #[test]
    fn where_arguments_stand_in_the_unit() {
        let mut server = Server::of_flags(Distribution::K3s, Flags::default());
        server.unit = Some("/etc/systemd/system/k3s.service".to_owned());
        let told = lines(&[Mend::Set("audit-log-maxage", "9".to_owned())], &server).join("\n");
        assert!(told.contains("'--kube-apiserver-arg=audit-log-maxage=9' \\"), "{told}");
        assert!(told.contains("ExecStart of /etc/systemd/system/k3s.service"), "{told}");
    }

    #[test]
    fn the_policy_is_a_good_one() {
        let policy = Policy::read(&yaml::documents(POLICY.as_bytes()).unwrap()).unwrap();
        assert_eq!((policy.faults, policy.unknown), (vec![], vec![]));
    }
}
