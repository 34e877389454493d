//! The routes of the default configuration: changes, access reviews, refusals and everything anonymous are
//! indexed whole, the rest is thinned, an archive gets all.

use crate::keep::KeepWord;
use crate::router::RouteConfig;
use auditship_rule::{ResourceWord, Words};

/// The index that archives use.
pub const ARCHIVE_INDEX: &str = "audit";
/// The index of refusals, anonymous requests and access reviews.
pub const SECURITY_INDEX: &str = "k8s-audit-security";
/// The index of everything that changes something.
pub const CHANGES_INDEX: &str = "k8s-audit-changes";
/// The index of the rest, thinned.
pub const READS_INDEX: &str = "k8s-audit-reads";

/// The routes where none are written. `archives` are the outputs that get everything (kind `dir`),
/// `searches` all others; routes that would have no outputs are left out.
pub fn default_routes(archives: &[String], searches: &[String]) -> Vec<RouteConfig> {
    let verbs = ["create", "update", "patch", "delete", "deletecollection"];
    let reviews = ResourceWord {
        group: "authorization.k8s.io".into(),
        resources: vec!["subjectaccessreviews".into()],
        resource_names: Vec::new(),
    };
    let none = Words::default;
    let search = |name: &str, words, index: &str, keep: &str| RouteConfig {
        name: name.into(),
        words,
        index: index.into(),
        outputs: searches.to_vec(),
        keep: KeepWord(keep.into()),
        goes_on: false,
    };
    let routes = vec![
        RouteConfig {
            name: "everything".into(),
            words: none(),
            index: ARCHIVE_INDEX.into(),
            outputs: archives.to_vec(),
            keep: KeepWord::default(),
            goes_on: true,
        },
        search(
            "refused",
            Words { codes: vec!["401".into(), "403".into()], ..none() },
            SECURITY_INDEX,
            "100%",
        ),
        search(
            "anonymous",
            Words { users: vec!["system:anonymous".into()], ..none() },
            SECURITY_INDEX,
            "100%",
        ),
        search("access-reviews", Words { resources: vec![reviews], ..none() }, SECURITY_INDEX, "100%"),
        search("changes", Words { verbs: verbs.map(String::from).to_vec(), ..none() }, CHANGES_INDEX, "100%"),
        search("reads", none(), READS_INDEX, "2%"),
    ];
    routes.into_iter().filter(|route| !route.outputs.is_empty()).collect()
}
