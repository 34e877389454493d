//! What a configuration ships that the catalogue can only protect by what looks like a secret: ConfigMaps, custom
//! resources, command lines. `check` warns of it and names the rule that would take the values out.
//!
//! Nothing is guessed from words: for every route an event is made that its own words ask for, and the real filter,
//! routes and redaction say what becomes of it. Only the user's rules take part in the redaction: a value that they
//! leave is one that nothing but detectors looks at.

use crate::config::{Config, Diagnostic, Located, Path};
use crate::plan::Plan;
use auditship_event::{Event, Keys};
use auditship_redact::filter::Decision;
use auditship_redact::{Catalogue, Redactor, Scratch};
use auditship_route::{RouteConfig, Routed, Verdict};
use auditship_rule::{Facts, LevelWord, StageWord, Words};
use serde_json::{Value, json};

/// Stands for whatever the user writes there; no detector knows it.
const MARK: &str = "any-value-at-all";

/// A class of events with text that only detectors look at.
struct Class {
    /// In a sentence: a route ships …
    what: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    verbs: &'static [&'static str],
    /// The rule to add.
    rule: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ConfigMaps,
    CustomResources,
    Exec,
}

const CLASSES: &[Class] = &[
    Class {
        what: "ConfigMaps with their data",
        group: "",
        resource: "configmaps",
        subresource: "",
        verbs: &["create", "update", "patch", "get"],
        rule: "- name: configmaps\n  match: {resources: [{group: \"\", resources: [configmaps]}]}\n  \
               paths: [requestObject.**.data, requestObject.**.binaryData, responseObject.**.data, responseObject.**.binaryData]\n  \
               action: token",
        kind: Kind::ConfigMaps,
    },
    Class {
        what: "custom resources with their specs",
        group: "example.com",
        resource: "widgets",
        subresource: "",
        verbs: &["create", "update", "patch", "get"],
        rule: "- name: custom-resources\n  match: {resources: [{group: example.com, resources: [\"*\"]}]}  # your own groups\n  \
               paths: [requestObject.**.spec, responseObject.**.spec]\n  action: token",
        kind: Kind::CustomResources,
    },
    Class {
        what: "the command lines of `kubectl exec`, which stand in `requestURI`",
        group: "",
        resource: "pods",
        subresource: "exec",
        verbs: &["create", "get"],
        rule: "- name: exec\n  match: {resources: [{group: \"\", resources: [pods/exec]}]}\n  paths: [requestURI]\n  action: mask",
        kind: Kind::Exec,
    },
];

/// Groups of Kubernetes itself end in this, or hold no dot (`apps`, `batch`).
const OWN_GROUPS: &str = ".k8s.io";

/// One warning for each class that leaves with values that only detectors look at. `plan` is that of `config` with
/// routes that keep everything ([`crate::plan::unthinned`]).
pub fn warnings(config: &Config, plan: &Plan, located: &Located) -> Vec<Diagnostic> {
    if config.redact.catalogue == Catalogue::None {
        let message = "the built-in redaction rules are off: Secrets, tokens and passwords leave as they are";
        let help = "`auditship redact --prove --config FILE` shows what would leave";
        return vec![located.warning_at(Path::from("redact").key("catalogue"), message, Some(help))];
    }
    let Ok(own) = Redactor::of(&[], &config.redact, Keys::derive(b"", "")) else { return Vec::new() };
    let mut out = Vec::new();
    for class in CLASSES {
        let Some(route) = shipped_by(class, config, plan, &own) else { continue };
        let name = &plan.router.names()[route];
        let (path, what) = match &config.routes {
            Some(_) => (Path::from("routes").item(route), "route"),
            None => (Path::top(), "the built-in route"),
        };
        let message = format!(
            "{what} `{name}` ships {}: only what looks like a secret by its name or form is taken out of them",
            class.what
        );
        let rule: String = class.rule.lines().map(|line| format!("\n    {line}")).collect();
        let help = format!("to take every value out, add to `redact.rules`:{rule}");
        out.push(located.warning_at(path, &message, Some(&help)));
    }
    out
}

/// The first route by which an event of `class` leaves with a value that the user's rules do not take.
fn shipped_by(class: &Class, config: &Config, plan: &Plan, own: &Redactor) -> Option<usize> {
    let routes = crate::plan::routes(config);
    for route in &routes {
        for probe in probes(class, &route.words, config, &routes) {
            let line = probe.to_string();
            let Ok(event) = Event::parse(line.as_bytes()) else { continue };
            if !is_left(&event, own) {
                continue;
            }
            let facts = Facts::new(&event);
            let mut routed = Routed::default();
            for output in &plan.outputs {
                let dropped = output.filter.as_ref().map(|filter| filter.decide(&facts));
                if matches!(dropped, Some(Decision::Drop(_))) {
                    continue;
                }
                let verdict = plan.router.route(&facts, output.id, &plan.keys, &mut routed);
                if let (Verdict::Deliver, Some((route, _))) = (verdict, routed.hits.first()) {
                    return Some(usize::from(route.0));
                }
            }
        }
    }
    None
}

/// Whether the mark stands in what `own` leaves of the event.
fn is_left(event: &Event<'_>, own: &Redactor) -> bool {
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    match own.body(event, &mut scratch) {
        Ok(body) => body.write(&mut out),
        Err(_) => return false,
    }
    memchr::memmem::find(&out, MARK.as_bytes()).is_some()
}

/// Events of `class` for which `words` ask, as far as words can be answered.
fn probes(class: &Class, words: &Words, config: &Config, routes: &[RouteConfig]) -> Vec<Value> {
    // Before a request is authorized its body is not even read.
    if class.kind != Kind::Exec && is_refused(code(words)) {
        return Vec::new();
    }
    // Command lines stand in the URI, which every level has.
    let levels: &[LevelWord] = match class.kind {
        Kind::Exec => &[LevelWord::RequestResponse, LevelWord::Request, LevelWord::Metadata],
        Kind::ConfigMaps | Kind::CustomResources => &[LevelWord::RequestResponse, LevelWord::Request],
    };
    let mut out = Vec::new();
    for level in levels.iter().filter(|level| words.levels.is_empty() || words.levels.contains(level)) {
        for verb in
            class.verbs.iter().filter(|verb| words.verbs.is_empty() || words.verbs.iter().any(|v| v == *verb))
        {
            out.push(probe(class, verb, *level, words, config, routes));
        }
    }
    out
}

fn probe(
    class: &Class,
    verb: &str,
    level: LevelWord,
    words: &Words,
    config: &Config,
    routes: &[RouteConfig],
) -> Value {
    let namespace = match (&*words.namespaces, &*words.namespace_prefixes) {
        ([first, ..], _) if !first.is_empty() => first.clone(),
        (_, [first, ..]) => format!("{first}x"),
        _ => "default".to_owned(),
    };
    let user = match (&*words.users, &*words.user_prefixes) {
        ([first, ..], _) => first.clone(),
        (_, [first, ..]) => format!("{first}x"),
        _ => "alice@example.com".to_owned(),
    };
    let (group, resource) = match class.kind {
        Kind::CustomResources => custom(config, routes, words),
        _ => (class.group.to_owned(), class.resource.to_owned()),
    };
    let named = words.resources.iter().flat_map(|word| &word.resource_names).next();
    let name = named.map_or("app", |name| name);
    let base = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
    let uri = match class.kind {
        Kind::Exec => format!("{base}/namespaces/{namespace}/pods/{name}/exec?command={MARK}"),
        _ => format!("{base}/namespaces/{namespace}/{resource}/{name}"),
    };
    let body = match class.kind {
        Kind::ConfigMaps => json!({"kind": "ConfigMap", "data": {"file": MARK}}),
        Kind::CustomResources => json!({"kind": "Widget", "spec": {"field": MARK}}),
        Kind::Exec => Value::Null,
    };
    let mut annotations = json!({"authorization.k8s.io/decision": "allow"});
    for (key, value) in &words.annotations {
        annotations[plain(key)] = plain(value).into();
    }
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "probe", "verb": verb, "requestURI": uri,
        "level": match level {
            LevelWord::Metadata => "Metadata",
            LevelWord::Request => "Request",
            _ => "RequestResponse",
        },
        "stage": match words.stages.first() {
            Some(StageWord::ResponseStarted) => "ResponseStarted",
            Some(StageWord::Panic) => "Panic",
            _ => "ResponseComplete",
        },
        "user": {"username": user, "groups": words.user_groups},
        "sourceIPs": [words.source_ips.first().map_or("192.0.2.7", |net| net.split('/').next().unwrap_or_default())],
        "userAgent": words.user_agents.first().map_or_else(|| "kubectl".to_owned(), |glob| plain(glob)),
        "objectRef": {
            "resource": resource, "subresource": class.subresource, "apiGroup": group, "namespace": namespace,
            "name": name,
        },
        "responseStatus": {"code": code(words)},
        "requestReceivedTimestamp": "2026-01-02T03:04:05.000000Z",
        "stageTimestamp": took(words),
        "annotations": annotations,
    });
    if verb != "get" && level != LevelWord::Metadata {
        event["requestObject"] = body.clone();
    }
    if level == LevelWord::RequestResponse {
        event["responseObject"] = body;
    }
    if words.impersonated == Some(true) {
        event["impersonatedUser"] = json!({"username": "bob"});
    }
    event
}

/// Group and resource of a custom resource: one that the user's own rules name, else one that the route or another
/// names, else one that nobody names.
fn custom(config: &Config, routes: &[RouteConfig], words: &Words) -> (String, String) {
    let rules = config.redact.rules.iter().map(|rule| &rule.matches);
    let routes = routes.iter().map(|route| &route.words);
    for words in rules.chain([words]).chain(routes) {
        for word in &words.resources {
            if word.group.contains('.') && !word.group.ends_with(OWN_GROUPS) {
                let resource = word.resources.first().filter(|resource| !resource.contains(['*', '/']));
                return (word.group.clone(), resource.map_or("widgets", |resource| resource).to_owned());
            }
        }
    }
    ("example.com".to_owned(), "widgets".to_owned())
}

/// Text that a glob matches.
fn plain(glob: &str) -> String {
    glob.replace(['*', '?'], "x")
}

/// A code for which the words ask, and a refusal only if they ask for nothing else: `4xx` and `400-499` begin with
/// one.
fn code(words: &Words) -> u16 {
    let codes = || words.codes.iter().filter_map(|code| code.0.replace('x', "0").get(..3)?.parse().ok());
    codes().find(|code| !is_refused(*code)).or_else(|| codes().next()).unwrap_or(200)
}

fn is_refused(code: u16) -> bool {
    matches!(code, 401 | 403)
}

/// When the request was over, so that the words' latency is met: far beyond a lower bound, at once below an upper.
fn took(words: &Words) -> &'static str {
    match words.latency.as_deref().map(str::trim_start) {
        Some(bound) if bound.starts_with('>') => "2026-01-03T03:04:05.000000Z",
        _ => "2026-01-02T03:04:05.000000Z",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// The classes warned of, by a word of each.
    fn warned(text: &str) -> Vec<&'static str> {
        let text = format!("{text}\noutputs: {{out: {{type: stdout}}}}\n");
        let read = |_: &std::path::Path| Ok(text.clone());
        let (config, located) = config::load(&["c.yaml".into()], std::iter::empty(), &[], &read).unwrap();
        let config = crate::plan::unthinned(&config);
        let plan = Plan::compile(&config, &located, &[0; 32], "n").unwrap();
        let all = warnings(&config, &plan, &located);
        let words = ["ConfigMaps", "custom resources", "kubectl exec", "rules are off"];
        let told =
            |warning: &Diagnostic| words.into_iter().find(|word| warning.message.contains(word)).unwrap();
        all.iter().map(told).collect()
    }

    fn route(words: &str) -> String {
        format!("routes: [{{name: r, index: i, outputs: [out], match: {words}}}]")
    }

    const ALL: &[&str] = &["ConfigMaps", "custom resources", "kubectl exec"];

    #[test]
    fn what_the_routes_ship() {
        assert_eq!(warned(""), ALL);
        for (words, want) in [
            ("{}", ALL),
            ("{levels: [Metadata]}", &["kubectl exec"]),
            ("{levels: [Metadata], verbs: [list]}", &[]),
            ("{levels: [Metadata, Request]}", ALL),
            ("{verbs: [delete, watch]}", &[]),
            ("{verbs: [create]}", ALL),
            ("{namespaces: [payroll], verbs: [update]}", &["ConfigMaps", "custom resources"]),
            ("{resources: [{group: \"\", resources: [configmaps]}]}", &["ConfigMaps"]),
            ("{resources: [{group: apps}, {group: rbac.authorization.k8s.io}]}", &[]),
            ("{resources: [{group: db.example.org}]}", &["custom resources"]),
            ("{resources: [{group: \"\", resources: [pods, pods/log]}]}", &[]),
            ("{resources: [{group: \"\", resources: [\"pods/*\"]}]}", &["kubectl exec"]),
            ("{nonResourceURLs: [\"*\"]}", &[]),
            ("{codes: [401, \"403\"]}", &["kubectl exec"]),
            ("{codes: [403, 5xx], verbs: [update]}", &["ConfigMaps", "custom resources"]),
            ("{codes: [4xx], userPrefixes: [\"team-\"], latency: \">1s\", sourceIPs: [10.0.0.0/8]}", ALL),
            ("{users: [u], userAgents: [\"k*\"], annotations: {\"a*\": \"\"}, impersonated: true}", ALL),
            (
                "{not: {resources: [{group: \"\", resources: [configmaps]}]}}",
                &["custom resources", "kubectl exec"],
            ),
        ] {
            assert_eq!(warned(&route(words)), want, "{words}");
        }
    }

    #[test]
    fn what_the_filter_drops_is_not_shipped() {
        let drop = "filter: {rules: [{name: d, do: drop, match: {resources: [{group: \"\", resources: [configmaps]}]}}]}";
        assert_eq!(warned(drop), ["custom resources", "kubectl exec"]);
    }

    #[test]
    fn a_fraction_is_shipped_and_nothing_is_not() {
        let keep = |keep: &str| format!("routes: [{{name: r, index: i, outputs: [out], keep: {keep}}}]");
        assert_eq!(warned(&keep("1%")), ALL);
        assert_eq!(warned(&keep("0%")), [""; 0]);
    }

    #[test]
    fn the_rules_that_are_named_help() {
        let rules: String = CLASSES
            .iter()
            .map(|class| class.rule.lines().map(|line| format!("    {line}\n")).collect::<String>())
            .collect();
        assert_eq!(warned(&format!("redact:\n  rules:\n{rules}")), [""; 0]);
    }

    #[test]
    fn a_rule_that_covers_some_of_it_is_not_enough() {
        let rule = |more: &str, paths: &str| {
            format!(
                "redact: {{rules: [{{name: r, match: {{resources: [{{group: \"\", resources: [configmaps]}}]{more}}}, paths: [{paths}]}}]}}"
            )
        };
        let rest = &ALL[1..];
        assert_eq!(warned(&rule("", "requestObject.data.*, responseObject.data.*")), rest);
        assert_eq!(warned(&rule("", "requestObject.data.*")), ALL);
        assert_eq!(
            warned(&rule(", namespaces: [payroll]", "requestObject.data.*, responseObject.data.*")),
            ALL
        );
        let payroll = rule(", namespaces: [payroll]", "requestObject.data.*, responseObject.data.*");
        let route = route("{namespaces: [payroll], resources: [{group: \"\", resources: [configmaps]}]}");
        assert_eq!(warned(&format!("{payroll}\n{route}")), [""; 0]);
    }

    #[test]
    fn without_the_catalogue_one_warning_says_it() {
        assert_eq!(warned("redact: {catalogue: none}"), ["rules are off"]);
    }
}
