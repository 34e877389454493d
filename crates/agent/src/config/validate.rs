//! What a configuration says that cannot be meant, although each of its words is right.
//!
//! Judges only what needs no compiling: names, references between parts, bounds. A rule's own words are judged
//! by the crate that compiles it, and reported through [`super::Located`].

use std::collections::BTreeMap;

use auditship_redact::rules::RULES;
use auditship_rule::check_name;
use auditship_ship::ByteSize;

use super::kinds::Input;
use super::model::Config;
use super::path::Path;
use super::report::{Severity, nearest};

/// Bounds of `max_line`.
const MAX_LINE: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 20;
/// The least memory that the agent can work in: a longest line and a batch.
const MEMORY_MIN: u64 = 16 << 20;

/// One thing that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it keeps the configuration from being used.
    pub severity: Severity,
    /// Where.
    pub path: Path,
    /// What.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Finding {
    fn error(path: Path, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, path, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Config {
    /// Everything that cannot be meant, in the order of the documentation.
    pub fn validate(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.validate_identity(&mut findings);
        self.validate_inputs(&mut findings);
        self.validate_names(&mut findings);
        self.validate_redact(&mut findings);
        self.validate_routes(&mut findings);
        self.validate_limits(&mut findings);
        findings
    }

    fn validate_identity(&self, findings: &mut Vec<Finding>) {
        if self.cluster.trim().is_empty() {
            findings.push(Finding::error(Path::from("cluster"), "the cluster needs a name"));
        }
        if self.node.as_deref().is_some_and(|node| node.trim().is_empty()) {
            findings.push(
                Finding::error(Path::from("node"), "the node needs a name")
                    .help("remove the key to use the host's name"),
            );
        }
        if self.state_dir.as_os_str().is_empty() {
            findings.push(Finding::error(Path::from("state_dir"), "the state directory needs a path"));
        }
    }

    fn validate_inputs(&self, findings: &mut Vec<Finding>) {
        let mut paths = BTreeMap::new();
        let mut stdin = None;
        for (name, input) in &self.inputs {
            let at = Path::from("inputs").key(name);
            let max_line = match input {
                Input::File(file) => {
                    let path = at.clone().key("path");
                    if file.path.as_os_str().is_empty() {
                        findings.push(Finding::error(path, "the file needs a path"));
                    } else if let Some(other) = paths.insert(&file.path, name) {
                        let message = format!("input `{other}` reads the same file");
                        findings.push(Finding::error(path, message).help("one input feeds every output"));
                    }
                    file.max_line
                }
                Input::Stdin(input) => {
                    if let Some(other) = stdin.replace(name) {
                        let message = format!("input `{other}` reads standard input already");
                        findings.push(Finding::error(at.clone(), message));
                    }
                    input.max_line
                }
            };
            let ByteSize(bytes) = max_line;
            if !MAX_LINE.contains(&bytes) {
                findings
                    .push(Finding::error(at.key("max_line"), "`max_line` must be between 4KiB and 64MiB"));
            }
        }
    }

    /// Names are labels of metrics, and those of rules say which one an event met.
    fn validate_names(&self, findings: &mut Vec<Finding>) {
        let maps =
            [("inputs", self.inputs.keys().collect::<Vec<_>>()), ("outputs", self.outputs.keys().collect())];
        for (map, names) in maps {
            for name in names {
                if let Err(reason) = check_name(name) {
                    findings.push(Finding::error(Path::from(map).key(name), reason));
                }
            }
        }
        let redact: Vec<&str> = self.redact.rules.iter().map(|rule| rule.name.as_str()).collect();
        unique(Path::from("redact").key("rules"), &redact, findings);
        if let Some(filter) = &self.filter {
            let rules: Vec<&str> = filter.rules.iter().map(|rule| rule.name.as_str()).collect();
            unique(Path::from("filter").key("rules"), &rules, findings);
        }
        if let Some(routes) = &self.routes {
            let routes: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
            unique(Path::from("routes"), &routes, findings);
        }
    }

    fn validate_redact(&self, findings: &mut Vec<Finding>) {
        let builtin = || RULES.iter().map(|rule| rule.name);
        let at = Path::from("redact");
        for name in self.redact.actions.keys().filter(|name| !builtin().any(|known| known == *name)) {
            let mut finding = Finding::error(
                at.clone().key("actions").key(name),
                format!("there is no built-in redaction rule `{name}`"),
            );
            if self.redact.rules.iter().any(|rule| rule.name == *name) {
                finding = finding.help("a rule of your own has its `action` beside its `paths`");
            } else {
                finding = finding.help(known_rules(name, builtin()));
            }
            findings.push(finding);
        }
        let known = || builtin().chain(self.redact.rules.iter().map(|rule| rule.name.as_str()));
        for (number, allow) in self.redact.allow.iter().enumerate() {
            let unknown = |name: &&String| !known().any(|known| known == **name);
            for (item, name) in allow.rules.iter().enumerate().filter(|(_, name)| unknown(name)) {
                let path = at.clone().key("allow").item(number).key("rules").item(item);
                let message = format!("there is no redaction rule `{name}`");
                findings.push(Finding::error(path, message).help(known_rules(name, known())));
            }
        }
    }

    fn validate_routes(&self, findings: &mut Vec<Finding>) {
        let Some(routes) = &self.routes else { return };
        let outputs = || self.outputs.keys().map(String::as_str);
        for (at, route) in routes.iter().enumerate() {
            for (item, output) in route.outputs.iter().enumerate() {
                if self.outputs.contains_key(output) {
                    continue;
                }
                let path = Path::from("routes").item(at).key("outputs").item(item);
                let finding = Finding::error(path, format!("there is no output `{output}`"));
                findings.push(match nearest(output, outputs()) {
                    Some(near) => finding.help(format!("did you mean `{near}`?")),
                    None if self.outputs.is_empty() => finding.help("no outputs are configured"),
                    None => {
                        let names: Vec<String> = outputs().map(|name| format!("`{name}`")).collect();
                        finding.help(format!("the outputs are {}", names.join(", ")))
                    }
                });
            }
        }
        for name in outputs() {
            if !routes.iter().any(|route| route.outputs.iter().any(|output| output == name)) {
                findings.push(Finding {
                    severity: Severity::Warning,
                    path: Path::from("outputs").key(name),
                    message: format!("no route leads to output `{name}`"),
                    help: Some("name it in the `outputs` of a route, or remove it".to_owned()),
                });
            }
        }
    }

    fn validate_limits(&self, findings: &mut Vec<Finding>) {
        let ByteSize(memory) = self.limits.memory;
        if memory < MEMORY_MIN {
            findings
                .push(Finding::error(Path::from("limits.memory"), "`limits.memory` must be at least 16MiB"));
        }
    }
}

/// What to write instead of `name`, which is no rule.
fn known_rules<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "docs/redaction.md lists the built-in rules".to_owned(),
    }
}

fn unique(at: Path, names: &[&str], findings: &mut Vec<Finding>) {
    let mut seen = BTreeMap::new();
    for (item, name) in names.iter().enumerate() {
        if let Some(first) = seen.get(name) {
            let message = format!("name `{name}` is taken by `{}`", at.clone().item(*first));
            findings.push(
                Finding::error(at.clone().item(item).key("name"), message)
                    .help("counts and explanations go by name: give each its own"),
            );
        } else {
            seen.insert(*name, item);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::config::tests::check_real as check;

    #[test]
    fn routes_lead_to_outputs_that_there_are() {
        let outputs = "outputs:\n  search: {type: stdout}\n  archive: {type: dir, path: /a}\n";
        check(
            &format!("{outputs}routes:\n  - {{name: a, index: i, outputs: [archive, serach]}}\n"),
            expect![[r#"
                error: there is no output `serach`
                 --> a.yaml:5:44
                  |
                5 |   - {name: a, index: i, outputs: [archive, serach]}
                  |                                            ^^^^^^
                help: did you mean `search`?
            "#]],
        );
        check(
            &format!("{outputs}routes: [{{name: a, index: i, outputs: [kafka]}}]\n"),
            expect![[r#"
            error: there is no output `kafka`
             --> a.yaml:4:40
              |
            4 | routes: [{name: a, index: i, outputs: [kafka]}]
              |                                        ^^^^^
            help: the outputs are `archive`, `search`
        "#]],
        );
        check(
            "routes: [{name: a, index: i, outputs: [search]}]\n",
            expect![[r#"
            error: there is no output `search`
             --> a.yaml:1:40
              |
            1 | routes: [{name: a, index: i, outputs: [search]}]
              |                                        ^^^^^^
            help: no outputs are configured
        "#]],
        );
        check(
            &format!("{outputs}routes: [{{name: a, index: i, outputs: [search]}}]\n"),
            expect![[r#"
            warning: no route leads to output `archive`
             --> a.yaml:3:3
              |
            3 |   archive: {type: dir, path: /a}
              |   ^^^^^^^
            help: name it in the `outputs` of a route, or remove it
        "#]],
        );
        check(outputs, expect![[""]]);
    }

    #[test]
    fn names_are_labels_and_stand_once() {
        check(
            "outputs: {Search: {type: stdout}}\n",
            expect![[r#"
            error: a name may hold only a-z, 0-9, `-`, `_` and `.`
             --> a.yaml:1:11
              |
            1 | outputs: {Search: {type: stdout}}
              |           ^^^^^^
        "#]],
        );
        check(
            "routes:\n  - {name: a, index: i, outputs: []}\n  - {name: a, index: i, outputs: []}\n",
            expect![[r#"
                error: name `a` is taken by `routes[0]`
                 --> a.yaml:3:12
                  |
                3 |   - {name: a, index: i, outputs: []}
                  |            ^
                help: counts and explanations go by name: give each its own
            "#]],
        );
        check(
            "redact:\n  rules:\n    - {name: a, paths: [x]}\n    - {name: b, paths: [x]}\n    - {name: b, paths: [x]}\n",
            expect![[r#"
                error: name `b` is taken by `redact.rules[1]`
                 --> a.yaml:5:14
                  |
                5 |     - {name: b, paths: [x]}
                  |              ^
                help: counts and explanations go by name: give each its own
            "#]],
        );
        check(
            "filter: {rules: [{name: a, match: {}, do: drop}, {name: a, match: {}, do: keep}]}\n",
            expect![[r#"
            error: name `a` is taken by `filter.rules[0]`
             --> a.yaml:1:57
              |
            1 | filter: {rules: [{name: a, match: {}, do: drop}, {name: a, match: {}, do: keep}]}
              |                                                         ^
            help: counts and explanations go by name: give each its own
        "#]],
        );
    }

    #[test]
    fn rules_of_redaction_are_known_by_name() {
        check(
            "redact:\n  actions: {secrets-data: mask, mine: mask, x: mask}\n  rules: [{name: mine, paths: [x]}]\n",
            expect![[r#"
                error: there is no built-in redaction rule `mine`
                 --> a.yaml:2:39
                  |
                2 |   actions: {secrets-data: mask, mine: mask, x: mask}
                  |                                       ^^^^
                help: a rule of your own has its `action` beside its `paths`

                error: there is no built-in redaction rule `secrets-data`
                 --> a.yaml:2:27
                  |
                2 |   actions: {secrets-data: mask, mine: mask, x: mask}
                  |                           ^^^^
                help: did you mean `secret-data`?

                error: there is no built-in redaction rule `x`
                 --> a.yaml:2:48
                  |
                2 |   actions: {secrets-data: mask, mine: mask, x: mask}
                  |                                                ^^^^
                help: docs/redaction.md lists the built-in rules
            "#]],
        );
        check(
            "redact:\n  rules: [{name: mine, paths: [x]}]\n  allow:\n    - {reason: r, path: x, rules: [jwt, mine, bearer-tokn]}\n",
            expect![[r#"
                error: there is no redaction rule `bearer-tokn`
                 --> a.yaml:4:47
                  |
                4 |     - {reason: r, path: x, rules: [jwt, mine, bearer-tokn]}
                  |                                               ^^^^^^^^^^^
                help: did you mean `bearer-token`?
            "#]],
        );
        check(
            "redact:\n  actions: {public-certificate: digest}\n",
            expect![[r#"
            error: unknown value `digest` for `redact.actions.public-certificate`
             --> a.yaml:2:33
              |
            2 |   actions: {public-certificate: digest}
              |                                 ^^^^^^ expected one of `mask`, `token`, `remove`
        "#]],
        );
        check(
            "redact: {allow: [{path: x}]}\n",
            expect![[r#"
            error: missing key `reason` in `redact.allow[0]`
             --> a.yaml:1:18
              |
            1 | redact: {allow: [{path: x}]}
              |                  ^ `reason` is needed here
        "#]],
        );
        check(
            "redact: {allow: [{reason: r, pth: x}]}\n",
            expect![[r#"
            error: unknown key `pth` in `redact.allow[0]`
             --> a.yaml:1:30
              |
            1 | redact: {allow: [{reason: r, pth: x}]}
              |                              ^^^ expected one of `reason`, `value`, `path`, `pattern`, `rules`
            help: did you mean `path`?
        "#]],
        );
    }

    #[test]
    fn identity_and_inputs() {
        check(
            "cluster: \"\"\nnode: ' '\n",
            expect![[r#"
            error: the cluster needs a name
             --> a.yaml:1:10
              |
            1 | cluster: ""
              |          ^^

            error: the node needs a name
             --> a.yaml:2:7
              |
            2 | node: ' '
              |       ^^^
            help: remove the key to use the host's name
        "#]],
        );
        check(
            "inputs: {a: {type: file, path: /x}, b: {type: file, path: /x}}\n",
            expect![[r#"
            error: input `a` reads the same file
             --> a.yaml:1:59
              |
            1 | inputs: {a: {type: file, path: /x}, b: {type: file, path: /x}}
              |                                                           ^^
            help: one input feeds every output
        "#]],
        );
        check(
            "inputs: {a: {type: stdin}, b: {type: stdin}}\n",
            expect![[r#"
            error: input `a` reads standard input already
             --> a.yaml:1:28
              |
            1 | inputs: {a: {type: stdin}, b: {type: stdin}}
              |                            ^
        "#]],
        );
    }
}
