//! `cargo xtask chart`: the Helm chart through the tools of its world: helm, kubeconform, promtool.
//!
//! What needs no tool is in `crates/agent/tests/it/chart.rs`, and part of `cargo xtask test`: it reads the golden files that are
//! written here. A tool that cannot be had on this machine is skipped, with the reason.

mod alerts;
mod pod;
mod render;
mod schemas;

use crate::backends::tools;
use crate::repo;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Helm, by its Go package, which takes some minutes to build.
const HELM: (&str, &str) = ("helm.sh/helm/v4/cmd/helm", "v4.3.1");
const KUBECONFORM: (&str, &str) = ("github.com/yannh/kubeconform/cmd/kubeconform", "v0.8.0");
/// Prometheus' v3.16, in the numbering of Go modules; asked for where neither PATH nor Debian has a promtool.
const PROMTOOL: (&str, &str) = ("github.com/prometheus/prometheus/cmd/promtool", "v0.316.0");

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the golden files anew instead of comparing with them; read the diff.
    #[arg(long)]
    update: bool,
    /// The agent to run in the Pod, instead of a release build of this tree.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Runs every check; fails at the end if one has failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut failed = Vec::new();
    let mut check = |name: &'static str, result: Result<()>| {
        if let Err(error) = result {
            println!("== {name}: failed: {error:#}");
            failed.push(name);
        }
    };
    println!("== helm");
    match tools::go_install(HELM.0, HELM.1)? {
        Err(reason) => println!("skipped: helm: {reason}"),
        Ok(helm) => {
            check("helm lint", render::lint(&helm));
            check("helm template", render::golden(&helm, args.update));
            check("helm template, refused", render::refusals(&helm));
        }
    }
    println!("== kubeconform");
    match (tools::go_install(KUBECONFORM.0, KUBECONFORM.1)?, schemas::folder()?) {
        (Err(reason), _) => println!("skipped: kubeconform: {reason}"),
        (_, Err(reason)) => println!("skipped: the schemas of Kubernetes: {reason}"),
        (Ok(kubeconform), Ok(schemas)) => check("kubeconform", schemas::check(&kubeconform, &schemas)),
    }
    println!("== promtool");
    match promtool()? {
        Err(reason) => println!("skipped: promtool: {reason}"),
        Ok(promtool) => {
            check("promtool, alerts", alerts::check(&promtool));
            check("promtool, dashboard", alerts::dashboard(&promtool));
        }
    }
    println!("== the Pod");
    match repo::agent(args.binary.as_deref()).and_then(|agent| pod::run(&agent)) {
        Ok(Err(reason)) => println!("skipped: the Pod: {reason}"),
        ran => check("the Pod", ran.map(drop)),
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// The chart.
fn chart() -> PathBuf {
    repo::root().join("charts/auditship")
}

/// A file of the chart as text.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// A YAML file of one document.
fn yaml(path: &Path) -> Result<Value> {
    serde_saphyr::from_str(&read(path)?).with_context(|| format!("understand {}", path.display()))
}

/// The documents of a stream of YAML.
fn documents(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("understand YAML")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The files in a folder of the chart with an extension, sorted.
fn files(folder: &str, extension: &str) -> Result<Vec<PathBuf>> {
    let folder = chart().join(folder);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.context("list files")?.path();
        if path.extension().is_some_and(|it| it == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The name of a file without its extension.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The promtool of this machine, else that of Debian's package, unpacked and not installed, else built.
fn promtool() -> Result<Result<PathBuf, String>> {
    let on_path = PathBuf::from("promtool");
    if tools::done(std::process::Command::new(&on_path).arg("--version"))?.is_ok() {
        return Ok(Ok(on_path));
    }
    let folder = tools::cache()?.join("prometheus-debian");
    let unpacked = folder.join("usr/bin/promtool");
    if unpacked.is_file() {
        return Ok(Ok(unpacked));
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let shell = "apt-get download prometheus && dpkg -x prometheus_*.deb .";
    let mut unpack = std::process::Command::new("sh");
    unpack.args(["-c", shell]).current_dir(&folder);
    match tools::done(&mut unpack)? {
        Ok(()) if unpacked.is_file() => Ok(Ok(unpacked)),
        _ => tools::go_install(PROMTOOL.0, PROMTOOL.1),
    }
}
