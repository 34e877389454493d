//! Files, environment variables and `--set`, one over the other, with the origin of every value.
//!
//! `config` does the layering: each layer is a [`::config::Source`], maps merge key by key, everything else is
//! replaced. It keeps no positions, parses dots in keys and has no order, so that the whole configuration is
//! handed to it as the value of one key, and the origins are kept beside it, by path. Refuses to interpret a
//! value. Invariant: a path that the merged tree has is in the index, or its nearest known ancestor is.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use ::config::{Config, Source, Value as Merged, ValueKind};

use super::origin::{File, Index, Place};
use super::path::{Path, Step};
use super::report::Diagnostic;
use super::yaml::{self, Node, Value};

/// The key that everything is kept under, so that `config` takes no key of ours for a path.
const ROOT: &str = "config";
/// What begins the name of an environment variable that is meant for the configuration.
const PREFIX: &str = "AUDITSHIP__";
/// How many words the path of a variable or an argument may have.
const STEPS_MAX: usize = 32;

/// The merged configuration: text that has no type yet.
#[derive(Clone, PartialEq)]
pub(crate) enum Tree {
    /// `null`, or nothing.
    Null,
    /// Text; `plain` if it may be a number or a boolean.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Tree>),
    /// A map; `type` first, because it decides about the rest, then in order of writing.
    Map(Vec<(String, Tree)>),
}

/// Layers in the order in which they were added, the later over the earlier.
pub(crate) struct Layers {
    merged: Config,
    index: Index,
}

/// One layer: a tree at a place of the configuration.
#[derive(Clone)]
struct Layer {
    at: String,
    value: Merged,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<HashMap<String, Merged>, ::config::ConfigError> {
        Ok(HashMap::from([(self.at.clone(), self.value.clone())]))
    }
}

impl Layers {
    pub(crate) fn new(index: Index) -> Self {
        Self { merged: Config::default(), index }
    }

    /// Adds a file over what is there.
    pub(crate) fn file(&mut self, name: &str, text: &str) -> Result<(), Diagnostic> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let file = self.index.add(File::new(name, text));
        let node = match yaml::parse(text) {
            Ok(Some(node)) => node,
            Ok(None) => {
                return Err(Diagnostic::error(format!("`{name}` holds no configuration"))
                    .help(Some("write `{}` if it is meant to be empty".to_owned())));
            }
            Err(fault) => return Err(self.index.fault(file, &fault)),
        };
        self.index.place_node(file, &Path::top(), None, &node);
        if !matches!(node.value, Value::Map(_)) {
            return Err(Diagnostic::error("the configuration must be a map of words").spot(self.index.spot(
                &Path::top(),
                "expected `key: value`",
                false,
            )));
        }
        self.merge(Layer { at: ROOT.to_owned(), value: merged(&node.value) })
    }

    /// Adds an environment variable over what is there, if its name says that it is one of ours.
    pub(crate) fn variable(&mut self, name: &str, value: &str) -> Result<(), Diagnostic> {
        let Some(words) = name.strip_prefix(PREFIX) else { return Ok(()) };
        let place = Place::Variable(name.to_owned());
        let words: Vec<String> = words.split("__").map(str::to_lowercase).collect();
        if words.iter().any(String::is_empty) {
            return Err(Diagnostic::error(format!("the name `{name}` has an empty word"))
                .spot(Some(place.named("words are separated by two underscores")))
                .help(Some(format!("for example {PREFIX}ADMIN__LISTEN sets `admin.listen`"))));
        }
        self.over(words.into_iter().map(Step::Key).collect(), value, &place)
    }

    /// Adds a `--set path=value` over what is there.
    pub(crate) fn set(&mut self, argument: &str) -> Result<(), Diagnostic> {
        let example = || Some("for example `--set admin.listen=127.0.0.1:9600`".to_owned());
        let Some((path, value)) = argument.split_once('=') else {
            // What follows the path may be a secret whose `=` was mistyped.
            let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
            let path = argument.split(|c| !is_path(c)).next().unwrap_or_default();
            let place = Place::Argument(path.to_owned());
            return Err(Diagnostic::error("`--set` without a value")
                .spot(Some(place.named("expected `path=value`")))
                .help(example()));
        };
        let place = Place::Argument(path.to_owned());
        let steps: Path = path.parse().map_err(|reason: String| {
            Diagnostic::error(format!("`--set` with what is not a path: {reason}"))
                .spot(Some(place.named("expected words separated by dots, and `[n]` for an item")))
                .help(example())
        })?;
        self.over(steps.steps().to_vec(), value, &place)
    }

    /// Puts `value` at `steps`. A number steps into a list that is there; one past its end appends.
    fn over(&mut self, steps: Vec<Step>, value: &str, place: &Place) -> Result<(), Diagnostic> {
        let mut path = Path::top();
        if steps.len() > STEPS_MAX {
            return Err(Diagnostic::error(format!("a path of more than {STEPS_MAX} words"))
                .spot(Some(place.named("nothing is nested so deeply"))));
        }
        // `config` needs a textual path as far as there are items; what follows them is nested in the value.
        let (mut at, mut nested) = (ROOT.to_owned(), Vec::new());
        let mut known = self.merged.cache.clone().into_table().ok().and_then(|mut top| top.remove(ROOT));
        for step in steps {
            let items = match &known {
                Some(Merged { kind: ValueKind::Array(items), .. }) => Some(items.len()),
                _ => None,
            };
            let step = item_or_key(step, items, &path, place)?;
            known = known.and_then(|value| down(value, &step));
            match &step {
                Step::Key(key) => nested.push(key.clone()),
                Step::Item(item) => {
                    for key in nested.drain(..) {
                        at.push('.');
                        at.push_str(&key);
                    }
                    at.push_str(&format!("[{item}]"));
                }
            }
            path = match step {
                Step::Key(key) => path.key(key),
                Step::Item(item) => path.item(item),
            };
            self.index.place_missing(&path, place);
        }
        let node = self.written(&path, value, place)?;
        self.index.place_flat(&path, place, &node);
        let value = nested.into_iter().rev().fold(merged(&node), |value, key| {
            Merged::new(None, ValueKind::Table(HashMap::from([(key, value)])))
        });
        self.merge(Layer { at, value })
    }

    /// A value from outside a file: text as it is, unless it begins like a list or a map. A secret is always
    /// text: nobody may have to quote a password for YAML.
    fn written(&self, path: &Path, value: &str, place: &Place) -> Result<Value, Diagnostic> {
        if self.index.is_literal(path) {
            return Ok(Value::Scalar { text: value.to_owned(), plain: false });
        }
        if !value.trim_start().starts_with(['[', '{']) {
            return Ok(Value::plain(value));
        }
        match yaml::parse(value) {
            Ok(node) => Ok(node.map_or(Value::Null, |node: Node| node.value)),
            Err(fault) => Err(Diagnostic::error(format!("{}: {}", fault.message, fault.label))
                .spot(Some(place.named("a value that begins with `[` or `{` is read as YAML")))
                .help(fault.help.map(str::to_owned))),
        }
    }

    fn merge(&mut self, layer: Layer) -> Result<(), Diagnostic> {
        let below = std::mem::take(&mut self.merged);
        self.merged = Config::builder()
            .add_source(below)
            .add_source(layer)
            .build()
            .map_err(|error| Diagnostic::error(format!("the layers do not fit: {error}")))?;
        Ok(())
    }

    /// What the layers say together, and where each of its values comes from.
    pub(crate) fn finish(self) -> (Tree, Index) {
        let top = self.merged.cache.into_table().ok().and_then(|mut top| top.remove(ROOT));
        let tree = top.map_or(Tree::Map(Vec::new()), |value| tree(value, &Path::top(), &self.index));
        (tree, self.index)
    }
}

fn item_or_key(step: Step, items: Option<usize>, path: &Path, place: &Place) -> Result<Step, Diagnostic> {
    let (item, length) = match (step, items) {
        (Step::Item(item), length) => (item, length.unwrap_or(0)),
        (Step::Key(key), None) => return Ok(Step::Key(key)),
        (Step::Key(key), Some(length)) => match key.parse() {
            Ok(item) => (item, length),
            Err(_) => {
                return Err(Diagnostic::error(format!("`{path}` is a list and has no key `{key}`"))
                    .spot(Some(place.named("expected the number of an item, from 0"))));
            }
        },
    };
    if item > length {
        let label = match length {
            0 => "expected 0, which makes the first item".to_owned(),
            _ => format!("expected at most {length}, which appends an item"),
        };
        return Err(Diagnostic::error(format!("`{path}` has no item {item}")).spot(Some(place.named(&label))));
    }
    Ok(Step::Item(item))
}

fn down(value: Merged, step: &Step) -> Option<Merged> {
    match (value.kind, step) {
        (ValueKind::Table(mut table), Step::Key(key)) => table.remove(key),
        (ValueKind::Array(items), Step::Item(item)) => items.into_iter().nth(*item),
        _ => None,
    }
}

/// A value in `config`'s words. Every scalar goes as text: its type is found when it is read.
fn merged(value: &Value) -> Merged {
    let kind = match value {
        Value::Null => ValueKind::Nil,
        Value::Scalar { text, .. } => ValueKind::String(text.clone()),
        Value::List(items) => ValueKind::Array(items.iter().map(|item| merged(&item.value)).collect()),
        Value::Map(entries) => ValueKind::Table(
            entries.iter().map(|entry| (entry.key.clone(), merged(&entry.node.value))).collect(),
        ),
    };
    Merged::new(None, kind)
}

fn tree(value: Merged, path: &Path, index: &Index) -> Tree {
    match value.kind {
        ValueKind::Nil => Tree::Null,
        ValueKind::Array(items) => Tree::List(
            items
                .into_iter()
                .enumerate()
                .map(|(at, item)| tree(item, &path.clone().item(at), index))
                .collect(),
        ),
        ValueKind::Table(table) => {
            let mut entries = BTreeMap::new();
            for (key, value) in table {
                let path = path.clone().key(&key);
                let order = (key != "type", index.order(&path));
                let value = tree(value, &path, index);
                entries.insert((order, key), value);
            }
            Tree::Map(entries.into_iter().map(|((_, key), value)| (key, value)).collect())
        }
        // Only text was handed in.
        ValueKind::String(text) => Tree::Scalar { text, plain: index.is_plain(path) },
        other => Tree::Scalar { text: other.to_string(), plain: true },
    }
}
