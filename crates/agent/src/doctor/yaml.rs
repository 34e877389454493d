//! YAML that others have written, as a tree: manifests, policies, configurations.
//!
//! Unlike our own configuration (`config::yaml`) it may use everything that Kubernetes accepts: anchors, several
//! documents. What is bounded: size (by the reader), events, aliases and what they unfold to, depth. An error never
//! quotes the text: a manifest can hold what nobody should see.

use serde_json::Value;

/// More documents than this are no manifest.
const DOCUMENTS_MAX: usize = 64;
const EVENTS_MAX: usize = 200_000;
const ALIASES_MAX: usize = 1_000;
const DEPTH_MAX: usize = 64;

/// The documents of `bytes`, empty ones left out.
///
/// # Errors
/// What is wrong, and where; fit to follow a file's name and a colon.
pub fn documents(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text, and so no YAML".to_owned())?;
    if text.contains('\0') {
        return Err("not text, and so no YAML".to_owned());
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_documents: DOCUMENTS_MAX,
            max_events: EVENTS_MAX,
            max_aliases: ALIASES_MAX,
            max_recorded_anchor_events: EVENTS_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_depth: DEPTH_MAX,
        },
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let place = error.location().map(|at| format!("line {}, column {}: ", at.line(), at.column()));
        format!("{}not valid YAML", place.unwrap_or_default())
    })?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// A scalar as text: flags are text in some places and numbers in others.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        _ => None,
    }
}

/// A list of scalars, or one scalar as a list of one.
pub fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(text).collect(),
        other => text(other).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_kubernetes_accepts() {
        let text = b"# head\na: &x [1, two]\nb: *x\n---\n---\nc: {d: true}\n";
        assert_eq!(
            documents(text),
            Ok(vec![json!({"a": [1, "two"], "b": [1, "two"]}), json!({"c": {"d": true}})])
        );
        assert_eq!(documents(b""), Ok(vec![]));
    }

    #[test]
    fn hostile_text_is_refused() {
        for (bytes, want) in [
            (&b"\x7fELF\x02\x01\x01\x00\x00"[..], "not text"),
            (b"\xff\xfe a", "not text"),
            (b"a: [1", "not valid YAML"),
            (b"a: 1\na: 2", "not valid YAML"),
            ("[".repeat(100_000).as_bytes(), "not valid YAML"),
            (("a: &a x\nb: [".to_owned() + &"*a,".repeat(5_000) + "]").as_bytes(), "not valid YAML"),
        ] {
            let told = documents(bytes).unwrap_err();
            assert!(told.contains(want), "{told}");
        }
        // Nine levels of nine are more than anybody writes.
        let mut bomb = "a0: &a0 [x]\n".to_owned();
        for level in 1..10 {
            let before = format!("*a{},", level - 1).repeat(9);
            bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(documents(bomb.as_bytes()).is_err());
    }

    #[test]
    fn a_fault_has_its_place_and_no_text() {
        let told = documents(b"password: hunter2\nb: [hunter3\n").unwrap_err();
        assert!(told.starts_with("line ") && !told.contains("hunter"), "{told}");
    }
}
