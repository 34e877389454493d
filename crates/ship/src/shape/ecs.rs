//! The shape `ecs`: Elastic Common Schema, with the event as it is in `kubernetes.audit`.
//!
//! Sources: ECS field reference (`elastic.co/docs/reference/ecs`), sections base, event, user, source, user_agent,
//! url, http and orchestrator; `event.category: api` and the event types it goes with. The place
//! `kubernetes.audit` is that of Elastic's own integration (elastic/integrations,
//! `packages/kubernetes/data_stream/audit_logs`).

use super::{Facts, Object, Shape, field, split_uri};
use crate::sink::{Context, WithIndex};
use auditship_event::audit::micros;
use auditship_event::{Record, scan};
use std::io::Write as _;
use std::ops::Range;

/// The version of ECS whose fields these are; what was added later is not used.
const VERSION: &str = "8.11.0";

pub(super) const SHAPE: Shape = Shape {
    name: "ecs",
    doc: "For Elasticsearch and OpenSearch: the fields of the Elastic Common Schema, version 8.11. The event stands\n\
          unchanged in `kubernetes.audit`, so nothing is lost. Map that with `dynamic: false`,\n\
          as in docs/outputs/elasticsearch.md: its field names run into thousands.",
    fields: &[
        field("@timestamp", "`stageTimestamp`, else the time of reading"),
        field("ecs.version", "`8.11.0`"),
        field("event.id", "the record's uid"),
        field("event.kind", "`event`"),
        field("event.module", "`kubernetes`"),
        field("event.dataset", "`kubernetes.audit_logs`"),
        field("event.category", "`api`; also `authentication` for code 401"),
        field(
            "event.type",
            "`access` for get, list, watch and all else; `creation`, `change` (update, patch), `deletion`; and `denied` \
             for codes 401 and 403, `allowed` for the others",
        ),
        field("event.action", "`verb`"),
        field(
            "event.outcome",
            "`failure` for the stage Panic, a decision `forbid` and codes from 400, `success` for lower ones, else `unknown`",
        ),
        field("event.duration", "`requestReceivedTimestamp` to `stageTimestamp`, nanoseconds"),
        field("event.start", "`requestReceivedTimestamp`"),
        field("user.name", "`user.username`"),
        field("user.id", "`user.uid`"),
        field("user.effective.name", "`impersonatedUser.username`"),
        field("source.ip", "the last of `sourceIPs`: the others can be set by the client"),
        field("user_agent.original", "`userAgent`"),
        field("url.original", "`requestURI`"),
        field("url.path", "`requestURI` up to `?`"),
        field("url.query", "`requestURI` after `?`"),
        field("http.request.id", "`auditID`"),
        field("http.request.method", "the method that `verb` stands for"),
        field("http.response.status_code", "`responseStatus.code`"),
        field("orchestrator.type", "`kubernetes`"),
        field("orchestrator.cluster.name", "`cluster` of the configuration"),
        field("orchestrator.namespace", "`objectRef.namespace`"),
        field("orchestrator.api_version", "`objectRef.apiGroup` and `objectRef.apiVersion`, as in `apps/v1`"),
        field("orchestrator.resource.type", "`objectRef.resource`"),
        field("orchestrator.resource.name", "`objectRef.name`"),
        field("orchestrator.resource.id", "`objectRef.uid`"),
        field("kubernetes.audit", "the event, unchanged"),
        field("auditship", "`uid`, `cluster`, `node`, `key`, and `index` where the request does not say it"),
    ],
};

/// Appends the record as one ECS document. Gives the place of the event in what it appended.
pub(crate) fn frame(
    record: &Record<'_>,
    context: &Context,
    index: WithIndex,
    out: &mut Vec<u8>,
) -> Range<usize> {
    let from = out.len();
    let body = record.body.to_vec();
    let mut document = Object::open(out);
    let time = jiff::Timestamp::from_microsecond(record.time).unwrap_or_default();
    write!(document.key("@timestamp"), "\"{time:.6}\"").expect("memory takes any bytes");
    document.object("ecs", |ecs| ecs.text("version", VERSION));
    // The body is JSON by the invariant of `Body`; if it were not, what can be read of it is in it still.
    if let Ok(facts) = Facts::read(&body, &mut scan::Ignore) {
        fields(&facts, record, context, &mut document);
    }
    let mut place = 0..0;
    document.object("kubernetes", |kubernetes| {
        let out = kubernetes.key("audit");
        place.start = out.len() - from;
        out.extend_from_slice(&body);
        place.end = out.len() - from;
    });
    context.write_member(record, index, document.member());
    document.close();
    place
}

fn fields(facts: &Facts<'_>, record: &Record<'_>, context: &Context, document: &mut Object<'_>) {
    let event = &facts.event;
    document.object("event", |to| {
        to.text("id", &String::from_utf8_lossy(&record.uid.hex()));
        to.text("kind", "event");
        to.text("module", "kubernetes");
        to.text("dataset", "kubernetes.audit_logs");
        to.texts("category", if facts.code() == Some(401) { &["api", "authentication"] } else { &["api"] });
        to.texts("type", &types(facts));
        to.text("action", &event.verb());
        to.text("outcome", facts.outcome());
        to.number("duration", facts.duration());
        let received = event.received_timestamp();
        // A date that cannot be read would have the whole document refused.
        to.text("start", if micros(&received).is_some() { &received } else { "" });
    });
    document.object("user", |to| {
        to.text("name", &event.username().unwrap_or_default());
        to.text("id", &facts.text(facts.user_uid));
        to.object("effective", |to| to.text("name", &facts.text(facts.effective)));
    });
    document.object("source", |to| {
        to.text("ip", &facts.client_ip().map(|ip| ip.to_string()).unwrap_or_default());
    });
    document.object("user_agent", |to| to.text("original", &event.user_agent()));
    let uri = event.request_uri();
    let (path, query) = split_uri(&uri);
    document.object("url", |to| {
        to.text("original", &uri);
        to.text("path", path);
        to.text("query", query);
    });
    document.object("http", |to| {
        to.object("request", |to| {
            to.text("id", &event.audit_id());
            to.text("method", facts.method());
        });
        to.object("response", |to| to.number("status_code", facts.code()));
    });
    let object = event.object_ref().unwrap_or_default();
    document.object("orchestrator", |to| {
        to.text("type", "kubernetes");
        to.object("cluster", |to| to.text("name", context.cluster()));
        to.text("namespace", &object.namespace);
        match &*object.group {
            "" => to.text("api_version", &object.version),
            group => to.text("api_version", &format!("{group}/{}", object.version)),
        }
        to.object("resource", |to| {
            to.text("type", &object.resource);
            to.text("name", &object.name);
            to.text("id", &facts.text(facts.object_uid));
        });
    });
}

fn types(facts: &Facts<'_>) -> [&'static str; 2] {
    let kind = match &*facts.event.verb() {
        "create" | "post" => "creation",
        "update" | "patch" | "put" => "change",
        "delete" | "deletecollection" => "deletion",
        _ => "access",
    };
    let refused = facts.is_forbidden() || matches!(facts.code(), Some(401 | 403));
    [kind, if refused { "denied" } else { "allowed" }]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{framed, full, listed, paths};
    use super::*;
    use crate::sinks::tests::context;
    use serde_json::{Value, json};

    fn ecs(line: &str) -> (Value, String) {
        framed(line, |record, out| frame(record, &context(), WithIndex::Yes, out))
    }

    #[test]
    fn every_field_is_in_the_table() {
        let (document, event) = ecs(&full().to_string());
        assert_eq!(paths(&document, &["kubernetes.audit", "auditship"]), listed(&SHAPE));
        assert_eq!(event, full().to_string(), "the event is unchanged");
        assert_eq!(document["kubernetes"]["audit"], full());
        let want = json!({
            "id": document["auditship"]["uid"], "kind": "event", "module": "kubernetes",
            "dataset": "kubernetes.audit_logs", "category": ["api"], "type": ["change", "allowed"],
            "action": "update", "outcome": "success", "duration": 123_455_000,
            "start": "2026-11-24T02:30:59.000001Z",
        });
        assert_eq!(document["event"], want);
        assert_eq!(document["@timestamp"], "2026-11-24T02:30:59.123456Z");
        assert_eq!(document["user"], json!({"name": "al\"ice", "id": "u-1", "effective": {"name": "root"}}));
        assert_eq!(document["source"], json!({"ip": "2001:db8::7"}));
        assert_eq!(document["url"]["path"], "/apis/apps/v1/namespaces/pay/deployments/api/scale");
        assert_eq!(document["url"]["query"], "dryRun=All");
        assert_eq!(
            document["http"],
            json!({"request": {"id": "a-1", "method": "PUT"}, "response": {"status_code": 200}})
        );
        let want = json!({
            "type": "kubernetes", "cluster": {"name": "prod"}, "namespace": "pay", "api_version": "apps/v1",
            "resource": {"type": "deployments", "name": "api", "id": "o-1"},
        });
        assert_eq!(document["orchestrator"], want);
    }

    #[test]
    fn what_is_missing_leaves_no_trace() {
        for line in ["{}", r#"{"user":{},"sourceIPs":["x"],"requestReceivedTimestamp":"soon","verb":7}"#] {
            let (document, event) = ecs(line);
            assert_eq!(event, line);
            for field in ["user", "source", "http", "url", "user_agent"] {
                assert_eq!(document[field], Value::Null, "{field} of {line}");
            }
            assert_eq!(document["event"]["outcome"], "unknown");
            assert_eq!(document["event"]["start"], Value::Null);
        }
    }

    #[test]
    fn refused_credentials_are_of_two_categories() {
        let mut event = full();
        event["responseStatus"]["code"] = json!(401);
        event["verb"] = json!("list");
        let (document, _) = ecs(&event.to_string());
        assert_eq!(document["event"]["category"], json!(["api", "authentication"]));
        assert_eq!(document["event"]["type"], json!(["access", "denied"]));
    }
}
