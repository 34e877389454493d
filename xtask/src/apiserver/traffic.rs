//! Traffic against the API server: threads that do one thing after the other, by chance from a seed, whatever becomes
//! of the API server meanwhile. What they do stands in `requests`.

use super::client::{Answer, Client, Request};
use super::cluster::{Cluster, USERS};
use super::requests;
use super::secrets::{Planted, Secrets};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long after an error nothing is asked: most often the API server is away.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// How often something is done with kubectl.
const KUBECTL_TURN: Duration = Duration::from_secs(4);

/// Longer than any request takes, a watch included.
const QUIET_LIMIT: Duration = Duration::from_secs(60);

/// As whom something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// With the certificate of the group `system:masters`.
    Administrator,
    /// With the token of one of [`USERS`].
    User(usize),
    /// Without any proof.
    Nobody,
    /// With a token that nobody has.
    Stranger,
}

/// A request that was answered to the end.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) at: Instant,
    pub(crate) status: u16,
    pub(crate) audit_id: String,
    /// The example's policy logs nothing of it.
    pub(crate) is_silent: bool,
}

/// What the threads share.
#[derive(Default)]
pub(crate) struct Shared {
    stopped: AtomicBool,
    paused: AtomicBool,
    /// Threads that are doing something.
    busy: AtomicU64,
    /// Requests that were sent.
    pub(crate) begun: AtomicU64,
    /// Requests without an answer.
    pub(crate) failed: AtomicU64,
    /// Calls of kubectl.
    pub(crate) kubectl: AtomicU64,
    statuses: Mutex<BTreeMap<u16, u64>>,
}

/// Threads at work, ended when dropped.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Vec<Answered>>>>,
}

/// One thread's means.
pub(crate) struct Worker {
    /// The namespace that it has for itself.
    pub(crate) namespace: String,
    pub(crate) secrets: Secrets,
    administrator: Client,
    anybody: Client,
    tokens: Vec<String>,
    shared: Arc<Shared>,
    answered: Vec<Answered>,
    names: u64,
}

impl Traffic {
    /// Prepares the cluster, and begins with so many threads.
    pub(crate) fn start(cluster: &Cluster, seed: u64, threads: usize, planted: &Planted) -> Result<Traffic> {
        for token in &cluster.tokens {
            planted.note("token of a user", token);
        }
        let shared = Arc::new(Shared::default());
        let mut traffic = Traffic { shared: Arc::clone(&shared), threads: Vec::new() };
        let mut workers = Vec::new();
        for number in 0..threads {
            workers.push(Worker {
                namespace: format!("team-{number}"),
                secrets: Secrets::new(seed.wrapping_mul(1_000).wrapping_add(number as u64), planted.clone()),
                administrator: cluster.client(true)?,
                anybody: cluster.client(false)?,
                tokens: cluster.tokens.clone(),
                shared: Arc::clone(&shared),
                answered: Vec::new(),
                names: 0,
            });
        }
        for worker in &mut workers {
            worker.prepare()?;
        }
        for worker in workers {
            traffic.threads.push(std::thread::Builder::new().name("traffic".into()).spawn(|| worker.work())?);
        }
        let kubectl = Kubectl {
            secrets: Secrets::new(seed ^ 0x6b75_6265, planted.clone()),
            command: Box::new({
                let (program, config) = (cluster.kubectl()?, cluster.kubeconfig()?);
                let (program, home) = (program.get_program().to_owned(), config.with_file_name(""));
                move || {
                    let mut command = Command::new(&program);
                    command.env("KUBECONFIG", &config).env("HOME", &home).current_dir(&home);
                    command
                }
            }),
            shared,
        };
        traffic.threads.push(std::thread::Builder::new().name("kubectl".into()).spawn(|| kubectl.work())?);
        Ok(traffic)
    }

    /// What the threads have done so far.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Waits until nothing is under way, and begins nothing.
    pub(crate) fn pause(&self) -> Result<()> {
        self.shared.paused.store(true, Ordering::SeqCst);
        let start = Instant::now();
        while self.shared.busy.load(Ordering::SeqCst) > 0 {
            ensure!(start.elapsed() < QUIET_LIMIT, "the traffic does not come to rest");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub(crate) fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    /// Ends all threads; gives what was answered.
    pub(crate) fn stop(mut self) -> Result<Vec<Answered>> {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let mut answered = Vec::new();
        for thread in std::mem::take(&mut self.threads) {
            answered.extend(thread.join().map_err(|_| anyhow!("a thread of the traffic panicked"))??);
        }
        Ok(answered)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for thread in std::mem::take(&mut self.threads) {
            // What it did does not matter any more.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// How many answers had each status.
    pub(crate) fn statuses(&self) -> BTreeMap<u16, u64> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits while there is a pause; `false` when it is time to end. While it is `true`, the caller is busy.
    fn go_on(&self) -> bool {
        loop {
            // First busy, then a look: a pause that does not see us is one that we see.
            self.busy.fetch_add(1, Ordering::SeqCst);
            if self.stopped.load(Ordering::SeqCst) {
                self.busy.fetch_sub(1, Ordering::SeqCst);
                return false;
            }
            if !self.paused.load(Ordering::SeqCst) {
                return true;
            }
            self.busy.fetch_sub(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn done(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Worker {
    fn work(mut self) -> Result<Vec<Answered>> {
        while self.shared.go_on() {
            let done = requests::one(&mut self);
            self.shared.done();
            if done.is_err() {
                std::thread::sleep(AFTER_ERROR);
            }
        }
        Ok(self.answered)
    }

    /// A name that was not there before.
    pub(crate) fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}-{}", self.names)
    }

    /// Sends a request as somebody. An error is one of the connection.
    pub(crate) fn send(&mut self, who: Who, mut request: Request) -> Result<Answer> {
        let stranger = matches!(who, Who::Stranger).then(|| self.secrets.opaque());
        let token = match who {
            Who::User(number) => self.tokens.get(number).cloned(),
            _ => stranger,
        };
        request.headers.extend(token.map(|token| ("authorization", format!("Bearer {token}"))));
        let client = match who {
            Who::Administrator => &mut self.administrator,
            _ => &mut self.anybody,
        };
        self.shared.begun.fetch_add(1, Ordering::SeqCst);
        let answer = client.send(&request).inspect_err(|_| {
            self.shared.failed.fetch_add(1, Ordering::SeqCst);
        })?;
        *self
            .shared
            .statuses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(answer.status)
            .or_default() += 1;
        let audit_id = answer.audit_id.clone().context("an answer without an audit ID")?;
        let is_silent = request.target == "/version";
        self.answered.push(Answered { at: Instant::now(), status: answer.status, audit_id, is_silent });
        Ok(answer)
    }

    /// The namespace, what a pod needs there, and the roles of the users.
    fn prepare(&mut self) -> Result<()> {
        let namespace = self.namespace.clone();
        let rules = |resources: &[&str], verbs: &[&str]| json!([{"apiGroups": ["", "coordination.k8s.io"], "resources": resources, "verbs": verbs}]);
        let role = |name: &str, rules: Value| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
                "rules": rules})
        };
        let binding = |group: &str, role: &str| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": group},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}]})
        };
        let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
        let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        for (target, object) in [
            (roles, role("developer", rules(&["configmaps", "secrets", "pods", "leases"], &["*"]))),
            (roles, role("viewer", rules(&["configmaps", "pods"], &["get", "list", "watch"]))),
            (bindings, binding(USERS[0].1, "developer")),
            (bindings, binding(USERS[1].1, "viewer")),
            (bindings, binding(USERS[2].1, "cluster-admin")),
            ("/api/v1/namespaces", requests::object("v1", "Namespace", &namespace, json!({}))),
            (
                &format!("/api/v1/namespaces/{namespace}/serviceaccounts"),
                requests::object("v1", "ServiceAccount", "default", json!({})),
            ),
        ] {
            let answer = self.send(Who::Administrator, requests::post(target, &object))?;
            // Every thread makes the roles.
            ensure!(
                matches!(answer.status, 201 | 409),
                "{target}: {}",
                String::from_utf8_lossy(&answer.body)
            );
        }
        Ok(())
    }
}

/// What people do by hand, with the program that they do it with.
struct Kubectl {
    secrets: Secrets,
    command: Box<dyn Fn() -> Command + Send>,
    shared: Arc<Shared>,
}

impl Kubectl {
    fn work(mut self) -> Result<Vec<Answered>> {
        let mut next = Instant::now();
        while self.shared.go_on() {
            if Instant::now() >= next {
                // An error is the API server's absence: kubectl has said why, to nobody.
                let _ = self.some();
                next = Instant::now() + KUBECTL_TURN;
            }
            self.shared.done();
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Vec::new())
    }

    /// Applies a Secret and a Deployment twice, and looks at them.
    fn some(&mut self) -> Result<()> {
        for _ in 0..2 {
            let (password, token) = (self.secrets.password(), self.secrets.vendor());
            let manifest = json!({"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "applied", "namespace": "team-0"},
                    "stringData": {"password": password}},
                {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "applied", "namespace": "team-0"},
                    "spec": {"selector": {"matchLabels": {"app": "applied"}}, "template": {
                        "metadata": {"labels": {"app": "applied"}},
                        "spec": {"containers": [{"name": "app", "image": "registry.example.com/app:1",
                            "env": [{"name": "GITHUB_TOKEN", "value": token}]}]}}}},
            ]});
            self.run(&["apply", "-f", "-"], Some(&manifest))?;
        }
        self.run(&["get", "secrets,deployments", "--namespace", "team-0"], None)?;
        self.run(&["auth", "can-i", "delete", "secrets", "--as", "carol@example.com"], None)?;
        let issued = self.run(&["create", "token", "default", "--namespace", "team-0"], None)?;
        if issued.trim().starts_with("eyJ") {
            self.secrets.note("token issued to kubectl", issued.trim());
        }
        self.run(&["delete", "secret", "applied", "--namespace", "team-0"], None).map(drop)
    }

    fn run(&self, arguments: &[&str], input: Option<&Value>) -> Result<String> {
        let mut command = (self.command)();
        command.args(["--request-timeout", "10s"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("start kubectl")?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            std::io::Write::write_all(&mut stdin, input.to_string().as_bytes()).context("feed kubectl")?;
        }
        let output = child.wait_with_output().context("wait for kubectl")?;
        self.shared.kubectl.fetch_add(1, Ordering::SeqCst);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
