//! Words of the configuration that carry a unit, and the string that cannot be printed.
//!
//! | type | grammar | examples |
//! |---|---|---|
//! | [`ByteSize`] | a number of bytes, or digits and one of `B KB MB GB KiB MiB GiB` | `2MiB`, `500KB`, `4096` |
//! | [`Duration`] | one or more of digits and one of `ms s m h d`, descending | `250ms`, `5s`, `1m30s` |
//! | [`ByteRate`] | bytes a second as a number, or a size, `/`, and one of `s m h` | `20MiB/s`, `1000000` |
//! | [`RequestRate`] | requests a second as a number, or digits, `/`, and one of `s m h` | `50/s`, `300/m` |
//!
//! No spaces, no fractions, no sign: a value is written in one way only.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use std::time;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub time::Duration);

/// So many bytes in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRate {
    /// Bytes, at least one.
    pub bytes: NonZeroU64,
    /// The time they are spread over.
    pub per: time::Duration,
}

/// So many requests in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRate {
    /// Requests, at least one.
    pub requests: NonZeroU64,
    /// The time they are spread over.
    pub per: time::Duration,
}

/// A string that is never shown: `Debug` and `Serialize` give `[secret]`.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// A URL of which only the part before the query is shown: some endpoints want their token there.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Endpoint(pub String);

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::sink::without_query(&self.0))
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uri", "pattern": "^https?://" })
    }
}

const HIDDEN: &str = "[secret]";

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A secret: `${env:NAME}`, `${file:PATH}` or the value itself. It is never shown.",
            "format": "password",
        })
    }
}

/// Digits at the beginning of `text` as a number, and what follows.
fn digits(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn size(text: &str) -> Option<u64> {
    let (count, unit) = digits(text)?;
    let unit = match unit {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    count.checked_mul(unit)
}

fn duration(text: &str) -> Option<time::Duration> {
    let (mut rest, mut total, mut largest) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let (count, tail) = digits(rest)?;
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let millis: u64 = match &tail[..end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        if millis >= largest {
            return None;
        }
        largest = millis;
        total = total.checked_add(count.checked_mul(millis)?)?;
        rest = &tail[end..];
    }
    (!text.is_empty()).then(|| time::Duration::from_millis(total))
}

fn per(unit: &str) -> Option<time::Duration> {
    match unit {
        "s" => Some(time::Duration::from_secs(1)),
        "m" => Some(time::Duration::from_secs(60)),
        "h" => Some(time::Duration::from_secs(3600)),
        _ => None,
    }
}

/// A value that is written as a number or as text with a unit.
trait Unit: Sized {
    const EXPECTED: &'static str;
    fn number(number: u64) -> Option<Self>;
    fn text(text: &str) -> Option<Self>;
}

impl Unit for ByteSize {
    const EXPECTED: &'static str = "a size such as 2MiB, 500KB or 4096";
    fn number(number: u64) -> Option<Self> {
        Some(ByteSize(number))
    }
    fn text(text: &str) -> Option<Self> {
        size(text).map(ByteSize)
    }
}

impl Unit for Duration {
    const EXPECTED: &'static str = "a duration such as 250ms, 5s or 1m30s";
    fn number(_: u64) -> Option<Self> {
        // A bare number has no unit, so it could mean anything.
        None
    }
    fn text(text: &str) -> Option<Self> {
        duration(text).map(Duration)
    }
}

impl Unit for ByteRate {
    const EXPECTED: &'static str = "a rate such as 20MiB/s, or bytes a second as a number";
    fn number(number: u64) -> Option<Self> {
        Some(ByteRate { bytes: NonZeroU64::new(number)?, per: time::Duration::from_secs(1) })
    }
    fn text(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        Some(ByteRate { bytes: NonZeroU64::new(size(count)?)?, per: per(unit)? })
    }
}

impl Unit for RequestRate {
    const EXPECTED: &'static str = "a rate such as 50/s or 300/m, or requests a second as a number";
    fn number(number: u64) -> Option<Self> {
        Some(RequestRate { requests: NonZeroU64::new(number)?, per: time::Duration::from_secs(1) })
    }
    fn text(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let (count, "") = digits(count)? else { return None };
        Some(RequestRate { requests: NonZeroU64::new(count)?, per: per(unit)? })
    }
}

/// Reads a [`Unit`] from a number or text.
struct Reader<U>(std::marker::PhantomData<U>);

impl<U: Unit> Visitor<'_> for Reader<U> {
    type Value = U;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(U::EXPECTED)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<U, E> {
        U::number(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<U, E> {
        let found = u64::try_from(number).ok().and_then(U::number);
        found.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<U, E> {
        let found = U::text(text).or_else(|| text.parse().ok().and_then(U::number));
        found.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

macro_rules! unit {
    ($type:ident, $pattern:literal, $json:tt) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Reader(std::marker::PhantomData))
            }
        }

        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                <$type as Unit>::text(text).ok_or_else(|| format!("expected {}", <$type as Unit>::EXPECTED))
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "description": <$type as Unit>::EXPECTED, "type": $json, "pattern": $pattern, "minimum": 0 })
            }
        }
    };
}

unit!(ByteSize, "^[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)?$", ["string", "integer"]);
unit!(Duration, "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$", "string");
unit!(ByteRate, "^[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)?/[smh]$", ["string", "integer"]);
unit!(RequestRate, "^[0-9]+/[smh]$", ["string", "integer"]);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn size_of(value: Value) -> Option<u64> {
        from_value::<ByteSize>(value).ok().map(|size| size.0)
    }

    #[test]
    fn sizes() {
        for (value, want) in [
            (json!(4096), Some(4096)),
            (json!("4096"), Some(4096)),
            (json!("2MiB"), Some(2 << 20)),
            (json!("500KB"), Some(500_000)),
            (json!("1B"), Some(1)),
            (json!("1.5MiB"), None),
            (json!("2 MiB"), None),
            (json!("2mb"), None),
            (json!("MiB"), None),
            (json!(""), None),
            (json!("-1"), None),
            (json!(-1), None),
            (json!("99999999999999GiB"), None),
        ] {
            assert_eq!(size_of(value.clone()), want, "{value}");
        }
    }

    #[test]
    fn durations() {
        for (value, want) in [
            (json!("250ms"), Some(250)),
            (json!("5s"), Some(5_000)),
            (json!("1m30s"), Some(90_000)),
            (json!("2d"), Some(172_800_000)),
            (json!("30s1m"), None),
            (json!("1s1s"), None),
            (json!("5"), None),
            (json!(5), None),
            (json!(""), None),
            (json!("s"), None),
        ] {
            let found = from_value::<Duration>(value.clone()).ok().map(|age| age.0.as_millis());
            assert_eq!(found, want, "{value}");
        }
    }

    #[test]
    fn rates() {
        let bytes =
            |value| from_value::<ByteRate>(value).ok().map(|rate| (rate.bytes.get(), rate.per.as_secs()));
        assert_eq!(bytes(json!("20MiB/s")), Some((20 << 20, 1)));
        assert_eq!(bytes(json!(1000)), Some((1000, 1)));
        assert_eq!(bytes(json!("1GB/h")), Some((1_000_000_000, 3600)));
        assert_eq!(bytes(json!("0B/s")), None);
        assert_eq!(bytes(json!("20MiB")), None);
        let requests = |value| {
            from_value::<RequestRate>(value).ok().map(|rate| (rate.requests.get(), rate.per.as_secs()))
        };
        assert_eq!(requests(json!("50/s")), Some((50, 1)));
        assert_eq!(requests(json!("300/m")), Some((300, 60)));
        assert_eq!(requests(json!("5x/s")), None);
        assert_eq!(requests(json!("0/s")), None);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret: Secret = from_value(json!("hunter2")).unwrap();
        assert_eq!(
            format!("{secret:?} {}", serde_json::to_string(&secret).unwrap()),
            "[secret] \"[secret]\""
        );
        assert_eq!(secret.reveal(), "hunter2");
    }
}
