//! A control plane on the loopback interface: etcd and kube-apiserver, without anything that would act on what is
//! asked of them. The API server can be killed and started again at its address.

use super::client::Client;
use super::pki::Pki;
use super::programs::Programs;
use crate::backends::server::Server;
use crate::{http, repo};
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the API server may take to be ready: on a busy machine, after an unclean end.
const START_LIMIT: Duration = Duration::from_secs(180);

/// How long it may take to leave after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// Users that authenticate with a token. Their roles are given in `traffic`.
pub(crate) const USERS: [(&str, &str); 3] =
    [("alice@example.com", "developers"), ("bob@example.com", "viewers"), ("ci-deployer", "ci")];

/// How the API server writes its audit log.
pub(crate) struct Audit {
    /// What is logged, and at which level.
    pub(crate) policy: PathBuf,
    /// `--audit-log-maxbackup`
    pub(crate) max_backups: u32,
}

/// A control plane, ended when dropped.
pub(crate) struct Cluster {
    work: PathBuf,
    programs: Programs,
    audit: Audit,
    etcd: Server,
    apiserver: Option<Server>,
    /// When it was started.
    started: Instant,
    addr: SocketAddr,
    /// Its certificates.
    pub(crate) pki: Pki,
    /// Tokens of [`USERS`], in that order.
    pub(crate) tokens: Vec<String>,
}

/// What the API server counts of its audit events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// `apiserver_audit_event_total`: events given to the backends.
    pub(crate) events: u64,
    /// `apiserver_audit_error_total`: of them, those that the log could not take. A line longer than a whole file
    /// (`--audit-log-maxsize`) is one.
    pub(crate) errors: u64,
}

impl Cluster {
    /// Starts etcd and the API server, which writes its audit log to `work/log/audit.log`.
    pub(crate) fn start(
        programs: &Programs,
        work: &Path,
        audit: Audit,
        tokens: Vec<String>,
    ) -> Result<Cluster> {
        let pki = Pki::make(&work.join("pki"))?;
        let mut users = String::new();
        for ((user, group), token) in USERS.iter().zip(&tokens) {
            let _ = writeln!(users, "{token},{user},{user},\"{group}\"");
        }
        std::fs::write(pki.path("tokens.csv"), users).context("write the tokens")?;
        let (client, peer) = (http::free_addr()?, http::free_addr()?);
        let mut etcd = Command::new(&programs.etcd);
        etcd.arg("--name=e0").arg(format!("--data-dir={}", work.join("etcd").display()));
        for (flag, addr) in [
            ("listen-client-urls", client),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer),
            ("initial-advertise-peer-urls", peer),
        ] {
            etcd.arg(format!("--{flag}=http://{addr}"));
        }
        etcd.arg(format!("--initial-cluster=e0=http://{peer}"));
        // What it keeps is thrown away.
        etcd.args(["--unsafe-no-fsync", "--log-level=warn"]);
        let etcd = Server::spawn(&mut etcd, "etcd", client, work)?.ready("/health").context("start etcd")?;
        let mut cluster = Cluster {
            work: work.to_owned(),
            programs: programs.clone(),
            audit,
            etcd,
            apiserver: None,
            started: Instant::now(),
            addr: http::free_addr()?,
            pki,
            tokens,
        };
        cluster.start_apiserver()?;
        Ok(cluster)
    }

    /// Where the API server writes its audit log.
    pub(crate) fn log(&self) -> PathBuf {
        self.work.join("log/audit.log")
    }

    /// A client that is the administrator, or one that has no certificate.
    pub(crate) fn client(&self, as_administrator: bool) -> Result<Client> {
        Ok(Client::new(self.addr, self.pki.client(as_administrator)?))
    }

    /// Starts the API server; it need not be ready when this returns.
    pub(crate) fn start_apiserver(&mut self) -> Result<()> {
        std::fs::create_dir_all(self.work.join("log")).context("make the log's folder")?;
        self.apiserver = Some(Server::spawn(&mut self.command(), "apiserver", self.addr, &self.work)?);
        self.started = Instant::now();
        Ok(())
    }

    /// Whether it is ready; an error if it has ended, or takes too long.
    pub(crate) fn is_ready(&mut self) -> Result<bool> {
        self.check_alive()?;
        let ready = self.client(true)?.get("/readyz").is_ok_and(|answer| answer.status == 200);
        let late = !ready && self.started.elapsed() > START_LIMIT;
        ensure!(
            !late,
            "the API server is not ready:\n{}",
            self.apiserver.as_ref().map(Server::tail).unwrap_or_default()
        );
        Ok(ready)
    }

    /// Waits until it is ready.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        while !self.is_ready()? {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let pki = |name: &str| self.pki.path(name).display().to_string();
        let (port, etcd) = (self.addr.port().to_string(), format!("http://{}", self.etcd.addr));
        let backups = self.audit.max_backups.to_string();
        let mut command = Command::new(&self.programs.apiserver);
        for (flag, value) in [
            ("etcd-servers", etcd),
            ("bind-address", "127.0.0.1".to_owned()),
            ("secure-port", port),
            // Of a range for documentation. Nobody asks for it: it only must not be a loopback address.
            ("advertise-address", "192.0.2.10".to_owned()),
            ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("client-ca-file", pki("ca.crt")),
            ("tls-cert-file", pki("apiserver.crt")),
            ("tls-private-key-file", pki("apiserver.key")),
            ("token-auth-file", pki("tokens.csv")),
            ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
            ("service-account-key-file", pki("sa.pub")),
            ("service-account-signing-key-file", pki("sa.key")),
            ("allow-privileged", "true".to_owned()),
            ("audit-policy-file", self.audit.policy.display().to_string()),
            ("audit-log-path", self.log().display().to_string()),
            // As by default: an event is in the file before its request is answered.
            ("audit-log-mode", "blocking".to_owned()),
            ("audit-log-maxsize", "1".to_owned()),
            ("audit-log-maxbackup", backups),
            ("audit-log-compress", "true".to_owned()),
        ] {
            command.arg(format!("--{flag}={value}"));
        }
        command
    }

    /// An API server that has ended by itself has failed.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        for server in self.apiserver.iter_mut().chain([&mut self.etcd]) {
            if let Some(status) = server.ended()? {
                bail!("a server has ended by itself, {status}:\n{}", server.tail());
            }
        }
        Ok(())
    }

    /// SIGKILL to the API server.
    pub(crate) fn kill_apiserver(&mut self) -> Result<()> {
        self.apiserver.take().context("the API server runs")?.kill()
    }

    /// SIGTERM to the API server, and its orderly end.
    pub(crate) fn stop_apiserver(&mut self) -> Result<()> {
        self.apiserver.take().context("the API server runs")?.stop(STOP_LIMIT).map(drop)
    }

    /// What the API server that runs has counted since it was started.
    pub(crate) fn counted(&self, client: &mut Client) -> Result<Counted> {
        let answer = client.get("/metrics")?;
        ensure!(answer.status == 200, "/metrics: {}", answer.status);
        Ok(Counted::read(&String::from_utf8_lossy(&answer.body)))
    }

    /// A configuration for kubectl, as the administrator.
    pub(crate) fn kubeconfig(&self) -> Result<PathBuf> {
        let pki = |name: &str| self.pki.path(name).display().to_string();
        let text = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster":
                {"server": format!("https://{}", self.addr), "certificate-authority": pki("ca.crt")}}],
            "users": [{"name": "u", "user":
                {"client-certificate": pki("admin.crt"), "client-key": pki("admin.key")}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        let path = self.pki.path("kubeconfig");
        std::fs::write(&path, text.to_string()).context("write the kubeconfig")?;
        Ok(path)
    }

    /// kubectl as the administrator; what it caches stays in the working folder.
    pub(crate) fn kubectl(&self) -> Result<Command> {
        let mut command = Command::new(&self.programs.kubectl);
        command.env("KUBECONFIG", self.kubeconfig()?).env("HOME", &self.work).current_dir(repo::root());
        Ok(command)
    }
}

impl Counted {
    /// Both counters, of all labels.
    fn read(metrics: &str) -> Counted {
        let sum = |name: &str| {
            let of_it = metrics
                .lines()
                .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
            let values = of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.sum::<f64>() as u64
        };
        Counted { events: sum("apiserver_audit_event_total"), errors: sum("apiserver_audit_error_total") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters() {
        let metrics = "# TYPE apiserver_audit_event_total counter\napiserver_audit_event_total 1.2e+02\n\
            apiserver_audit_error_total{plugin=\"log\"} 2\napiserver_audit_error_total{plugin=\"x\"} 1\n\
            apiserver_audit_event_total_created 7\n";
        assert_eq!(Counted::read(metrics), Counted { events: 120, errors: 3 });
        assert_eq!(Counted::read(""), Counted::default());
    }
}
