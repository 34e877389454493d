//! The default routes.

use crate::told;
use auditship_route::{Router, default_routes};

#[test]
fn what_matters_is_indexed_whole_and_the_archive_gets_all() {
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_string()).collect::<Vec<_>>();
    let routes = default_routes(&names(&["archive"]), &names(&["search", "siem"]));
    for (event, want) in [
        (r#"{"verb":"get","responseStatus":{"code":401}}"#, "refused>k8s-audit-security"),
        (r#"{"verb":"create","responseStatus":{"code":403}}"#, "refused>k8s-audit-security"),
        (
            r#"{"verb":"get","user":{"username":"system:anonymous"},"responseStatus":{"code":200}}"#,
            "anonymous>k8s-audit-security",
        ),
        (
            r#"{"verb":"create","objectRef":{"resource":"subjectaccessreviews","apiGroup":"authorization.k8s.io"}}"#,
            "access-reviews>k8s-audit-security",
        ),
        (r#"{"verb":"deletecollection","responseStatus":{"code":200}}"#, "changes>k8s-audit-changes"),
        (r#"{"verb":"patch","responseStatus":{"code":500}}"#, "changes>k8s-audit-changes"),
        (r#"{"verb":"get","auditID":"1","responseStatus":{"code":200}}"#, "thinned reads"),
    ] {
        assert_eq!(told(&routes, "search", event), want, "{event}");
        assert_eq!(told(&routes, "siem", event), want, "{event}");
        assert_eq!(told(&routes, "archive", event), "everything>audit", "{event}");
    }
    assert_eq!(Router::warnings(&routes, &names(&["archive", "search", "siem"])), []);
}

#[test]
fn routes_without_outputs_are_left_out() {
    let one = ["x".to_string()];
    assert_eq!(default_routes(&one, &[]).len(), 1);
    assert!(default_routes(&[], &one).iter().all(|route| route.name != "everything"));
    assert!(default_routes(&[], &[]).is_empty());
}
