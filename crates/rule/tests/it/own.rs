//! The words that an audit policy does not have.

use crate::matches;

const EVENT: &str = r#"{"level":"Metadata","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/team-a-1/pods/p","verb":"get","user":{"username":"system:serviceaccount:ci:bot","groups":["system:serviceaccounts"]},"impersonatedUser":{"username":"x"},"sourceIPs":["10.9.9.9","192.0.2.7"],"userAgent":"kubectl/v1.37 (linux)","objectRef":{"resource":"pods","namespace":"team-a-1","name":"p"},"responseStatus":{"code":403},"requestReceivedTimestamp":"2026-01-02T03:04:05.000000Z","stageTimestamp":"2026-01-02T03:04:06.500000Z","annotations":{"authorization.k8s.io/decision":"forbid","failed-open.validating.webhook.admission.k8s.io/round_0_index_2":"hook"}}"#;

#[test]
fn words_match() {
    for words in [
        r#"{"levels":["None","Metadata"]}"#,
        r#"{"stages":["ResponseComplete"]}"#,
        r#"{"codes":[401,403]}"#,
        r#"{"codes":["4xx"]}"#,
        r#"{"codes":["400-403"]}"#,
        r#"{"decisions":["forbid"]}"#,
        r#"{"sourceIPs":["192.0.2.0/24"]}"#,
        r#"{"userPrefixes":["eks:","system:serviceaccount:ci:"]}"#,
        r#"{"namespacePrefixes":["team-a-"]}"#,
        r#"{"userAgents":["curl*","kubectl/v1.?? (*"]}"#,
        r#"{"annotations":{"authorization.k8s.io/decision":""}}"#,
        r#"{"annotations":{"authorization.k8s.io/decision":"for*","failed-open.*":"*"}}"#,
        r#"{"latency":">1s"}"#,
        r#"{"impersonated":true}"#,
        r#"{"not":{"verbs":["list"]}}"#,
        r#"{"not":{"verbs":["get"],"codes":["2xx"]}}"#,
        r#"{"verbs":["get"],"not":{"not":{"verbs":["get"]}}}"#,
    ] {
        assert!(matches(words, EVENT), "{words}");
    }
}

#[test]
fn words_do_not_match() {
    for words in [
        r#"{"levels":["Request"]}"#,
        r#"{"stages":["RequestReceived","Panic"]}"#,
        r#"{"codes":["404-599"]}"#,
        r#"{"decisions":["allow"]}"#,
        // The client claimed this one.
        r#"{"sourceIPs":["10.0.0.0/8"]}"#,
        r#"{"userPrefixes":["serviceaccount"]}"#,
        r#"{"namespacePrefixes":["team-b-"]}"#,
        r#"{"userAgents":["kubectl"]}"#,
        r#"{"annotations":{"authorization.k8s.io/decision":"for*","missing":""}}"#,
        r#"{"annotations":{"failed-open.mutating*":"*"}}"#,
        r#"{"latency":"<=1s"}"#,
        r#"{"impersonated":false}"#,
        r#"{"not":{"verbs":["get"]}}"#,
        r#"{"verbs":["get"],"codes":["2xx"]}"#,
    ] {
        assert!(!matches(words, EVENT), "{words}");
    }
}

#[test]
fn what_an_event_lacks_does_not_match() {
    for words in [
        r#"{"codes":["100-599"]}"#,
        r#"{"decisions":["allow","forbid"]}"#,
        r#"{"sourceIPs":["0.0.0.0/0","::/0"]}"#,
        r#"{"userPrefixes":["s"]}"#,
        r#"{"namespacePrefixes":["n"]}"#,
        r#"{"annotations":{"*":""}}"#,
        r#"{"latency":">=0s"}"#,
        r#"{"latency":"<1h"}"#,
        r#"{"stages":["RequestReceived","ResponseStarted","ResponseComplete","Panic"]}"#,
        r#"{"impersonated":true}"#,
    ] {
        assert!(!matches(words, "{}"), "{words}");
    }
    assert!(matches(r#"{"userAgents":["*"],"impersonated":false}"#, "{}"));
}
