//! The router against events.

#![expect(clippy::unwrap_used, reason = "tests")]

mod defaults;
mod routes;

use auditship_event::{Event, Keys};
use auditship_route::{Place, RouteConfig, Routed, Router, Verdict};
use auditship_rule::Facts;

/// What `routes` say of `event` at `output`, in words.
fn told(routes: &[RouteConfig], output: &str, event: &str) -> String {
    let outputs = ["search", "siem", "archive"].map(String::from);
    let router = Router::compile(routes, &outputs, &Place { cluster: "c", node: "n" }).unwrap();
    let event = Event::parse(event.as_bytes()).unwrap();
    let mut routed = Routed::default();
    let keys = Keys::derive(b"key", "c");
    let output = router.output(output).unwrap();
    let name = |id: auditship_route::RouteId| router.names()[usize::from(id.0)].clone();
    match router.route(&Facts::new(&event), output, &keys, &mut routed) {
        Verdict::Deliver => {
            let hit = |(id, index): &(_, auditship_event::Index)| format!("{}>{}", name(*id), index.as_str());
            routed.hits.iter().map(hit).collect::<Vec<_>>().join(" ")
        }
        Verdict::Thinned(id) => format!("thinned {}", name(id)),
        Verdict::Elsewhere => "elsewhere".into(),
        Verdict::Unrouted => "unrouted".into(),
    }
}
