//! Where a value stands in the configuration: `routes[2].outputs[0]`.
//!
//! Owns the notation, which messages, `--set` and the plan share. A key that holds a dot, a bracket or a quote
//! is written in double quotes: `outputs.search.headers."x.y"`. Refuses nothing about the words themselves.

use std::fmt;
use std::str::FromStr;

/// One step down: into a map or into a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A map's key.
    Key(String),
    /// A list's item, from 0.
    Item(usize),
}

/// The way from the top of the configuration to a value; empty for the top itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

impl Path {
    /// The whole configuration.
    pub fn top() -> Self {
        Self::default()
    }

    /// The value of `key` in the map at this path.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.0.push(Step::Key(key.into()));
        self
    }

    /// Item `at` of the list at this path.
    #[must_use]
    pub fn item(mut self, at: usize) -> Self {
        self.0.push(Step::Item(at));
        self
    }

    /// The path `relative` from here on, as the compilers of rules write it: `codes[1]`, `[2].index`, or nothing.
    #[must_use]
    pub fn join(mut self, relative: &str) -> Self {
        match (relative, steps(relative)) {
            ("", _) => {}
            (_, Ok(steps)) => self.0.extend(steps),
            (_, Err(_)) => self.0.push(Step::Key(relative.to_owned())),
        }
        self
    }

    /// The steps, from the top.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether this is the whole configuration.
    pub fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// The map or list that holds this value, if it is not the top.
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }

    /// Whether this path is `other` or lies beneath it.
    pub fn is_under(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The keys alone, with `*` for an item: what a shape is matched by.
    pub fn words(&self) -> Vec<&str> {
        self.0
            .iter()
            .map(|step| match step {
                Step::Key(key) => key.as_str(),
                Step::Item(_) => "*",
            })
            .collect()
    }
}

impl From<Vec<Step>> for Path {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

impl From<&Path> for Path {
    fn from(path: &Path) -> Self {
        path.clone()
    }
}

/// For literals in code; text that is no path is taken as one key.
impl From<&str> for Path {
    fn from(text: &str) -> Self {
        text.parse().unwrap_or_else(|_: String| Self::top().key(text))
    }
}

impl From<String> for Path {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(item) => write!(f, "[{item}]")?,
                Step::Key(key) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    if key.is_empty() || key.contains(['.', '[', ']', '"']) {
                        write!(f, "{key:?}")?;
                    } else {
                        f.write_str(key)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('[') {
            return Err("a word is missing".to_owned());
        }
        steps(text).map(Self)
    }
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text;
    loop {
        if !(steps.is_empty() && rest.starts_with('[')) {
            let (key, after) = take_key(rest)?;
            steps.push(Step::Key(key));
            rest = after;
        }
        while let Some(after) = rest.strip_prefix('[') {
            let (number, after) = after.split_once(']').ok_or("`[` is not closed")?;
            let item = number.parse().map_err(|_| format!("`{number}` is not a number of an item"))?;
            steps.push(Step::Item(item));
            rest = after;
        }
        if rest.is_empty() {
            return Ok(steps);
        }
        rest = rest.strip_prefix('.').ok_or("a `.` or `[` is missing after a word")?;
    }
}

fn take_key(text: &str) -> Result<(String, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (key, after) = quoted.split_once('"').ok_or("`\"` is not closed")?;
        return Ok((key.to_owned(), after));
    }
    let end = text.find(['.', '[']).unwrap_or(text.len());
    match text.split_at(end) {
        ("", _) => Err("a word is missing".to_owned()),
        (key, after) => Ok((key.to_owned(), after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_back_as_they_are_written() {
        for text in ["cluster", "routes[2].outputs[0]", "a.b-c.d", "outputs.s.headers.\"x.y\"", "a[0][1].b"] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_path_says_why() {
        for (text, message) in [
            ("", "a word is missing"),
            ("a..b", "a word is missing"),
            (".a", "a word is missing"),
            ("[0]", "a word is missing"),
            ("a[x]", "`x` is not a number of an item"),
            ("a[1", "`[` is not closed"),
            ("a[1]b", "a `.` or `[` is missing after a word"),
            ("\"a", "`\"` is not closed"),
        ] {
            assert_eq!(text.parse::<Path>().unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn paths_join() {
        let route = Path::from("routes");
        for (relative, joined) in [
            ("[2].index", "routes[2].index"),
            ("match.codes[1]", "routes.match.codes[1]"),
            ("", "routes"),
            ("a..b", "routes.\"a..b\""),
        ] {
            assert_eq!(route.clone().join(relative).to_string(), joined);
        }
    }

    #[test]
    fn under_is_by_steps_and_not_by_letters() {
        let outer = Path::from("outputs.search");
        assert!(Path::from("outputs.search.auth").is_under(&outer));
        assert!(outer.is_under(&outer));
        assert!(!Path::from("outputs.search2").is_under(&outer));
    }
}
