//! Keep or drop: ordered, named rules, the user's own before those of the packs; the first that matches decides.
//!
//! What no rule matches is kept. The pack `noise` never drops what an investigation needs: its guards are keep
//! rules in front of everything else in it. They are only looked at when the pack would drop, which decides
//! the same and costs nothing for the events that stay anyway.

use auditship_rule::{Facts, Invalid, Matcher, StageWord, Words, check_name, invalid::join};
use schemars::JsonSchema;
use serde::Deserialize;

/// The filter as written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// Packs of built-in rules, which come after the rules written here: `noise`.
    #[serde(default)]
    pub packs: Vec<String>,
    /// Rules, of which the first that matches decides. One that has the name of a built-in rule takes its place.
    #[serde(default)]
    pub rules: Vec<FilterRule>,
    /// Names of built-in rules that are switched off.
    #[serde(default)]
    pub disable: Vec<String>,
}

/// One rule of the filter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterRule {
    /// Its name: what it drops is counted under it.
    pub name: String,
    /// Which events it is about.
    #[serde(rename = "match")]
    pub words: Words,
    /// What becomes of them.
    #[serde(rename = "do")]
    pub does: Does,
}

/// What a rule does with the events that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Does {
    /// Drop them: nothing of them leaves. They are counted under the rule's name.
    Drop,
    /// Keep them, whatever later rules say.
    Keep,
}

impl Default for FilterConfig {
    /// The filter where none is written: [`FilterConfig::default_rules`] and no packs.
    fn default() -> FilterConfig {
        FilterConfig { packs: Vec::new(), rules: FilterConfig::default_rules(), disable: Vec::new() }
    }
}

impl FilterConfig {
    /// The rules of the default configuration: `request-received` alone, which drops the stage RequestReceived.
    pub fn default_rules() -> Vec<FilterRule> {
        vec![FilterRule {
            name: REQUEST_RECEIVED.to_string(),
            words: Words { stages: vec![StageWord::RequestReceived], ..Words::default() },
            does: Does::Drop,
        }]
    }
}

/// A rule of a [`Filter`]: an index into [`Filter::names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleIndex(pub u16);

/// What the filter says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on to the routes.
    Keep,
    /// It stops here, because of this rule.
    Drop(RuleIndex),
}

/// The compiled filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Names of all rules; `matchers` and `does` run beside it.
    names: Vec<String>,
    rules: Vec<(Matcher, Does)>,
    /// Where the guards begin and end. Rules before them are unguarded; those after them are all drops.
    guards: std::ops::Range<usize>,
}

impl Filter {
    /// Compiles `config`.
    ///
    /// # Errors
    /// [`Invalid`] with the path inside `config`.
    pub fn compile(config: &FilterConfig) -> Result<Filter, Invalid> {
        let mut filter = Filter::default();
        for (i, rule) in config.rules.iter().enumerate() {
            let at = format!("rules[{i}]");
            check_name(&rule.name).map_err(|message| Invalid::new(format!("{at}.name"), message))?;
            if filter.names.contains(&rule.name) {
                return Err(Invalid::new(format!("{at}.name"), "another rule has this name"));
            }
            let matcher = Matcher::compile(&rule.words).map_err(|e| e.within(&format!("{at}.match")))?;
            filter.push(&rule.name, matcher, rule.does)?;
        }
        let pack = noise();
        for (i, name) in config.disable.iter().enumerate() {
            if !pack.iter().any(|built_in| built_in.name == name) {
                let known: Vec<_> = pack.iter().map(|built_in| built_in.name).collect();
                let message = format!("no built-in rule has this name; there are {}", known.join(", "));
                return Err(Invalid::new(format!("disable[{i}]"), message));
            }
        }
        for (i, name) in config.packs.iter().enumerate() {
            if name != "noise" || config.packs[..i].contains(name) {
                return Err(Invalid::new(format!("packs[{i}]"), "expected `noise`, once"));
            }
        }
        let own = filter.names.len();
        filter.guards = own..own;
        if !config.packs.is_empty() {
            filter.add(pack, &config.disable)?;
        }
        Ok(filter)
    }

    /// What becomes of the event.
    pub fn decide(&self, facts: &Facts<'_>) -> Decision {
        match self.met(facts) {
            Some(rule) if self.rules[usize::from(rule.0)].1 == Does::Drop => Decision::Drop(rule),
            _ => Decision::Keep,
        }
    }

    /// The rule that decides, for `explain`; `None` where the event is kept because nothing would drop it.
    pub fn met(&self, facts: &Facts<'_>) -> Option<RuleIndex> {
        let first = |range: std::ops::Range<usize>| {
            let mut rules = self.rules[range.clone()].iter();
            rules.position(|(matcher, _)| matcher.matches(facts)).map(|at| range.start + at)
        };
        let met = first(0..self.guards.start).or_else(|| {
            let dropping = first(self.guards.end..self.rules.len())?;
            Some(first(self.guards.clone()).unwrap_or(dropping))
        });
        // `push` has made sure that it fits.
        met.and_then(|at| u16::try_from(at).ok()).map(RuleIndex)
    }

    /// The names of all rules, the user's and the packs', in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Rules that can never match, as path and message; for a configuration that compiles.
    pub fn warnings(config: &FilterConfig) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut taken: Option<&str> = None;
        for (i, rule) in config.rules.iter().enumerate() {
            if let Some(name) = taken {
                out.push((format!("rules[{i}]"), format!("never reached: `{name}` takes every event")));
                continue;
            }
            let words = Matcher::warnings(&rule.words).into_iter();
            out.extend(words.map(|(path, message)| (join(&format!("rules[{i}].match"), &path), message)));
            if Matcher::compile(&rule.words).is_ok_and(|matcher| matcher.is_anything()) {
                taken = Some(&rule.name);
            }
        }
        if let (Some(name), false) = (taken, config.packs.is_empty()) {
            out.push(("packs".into(), format!("never reached: `{name}` takes every event")));
        }
        out
    }

    fn add(&mut self, pack: Vec<BuiltIn>, disabled: &[String]) -> Result<(), Invalid> {
        for rule in pack {
            if disabled.iter().any(|name| name == rule.name) || self.names.iter().any(|n| n == rule.name) {
                continue;
            }
            let compiled = Matcher::compile(&rule.words);
            let matcher = compiled.map_err(|e| e.within(&format!("packs.noise.{}", rule.name)))?;
            let at = self.names.len();
            match rule.part {
                Part::Front => self.guards = at + 1..at + 1,
                Part::Guard => self.guards.end = at + 1,
                Part::Noise => {}
            }
            let does = if rule.part == Part::Guard { Does::Keep } else { Does::Drop };
            self.push(rule.name, matcher, does)?;
        }
        Ok(())
    }

    fn push(&mut self, name: &str, matcher: Matcher, does: Does) -> Result<(), Invalid> {
        if self.rules.len() > usize::from(u16::MAX) {
            return Err(Invalid::new("rules", "more than 65536 rules"));
        }
        self.names.push(name.to_string());
        self.rules.push((matcher, does));
        Ok(())
    }
}

/// The name of the rule that drops the stage RequestReceived.
pub const REQUEST_RECEIVED: &str = "request-received";

/// A rule of a pack.
struct BuiltIn {
    name: &'static str,
    words: Words,
    part: Part,
}

/// Where in its pack a rule stands. Invariant of a pack: in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Drops before the guards.
    Front,
    /// Keeps.
    Guard,
    /// Drops what no guard keeps.
    Noise,
}

/// The control plane, the nodes and what Kubernetes itself runs in kube-system. Deliberately not all service
/// accounts, and not everything that begins with `system:` (`system:anonymous` does).
const SYSTEM: &[&str] = &[
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-proxy",
    "system:kube-scheduler",
    "system:node:",
    "system:serviceaccount:kube-system:",
];

/// Whose reads of secrets are their job: the kubelet's (limited by the node authorizer to its own pods), the
/// API server's, and the controllers' that watch or collect every resource
/// (k8s.io/kubernetes `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go`).
const SECRET_READERS: &[&str] = &[
    "system:apiserver",
    "system:kube-controller-manager",
    "system:node:",
    "system:serviceaccount:kube-system:expand-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:legacy-service-account-token-cleaner",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:persistent-volume-binder",
    "system:serviceaccount:kube-system:resourcequota-controller",
];

const READS: &[&str] = &["get", "list", "watch"];
const WRITES: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
const HEALTH: &[&str] = &["/healthz*", "/livez*", "/readyz*", "/version", "/version/"];

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_string()).collect()
}

/// Words that take verbs, beginnings of user names and resources by group.
fn words(verbs: &[&str], users: &[&str], resources: &[(&str, &[&str])]) -> Words {
    let word = |(group, resources): &(&str, &[&str])| auditship_rule::ResourceWord {
        group: (*group).to_string(),
        resources: list(resources),
        resource_names: Vec::new(),
    };
    Words {
        verbs: list(verbs),
        user_prefixes: list(users),
        resources: resources.iter().map(word).collect(),
        ..Words::default()
    }
}

fn urls(urls: &[&str]) -> Words {
    Words { non_resource_urls: list(urls), ..Words::default() }
}

/// `words`, answered with success.
fn ok(words: Words) -> Words {
    Words { codes: vec!["2xx".into()], ..words }
}

fn except(words: Words, not: Words) -> Words {
    Words { not: Some(Box::new(not)), ..words }
}

/// The pack `noise`. Every drop but the first asks for an answer 2xx, so that no refusal and no failure is lost
/// even with all guards switched off.
fn noise() -> Vec<BuiltIn> {
    let front = |name, words| BuiltIn { name, words, part: Part::Front };
    let drop = |name, words| BuiltIn { name, words: ok(words), part: Part::Noise };
    let leases: &[(&str, &[&str])] = &[("coordination.k8s.io", &["leases"])];
    let status: &[(&str, &[&str])] = &[("", &["nodes/status", "pods/status"])];
    let events: &[(&str, &[&str])] = &[("", &["events"]), ("events.k8s.io", &["events"])];
    let reviews: &[(&str, &[&str])] = &[
        ("authentication.k8s.io", &["tokenreviews"]),
        ("authorization.k8s.io", &["subjectaccessreviews", "localsubjectaccessreviews"]),
    ];
    let mut pack = vec![front(
        // A later stage repeats all that it says.
        REQUEST_RECEIVED,
        Words { stages: vec![StageWord::RequestReceived], ..Words::default() },
    )];
    pack.extend(guards());
    pack.extend([
        drop("health", urls(HEALTH)),
        drop("openapi", urls(&["/openapi/*", "/swagger*"])),
        drop("discovery", urls(&["/api", "/api/*", "/apis", "/apis/*"])),
        drop("leases", words(&["get", "list", "watch", "create", "update", "patch"], SYSTEM, leases)),
        drop("node-status", words(&["patch", "update"], &["system:node:"], status)),
        // Deleting events destroys evidence: not noise.
        drop("events", words(&["get", "list", "watch", "create", "update", "patch"], &[], events)),
        drop("access-reviews", words(&["create"], SYSTEM, reviews)),
        drop("system-reads", words(READS, SYSTEM, &[])),
        drop("watches", words(&["watch"], &[], &[])),
    ]);
    pack
}

/// What the pack never drops.
fn guards() -> Vec<BuiltIn> {
    let keep = |name, words| BuiltIn { name, words, part: Part::Guard };
    let codes =
        |codes: &[&str]| Words { codes: codes.iter().map(|c| (*c).into()).collect(), ..Words::default() };
    let secrets: &[(&str, &[&str])] = &[("", &["secrets", "secrets/*"])];
    let exec: &[(&str, &[&str])] = &[(
        "",
        &[
            "*/exec",
            "*/attach",
            "*/portforward",
            "*/proxy",
            "pods/ephemeralcontainers",
            "serviceaccounts/token",
        ],
    )];
    let failed_open = [("failed-open.*".to_string(), String::new())].into();
    vec![
        keep("keep-refused", codes(&["401", "403"])),
        keep("keep-failed", codes(&["5xx"])),
        keep("keep-panics", Words { stages: vec![StageWord::Panic], ..Words::default() }),
        keep("keep-secrets", except(words(&[], &[], secrets), words(READS, SECRET_READERS, secrets))),
        keep("keep-rbac", words(&[], &[], &[("rbac.authorization.k8s.io", &[])])),
        keep("keep-exec", words(&[], &[], exec)),
        keep("keep-impersonated", Words { impersonated: Some(true), ..Words::default() }),
        keep("keep-human-writes", except(words(WRITES, &[], &[]), words(&[], &["system:"], &[]))),
        keep("keep-anonymous", except(words(&[], &["system:anonymous"], &[]), urls(HEALTH))),
        keep("keep-failed-open", Words { annotations: failed_open, ..Words::default() }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditship_event::Event;

    fn filter(config: &str) -> Result<Filter, Invalid> {
        Filter::compile(&serde_json::from_str(config).unwrap())
    }

    /// Who, verb, a URL or `group:resource/subresource`, code; then more members of the event.
    fn event(user: &str, verb: &str, what: &str, code: u16, more: &str) -> String {
        let what = match what.split_once(':') {
            None => format!(r#""requestURI":"{what}""#),
            Some((group, rest)) => {
                let (resource, sub) = rest.split_once('/').unwrap_or((rest, ""));
                format!(
                    r#""requestURI":"/api/v1/x","objectRef":{{"apiGroup":"{group}","resource":"{resource}","subresource":"{sub}"}}"#
                )
            }
        };
        format!(
            r#"{{"stage":"ResponseComplete","verb":"{verb}","user":{{"username":"{user}"}},{what},"responseStatus":{{"code":{code}}}{more}}}"#
        )
    }

    /// The name of the rule that drops `event`.
    fn dropped_by<'f>(filter: &'f Filter, event: &str) -> Option<&'f str> {
        let event = Event::parse(event.as_bytes()).unwrap();
        match filter.decide(&Facts::new(&event)) {
            Decision::Keep => None,
            Decision::Drop(rule) => Some(&filter.names()[usize::from(rule.0)]),
        }
    }

    const NODE: &str = "system:node:n1";
    const KCM: &str = "system:kube-controller-manager";
    const BOT: &str = "system:serviceaccount:shop:bot";

    #[test]
    fn noise_is_dropped_by_name() {
        let filter = filter(r#"{"packs":["noise"]}"#).unwrap();
        for (user, verb, what, want) in [
            ("system:anonymous", "get", "/healthz?verbose", "health"),
            ("alice", "get", "/readyz/etcd", "health"),
            ("alice", "get", "/openapi/v3", "openapi"),
            ("alice", "get", "/apis/apps/v1?timeout=32s", "discovery"),
            (NODE, "update", "coordination.k8s.io:leases", "leases"),
            ("system:kube-scheduler", "get", "coordination.k8s.io:leases", "leases"),
            (NODE, "patch", ":nodes/status", "node-status"),
            (NODE, "patch", ":pods/status", "node-status"),
            (BOT, "create", ":events", "events"),
            ("alice", "list", "events.k8s.io:events", "events"),
            (NODE, "create", "authentication.k8s.io:tokenreviews", "access-reviews"),
            (KCM, "create", "authorization.k8s.io:subjectaccessreviews", "access-reviews"),
            (KCM, "list", ":pods", "system-reads"),
            (KCM, "watch", ":secrets", "system-reads"),
            (NODE, "get", ":secrets", "system-reads"),
            ("alice", "watch", ":pods", "watches"),
        ] {
            let line = event(user, verb, what, 200, "");
            assert_eq!(dropped_by(&filter, &line), Some(want), "{user} {verb} {what}");
        }
    }

    #[test]
    fn what_matters_is_never_dropped() {
        let filter = filter(r#"{"packs":["noise"]}"#).unwrap();
        let failed_open =
            r#","annotations":{"failed-open.validating.webhook.admission.k8s.io/round_0_index_0":"w"}"#;
        let impersonated = r#","impersonatedUser":{"username":"x"}"#;
        for (user, verb, what, code, more) in [
            (KCM, "list", "apps:deployments", 403, ""),
            (KCM, "list", "apps:deployments", 500, ""),
            (KCM, "list", "apps:deployments", 409, ""),
            (KCM, "list", "apps:deployments", 200, impersonated),
            (KCM, "list", "apps:deployments", 200, failed_open),
            (KCM, "list", "rbac.authorization.k8s.io:clusterroles", 200, ""),
            (KCM, "update", "apps:deployments", 200, ""),
            ("alice", "update", "coordination.k8s.io:leases", 200, ""),
            ("alice", "create", "events.k8s.io:events", 201, ""),
            ("alice", "delete", "events.k8s.io:events", 200, ""),
            (KCM, "delete", "events.k8s.io:events", 200, ""),
            ("alice", "create", "authentication.k8s.io:tokenreviews", 201, ""),
            ("system:anonymous", "watch", "apps:deployments", 200, ""),
            ("system:anonymous", "get", "/apis/apps", 200, ""),
            (BOT, "list", "apps:deployments", 200, ""),
            ("alice", "get", "/metrics", 200, ""),
            ("alice", "get", "/healthz", 401, ""),
            ("alice", "watch", ":secrets", 200, ""),
            (BOT, "watch", ":secrets", 200, ""),
            ("system:serviceaccount:kube-system:tiller", "list", ":secrets", 200, ""),
            (NODE, "create", ":serviceaccounts/token", 201, ""),
            (NODE, "get", ":pods/exec", 101, ""),
            (NODE, "get", ":pods/exec", 200, ""),
            ("system:serviceaccount:kube-system:x", "get", ":nodes/proxy", 200, ""),
            ("alice", "patch", ":pods/status", 200, ""),
        ] {
            assert_eq!(
                dropped_by(&filter, &event(user, verb, what, code, more)),
                None,
                "{user} {verb} {what}"
            );
        }
    }

    #[test]
    fn own_rules_come_first_and_take_the_place_of_built_in_ones() {
        let own = r#"{"packs":["noise"],"rules":[
            {"name":"keep-alice","match":{"users":["alice"]},"do":"keep"},
            {"name":"health","match":{"nonResourceURLs":["/ping"]},"do":"drop"}]}"#;
        let filter = filter(own).unwrap();
        assert_eq!(dropped_by(&filter, &event("alice", "get", "/healthz", 200, "")), None);
        assert_eq!(dropped_by(&filter, &event("bob", "get", "/healthz", 200, "")), None);
        assert_eq!(dropped_by(&filter, &event("bob", "get", "/ping", 500, "")), Some("health"));
        assert_eq!(dropped_by(&filter, &event("bob", "get", "/openapi/v2", 200, "")), Some("openapi"));
        let mut names = filter.names().to_vec();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), filter.names().len());
    }

    #[test]
    fn rules_can_be_switched_off() {
        let off =
            filter(r#"{"packs":["noise"],"disable":["health","keep-failed","request-received"]}"#).unwrap();
        assert_eq!(dropped_by(&off, &event("bob", "get", "/healthz", 200, "")), None);
        assert_eq!(dropped_by(&off, &event("bob", "get", "/openapi/v2", 200, "")), Some("openapi"));
        assert_eq!(dropped_by(&off, &event(KCM, "list", "apps:deployments", 500, "")), None);
        assert_eq!(dropped_by(&off, r#"{"stage":"RequestReceived","verb":"create"}"#), None);
        assert!(!off.names().iter().any(|name| name == "health"));
    }

    #[test]
    fn the_default_drops_request_received_alone() {
        let filter = Filter::compile(&FilterConfig::default()).unwrap();
        assert_eq!(filter.names(), [REQUEST_RECEIVED]);
        assert_eq!(dropped_by(&filter, r#"{"stage":"RequestReceived"}"#), Some(REQUEST_RECEIVED));
        assert_eq!(dropped_by(&filter, r#"{"stage":"Panic"}"#), None);
        let nothing = self::filter("{}").unwrap();
        assert_eq!(dropped_by(&nothing, r#"{"stage":"RequestReceived"}"#), None);
    }

    #[test]
    fn met_tells_the_guard() {
        let filter = filter(r#"{"packs":["noise"]}"#).unwrap();
        let line = event(KCM, "list", "rbac.authorization.k8s.io:roles", 200, "");
        let event = Event::parse(line.as_bytes()).unwrap();
        let met = filter.met(&Facts::new(&event)).unwrap();
        assert_eq!(filter.names()[usize::from(met.0)], "keep-rbac");
    }

    #[test]
    fn errors_say_where() {
        for (config, want) in [
            (r#"{"rules":[{"name":"a","match":{"codes":["x"]},"do":"drop"}]}"#, "rules[0].match.codes[0]"),
            (r#"{"rules":[{"name":"A","match":{},"do":"drop"}]}"#, "rules[0].name"),
            (
                r#"{"rules":[{"name":"a","match":{},"do":"drop"},{"name":"a","match":{},"do":"keep"}]}"#,
                "rules[1].name",
            ),
            (r#"{"disable":["nosie"]}"#, "disable[0]"),
            (r#"{"packs":["nosie"]}"#, "packs[0]"),
            (r#"{"packs":["noise","noise"]}"#, "packs[1]"),
        ] {
            assert_eq!(filter(config).unwrap_err().path, want, "{config}");
        }
    }

    #[test]
    fn the_pack_has_no_dead_words() {
        for rule in noise() {
            assert_eq!(Matcher::warnings(&rule.words), [], "{}", rule.name);
            assert_eq!(check_name(rule.name), Ok(()));
        }
    }

    #[test]
    fn what_is_never_reached_is_told() {
        let config = r#"{"packs":["noise"],"rules":[{"name":"a","match":{"verbs":["*"]},"do":"keep"},
            {"name":"b","match":{},"do":"keep"},{"name":"c","match":{},"do":"keep"}]}"#;
        let warnings = Filter::warnings(&serde_json::from_str(config).unwrap());
        let paths: Vec<_> = warnings.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["rules[0].match.verbs[0]", "rules[2]", "packs"]);
    }
}
