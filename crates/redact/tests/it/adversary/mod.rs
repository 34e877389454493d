//! Random events made to leak: credentials in many formats, in many encodings one inside of the other, at every place,
//! in every kind of request, spelled in every way.
//!
//! `AUDITSHIP_REDACT_CASES` says how many cases to try, `AUDITSHIP_REDACT_SEED` with which seed. The usual run has the
//! same seed always, so that what it finds does not depend on the day; `cargo xtask soak` takes others.

mod chance;
mod documents;
mod places;
mod spelling;
mod wraps;

use crate::search::holds;
use crate::support::{Bench, broken};
use chance::Chance;
use documents::Document;
use places::{Carrier, Place};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use spelling::Spelling;
use std::cell::RefCell;
use wraps::Wrap;

/// Enough for the usual run; a soak says more.
const CASES: u32 = 60_000;
/// How many encodings are put around a text, at most.
const MAX_WRAPS: usize = 4;

/// One event. Everything that matters for whether it leaks has a name; `seed` chooses the rest.
#[derive(Clone, Debug)]
pub struct Case {
    document: Document,
    wraps: Vec<Wrap>,
    place: Place,
    carrier: Carrier,
    spelling: Spelling,
    seed: u64,
}

/// All encodings, and in some cases those that quote alone, as documents in documents do.
fn encodings() -> impl Strategy<Value = Vec<Wrap>> {
    let some = |of| proptest::collection::vec(proptest::sample::select(of), 0..=MAX_WRAPS);
    prop_oneof![3 => some(wraps::ALL), 1 => some(wraps::QUOTES)]
}

fn case() -> impl Strategy<Value = Case> {
    (
        proptest::sample::select(documents::ALL),
        encodings(),
        any::<u64>().prop_map(|seed| places::place(&mut Chance::new(seed))),
        proptest::sample::select(places::ALL),
        proptest::sample::select(spelling::ALL),
        any::<u64>(),
    )
        .prop_map(|(document, wraps, place, carrier, spelling, seed)| Case {
            document,
            wraps,
            place,
            carrier,
            spelling,
            seed,
        })
}

impl Case {
    /// The line, and what must not be readable from what leaves.
    fn line(&self) -> (String, String) {
        let mut chance = Chance::new(self.seed);
        let planted = self.document.write(&mut chance);
        let mut text = planted.text;
        for wrap in &self.wraps {
            text = wrap.apply(&text, &mut chance);
        }
        let event = self.place.event(&text, self.carrier, &mut chance);
        (self.spelling.write(&event, &mut chance).trim().to_owned(), planted.canary)
    }

    /// Redacts it and tells what is wrong.
    fn run(&self, bench: &mut Bench) -> Result<Option<Fault>, TestCaseError> {
        let (line, canary) = self.line();
        if !holds(line.as_bytes(), &canary) {
            return Err(TestCaseError::fail(format!("nothing is planted in {line}")));
        }
        let done = bench.redact(line.as_bytes());
        if let Some(why) = broken(line.as_bytes(), &done) {
            return Ok(Some(Fault::Broken(why)));
        }
        Ok(holds(&done.out, &canary).then_some(Fault::Leak))
    }

    fn told(&self) -> String {
        let (line, canary) = self.line();
        format!("{canary} is left at {}\n{line}", self.place.name())
    }
}

/// What can be wrong with what leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The canary can be read.
    Leak,
    /// Something else has changed, or it is no JSON any more.
    Broken(String),
}

#[expect(clippy::disallowed_methods, reason = "how long and from where is said by whoever runs the test")]
fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The source of cases: the seed is the same unless the environment says another.
fn runner(cases: u32) -> (TestRunner, u64) {
    let cases = env("AUDITSHIP_REDACT_CASES").map_or(cases, |cases| u32::try_from(cases).unwrap_or(u32::MAX));
    let seed = env("AUDITSHIP_REDACT_SEED").unwrap_or(0);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    (TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)), seed)
}

#[test]
fn no_canary_leaves() {
    let bench = RefCell::new(Bench::new());
    let (mut runner, seed) = runner(CASES);
    let tried = runner.run(&case(), |case| match case.run(&mut bench.borrow_mut())? {
        None => Ok(()),
        Some(Fault::Leak) => Err(TestCaseError::fail(case.told())),
        Some(Fault::Broken(why)) => Err(TestCaseError::fail(format!("{why}: {}", case.told()))),
    });
    if let Err(error) = tried {
        panic!("AUDITSHIP_REDACT_SEED={seed}: {error}");
    }
}
