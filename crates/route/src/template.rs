//! Index names: literal text with a few fields of the event in it.
//!
//! Text from an event becomes part of an index name only here. Every value is forced into `[a-z0-9._-]`, has a
//! bounded length, and follows a literal beginning which the name cannot leave: no value is empty, begins or ends
//! with a dot or holds two in a row, so none is a step in a path. A request that was refused or found nothing
//! cannot name an index at all: its namespace and resource are whatever the client wrote, and a stranger must not
//! be able to create indexes without end.

use auditship_event::Index;
use auditship_rule::Facts;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// The longest value of one field.
pub const VALUE_MAX: usize = 63;

/// The longest name, literal text and fields together: the limit of Elasticsearch for an index.
pub const NAME_MAX: usize = 255;

/// How many rendered names are remembered.
pub const NAMES_MAX: usize = 1024;

/// The value of a field that the event does not have.
const ABSENT: &str = "none";

/// The namespace and resource of requests that were refused or found nothing.
const OTHER: &str = "other";

/// A compiled index name.
#[derive(Clone, Debug)]
pub struct Template(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Nothing in it depends on the event.
    Fixed(Index),
    /// The parts in order. Invariant: the first is a literal, not empty.
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Resource,
    VerbClass,
    Namespace,
    Date,
}

/// Rendered names, so that events which share one do not allocate. One per consumer; bounded: when it is full it
/// is emptied.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<String, Index>,
    buffer: String,
}

impl Template {
    /// Compiles `text`, in which `{cluster}`, `{node}`, `{resource}`, `{verb_class}` (read, change, connect or
    /// other), `{namespace}` and `{date}` (the event's, `YYYY.MM.DD` in UTC) stand for fields.
    ///
    /// # Errors
    /// A message with the position (in characters, from 1) of what is wrong.
    pub fn compile(text: &str, cluster: &str, node: &str) -> Result<Template, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let here = text.len() - rest.len();
            let at = text[..here].chars().count() + 1;
            if let Some(inside) = rest.strip_prefix('{') {
                let end = inside.find('}').ok_or_else(|| format!("character {at}: `{{` without `}}`"))?;
                if parts.is_empty() {
                    return Err(format!("character {at}: expected literal text before the first field"));
                }
                parts.push(field(&inside[..end], cluster, node).ok_or_else(|| {
                    let fields = "{cluster}, {node}, {resource}, {verb_class}, {namespace}, {date}";
                    format!("character {at}: unknown field; there are {fields}")
                })?);
                rest = &inside[end + 1..];
                continue;
            }
            let end = rest.find('{').unwrap_or(rest.len());
            check_literal(&rest[..end], here == 0)
                .map_err(|(i, message)| format!("character {}: {message}", at + i))?;
            parts.push(Part::Literal(rest[..end].to_string()));
            rest = &rest[end..];
        }
        if parts.is_empty() {
            return Err("expected the name of an index".into());
        }
        if parts.iter().map(Part::longest).sum::<usize>() > NAME_MAX {
            return Err(format!("the name can become longer than {NAME_MAX} bytes"));
        }
        if parts.iter().all(|part| matches!(part, Part::Literal(_))) {
            let literal =
                |part: &Part| if let Part::Literal(text) = part { text.clone() } else { String::new() };
            let name: String = parts.iter().map(literal).collect();
            return Ok(Template(Kind::Fixed(Index(Arc::from(name)))));
        }
        Ok(Template(Kind::Parts(parts)))
    }

    /// The index of the event. Allocates only for a name that `names` does not know.
    pub fn index(&self, facts: &Facts<'_>, names: &mut Names) -> Index {
        let parts = match &self.0 {
            Kind::Fixed(index) => return index.clone(),
            Kind::Parts(parts) => parts,
        };
        let Names { known, buffer } = names;
        buffer.clear();
        for part in parts {
            part.render(facts, buffer);
        }
        if let Some(index) = known.get(buffer.as_str()) {
            return index.clone();
        }
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        let index = Index(Arc::from(buffer.as_str()));
        known.insert(buffer.clone(), index.clone());
        index
    }

    /// Whether the name is the same for every event.
    pub fn is_fixed(&self) -> bool {
        self.fixed().is_some()
    }

    /// The name, if it is the same for every event.
    pub fn fixed(&self) -> Option<&Index> {
        match &self.0 {
            Kind::Fixed(index) => Some(index),
            Kind::Parts(_) => None,
        }
    }
}

fn field(name: &str, cluster: &str, node: &str) -> Option<Part> {
    let constant = |value: &str| {
        let mut text = String::new();
        push_safe(value, &mut text);
        Part::Literal(text)
    };
    Some(match name {
        "cluster" => constant(cluster),
        "node" => constant(node),
        "resource" => Part::Resource,
        "verb_class" => Part::VerbClass,
        "namespace" => Part::Namespace,
        "date" => Part::Date,
        _ => return None,
    })
}

/// Literal text: `[a-z0-9._/-]`, beginning with a letter or digit, without empty, `.` or `..` steps.
fn check_literal(text: &str, is_first: bool) -> Result<(), (usize, &'static str)> {
    let mut before = if is_first { '/' } else { 'x' };
    for (i, c) in text.chars().enumerate() {
        match c {
            'a'..='z' | '0'..='9' => {}
            '}' => return Err((i, "`}` without `{`")),
            '.' | '/' | '-' | '_' if is_first && i == 0 => {
                return Err((i, "expected a letter or digit first"));
            }
            '.' if matches!(before, '.' | '/') => {
                return Err((i, "a dot may follow neither a dot nor a slash"));
            }
            '/' if matches!(before, '.' | '/') => {
                return Err((i, "a slash may follow neither a dot nor a slash"));
            }
            '.' | '/' | '-' | '_' => {}
            _ => return Err((i, "only a-z, 0-9, `-`, `_`, `.` and `/` may stand here")),
        }
        before = c;
    }
    Ok(())
}

/// Appends `value` in the safe alphabet: never empty, at most [`VALUE_MAX`] bytes.
fn push_safe(value: &str, out: &mut String) {
    let from = out.len();
    let mut before = '.';
    for c in value.chars().take(VALUE_MAX) {
        let safe = match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '-' | '_') => c,
            '.' if before != '.' => '.',
            _ => '-',
        };
        out.push(safe);
        before = safe;
    }
    if out.len() == from {
        out.push_str(ABSENT);
    } else if before == '.' {
        out.pop();
        out.push('-');
    }
}

impl Part {
    /// The most bytes it can become.
    fn longest(&self) -> usize {
        match self {
            Part::Literal(text) => text.len(),
            Part::Resource | Part::Namespace => VALUE_MAX,
            Part::VerbClass => "connect".len(),
            Part::Date => "0000.00.00".len(),
        }
    }

    fn render(&self, facts: &Facts<'_>, out: &mut String) {
        match self {
            Part::Literal(text) => out.push_str(text),
            Part::Resource => push_safe(trusted(facts, |object| &object.resource), out),
            Part::Namespace => push_safe(trusted(facts, |object| &object.namespace), out),
            Part::VerbClass => out.push_str(verb_class(facts)),
            Part::Date => push_date(facts, out),
        }
    }
}

/// A member of `objectRef`, where the answer shows that it is not just what a client made up. Namespace and
/// resource are taken from the URL before anybody is authenticated (k8s.io/apiserver
/// `pkg/endpoints/request/requestinfo.go`). Answers without a look at the object: 400, 401, 403, 404, 429, 5xx.
fn trusted<'f>(
    facts: &'f Facts<'_>,
    member: impl Fn(&'f auditship_event::ObjectRef<'_>) -> &'f str,
) -> &'f str {
    match (facts.object(), facts.code()) {
        (None, _) => "",
        (Some(object), Some(100..=399 | 409 | 410 | 412 | 422)) => member(object),
        (Some(_), _) => OTHER,
    }
}

fn verb_class(facts: &Facts<'_>) -> &'static str {
    if facts.object().is_some_and(|o| matches!(&*o.subresource, "exec" | "attach" | "portforward" | "proxy"))
    {
        return "connect";
    }
    match facts.verb() {
        "get" | "list" | "watch" | "head" | "options" => "read",
        "create" | "update" | "patch" | "delete" | "deletecollection" | "post" | "put" => "change",
        "connect" | "proxy" => "connect",
        _ => "other",
    }
}

fn push_date(facts: &Facts<'_>, out: &mut String) {
    let time = facts.event().time().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    let date = time.map(|time| jiff::tz::Offset::UTC.to_datetime(time)).filter(|date| date.year() >= 0);
    match date {
        // Writing to a string cannot fail.
        Some(date) => drop(write!(out, "{:04}.{:02}.{:02}", date.year(), date.month(), date.day())),
        None => out.push_str(ABSENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditship_event::Event;
    use proptest::prelude::*;

    fn render(template: &str, event: &str) -> String {
        let event = Event::parse(event.as_bytes()).unwrap();
        let template = Template::compile(template, "Prod/EU", "node.1").unwrap();
        template.index(&Facts::new(&event), &mut Names::default()).as_str().to_string()
    }

    const EVENT: &str = r#"{"verb":"get","objectRef":{"resource":"pods","namespace":"team-a"},"responseStatus":{"code":200},"stageTimestamp":"2026-01-31T23:59:59.999999Z"}"#;

    #[test]
    fn fields() {
        for (template, want) in [
            ("audit", "audit"),
            ("a-{cluster}-{node}", "a-prod-eu-node.1"),
            ("a-{resource}-{verb_class}-{namespace}", "a-pods-read-team-a"),
            ("a/{date}/x", "a/2026.01.31/x"),
        ] {
            assert_eq!(render(template, EVENT), want);
        }
        assert_eq!(render("a-{resource}-{namespace}-{date}-{verb_class}", "{}"), "a-none-none-none-other");
        assert_eq!(
            render("a-{verb_class}", r#"{"verb":"create","objectRef":{"subresource":"exec"}}"#),
            "a-connect"
        );
    }

    #[test]
    fn a_refused_request_names_no_index() {
        for (status, want) in [
            (r#","responseStatus":{"code":403}"#, "a-other-other"),
            (r#","responseStatus":{"code":404}"#, "a-other-other"),
            (r#","responseStatus":{"code":500}"#, "a-other-other"),
            ("", "a-other-other"),
            (r#","responseStatus":{"code":409}"#, "a-made-up"),
        ] {
            let event = format!(r#"{{"objectRef":{{"resource":"made","namespace":"up"}}{status}}}"#);
            assert_eq!(render("a-{resource}-{namespace}", &event), want, "{status}");
        }
    }

    #[test]
    fn errors_have_a_position() {
        for (template, want) in [
            ("", "expected the name"),
            ("{cluster}", "character 1: expected literal text"),
            ("a-{user}", "character 3: unknown field"),
            ("a-{date", "character 3: `{` without"),
            ("a-}", "character 3: `}` without"),
            ("a b", "character 2: only"),
            ("Audit", "character 1: only"),
            ("-a", "character 1: expected a letter"),
            ("/a", "character 1: expected a letter"),
            ("a/../b", "character 3: a dot"),
            ("a//b", "character 3: a slash"),
            ("a-{date}ä", "character 9: only"),
            ("a{namespace}{namespace}{namespace}{namespace}{namespace}", "the name can become longer"),
        ] {
            let error = Template::compile(template, "c", "n").unwrap_err();
            assert!(error.starts_with(want), "{template}: {error}");
        }
    }

    #[test]
    fn fixed_and_known_names_are_shared() {
        let event = Event::parse(EVENT.as_bytes()).unwrap();
        let facts = Facts::new(&event);
        let mut names = Names::default();
        for template in ["audit", "a-{cluster}", "a-{namespace}"] {
            let template = Template::compile(template, "c", "n").unwrap();
            let (one, two) = (template.index(&facts, &mut names), template.index(&facts, &mut names));
            assert!(Arc::ptr_eq(&one.0, &two.0));
        }
        assert!(Template::compile("a-{cluster}", "c", "n").unwrap().is_fixed());
    }

    #[test]
    fn memory_of_names_is_bounded() {
        let template = Template::compile("a-{namespace}", "c", "n").unwrap();
        let mut names = Names::default();
        for i in 0..NAMES_MAX * 2 + 7 {
            let line = format!(r#"{{"objectRef":{{"namespace":"n{i}"}},"responseStatus":{{"code":200}}}}"#);
            let event = Event::parse(line.as_bytes()).unwrap();
            assert_eq!(template.index(&Facts::new(&event), &mut names).as_str(), format!("a-n{i}"));
            assert!(names.known.len() <= NAMES_MAX);
        }
    }

    fn hostile() -> impl Strategy<Value = String> {
        prop_oneof!["\\PC{0,200}", "[./\\x00-\\x20%A-Z{}]{0,80}", Just("../../etc".to_string())]
    }

    proptest! {
        #[test]
        fn no_value_leaves_alphabet_length_or_beginning(
            namespace in hostile(), resource in hostile(), verb in hostile(), time in hostile(), cluster in hostile()
        ) {
            let line = serde_json::json!({
                "verb": verb, "objectRef": {"resource": resource, "namespace": namespace},
                "responseStatus": {"code": 200}, "stageTimestamp": time,
            }).to_string();
            let event = Event::parse(line.as_bytes()).unwrap();
            let template = "audit/k8s-{namespace}/{resource}.{verb_class}-{date}-{cluster}";
            let template = Template::compile(template, &cluster, "").unwrap();
            let name = template.index(&Facts::new(&event), &mut Names::default());
            let name = name.as_str();
            let inside = name.strip_prefix("audit/k8s-").unwrap();
            prop_assert!(!inside.is_empty() && name.len() <= NAME_MAX);
            prop_assert!(inside.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/')));
            prop_assert_eq!(inside.matches('/').count(), 1);
            prop_assert!(!name.contains("..") && name.split('/').all(|step| !step.is_empty() && step != "."));
        }
    }
}
