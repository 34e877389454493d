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
    doc: "opaque values that messages repeat: `Invalid value: \"…\"`, from 16 characters, with both cases and digits",
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
    let opaque = value.len() >= 16 && is_mixed(value) && !value.iter().any(|b| b" {[:\\.".contains(b));
    opaque.then_some(start..end)
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
    fn what_must_not_change() {
        unchanged(
            r#"{"a":"Invalid value: \"My-Deployment\": must be","b":"Invalid value: \"a sentence With 1 digit\"","c":"Invalid value: 7","d":"Invalid value: \"registry.Example.com1234/x\": y"}"#,
        );
    }
}
