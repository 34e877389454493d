//! The API server's audit policy, as far as it can be judged without a single event.
//!
//! Pure. It owns how kube-apiserver reads a policy: the first rule that matches decides, no match logs nothing, unknown
//! keys are passed over with a warning in its log (k8s.io/apiserver `pkg/audit/policy/{reader,checker}.go`,
//! `pkg/apis/audit/validation`).

use super::yaml::{text, texts};
use serde_json::Value;

/// A policy as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `audit.k8s.io/v1`
    pub api_version: String,
    /// Stages that are left out of all rules.
    pub omit_stages: Vec<String>,
    /// In order.
    pub rules: Vec<Rule>,
    /// Keys that the API server does not know: `rules[2].resource`.
    pub unknown: Vec<String>,
    /// Why the API server would not start with it; empty where it would.
    pub faults: Vec<String>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what, when.
    Metadata,
    /// The request's body too.
    Request,
    /// Both bodies.
    RequestResponse,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it logs.
    pub level: Level,
    /// Users, groups, verbs or namespaces are named: it matches only some requests for what it names.
    pub partial: bool,
    /// Group and resource patterns; `None`: not named.
    pub resources: Option<Vec<(String, Vec<String>)>>,
    /// It is about paths that are no resources.
    pub paths: bool,
    /// Stages that it leaves out.
    pub omit_stages: Vec<String>,
}

const TOP: &[&str] = &["apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"];
const RULE: &[&str] = &[
    "level",
    "users",
    "userGroups",
    "verbs",
    "resources",
    "namespaces",
    "nonResourceURLs",
    "omitStages",
    "omitManagedFields",
];
const RESOURCES: &[&str] = &["group", "resources", "resourceNames"];
const STAGES: &[&str] = &["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

impl Policy {
    /// Reads the documents of a policy file.
    ///
    /// # Errors
    /// It is no policy at all.
    pub fn read(documents: &[Value]) -> Result<Policy, String> {
        let [document] = documents else {
            return Err(if documents.is_empty() { "empty" } else { "more than one document" }.to_owned());
        };
        let word = |key: &str| document[key].as_str().unwrap_or_default();
        if word("kind") != "Policy" || !word("apiVersion").starts_with("audit.k8s.io/") {
            return Err("no audit policy: it wants apiVersion: audit.k8s.io/v1 and kind: Policy".to_owned());
        }
        let mut policy = Policy {
            api_version: word("apiVersion").to_owned(),
            omit_stages: texts(&document["omitStages"]),
            ..Policy::default()
        };
        policy.keys("", document, TOP);
        policy.stages("omitStages", &policy.omit_stages.clone());
        for (number, rule) in document["rules"].as_array().into_iter().flatten().enumerate() {
            policy.rule(&format!("rules[{number}]"), rule);
        }
        if document["rules"].as_array().is_none_or(Vec::is_empty) {
            policy.faults.push("there is no rule".to_owned());
        }
        Ok(policy)
    }

    fn keys(&mut self, place: &str, value: &Value, known: &[&str]) {
        let dot = if place.is_empty() { "" } else { "." };
        let unknown =
            value.as_object().into_iter().flatten().filter(|(key, _)| !known.contains(&key.as_str()));
        self.unknown.extend(unknown.map(|(key, _)| crate::show::printable(&format!("{place}{dot}{key}"))));
    }

    fn stages(&mut self, place: &str, stages: &[String]) {
        let wrong = stages.iter().filter(|stage| !STAGES.contains(&stage.as_str()));
        self.faults
            .extend(wrong.map(|stage| format!("{place}: no stage {:?}", crate::show::printable(stage))));
    }

    fn rule(&mut self, place: &str, rule: &Value) {
        self.keys(place, rule, RULE);
        let omit_stages = texts(&rule["omitStages"]);
        self.stages(&format!("{place}.omitStages"), &omit_stages);
        let has = |key: &str| rule[key].as_array().is_some_and(|list| !list.is_empty());
        let mut resources = Vec::new();
        let mut named = false;
        for (number, group) in rule["resources"].as_array().into_iter().flatten().enumerate() {
            let place = format!("{place}.resources[{number}]");
            self.keys(&place, group, RESOURCES);
            let names = texts(&group["resources"]);
            let only = group["resourceNames"].as_array().is_some_and(|list| !list.is_empty());
            if only && names.is_empty() {
                self.faults.push(format!("{place}: resourceNames without resources"));
            }
            named |= only;
            let name = text(&group["group"]).unwrap_or_default();
            if name.contains('/') {
                self.faults.push(format!("{place}.group: a group with a version"));
            }
            resources.push((name, names));
        }
        let paths = has("nonResourceURLs");
        if paths && (has("namespaces") || has("resources")) {
            self.faults.push(format!("{place}: nonResourceURLs beside resources or namespaces"));
        }
        let level = match rule["level"].as_str().unwrap_or_default() {
            "None" => Level::None,
            "Metadata" => Level::Metadata,
            "Request" => Level::Request,
            "RequestResponse" => Level::RequestResponse,
            other => {
                self.faults.push(format!("{place}.level: no level {:?}", crate::show::printable(other)));
                Level::None
            }
        };
        let partial = named || ["users", "userGroups", "verbs", "namespaces"].iter().any(|key| has(key));
        let resources = has("resources").then_some(resources);
        self.rules.push(Rule { level, partial, resources, paths, omit_stages });
    }

    /// The rule that takes every request that comes to it, and its number from 1.
    pub fn catch_all(&self) -> Option<(usize, &Rule)> {
        let number =
            self.rules.iter().position(|rule| !rule.partial && !rule.paths && rule.resources.is_none())?;
        Some((number + 1, &self.rules[number]))
    }

    /// The most that is logged of requests for a resource, and by which rule.
    pub fn most(&self, group: &str, resource: &str) -> Option<(usize, Level)> {
        let mut most: Option<(usize, Level)> = None;
        for (number, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.names(group, resource)) {
            if most.is_none_or(|(_, level)| rule.level > level) {
                most = Some((number + 1, rule.level));
            }
            if !rule.partial {
                break;
            }
        }
        most
    }

    /// Whether a stage is left out, everywhere or by the rule that takes the rest.
    pub fn omits(&self, stage: &str) -> bool {
        let has = |stages: &[String]| stages.iter().any(|it| it == stage);
        has(&self.omit_stages) || self.catch_all().is_some_and(|(_, rule)| has(&rule.omit_stages))
    }
}

impl Rule {
    /// Whether it can match requests for the resource, `name` or `name/subresource`.
    fn names(&self, group: &str, resource: &str) -> bool {
        let Some(groups) = &self.resources else { return !self.paths };
        let (name, sub) = resource.split_once('/').unwrap_or((resource, ""));
        let like = |pattern: &str| match pattern.split_once('/') {
            _ if pattern == "*" || pattern == resource => true,
            Some(("*", of)) => !sub.is_empty() && of == sub,
            Some((of, "*")) => of == name,
            _ => false,
        };
        groups.iter().any(|(of, names)| {
            (of == group || of == "*") && (names.is_empty() || names.iter().any(|pattern| like(pattern)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml::documents;
    use super::*;

    fn policy(rest: &str) -> Policy {
        let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rest}");
        Policy::read(&documents(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn what_the_api_server_refuses() {
        for (rest, want) in [
            ("", "there is no rule"),
            ("rules: []", "there is no rule"),
            ("rules: [{level: All}]", "rules[0].level: no level \"All\""),
            ("rules: [{}]", "rules[0].level: no level \"\""),
            ("omitStages: [Received]\nrules: [{level: None}]", "omitStages: no stage \"Received\""),
            (
                "rules: [{level: None, resources: [{group: apps/v1}]}]",
                "rules[0].resources[0].group: a group with a version",
            ),
            (
                "rules: [{level: None, resources: [{resourceNames: [x]}]}]",
                "rules[0].resources[0]: resourceNames without resources",
            ),
            (
                "rules: [{level: None, nonResourceURLs: [/x], namespaces: [y]}]",
                "rules[0]: nonResourceURLs beside resources or namespaces",
            ),
        ] {
            assert_eq!(policy(rest).faults, [want], "{rest}");
        }
    }

    #[test]
    fn what_it_passes_over() {
        let policy = policy(
            "rules:\n- {level: None, resource: [x]}\n- {level: Metadata, resources: [{groups: apps}]}\nomitstages: []",
        );
        assert_eq!(policy.unknown, ["omitstages", "rules[0].resource", "rules[1].resources[0].groups"]);
        assert_eq!(policy.faults, Vec::<String>::new());
    }

    #[test]
    fn the_rule_for_the_rest() {
        let catch = |rest: &str| policy(rest).catch_all().map(|(number, rule)| (number, rule.level));
        assert_eq!(
            catch("rules: [{level: None, verbs: [get]}, {level: Metadata}]"),
            Some((2, Level::Metadata))
        );
        assert_eq!(catch("rules: [{level: None, users: []}]"), Some((1, Level::None)));
        assert_eq!(catch("rules: [{level: Metadata, nonResourceURLs: ['*']}]"), None);
        assert_eq!(catch("rules: [{level: Metadata, resources: [{group: '*'}]}]"), None);
    }

    #[test]
    fn the_most_of_a_resource() {
        let most = |rest: &str, group, resource| policy(rest).most(group, resource);
        let rules = "rules:
- {level: None, verbs: [get], resources: [{resources: [secrets]}]}
- {level: Metadata, resources: [{group: '', resources: [secrets, 'serviceaccounts/*']}]}
- {level: Request, resources: [{group: '*', resources: ['*/token']}]}
- {level: Metadata, nonResourceURLs: ['*']}
- {level: RequestResponse}";
        assert_eq!(most(rules, "", "secrets"), Some((2, Level::Metadata)));
        assert_eq!(most(rules, "", "serviceaccounts/token"), Some((2, Level::Metadata)));
        assert_eq!(most(rules, "", "serviceaccounts"), Some((2, Level::Metadata)), "`res/*` takes `res` too");
        assert_eq!(most(rules, "apps", "x/token"), Some((3, Level::Request)));
        assert_eq!(most(rules, "apps", "deployments"), Some((5, Level::RequestResponse)));
        assert_eq!(most("rules: [{level: Metadata, resources: [{group: apps}]}]", "", "secrets"), None);
    }

    #[test]
    fn stages_that_are_left_out() {
        let omits = |rest: &str| policy(rest).omits("RequestReceived");
        assert!(omits("omitStages: [RequestReceived]\nrules: [{level: Metadata}]"));
        assert!(omits("rules: [{level: Metadata, omitStages: [RequestReceived]}]"));
        assert!(!omits(
            "rules: [{level: None, verbs: [get], omitStages: [RequestReceived]}, {level: Metadata}]"
        ));
    }

    #[test]
    fn what_is_none() {
        for (text, want) in [
            ("kind: Policy\napiVersion: policy/v1", "no audit policy"),
            ("[]", "no audit policy"),
            ("", "empty"),
            ("a: 1\n---\nb: 1", "more than one document"),
        ] {
            let told = Policy::read(&documents(text.as_bytes()).unwrap()).unwrap_err();
            assert!(told.contains(want), "{told}");
        }
    }
}
