//! The table `fields.tsv`: which fields Kubernetes' own types have, and the objects in which they stand.

use serde_json::{Value, json};

const TABLE: &str = include_str!("fields.tsv");

/// One field of one kind, fragments resolved.
#[derive(Clone, Debug)]
pub struct Field {
    /// `group/Kind`.
    pub kind: String,
    /// Plural, as the API server guesses it.
    pub resource: String,
    pub path: String,
    /// `string`, `bytes` or `any`.
    pub type_: String,
    pub verdict: String,
}

/// The columns of the table's lines that begin with `what`.
pub fn lines(what: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = TABLE.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    lines.filter_map(move |columns| (columns[0] == what).then(|| columns[1..].to_vec()))
}

/// All fields of all kinds: those of a fragment once for each place where it stands.
pub fn fields() -> Vec<Field> {
    let mut all: Vec<Field> = lines("field")
        .map(|columns| {
            let [kind, resource, path, type_, verdict] = columns[..] else { panic!("{columns:?}") };
            let [kind, resource, path, type_, verdict] =
                [kind, resource, path, type_, verdict].map(str::to_owned);
            Field { kind, resource, path, type_, verdict }
        })
        .collect();
    let places: Vec<Vec<&str>> = lines("place").collect();
    // A fragment may stand in a fragment: twice is as deep as it goes, and a third time changes nothing.
    for _ in 0..3 {
        let (fragments, mut kinds): (Vec<Field>, Vec<Field>) =
            all.into_iter().partition(|field| !field.kind.contains('/'));
        for place in &places {
            let [kind, resource, path, fragment] = place[..] else { panic!("{place:?}") };
            let here = fragments.iter().filter(|field| field.kind == fragment);
            kinds.extend(here.map(|field| Field {
                kind: kind.to_owned(),
                resource: resource.to_owned(),
                path: format!("{path}.{}", field.path),
                ..field.clone()
            }));
        }
        all = kinds;
    }
    all
}

/// The object that has `leaf` at `path`; a key of a map is `key`, and beside a `value` in a list stands `name`.
pub fn planted(path: &str, key: &str, name: &str, leaf: Value) -> Value {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let member = first.trim_end_matches("[]");
    let lists = (first.len() - member.len()) / 2;
    let mut value = rest.map_or_else(|| leaf.clone(), |rest| planted(rest, key, name, leaf.clone()));
    if lists > 0 && rest == Some("value") {
        value["name"] = json!(name);
    }
    for _ in 0..lists {
        // A leaf may bring the list itself.
        value = if value.is_array() { value } else { json!([value]) };
    }
    json!({ if member == "*" { key } else { member }: value })
}

/// The JSON Pointer to `path`.
pub fn pointer(path: &str, key: &str) -> String {
    let mut out = String::new();
    for segment in path.split('.') {
        let member = segment.trim_end_matches("[]");
        out += "/";
        out += &(if member == "*" { key } else { member }).replace('~', "~0").replace('/', "~1");
        out += &"/0".repeat((segment.len() - member.len()) / 2);
    }
    out
}

impl Field {
    pub fn names(&self) -> (&str, &str) {
        self.kind.split_once('/').expect("fragments are resolved")
    }

    /// The object alone, with its kind or, as in a list, without.
    pub fn object(&self, key: &str, name: &str, leaf: &Value, named: bool) -> Value {
        let mut object = planted(&self.path, key, name, leaf.clone());
        let (group, kind) = self.names();
        if named {
            object["kind"] = json!(kind);
            object["apiVersion"] =
                json!(if group == "core" { "v1".to_owned() } else { format!("{group}/v1") });
        }
        object
    }

    /// Where the API server would say that the request went.
    pub fn reference(&self) -> Value {
        if self.kind == "authentication.k8s.io/TokenRequest" {
            return json!({"resource": "serviceaccounts", "subresource": "token", "namespace": "n", "name": "a"});
        }
        let (group, _) = self.names();
        let mut reference =
            json!({"resource": self.resource, "namespace": "n", "name": "a", "apiVersion": "v1"});
        if group != "core" {
            reference["apiGroup"] = json!(group);
        }
        reference
    }
}
