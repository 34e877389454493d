//! `auditship dead-letter`: what a backend refused for good, to look at and to send again.
//!
//! A door: it reads and rewrites the file of dead letters, also while an agent is appending to it. Replay moves the
//! file aside first, and removes it last: what is interrupted is done again, and nothing is forgotten.

#![expect(
    clippy::disallowed_methods,
    reason = "works on the file of dead letters, ages batches by the clock"
)]

use super::key_of;
use crate::cli::{ConfigArgs, DeadLetterArgs, DeadLetterCommand, ReplayArgs};
use crate::exit::Failure;
use crate::letters::{Letter, Letters};
use crate::outputs;
use crate::plan::{OutputPlan, Plan, STATE_DIR};
use crate::report::grouped;
use crate::show::json_text;
use anyhow::Context as _;
use auditship_event::{Index, Record, Span, StreamId};
use auditship_redact::Scratch;
use auditship_ship::bare::bare;
use auditship_ship::{Ack, Batcher, Settled, store};
use serde::Serialize;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Runs the command.
///
/// # Errors
/// As every command: see [`crate::exit`].
pub fn run(args: &DeadLetterArgs) -> Result<(), Failure> {
    let from = ConfigArgs { config: args.config.clone(), set: args.set.clone() };
    let file = match (&args.file, args.config.is_empty()) {
        (Some(file), _) => file.clone(),
        (None, true) => Path::new(STATE_DIR).join(outputs::DEAD_LETTERS),
        (None, false) => super::load(&from)?.0.state_dir.join(outputs::DEAD_LETTERS),
    };
    match &args.command {
        DeadLetterCommand::List { json: false } => print!("{}", read(&file)?.text()),
        DeadLetterCommand::List { json: true } => {
            read(&file)?.letters.iter().for_each(|letter| println!("{}", letter.line));
        }
        DeadLetterCommand::Show { which } => show(&read(&file)?, which)?,
        DeadLetterCommand::Replay(_) if args.config.is_empty() => {
            return Err(Failure::Usage("replay needs --config: it names the outputs".to_owned()));
        }
        DeadLetterCommand::Replay(replay) => send_again(&from, &file, replay)?,
    }
    Ok(())
}

/// Where a file of dead letters stands while it is replayed.
fn aside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".replaying");
    name.into()
}

/// What is there, that of an interrupted replay first. No file is no letter.
fn read(file: &Path) -> Result<Letters, Failure> {
    let mut text = Vec::new();
    for path in [&aside(file), file] {
        match std::fs::read(path) {
            Ok(bytes) => text.extend_from_slice(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(anyhow::Error::from(error).context(format!("read {}", path.display())).into());
            }
        }
    }
    Ok(Letters::read(&text))
}

fn show(letters: &Letters, which: &str) -> Result<(), Failure> {
    let letter = letters.find(which).ok_or_else(|| none_such(which))?;
    let value: serde_json::Value = serde_json::from_str(&letter.line).map_err(std::io::Error::from)?;
    let text = serde_json::to_string_pretty(&value).map_err(std::io::Error::from)?;
    // Line by line: a terminal must print the content, not obey it.
    text.lines().for_each(|line| println!("{}", crate::show::printable(line)));
    Ok(())
}

fn none_such(which: &str) -> Failure {
    Failure::Input(format!("no dead letter, or more than one, is called {which:?}: see `dead-letter list`"))
}

/// What became of the letters.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    /// The backend has them now.
    delivered: u64,
    /// Refused once more; they are dead letters again.
    refused: u64,
    /// The backend did not answer well; they are dead letters as before.
    not_delivered: u64,
    /// Not chosen, or not to be sent.
    kept: u64,
}

fn send_again(from: &ConfigArgs, file: &Path, args: &ReplayArgs) -> Result<(), Failure> {
    let (config, located) = super::load(from)?;
    let (key, _) = key_of(config.key_file.as_ref(), &config.state_dir)?;
    let plan = Plan::compile(&config, &located, &key, &super::host_name())?;
    if let Some(name) = args.to.as_ref().filter(|name| output_of(&plan, name).is_none()) {
        return Err(Failure::Usage(format!("there is no output {name:?}")));
    }
    if args.dry_run {
        let letters = read(file)?;
        let (chosen, rest) = choose(letters, args)?;
        println!("{} would be sent again, {} kept", grouped(chosen.len() as u64), rest.len());
        return Ok(());
    }
    let aside = aside(file);
    let taken = store::take_letters(file, &aside).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => anyhow::anyhow!("another replay is at work on {}", aside.display()),
        _ => anyhow::Error::from(error).context(format!("move {} aside", file.display())),
    })?;
    let mut outcome = Outcome::default();
    if let Some(mut taken) = taken {
        let mut text = Vec::new();
        taken.read_to_end(&mut text).with_context(|| format!("read {}", aside.display()))?;
        let (chosen, mut rest) = match choose(Letters::read(&text), args) {
            Ok(chosen) => chosen,
            Err(failure) => {
                put_back(file, &aside, &text)?;
                return Err(failure);
            }
        };
        outcome.kept = rest.len() as u64;
        let left = send(&plan, file, chosen, args, &mut outcome)?;
        rest.extend(left);
        put_back(file, &aside, rest.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())?;
    }
    tell(&outcome, args.json)?;
    match outcome.refused + outcome.not_delivered {
        0 => Ok(()),
        left => Err(Failure::Input(format!("{} dead letters are left", grouped(left)))),
    }
}

fn tell(outcome: &Outcome, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", json_text(&serde_json::to_value(outcome).map_err(std::io::Error::from)?));
    } else {
        println!(
            "delivered {}, refused again {}, not delivered {}, kept {}",
            grouped(outcome.delivered),
            grouped(outcome.refused),
            grouped(outcome.not_delivered),
            grouped(outcome.kept)
        );
    }
    Ok(())
}

/// Writes lines to the file of dead letters, and only then removes the one that was set aside.
fn put_back(file: &Path, aside: &Path, lines: &[u8]) -> Result<(), Failure> {
    if !lines.is_empty() {
        store::put_letters_back(file, lines).with_context(|| format!("write {}", file.display()))?;
    }
    std::fs::remove_file(aside).with_context(|| format!("remove {}", aside.display()))?;
    Ok(())
}

/// The letters to send, and the lines to keep.
fn choose(letters: Letters, args: &ReplayArgs) -> Result<(Vec<Letter>, Vec<String>), Failure> {
    let mut named = Vec::new();
    for which in &args.which {
        named.push(letters.find(which).ok_or_else(|| none_such(which))?.uid);
    }
    let chosen = |letter: &Letter| {
        (named.is_empty() || named.contains(&letter.uid))
            && args.output.as_ref().is_none_or(|output| *output == letter.output)
    };
    let (chosen, others): (Vec<Letter>, Vec<Letter>) = letters.letters.into_iter().partition(chosen);
    let kept = letters.others.into_iter().chain(others.into_iter().map(|letter| letter.line)).collect();
    Ok((chosen, kept))
}

fn output_of<'p>(plan: &'p Plan, name: &str) -> Option<&'p OutputPlan> {
    plan.outputs.iter().find(|output| output.name == name)
}

/// Sends letters to their outputs; gives back the lines that were not taken.
fn send(
    plan: &Plan,
    file: &Path,
    letters: Vec<Letter>,
    args: &ReplayArgs,
    outcome: &mut Outcome,
) -> Result<Vec<String>, Failure> {
    let runtime = outputs::runtime()?;
    let mut left = Vec::new();
    let mut rest = letters;
    while let Some(first) = rest.first() {
        let name = args.to.clone().unwrap_or_else(|| first.output.clone());
        let mine = |letter: &Letter| args.to.is_some() || letter.output == name;
        let (batch, others): (Vec<Letter>, Vec<Letter>) = rest.into_iter().partition(mine);
        rest = others;
        match output_of(plan, &name) {
            Some(output) => left.extend(send_to(plan, output, &runtime, file, batch, args, outcome)?),
            None => {
                eprintln!("note: the configuration has no output {name:?}; its letters are kept (see --to)");
                outcome.kept += batch.len() as u64;
                left.extend(batch.into_iter().map(|letter| letter.line));
            }
        }
    }
    Ok(left)
}

/// Sends letters to one output, redacted once more: the catalogue may know more by now.
fn send_to(
    plan: &Plan,
    output: &OutputPlan,
    runtime: &tokio::runtime::Runtime,
    file: &Path,
    letters: Vec<Letter>,
    args: &ReplayArgs,
    outcome: &mut Outcome,
) -> Result<Vec<String>, Failure> {
    let give_up_after = Some(Duration::from_secs(args.give_up_after));
    let running = outputs::start(runtime.handle(), plan, output, file, give_up_after)?;
    let mut batcher = Batcher::new(output.sink.clone(), plan.context.clone(), output.sink.limits());
    let mut scratch = Scratch::default();
    let mut open: Vec<Option<String>> = Vec::new();
    for letter in letters {
        match push(plan, &letter, open.len() as u64, &mut batcher, &mut scratch) {
            Some(()) => open.push(Some(letter.line)),
            None => {
                outcome.kept += 1;
                open.push(None);
                eprintln!("note: letter {} holds no event that can be read; it is kept", letter.uid);
                store::put_letters_back(file, format!("{}\n", letter.line).as_bytes())?;
            }
        }
    }
    batcher.flush_all();
    let outputs::Running { shipper, batches, acks, .. } = running;
    while let Some(batch) = batcher.take_ready() {
        if batches.blocking_send(batch).is_err() {
            break;
        }
    }
    drop(batches);
    runtime.block_on(shipper.join());
    for Ack { ticket, result } in acks.try_iter() {
        let line = usize::try_from(ticket).ok().and_then(|at| open.get_mut(at)).and_then(Option::take);
        match (line, result) {
            (None, _) => {}
            (Some(_), Settled::Delivered) => outcome.delivered += 1,
            (Some(_), Settled::DeadLettered { .. }) => outcome.refused += 1,
        }
    }
    let left: Vec<String> = open.into_iter().flatten().collect();
    outcome.not_delivered += left.len() as u64;
    Ok(left)
}

/// Puts a letter into a batch. `None`: it holds no event.
fn push(
    plan: &Plan,
    letter: &Letter,
    ticket: u64,
    batcher: &mut Batcher,
    scratch: &mut Scratch,
) -> Option<()> {
    let document = letter.body.as_ref()?.as_bytes();
    let event = bare(document, letter.form).body(document).to_vec();
    let looked = plan.redactor.look(&event, scratch)?;
    let written: Option<jiff::Timestamp> = letter.time.parse().ok();
    let time = looked.event.time().or(written.map(jiff::Timestamp::as_microsecond)).unwrap_or_default();
    let span = Span { stream: StreamId(0), start: ticket, end: ticket + 1 };
    let body = plan.redactor.body_of(&looked, scratch).ok()?;
    let record = Record { index: &Index(letter.index.as_str().into()), time, uid: letter.uid, span, body };
    batcher.push(&record, ticket, Instant::now());
    plan.redactor.forget(looked, scratch);
    Some(())
}
