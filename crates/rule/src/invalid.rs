//! What is wrong with something written in a configuration, and where: a path and a fragment.
//!
//! Both speak of the configuration alone; no event content ever gets here.

/// A configuration that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Invalid {
    /// Where, inside what was compiled: `codes[1]`, `not.latency`; empty for the whole of it.
    pub path: String,
    /// What, as a lower-case fragment.
    pub message: String,
}

impl Invalid {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Invalid {
        Invalid { path: path.into(), message: message.into() }
    }

    /// The same error seen from one level further out: `codes[1]` within `match` is `match.codes[1]`.
    #[must_use]
    pub fn within(self, outer: &str) -> Invalid {
        Invalid { path: join(outer, &self.path), message: self.message }
    }
}

/// Joins two paths: `rules[0]` and `match` to `rules[0].match`, `routes` and `[2].index` to `routes[2].index`.
pub fn join(outer: &str, inner: &str) -> String {
    let dot = if outer.is_empty() || inner.is_empty() || inner.starts_with('[') { "" } else { "." };
    format!("{outer}{dot}{inner}")
}

/// How long the name of a rule, route or output may be.
pub const NAME_MAX: usize = 63;

/// Whether `name` can name a rule or a route. Names become metric labels and words on a terminal, so they are
/// kept to a small alphabet.
///
/// # Errors
/// What is wrong with it, as a fragment.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("expected a name");
    }
    if name.len() > NAME_MAX {
        return Err("a name may have at most 63 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
    {
        return Err("a name may hold only a-z, 0-9, `-`, `_` and `.`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join() {
        for (outer, inner, want) in [
            ("match", "codes[1]", "match.codes[1]"),
            ("routes", "[2].index", "routes[2].index"),
            ("not", "", "not"),
            ("", "verbs", "verbs"),
        ] {
            assert_eq!(Invalid::new(inner, "m").within(outer).path, want);
        }
        assert_eq!(Invalid::new("codes[1]", "expected a code").to_string(), "codes[1]: expected a code");
    }

    #[test]
    fn names() {
        assert!(check_name("request-received").is_ok());
        for bad in ["", "Big", "a b", "ä", "a\nb", &"x".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
