//! The targets.

mod edits;
mod lines;
mod nested;
mod redact;
mod scan;

/// One thing that is tried with any bytes.
pub struct Target {
    /// Its name, which is also its corpus'.
    pub name: &'static str,
    /// Panics where something does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "scan", run: scan::run },
    Target { name: "edits", run: edits::run },
    Target { name: "nested", run: nested::run },
    Target { name: "redact", run: redact::run },
    Target { name: "lines", run: lines::run },
];

/// Runs the target of this name.
///
/// # Panics
/// Where there is none, or where something does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name}")).run)(input);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{corpus, mutate};
    use std::panic::catch_unwind;

    /// Inputs tried after the corpus itself.
    const MUTATIONS: usize = 20_000;

    fn check(name: &str) {
        let inputs = corpus::read(name).unwrap();
        assert!(inputs.len() > 5, "the corpus of {name} is all but empty");
        let mut rng = fastrand::Rng::with_seed(7);
        let mutations = std::iter::repeat_with(|| mutate::input(&inputs, &mut rng)).take(MUTATIONS);
        for input in inputs.iter().cloned().chain(mutations) {
            let held = catch_unwind(|| run(name, &input)).is_ok();
            assert!(held, "{name}: {}", input.escape_ascii());
        }
    }

    #[test]
    fn scan() {
        check("scan");
    }

    #[test]
    fn edits() {
        check("edits");
    }

    #[test]
    fn nested() {
        check("nested");
    }

    #[test]
    fn redact() {
        check("redact");
    }

    #[test]
    fn lines() {
        check("lines");
    }
}
