//! Files that put the agent beside a control plane without Helm: a static pod, a container for the API server's own pod,
//! a systemd unit. All with the hardening of the chart.
//!
//! Pure: options to text. Invariant: the audit directory is mounted, never the file, and read-only; nothing but the state
//! directory can be written; no capability but the one that reads a log of somebody else.

use crate::distribution::Distribution;

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A container for the API server's pod, as a patch for kubeadm
    Sidecar,
    /// A pod that the kubelet starts from a file
    StaticPod,
    /// A unit, where the agent runs on the node itself
    Systemd,
}

/// What stands in it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose control plane.
    pub distribution: Distribution,
    /// The configuration on the node; its directory is mounted.
    pub config: String,
    /// The audit log's directory on the node.
    pub audit_dir: String,
    /// The image, for pods.
    pub image: String,
    /// The program on the node, for the unit.
    pub binary: String,
    /// The user that the log belongs to.
    pub owner: u32,
}

/// The state directory on the node.
pub const STATE_DIR: &str = crate::plan::STATE_DIR;
/// The image of this version.
pub const IMAGE: &str = concat!("ghcr.io/auditship/auditship:", env!("CARGO_PKG_VERSION"));

/// The file's text.
///
/// # Errors
/// The options contradict each other, in a sentence that says what to do.
pub fn render(form: Form, options: &Options) -> Result<String, String> {
    check(form, options)?;
    Ok(match form {
        Form::StaticPod if options.distribution == Distribution::Talos => talos(options),
        Form::StaticPod => static_pod(options),
        Form::Sidecar => sidecar(options),
        Form::Systemd => systemd(options),
    })
}

fn check(form: Form, options: &Options) -> Result<(), String> {
    let Options { distribution, config, audit_dir, image, binary, owner: _ } = options;
    if form == Form::Sidecar
        && let Some(why) = distribution.places().no_sidecar
    {
        return Err(format!(
            "there is no sidecar for {distribution}: {why}; use `manifests static-pod` or the chart"
        ));
    }
    if form == Form::Systemd && matches!(distribution, Distribution::Talos) {
        return Err("there is no systemd on Talos: use `manifests static-pod` or the chart".to_owned());
    }
    for (option, path) in [("--config", config), ("--audit-dir", audit_dir), ("--binary", binary)] {
        // What is plain in YAML and in a unit, where `%` and `$` mean something.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
        if !path.starts_with('/') || !path.chars().all(plain) || path.split('/').any(|part| part == "..") {
            return Err(format!("{option} {path:?}: give an absolute path of letters, digits and /._-+@"));
        }
    }
    if !image.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@:".contains(c)) || image.is_empty() {
        return Err(format!("--image {image:?}: give a name such as {IMAGE}"));
    }
    let inside =
        |path: &str, dir: &str| path == dir || path.starts_with(&format!("{}/", dir.trim_end_matches('/')));
    if audit_dir.trim_end_matches('/').is_empty()
        || matches!(audit_dir.trim_end_matches('/'), "/var" | "/etc")
    {
        return Err(format!(
            "--audit-dir {audit_dir}: that is far more than a log; let the API server log into a directory of its own"
        ));
    }
    if inside(STATE_DIR, audit_dir) {
        return Err(format!(
            "--audit-dir {audit_dir} holds the state directory {STATE_DIR}, which must be writable: use another one"
        ));
    }
    if parent(config) == "/" {
        return Err(format!(
            "--config {config}: its directory is mounted, so put it into one of its own, such as /etc/auditship"
        ));
    }
    Ok(())
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((dir, _)) => dir,
    }
}

/// The container, each line indented by `indent`.
fn container(options: &Options, indent: usize, prefix: &str) -> String {
    let Options { config, audit_dir, image, .. } = options;
    let (why, add) = match options.owner {
        0 => {
            ("A log of root's with mode 0600 needs no capability: root reads what is its own.".to_owned(), "")
        }
        owner => (
            format!("The log is user {owner}'s alone: root needs one capability to read it."),
            "\n      add: [DAC_READ_SEARCH]",
        ),
    };
    let selinux = options.distribution.places().selinux;
    let selinux = selinux.map_or_else(String::new, |kind| format!("\n    seLinuxOptions: {{type: {kind}}}"));
    let config_dir = parent(config);
    let text = format!(
        "\
- name: auditship
  image: {image}
  args: [run, --log-json, --config, {config}]
  env:
  - name: NODE_NAME
    valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}
  # {why}
  securityContext:
    runAsUser: 0
    runAsGroup: 0
    runAsNonRoot: false
    privileged: false
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]{add}
    seccompProfile: {{type: RuntimeDefault}}{selinux}
  resources:
    requests: {{cpu: 50m, memory: 64Mi}}
    limits: {{cpu: \"1\", memory: 192Mi}}
  livenessProbe:
    httpGet: {{host: 127.0.0.1, path: /healthz, port: 9600}}
    initialDelaySeconds: 10
    periodSeconds: 20
    timeoutSeconds: 5
    failureThreshold: 6
  volumeMounts:
  # The directory, not the file: a mounted file stays the old one after a rotation.
  - {{name: {prefix}audit, mountPath: {audit_dir}, readOnly: true}}
  - {{name: {prefix}state, mountPath: {STATE_DIR}}}
  - {{name: {prefix}config, mountPath: {config_dir}, readOnly: true}}
"
    );
    indented(&text, indent)
}

/// The volumes; what must be there already is `kind`.
fn volumes(options: &Options, indent: usize, prefix: &str, kind: &str) -> String {
    let (audit_dir, config_dir) = (&options.audit_dir, parent(&options.config));
    let text = format!(
        "\
- {{name: {prefix}audit, hostPath: {{path: {audit_dir}, type: {kind}}}}}
- {{name: {prefix}state, hostPath: {{path: {STATE_DIR}, type: DirectoryOrCreate}}}}
- {{name: {prefix}config, hostPath: {{path: {config_dir}, type: {kind}}}}}
"
    );
    indented(&text, indent)
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// The pod itself, without a word about where it goes.
fn pod(options: &Options) -> String {
    format!(
        "\
apiVersion: v1
kind: Pod
metadata:
  name: auditship
  namespace: kube-system
  labels: {{app.kubernetes.io/name: auditship, app.kubernetes.io/component: agent}}
spec:
  # The network of the node, and its resolver: it works before the cluster's own does.
  hostNetwork: true
  dnsPolicy: Default
  automountServiceAccountToken: false
  enableServiceLinks: false
  priorityClassName: system-node-critical
  terminationGracePeriodSeconds: 30
  tolerations: [{{operator: Exists}}]
  containers:
{}  volumes:
{}",
        container(options, 2, ""),
        volumes(options, 2, "", "Directory"),
    )
}

fn static_pod(options: &Options) -> String {
    let Options { distribution, config, audit_dir, .. } = options;
    let dir = distribution.places().static_pods;
    format!(
        "\
# auditship beside the API server of {distribution}, as a static pod.
#   1. On each control plane node: put the configuration at {config}, 0600, and whatever it reads beside it.
#      Its input: {{type: file, path: {audit_dir}/{}}}; its admin address: 127.0.0.1:9600, the default.
#   2. auditship check --config {config}
#   3. Put this file into {dir}; the kubelet starts it.
{}",
        distribution.places().audit_file,
        pod(options)
    )
}

fn talos(options: &Options) -> String {
    let config = &options.config;
    let pod = indented(&pod(options), 4);
    format!(
        "\
# auditship beside the API server of Talos, as a patch of the machine configuration.
#   1. Put the agent's configuration under content, and look at it with `auditship check`.
#      Its input: {{type: file, path: {}/{}}}; its admin address: 127.0.0.1:9600, the default.
#   2. For each control plane node: talosctl --nodes NODE patch machineconfig --patch @auditship.yaml
machine:
  files:
  - path: {config}
    permissions: 0o600
    op: create
    content: |
      cluster: my-cluster
      inputs: {{apiserver: {{type: file, path: {}/{}}}}}
      outputs: {{archive: {{type: dir, path: {STATE_DIR}/archive}}}}
  pods:
  - {}",
        options.audit_dir,
        options.distribution.places().audit_file,
        options.audit_dir,
        options.distribution.places().audit_file,
        pod.trim_start(),
    )
}

fn sidecar(options: &Options) -> String {
    let Options { config, audit_dir, .. } = options;
    format!(
        "\
# auditship in the API server's own pod, as a patch for kubeadm.
#   1. On each control plane node: put the configuration at {config}, 0600, and whatever it reads beside it.
#      Its input: {{type: file, path: {audit_dir}/{}}}; its admin address: 127.0.0.1:9600, the default.
#   2. auditship check --config {config}
#   3. Save this file as /etc/kubernetes/patches/kube-apiserver0+strategic.yaml, then
#      kubeadm init phase control-plane apiserver --config kubeadm.yaml --patches /etc/kubernetes/patches
#   Without kubeadm: add the container and the volumes to the pod that runs kube-apiserver.
apiVersion: v1
kind: Pod
metadata:
  name: kube-apiserver
  namespace: kube-system
spec:
  # A static pod has no service account token; elsewhere: automountServiceAccountToken: false, where nothing else needs it.
  containers:
{}  volumes:
{}",
        options.distribution.places().audit_file,
        container(options, 2, "auditship-"),
        volumes(options, 2, "auditship-", "DirectoryOrCreate"),
    )
}

/// systemd.exec(5), systemd.resource-control(5).
fn systemd(options: &Options) -> String {
    let Options { distribution, config, audit_dir, binary, .. } = options;
    let config_dir = parent(config);
    let (capability, why) = match options.owner {
        0 => (
            "",
            "Root without capabilities: it reads what is root's, and nothing else that root can.".to_owned(),
        ),
        owner => (
            "CAP_DAC_READ_SEARCH",
            format!("Root with one capability: the log is user {owner}'s alone, and this reads it."),
        ),
    };
    let state = STATE_DIR.trim_start_matches("/var/lib/");
    format!(
        "\
# auditship beside the API server of {distribution}, as a unit of the node.
#   1. Put the program at {binary}, and the configuration at {config}, 0600.
#      Its input: {{type: file, path: {audit_dir}/{}}}.
#   2. Save this file as /etc/systemd/system/auditship.service, then
#      systemctl daemon-reload && systemctl enable --now auditship
[Unit]
Description=auditship, which ships the Kubernetes audit log
Documentation=https://github.com/auditship/auditship man:auditship(1)
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStartPre={binary} check --config {config}
ExecStart={binary} run --config {config}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=5s
TimeoutStopSec=30s

# {why}
User=root
CapabilityBoundingSet={capability}
AmbientCapabilities=
NoNewPrivileges=yes
UMask=0077
LimitCORE=0

# Only the state directory can be written. A directory that is not there yet does not keep it from starting.
StateDirectory={state}
StateDirectoryMode=0700
ReadOnlyPaths=-{audit_dir} -{config_dir}
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateMounts=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes

# No more of the kernel than a program needs that reads files and talks to servers.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

MemoryHigh=160M
MemoryMax=192M
TasksMax=128

[Install]
WantedBy=multi-user.target
",
        distribution.places().audit_file,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(distribution: Distribution) -> Options {
        let places = distribution.places();
        Options {
            distribution,
            config: format!("{}/config.yaml", places.config_dir),
            audit_dir: places.audit_dir.to_owned(),
            image: IMAGE.to_owned(),
            binary: "/usr/local/bin/auditship".to_owned(),
            owner: places.owner,
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_what_to_do() {
        let kubeadm = options(Distribution::Kubeadm);
        for (form, options, want) in [
            (Form::Sidecar, options(Distribution::Rke2), "no sidecar for rke2: RKE2 writes"),
            (Form::Sidecar, options(Distribution::K3s), "inside of its own process"),
            (Form::Systemd, options(Distribution::Talos), "no systemd on Talos"),
            (
                Form::StaticPod,
                Options { config: "config.yaml".to_owned(), ..kubeadm.clone() },
                "--config \"config.yaml\": give an absolute",
            ),
            (
                Form::StaticPod,
                Options { config: "/config.yaml".to_owned(), ..kubeadm.clone() },
                "put it into one of its own",
            ),
            (
                Form::Systemd,
                Options { binary: "/bin/a b".to_owned(), ..kubeadm.clone() },
                "--binary \"/bin/a b\"",
            ),
            (
                Form::Systemd,
                Options { audit_dir: "/var/log/%n".to_owned(), ..kubeadm.clone() },
                "--audit-dir",
            ),
            (
                Form::StaticPod,
                Options { audit_dir: "/var/log/../lib".to_owned(), ..kubeadm.clone() },
                "--audit-dir",
            ),
            (
                Form::StaticPod,
                Options { audit_dir: "/var/lib".to_owned(), ..kubeadm.clone() },
                "holds the state directory",
            ),
            (
                Form::StaticPod,
                Options { audit_dir: "/".to_owned(), ..kubeadm.clone() },
                "far more than a log",
            ),
            (Form::StaticPod, Options { image: "x\nhostPID: true".to_owned(), ..kubeadm.clone() }, "--image"),
        ] {
            let told = render(form, &options).unwrap_err();
            assert!(told.contains(want), "{told}");
        }
    }

    #[test]
    fn every_pod_is_hardened_alike() {
        for distribution in <Distribution as clap::ValueEnum>::value_variants() {
            let options = options(*distribution);
            for form in [Form::StaticPod, Form::Sidecar] {
                let Ok(text) = render(form, &options) else { continue };
                let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
                let pod = match distribution {
                    Distribution::Talos => &documents[0]["machine"]["pods"][0],
                    _ => &documents[0],
                };
                let container = &pod["spec"]["containers"][0];
                let context = &container["securityContext"];
                assert_eq!(context["capabilities"]["drop"][0], "ALL", "{text}");
                let added = context["capabilities"]["add"].as_array().map_or(0, Vec::len);
                assert_eq!(added, usize::from(*distribution == Distribution::Talos), "{text}");
                assert_eq!(context["readOnlyRootFilesystem"], true);
                assert_eq!(context["allowPrivilegeEscalation"], false);
                assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
                let mounts = container["volumeMounts"].as_array().unwrap();
                let writable = mounts.iter().filter(|mount| mount["readOnly"] != true);
                assert_eq!(writable.map(|mount| &mount["mountPath"]).collect::<Vec<_>>(), [STATE_DIR]);
                let volumes = pod["spec"]["volumes"].as_array().unwrap();
                assert!(
                    mounts.iter().all(|mount| volumes.iter().any(|volume| volume["name"] == mount["name"])),
                    "{text}"
                );
                assert!(container["resources"]["limits"]["memory"].is_string());
            }
        }
    }
}
