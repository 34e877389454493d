//! The alerts and the dashboard through promtool: are they PromQL, and does each alert fire when it should and only then.

use super::{chart, read, yaml};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

/// `promtool check rules` and `promtool test rules`.
pub(super) fn check(promtool: &Path) -> Result<()> {
    let (alerts, tests) = (chart().join("files/alerts.yaml"), chart().join("tests/alerts_test.yaml"));
    run(Command::new(promtool).args(["check", "rules"]).arg(&alerts))?;
    run(Command::new(promtool).args(["test", "rules"]).arg(&tests))?;
    let silent_and_firing = tested(&yaml(&alerts)?, &yaml(&tests)?)?;
    println!("{silent_and_firing} alerts, each silent and firing");
    Ok(())
}

/// How many alerts there are; fails where one has no case in which it is silent, or none in which it fires.
fn tested(alerts: &Value, tests: &Value) -> Result<usize> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let names: Vec<String> = list(&alerts["groups"])
        .iter()
        .flat_map(|group| list(&group["rules"]))
        .map(|rule| rule["alert"].as_str().unwrap_or_default().to_owned())
        .collect();
    let cases: Vec<Value> =
        list(&tests["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"])).collect();
    for name in &names {
        for (silent, word) in [(true, "is silent"), (false, "fires")] {
            let found = cases
                .iter()
                .any(|case| case["alertname"] == **name && list(&case["exp_alerts"]).is_empty() == silent);
            ensure!(found, "{name} has no case in which it {word}");
        }
    }
    Ok(names.len())
}

/// Every query of the dashboard as a rule, with Grafana's variables replaced.
pub(super) fn dashboard(promtool: &Path) -> Result<()> {
    let text = read(&chart().join("files/dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&text).context("understand dashboard.json")?;
    let mut rules = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().context("a target without a query")?;
            let query = query.replace("$__rate_interval", "5m").replace('$', "");
            rules.push(json!({"record": format!("panel:{}", rules.len()), "expr": query}));
        }
    }
    ensure!(!rules.is_empty(), "the dashboard has no queries");
    let work = tempfile::tempdir().context("make a folder")?;
    let path = work.path().join("dashboard.yaml");
    // JSON is YAML.
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(&path, groups.to_string()).context("write rules")?;
    run(Command::new(promtool).args(["check", "rules"]).arg(&path))?;
    println!("{} queries of the dashboard are PromQL", rules.len());
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("start promtool")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Ok(())
}
