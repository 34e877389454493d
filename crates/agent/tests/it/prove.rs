//! `redact --prove`: what the catalogue still lets through, as a list that may only shrink; and that the proof is
//! about the configuration that it is given.

use crate::support::{Place, Ran, auditship, run};
use auditship_agent::prove::plant;
use auditship_agent::prove::table::Takes;
use serde_json::Value;
use std::collections::BTreeSet;

/// Secrets are made up, but the same in every run of these tests.
const SEED: u64 = 1;

/// Leaks that are known: kinds, encodings and places, each as words. `*` is all that are tried, `open` all places that
/// are not for secrets, `x-*` all that begin so; `-x` takes one out again.
struct Known {
    kinds: &'static str,
    encodings: &'static str,
    places: &'static str,
    why: &'static str,
}

const fn known(
    kinds: &'static str,
    encodings: &'static str,
    places: &'static str,
    why: &'static str,
) -> Known {
    Known { kinds, encodings, places, why }
}

const WORDS: &str = "in running text nothing tells where a value with spaces or symbols ends";
const TOLD: &str = "nothing tells what it is: lower-case letters and digits, as identifiers have them";

/// All that leaks with the built-in catalogue. A rule that mends something makes this test fail: take the row out.
const KNOWN: &[Known] = &[
    known("api-key datadog-key", "plain", "proxy-path response-invalid-value", TOLD),
    known("passphrase", "plain", "proxy-path", TOLD),
    known("passphrase password-with-symbols", "plain", "response-invalid-value", TOLD),
    known(
        "passphrase password-with-symbols",
        "plain escaped",
        "event-message response-message user-agent",
        WORDS,
    ),
    known(
        "password-with-symbols",
        "plain escaped",
        "command-shell",
        "an escaped quote inside of a shell's quotes ends the value",
    ),
    known(
        "password-with-symbols",
        "plain",
        "exec-command",
        "a quote and a space inside of a word of a command line end the value",
    ),
];

type Name = (&'static str, &'static str, &'static str);

fn word_matches(words: &str, name: &str, open: bool) -> bool {
    let is = |word: &str| {
        word == "*"
            || word == name
            || (word == "open" && open)
            || word.strip_suffix('*').is_some_and(|begin| name.starts_with(begin))
    };
    words.split(' ').any(is) && !words.split(' ').any(|word| word.strip_prefix('-') == Some(name))
}

fn prove(args: &[&str]) -> Ran {
    run(auditship().args(["redact", "--prove", "--seed", &SEED.to_string()]).args(args), b"")
}

fn leaks(ran: &Ran) -> BTreeSet<(String, String, String)> {
    let value: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    let text = |leak: &Value, member: &str| leak[member].as_str().unwrap().to_owned();
    let all = value["leaks"].as_array().unwrap().iter();
    all.map(|leak| (text(leak, "kind"), text(leak, "place"), text(leak, "encoding"))).collect()
}

#[test]
fn what_the_catalogue_still_lets_through() {
    let ran = prove(&["--json"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let found = leaks(&ran);
    let cases = plant::cases(SEED);
    let mut explained: BTreeSet<Name> = BTreeSet::new();
    let mut wrong = Vec::new();
    for row in KNOWN {
        let chosen = cases.iter().filter(|case| {
            let open = !matches!(case.place.takes, Takes::Secrets | Takes::Tokens);
            word_matches(row.kinds, case.kind.name, open)
                && word_matches(row.encodings, case.encoding.name(), open)
                && word_matches(row.places, case.place.name, open)
        });
        let mut met = 0;
        for case in chosen {
            let (kind, place, encoding) = (case.kind.name, case.place.name, case.encoding.name());
            if found.contains(&(kind.to_owned(), place.to_owned(), encoding.to_owned())) {
                met += 1;
                explained.insert((kind, place, encoding));
            } else {
                wrong.push(format!("mended: {kind} at {place} in {encoding} (known because: {})", row.why));
            }
        }
        if met == 0 {
            wrong.push(format!("a row that finds nothing: {}, {}, {}", row.kinds, row.encodings, row.places));
        }
    }
    for (kind, place, encoding) in &found {
        if !explained.contains(&(kind.as_str(), place.as_str(), encoding.as_str())) {
            wrong.push(format!("new: {kind} at {place} in {encoding}"));
        }
    }
    assert!(wrong.is_empty(), "the list of known leaks is not right:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_names_them_and_the_seed() {
    let ran = prove(&[]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.starts_with("seed 1; events by output: output "), "{}", ran.out);
    let row = |words: &[&str]| ran.out.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(row(&["kind", "encoding", "place", "output"]), "{}", ran.out);
    assert!(row(&["passphrase", "plain", "proxy-path"]), "{}", ran.out);
    let last = ran.out.lines().last().unwrap();
    assert!(last.contains(" canaries in ") && last.ends_with(" leak") && ran.err.contains(last), "{ran:?}");
}

#[test]
fn without_the_catalogue_everything_leaks() {
    let place = Place::new();
    place.configure("search: {type: elasticsearch, endpoint: URL}", "redact: {catalogue: none}");
    let config = place.path("config.yaml");
    let ran = prove(&["--config", config.to_str().unwrap()]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let cases = plant::cases(SEED);
    // A line that breaks off leaves without its bodies, whatever the catalogue.
    let whole = cases.iter().filter(|case| case.place.name != "torn-line").count();
    let summary = ran.out.lines().last().unwrap().strip_suffix(" leak").unwrap();
    let count: usize = summary.rsplit(' ').next().unwrap().replace(',', "").parse().unwrap();
    assert_eq!(count, whole);
    for kind in ["password", "jwt", "helm-release", "opaque", "kubeconfig"] {
        let row = |line: &str| line.starts_with(&format!("{kind} ")) && line.trim_end().ends_with("search");
        assert!(ran.out.lines().any(row), "{kind}: {}", ran.out);
    }
    assert!(
        ran.out.lines().any(|line| line.starts_with("jwt ") && line.contains("everywhere")),
        "{}",
        ran.out
    );
    assert_eq!(place.left(), b"", "nothing is sent");
}

/// A configuration of one route, with `routes` and `more` as they are.
fn configured(routes: &str, more: &str) -> (i32, Value) {
    let place = Place::new();
    let text = format!(
        "state_dir: DIR/state\nroutes:\n{routes}\noutputs:\n  search: {{type: stdout}}\n  archive: {{type: dir, path: DIR/a}}\n{more}\n"
    );
    let config = place.write("c.yaml", text.replace("DIR", &place.path("").to_string_lossy()));
    let ran = prove(&["--json", "--config", config.to_str().unwrap()]);
    assert!(!place.path("a").exists() && !place.path("state").exists(), "the proof only looks");
    (ran.code, serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}")))
}

#[test]
fn what_goes_nowhere_does_not_leak() {
    let metadata = "  - {name: m, index: i, outputs: [search, archive], match: {levels: [Metadata]}}";
    let (code, value) = configured(metadata, "");
    // Lines that cannot be read leave as stubs, and those hold nothing.
    assert_eq!((code, &value["leaks"]), (0, &Value::Array(Vec::new())));
    assert!(value["shipped"].as_u64().unwrap() < 100, "{value}");
}

#[test]
fn each_output_gets_what_its_filter_and_routes_give_it() {
    let routes = "  - {name: a, index: i, outputs: [archive], continue: true}\n  \
                  - {name: s, index: i, outputs: [search], keep: 1%, match: {verbs: [create, update, patch]}}";
    let drop = "redact: {catalogue: none}\nfilter: {rules: [{name: d, do: drop, match: {resources: [{group: \"\", resources: [configmaps]}]}}]}";
    let (code, value) = configured(routes, drop);
    assert_eq!(code, 2);
    let at = |place: &str| -> BTreeSet<String> {
        let all = value["leaks"].as_array().unwrap().iter().filter(|leak| leak["place"] == place);
        let outputs = all.flat_map(|leak| leak["outputs"].as_array().unwrap());
        outputs.map(|output| output.as_str().unwrap().to_owned()).collect()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(at("configmap-data"), names(&["archive"]), "the filter stands before one of them");
    assert_eq!(at("custom-resource"), names(&["archive", "search"]), "a fraction is some event's all");
    assert_eq!(at("custom-resource-response"), names(&["archive"]), "reads go to one of them");
}

#[test]
fn a_rule_of_the_users_mends_what_it_covers() {
    let routes = "  - {name: all, index: i, outputs: [search]}";
    let rule = "redact: {catalogue: none, rules: [{name: r, match: {resources: [{group: \"\", resources: [configmaps]}]}, \
                paths: [requestObject.data, requestObject.binaryData]}]}";
    let (code, value) = configured(routes, rule);
    assert_eq!(code, 2, "the others leak still");
    let places: BTreeSet<&str> =
        value["leaks"].as_array().unwrap().iter().map(|leak| leak["place"].as_str().unwrap()).collect();
    for mended in ["configmap-data", "configmap-json-patch", "configmap-merge-patch", "configmap-binary-data"]
    {
        assert!(!places.contains(mended), "{mended}");
    }
    assert!(places.contains("configmap-list") && places.contains("annotation"), "{places:?}");
}
