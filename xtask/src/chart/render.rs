//! What helm makes of the chart: compared with golden files, and what it refuses, with the sentence that says why.
//!
//! `tests/values/MODE.yaml` are the values of every preset in that mode; `tests/values/case-NAME.yaml` are cases of their own, and
//! so are the values in `examples/`.

use super::{chart, documents, files, read, stem, yaml};
use crate::repo;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MODES: &[&str] = &["daemonset", "static-pod", "sidecar"];

/// Kubernetes' version as the chart sees it: rendering depends on nothing else of the world.
const KUBERNETES: &str = "1.36.3";

/// One rendering.
struct Case {
    /// The golden file's.
    name: String,
    values: PathBuf,
    set: Vec<String>,
    /// Why it is refused, where it is.
    refused: Option<String>,
}

/// Every preset in every mode, and the cases of their own.
fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for preset in files("presets", "yaml")? {
        let name = stem(&preset);
        let facts = yaml(&preset)?;
        for mode in MODES {
            let why = facts["noSidecar"].as_str().filter(|_| *mode == "sidecar");
            let mut set = vec![format!("preset={name}"), format!("mode={mode}")];
            if name == "custom" {
                set.push("audit.logs.apiserver.path=/srv/audit/audit.log".to_owned());
            }
            let values = chart().join(format!("tests/values/{mode}.yaml"));
            cases.push(Case { name: format!("{name}-{mode}"), values, set, refused: why.map(str::to_owned) });
        }
    }
    for values in files("tests/values", "yaml")? {
        if let Some(name) = stem(&values).strip_prefix("case-") {
            cases.push(Case { name: name.to_owned(), values, set: Vec::new(), refused: None });
        }
    }
    for folder in std::fs::read_dir(repo::root().join("examples")).context("list the examples")? {
        let folder = folder.context("list the examples")?.path();
        let (name, values) = (format!("example-{}", stem(&folder)), folder.join("values.yaml"));
        if values.is_file() {
            cases.push(Case { name, values, set: Vec::new(), refused: None });
        }
    }
    Ok(cases)
}

/// `helm lint --strict`: with nothing set, and with the values of every case that is not refused.
pub(super) fn lint(helm: &Path) -> Result<()> {
    let lint = |values: Option<&Case>| {
        let mut command = Command::new(helm);
        command.args(["lint", "--strict", "--quiet"]).arg(chart()).stdin(Stdio::null());
        if let Some(case) = values {
            command.arg("--values").arg(&case.values);
            command.args(case.set.iter().flat_map(|set| ["--set", set]));
        }
        let output = command.output().context("start helm lint")?;
        let name = values.map_or("no values", |case| &case.name);
        ensure!(output.status.success(), "{name}:\n{}", String::from_utf8_lossy(&output.stdout));
        Ok(())
    };
    lint(None)?;
    let cases = cases()?;
    let good: Vec<&Case> = cases.iter().filter(|case| case.refused.is_none()).collect();
    for case in &good {
        lint(Some(case))?;
    }
    println!("lint: {} sets of values", good.len() + 1);
    Ok(())
}

/// Renders every case and compares with its golden file, or writes it.
pub(super) fn golden(helm: &Path, update: bool) -> Result<()> {
    let (mut same, mut refused, mut written, mut different) = (0, 0, 0, Vec::new());
    let mut known = Vec::new();
    for case in cases()? {
        let rendered = template(helm, &case.values, &case.set)?;
        if let Some(why) = &case.refused {
            let told = rendered.err().with_context(|| format!("{}: is not refused", case.name))?;
            ensure!(told.contains(why.as_str()), "{}: refused without saying why: {told}", case.name);
            refused += 1;
            continue;
        }
        let text = rendered.map_err(|told| anyhow::anyhow!("{}: {told}", case.name))?;
        let path = chart().join(format!("tests/golden/{}.yaml", case.name));
        known.push(path.clone());
        if std::fs::read_to_string(&path).is_ok_and(|golden| golden == text) {
            same += 1;
        } else if update {
            std::fs::create_dir_all(chart().join("tests/golden"))
                .context("make the folder of golden files")?;
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            written += 1;
        } else {
            different.push(case.name);
        }
    }
    for path in files("tests/golden", "yaml")? {
        if known.contains(&path) {
            continue;
        }
        ensure!(update, "{} belongs to no case: --update removes it", path.display());
        std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    dashboard(helm)?;
    println!(
        "template: {same} as their golden files, {refused} refused as they should be, {written} written"
    );
    ensure!(
        different.is_empty(),
        "not as their golden files, see `cargo xtask chart --update` and the diff: {}",
        different.join(", ")
    );
    Ok(())
}

/// The dashboard is in no golden file, for its length: what is rendered must be the file.
fn dashboard(helm: &Path) -> Result<()> {
    let set = ["dashboard.enabled=true".to_owned()];
    let text = template(helm, &chart().join("tests/values/case-least.yaml"), &set)?;
    let objects = documents(&text.map_err(|told| anyhow::anyhow!("{told}"))?)?;
    let rendered = objects.iter().find_map(|object| object["data"]["auditship.json"].as_str());
    let rendered = rendered.context("there is no dashboard")?;
    ensure!(
        rendered.trim_end() == read(&chart().join("files/dashboard.json"))?.trim_end(),
        "another dashboard"
    );
    Ok(())
}

/// `tests/refused.yaml`: values that must be refused, each with a part of the sentence that says so.
///
/// They are laid over `tests/values/MODE.yaml`, or stand alone where `alone` is true.
pub(super) fn refusals(helm: &Path) -> Result<()> {
    let list = yaml(&chart().join("tests/refused.yaml"))?;
    let list = list.as_array().context("tests/refused.yaml is no list")?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let mut wrong = Vec::new();
    for item in list {
        let says = item["says"].as_str().context("an item without `says`")?;
        let mode = item["values"]["mode"].as_str().unwrap_or("daemonset");
        let base = if item["alone"] == Value::Bool(true) {
            chart().join("values.yaml")
        } else {
            chart().join(format!("tests/values/{mode}.yaml"))
        };
        let over = folder.path().join("over.yaml");
        // JSON is YAML.
        std::fs::write(&over, item["values"].to_string()).context("write values")?;
        let more = ["--values".to_owned(), over.display().to_string()];
        match run(helm, &base, &more)? {
            Ok(_) => wrong.push(format!("not refused: {says}")),
            Err(told) if !told.contains(says) => {
                wrong.push(format!("expected: {says}\n     told: {}", told.trim()));
            }
            Err(_) => {}
        }
    }
    println!("template: {} sets of wrong values refused", list.len() - wrong.len());
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

/// What helm renders, or what it says instead.
fn template(helm: &Path, values: &Path, set: &[String]) -> Result<Result<String, String>> {
    let more: Vec<String> = set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]).collect();
    run(helm, values, &more)
}

fn run(helm: &Path, values: &Path, more: &[String]) -> Result<Result<String, String>> {
    let mut command = Command::new(helm);
    command
        .args(["template", "auditship"])
        .arg(chart())
        .args(["--namespace", "auditship", "--kube-version", KUBERNETES, "--values"])
        .arg(values)
        .args(more)
        .stdin(Stdio::null());
    let output = command.output().with_context(|| format!("start {}", repo::name(&command)))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

/// Golden files with what is in them.
pub(super) fn golden_files() -> Result<Vec<(String, String)>> {
    let paths = files("tests/golden", "yaml")?;
    paths.iter().map(|path| Ok((stem(path), read(path)?))).collect()
}
