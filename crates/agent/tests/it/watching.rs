//! What the chart asks of the metrics: every name and label in an alert, a panel or a runbook is one that the program exports.

use crate::chart::{chart, items, read, yaml};
use auditship_agent::metrics;
use auditship_agent::report::{Account, Amount, Behind, IndexAmount};
use auditship_agent::status::{Reload, Status};
use auditship_tail::catalogue::{Figures, InputFigures};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Labels that Prometheus adds, or that the chart's monitors set.
const SCRAPED: &[&str] = &["job", "instance", "namespace", "cluster"];

/// Every metric that the program can export, with its labels.
///
/// All figures are set, so that every metric has a sample; one that has none would make its labels unknown, and fails.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let some = || BTreeMap::from([("some".to_owned(), 1)]);
    let behind =
        Behind { oldest_unread_seconds: Some(1.0), loss_horizon_seconds: Some(1.0), ..Behind::default() };
    let account = Account {
        read: Amount { lines: 1, bytes: 1 },
        dropped: some(),
        thinned: some(),
        rolled_up: some(),
        skipped: some(),
        lost_bytes: some(),
        redactions: some(),
        allowed: some(),
        failed_closed: some(),
        indexes: BTreeMap::from([("audit".to_owned(), IndexAmount { records: 1, bytes: 1 })]),
        state: Some("ok".to_owned()),
        behind: Some(behind),
        ..Account::default()
    };
    let input = InputFigures {
        input: "apiserver".to_owned(),
        live: PathBuf::from("audit.log"),
        backups: 1,
        backup_bytes: 1,
        most_backups: 1,
        bytes_per_second: None,
        rotates_at: 1,
    };
    let status = Status::default();
    let now = Timestamp::UNIX_EPOCH;
    status.set("search", Account::default(), now);
    status.set("search", account, now);
    status.set_files(Figures { gaps: 1, inputs: vec![input], ..Figures::default() }, now);
    status.set_degraded("state", Some("why".to_owned()));
    status.count_reload(Reload { why: "signal", result: "done" });
    let text = metrics::text(&status);
    let mut names = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
        let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        names.entry(name.to_owned()).or_insert_with(BTreeSet::new).extend(labels);
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let sample = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(names.contains_key(&sample), "{name} has no sample: its labels are not known here");
    }
    assert!(names.len() > 40, "{names:?}");
    names
}

/// What a query asks for: metrics with the labels that are matched, and labels that are grouped by.
fn asked(query: &str) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut metrics, mut grouped) = (Vec::new(), Vec::new());
    for (at, _) in query.match_indices("auditship_") {
        if query[..at].ends_with(word) {
            continue;
        }
        let name: String = query[at..].chars().take_while(|c| word(*c)).collect();
        let mut labels = Vec::new();
        if let Some(matchers) = query[at + name.len()..].strip_prefix('{') {
            let mut rest = matchers;
            // label="value", value may hold anything but a quote.
            while let Some(end) = rest.find(['=', '!', '}']) {
                if rest[end..].starts_with('}') {
                    break;
                }
                labels.push(rest[..end].trim_matches([' ', ',']).to_owned());
                rest = rest[end..].split_once('"').unwrap().1.split_once('"').unwrap().1;
            }
        }
        metrics.push((name, labels));
    }
    for group in ["by (", "on ("] {
        for (at, _) in query.match_indices(group) {
            let inside = query[at + group.len()..].split_once(')').unwrap().0;
            grouped.extend(inside.split(',').map(|label| label.trim().to_owned()));
        }
    }
    (metrics, grouped)
}

/// What is wrong with a query, given what is exported.
fn faults(query: &str, exported: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let (metrics, grouped) = asked(query);
    let mut faults = Vec::new();
    let mut labels: BTreeSet<&str> = SCRAPED.iter().copied().collect();
    for (name, matched) in &metrics {
        let Some(of) = exported.get(name) else {
            faults.push(format!("there is no metric {name}"));
            continue;
        };
        labels.extend(of.iter().map(String::as_str));
        for label in matched {
            if !of.contains(label) && !SCRAPED.contains(&label.as_str()) {
                faults.push(format!("{name} has no label {label}"));
            }
        }
    }
    for label in grouped.iter().filter(|label| !labels.contains(label.as_str())) {
        faults.push(format!("no metric of this query has a label {label}"));
    }
    if metrics.is_empty() {
        faults.push("no metric of the program is asked for".to_owned());
    }
    faults
}

#[test]
fn a_wrong_name_or_label_is_seen() {
    let exported = exported();
    for (query, fault) in [
        ("max by (output) (auditship_lag_seconds{output=~\"a{1}\", job=\"b\"}) > 300", None),
        ("auditship_lag_second", Some("there is no metric auditship_lag_second")),
        ("auditship_dead_lettered_lines", Some("there is no metric auditship_dead_lettered_lines")),
        ("auditship_lag_seconds{outpt=\"a\"}", Some("auditship_lag_seconds has no label outpt")),
        ("sum by (rule) (auditship_lag_seconds)", Some("no metric of this query has a label rule")),
        ("up == 0", Some("no metric of the program is asked for")),
    ] {
        assert_eq!(faults(query, &exported), fault.into_iter().collect::<Vec<_>>(), "{query}");
    }
}

/// The rules of the alerts.
fn alerts() -> Vec<Value> {
    let alerts = yaml("files/alerts.yaml");
    items(&alerts["groups"]).iter().flat_map(|group| items(&group["rules"])).cloned().collect()
}

fn runbooks() -> BTreeMap<String, String> {
    let folder = chart().join("../../docs/runbooks");
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

#[test]
fn every_alert_asks_for_what_is_exported_and_has_a_runbook() {
    let (exported, mut pages) = (exported(), runbooks());
    let index = pages.remove("README.md").unwrap();
    let mut used = BTreeSet::new();
    for rule in alerts() {
        let name = rule["alert"].as_str().unwrap();
        assert_eq!(faults(rule["expr"].as_str().unwrap(), &exported), Vec::<String>::new(), "{name}");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        for words in ["summary", "description"] {
            assert!(rule["annotations"][words].as_str().is_some_and(|it| it.len() > 20), "{name}: {words}");
        }
        let url = rule["annotations"]["runbook_url"].as_str().unwrap();
        let file = url.rsplit('/').next().unwrap();
        let page = pages.get(file).unwrap_or_else(|| panic!("{name}: there is no page docs/runbooks/{file}"));
        assert!(page.lines().next().unwrap().contains(name), "docs/runbooks/{file} is not titled {name}");
        for part in ["## What happened", "## How to see it", "## What to do"] {
            assert!(page.contains(part), "docs/runbooks/{file} does not say: {part}");
        }
        assert!(index.contains(name) && index.contains(&format!("({file})")), "{name} is not in the index");
        used.insert(file.to_owned());
    }
    assert_eq!(used, pages.into_keys().collect(), "pages of no alert");
}

#[test]
fn runbooks_ask_for_what_is_exported() {
    let exported = exported();
    for (file, page) in runbooks() {
        for block in page.split("```promql\n").skip(1) {
            for query in block.split("```").next().unwrap().lines().filter(|line| line.contains("auditship_"))
            {
                assert_eq!(faults(query, &exported), Vec::<String>::new(), "docs/runbooks/{file}: {query}");
            }
        }
    }
}

#[test]
fn the_dashboard_is_whole_and_asks_for_what_is_exported() {
    let exported = exported();
    let dashboard: Value = serde_json::from_str(&read("files/dashboard.json")).unwrap();
    let variables: BTreeSet<&str> =
        items(&dashboard["templating"]["list"]).iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(variables, BTreeSet::from(["datasource", "instance", "job", "output"]));
    let panels = items(&dashboard["panels"]);
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let mut asked_for = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another panel's");
        let place = |word: &str| panel["gridPos"][word].as_u64().unwrap();
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(place("x") + x < 24, "{title} is wider than the page");
            assert!(taken.insert((place("x") + x, place("y") + y)), "{title} lies over another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|it| !it.is_empty()), "{title} is not described");
        assert!(!items(&panel["targets"]).is_empty(), "{title} asks for nothing");
        for target in items(&panel["targets"]) {
            let query = target["expr"].as_str().unwrap();
            assert_eq!(faults(query, &exported), Vec::<String>::new(), "{title}: {query}");
            let (metrics, grouped) = asked(query);
            asked_for.extend(metrics.into_iter().map(|(name, _)| name));
            // {{label}} in a legend is empty where the query does not keep it.
            for label in target["legendFormat"].as_str().unwrap_or_default().split("{{").skip(1) {
                let label = label.split("}}").next().unwrap();
                assert!(
                    grouped.iter().any(|it| it == label),
                    "{title}: the legend's {label} is not kept by {query}"
                );
            }
        }
    }
    for variable in items(&dashboard["templating"]["list"]).iter().filter(|it| it["type"] == "query") {
        let query = variable["definition"].as_str().unwrap().trim_start_matches("label_values(");
        let (metric, label) = query.trim_end_matches(')').rsplit_once(", ").unwrap();
        assert_eq!(faults(metric, &exported), Vec::<String>::new(), "{query}");
        let name = metric.split('{').next().unwrap();
        assert!(SCRAPED.contains(&label) || exported[name].contains(label), "{query}");
    }
    // What nobody looks at is either on purpose, and here, or forgotten.
    let unseen: Vec<&String> = exported.keys().filter(|name| !asked_for.contains(*name)).collect();
    let on_purpose = [
        "auditship_batch_bytes",
        "auditship_descriptors",
        "auditship_gaps_total",
        "auditship_held_files",
        "auditship_lag_files",
        "auditship_oldest_unread_seconds",
        "auditship_reloads_total",
        "auditship_scans_total",
        "auditship_state_syncs_total",
    ];
    assert_eq!(unseen, on_purpose);
}
