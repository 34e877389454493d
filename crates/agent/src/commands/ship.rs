//! `auditship ship`: the same pipeline, once, over files.
//!
//! A door: it reads the clock and standard input.

#![expect(clippy::disallowed_methods, reason = "measures how long it takes, draws a progress bar")]

use super::{KeyFrom, key_of};
use crate::cli::ShipArgs;
use crate::consumer::{Budget, Consumer, End, Last, Stop, World};
use crate::exit::Failure;
use crate::guard;
use crate::outputs;
use crate::pipeline::{Kept, Pipeline};
use crate::plan::Plan;
use crate::report::{Account, Report};
use crate::status::Status;
use anyhow::Context as _;
use auditship_ship::Batch;
use auditship_tail::ledger::Ledger;
use auditship_tail::once::Once;
use auditship_tail::source::Lost;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where `ship` puts what a backend refuses: in the current directory, made only when needed.
const DEAD_LETTERS: &str = "auditship-dead-letters.ndjson";

/// Runs the command.
///
/// # Errors
/// As every command: see [`crate::exit`].
pub fn run(args: &ShipArgs) -> Result<(), Failure> {
    guard::warn();
    let (config, located) = super::load(&args.config)?;
    let (key, made) = key_of(config.key_file.as_ref(), &config.state_dir)?;
    if made == KeyFrom::Fresh {
        eprintln!(
            "note: no master key found, so one was made for this run alone: shipping the same lines again would \
             make duplicates (set key_file)"
        );
    }
    let plan = Arc::new(Plan::compile(&config, &located, &key, &super::host_name())?);
    super::foreign_values(&plan.redactor).iter().for_each(|why| eprintln!("note: {why}"));
    let format =
        config.inputs.values().next().map_or(auditship_tail::lines::Format::Auto, crate::plan::format_of);
    let started = Instant::now();
    let mut shipping = Shipping::start(&plan, &args.paths, format, args.give_up_after)?;
    shipping.watch(started);
    let report = shipping.finish(started)?;
    let text = if args.json {
        serde_json::to_string(&report).map_err(std::io::Error::from)? + "\n"
    } else {
        report.text()
    };
    if plan.outputs.iter().any(|output| output.sink.kind() == "stdout") {
        // The records are on standard output: the account goes beside them.
        eprint!("{text}");
    } else {
        std::io::stdout().lock().write_all(text.as_bytes())?;
    }
    verdict(&report)
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let bad: Vec<String> = report
        .consumers
        .iter()
        .filter(|(_, account)| !account.is_clean())
        .map(|(name, account)| {
            let mut why = Vec::new();
            if account.open > 0 {
                why.push(format!("{} lines not delivered", account.open));
            }
            if account.dead_lettered > 0 {
                why.push(format!("{} lines refused, see {DEAD_LETTERS}", account.dead_lettered));
            }
            let lost: u64 = account.lost_bytes.values().sum();
            if lost > 0 {
                why.push(format!("{lost} bytes could not be read"));
            }
            if !account.adds_up() {
                why.push("the ledger does not add up (please report this)".to_owned());
            }
            format!("output {name:?}: {}", why.join(", "))
        })
        .collect();
    if bad.is_empty() { Ok(()) } else { Err(Failure::Input(bad.join("; "))) }
}

struct Shipping {
    status: Arc<Status>,
    stop: Arc<Stop>,
    threads: Vec<(String, JoinHandle<End>)>,
    progress: Vec<Arc<Progress>>,
    runtime: tokio::runtime::Runtime,
    errors: Vec<(String, Arc<auditship_ship::Stats>)>,
}

impl Shipping {
    fn start(
        plan: &Arc<Plan>,
        paths: &[PathBuf],
        format: auditship_tail::lines::Format,
        give_up_after: u64,
    ) -> Result<Shipping, Failure> {
        let mut shipping = Shipping {
            status: Arc::new(Status::default()),
            stop: Arc::new(Stop::default()),
            threads: Vec::new(),
            progress: Vec::new(),
            runtime: outputs::runtime()?,
            errors: Vec::new(),
        };
        let budget = Arc::new(Budget::new(plan.memory, plan.outputs.len()));
        let mut tee = Tee::new(paths, plan.outputs.len())?;
        let give_up_after = Some(Duration::from_secs(give_up_after));
        for output in &plan.outputs {
            let (paths, stdin) = tee.next();
            let source = Once::new(paths, format, plan.max_line)?;
            let running = outputs::start(
                shipping.runtime.handle(),
                plan,
                output,
                Path::new(DEAD_LETTERS),
                give_up_after,
            )?;
            let progress = Arc::new(Progress::default());
            shipping.progress.push(progress.clone());
            shipping.errors.push((output.name.clone(), running.stats.clone()));
            let consumer = Consumer {
                pipeline: Pipeline::new(plan.clone(), output.clone(), Ledger::default()),
                source,
                world: Given { progress, _stdin: stdin },
                batches: Some(running.batches),
                acks: running.acks,
                stats: running.stats,
                budget: budget.clone(),
                status: shipping.status.clone(),
                stop: shipping.stop.clone(),
                deadline: plan.shutdown_deadline,
            };
            let thread = std::thread::Builder::new()
                .name(output.name.chars().take(15).collect())
                .spawn(move || consumer.run())
                .context("start a consumer's thread")?;
            shipping.threads.push((output.name.clone(), thread));
        }
        tee.begin()?;
        Ok(shipping)
    }

    /// Waits for the end, with a progress bar on a terminal once it has taken a second.
    fn watch(&mut self, started: Instant) {
        let mut bar: Option<indicatif::ProgressBar> = None;
        while !self.threads.iter().all(|(_, thread)| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            let slowest = self.progress.iter().map(|p| p.read.load(Ordering::Relaxed)).min().unwrap_or(0);
            let total = self.progress.iter().map(|p| p.total.load(Ordering::Relaxed)).max().unwrap_or(0);
            if let Some(bar) = &bar {
                bar.set_position(slowest);
            } else if started.elapsed() > Duration::from_secs(1)
                && std::io::stderr().is_terminal()
                && total > 0
            {
                let new = indicatif::ProgressBar::new(total);
                if let Ok(style) = indicatif::ProgressStyle::with_template(
                    "{bar:30} {percent:>3}%  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
                ) {
                    new.set_style(style);
                }
                bar = Some(new);
            }
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    fn finish(self, started: Instant) -> Result<Report, Failure> {
        for (name, thread) in self.threads {
            match thread.join() {
                Ok(End::Done | End::Stopped) => {}
                Ok(End::Failed(error)) => return Err(error.into()),
                Err(_) => return Err(anyhow::anyhow!("consumer {name:?} panicked").into()),
            }
        }
        let report = self.status.report(started.elapsed());
        for (name, stats) in &self.errors {
            let open = report.consumers.get(name).is_some_and(|account| account.open > 0);
            if let (true, Some(error)) = (open, stats.state().last_error) {
                eprintln!("output {name:?}: {error}");
            }
        }
        self.runtime.shutdown_background();
        Ok(report)
    }
}

/// How far a consumer has read, in bytes on disk.
#[derive(Default)]
struct Progress {
    read: AtomicU64,
    total: AtomicU64,
}

/// The world of a consumer that reads given files: nothing is saved.
struct Given {
    progress: Arc<Progress>,
    /// Its end of the pipe: closed with the consumer, so that the others go on.
    _stdin: Option<std::io::PipeReader>,
}

impl World<Once> for Given {
    fn touch(&mut self, _: Option<auditship_event::Span>) {}

    fn wait(&mut self, _: &Once, timeout: Duration) {
        std::thread::sleep(timeout.min(Duration::from_millis(10)));
    }

    fn save(&mut self, source: &mut Once, _: &mut Pipeline, _: Last) {
        self.progress.read.store(source.bytes_read(), Ordering::Relaxed);
        self.progress.total.store(source.bytes_total().unwrap_or(0), Ordering::Relaxed);
    }

    fn freeze(&mut self, _: &Batch) -> Option<u64> {
        None
    }

    fn is_frozen(&mut self, _: u64) -> bool {
        true
    }

    fn amend(&mut self, _: &Once, _: &Pipeline, _: &mut Account) {}

    fn keep(&mut self, _: Vec<Kept>) {}

    fn failed(&mut self, error: auditship_tail::Error) -> Result<(), auditship_tail::Error> {
        Err(error)
    }

    fn lost(&mut self, lost: &Lost) {
        eprintln!("lost: {lost}");
    }
}

/// Standard input for several consumers: a pipe each, fed in lockstep (the window is the pipes' own buffer).
struct Tee {
    paths: Vec<PathBuf>,
    readers: Vec<std::io::PipeReader>,
    writers: Vec<std::io::PipeWriter>,
}

impl Tee {
    fn new(paths: &[PathBuf], consumers: usize) -> Result<Tee, Failure> {
        let mut seen = BTreeMap::new();
        for path in paths {
            *seen.entry(path).or_insert(0) += 1;
        }
        if seen.get(&PathBuf::from("-")).is_some_and(|times| *times > 1) {
            return Err(Failure::Usage("standard input (-) can be read once only".to_owned()));
        }
        let mut tee = Tee { paths: paths.to_vec(), readers: Vec::new(), writers: Vec::new() };
        if consumers > 1 && seen.contains_key(&PathBuf::from("-")) {
            for _ in 0..consumers {
                let (reader, writer) = std::io::pipe()?;
                tee.readers.push(reader);
                tee.writers.push(writer);
            }
            tee.readers.reverse();
        }
        Ok(tee)
    }

    /// The paths for the next consumer, and what must stay open while it opens them.
    fn next(&mut self) -> (Vec<PathBuf>, Option<std::io::PipeReader>) {
        let Some(reader) = self.readers.pop() else { return (self.paths.clone(), None) };
        let stdin = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
        let given = |path: &PathBuf| if path == Path::new("-") { stdin.clone() } else { path.clone() };
        (self.paths.iter().map(given).collect(), Some(reader))
    }

    /// Starts feeding.
    fn begin(self) -> Result<(), Failure> {
        let mut writers = self.writers;
        if writers.is_empty() {
            return Ok(());
        }
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let mut stdin = std::io::stdin().lock();
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read) = stdin.read(&mut buffer) {
                    if read == 0 || writers.is_empty() {
                        return;
                    }
                    // A consumer that has gone reads no more; the others go on.
                    writers.retain_mut(|writer| writer.write_all(&buffer[..read]).is_ok());
                }
            })
            .context("start reading standard input")?;
        Ok(())
    }
}
