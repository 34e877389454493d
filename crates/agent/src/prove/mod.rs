//! `redact --prove`: what a configuration would let leave, shown by planting made-up secrets.
//!
//! [`table`] says what is planted where, [`plant`] makes the events, and the real [`Pipeline`] takes them from line
//! to batch for each output, with the configuration's own filter, routes, redaction and framing. [`seek`] looks for
//! each canary in the bytes that would be sent. Invariant: a canary
//! that cannot be found in its own event proves nothing, so that is looked at first, in every run.

pub mod plant;
pub mod seek;
pub mod table;

use crate::pipeline::{Now, Pipeline};
use crate::plan::Plan;
use crate::report::grouped;
use auditship_event::{Line, Span, StreamId};
use auditship_ship::Batch;
use auditship_tail::ledger::Ledger;
use plant::Case;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

/// What came of it.
pub struct Proof {
    /// What the canaries were made from.
    pub seed: u64,
    /// Every case that was tried, as `(kind, place, encoding)`.
    pub tried: Vec<Name>,
    /// Where each leaked: the outputs, by the case's position.
    pub leaks: BTreeMap<usize, BTreeSet<String>>,
    /// Cases of which the configuration sends something somewhere.
    pub shipped: BTreeSet<usize>,
    /// How many events each output gets.
    pub outputs: BTreeMap<String, usize>,
}

/// Kind, place and encoding of a case.
pub type Name = (&'static str, &'static str, &'static str);

/// Plants `cases` in front of `plan`.
///
/// # Errors
/// A canary that is not found where it was planted.
pub fn run(plan: &Arc<Plan>, seed: u64, cases: &[Case], now: Now) -> anyhow::Result<Proof> {
    let name = |case: &Case| (case.kind.name, case.place.name, case.encoding.name());
    for case in cases {
        anyhow::ensure!(
            case.needle.is_in(&case.line),
            "the proof is blind: {:?} is not found where it was planted (seed {seed})",
            name(case)
        );
    }
    let mut proof = Proof {
        seed,
        tried: cases.iter().map(name).collect(),
        leaks: BTreeMap::new(),
        shipped: BTreeSet::new(),
        outputs: BTreeMap::new(),
    };
    for output in &plan.outputs {
        let mut pipeline = Pipeline::new(plan.clone(), output.clone(), Ledger::default());
        let mut got = BTreeSet::new();
        let (mut starts, mut at) = (Vec::with_capacity(cases.len()), 0);
        for case in cases {
            starts.push(at);
            // The newline counts.
            let span = Span { stream: StreamId(0), start: at, end: at + case.line.len() as u64 + 1 };
            at = span.end;
            pipeline.line(&Line { span, carried: None, bytes: &case.line, skip: None, cut: None }, now);
        }
        pipeline.batcher.flush_all();
        while let Some(batch) = pipeline.take_ready() {
            for leak in look(&batch, cases, &starts, &mut got)? {
                proof.leaks.entry(leak).or_default().insert(output.name.clone());
            }
        }
        proof.outputs.insert(output.name.clone(), got.len());
        proof.shipped.append(&mut got);
    }
    Ok(proof)
}

/// The cases whose canary stands in `batch`; notes in `got` whose events do.
///
/// A dead letter holds the same bytes, or the same with the bodies as one string each, which [`seek`] undoes: what is
/// not found here is not in it either.
fn look(
    batch: &Batch,
    cases: &[Case],
    starts: &[u64],
    got: &mut BTreeSet<usize>,
) -> anyhow::Result<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    let raw = batch.raw()?;
    for record in &batch.records {
        let case = starts.partition_point(|start| *start <= record.span.start) - 1;
        got.insert(case);
        if cases[case].needle.is_in(&raw[record.offset..record.offset + record.len]) {
            found.insert(case);
        }
    }
    Ok(found)
}

impl Proof {
    /// The result in one line.
    pub fn summary(&self) -> String {
        format!(
            "{} canaries in {} events, {} leak",
            grouped(self.tried.len() as u64),
            grouped(self.tried.len() as u64),
            grouped(self.leaks.len() as u64)
        )
    }

    /// How many events go nowhere, so that nothing is said about them.
    pub fn kept_back(&self) -> usize {
        self.tried.len() - self.shipped.len()
    }

    /// The table: kinds, the encodings and places at which they leak, and how many of each were tried.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let outputs: Vec<String> =
            self.outputs.iter().map(|(name, got)| format!("{name} {}", grouped(*got as u64))).collect();
        let _ = writeln!(out, "seed {}; events by output: {}", self.seed, outputs.join(", "));
        if self.kept_back() > 0 {
            let _ = writeln!(
                out,
                "{} events go to no output with this configuration: nothing is said of them",
                grouped(self.kept_back() as u64)
            );
        }
        let rows = self.rows();
        let head = ["kind", "encoding", "place", "output"];
        let mut widths = head.map(str::len);
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count().min(40));
            }
        }
        let mut row = |cells: [&str; 4]| {
            let [a, b, c, _] = widths;
            let line = format!("{:a$}  {:b$}  {:c$}  {}", cells[0], cells[1], cells[2], cells[3]);
            let _ = writeln!(out, "{}", line.trim_end());
        };
        if !rows.is_empty() {
            row(head);
        }
        for [kind, encoding, place, output] in &rows {
            row([kind, encoding, place, output]);
        }
        let _ = writeln!(out, "{}", self.summary());
        out
    }

    /// Leaks, with those of one kind that are alike in one row.
    fn rows(&self) -> Vec<[String; 4]> {
        let mut tried: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for (kind, place, encoding) in &self.tried {
            tried.entry((kind, encoding)).or_default().insert(place);
        }
        let mut leaks: BTreeMap<(&str, &str, String), BTreeSet<&str>> = BTreeMap::new();
        for (case, outputs) in &self.leaks {
            let (kind, place, encoding) = self.tried[*case];
            let outputs = outputs.iter().cloned().collect::<Vec<_>>().join(", ");
            leaks.entry((kind, encoding, outputs)).or_default().insert(place);
        }
        // Encodings of one kind that leak at the same places.
        let mut rows: BTreeMap<(&str, String, String), Vec<&str>> = BTreeMap::new();
        for ((kind, encoding, outputs), places) in leaks {
            let everywhere = tried.get(&(kind, encoding)).is_some_and(|all| *all == places);
            let places = match everywhere {
                true => "everywhere".to_owned(),
                false => shortened(&places, tried.get(&(kind, encoding))),
            };
            rows.entry((kind, places, outputs)).or_default().push(encoding);
        }
        let row = |((kind, places, outputs), encodings): ((&str, String, String), Vec<&str>)| {
            [kind.to_owned(), encodings.join(", "), places, outputs]
        };
        rows.into_iter().map(row).collect()
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let leak = |(case, outputs): (&usize, &BTreeSet<String>)| {
            let (kind, place, encoding) = self.tried[*case];
            json!({"kind": kind, "place": place, "encoding": encoding, "outputs": outputs})
        };
        json!({
            "seed": self.seed,
            "canaries": self.tried.len(),
            "events": self.tried.len(),
            "shipped": self.shipped.len(),
            "outputs": self.outputs,
            "leaks": self.leaks.iter().map(leak).collect::<Vec<_>>(),
        })
    }
}

/// The names in `places`, and `secret-*` where all of `tried` that begin so are among them.
fn shortened(places: &BTreeSet<&str>, tried: Option<&BTreeSet<&str>>) -> String {
    let family = |place: &str| place.split('-').next().unwrap_or_default().to_owned();
    let mut words = BTreeSet::new();
    for place in places {
        let mut others = tried.into_iter().flatten().filter(|other| family(other) == family(place));
        let whole = others.clone().count() > 1 && others.all(|other| places.contains(other));
        words.insert(if whole { format!("{}-*", family(place)) } else { (*place).to_owned() });
    }
    words.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a batch has an age")]
    fn a_canary_that_is_not_there_proves_nothing() {
        let read = |_: &std::path::Path| Ok("outputs: {out: {type: stdout}}".to_owned());
        let (config, located) =
            crate::config::load(&["c.yaml".into()], std::iter::empty(), &[], &read).unwrap();
        let plan = Arc::new(Plan::compile(&config, &located, &[0; 32], "n").unwrap());
        let now = Now { instant: std::time::Instant::now(), micros: 0 };
        let mut cases = plant::cases(5);
        cases.truncate(3);
        assert!(run(&plan, 5, &cases, now).is_ok());
        cases[1].line = cases[0].line.clone();
        let error = run(&plan, 5, &cases, now).err().unwrap().to_string();
        assert!(error.starts_with("the proof is blind") && error.contains("seed 5"), "{error}");
    }

    #[test]
    fn alike_rows_are_one() {
        let name = |kind, place, encoding| (kind, place, encoding);
        let tried = vec![
            name("jwt", "secret-data", "plain"),
            name("jwt", "secret-list", "plain"),
            name("jwt", "args", "plain"),
            name("jwt", "args", "escaped"),
            name("key", "args", "plain"),
        ];
        let out = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let proof = |leaks: &[(usize, &[&str])]| Proof {
            seed: 7,
            tried: tried.clone(),
            leaks: leaks.iter().map(|(case, names)| (*case, out(names))).collect(),
            shipped: (0..4).collect(),
            outputs: [("a".to_owned(), 4), ("b".to_owned(), 2)].into(),
        };
        let text = proof(&[(0, &["a"]), (1, &["a"]), (3, &["a", "b"]), (4, &["b"])]).text();
        assert_eq!(
            text,
            "seed 7; events by output: a 4, b 2\n\
             1 events go to no output with this configuration: nothing is said of them\n\
             kind  encoding  place       output\n\
             jwt   escaped   everywhere  a, b\n\
             jwt   plain     secret-*    a\n\
             key   plain     everywhere  b\n\
             5 canaries in 5 events, 4 leak\n"
        );
        assert!(proof(&[]).text().ends_with("of them\n5 canaries in 5 events, 0 leak\n"));
        let json = proof(&[(3, &["b"])]).json();
        assert_eq!((&json["canaries"], &json["shipped"]), (&json!(5), &json!(4)));
        assert_eq!(
            json["leaks"],
            json!([{"kind": "jwt", "place": "args", "encoding": "escaped", "outputs": ["b"]}])
        );
    }
}
