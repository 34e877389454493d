//! The distributions of Kubernetes that `doctor` and `manifests` know, and where each of them puts things.
//!
//! Facts only, each from the distribution's own documentation or source, which the table names.

use std::fmt;

/// Who set up the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Distribution {
    /// kubeadm, and what is made with it
    Kubeadm,
    /// k3s, whose API server is part of one process
    K3s,
    /// Rancher's RKE2
    Rke2,
    /// kOps, on clouds
    Kops,
    /// kind, in containers
    Kind,
    /// Talos Linux
    Talos,
    /// OpenShift and OKD
    Openshift,
    /// A static pod or a unit that was written by hand
    Other,
}

/// Where a distribution puts what concerns the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The directory of the audit log on the node.
    pub audit_dir: &'static str,
    /// The live file in it.
    pub audit_file: &'static str,
    /// The policy file as the API server sees it.
    pub policy: &'static str,
    /// The user that the API server runs as.
    pub owner: u32,
    /// Where the kubelet looks for static pods.
    pub static_pods: &'static str,
    /// The SELinux type of a container that reads host files, where nodes usually enforce SELinux.
    pub selinux: Option<&'static str>,
    /// Where the agent's configuration can be on a node.
    pub config_dir: &'static str,
    /// Why nothing can be added to the API server's pod; `None`: it can.
    pub no_sidecar: Option<&'static str>,
}

impl Distribution {
    /// Its name as it is written on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Distribution::Kubeadm => "kubeadm",
            Distribution::K3s => "k3s",
            Distribution::Rke2 => "rke2",
            Distribution::Kops => "kops",
            Distribution::Kind => "kind",
            Distribution::Talos => "talos",
            Distribution::Openshift => "openshift",
            Distribution::Other => "other",
        }
    }

    /// Where it puts things.
    pub fn places(self) -> Places {
        let usual = Places {
            audit_dir: "/var/log/kubernetes/audit",
            audit_file: "audit.log",
            policy: "/etc/kubernetes/audit/policy.yaml",
            owner: 0,
            static_pods: "/etc/kubernetes/manifests",
            selinux: None,
            config_dir: "/etc/auditship",
            no_sidecar: None,
        };
        match self {
            // kubernetes.io, "Auditing"; for kOps the path is the user's (kops.sigs.k8s.io, "Cluster resource").
            Distribution::Kubeadm | Distribution::Other => usual,
            Distribution::Kops => Places {
                no_sidecar: Some("kOps writes the API server's manifest itself, from the cluster's spec"),
                ..usual
            },
            // kind.sigs.k8s.io, "Auditing".
            Distribution::Kind => Places {
                audit_dir: "/var/log/kubernetes",
                audit_file: "kube-apiserver-audit.log",
                policy: "/etc/kubernetes/policies/audit-policy.yaml",
                ..usual
            },
            // docs.k3s.io, "CIS Hardening Guide".
            Distribution::K3s => Places {
                audit_dir: "/var/lib/rancher/k3s/server/logs",
                policy: "/var/lib/rancher/k3s/server/audit.yaml",
                static_pods: "/var/lib/rancher/k3s/agent/pod-manifests",
                no_sidecar: Some("k3s runs the API server inside of its own process"),
                ..usual
            },
            // rancher/rke2 `pkg/executor/staticpod/staticpod.go`, `APIServer`; `pkg/podtemplate`.
            Distribution::Rke2 => Places {
                audit_dir: "/var/lib/rancher/rke2/server/logs",
                policy: "/etc/rancher/rke2/audit-policy.yaml",
                static_pods: "/var/lib/rancher/rke2/agent/pod-manifests",
                // rancher/rke2-selinux `policy/centos9/rke2.fc`: the log is container_log_t.
                selinux: Some("container_logreader_t"),
                no_sidecar: Some("RKE2 writes the API server's manifest anew at each start"),
                ..usual
            },
            // siderolabs/talos `internal/app/machined/pkg/controllers/k8s/control_plane_static_pod.go`.
            Distribution::Talos => Places {
                audit_dir: "/var/log/audit/kube",
                audit_file: "kube-apiserver.log",
                policy: "/system/config/kubernetes/kube-apiserver/auditpolicy.yaml",
                owner: 65534,
                // talos.dev, "Static Pods": they are part of the machine configuration, whose files are below /var.
                static_pods: "machine.pods of the machine configuration",
                config_dir: "/var/etc/auditship",
                no_sidecar: Some(
                    "Talos writes the API server's manifest itself, from the machine configuration",
                ),
                ..usual
            },
            // openshift/cluster-kube-apiserver-operator `bindata/assets/kube-apiserver/pod.yaml`.
            Distribution::Openshift => Places {
                audit_dir: "/var/log/kube-apiserver",
                policy: "/etc/kubernetes/static-pod-resources/configmaps/kube-apiserver-audit-policies/policy.yaml",
                selinux: Some("spc_t"),
                no_sidecar: Some("OpenShift's operator writes the API server's manifest itself"),
                ..usual
            },
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
