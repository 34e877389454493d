//! The agent's Pod as it is rendered, without Kubernetes: its mounts, read-only where they are, a root that cannot be written, uid 0
//! without any capability, its arguments. A namespace of the kernel stands for the container runtime.
//!
//! What is shown: the check works with the configuration alone, refuses a bad one, and the agent follows a root-owned 0600 log
//! through a rotation from a directory that it cannot write, with its state elsewhere.

use super::{chart, documents, read};
use crate::backends::tools;
use crate::corpus;
use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The golden file whose Pod is run: its only output is a directory.
const GOLDEN: &str = "tests/golden/archive.yaml";

/// Lines before the rotation, and after it.
const LINES: (usize, usize) = (400, 300);

/// Nothing takes this long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the Pod's containers; or says why that cannot be done on this machine.
pub(super) fn run(agent: &Path) -> Result<Result<(), String>> {
    for program in ["unshare", "setpriv", "ldd"] {
        if let Err(reason) = tools::done(Command::new(program).arg("--version"))? {
            return Ok(Err(reason));
        }
    }
    if let Err(reason) = tools::done(Command::new("unshare").args(["-rmn", "true"]))? {
        return Ok(Err(format!("no namespaces: {reason}")));
    }
    let work = tempfile::tempdir().context("make a folder")?;
    let pod = Pod::read(work.path())?;
    check(&pod, agent)?;
    follow(&pod, agent)?;
    Ok(Ok(()))
}

/// The init container, with the configuration as it is and with one that is wrong.
fn check(pod: &Pod, agent: &Path) -> Result<()> {
    let container = pod.container("initContainers", "check")?;
    let good = pod.output(container, agent)?;
    let told = String::from_utf8_lossy(&good.stdout).into_owned();
    ensure!(good.status.success() && told.starts_with("ok: 1 input, 1 output"), "check: {good:?}");
    let config = pod.work.join("objects/config/config.yaml");
    let text = fs::read_to_string(&config).context("read the configuration")?;
    fs::write(&config, text.replace("type: dir", "type: dri")).context("write a wrong configuration")?;
    let bad = pod.output(container, agent)?;
    let told = String::from_utf8_lossy(&bad.stderr).into_owned();
    ensure!(bad.status.code() == Some(64) && told.contains("did you mean `dir`?"), "check took it: {bad:?}");
    fs::write(&config, text).context("write the configuration")?;
    println!("check: takes the configuration with nothing else mounted, and refuses a wrong one");
    Ok(())
}

/// The agent, until everything that was logged is in the archive.
fn follow(pod: &Pod, agent: &Path) -> Result<()> {
    let audit = pod.host("/var/log/kubernetes/audit");
    let archive = pod.host("/srv/auditship-archive");
    let lines = lines()?;
    let (before, after) = lines.split_at(LINES.0);
    write_log(&audit.join("audit.log"), before)?;
    let mut running = pod.start(pod.container("containers", "auditship")?, agent)?;
    running.wait("the lines before the rotation", || Ok(archived(&archive)? == before.len()))?;
    running.is_powerless()?;
    fs::rename(audit.join("audit.log"), audit.join("audit-2026-11-24T02-30-59.123.log")).context("rotate")?;
    write_log(&audit.join("audit.log"), after)?;
    running.wait("the lines after the rotation", || Ok(archived(&archive)? == lines.len()))?;
    running.stop()?;
    let names = |folder: &Path| -> Result<BTreeSet<String>> {
        let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let left = names(&audit)?;
    ensure!(left.len() == 2, "the audit directory has changed: {left:?}");
    let state = names(&pod.host("/var/lib/auditship"))?;
    ensure!(state.contains("lock"), "the state is not where it should be: {state:?}");
    println!(
        "run: {} lines of a 0600 log through a rotation, from a read-only directory, without a capability",
        lines.len()
    );
    Ok(())
}

/// Real lines.
fn lines() -> Result<Vec<String>> {
    let [log, ..] = &corpus::default_paths()[..] else { bail!("there is no log") };
    let file = fs::File::open(log).with_context(|| format!("open {}", log.display()))?;
    let mut text = String::new();
    MultiGzDecoder::new(file).read_to_string(&mut text).context("read the log")?;
    let lines: Vec<String> = text.lines().take(LINES.0 + LINES.1).map(str::to_owned).collect();
    ensure!(lines.len() == LINES.0 + LINES.1, "only {} lines", lines.len());
    Ok(lines)
}

/// As the API server makes it: for its owner alone.
fn write_log(path: &Path, lines: &[String]) -> Result<()> {
    fs::write(path, lines.join("\n") + "\n").with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context("make the log private")
}

/// How many records are in the archive's files.
fn archived(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list the archive")?.path();
        if path.is_dir() {
            count += archived(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "zst") {
            let packed = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let text = zstd::stream::decode_all(&packed[..]).context("unpack the archive")?;
            count += text.iter().filter(|byte| **byte == b'\n').count();
        }
    }
    Ok(count)
}

/// The rendered Pod, and folders that stand for the node and for what is in the cluster.
struct Pod {
    spec: Value,
    work: PathBuf,
}

impl Pod {
    fn read(work: &Path) -> Result<Pod> {
        let objects = documents(&read(&chart().join(GOLDEN))?)?;
        let find = |kind: &str, name: Option<&Value>| {
            objects
                .iter()
                .find(|it| it["kind"] == kind && name.is_none_or(|name| it["metadata"]["name"] == *name))
                .with_context(|| format!("{GOLDEN} has no {kind}"))
        };
        let spec = find("DaemonSet", None)?["spec"]["template"]["spec"].clone();
        let pod = Pod { spec, work: work.to_owned() };
        for volume in list(&pod.spec["volumes"]) {
            let folder = pod.source(volume)?;
            fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
            if let Value::String(_) = &volume["configMap"]["name"] {
                let object = find("ConfigMap", Some(&volume["configMap"]["name"]))?;
                for (name, text) in object["data"].as_object().into_iter().flatten() {
                    fs::write(folder.join(name), word(text)?).context("write a configuration")?;
                }
            } else if !volume["secret"].is_null() {
                let name = word(&volume["secret"]["items"][0]["path"])?;
                fs::write(folder.join(name), [7; 32]).context("write a key")?;
            }
        }
        Ok(pod)
    }

    /// A folder of the node.
    fn host(&self, path: &str) -> PathBuf {
        self.work.join("host").join(path.trim_start_matches('/'))
    }

    /// What a volume has.
    fn source(&self, volume: &Value) -> Result<PathBuf> {
        Ok(match volume["hostPath"]["path"].as_str() {
            Some(path) => self.host(path),
            None => self.work.join("objects").join(word(&volume["name"])?),
        })
    }

    fn container(&self, list_of: &str, name: &str) -> Result<&Value> {
        let found = list(&self.spec[list_of]).iter().find(|container| container["name"] == name);
        found.with_context(|| format!("{GOLDEN} has no container {name}"))
    }

    /// Runs a container to its end.
    fn output(&self, container: &Value, agent: &Path) -> Result<Output> {
        self.command(container, agent)?.output().context("start a container")
    }

    fn start(&self, container: &Value, agent: &Path) -> Result<Running> {
        let log = self.work.join("log");
        let out = fs::File::create(&log).context("make the log")?;
        let child = self.command(container, agent)?.stderr(out).spawn().context("start a container")?;
        Ok(Running { child, log })
    }

    /// Makes the root of a container and the command that runs it.
    fn command(&self, container: &Value, agent: &Path) -> Result<Command> {
        let root = self.work.join(format!("root-{}", word(&container["name"])?));
        let setpriv = PathBuf::from(tools_path("setpriv")?);
        for (program, to) in [(agent, "bin/auditship"), (&setpriv, "bin/setpriv")] {
            copy(program, &root.join(to))?;
            for library in libraries(program)? {
                copy(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
            }
        }
        let context = &container["securityContext"];
        ensure!(context["runAsUser"] == 0 && context["readOnlyRootFilesystem"] == true, "another container");
        let root = root.display().to_string();
        let mut script = format!("set -e\nmount --bind '{root}' '{root}'\n");
        for (what, read_only) in [("/proc", false), ("/dev", false)] {
            mount(&mut script, what, &format!("{root}{what}"), read_only, "--rbind")?;
        }
        for mounted in list(&container["volumeMounts"]) {
            let volume = list(&self.spec["volumes"]).iter().find(|volume| volume["name"] == mounted["name"]);
            let source = self.source(volume.with_context(|| format!("{mounted} has no volume"))?)?;
            let target = format!("{root}{}", word(&mounted["mountPath"])?);
            mount(
                &mut script,
                &source.display().to_string(),
                &target,
                mounted["readOnly"] == true,
                "--bind",
            )?;
        }
        script += &format!("mount -o remount,bind,ro '{root}'\n");
        script += &format!(
            "exec chroot '{root}' /bin/setpriv --no-new-privs --bounding-set=-all --inh-caps=-all /bin/auditship \"$@\"\n"
        );
        let mut command = Command::new("unshare");
        // A network of its own, with nothing in it: no port of this machine is taken.
        command.args(["--map-root-user", "--mount", "--net", "sh", "-c", &script, "sh"]);
        for argument in list(&container["args"]) {
            command.arg(word(argument)?);
        }
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("NODE_NAME", "cp-1");
        command.stdin(Stdio::null());
        Ok(command)
    }
}

/// One line of the script that makes the mounts; the target is made before.
fn mount(script: &mut String, source: &str, target: &str, read_only: bool, how: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("make {target}"))?;
    *script += &format!("mount {how} '{source}' '{target}'\n");
    if read_only {
        *script += &format!("mount -o remount,bind,ro '{target}'\n");
    }
    Ok(())
}

/// The agent, killed when dropped.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn wait(&mut self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !done()? {
            let ended = self.child.try_wait().context("look after the agent")?;
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            ensure!(ended.is_none(), "the agent has ended by itself:\n{}", log());
            ensure!(start.elapsed() < PATIENCE, "still without {what}:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// By what the kernel says of the process.
    fn is_powerless(&self) -> Result<()> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
            ensure!(status.lines().any(|it| it == line), "not {line}:\n{status}");
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("end the agent")?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().context("wait for the agent")? {
                ensure!(status.success(), "the agent ended with {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the agent does not end")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn word(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !to.exists() {
        let folder = to.parent().context("a file without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

/// Where a program of this machine is.
fn tools_path(name: &str) -> Result<String> {
    let output =
        Command::new("sh").args(["-c", &format!("command -v {name}")]).output().context("start sh")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The shared libraries of a program, if it has any.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}
