//! Inputs and outputs: a `type` that decides about all other keys.
//!
//! Dispatched by hand: serde's internal tagging buffers what it reads, and errors lose their path with it. The
//! loader gives `type` first in every map, so that the keys behind it go straight to the type that they are for.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use auditship_ship::Duration;
use auditship_ship::sinks::{self, SINKS};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde_json::{Value, json};

use super::model::{FileInput, StdinInput};

/// Where lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file that is followed.
    File(FileInput),
    /// Standard input.
    Stdin(StdinInput),
}

/// Where records go.
#[derive(Clone, Debug)]
pub struct Output {
    /// What it gets of the events that the filter judges.
    pub filter: FilterUse,
    /// Where its records go while it does not take them.
    pub fallback: Option<Fallback>,
    /// The options of its kind.
    pub sink: sinks::Config,
}

/// Which filter stands before an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FilterUse {
    /// None: it also gets what the filter drops, as an archive should. The default of `dir`.
    None,
    /// The configured one. The default of all others.
    Default,
}

/// Where an output's records go while it does not take them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// The name of the other output. What has gone there stays there.
    pub output: String,
    /// How long the output must have taken nothing (10m).
    #[serde(default = "ten_minutes")]
    pub after: Duration,
}

fn ten_minutes() -> Duration {
    Duration(std::time::Duration::from_secs(600))
}

/// A value that begins with its `type`.
trait Kinds: Sized {
    /// The values of `type`.
    const NAMES: &'static [&'static str];
    const EXPECTED: &'static str;

    /// Reads the keys behind `type: name`. Invariant: `name` is in [`Self::NAMES`].
    fn read<'de, A: MapAccess<'de>>(name: &str, rest: A) -> Result<Self, A::Error>;
}

const SINK_NAMES: [&str; SINKS.len()] = {
    let mut names = [""; SINKS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = SINKS[at].name;
        at += 1;
    }
    names
};

impl Kinds for Input {
    const NAMES: &'static [&'static str] = &["file", "stdin"];
    const EXPECTED: &'static str = "a map with a `type`";

    fn read<'de, A: MapAccess<'de>>(name: &str, rest: A) -> Result<Self, A::Error> {
        let rest = MapAccessDeserializer::new(rest);
        match name {
            "file" => FileInput::deserialize(rest).map(Self::File),
            "stdin" => StdinInput::deserialize(rest).map(Self::Stdin),
            _ => Err(de::Error::unknown_variant(name, Self::NAMES)),
        }
    }
}

impl Kinds for Output {
    const NAMES: &'static [&'static str] = &SINK_NAMES;
    const EXPECTED: &'static str = "a map with a `type`";

    fn read<'de, A: MapAccess<'de>>(name: &str, rest: A) -> Result<Self, A::Error> {
        let (mut filter, mut fallback) = (None, None);
        let own = WithoutCommon { rest, filter: &mut filter, fallback: &mut fallback };
        let rest = MapAccessDeserializer::new(own);
        let sink = sinks::Config::deserialize(name, rest)
            .unwrap_or_else(|| Err(de::Error::unknown_variant(name, Self::NAMES)))?;
        let default = if sink.kind().archive { FilterUse::None } else { FilterUse::Default };
        Ok(Self { filter: filter.unwrap_or(default), fallback, sink })
    }
}

/// The keys of an output without those that all kinds have in common.
struct WithoutCommon<'f, A> {
    rest: A,
    filter: &'f mut Option<FilterUse>,
    fallback: &'f mut Option<Fallback>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutCommon<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            match self.rest.next_key::<String>()? {
                None => return Ok(None),
                Some(key) if key == "filter" => *self.filter = Some(self.rest.next_value()?),
                Some(key) if key == "fallback" => *self.fallback = Some(self.rest.next_value()?),
                Some(key) => return seed.deserialize(key.into_deserializer()).map(Some),
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.rest.next_value_seed(seed)
    }
}

/// One of the names of a kind.
struct Name<K>(PhantomData<K>);

impl<'de, K: Kinds> DeserializeSeed<'de> for Name<K> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        let name = String::deserialize(from)?;
        if K::NAMES.contains(&name.as_str()) {
            return Ok(name);
        }
        Err(de::Error::unknown_variant(&name, K::NAMES))
    }
}

struct Tagged<K>(PhantomData<K>);

impl<'de, K: Kinds> Visitor<'de> for Tagged<K> {
    type Value = K;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::EXPECTED)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<K, A::Error> {
        if map.next_key::<String>()?.as_deref() != Some("type") {
            return Err(de::Error::missing_field("type"));
        }
        let name = map.next_value_seed(Name::<K>(PhantomData))?;
        K::read(&name, map)
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Tagged(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Output {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Tagged(PhantomData))
    }
}

impl JsonSchema for Input {
    fn schema_name() -> Cow<'static, str> {
        "Input".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let file = FileInput::json_schema(generator);
        let stdin = StdinInput::json_schema(generator);
        json_schema!({
            "description": "Where lines come from.",
            "oneOf": [tagged("file", None, file, &[]), tagged("stdin", None, stdin, &[])],
        })
    }
}

impl JsonSchema for Output {
    fn schema_name() -> Cow<'static, str> {
        "Output".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let filter = generator.subschema_for::<FilterUse>().to_value();
        let fallback = generator.subschema_for::<Fallback>().to_value();
        let mut kinds = Vec::new();
        for (kind, schema) in sinks::schemas(generator) {
            // `type` must stand among the sink's own properties: they are closed.
            let schema = inlined(generator, schema);
            kinds.push(tagged(
                kind.name,
                Some(kind.doc),
                schema,
                &[("filter", &filter), ("fallback", &fallback)],
            ));
        }
        json_schema!({ "description": "Where records go.", "oneOf": kinds })
    }
}

/// The schema behind a reference.
fn inlined(generator: &mut SchemaGenerator, schema: Schema) -> Schema {
    let name = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| reference.rsplit('/').next())
        .map(str::to_owned);
    let found = name.and_then(|name| generator.definitions_mut().remove(&name));
    found.and_then(|found| Schema::try_from(found).ok()).unwrap_or(schema)
}

/// `schema` with a constant `type`, and with what all of its kind have in common.
fn tagged(name: &str, doc: Option<&str>, schema: Schema, common: &[(&str, &Value)]) -> Value {
    let mut schema = schema.to_value();
    let Some(object) = schema.as_object_mut() else { return schema };
    object.insert("title".to_owned(), name.into());
    if let Some(doc) = doc {
        object.insert("description".to_owned(), doc.into());
    }
    if let Some(properties) = object.entry("properties").or_insert_with(|| json!({})).as_object_mut() {
        properties.insert("type".to_owned(), json!({ "const": name }));
        for (key, value) in common {
            properties.insert((*key).to_owned(), (*value).clone());
        }
    }
    if let Some(required) = object.entry("required").or_insert_with(|| json!([])).as_array_mut() {
        required.insert(0, "type".into());
    }
    schema
}
