//! Values that the API server's messages repeat.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use crate::pairs::closes;
use crate::values::is_mixed;
use std::ops::Range;

/// A validation error repeats the value that it refuses (k8s.io/apimachinery `pkg/util/validation/field/errors.go`,
/// `ErrorBody`), under a key that it does not always name. Names and words stay.
pub(super) static RULE: Rule = Rule {
    name: "invalid-value",
    doc: "opaque values that messages repeat: `Invalid value: \"…\"`, from 16 characters, with digits and letters of both cases or no small ones",
    selector: Selector::Text {
        needles: &[Needle::Begin("Invalid value: "), Needle::Begin("invalid value: ")],
        find,
    },
    action: Action::Mask,
};

/// Longest value that is looked at.
const MAX: usize = 4096;

fn find(text: &[u8], at: usize, needle: &str) -> Option<Range<usize>> {
    let from = at + needle.len();
    let level = text[from..].iter().take(MAX).take_while(|b| **b == b'\\').count();
    let start = from + level + 1;
    let window = &text[..text.len().min(start + MAX)];
    if window.get(start - 1) != Some(&b'"') {
        return None;
    }
    let end = closes(window, start, level)?;
    let value = &text[start..end];
    let plain = value.len() >= 16 && !value.iter().any(|b| b" {[:\\.".contains(b));
    (plain && (is_mixed(value) || is_capital(value))).then_some(start..end)
}

/// Capitals and digits that are no joined words, such as a password may be by chance: `PNC0Z4IG1AHUYS!847`.
fn is_capital(value: &[u8]) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let words = value.iter().any(|b| b.is_ascii_lowercase() || b"-_/=,".contains(b));
    !words && digits >= 2 && value.iter().any(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn in_messages() {
        check(
            r#"{"responseStatus":{"message":"metadata.labels: Invalid value: \"0tgdIvziORKlGQLeXCTl+/==\": a valid label must"}}"#,
            r#"{"responseStatus":{"message":"metadata.labels: Invalid value: \"‹invalid-value›\": a valid label must"}}"#,
        );
    }

    #[test]
    fn a_password_without_a_small_letter() {
        check(
            r#"{"responseStatus":{"message":"Invalid value: \"PNC0Z4IG1AHUYS!847\": a valid label must"}}"#,
            r#"{"responseStatus":{"message":"Invalid value: \"‹invalid-value›\": a valid label must"}}"#,
        );
        unchanged(
            r#"{"a":"Invalid value: \"MY_NAME_2_IN_CAPITALS\": x","b":"Invalid value: \"A=B,C=D,E=12,F=345\": x","c":"Invalid value: \"CAPITALSWITHOUTANYDIGIT\": x"}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"a":"Invalid value: \"My-Deployment\": must be","b":"Invalid value: \"a sentence With 1 digit\"","c":"Invalid value: 7","d":"Invalid value: \"registry.Example.com1234/x\": y"}"#,
        );
    }
}
