//! The words that Kubernetes has too, with the cases of its own tests
//! (k8s.io/apiserver `pkg/audit/policy/checker_test.go`, `testAuditLevel`) and those that its documentation
//! gets wrong.

use crate::matches;

const TIM: &str = r#""user":{"username":"tim@k8s.io","groups":["humans","developers"]}"#;

fn request(name: &str) -> String {
    let (uri, object) = match name {
        "namespaced" | "unauthorized" => (
            "/api/v1/namespaces/default/pods/busybox",
            r#","objectRef":{"resource":"pods","namespace":"default","name":"busybox","apiVersion":"v1"}"#,
        ),
        "cluster" => (
            "/apis/rbac.authorization.k8s.io/v1beta1/clusterroles/edit",
            r#","objectRef":{"resource":"clusterroles","name":"edit","apiGroup":"rbac.authorization.k8s.io"}"#,
        ),
        "nonResource" => ("/logs/kubelet.log", ""),
        "subresource" => (
            "/api/v1/namespaces/default/pods/busybox/log",
            r#","objectRef":{"resource":"pods","namespace":"default","name":"busybox","subresource":"log"}"#,
        ),
        other => panic!("no request {other}"),
    };
    let user = if name == "unauthorized" { r#""user":{}"# } else { TIM };
    format!(r#"{{"verb":"get","requestURI":"{uri}",{user}{object}}}"#)
}

fn rule(name: &str) -> &'static str {
    match name {
        "default" => "{}",
        "create" => r#"{"verbs":["create"]}"#,
        "tims" => r#"{"users":["tim@k8s.io"]}"#,
        "humans" => r#"{"userGroups":["humans"]}"#,
        "serviceAccounts" => r#"{"userGroups":["system:serviceaccounts"]}"#,
        "getPods" => r#"{"verbs":["get"],"resources":[{"resources":["pods"]}]}"#,
        "getPodLogs" => r#"{"verbs":["get"],"resources":[{"resources":["pods/log"]}]}"#,
        "everything" => r#"{"verbs":["get"],"resources":[{"resources":["*"]}]}"#,
        "anyLog" => r#"{"verbs":["get"],"resources":[{"resources":["*/log"]}]}"#,
        "podFamily" => r#"{"verbs":["get"],"resources":[{"resources":["pods/*"]}]}"#,
        "getClusterRoles" => {
            r#"{"verbs":["get"],"resources":[{"group":"rbac.authorization.k8s.io","resources":["clusterroles"]}],"namespaces":[""]}"#
        }
        "clusterRoleEdit" => {
            r#"{"resources":[{"group":"rbac.authorization.k8s.io","resources":["clusterroles"],"resourceNames":["edit"]}]}"#
        }
        "getLogs" => r#"{"verbs":["get"],"nonResourceURLs":["/logs*"]}"#,
        "getMetrics" => r#"{"verbs":["get"],"nonResourceURLs":["/metrics"]}"#,
        other => panic!("no rule {other}"),
    }
}

/// Which of the rules is the first to match.
fn first(request_name: &str, rules: &[&str]) -> Option<usize> {
    rules.iter().position(|name| matches(rule(name), &request(request_name)))
}

#[test]
fn the_cases_of_the_checker() {
    for (name, rules, want) in [
        ("namespaced", &["default"][..], Some(0)),
        ("namespaced", &["create"], None),
        ("namespaced", &["tims"], Some(0)),
        ("namespaced", &["humans"], Some(0)),
        ("namespaced", &["serviceAccounts"], None),
        ("namespaced", &["getPods"], Some(0)),
        ("namespaced", &["getClusterRoles"], None),
        ("namespaced", &["getLogs"], None),
        ("namespaced", &["getMetrics"], None),
        ("namespaced", &["getMetrics", "serviceAccounts", "default"], Some(2)),
        ("namespaced", &["getMetrics", "getPods", "default"], Some(1)),
        ("namespaced", &["getPodLogs", "getPods"], Some(1)),
        ("cluster", &["default"], Some(0)),
        ("cluster", &["create"], None),
        ("cluster", &["tims"], Some(0)),
        ("cluster", &["humans"], Some(0)),
        ("cluster", &["serviceAccounts"], None),
        ("cluster", &["getPods"], None),
        ("cluster", &["getClusterRoles"], Some(0)),
        ("cluster", &["clusterRoleEdit", "getClusterRoles"], Some(0)),
        ("cluster", &["getLogs"], None),
        ("cluster", &["getMetrics"], None),
        ("cluster", &["getMetrics", "serviceAccounts", "default"], Some(2)),
        ("cluster", &["getMetrics", "getClusterRoles", "default"], Some(1)),
        ("cluster", &["getPodLogs", "getPods"], None),
        ("nonResource", &["default"], Some(0)),
        ("nonResource", &["create"], None),
        ("nonResource", &["tims"], Some(0)),
        ("nonResource", &["humans"], Some(0)),
        ("nonResource", &["serviceAccounts"], None),
        ("nonResource", &["getPods"], None),
        ("nonResource", &["getClusterRoles"], None),
        ("nonResource", &["getLogs"], Some(0)),
        ("nonResource", &["getMetrics"], None),
        ("nonResource", &["getMetrics", "serviceAccounts", "default"], Some(2)),
        ("nonResource", &["getLogs", "getClusterRoles", "default"], Some(0)),
        ("nonResource", &["getPodLogs", "getPods"], None),
        ("subresource", &["getPodLogs", "getPods"], Some(0)),
        ("subresource", &["getPods"], None),
        ("subresource", &["everything"], Some(0)),
        ("subresource", &["anyLog"], Some(0)),
        ("subresource", &["podFamily"], Some(0)),
        ("unauthorized", &["tims"], None),
        ("unauthorized", &["tims", "default"], Some(1)),
        ("unauthorized", &["humans"], None),
        ("unauthorized", &["humans", "default"], Some(1)),
    ] {
        assert_eq!(first(name, rules), want, "{name} {rules:?}");
    }
}

#[test]
fn resources() {
    for (words, object, want) in [
        // `pods/*` is the bare resource too, whatever the documentation says.
        (r#"{"resources":["pods/*"]}"#, r#"{"resource":"pods"}"#, true),
        (r#"{"resources":["pods/*"]}"#, r#"{"resource":"podtemplates"}"#, false),
        (r#"{"resources":["*/status"]}"#, r#"{"resource":"pods"}"#, false),
        (r#"{"resources":["*/status"]}"#, r#"{"resource":"pods","subresource":"status"}"#, true),
        (r#"{"resources":["*/status"]}"#, r#"{"resource":"pods","subresource":"log"}"#, false),
        (r#"{"resources":["*/*"]}"#, r#"{"resource":"pods","subresource":"log"}"#, false),
        (r#"{"resources":["*"]}"#, r#"{"resource":"pods","subresource":"log"}"#, true),
        // No group is the core group, not any.
        (r#"{"resources":["*"]}"#, r#"{"resource":"deployments","apiGroup":"apps"}"#, false),
        ("{}", r#"{"resource":"deployments","apiGroup":"apps"}"#, false),
        ("{}", r#"{"resource":"pods"}"#, true),
        (
            r#"{"group":"apps"}"#,
            r#"{"resource":"deployments","apiGroup":"apps","subresource":"scale"}"#,
            true,
        ),
        (r#"{"group":"*"}"#, r#"{"resource":"deployments","apiGroup":"apps"}"#, true),
        (r#"{"group":"*","resources":["pods"]}"#, r#"{"resource":"pods","apiGroup":"metrics.k8s.io"}"#, true),
        (r#"{"resources":["pods"],"resourceNames":["a","b"]}"#, r#"{"resource":"pods","name":"b"}"#, true),
        (r#"{"resources":["pods"],"resourceNames":["a"]}"#, r#"{"resource":"pods","name":"b"}"#, false),
        (r#"{"resources":["pods"],"resourceNames":[""]}"#, r#"{"resource":"pods"}"#, true),
    ] {
        let event = format!(r#"{{"verb":"get","requestURI":"/api/v1/x","objectRef":{object}}}"#);
        assert_eq!(matches(&format!(r#"{{"resources":[{words}]}}"#), &event), want, "{words} {object}");
    }
}

#[test]
fn a_create_has_no_name_but_its_subresources_have() {
    let words = r#"{"resources":[{"resources":["pods/*"],"resourceNames":["p"]}]}"#;
    for (uri, sub, want) in
        [("/api/v1/namespaces/n/pods", "", false), ("/api/v1/namespaces/n/pods/p/exec", "exec", true)]
    {
        let event = format!(
            r#"{{"verb":"create","requestURI":"{uri}?x=y","objectRef":{{"resource":"pods","subresource":"{sub}","namespace":"n","name":"p"}}}}"#
        );
        assert_eq!(matches(words, &event), want, "{uri}");
    }
}

#[test]
fn namespaces() {
    for (words, object, want) in [
        (r#"[""]"#, r#","objectRef":{"resource":"nodes"}"#, true),
        // A list over all namespaces.
        (r#"[""]"#, r#","objectRef":{"resource":"pods"}"#, true),
        (r#"[""]"#, r#","objectRef":{"resource":"pods","namespace":"n"}"#, false),
        (r#"["n"]"#, r#","objectRef":{"resource":"namespaces","namespace":"n","name":"n"}"#, true),
        (r#"["a","n"]"#, r#","objectRef":{"resource":"pods","namespace":"n"}"#, true),
        // No namespace is not a non-resource request.
        (r#"[""]"#, "", false),
    ] {
        let event = format!(r#"{{"verb":"get","requestURI":"/healthz"{object}}}"#);
        assert_eq!(matches(&format!(r#"{{"namespaces":{words}}}"#), &event), want, "{words} {object}");
    }
}

#[test]
fn non_resource_urls() {
    for (words, uri, object, want) in [
        (r#"["*"]"#, "/anything", "", true),
        (r#"["*"]"#, "/api/v1/nodes", r#","objectRef":{"resource":"nodes"}"#, false),
        (r#"["/healthz"]"#, "/healthz?verbose=1", "", true),
        (r#"["/healthz"]"#, "/healthz/etcd", "", false),
        (r#"["/healthz*"]"#, "/healthz/etcd", "", true),
        (r#"["/healthz*"]"#, "/healthz", "", true),
        (r#"["/a","/b*"]"#, "/bc", "", true),
        (r#"["/api*"]"#, "/apis/apps/v1", "", true),
        (r#"["/a b"]"#, "/a%20b", "", true),
        (r#"["/*"]"#, "/x", "", true),
    ] {
        let event = format!(r#"{{"verb":"get","requestURI":"{uri}"{object}}}"#);
        assert_eq!(matches(&format!(r#"{{"nonResourceURLs":{words}}}"#), &event), want, "{words} {uri}");
    }
}

#[test]
fn exact_words_have_no_wildcards() {
    let event = request("namespaced");
    for words in [
        r#"{"verbs":["*"]}"#,
        r#"{"users":["*"]}"#,
        r#"{"users":["tim*"]}"#,
        r#"{"userGroups":["*"]}"#,
        r#"{"namespaces":["*"]}"#,
    ] {
        assert!(!matches(words, &event), "{words}");
    }
}
