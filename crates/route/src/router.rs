//! Routes: the first that matches takes the event, unless it lets it go on.
//!
//! A router is asked once per consumer and answers for that output alone; the answer is one class of the law
//! (delivered, thinned, elsewhere, unrouted). It holds no state: what is worth remembering between events is the
//! caller's [`Routed`].

use crate::keep::{self, Fraction, KeepWord};
use crate::template::{Names, Template};
use auditship_event::{Index, Keys};
use auditship_rule::{Facts, Invalid, Matcher, Words, check_name, invalid::join};
use schemars::JsonSchema;
use serde::Deserialize;

/// One route as written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Its name: what it thins is counted under it.
    pub name: String,
    /// Which events it takes; all where it is absent.
    #[serde(rename = "match", default)]
    pub words: Words,
    /// The index inside the outputs. `{cluster}`, `{node}`, `{resource}`, `{verb_class}`, `{namespace}` and
    /// `{date}` stand for fields of the event; literal text must come first.
    pub index: String,
    /// The outputs that get the events.
    pub outputs: Vec<String>,
    /// What fraction of the events is kept, all stages of a request together.
    #[serde(default)]
    pub keep: KeepWord,
    /// Whether later routes see the event too.
    #[serde(rename = "continue", default)]
    pub goes_on: bool,
}

/// An output: its place in the list that the router was compiled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputId(pub u16);

/// A route: an index into [`Router::names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u16);

/// Where the agent runs: the constants that an index name may hold.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The node's name.
    pub node: &'a str,
}

/// What becomes of an event at one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered, to every index in [`Routed::hits`].
    Deliver,
    /// Routes would send it here, but it is not of the fraction that they keep; this is the first of them.
    Thinned(RouteId),
    /// Routes matched, and all of them send it to other outputs.
    Elsewhere,
    /// No route matched.
    Unrouted,
}

/// Where the router puts what it found. One per consumer, used again for every event.
#[derive(Debug, Default)]
pub struct Routed {
    /// After [`Verdict::Deliver`]: through which routes the event goes to which indexes, no index twice. Else
    /// empty.
    pub hits: Vec<(RouteId, Index)>,
    names: Names,
}

/// All routes, compiled. Cheap to share between consumers.
#[derive(Clone, Debug)]
pub struct Router {
    names: Vec<String>,
    routes: Vec<Route>,
    outputs: Vec<String>,
}

#[derive(Clone, Debug)]
struct Route {
    matcher: Matcher,
    index: Template,
    /// By output id.
    outputs: Vec<bool>,
    keep: Fraction,
    goes_on: bool,
}

impl Router {
    /// Compiles `routes`, which send to `outputs`.
    ///
    /// # Errors
    /// [`Invalid`] with the path inside the list of routes, as in `[2].index`.
    pub fn compile(routes: &[RouteConfig], outputs: &[String], place: &Place<'_>) -> Result<Router, Invalid> {
        let fits = |len: usize| len <= usize::from(u16::MAX);
        if !fits(routes.len()) || !fits(outputs.len()) {
            return Err(Invalid::new("", "more than 65535 routes or outputs"));
        }
        let mut names: Vec<String> = Vec::with_capacity(routes.len());
        let mut compiled = Vec::with_capacity(routes.len());
        for (i, route) in routes.iter().enumerate() {
            let within = |e: Invalid| e.within(&format!("[{i}]"));
            check_name(&route.name).map_err(|message| within(Invalid::new("name", message)))?;
            if names.contains(&route.name) {
                return Err(within(Invalid::new("name", "another route has this name")));
            }
            names.push(route.name.clone());
            compiled.push(Route::compile(route, outputs, place).map_err(within)?);
        }
        Ok(Router { names, routes: compiled, outputs: outputs.to_vec() })
    }

    /// The id of an output.
    pub fn output(&self, name: &str) -> Option<OutputId> {
        let at = self.outputs.iter().position(|output| output == name)?;
        u16::try_from(at).ok().map(OutputId)
    }

    /// The names of the routes, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The names of indexes at `output` that depend on no event, each once, in the order of the routes.
    pub fn fixed_indexes(&self, output: OutputId) -> Vec<Index> {
        let mut names: Vec<Index> = Vec::new();
        for route in &self.routes {
            let leads_here = route.outputs.get(usize::from(output.0)).copied().unwrap_or(false);
            match route.index.fixed() {
                Some(name) if leads_here && !names.contains(name) => names.push(name.clone()),
                _ => {}
            }
        }
        names
    }

    /// What becomes of the event at `output`.
    pub fn route(&self, facts: &Facts<'_>, output: OutputId, keys: &Keys, routed: &mut Routed) -> Verdict {
        routed.hits.clear();
        let (mut thinned, mut matched) = (None, false);
        let mut sample: Option<u64> = None;
        for (id, route) in (0u16..).map(RouteId).zip(&self.routes) {
            if !route.matcher.matches(facts) {
                continue;
            }
            matched = true;
            if route.outputs.get(usize::from(output.0)).copied().unwrap_or(false) {
                let kept = route.keep.is_all()
                    || route.keep.keeps(*sample.get_or_insert_with(|| keep::sample(facts, keys)));
                if kept {
                    let index = route.index.index(facts, &mut routed.names);
                    if routed.hits.iter().all(|(_, known)| *known != index) {
                        routed.hits.push((id, index));
                    }
                } else if thinned.is_none() {
                    thinned = Some(id);
                }
            }
            if !route.goes_on {
                break;
            }
        }
        match (routed.hits.is_empty(), thinned, matched) {
            (false, ..) => Verdict::Deliver,
            (true, Some(id), _) => Verdict::Thinned(id),
            (true, None, true) => Verdict::Elsewhere,
            (true, None, false) => Verdict::Unrouted,
        }
    }

    /// The index for an event that must reach `output` whatever the routes keep and wherever they send it, because
    /// nobody could read what it was: that of the first matching route to this output, else that of any route to
    /// it. `None`: no route leads there.
    pub fn always(&self, facts: &Facts<'_>, output: OutputId, routed: &mut Routed) -> Option<Index> {
        let leads_here = |route: &&Route| route.outputs.get(usize::from(output.0)).copied().unwrap_or(false);
        let mut here = self.routes.iter().filter(leads_here);
        let route = here.clone().find(|route| route.matcher.matches(facts)).or_else(|| here.next())?;
        Some(route.index.index(facts, &mut routed.names))
    }

    /// What compiles and yet cannot be meant, as path and message: routes that are never reached, words that
    /// never match, outputs that no route uses, events that no route takes.
    pub fn warnings(routes: &[RouteConfig], outputs: &[String]) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut taken: Option<&str> = None;
        let mut all_match = false;
        for (i, route) in routes.iter().enumerate() {
            if let Some(name) = taken {
                out.push((format!("[{i}]"), format!("never reached: `{name}` takes every event")));
                continue;
            }
            let words = Matcher::warnings(&route.words).into_iter();
            out.extend(words.map(|(path, message)| (join(&format!("[{i}].match"), &path), message)));
            let anything = Matcher::compile(&route.words).is_ok_and(|matcher| matcher.is_anything());
            all_match |= anything;
            if anything && !route.goes_on {
                taken = Some(&route.name);
            }
            if Fraction::parse(&route.keep.0).is_ok_and(Fraction::is_none) {
                out.push((format!("[{i}].keep"), "keeps nothing".into()));
            }
        }
        for output in outputs.iter().filter(|o| !routes.iter().any(|route| route.outputs.contains(o))) {
            out.push((String::new(), format!("no route sends anything to output `{output}`")));
        }
        if !all_match {
            out.push((
                String::new(),
                "events that match no route go nowhere: a last route without match takes them".into(),
            ));
        }
        out
    }
}

impl Route {
    fn compile(route: &RouteConfig, outputs: &[String], place: &Place<'_>) -> Result<Route, Invalid> {
        let matcher = Matcher::compile(&route.words).map_err(|e| e.within("match"))?;
        let index = Template::compile(&route.index, place.cluster, place.node);
        let index = index.map_err(|message| Invalid::new("index", message))?;
        let keep = Fraction::parse(&route.keep.0).map_err(|message| Invalid::new("keep", message))?;
        if route.outputs.is_empty() {
            return Err(Invalid::new("outputs", "expected at least one output"));
        }
        for (i, name) in route.outputs.iter().enumerate() {
            if !outputs.contains(name) {
                let message = match outputs {
                    [] => "unknown output; there are none".to_string(),
                    _ => format!("unknown output; there are {}", outputs.join(", ")),
                };
                return Err(Invalid::new(format!("outputs[{i}]"), message));
            }
        }
        let outputs = outputs.iter().map(|name| route.outputs.contains(name)).collect();
        Ok(Route { matcher, index, outputs, keep, goes_on: route.goes_on })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Vec<RouteConfig> {
        serde_json::from_str(json).unwrap()
    }

    fn outputs() -> Vec<String> {
        vec!["search".into(), "archive".into()]
    }

    #[test]
    fn errors_say_where() {
        for (routes, want) in [
            (r#"[{"name":"a b","index":"x","outputs":["search"]}]"#, "[0].name"),
            (r#"[{"name":"a","index":"{date}","outputs":["search"]}]"#, "[0].index"),
            (r#"[{"name":"a","index":"x","outputs":["search","nope"]}]"#, "[0].outputs[1]"),
            (r#"[{"name":"a","index":"x","outputs":[]}]"#, "[0].outputs"),
            (r#"[{"name":"a","index":"x","outputs":["search"],"keep":2}]"#, "[0].keep"),
            (
                r#"[{"name":"a","index":"x","outputs":["search"],"match":{"codes":["x"]}}]"#,
                "[0].match.codes[0]",
            ),
            (
                r#"[{"name":"a","index":"x","outputs":["search"]},{"name":"a","index":"x","outputs":["search"]}]"#,
                "[1].name",
            ),
        ] {
            let place = Place { cluster: "c", node: "n" };
            assert_eq!(
                Router::compile(&config(routes), &outputs(), &place).unwrap_err().path,
                want,
                "{routes}"
            );
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (routes, want) in [
            (
                r#"[{"name":"a","index":"x","outputs":["search","archive"]},{"name":"b","index":"x","outputs":["search"]}]"#,
                &["[1]"][..],
            ),
            (
                r#"[{"name":"a","index":"x","outputs":["search","archive"],"match":{"verbs":["*"]},"keep":0}]"#,
                &["[0].match.verbs[0]", "[0].keep", ""],
            ),
            (r#"[{"name":"a","index":"x","outputs":["search"],"continue":true}]"#, &[""]),
        ] {
            let warnings = Router::warnings(&config(routes), &outputs());
            let paths: Vec<_> = warnings.iter().map(|(path, _)| path.as_str()).collect();
            assert_eq!(paths, want, "{routes}");
        }
    }
}
