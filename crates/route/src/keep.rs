//! What fraction of the events a route keeps: a keyed, nested choice.
//!
//! An event is kept where a keyed hash of its request is below the fraction. Hence: all stages of one request
//! stay together; what is kept at 2% is kept at every larger fraction; and since the key is secret and the time
//! of arrival and the user are hashed too, a client that chooses its audit ID (header `Audit-ID`) cannot choose
//! to be left out.

use auditship_event::Keys;
use auditship_rule::Facts;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A fraction as written: `2%`, `0.5%`, `1/100`, or a number from 0 to 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepWord(pub String);

impl Default for KeepWord {
    fn default() -> KeepWord {
        KeepWord("100%".into())
    }
}

impl<'de> Deserialize<'de> for KeepWord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<KeepWord, D::Error> {
        from.deserialize_any(TextOrNumber).map(KeepWord)
    }
}

impl JsonSchema for KeepWord {
    fn schema_name() -> Cow<'static, str> {
        "KeepWord".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A fraction: `2%`, `1/100`, or a number from 0 to 1.",
            "type": ["string", "number"],
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%?\s*$|^\s*[0-9]+\s*/\s*[0-9]+\s*$",
            "minimum": 0,
            "maximum": 1,
            "default": "100%",
        })
    }
}

struct TextOrNumber;

impl Visitor<'_> for TextOrNumber {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fraction, such as 2%, 1/100 or 0.02")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
        // Never in exponential form.
        Ok(number.to_string())
    }
}

/// A fraction of all events, from none to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fraction {
    /// Hashes below it are kept. Invariant: at most 2^64, which is all.
    limit: u128,
}

const WHOLE: u128 = 1 << 64;

/// Digits after the decimal point that count; more are beyond the hash's own precision.
const DECIMALS: usize = 15;

impl Fraction {
    /// Everything is kept.
    pub const ALL: Fraction = Fraction { limit: WHOLE };

    /// Reads `2%`, `0.5%`, `1/100`, `0.02`, `1` (all).
    ///
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub fn parse(text: &str) -> Result<Fraction, &'static str> {
        const EXPECTED: &str = "expected a fraction, such as 2%, 1/100 or 0.02";
        let text = text.trim();
        let (part, whole) = if let Some((part, whole)) = text.split_once('/') {
            let number = |text: &str| integer(text.trim()).filter(|n| *n <= u128::from(u32::MAX));
            (number(part).ok_or(EXPECTED)?, number(whole).ok_or(EXPECTED)?)
        } else if let Some(percent) = text.strip_suffix('%') {
            let (digits, scale) = decimal(percent.trim()).ok_or(EXPECTED)?;
            (digits, scale * 100)
        } else {
            decimal(text).ok_or(EXPECTED)?
        };
        if whole == 0 {
            return Err(EXPECTED);
        }
        if part > whole {
            return Err("more than everything: expected at most 100%");
        }
        Ok(Fraction { limit: (part << 64) / whole })
    }

    /// Whether everything is kept, so that no hash is needed.
    pub fn is_all(self) -> bool {
        self.limit == WHOLE
    }

    /// Whether nothing is kept.
    pub fn is_none(self) -> bool {
        self.limit == 0
    }

    /// Whether an event with this [`sample`] is kept.
    pub fn keeps(self, sample: u64) -> bool {
        u128::from(sample) < self.limit
    }
}

fn integer(text: &str) -> Option<u128> {
    let digits = !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// `12.5` as `(125, 10)`.
fn decimal(text: &str) -> Option<(u128, u128)> {
    let Some((whole, fraction)) = text.split_once('.') else { return Some((small(text)?, 1)) };
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(DECIMALS)];
    let scale = fraction.bytes().fold(1u128, |scale, _| scale * 10);
    Some((small(whole)? * scale + integer(fraction)?, scale))
}

/// The part before the decimal point: so small that nothing overflows.
fn small(text: &str) -> Option<u128> {
    integer(text).filter(|n| *n <= 1_000)
}

/// The uniform number that decides for all stages of one request.
pub fn sample(facts: &Facts<'_>, keys: &Keys) -> u64 {
    let event = facts.event();
    let user = facts.username().unwrap_or_default();
    keys.sample(&[event.audit_id().as_bytes(), event.received_timestamp().as_bytes(), user.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditship_event::Event;
    use proptest::prelude::*;

    fn limit(text: &str) -> f64 {
        Fraction::parse(text).map(|f| f.limit as f64 / WHOLE as f64).unwrap()
    }

    #[test]
    fn fractions_as_written() {
        for (text, want) in [
            ("100%", 1.0),
            ("1", 1.0),
            ("1.0", 1.0),
            ("2%", 0.02),
            ("0.5 %", 0.005),
            ("1/100", 0.01),
            (" 3 / 4 ", 0.75),
            ("0.02", 0.02),
            ("0", 0.0),
            ("0.30000000000000004", 0.3),
            ("99.999999999999999999%", 1.0),
        ] {
            assert!((limit(text) - want).abs() < 1e-12, "{text}");
        }
        assert!(Fraction::parse("100%").unwrap().is_all() && Fraction::parse("0%").unwrap().is_none());
        assert!(Fraction::parse("1").unwrap().keeps(u64::MAX) && !Fraction::parse("0").unwrap().keeps(0));
        for bad in [
            "",
            "%",
            "2 percent",
            "101%",
            "1.01",
            "2",
            "3/2",
            "1/0",
            "0/0",
            "-1%",
            "+1%",
            "1e-3",
            ".5",
            "5.",
            "NaN",
        ] {
            assert!(Fraction::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_read_as_they_are() {
        for (json, want) in
            [(r#""2%""#, "2%"), ("0.02", "0.02"), ("1", "1"), ("0.0000001", "0.0000001"), ("-1", "-1")]
        {
            assert_eq!(serde_json::from_str::<KeepWord>(json).unwrap().0, want);
        }
        assert!(serde_json::from_str::<KeepWord>("true").is_err());
    }

    #[test]
    fn stages_of_a_request_stay_together() {
        let keys = Keys::derive(b"k", "c");
        let line = |stage: &str, id: &str, user: &str| {
            format!(
                r#"{{"auditID":"{id}","stage":"{stage}","user":{{"username":"{user}"}},"requestReceivedTimestamp":"2026-01-02T03:04:05.000001Z","stageTimestamp":"{stage}"}}"#
            )
        };
        let sample = |line: String| {
            let event = Event::parse(line.as_bytes()).unwrap();
            sample(&Facts::new(&event), &keys)
        };
        let first = sample(line("ResponseStarted", "a", "u"));
        assert_eq!(first, sample(line("ResponseComplete", "a", "u")));
        assert_ne!(first, sample(line("ResponseStarted", "b", "u")));
        assert_ne!(first, sample(line("ResponseStarted", "a", "v")));
    }

    #[test]
    fn about_as_many_are_kept_as_asked_for() {
        let keys = Keys::derive(b"k", "c");
        for percent in [2u32, 10, 50] {
            let fraction = Fraction::parse(&format!("{percent}%")).unwrap();
            let kept = (0..20_000u32)
                .filter(|i| fraction.keeps(keys.sample(&[&i.to_le_bytes(), b"", b"u"])))
                .count();
            let kept = f64::from(u32::try_from(kept).unwrap());
            let (p, n) = (f64::from(percent) / 100.0, 20_000.0);
            // Five standard deviations.
            assert!((kept - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt(), "{percent}%: {kept}");
        }
    }

    proptest! {
        #[test]
        fn smaller_fractions_are_inside_larger_ones(a in 0u32..=10_000, b in 0u32..=10_000, sample: u64) {
            let small = Fraction::parse(&format!("{}/10000", a.min(b))).unwrap();
            let large = Fraction::parse(&format!("{}/10000", a.max(b))).unwrap();
            prop_assert!(!small.keeps(sample) || large.keeps(sample));
            prop_assert!(small <= large);
        }

        #[test]
        fn no_text_is_too_much(text in "[0-9./% ]{0,40}") {
            let _ = Fraction::parse(&text);
        }
    }
}
