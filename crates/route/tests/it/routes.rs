//! Order, continuation, thinning, and one verdict per output.

use crate::told;
use auditship_route::RouteConfig;

fn routes(json: &str) -> Vec<RouteConfig> {
    serde_json::from_str(json).unwrap()
}

const GET: &str = r#"{"verb":"get","auditID":"1"}"#;

#[test]
fn the_first_match_takes_the_event() {
    let routes = routes(
        r#"[{"name":"gets","match":{"verbs":["get"]},"index":"g","outputs":["search"]},
        {"name":"rest","match":{"verbs":["get","list"]},"index":"r","outputs":["search","siem"]}]"#,
    );
    for (output, event, want) in [
        ("search", GET, "gets>g"),
        ("siem", GET, "elsewhere"),
        ("siem", r#"{"verb":"list"}"#, "rest>r"),
        ("search", r#"{"verb":"create"}"#, "unrouted"),
        ("archive", r#"{"verb":"list"}"#, "elsewhere"),
    ] {
        assert_eq!(told(&routes, output, event), want, "{output} {event}");
    }
}

#[test]
fn an_event_goes_on_and_reaches_an_index_once() {
    let routes = routes(
        r#"[{"name":"a","index":"x","outputs":["search","archive"],"continue":true},
        {"name":"b","index":"x","outputs":["search"],"continue":true},
        {"name":"c","index":"y-{verb_class}","outputs":["search"],"continue":true},
        {"name":"none","index":"z","outputs":["search","siem"],"keep":"0%"},
        {"name":"never","index":"n","outputs":["search"]}]"#,
    );
    assert_eq!(told(&routes, "search", GET), "a>x c>y-read");
    assert_eq!(told(&routes, "archive", GET), "a>x");
    assert_eq!(told(&routes, "siem", GET), "thinned none");
}

#[test]
fn thinned_names_the_first_route_that_thinned() {
    let routes = routes(
        r#"[{"name":"a","index":"x","outputs":["search"],"keep":0,"continue":true},
        {"name":"b","index":"y","outputs":["search"],"keep":"0/1","continue":true},
        {"name":"c","index":"z","outputs":["siem"]}]"#,
    );
    assert_eq!(told(&routes, "search", GET), "thinned a");
    assert_eq!(told(&routes, "siem", GET), "c>z");
}

#[test]
fn about_the_fraction_is_kept_and_the_same_every_time() {
    let routes = routes(r#"[{"name":"a","index":"x","outputs":["search"],"keep":0.25}]"#);
    let kept = |_| {
        let event = |i: u32| format!(r#"{{"verb":"get","auditID":"{i}"}}"#);
        (0..1_000).filter(|i| told(&routes, "search", &event(*i)) == "a>x").collect::<Vec<_>>()
    };
    let first: Vec<u32> = kept(());
    assert!((180..320).contains(&first.len()), "{}", first.len());
    assert_eq!(first, kept(()));
}
