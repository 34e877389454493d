//! Facts to verdicts: what the API server is told, its policy, and how the log gets out of its container.
//!
//! Pure. One function a check, in the order in which they are shown; what concerns the log itself is `disk.rs`. Fail is
//! for what loses events, warn for what will surprise.

use super::facts::{Facts, Seen};
use super::mend::{Mend, POLICY};
use super::pace::{Rate, Rotation};
use super::policy::{Level, Policy};
use super::server::{Backing, Mount, Place, normal};
use super::{Grade, Verdict, disk, yaml};
use crate::show::printable;
use std::time::Duration;

/// What the user wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How long rotation should keep an event.
    pub hold: Duration,
    /// How fast the log grows, where that was measured elsewhere.
    pub rate: Option<Rate>,
}

/// Bodies of these hold credentials.
const CREDENTIALS: &[(&str, &str)] =
    &[("", "secrets"), ("", "serviceaccounts/token"), ("authentication.k8s.io", "tokenreviews")];

/// All verdicts, in the order in which they are shown.
pub fn examine(facts: &Facts, wanted: Wanted) -> Vec<Verdict> {
    let mut all = vec![server(facts)];
    all.extend(process(facts));
    all.extend(policy(facts));
    all.extend(output(facts));
    let Some(path) = log_path(facts) else { return all };
    all.push(mount(facts, path));
    all.extend(settings(facts));
    all.push(webhook(facts));
    all.extend(disk::examine(facts, wanted));
    all
}

/// The path of the log, where there is one in a file.
pub(super) fn log_path(facts: &Facts) -> Option<&str> {
    facts.server.flags.get("audit-log-path").filter(|path| path.starts_with('/'))
}

/// A verdict without evidence and without anything to do.
pub(super) fn verdict(check: &'static str, grade: Grade, text: impl Into<String>) -> Verdict {
    Verdict { check, grade, text: text.into(), evidence: String::new(), mends: Vec::new() }
}

impl Verdict {
    pub(super) fn seen(mut self, evidence: impl AsRef<str>) -> Verdict {
        self.evidence = printable(evidence.as_ref());
        self
    }

    pub(super) fn mend(mut self, mend: Mend) -> Verdict {
        self.mends.push(mend);
        self
    }

    pub(super) fn mends(mut self, mends: impl IntoIterator<Item = Mend>) -> Verdict {
        self.mends.extend(mends);
        self
    }
}

fn server(facts: &Facts) -> Verdict {
    let version = facts.server.minor.map_or_else(String::new, |minor| format!(", Kubernetes 1.{minor}"));
    let whose = match facts.server.distribution {
        crate::distribution::Distribution::Other => {
            "an API server, of no distribution that is known here".to_owned()
        }
        known => known.to_string(),
    };
    verdict("server", Grade::Ok, format!("{whose}{version}")).seen(&facts.from)
}

fn process(facts: &Facts) -> Vec<Verdict> {
    let Some(process) = facts.node.as_ref().and_then(|node| node.process.as_ref()) else { return Vec::new() };
    let others: Vec<String> = process.others.iter().take(5).map(u32::to_string).collect();
    let others = match others.len() {
        0 => String::new(),
        _ => format!("; also {}, which --process looks at", others.join(", ")),
    };
    let pid = format!("process {}{others}", process.pid);
    let mut all = Vec::new();
    if process.differs.is_empty() {
        all.push(verdict("process", Grade::Ok, "runs with these flags").seen(&pid));
    } else {
        let text = format!("runs with other flags than it is told: {}", process.differs.join(", "));
        let how =
            "restart it: move its manifest out of the directory, wait until the pod is gone, move it back";
        all.push(verdict("process", Grade::Warn, text).seen(&pid).mend(Mend::Say(how.to_owned())));
    }
    if process.writes_deleted {
        let text =
            "writes into a log that was deleted or moved away: what it writes is lost when it restarts";
        let how = "restart the API server; leave its log to its own rotation (kubernetes/kubernetes#111208)";
        all.push(verdict("process", Grade::Fail, text).seen(pid).mend(Mend::Say(how.to_owned())));
    }
    all
}

/// A policy file of our own and the flags that go with it.
fn new_policy(facts: &Facts) -> Vec<Mend> {
    let path = facts.server.flags.get("audit-policy-file");
    let path = path.unwrap_or(facts.server.distribution.places().policy).to_owned();
    let mut mends = vec![Mend::Write { path: host_of(facts, &path), text: POLICY }];
    let visible = matches!(facts.server.place(&path), Place::Host(..));
    if facts.server.flags.get("audit-policy-file").is_none() {
        mends.push(Mend::Set("audit-policy-file", path.clone()));
    }
    if !visible && let Some(dir) = parent(&path) {
        mends.push(Mend::Mount { name: "audit-policy", path: dir, read_only: true });
    }
    mends
}

fn parent(path: &str) -> Option<String> {
    path.rsplit_once('/').map(|(dir, _)| dir.to_owned()).filter(|dir| !dir.is_empty())
}

/// The path on the node, where the container's is mounted from it.
fn host_of(facts: &Facts, path: &str) -> String {
    match facts.server.place(path) {
        Place::Host(host, _) => host,
        Place::Volume(_) | Place::Layer => path.to_owned(),
    }
}

fn policy(facts: &Facts) -> Vec<Verdict> {
    let fail = |text: String| verdict("policy", Grade::Fail, text);
    let Some(path) = facts.server.flags.get("audit-policy-file") else {
        let text = "there is no policy, and without one nothing is logged".to_owned();
        return vec![fail(text).seen("--audit-policy-file is not set").mends(new_policy(facts))];
    };
    match facts.server.place(path) {
        Place::Layer => {
            let text = "the policy file is not mounted into the container, so the API server cannot start"
                .to_owned();
            let dir =
                parent(path).map(|dir| Mend::Mount { name: "audit-policy", path: dir, read_only: true });
            return vec![fail(text).seen(path).mends(dir)];
        }
        Place::Host(..) | Place::Volume(_) => {}
    }
    let text = match &facts.policy {
        None => return vec![verdict("policy", Grade::Skip, "the policy file was not looked at").seen(path)],
        Some(Seen::Missing) => {
            let text = "the policy file does not exist, so the API server cannot start".to_owned();
            return vec![fail(text).seen(path).mends(new_policy(facts))];
        }
        Some(Seen::Refused(why)) => {
            return vec![
                verdict("policy", Grade::Skip, format!("the policy file cannot be read: {why}")).seen(path),
            ];
        }
        Some(Seen::Is(text)) => text,
    };
    match yaml::documents(text).and_then(|documents| Policy::read(&documents)) {
        Ok(policy) => judged(&policy, path),
        Err(why) => vec![
            fail(format!("the policy file is no policy, so the API server cannot start: {why}"))
                .seen(path)
                .mends(new_policy(facts)),
        ],
    }
}

fn judged(policy: &Policy, path: &str) -> Vec<Verdict> {
    if policy.api_version != "audit.k8s.io/v1" {
        let text = format!(
            "the policy is {}, which Kubernetes 1.24 and later refuse",
            printable(&policy.api_version)
        );
        return vec![
            verdict("policy", Grade::Fail, text).seen(path).mend(Mend::Policy("apiVersion: audit.k8s.io/v1")),
        ];
    }
    if !policy.faults.is_empty() {
        let text = format!("the API server refuses the policy: {}", policy.faults.join("; "));
        return vec![verdict("policy", Grade::Fail, text).seen(path)];
    }
    let mut all = vec![rest(policy).seen(path)];
    if !policy.unknown.is_empty() {
        let text =
            format!("the API server passes over keys that it does not know: {}", policy.unknown.join(", "));
        let how = "a misspelt key makes a rule match more than was meant: correct it";
        all.push(verdict("policy", Grade::Fail, text).seen(path).mend(Mend::Say(how.to_owned())));
    }
    all.push(stages(policy));
    all.push(bodies(policy));
    all
}

/// What happens to requests that no narrower rule takes.
fn rest(policy: &Policy) -> Verdict {
    let count = policy.rules.len();
    let rules = format!("{count} rule{}", if count == 1 { "" } else { "s" });
    let catch_all = "rules:\n# …the others, then:\n- {level: Metadata}";
    match policy.catch_all() {
        _ if policy.rules.iter().all(|rule| rule.level == Level::None) => {
            verdict("policy", Grade::Fail, format!("every rule says None ({rules}), so nothing is logged"))
                .mend(Mend::Policy(catch_all))
        }
        Some((1, rule)) if rule.level == Level::None => {
            verdict("policy", Grade::Fail, "the first rule takes every request and logs nothing of it").mend(
                Mend::Say("the first rule that matches decides: move it to the end, or narrow it".to_owned()),
            )
        }
        Some((number, _)) if number < count => {
            let text = format!("rule {number} of {count} takes every request, so those after it never match");
            verdict("policy", Grade::Warn, text).mend(Mend::Say(
                "the first rule that matches decides: move it to the end, or narrow it".to_owned(),
            ))
        }
        Some((_, rule)) if rule.level == Level::None => verdict(
            "policy",
            Grade::Warn,
            format!("what no rule takes is not logged ({rules}, the last one says None)"),
        )
        .mend(Mend::Policy(catch_all)),
        Some((_, rule)) if rule.level == Level::RequestResponse => verdict(
            "policy",
            Grade::Warn,
            format!("what no narrower rule takes is logged with both bodies ({rules}): many times the bytes"),
        )
        .mend(Mend::Policy(catch_all)),
        Some((_, rule)) => {
            let level = if rule.level == Level::Request { "Request" } else { "Metadata" };
            verdict("policy", Grade::Ok, format!("{rules}, and what they do not take is logged at {level}"))
        }
        None => verdict(
            "policy",
            Grade::Warn,
            format!("what no rule takes is not logged ({rules}, none for the rest)"),
        )
        .mend(Mend::Policy(catch_all)),
    }
}

fn stages(policy: &Policy) -> Verdict {
    let say = |text: &str| Mend::Say(text.to_owned());
    if policy.omits("ResponseComplete") {
        return verdict("stages", Grade::Fail, "ResponseComplete is left out, which is nearly every event")
            .mend(say("take ResponseComplete out of omitStages"));
    }
    if policy.omits("ResponseStarted") {
        let text = "ResponseStarted is left out, and with it every refused authentication (401)";
        return verdict("stages", Grade::Warn, text).mend(say("take ResponseStarted out of omitStages"));
    }
    if policy.omits("Panic") {
        return verdict(
            "stages",
            Grade::Warn,
            "Panic is left out: requests that crash their handler leave no trace",
        )
        .mend(say("take Panic out of omitStages"));
    }
    if !policy.omits("RequestReceived") {
        let text =
            "RequestReceived is logged too: nearly twice the events, and nothing that the later one lacks";
        return verdict("stages", Grade::Warn, text).mend(Mend::Policy("omitStages: [RequestReceived]"));
    }
    verdict("stages", Grade::Ok, "RequestReceived is left out, refusals and panics are not")
}

fn bodies(policy: &Policy) -> Verdict {
    let with = |(group, resource): &(&str, &'static str)| {
        let (rule, level) = policy.most(group, resource)?;
        (level >= Level::Request).then_some((*resource, rule))
    };
    let found: Vec<(&str, usize)> = CREDENTIALS.iter().filter_map(with).collect();
    if found.is_empty() {
        return verdict("bodies", Grade::Ok, "no bodies of Secrets and tokens are logged");
    }
    let told: Vec<String> =
        found.iter().map(|(resource, rule)| format!("{resource} by rule {rule}")).collect();
    verdict("bodies", Grade::Warn, "credentials are written to the node's disk with the bodies of what holds them")
        .seen(told.join(", "))
        .mend(Mend::Policy(
            "rules:\n# in front of the rules named above; auditship takes them out, but the file on the node has them\n\
             - level: Metadata\n  resources:\n  - {group: '', resources: [secrets, serviceaccounts/token]}\n  \
             - {group: authentication.k8s.io, resources: [tokenreviews]}",
        ))
}

/// Flags and volume for a log in a directory of its own, with bounds where neither a flag nor a default sets them.
fn new_log(facts: &Facts) -> Vec<Mend> {
    let places = facts.server.distribution.places();
    let mut mends = vec![
        Mend::Set("audit-log-path", format!("{}/{}", places.audit_dir, places.audit_file)),
        Mend::Mount { name: "audit-log", path: places.audit_dir.to_owned(), read_only: false },
    ];
    if Rotation::of(&facts.server).is_ok_and(|rotation| rotation.backups.is_none()) {
        mends.push(Mend::Set("audit-log-maxsize", "100".to_owned()));
        mends.push(Mend::Set("audit-log-maxbackup", "20".to_owned()));
    }
    mends
}

/// Where the events go at all; nothing where they go into a file and there is nothing else to say.
fn output(facts: &Facts) -> Option<Verdict> {
    let flags = &facts.server.flags;
    match flags.get("audit-log-path") {
        None if flags.get("audit-webhook-config-file").is_some() => Some(
            verdict("log", Grade::Fail, "events go to a webhook only, and there is no file that auditship could follow")
                .seen("--audit-log-path is not set")
                .mends(new_log(facts)),
        ),
        None => Some(
            verdict("log", Grade::Fail, "there is no audit log")
                .seen("--audit-log-path is not set")
                .mends(new_log(facts)),
        ),
        Some("-") => Some(
            verdict(
                "log",
                Grade::Warn,
                "events go to standard output, among other lines; the kubelet rotates them away at 10 MiB × 5",
            )
            .seen("--audit-log-path=-")
            .mends(new_log(facts))
            .mend(Mend::Say(
                "or follow /var/log/pods/kube-system_kube-apiserver-*/kube-apiserver/*.log with format: cri".to_owned(),
            )),
        ),
        Some(path) if !path.starts_with('/') => Some(
            verdict("log", Grade::Fail, "the log's path is not absolute").seen(path).mends(new_log(facts)),
        ),
        Some(_) => None,
    }
}

fn mount(facts: &Facts, path: &str) -> Verdict {
    let seen_as_file =
        facts.node.as_ref().and_then(|node| node.process.as_ref()).is_some_and(|process| process.file_mount);
    let dir = parent(path).unwrap_or_default();
    // A directory of its own, unless the log has one already.
    let shared = matches!(&*dir, "" | "/var" | "/var/log" | "/tmp" | "/etc" | "/etc/kubernetes");
    let whole = || {
        if shared {
            new_log(facts)
        } else {
            vec![Mend::Mount { name: "audit-log", path: dir.clone(), read_only: false }]
        }
    };
    let fail = |text: &str| verdict("mount", Grade::Fail, text);
    match facts.server.place(path) {
        Place::Layer => fail("the log is written into the container's own layer: nobody else sees it, and it is gone with the container")
            .seen(path)
            .mends(whole()),
        Place::Volume(Mount { backing: Backing::Other(kind), inside, .. }) => {
            verdict("mount", Grade::Warn, format!("the log is in a volume of kind {}, which only this pod has", printable(kind)))
                .seen(inside)
                .mends(whole())
        }
        Place::Volume(Mount { inside, .. }) => {
            verdict("mount", Grade::Warn, "the log is in an emptyDir: it is gone with the pod, and only a sidecar of it sees it")
                .seen(inside)
                .mends(whole())
        }
        Place::Host(host, mount) => {
            let is_file = |mount: &Mount| {
                normal(&mount.inside) == normal(path) || matches!(mount.backing, Backing::Host { file: true, .. })
            };
            if seen_as_file || mount.is_some_and(is_file) {
                return fail("the log is mounted as a file: the API server cannot rename it, so rotation fails, and what follows it sees the old one")
                    .seen(format!("{host} on {path}"))
                    .mends(whole())
                    .mend(Mend::Say("take the mount of the file out".to_owned()));
            }
            match mount {
                Some(mount) if mount.read_only => {
                    fail("the log's directory is mounted read-only: the API server cannot write").seen(&mount.inside).mends(whole())
                }
                Some(mount) => verdict("mount", Grade::Ok, "the log's directory is mounted from the node")
                    .seen(if host == normal(path) { mount.inside.clone() } else { format!("{path} is {host} on the node") }),
                None => verdict("mount", Grade::Ok, "the log is on the node itself").seen(host),
            }
        }
    }
}

/// Format, version, mode, truncation.
fn settings(facts: &Facts) -> Vec<Verdict> {
    let flags = &facts.server.flags;
    let mut all = Vec::new();
    all.push(match (flags.get("audit-log-format").unwrap_or("json"), flags.get("audit-log-version")) {
        ("json", None | Some("audit.k8s.io/v1")) => {
            verdict("format", Grade::Ok, "events are written as JSON, audit.k8s.io/v1")
        }
        ("json", Some(version)) => verdict(
            "format",
            Grade::Fail,
            format!("events are written as {}, which auditship does not read", printable(version)),
        )
        .seen("--audit-log-version")
        .mend(Mend::Unset("audit-log-version")),
        (format, _) => verdict(
            "format",
            Grade::Fail,
            "events are written as text lines without bodies, which auditship skips",
        )
        .seen(format!("--audit-log-format={format}"))
        .mend(Mend::Set("audit-log-format", "json".to_owned())),
    });
    all.push(match flags.get("audit-log-mode").unwrap_or("blocking") {
        "blocking" => verdict("mode", Grade::Ok, "an event is written before its request is answered"),
        "batch" => verdict(
            "mode",
            Grade::Warn,
            "events wait in memory: they are lost in a crash, and dropped when the buffer is full",
        )
        .seen("--audit-log-mode=batch")
        .mend(Mend::Unset("audit-log-mode")),
        "blocking-strict" => verdict(
            "mode",
            Grade::Warn,
            "a log that cannot be written refuses every request: a full disk stops the cluster",
        )
        .seen("--audit-log-mode=blocking-strict")
        .mend(Mend::Unset("audit-log-mode")),
        other => verdict("mode", Grade::Fail, "there is no such mode, so the API server cannot start")
            .seen(format!("--audit-log-mode={other}"))
            .mend(Mend::Unset("audit-log-mode")),
    });
    if flags.is_on("audit-log-truncate-enabled") {
        let limit = flags.get("audit-log-truncate-max-event-size").unwrap_or("102400");
        all.push(
            verdict(
                "truncation",
                Grade::Warn,
                format!("bodies of events over {} bytes are cut out", printable(limit)),
            )
            .seen("--audit-log-truncate-enabled")
            .mend(Mend::Unset("audit-log-truncate-enabled")),
        );
    }
    all
}

fn webhook(facts: &Facts) -> Verdict {
    let flags = &facts.server.flags;
    let Some(config) = flags.get("audit-webhook-config-file") else {
        return verdict("webhook", Grade::Ok, "no webhook besides");
    };
    let blocking = flags.get("audit-webhook-mode").filter(|mode| mode.starts_with("blocking"));
    match blocking {
        Some(mode) => verdict(
            "webhook",
            Grade::Warn,
            "every request waits for the webhook too: a slow receiver is a slow cluster",
        )
        .seen(format!("--audit-webhook-mode={mode}"))
        .mend(Mend::Unset("audit-webhook-mode")),
        None => verdict(
            "webhook",
            Grade::Warn,
            "every event goes to a webhook as well: twice the events downstream, unless somebody needs it",
        )
        .seen(format!("--audit-webhook-config-file={config}"))
        .mend(Mend::Unset("audit-webhook-config-file")),
    }
}
