//! Words that compile and yet can never match: nearly always a mistake, so `check` tells.
//!
//! Only what is certain from the words alone is reported. Facts about requests are those of
//! k8s.io/apiserver `pkg/endpoints/request/requestinfo.go` (verbs) and `pkg/endpoints/filters/audit.go` (stages).

use crate::invalid::join;
use crate::pattern::Codes;
use crate::words::{LevelWord, ResourceWord, StageWord, Words};

/// Verbs of requests for resources.
const RESOURCE_VERBS: &[&str] =
    &["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy"];
/// HTTP methods, the verbs of other requests.
const METHODS: &[&str] = &["get", "head", "post", "put", "patch", "delete", "options", "trace", "connect"];

/// The dead words in `words`, as path and message.
pub(crate) fn warnings(words: &Words) -> Vec<(String, String)> {
    let mut out = Vec::new();
    collect(words, &mut out);
    out
}

fn collect(words: &Words, out: &mut Vec<(String, String)>) {
    let mut warn = |path: String, message: &str| out.push((path, format!("never matches: {message}")));
    verbs(words, &mut warn);
    names(words, &mut warn);
    for (i, word) in words.resources.iter().enumerate() {
        resources(words, &format!("resources[{i}]"), word, &mut warn);
    }
    for (i, url) in words.non_resource_urls.iter().enumerate() {
        if url.contains('?') {
            warn(format!("nonResourceURLs[{i}]"), "the path is compared without its query");
        }
    }
    for (i, level) in words.levels.iter().enumerate() {
        if *level == LevelWord::None {
            warn(format!("levels[{i}]"), "at level None nothing is recorded");
        }
    }
    responses(words, &mut warn);
    if let Some(not) = &words.not {
        if **not == Words::default() {
            warn("not".into(), "no words match everything, so nothing is left");
        }
        // What never matches inside `not` excludes nothing: as much a mistake.
        let mut inner = Vec::new();
        collect(not, &mut inner);
        out.extend(inner.into_iter().map(|(path, message)| (join("not", &path), message)));
    }
}

fn is_for_resources(words: &Words) -> bool {
    !(words.resources.is_empty() && words.namespaces.is_empty() && words.namespace_prefixes.is_empty())
}

fn verbs(words: &Words, warn: &mut impl FnMut(String, &str)) {
    for (i, verb) in words.verbs.iter().enumerate() {
        let (resource, method) = (RESOURCE_VERBS.contains(&verb.as_str()), METHODS.contains(&verb.as_str()));
        let message = if verb == "*" {
            "verbs have no `*`; leave the word out for all"
        } else if !resource && !method {
            "no request has this verb"
        } else if is_for_resources(words) && !resource {
            "no request for a resource has this verb"
        } else if !words.non_resource_urls.is_empty() && !method {
            "no request for a non-resource URL has this verb"
        } else {
            continue;
        };
        warn(format!("verbs[{i}]"), message);
    }
}

fn names(words: &Words, warn: &mut impl FnMut(String, &str)) {
    for (name, list, message) in [
        ("users", &words.users, "users are compared exactly; userPrefixes has beginnings"),
        ("userGroups", &words.user_groups, "groups are compared exactly"),
        (
            "namespaces",
            &words.namespaces,
            "namespaces are compared exactly; namespacePrefixes has beginnings",
        ),
    ] {
        for (i, _) in list.iter().enumerate().filter(|(_, entry)| entry.contains('*')) {
            warn(format!("{name}[{i}]"), message);
        }
    }
    for (i, _) in
        words.namespaces.iter().enumerate().filter(|(_, n)| n.bytes().any(|b| b.is_ascii_uppercase()))
    {
        warn(format!("namespaces[{i}]"), "namespaces are lower-case");
    }
}

fn resources(words: &Words, at: &str, word: &ResourceWord, warn: &mut impl FnMut(String, &str)) {
    for (i, resource) in word.resources.iter().enumerate() {
        let message = if resource == "*/*" {
            "`*` alone is every resource and subresource"
        } else if resource.matches('/').count() > 1 {
            "a resource has at most one `/`"
        } else if resource.bytes().any(|b| b.is_ascii_uppercase()) {
            "resources are named in lower-case plural, as in pods"
        } else if resource.is_empty() || resource.starts_with('/') || resource.ends_with('/') {
            "expected a resource, as in pods or pods/log"
        } else if resource.contains('*') && !is_wildcard(resource) {
            "`*` may only stand for a whole resource or subresource"
        } else {
            continue;
        };
        warn(format!("{at}.resources[{i}]"), message);
    }
    // A create has a name in its URL only where it is for a subresource.
    let bare = word.resources.iter().all(|r| !r.contains(['/', '*']));
    let creates = !words.verbs.is_empty() && words.verbs.iter().all(|verb| verb == "create");
    if creates && bare && word.resource_names.iter().any(|name| !name.is_empty()) {
        warn(format!("{at}.resourceNames"), "the URL of a create has no name");
    }
}

fn is_wildcard(resource: &str) -> bool {
    let plain = resource.strip_prefix("*/").or_else(|| resource.strip_suffix("/*")).unwrap_or(resource);
    plain == "*" || !plain.contains('*')
}

fn responses(words: &Words, warn: &mut impl FnMut(String, &str)) {
    let received = !words.stages.is_empty() && words.stages.iter().all(|s| *s == StageWord::RequestReceived);
    if received && !words.codes.is_empty() {
        warn("codes".into(), "at RequestReceived there is no response yet");
    }
    if received && !words.decisions.is_empty() {
        warn("decisions".into(), "at RequestReceived nothing is authorized yet");
    }
    let only_401 = !words.codes.is_empty()
        && words.codes.iter().all(|c| Codes::parse(&c.0) == Some(Codes { low: 401, high: 401 }));
    for (name, list) in
        [("users", &words.users), ("userGroups", &words.user_groups), ("userPrefixes", &words.user_prefixes)]
    {
        if only_401 && !list.is_empty() {
            warn(name.into(), "a request that is answered 401 has no user");
        }
    }
    let complete = words.stages.iter().all(|s| *s == StageWord::ResponseComplete);
    if only_401 && complete && !words.stages.is_empty() {
        warn("stages".into(), "a request that is answered 401 has the stage ResponseStarted alone");
    }
}

#[cfg(test)]
mod tests {
    use crate::matcher::Matcher;

    #[test]
    fn dead_words_are_found() {
        for (words, want) in [
            (r#"{"verbs":["get","*"]}"#, "verbs[1]"),
            (r#"{"verbs":["impersonate"]}"#, "verbs[0]"),
            (r#"{"verbs":["GET"]}"#, "verbs[0]"),
            (r#"{"verbs":["post"],"namespaces":["n"]}"#, "verbs[0]"),
            (r#"{"verbs":["list"],"nonResourceURLs":["/x"]}"#, "verbs[0]"),
            (r#"{"users":["system:*"]}"#, "users[0]"),
            (r#"{"userGroups":["*"]}"#, "userGroups[0]"),
            (r#"{"namespaces":["","kube-*"]}"#, "namespaces[1]"),
            (r#"{"namespaces":["Default"]}"#, "namespaces[0]"),
            (r#"{"resources":[{"resources":["pods","*/*"]}]}"#, "resources[0].resources[1]"),
            (r#"{"resources":[{"resources":["Pod"]}]}"#, "resources[0].resources[0]"),
            (r#"{"resources":[{"resources":["pod*"]}]}"#, "resources[0].resources[0]"),
            (r#"{"resources":[{"resources":["a/b/c"]}]}"#, "resources[0].resources[0]"),
            (r#"{"resources":[{"resources":["pods/"]}]}"#, "resources[0].resources[0]"),
            (
                r#"{"verbs":["create"],"resources":[{"resources":["pods"],"resourceNames":["p"]}]}"#,
                "resources[0].resourceNames",
            ),
            (r#"{"nonResourceURLs":["/x?y"]}"#, "nonResourceURLs[0]"),
            (r#"{"levels":["None"]}"#, "levels[0]"),
            (r#"{"stages":["RequestReceived"],"codes":["2xx"]}"#, "codes"),
            (r#"{"stages":["RequestReceived"],"decisions":["allow"]}"#, "decisions"),
            (r#"{"codes":[401],"userPrefixes":["x"]}"#, "userPrefixes"),
            (r#"{"codes":[401],"stages":["ResponseComplete"]}"#, "stages"),
            (r#"{"not":{}}"#, "not"),
            (r#"{"not":{"verbs":["*"]}}"#, "not.verbs[0]"),
        ] {
            let warnings = Matcher::warnings(&serde_json::from_str(words).unwrap());
            let paths: Vec<_> = warnings.iter().map(|(path, _)| path.as_str()).collect();
            assert_eq!(paths, [want], "{words}");
        }
    }

    #[test]
    fn live_words_are_left_alone() {
        for words in [
            "{}",
            r#"{"verbs":["get"],"nonResourceURLs":["*","/healthz*"]}"#,
            r#"{"verbs":["create"],"resources":[{"resources":["pods/exec"],"resourceNames":["p"]}]}"#,
            r#"{"verbs":["create"],"resources":[{"resources":["*"],"resourceNames":["p"]}]}"#,
            r#"{"verbs":["create","get"],"resources":[{"resources":["pods"],"resourceNames":["p"]}]}"#,
            r#"{"resources":[{"group":"*","resources":["*","*/scale","pods/*","pods/log"]}],"namespaces":[""]}"#,
            r#"{"stages":["RequestReceived","Panic"],"codes":["5xx"]}"#,
            r#"{"codes":[401,403],"users":["u"],"stages":["ResponseComplete"]}"#,
        ] {
            assert_eq!(Matcher::warnings(&serde_json::from_str(words).unwrap()), [], "{words}");
        }
    }
}
