//! The merged tree to typed values, with the path of whatever does not fit.
//!
//! Owns how text becomes a number or a boolean (YAML 1.2, and only when it is wanted), and collects the path of
//! a fault while it travels up. Stricter than serde at large: a struct is never read from a list, and nothing
//! is no empty map.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};

use super::layers::Tree;
use super::path::{Path, Step};
use super::report::one_of;

/// What does not fit, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The steps to it, innermost first.
    steps: Vec<Step>,
    /// Whether the key is at fault rather than the value.
    pub(crate) at_key: bool,
    pub(crate) problem: Problem,
}

#[derive(Debug)]
pub(crate) enum Problem {
    UnknownKey { key: String, valid: &'static [&'static str] },
    UnknownWord { found: String, valid: &'static [&'static str] },
    Missing { key: &'static str },
    WrongType { found: String, expected: String },
    WrongValue { found: String, expected: String },
    Custom(String),
}

impl Fault {
    fn new(problem: Problem) -> Self {
        Self { steps: Vec::new(), at_key: false, problem }
    }

    fn under(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Where the fault is; for an unknown or missing key the map that has it or lacks it.
    pub(crate) fn path(&self) -> Path {
        Path::from(self.steps.iter().rev().cloned().collect::<Vec<_>>())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path(), self.problem)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Custom(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Problem::WrongType { found: describe(found), expected: wanted(&expected.to_string()) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Problem::WrongValue { found: describe(found), expected: wanted(&expected.to_string()) })
    }

    fn unknown_variant(found: &str, valid: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownWord { found: found.to_owned(), valid })
    }

    fn unknown_field(key: &str, valid: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownKey { key: key.to_owned(), valid })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Problem::Missing { key })
    }
}

/// What was found, in the words of a reader of YAML.
fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}

/// What a visitor says that it expects, without the names of Rust.
fn wanted(expected: &str) -> String {
    let words = match expected {
        "a string" | "string" | "str" => "text",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        _ if expected.starts_with("struct ") => "a map",
        _ => expected,
    };
    words.to_owned()
}

/// Reads the whole tree as a `T`.
pub(crate) fn from_tree<T: DeserializeOwned>(tree: &Tree) -> Result<T, Fault> {
    T::deserialize(Reader { tree })
}

/// One value of the tree.
#[derive(Clone, Copy)]
struct Reader<'t> {
    tree: &'t Tree,
}

impl<'t> Reader<'t> {
    fn unexpected(self) -> Unexpected<'t> {
        match self.tree {
            Tree::Null => Unexpected::Unit,
            Tree::Scalar { text, .. } => Unexpected::Str(text),
            Tree::List(_) => Unexpected::Seq,
            Tree::Map(_) => Unexpected::Map,
        }
    }
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.tree {
            Tree::Null => visitor.visit_unit(),
            Tree::Scalar { text, plain: false } => visitor.visit_str(text),
            Tree::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" => visitor.visit_bool(false),
                text => number(text, visitor),
            },
            Tree::List(items) => visitor.visit_seq(Items { items, at: 0 }),
            Tree::Map(entries) => visitor.visit_map(Entries { entries, at: 0 }),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.tree {
            Tree::Scalar { text, .. } => visitor.visit_str(text),
            _ => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.tree {
            Tree::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.tree {
            Tree::Map(_) => self.deserialize_any(visitor),
            _ => Err(de::Error::invalid_type(self.unexpected(), &"a map")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.tree {
            Tree::Scalar { text, .. } => visitor.visit_enum(Word { word: text, value: None }),
            Tree::Map(entries) => match entries.as_slice() {
                [(word, value)] => visitor.visit_enum(Word { word, value: Some(value) }),
                _ => {
                    let expected = format!("exactly {}", one_of_these(words));
                    Err(de::Error::invalid_type(self.unexpected(), &expected.as_str()))
                }
            },
            _ => Err(de::Error::invalid_type(self.unexpected(), &one_of_these(words).as_str())),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map ignored_any
    }
}

fn one_of_these(words: &[&str]) -> String {
    let words = one_of(words.iter().copied());
    words.strip_prefix("expected ").unwrap_or(&words).to_owned()
}

fn number<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, Fault> {
    let digits = text.trim_start_matches(['-', '+']);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return visitor.visit_str(text);
    }
    if let Ok(number) = text.parse::<u64>() {
        return visitor.visit_u64(number);
    }
    if let Ok(number) = text.parse::<i64>() {
        return visitor.visit_i64(number);
    }
    match text.parse::<f64>() {
        Ok(number) => visitor.visit_f64(number),
        Err(_) => visitor.visit_str(text),
    }
}

struct Items<'t> {
    items: &'t [Tree],
    at: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(tree) = self.items.get(self.at) else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        seed.deserialize(Reader { tree }).map(Some).map_err(|fault| fault.under(Step::Item(at)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.at)
    }
}

struct Entries<'t> {
    entries: &'t [(String, Tree)],
    at: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, _)) = self.entries.get(self.at) else { return Ok(None) };
        let tree = Tree::Scalar { text: key.clone(), plain: false };
        seed.deserialize(Reader { tree: &tree }).map(Some).map_err(|mut fault| match fault.problem {
            Problem::UnknownKey { .. } => fault,
            _ => {
                fault.at_key = true;
                fault.under(Step::Key(key.clone()))
            }
        })
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((key, tree)) = self.entries.get(self.at) else {
            return Err(de::Error::custom("a value was read before its key"));
        };
        self.at += 1;
        seed.deserialize(Reader { tree }).map_err(|fault| fault.under(Step::Key(key.clone())))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len() - self.at)
    }
}

/// A word of an enum, alone or with a value: `beginning`, `{since: 24h}`.
struct Word<'t> {
    word: &'t str,
    value: Option<&'t Tree>,
}

impl<'de, 't> de::EnumAccess<'de> for Word<'t> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let word: de::value::StrDeserializer<'_, Fault> = self.word.into_deserializer();
        match seed.deserialize(word) {
            Ok(variant) => Ok((variant, self)),
            // With a value beneath it the word is a key to its reader.
            Err(Fault { problem: Problem::UnknownWord { found, valid }, .. }) if self.value.is_some() => {
                Err(Fault::new(Problem::UnknownKey { key: found, valid }))
            }
            Err(fault) => Err(fault),
        }
    }
}

impl<'t> Word<'t> {
    fn value(&self) -> Result<Reader<'t>, Fault> {
        let found = Unexpected::Str(self.word);
        let expected = format!("`{{{}: …}}`", self.word);
        let tree =
            self.value.ok_or_else(|| -> Fault { de::Error::invalid_type(found, &expected.as_str()) })?;
        Ok(Reader { tree })
    }

    fn under(&self) -> impl FnOnce(Fault) -> Fault + use<> {
        let step = Step::Key(self.word.to_owned());
        |fault| fault.under(step)
    }
}

impl<'de> de::VariantAccess<'de> for Word<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.value {
            None => Ok(()),
            Some(_) => {
                let expected = format!("`{}` alone", self.word);
                Err(de::Error::invalid_type(Unexpected::Map, &expected.as_str()))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.value()?).map_err(self.under())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_seq(self.value()?, visitor).map_err(self.under())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_map(self.value()?, visitor).map_err(self.under())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::config::yaml::Value;

    fn tree(text: &str) -> Tree {
        fn convert(value: Value) -> Tree {
            match value {
                Value::Null => Tree::Null,
                Value::Scalar { text, plain } => Tree::Scalar { text, plain },
                Value::List(items) => Tree::List(items.into_iter().map(|item| convert(item.value)).collect()),
                Value::Map(entries) => Tree::Map(
                    entries.into_iter().map(|entry| (entry.key, convert(entry.node.value))).collect(),
                ),
            }
        }
        convert(crate::config::yaml::parse(text).unwrap().unwrap().value)
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Start {
        End,
        Since(String),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct All {
        text: Option<String>,
        number: Option<u16>,
        yes: Option<bool>,
        start: Option<Start>,
        map: Option<BTreeMap<String, Vec<u64>>>,
    }

    #[test]
    fn text_gets_the_type_that_is_wanted() {
        let all: All = from_tree(&tree(
            "{text: 1.10, number: 8080, yes: true, start: {since: 1h}, map: {b: [1, 2], a: []}}",
        ))
        .unwrap();
        assert_eq!(all.text.as_deref(), Some("1.10"));
        assert_eq!((all.number, all.yes), (Some(8080), Some(true)));
        assert_eq!(all.start, Some(Start::Since("1h".to_owned())));
        assert_eq!(all.map.unwrap()["b"], [1, 2]);
        assert_eq!(from_tree::<All>(&tree("{text: ~, start: end}")).unwrap().start, Some(Start::End));
    }

    #[test]
    fn a_fault_knows_its_path() {
        for (text, expected) in [
            ("{textt: x}", ": UnknownKey"),
            ("{number: -1}", "number: WrongValue"),
            ("{number: \"5\"}", "number: WrongType"),
            ("{number: 99999}", "number: WrongValue"),
            ("{yes: yes}", "yes: WrongType"),
            ("{text: [a]}", "text: WrongType"),
            ("{map: {a: [1, x]}}", "map.a[1]: WrongType"),
            ("{start: {since: [1]}}", "start.since: WrongType"),
            ("{start: since}", "start: WrongType"),
            ("{start: {end: 1}}", "start: WrongType"),
            ("{start: begin}", "start: UnknownWord"),
            ("{start: {begin: 1}}", "start: UnknownKey"),
            ("{start: {}}", "start: WrongType"),
            ("[x]", ": WrongType"),
        ] {
            let fault = from_tree::<All>(&tree(text)).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{text}: {fault}");
        }
    }
}
