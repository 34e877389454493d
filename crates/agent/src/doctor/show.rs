//! Verdicts for a person and for a program.
//!
//! Pure. Everything that came from a file or a process is escaped where it became a verdict (`Verdict::seen`, `printable`).

use super::facts::Facts;
use super::mend::{self, Mend};
use super::{Grade, Verdict};
use crate::show::{Colour, printable};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Where what is said begins: after the grade and the check.
const COLUMN: usize = 18;
/// On a terminal a line that would be longer gets its evidence on a line of its own.
const WIDTH: usize = 110;

/// How many verdicts have each grade.
pub fn count(verdicts: &[Verdict], grade: Grade) -> usize {
    verdicts.iter().filter(|verdict| verdict.grade == grade).count()
}

/// One verdict a line, what to do under it, and at the end how it comes into effect.
pub fn text(facts: &Facts, verdicts: &[Verdict], colour: Colour) -> String {
    let mut out = String::new();
    for verdict in verdicts {
        line(&mut out, verdict, colour);
        let indent = " ".repeat(COLUMN + 2);
        for told in mend::lines(&verdict.mends, &facts.server) {
            let _ = writeln!(out, "{indent}{}", printable(&told));
        }
    }
    out.push('\n');
    let patch = patch(facts, verdicts);
    let several =
        verdicts.iter().filter(|verdict| !mend::settings(&verdict.mends, &facts.server).is_empty()).count()
            > 1;
    if several {
        let _ = writeln!(out, "{}", colour.strong("all settings together"));
        for told in &patch {
            let _ = writeln!(out, "  {}", printable(told));
        }
        out.push('\n');
    }
    let apply = mend::apply(&facts.server);
    if !patch.is_empty() && !apply.is_empty() {
        let _ = writeln!(out, "{}", colour.strong("how settings come into effect"));
        for told in &apply {
            let _ = writeln!(out, "  {told}");
        }
        out.push('\n');
    }
    if let Some(input) = input(facts) {
        let _ = writeln!(out, "{}\n  {}\n", colour.strong("to follow this log"), printable(&input));
    }
    let _ = writeln!(out, "{}", summary(verdicts));
    out
}

fn line(out: &mut String, verdict: &Verdict, colour: Colour) {
    let Verdict { check, grade, text, evidence, .. } = verdict;
    let word = colour.grade(*grade, &format!("{grade:<5}"));
    let _ = write!(out, "{word} {check:<12}{text}");
    if !evidence.is_empty() {
        let long = COLUMN + text.chars().count() + evidence.chars().count() + 3 > WIDTH;
        let gap =
            if colour == Colour::Yes && long { format!("\n{}", " ".repeat(COLUMN)) } else { " ".to_owned() };
        let _ = write!(out, "{gap}{}", colour.dim(&format!("({evidence})")));
    }
    out.push('\n');
}

/// What of all mends is flags and volumes, together.
fn patch(facts: &Facts, verdicts: &[Verdict]) -> Vec<String> {
    let all: Vec<Mend> = verdicts.iter().flat_map(|verdict| verdict.mends.iter().cloned()).collect();
    mend::settings(&all, &facts.server)
}

/// The lines of auditship's configuration that follow this log.
fn input(facts: &Facts) -> Option<String> {
    let log = facts.node.as_ref()?.log.as_ref()?;
    Some(format!("inputs: {{apiserver: {{type: file, path: {}}}}}", log.path))
}

fn summary(verdicts: &[Verdict]) -> String {
    let of = |grade| count(verdicts, grade);
    let skipped = match of(Grade::Skip) {
        0 => String::new(),
        number => format!(", {number} skipped"),
    };
    format!("{} ok, {} warn, {} fail{skipped}", of(Grade::Ok), of(Grade::Warn), of(Grade::Fail))
}

/// The same for programs.
pub fn json(facts: &Facts, verdicts: &[Verdict]) -> Value {
    let lines = |lines: Vec<String>| lines.iter().map(|line| printable(line)).collect::<Vec<String>>();
    let one = |verdict: &Verdict| {
        json!({
            "check": verdict.check,
            "grade": verdict.grade.to_string(),
            "text": verdict.text,
            "evidence": verdict.evidence,
            "mend": lines(mend::lines(&verdict.mends, &facts.server)),
        })
    };
    let log = facts.node.as_ref().and_then(|node| node.log.as_ref());
    let patch = patch(facts, verdicts);
    json!({
        "ok": count(verdicts, Grade::Fail) == 0,
        "distribution": facts.server.distribution.word(),
        "from": printable(&facts.from),
        "log": log.map(|log| printable(&log.path)),
        "verdicts": verdicts.iter().map(one).collect::<Vec<Value>>(),
        "patch": lines(patch.clone()),
        "apply": if patch.is_empty() { Vec::new() } else { mend::apply(&facts.server) },
    })
}

impl Colour {
    fn grade(self, grade: Grade, word: &str) -> String {
        let code = match grade {
            Grade::Ok => "32",
            Grade::Skip => "2",
            Grade::Warn => "33",
            Grade::Fail => "1;31",
        };
        self.paint(code, word)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }
}
