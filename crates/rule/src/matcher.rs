//! Words compiled: a list of tests, cheapest first, that all must pass.
//!
//! What the API server's policy loader refuses is refused here too (k8s.io/apiserver
//! `pkg/apis/audit/validation`), because half-understood words would silently match more or less than meant.

use crate::facts::Facts;
use crate::invalid::Invalid;
use crate::pattern::{Bound, Codes, Glob, Net};
use crate::words::{DecisionWord, LevelWord, ResourceWord, StageWord, Words};
use auditship_event::{Level, Stage};

/// How deep `not` may be nested.
pub const NOT_MAX: usize = 8;

/// Compiled [`Words`].
#[derive(Clone, Debug)]
pub struct Matcher {
    /// Invariant: every word that was given is one test; none means anything matches.
    tests: Vec<Test>,
}

/// One word. The order of the variants is the order of the tests: what is decoded anyway comes first.
#[derive(Clone, Debug)]
enum Test {
    Stages(Vec<Stage>),
    Levels(Vec<Level>),
    Impersonated(bool),
    Verbs(Vec<Box<str>>),
    Codes(Vec<Codes>),
    Users(Vec<Box<str>>),
    UserPrefixes(Vec<Box<str>>),
    Namespaces(Vec<Box<str>>),
    NamespacePrefixes(Vec<Box<str>>),
    Resources(Vec<Group>),
    Urls(Vec<Url>),
    Latency(Bound),
    UserAgents(Vec<Glob>),
    SourceIps(Vec<Net>),
    UserGroups(Vec<Box<str>>),
    Decisions(Vec<DecisionWord>),
    Annotations(Vec<(Glob, Glob)>),
    Not(Matcher),
}

/// Resources of a group.
#[derive(Clone, Debug)]
struct Group {
    /// `None` stands for every group.
    group: Option<Box<str>>,
    /// Empty means all.
    resources: Vec<Resource>,
    /// Empty means any name.
    names: Vec<Box<str>>,
}

#[derive(Clone, Debug)]
enum Resource {
    /// `*`
    Any,
    /// `pods` or `pods/log`; the second part is empty for the resource itself.
    Exact(Box<str>, Box<str>),
    /// `*/scale`
    Subresource(Box<str>),
    /// `pods/*`, which is the bare resource too.
    Family(Box<str>),
}

#[derive(Clone, Debug)]
enum Url {
    Exact(Box<str>),
    Prefix(Box<str>),
}

impl Matcher {
    /// Compiles `words`.
    ///
    /// # Errors
    /// [`Invalid`] with the path of the first word that is not understood.
    pub fn compile(words: &Words) -> Result<Matcher, Invalid> {
        Matcher::nested(words, 0)
    }

    /// Whether there are no words, so that every event matches.
    pub fn is_anything(&self) -> bool {
        self.tests.is_empty()
    }

    /// Whether the event matches.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        self.tests.iter().all(|test| test.passes(facts))
    }

    /// Words that can never match, as path and message; for words that compile.
    pub fn warnings(words: &Words) -> Vec<(String, String)> {
        crate::lint::warnings(words)
    }

    fn nested(words: &Words, depth: usize) -> Result<Matcher, Invalid> {
        let mut tests = Vec::new();
        list(&words.stages, Test::Stages, |_, word| Ok(stage(word)), &mut tests)?;
        list(&words.levels, Test::Levels, |_, word| Ok(level(word)), &mut tests)?;
        tests.extend(words.impersonated.map(Test::Impersonated));
        list(&words.verbs, Test::Verbs, exact, &mut tests)?;
        let expected = "expected a status code, such as 401, 4xx or 500-599";
        let codes = |i, word: &crate::words::CodeWord| {
            Codes::parse(&word.0).ok_or_else(|| Invalid::new(format!("codes[{i}]"), expected))
        };
        list(&words.codes, Test::Codes, codes, &mut tests)?;
        list(&words.users, Test::Users, exact, &mut tests)?;
        list(&words.user_prefixes, Test::UserPrefixes, |i, w| prefix("userPrefixes", i, w), &mut tests)?;
        list(&words.namespaces, Test::Namespaces, exact, &mut tests)?;
        let starts = |i, word: &String| prefix("namespacePrefixes", i, word);
        list(&words.namespace_prefixes, Test::NamespacePrefixes, starts, &mut tests)?;
        list(&words.resources, Test::Resources, group, &mut tests)?;
        list(&words.non_resource_urls, Test::Urls, |i, word| url(words, i, word), &mut tests)?;
        if let Some(word) = &words.latency {
            let expected = "expected a bound, such as >1s, >=500ms or <2s";
            tests.push(Test::Latency(Bound::parse(word).ok_or_else(|| Invalid::new("latency", expected))?));
        }
        list(&words.user_agents, Test::UserAgents, |_, word| Ok(Glob::new(word)), &mut tests)?;
        let net = |i, word: &String| {
            let expected = "expected an address or a network, such as 192.0.2.7 or 10.0.0.0/8";
            Net::parse(word).ok_or_else(|| Invalid::new(format!("sourceIPs[{i}]"), expected))
        };
        list(&words.source_ips, Test::SourceIps, net, &mut tests)?;
        list(&words.user_groups, Test::UserGroups, exact, &mut tests)?;
        list(&words.decisions, Test::Decisions, |_, word| Ok(*word), &mut tests)?;
        if !words.annotations.is_empty() {
            let pair = |(key, value): (&String, &String)| {
                (Glob::new(key), Glob::new(if value.is_empty() { "*" } else { value }))
            };
            tests.push(Test::Annotations(words.annotations.iter().map(pair).collect()));
        }
        if let Some(not) = &words.not {
            if depth == NOT_MAX {
                return Err(Invalid::new("not", format!("nested deeper than {NOT_MAX}")));
            }
            tests.push(Test::Not(Matcher::nested(not, depth + 1).map_err(|e| e.within("not"))?));
        }
        Ok(Matcher { tests })
    }
}

/// Compiles one list of words into one test; an empty list is no test.
fn list<W, C>(
    words: &[W],
    test: fn(Vec<C>) -> Test,
    compile: impl Fn(usize, &W) -> Result<C, Invalid>,
    tests: &mut Vec<Test>,
) -> Result<(), Invalid> {
    if !words.is_empty() {
        let compiled = words.iter().enumerate().map(|(i, word)| compile(i, word));
        tests.push(test(compiled.collect::<Result<_, _>>()?));
    }
    Ok(())
}

/// Compiles a word that is compared as it is; it cannot fail, but has the shape that [`list`] takes.
fn exact(_: usize, word: &impl AsRef<str>) -> Result<Box<str>, Invalid> {
    Ok(word.as_ref().into())
}

fn prefix(name: &str, i: usize, word: &str) -> Result<Box<str>, Invalid> {
    if word.is_empty() {
        return Err(Invalid::new(format!("{name}[{i}]"), "expected a beginning that is not empty"));
    }
    if word.contains('*') {
        return Err(Invalid::new(format!("{name}[{i}]"), "a prefix has no `*`: leave it out"));
    }
    Ok(word.into())
}

fn stage(word: &StageWord) -> Stage {
    match word {
        StageWord::RequestReceived => Stage::RequestReceived,
        StageWord::ResponseStarted => Stage::ResponseStarted,
        StageWord::ResponseComplete => Stage::ResponseComplete,
        StageWord::Panic => Stage::Panic,
    }
}

fn level(word: &LevelWord) -> Level {
    match word {
        LevelWord::None => Level::None,
        LevelWord::Metadata => Level::Metadata,
        LevelWord::Request => Level::Request,
        LevelWord::RequestResponse => Level::RequestResponse,
    }
}

fn group(i: usize, word: &ResourceWord) -> Result<Group, Invalid> {
    let at = format!("resources[{i}]");
    if word.group.contains('/') {
        return Err(Invalid::new(
            format!("{at}.group"),
            "a group has no version: leave out what follows `/`",
        ));
    }
    let safe = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    if word.group != "*" && !word.group.bytes().all(safe) {
        return Err(Invalid::new(format!("{at}.group"), "expected an API group, such as apps, or `*`"));
    }
    if !word.resource_names.is_empty() && word.resources.is_empty() {
        return Err(Invalid::new(format!("{at}.resourceNames"), "resourceNames need resources beside them"));
    }
    Ok(Group {
        group: (word.group != "*").then(|| word.group.as_str().into()),
        resources: word.resources.iter().map(|word| resource(word)).collect(),
        names: word.resource_names.iter().map(|name| name.as_str().into()).collect(),
    })
}

fn resource(word: &str) -> Resource {
    if word == "*" {
        return Resource::Any;
    }
    match word.split_once('/') {
        // Also `*/*`, which matches nothing there either: no subresource is called `*`.
        Some(("*", sub)) => Resource::Subresource(sub.into()),
        Some((resource, "*")) => Resource::Family(resource.into()),
        Some((resource, sub)) => Resource::Exact(resource.into(), sub.into()),
        None => Resource::Exact(word.into(), "".into()),
    }
}

fn url(words: &Words, i: usize, word: &str) -> Result<Url, Invalid> {
    let wrong = |message: &str| Err(Invalid::new(format!("nonResourceURLs[{i}]"), message));
    if !(words.resources.is_empty() && words.namespaces.is_empty() && words.namespace_prefixes.is_empty()) {
        return wrong("no request is both for a resource and for a non-resource URL");
    }
    if word != "*" && !word.starts_with('/') {
        return wrong("expected `*` or a path that begins with `/`");
    }
    match word.find('*') {
        None => Ok(Url::Exact(word.into())),
        Some(at) if at + 1 == word.len() => Ok(Url::Prefix(word[..at].into())),
        Some(_) => wrong("`*` may only stand at the end"),
    }
}

fn has(words: &[Box<str>], text: &str) -> bool {
    words.iter().any(|word| &**word == text)
}

impl Test {
    fn passes(&self, facts: &Facts<'_>) -> bool {
        match self {
            Test::Stages(stages) => stages.contains(&facts.stage()),
            Test::Levels(levels) => levels.contains(&facts.level()),
            Test::Impersonated(wanted) => facts.is_impersonated() == *wanted,
            Test::Verbs(verbs) => has(verbs, facts.verb()),
            Test::Codes(codes) => facts.code().is_some_and(|code| codes.iter().any(|c| c.contains(code))),
            Test::Users(users) => facts.username().is_some_and(|user| has(users, user)),
            Test::UserPrefixes(prefixes) => {
                facts.username().is_some_and(|user| prefixes.iter().any(|p| user.starts_with(&**p)))
            }
            Test::Namespaces(namespaces) => facts.object().is_some_and(|o| has(namespaces, &o.namespace)),
            Test::NamespacePrefixes(prefixes) => {
                facts.object().is_some_and(|o| prefixes.iter().any(|p| o.namespace.starts_with(&**p)))
            }
            Test::Resources(groups) => groups.iter().any(|group| group.matches(facts)),
            Test::Urls(urls) => facts.object().is_none() && urls.iter().any(|url| url.matches(facts.path())),
            Test::Latency(bound) => facts.latency().is_some_and(|micros| bound.holds(micros)),
            Test::UserAgents(globs) => globs.iter().any(|glob| glob.matches(facts.user_agent())),
            Test::SourceIps(nets) => facts.source_ip().is_some_and(|ip| nets.iter().any(|n| n.contains(ip))),
            Test::UserGroups(groups) => facts.groups().iter().any(|group| has(groups, group)),
            Test::Decisions(decisions) => decided(decisions, facts.decision()),
            Test::Annotations(pairs) => pairs.iter().all(|(key, value)| annotated(facts, key, value)),
            Test::Not(matcher) => !matcher.matches(facts),
        }
    }
}

fn decided(decisions: &[DecisionWord], decision: Option<&str>) -> bool {
    match decision {
        Some("allow") => decisions.contains(&DecisionWord::Allow),
        Some("forbid") => decisions.contains(&DecisionWord::Forbid),
        _ => false,
    }
}

fn annotated(facts: &Facts<'_>, key: &Glob, value: &Glob) -> bool {
    if key.is_pattern() {
        return facts.any_annotation(|k, v| key.matches(k) && value.matches(v));
    }
    facts.event().annotation(key.as_str()).is_some_and(|text| value.matches(&text))
}

impl Group {
    fn matches(&self, facts: &Facts<'_>) -> bool {
        let Some(object) = facts.object() else { return false };
        if self.group.as_deref().is_some_and(|group| group != object.group) {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        self.resources.iter().any(|word| word.matches(&object.resource, &object.subresource))
            && (self.names.is_empty() || has(&self.names, facts.url_name()))
    }
}

impl Resource {
    fn matches(&self, resource: &str, subresource: &str) -> bool {
        match self {
            Resource::Any => true,
            Resource::Exact(r, s) => **r == *resource && **s == *subresource,
            Resource::Subresource(s) => !subresource.is_empty() && **s == *subresource,
            Resource::Family(r) => **r == *resource,
        }
    }
}

impl Url {
    fn matches(&self, path: &str) -> bool {
        match self {
            Url::Exact(word) => **word == *path,
            Url::Prefix(word) => path.starts_with(&**word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(words: &str) -> Result<Matcher, Invalid> {
        Matcher::compile(&serde_json::from_str(words).unwrap())
    }

    #[test]
    fn errors_say_where() {
        for (words, want) in [
            (r#"{"codes":[401,"40x"]}"#, "codes[1]: expected a status code, such as 401, 4xx or 500-599"),
            (r#"{"latency":"1s"}"#, "latency: expected a bound, such as >1s, >=500ms or <2s"),
            (
                r#"{"not":{"not":{"sourceIPs":["x"]}}}"#,
                "not.not.sourceIPs[0]: expected an address or a network, such as 192.0.2.7 or 10.0.0.0/8",
            ),
            (r#"{"userPrefixes":[""]}"#, "userPrefixes[0]: expected a beginning that is not empty"),
            (r#"{"namespacePrefixes":["a*"]}"#, "namespacePrefixes[0]: a prefix has no `*`: leave it out"),
            (
                r#"{"resources":[{"group":"apps/v1"}]}"#,
                "resources[0].group: a group has no version: leave out what follows `/`",
            ),
            (
                r#"{"resources":[{"group":"Apps"}]}"#,
                "resources[0].group: expected an API group, such as apps, or `*`",
            ),
            (
                r#"{"resources":[{},{"resourceNames":["n"]}]}"#,
                "resources[1].resourceNames: resourceNames need resources beside them",
            ),
            (
                r#"{"nonResourceURLs":["/x"],"namespaces":["n"]}"#,
                "nonResourceURLs[0]: no request is both for a resource and for a non-resource URL",
            ),
            (
                r#"{"nonResourceURLs":["healthz"]}"#,
                "nonResourceURLs[0]: expected `*` or a path that begins with `/`",
            ),
            (r#"{"nonResourceURLs":["/*/x"]}"#, "nonResourceURLs[0]: `*` may only stand at the end"),
        ] {
            assert_eq!(compile(words).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |n: usize| format!("{}{{}}{}", r#"{"not":"#.repeat(n), "}".repeat(n));
        assert!(compile(&nested(NOT_MAX)).is_ok());
        assert!(compile(&nested(NOT_MAX + 1)).unwrap_err().message.contains("deeper"));
    }

    #[test]
    fn no_words_are_anything() {
        assert!(compile("{}").unwrap().is_anything());
        assert!(compile(r#"{"verbs":[],"resources":[]}"#).unwrap().is_anything());
        assert!(!compile(r#"{"verbs":["get"]}"#).unwrap().is_anything());
    }
}
