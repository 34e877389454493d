//! Finds the API server of a node and gathers the facts.
//!
//! A door: it reads manifests, configurations, `/proc`, the policy, and both ends of the log. It never writes, and judges
//! nothing. Where it looks, in this order: the static pods of RKE2, OpenShift, kOps and kubeadm (also kind's), the
//! configuration of k3s and RKE2, then any process that is an API server.

#![expect(clippy::disallowed_methods, reason = "asks the clock, and opens what it was given")]

use super::facts::{Backup, Facts, Live, Log, Node, Process, Seen};
use super::flags::Flags;
use super::peek;
use super::rancher::{self, Settings};
use super::server::{Backing, Mount, Place, Server, normal};
use super::tree::{Tree, read_named};
use super::yaml;
use crate::distribution::Distribution;
use crate::show::printable;
use anyhow::{Context as _, anyhow, bail};
use std::io;
use std::path::{Path, PathBuf};

/// Only so many backups are opened, the newest; the oldest one is too.
const BACKUPS_MAX: usize = 200;
const PROCESSES_MAX: usize = 100_000;
const PROGRAM: &str = "kube-apiserver";

/// What the user has named.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// A description of the API server; `-` is standard input.
    pub manifest: Option<PathBuf>,
    /// The policy, where the description does not lead to it.
    pub policy: Option<PathBuf>,
    /// Where the node's files begin.
    pub root: Option<PathBuf>,
    /// The API server's process.
    pub process: Option<u32>,
    /// Whose it is, where it cannot be told.
    pub distribution: Option<Distribution>,
}

/// Where static pods stand, and whose they are.
const PODS: &[(&str, Distribution)] = &[
    ("/etc/kubernetes/manifests/kube-apiserver-pod.yaml", Distribution::Openshift),
    ("/etc/kubernetes/manifests/kube-apiserver.manifest", Distribution::Kops),
    ("/etc/kubernetes/manifests/kube-apiserver.yaml", Distribution::Kubeadm),
    ("/etc/kubernetes/manifests/talos-kube-apiserver.yaml", Distribution::Talos),
];

/// An API server that was found, and how.
struct Found {
    server: Server,
    from: String,
    /// The node's files as the paths of `server` mean them; `None`: there is no node to look at.
    tree: Option<Tree>,
}

/// Finds it and gathers the facts.
///
/// # Errors
/// No API server was found, or what was named cannot be read.
pub fn look(asked: &Asked) -> anyhow::Result<Facts> {
    let tree = |path: Option<&Path>| {
        Tree::new(path).with_context(|| format!("look at {}", path.unwrap_or(Path::new("/")).display()))
    };
    let node = tree(asked.root.as_deref())?;
    let mut found = match (&asked.manifest, asked.process) {
        (Some(path), _) => {
            let tree = asked.root.as_deref().map(|root| tree(Some(root))).transpose()?;
            named(path, tree)?
        }
        (None, Some(pid)) => of_process(&node, pid)?,
        (None, None) => on_node(&node, asked)?,
    };
    if let Some(distribution) = asked.distribution {
        found.server.distribution = distribution;
    } else if found.server.distribution == Distribution::Kubeadm
        && found.tree.as_ref().is_some_and(|tree| tree.has("/kind/version"))
    {
        found.server.distribution = Distribution::Kind;
    }
    with_config(&mut found.server, found.tree.as_ref())?;
    let policy = match &asked.policy {
        Some(path) => {
            Some(Seen::Is(read_named(path).with_context(|| format!("read the policy {}", path.display()))?))
        }
        None => found.tree.as_ref().and_then(|tree| policy(&found.server, tree)),
    };
    let seen = found.tree.as_ref().map(|tree| Node {
        now: jiff::Timestamp::now(),
        user: rustix::process::geteuid().as_raw(),
        process: process(&node, &found, asked.process),
        log: log(&found.server, tree),
    });
    Ok(Facts { server: found.server, from: found.from, policy, node: seen })
}

/// The file that was named.
fn named(path: &Path, tree: Option<Tree>) -> anyhow::Result<Found> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let text = read_named(path).with_context(|| format!("read {name}"))?;
    let documents = yaml::documents(&text).map_err(|why| anyhow!("{name}: {why}"))?;
    let server = match rancher::read(&name, &documents) {
        Some(server) => server,
        None => Server::read(&documents).map_err(|why| anyhow!("{name}: {why}"))?,
    };
    Ok(Found { server, from: name, tree })
}

/// Whatever there is on the node.
fn on_node(node: &Tree, asked: &Asked) -> anyhow::Result<Found> {
    let here = || Tree::new(asked.root.as_deref()).context("look at the node");
    let (k3s, rke2) = (settings(node, "k3s", "k3s")?, settings(node, "rke2", "rke2-server")?);
    let data = rke2.as_ref().and_then(|(settings, _)| settings.data_dir()).unwrap_or("/var/lib/rancher/rke2");
    let of_rke2 = (format!("{data}/agent/pod-manifests/kube-apiserver.yaml"), Distribution::Rke2);
    let pods = PODS.iter().map(|(path, whose)| ((*path).to_owned(), *whose));
    for (path, whose) in [of_rke2].into_iter().chain(pods) {
        let text = match node.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text.map_err(|error| unread(&path, error))?,
        };
        let documents = yaml::documents(&text).map_err(|why| anyhow!("{path}: {why}"))?;
        let mut server = Server::read(&documents).map_err(|why| anyhow!("{path}: {why}"))?;
        if whose != Distribution::Kubeadm || server.distribution == Distribution::Other {
            server.distribution = whose;
        }
        if let (Distribution::Rke2, Some((settings, _))) = (whose, &rke2) {
            server.unit = settings.server(whose).unit;
        }
        return Ok(Found { server, from: path, tree: Some(here()?) });
    }
    for (settings, whose) in [(k3s, Distribution::K3s), (rke2, Distribution::Rke2)] {
        if let Some((settings, from)) = settings {
            return Ok(Found { server: settings.server(whose), from, tree: Some(here()?) });
        }
    }
    match processes(node).first() {
        Some((pid, _)) => of_process(node, *pid),
        None => bail!(
            "no API server found below {}: no static pod of kubeadm, RKE2, kOps or OpenShift, no configuration of k3s or \
             RKE2, no process {PROGRAM}; run this on a control plane node, or name what describes it with --manifest FILE",
            node.path().display()
        ),
    }
}

/// What k3s or RKE2 is configured with, and where that was found; nothing where there is no server of theirs.
fn settings(node: &Tree, name: &str, unit: &str) -> anyhow::Result<Option<(Settings, String)>> {
    let mut settings = Settings::default();
    let mut from = Vec::new();
    let main = format!("/etc/rancher/{name}/config.yaml");
    let drop_ins = format!("{main}.d");
    let more = node.list(&drop_ins).unwrap_or_default();
    let more = more.iter().filter(|file| file.ends_with(".yaml") || file.ends_with(".yml"));
    for path in [main].into_iter().chain(more.map(|file| format!("{drop_ins}/{file}"))) {
        match node.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => {
                let text = text.map_err(|error| unread(&path, error))?;
                let documents = yaml::documents(&text).map_err(|why| anyhow!("{path}: {why}"))?;
                settings.file(&documents);
                from.push(path);
            }
        }
    }
    for dir in ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"] {
        let path = format!("{dir}/{unit}.service");
        if let Ok(text) = node.read(&path) {
            settings.unit(&path, &String::from_utf8_lossy(&text));
            from.push(path);
            break;
        }
    }
    // An agent has these files too, and no server's directory.
    let server =
        node.has(&format!("{}/server", settings.data_dir().unwrap_or(&format!("/var/lib/rancher/{name}"))));
    if server && from.is_empty() {
        from.push(format!("/var/lib/rancher/{name}"));
    }
    Ok(server.then(|| (settings, from.join(", "))))
}

/// A file that cannot be read, and what to do where only a permission is missing.
fn unread(path: &str, error: io::Error) -> anyhow::Error {
    let root = if error.kind() == io::ErrorKind::PermissionDenied { "; run this as root" } else { "" };
    anyhow!("read {path}: {error}{root}")
}

/// OpenShift's API server has its flags from a file.
fn with_config(server: &mut Server, tree: Option<&Tree>) -> anyhow::Result<()> {
    let path = match server.flags.config_file() {
        Some(path) if server.flags.audit().next().is_none() => path.to_owned(),
        _ => return Ok(()),
    };
    let Some(tree) = tree else {
        bail!(
            "the flags of this API server are in {path}: give that with --manifest, or both: cat POD CONFIG | auditship doctor --manifest -"
        );
    };
    let Place::Host(path, _) = server.place(&path) else {
        bail!("{path}, which has the API server's flags, is not on the node")
    };
    let text = tree.read(&path).with_context(|| format!("read {path}, which has the API server's flags"))?;
    let documents = yaml::documents(&text).map_err(|why| anyhow!("{path}: {why}"))?;
    let config = Server::read(&documents).map_err(|why| anyhow!("{path}: {why}"))?;
    server.flags.merge(config.flags);
    Ok(())
}

/// Every process that is an API server, and its command line.
fn processes(node: &Tree) -> Vec<(u32, Vec<String>)> {
    let names = node.list("/proc").unwrap_or_default();
    let pids = names.iter().filter_map(|name| name.parse::<u32>().ok()).take(PROCESSES_MAX);
    let mut found: Vec<(u32, Vec<String>)> = pids
        .filter_map(|pid| Some((pid, command(node, pid)?)))
        .filter(|(_, words)| is_server(words))
        .collect();
    found.sort_unstable_by_key(|(pid, _)| *pid);
    found
}

/// The words of a process' command line.
fn command(node: &Tree, pid: u32) -> Option<Vec<String>> {
    let text = node.read(&format!("/proc/{pid}/cmdline")).ok()?;
    let words = text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    Some(words.collect())
}

fn is_server(words: &[String]) -> bool {
    let name = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
    let first = words.first().map(name).unwrap_or_default();
    first == PROGRAM || (first == "hyperkube" && words.get(1).is_some_and(|word| word == PROGRAM))
}

/// A process without a description: its own view of the files is what counts.
fn of_process(node: &Tree, pid: u32) -> anyhow::Result<Found> {
    let words =
        command(node, pid).ok_or_else(|| anyhow!("there is no process {pid}, or it may not be looked at"))?;
    if !is_server(&words) {
        bail!("process {pid} is no {PROGRAM}");
    }
    let flags = Flags::read(words.iter().map(String::as_str));
    let mut server = Server::of_flags(Distribution::Other, flags);
    server.mounts = mounts(node, pid);
    let root = node.path().join(format!("proc/{pid}/root"));
    let tree = Tree::new(Some(&root)).with_context(|| format!("look into process {pid}; root may"))?;
    Ok(Found { server, from: format!("process {pid}"), tree: Some(tree) })
}

/// What is mounted where in the eyes of a process (proc_pid_mountinfo(5)); nothing where its root is the node's.
fn mounts(node: &Tree, pid: u32) -> Option<Vec<Mount>> {
    let text = node.read(&format!("/proc/{pid}/mountinfo")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut mounts = Vec::new();
    for line in text.lines() {
        let (mount, system) = line.split_once(" - ")?;
        let words: Vec<&str> = mount.split(' ').collect();
        let [_, _, _, root, inside, options, ..] = words[..] else { continue };
        if inside != "/" {
            let inside = unescaped(inside);
            mounts.push(Mount {
                read_only: options.split(',').any(|option| option == "ro"),
                backing: Backing::Host { path: inside.clone(), file: false },
                inside,
            });
        } else if root == "/" && !system.starts_with("overlay ") {
            // Neither a layer nor a part of a file system, as containers have it.
            return None;
        }
    }
    Some(mounts)
}

/// A path of mountinfo, in which blanks are octal.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// The running API server that belongs to what was found.
fn process(node: &Tree, found: &Found, asked: Option<u32>) -> Option<Process> {
    let all = processes(node);
    let path = found.server.flags.get("audit-log-path");
    let flags = |words: &[String]| Flags::read(words.iter().map(String::as_str));
    let like = |words: &[String]| flags(words).get("audit-log-path") == path;
    let (pid, words) = match asked {
        Some(pid) => all.iter().find(|(it, _)| *it == pid)?,
        // Several, where one is about to replace the other, or where nodes are containers.
        None => all.iter().find(|(_, words)| like(words)).or_else(|| all.first())?,
    };
    let running = flags(words);
    let differs =
        if running.config_file().is_some() { Vec::new() } else { differences(&found.server.flags, &running) };
    let path = normal(path.unwrap_or_default());
    let mounted = |line: &str| line.split(' ').nth(4).is_some_and(|inside| unescaped(inside) == path);
    let mounts = node.read(&format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    Some(Process {
        pid: *pid,
        others: all.iter().map(|(other, _)| *other).filter(|other| other != pid).collect(),
        differs,
        writes_deleted: !path.is_empty() && writes_deleted(node, *pid, &path),
        file_mount: !path.is_empty() && String::from_utf8_lossy(&mounts).lines().any(mounted),
    })
}

fn differences(told: &Flags, running: &Flags) -> Vec<String> {
    let mut names: Vec<&str> = told.audit().chain(running.audit()).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter(|name| told.get(name) != running.get(name)).map(printable).collect()
}

/// Whether the process has the log open under another name only, or under none.
fn writes_deleted(node: &Tree, pid: u32, path: &str) -> bool {
    let dir = format!("/proc/{pid}/fd");
    let open: Vec<String> =
        node.list(&dir).unwrap_or_default().iter().filter_map(|name| node.link(&dir, name).ok()).collect();
    let gone = format!("{path} (deleted)");
    // What logrotate makes of it: `audit.log.1`, `audit.log-20260102`.
    let moved = |target: &String| target.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '-']));
    !open.iter().any(|target| target == path) && open.iter().any(|target| *target == gone || moved(target))
}

fn policy(server: &Server, tree: &Tree) -> Option<Seen<Vec<u8>>> {
    let path = server.flags.get("audit-policy-file")?;
    let Place::Host(path, _) = server.place(path) else { return None };
    Some(seen(tree.read(&path)))
}

fn seen<T>(result: io::Result<T>) -> Seen<T> {
    match result {
        Ok(it) => Seen::Is(it),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::Missing,
        Err(error) => Seen::Refused(error.to_string()),
    }
}

/// The log and its directory.
fn log(server: &Server, tree: &Tree) -> Option<Log> {
    let path = server.flags.get("audit-log-path").filter(|path| path.starts_with('/'))?;
    let Place::Host(path, _) = server.place(path) else { return None };
    let mut log = Log {
        path,
        dir: Seen::Missing,
        file: Seen::Missing,
        system: None,
        backups: Vec::new(),
        logrotate: Vec::new(),
    };
    log.dir = seen(tree.stat(log.dir_path()));
    log.file = seen(tree.stat(&log.path).map(|stat| live(tree, &log.path, stat)));
    log.system = tree.system(log.dir_path()).ok();
    log.backups = backups(tree, &log);
    log.logrotate = logrotate(tree, &log.path);
    Some(log)
}

fn live(tree: &Tree, path: &str, stat: super::facts::Stat) -> Live {
    let opened = tree.file(path).and_then(|(mut file, bytes)| Ok((peek::content(&mut file, bytes)?, bytes)));
    match opened {
        Ok((content, bytes)) => Live { stat, bytes, content: Some(content), refused: None },
        Err(error) => Live { stat, bytes: 0, content: None, refused: Some(error.to_string()) },
    }
}

/// The backups beside the log; of very many, only the newest and the oldest are opened.
fn backups(tree: &Tree, log: &Log) -> Vec<Backup> {
    let (dir, base) = (log.dir_path(), log.path.rsplit('/').next().unwrap_or_default());
    // Their names hold the time, so the order of names is that of time.
    let names: Vec<String> = tree.list(dir).unwrap_or_default();
    let names: Vec<&String> = names.iter().filter(|name| auditship_tail::is_backup(base, name)).collect();
    let skip = names.len().saturating_sub(BACKUPS_MAX);
    let opened = |number: usize| number == 0 || number >= skip;
    let one = |(number, name): (usize, &&String)| {
        let (mut file, on_disk) = tree.file(&format!("{dir}/{name}")).ok()?;
        let known =
            if opened(number) { peek::backup(&mut file, on_disk, name.ends_with(".gz")).ok() } else { None };
        let (first, bytes) = known.unwrap_or((None, 0));
        Some(Backup { bytes, on_disk, first })
    };
    names.iter().enumerate().filter_map(one).collect()
}

/// The files of logrotate that name the log.
fn logrotate(tree: &Tree, path: &str) -> Vec<String> {
    let more = tree.list("/etc/logrotate.d").unwrap_or_default();
    let more = more.iter().map(|name| format!("/etc/logrotate.d/{name}"));
    let (dir, base) = path.rsplit_once('/').unwrap_or_default();
    let names_it = |word: &str| {
        let word = word.trim_matches(['"', '\'', '{']);
        word.rsplit_once('/').is_some_and(|(of, pattern)| of == dir && auditship_tail::glob(pattern, base))
    };
    let has = |file: &String| {
        let text = tree.read(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        lines.flat_map(str::split_whitespace).any(names_it)
    };
    ["/etc/logrotate.conf".to_owned()]
        .into_iter()
        .chain(more)
        .filter(has)
        .map(|file| printable(&file))
        .collect()
}
