//! The agent at work: catalogue, state, one thread for each consumer. `run` and `demo` both are this.
//!
//! A door: it owns the state directory and the threads.

#![expect(clippy::disallowed_methods, reason = "starts the threads that live by the clock and the files")]

use crate::consumer::{Budget, Consumer, End, Last, Stop, World};
use crate::inflight::{self, InFlight};
use crate::outputs;
use crate::pipeline::{Kept, Pipeline};
use crate::plan::{OutputPlan, Plan};
use crate::report::{Account, Behind, Report};
use crate::status::Status;
use anyhow::Context as _;
use auditship_event::{Span, StreamId};
use auditship_ship::sinks::Transport;
use auditship_ship::{Batch, Door, Shipper, Thawed};
use auditship_tail::{
    Catalogue, Entry, Follower, Frozen, Gap, Input, Ledger, Limits, Lost, Opened, Position, Store, Watcher,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

/// All that lines which were not understood may take up on the node.
const KEPT_BYTES: u64 = 64 << 20;

/// The state log, shared by the consumers.
pub type SharedStore = Arc<Mutex<Store>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the state directory and says what was found.
///
/// # Errors
/// It cannot be made or locked: another agent has it, or the file system refuses.
pub fn open_state(dir: &Path) -> anyhow::Result<SharedStore> {
    let (store, opened) = Store::open(dir)?;
    match opened {
        Opened::Fresh => info!(dir = %dir.display(), "state directory is new"),
        Opened::Clean => {}
        Opened::TornTail { bytes } => warn!(bytes, "the state log had a torn end, which was cut"),
        Opened::Damaged { at, kept } => {
            error!(at, kept = %kept.display(), "the state log is damaged: what cannot be placed is read from the beginning again");
        }
    }
    Ok(Arc::new(Mutex::new(store)))
}

/// A running agent.
pub struct Agent {
    status: Arc<Status>,
    stop: Arc<Stop>,
    store: SharedStore,
    catalogue: Arc<Catalogue>,
    watcher: Option<Watcher>,
    threads: Vec<(String, JoinHandle<End>)>,
    shippers: Vec<Shipper>,
    /// The doors of the outputs, by name.
    backends: Vec<(String, Arc<dyn Door>)>,
    started: Instant,
}

impl Agent {
    /// Starts following `inputs` for every output of `plan`; goes on holding the files that the catalogue `before`
    /// holds, which a reload leaves behind.
    ///
    /// # Errors
    /// An output's door cannot be opened, or the system has no threads left.
    pub fn start(
        plan: &Arc<Plan>,
        inputs: Vec<Input>,
        store: SharedStore,
        status: Arc<Status>,
        runtime: &Runtime,
        before: Option<&Catalogue>,
    ) -> anyhow::Result<Agent> {
        let catalogue = Catalogue::new(inputs, lock(&store).state(), Limits::default());
        if let Some(before) = before {
            catalogue.adopt(before);
        }
        catalogue.scan(SystemTime::now());
        let mut agent = Agent {
            status,
            stop: Arc::new(Stop::default()),
            store,
            catalogue,
            watcher: None,
            threads: Vec::new(),
            shippers: Vec::new(),
            backends: Vec::new(),
            started: Instant::now(),
        };
        let budget = Arc::new(Budget::new(plan.memory, plan.outputs.len()));
        for (at, output) in plan.outputs.iter().enumerate() {
            agent.start_consumer(plan, output, at == 0, &budget, runtime)?;
        }
        agent.watcher = Some(agent.catalogue.spawn().context("start the catalogue's thread")?);
        Ok(agent)
    }

    fn start_consumer(
        &mut self,
        plan: &Arc<Plan>,
        output: &OutputPlan,
        keeps: bool,
        budget: &Arc<Budget>,
        runtime: &Runtime,
    ) -> anyhow::Result<()> {
        let running = outputs::start(
            runtime.handle(),
            plan,
            output,
            &plan.state_dir.join(outputs::DEAD_LETTERS),
            None,
        )?;
        let restored = lock(&self.store).state().positions.get(&output.name).cloned();
        let source = Follower::new(self.catalogue.clone(), restored.as_ref())?;
        let restored = restored.unwrap_or_default();
        let ledger = Ledger::new(&source.positions(), &restored.totals);
        let mut pipeline = Pipeline::new(plan.clone(), output.clone(), ledger);
        pipeline.newest = restored.last_event;
        if keeps {
            pipeline.kept = Some(Vec::new());
        }
        let mut world = Follow {
            output: output.clone(),
            store: self.store.clone(),
            catalogue: self.catalogue.clone(),
            status: self.status.clone(),
            saved: None,
            newest: restored.last_event,
            gaps: Vec::new(),
            retained: 0,
            frozen: Vec::new(),
            kept: Keeper::open(&plan.state_dir.join("failed-closed")),
            in_flight: InFlight::begin(inflight::path(&plan.state_dir, &output.name), &source.positions()),
        };
        pipeline.batcher.thaw(world.recover(&pipeline));
        pipeline.poison = world.in_flight.poison();
        if world.in_flight.is_careful() {
            warn!(
                output = output.name,
                "the last run ended uncleanly without getting on: going on carefully"
            );
        }
        let consumer = Consumer {
            pipeline,
            source,
            world,
            batches: Some(running.batches),
            acks: running.acks,
            stats: running.stats,
            budget: budget.clone(),
            status: self.status.clone(),
            stop: self.stop.clone(),
            deadline: plan.shutdown_deadline,
        };
        let thread = std::thread::Builder::new()
            .name(output.name.chars().take(15).collect())
            .spawn(move || consumer.run())
            .context("start a consumer's thread")?;
        self.threads.push((output.name.clone(), thread));
        self.shippers.push(running.shipper);
        self.backends.push((output.name.clone(), running.backend));
        Ok(())
    }

    /// Once a second: what is new goes to the disk, what is wrong is said.
    pub fn tick(&self) {
        let mut store = lock(&self.store);
        for entry in self.catalogue.changes() {
            store.append(entry);
        }
        let synced = if store.is_synced() { Ok(()) } else { store.sync_paced() };
        self.status.set_state_syncs(store.syncs());
        drop(store);
        let why = synced.err().map(|error| format!("{error:#}"));
        if self.status.set_degraded("state", why.clone()) {
            match why {
                Some(why) => error!(error = why, "the state cannot be saved; shipping goes on"),
                None => info!("the state can be saved again"),
            }
        }
        self.status.set_files(self.catalogue.figures(), jiff::Timestamp::now());
        for (path, why) in self.catalogue.problems() {
            if self.status.set_degraded(&format!("input {}", path.display()), Some(why.clone())) {
                warn!(path = %path.display(), error = why, "an input cannot be read");
            }
        }
        let bad: Vec<String> =
            self.catalogue.problems().keys().map(|path| format!("input {}", path.display())).collect();
        for what in
            self.status.degraded().keys().filter(|what| what.starts_with("input ") && !bad.contains(what))
        {
            self.status.set_degraded(what, None);
        }
        for (name, account) in self.status.accounts() {
            let state = account.state.filter(|state| state != "ok");
            let why = state.map(|state| match &account.last_error {
                Some(error) => format!("{state}: {error}"),
                None => state,
            });
            // The shipper has logged it.
            self.status.set_degraded(&format!("output {name}"), why);
        }
        for (name, backend) in &self.backends {
            // So has the client.
            self.status.set_degraded(&format!("files of output {name}"), backend.warning());
        }
    }

    /// What is known so far.
    pub fn report(&self) -> Report {
        self.status.report(self.started.elapsed())
    }

    /// Whether a consumer has ended by itself, which it should not.
    pub fn has_failed(&self) -> bool {
        self.threads.iter().any(|(_, thread)| thread.is_finished())
    }

    /// Its files, which outlive it.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.clone()
    }

    /// What stops it: shared, so that a signal can.
    pub fn stopper(&self) -> Arc<Stop> {
        self.stop.clone()
    }

    /// Stops reading, waits for acknowledgements until the deadline, saves, and leaves.
    ///
    /// # Errors
    /// A consumer's source had failed.
    pub fn stop(mut self, runtime: &Runtime) -> anyhow::Result<Report> {
        self.stop.drain.store(true, Ordering::Relaxed);
        let mut failed = None;
        for (name, thread) in self.threads.drain(..) {
            match thread.join() {
                Ok(End::Failed(error)) => {
                    failed = Some(anyhow::Error::new(error).context(format!("consumer {name:?}")))
                }
                Ok(End::Done | End::Stopped) => {}
                Err(_) => failed = Some(anyhow::anyhow!("consumer {name:?} panicked")),
            }
        }
        for shipper in self.shippers.drain(..) {
            runtime.block_on(shipper.drain(Duration::ZERO));
        }
        self.watcher = None;
        self.tick();
        // The tick may have left it to the next one.
        let _ = lock(&self.store).sync();
        for (name, _) in self.backends.drain(..) {
            self.status.set_degraded(&format!("files of output {name}"), None);
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(self.report()),
        }
    }
}

/// What a following consumer needs: positions into the state log, frozen batches, kept lines.
struct Follow {
    output: OutputPlan,
    store: SharedStore,
    catalogue: Arc<Catalogue>,
    status: Arc<Status>,
    saved: Option<BTreeMap<StreamId, u64>>,
    /// The time of the newest event at the last save.
    newest: Option<i64>,
    /// Gaps behind which no event was found yet.
    gaps: Vec<Gap>,
    /// The catalogue's scan after which the ledger forgot what is gone.
    retained: u64,
    /// Batches written down and not known to be behind the position yet.
    frozen: Vec<(String, Vec<Span>)>,
    kept: Keeper,
    in_flight: InFlight,
}

impl Follow {
    /// The batches that were written down before the last stop and are not behind the position: their objects or
    /// inserts exist, or may yet come to exist, so they are cut again under the same names.
    fn recover(&mut self, pipeline: &Pipeline) -> Vec<Thawed> {
        let mut store = lock(&self.store);
        let mine: Vec<Frozen> = store
            .state()
            .frozen
            .values()
            .filter(|frozen| frozen.consumer == self.output.name)
            .cloned()
            .collect();
        let mut thawed = Vec::new();
        for frozen in mine {
            if let Transport::Dir { path } = &self.output.transport {
                auditship_ship::store::remove_unfinished(&path.join(&frozen.object));
            }
            let left = self.unsettled(pipeline, &frozen.spans);
            match Thawed::new(&*self.output.sink, &frozen.batch_id, &frozen.object, left.clone()) {
                Some(batch) if !left.is_empty() => {
                    thawed.push(batch);
                    self.frozen.push((frozen.batch_id, frozen.spans));
                }
                _ => store.append(Entry::Thawed { consumer: frozen.consumer, batch_id: frozen.batch_id }),
            }
        }
        thawed
    }

    /// What of `spans` can still be read and is not behind the position.
    fn unsettled(&self, pipeline: &Pipeline, spans: &[Span]) -> Vec<Span> {
        let known = spans.iter().filter(|span| self.catalogue.knows(span.stream));
        let after =
            |span: &Span| Span { start: span.start.max(pipeline.ledger.position(span.stream)), ..*span };
        known.map(after).filter(|span| span.start < span.end).collect()
    }

    /// Tells of gaps: at once where the log breaks off, and where it goes on as soon as an event is found there.
    fn tell_gaps(&mut self, gaps: Vec<Gap>, pipeline: &mut Pipeline) {
        let time = |micros: i64| jiff::Timestamp::from_microsecond(micros).ok();
        for gap in gaps {
            let last_event = tracing::field::display(match self.newest.and_then(time) {
                Some(time) => time.to_string(),
                None => "unknown".to_owned(),
            });
            error!(output = self.output.name, %gap, last_event, "an unknown amount of the log is missing");
            self.gaps.push(gap);
        }
        self.newest = pipeline.newest;
        self.gaps.retain(|gap| {
            let mut later = pipeline.firsts.range(gap.after.stream..).skip_while(|(at, _)| **at == gap.after.stream);
            let first = match &gap.before {
                Some(before) => pipeline.firsts.get_key_value(&before.stream),
                None => later.next(),
            };
            let Some(first_event) = first.and_then(|(_, micros)| time(*micros)) else { return true };
            warn!(output = self.output.name, input = gap.input, %first_event, "the log goes on behind the gap");
            false
        });
        pipeline.firsts.retain(|stream, _| self.catalogue.knows(*stream));
    }

    fn thaw(&mut self, pipeline: &Pipeline, store: &mut Store) {
        let consumer = &self.output.name;
        self.frozen.retain(|(batch_id, spans)| {
            let behind = |span: &Span| {
                pipeline.ledger.position(span.stream) >= span.end || !self.catalogue.knows(span.stream)
            };
            let behind = spans.iter().all(behind);
            if behind {
                store.append(Entry::Thawed { consumer: consumer.clone(), batch_id: batch_id.clone() });
            }
            !behind
        });
    }
}

impl World<Follower> for Follow {
    fn touch(&mut self, line: Option<Span>) {
        self.in_flight.touch(line);
    }

    fn wait(&mut self, source: &Follower, timeout: Duration) {
        source.wait(timeout);
    }

    fn save(&mut self, source: &mut Follower, pipeline: &mut Pipeline, last: Last) {
        if last == Last::Yes {
            self.in_flight.end();
        }
        self.tell_gaps(source.gaps(), pipeline);
        let scans = self.catalogue.full_scans();
        if std::mem::replace(&mut self.retained, scans) != scans {
            pipeline.ledger.retain(|stream| self.catalogue.knows(stream));
        }
        let positions = pipeline.ledger.positions();
        let changed = self.saved.as_ref() != Some(&positions);
        if changed {
            self.status.set_degraded(&format!("reading for {}", self.output.name), None);
        }
        let guards = if changed { source.committed(&positions) } else { BTreeMap::new() };
        let store = self.store.clone();
        let mut store = lock(&store);
        // A position must never name a stream that the log does not know.
        for entry in self.catalogue.changes() {
            store.append(entry);
        }
        if !changed {
            let _ = store.write();
            return;
        }
        store.append(Entry::Position(Position {
            consumer: self.output.name.clone(),
            positions: positions.clone(),
            guards,
            anchors: source.anchors(&positions),
            totals: pipeline.ledger.committed(),
            last_event: pipeline.newest,
        }));
        self.thaw(pipeline, &mut store);
        // Out of this process at once, so that a kill forgets little; on to the disk with the next tick, which also
        // says what is wrong.
        let _ = store.write();
        self.saved = Some(positions);
    }

    fn freeze(&mut self, batch: &Batch) -> Option<u64> {
        let object = self.output.sink.object(batch)?;
        if batch.object.is_some() {
            // It was before the last stop.
            return None;
        }
        let spans = covered(batch);
        let batch_id = batch.id.to_string();
        let mut store = lock(&self.store);
        for entry in self.catalogue.changes() {
            store.append(entry);
        }
        store.append(Entry::Frozen(Frozen {
            consumer: self.output.name.clone(),
            batch_id: batch_id.clone(),
            object,
            spans: spans.clone(),
        }));
        let mark = store.appended();
        drop(store);
        self.frozen.push((batch_id, spans));
        Some(mark)
    }

    fn is_frozen(&mut self, mark: u64) -> bool {
        let mut store = lock(&self.store);
        if !store.is_safe(mark) {
            // Where the disk refuses, shipping goes on: a stop before it can write again would repeat this object, no
            // more. The agent's tick tries again, and says what is wrong.
            let _ = store.sync_paced();
        }
        store.is_safe(mark)
    }

    fn amend(&mut self, source: &Follower, pipeline: &Pipeline, account: &mut Account) {
        let figures = source.figures(SystemTime::now());
        let unsettled = figures.lag_bytes > 0 || account.open > 0;
        let since = |time: i64| (jiff::Timestamp::now().as_microsecond() - time).max(0) as f64 / 1e6;
        account.behind = Some(Behind {
            lag_bytes: figures.lag_bytes,
            lag_files: figures.lag_files,
            lag_seconds: pipeline.newest.filter(|_| unsettled).map_or(0.0, since),
            oldest_unread_seconds: figures.oldest_unread.map(|age| age.as_secs_f64()),
            loss_horizon_seconds: figures.horizon.map(|left| left.as_secs_f64()),
        });
    }

    fn keep(&mut self, kept: Vec<Kept>) {
        for line in kept {
            self.kept.keep(&line);
        }
    }

    fn failed(&mut self, error: auditship_tail::Error) -> Result<(), auditship_tail::Error> {
        // What was read is valid and the position has not moved: a disk that stutters must not end the agent.
        let what = format!("reading for {}", self.output.name);
        if self.status.set_degraded(&what, Some(error.to_string())) {
            error!(output = self.output.name, %error, "cannot read on, trying again");
        }
        Ok(())
    }

    fn lost(&mut self, lost: &Lost) {
        error!(
            output = self.output.name,
            file = %lost.file.display(),
            span = %lost.span,
            bytes = lost.span.len(),
            reason = lost.reason,
            "bytes can no longer be read"
        );
    }
}

/// The spans of a batch's records, those that touch made one.
fn covered(batch: &Batch) -> Vec<Span> {
    let mut spans: Vec<Span> = batch.records.iter().map(|entry| entry.span).collect();
    spans.sort_unstable();
    spans.dedup();
    let mut out: Vec<Span> = Vec::new();
    for span in spans {
        match out.last_mut() {
            Some(last) if last.stream == span.stream && last.end == span.start => last.end = span.end,
            _ => out.push(span),
        }
    }
    out
}

/// Lines that were not understood, one file each, 0600, capped: the evidence that a stub stands for.
struct Keeper {
    dir: PathBuf,
    bytes: u64,
}

impl Keeper {
    fn open(dir: &Path) -> Keeper {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let bytes = files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
        Keeper { dir: dir.to_owned(), bytes }
    }

    fn keep(&mut self, line: &Kept) {
        let after = self.bytes + line.bytes.len() as u64;
        if after > KEPT_BYTES {
            warn!(span = %line.span, reason = line.reason, limit = KEPT_BYTES, "no room to keep a line that was not understood");
            return;
        }
        match self.write(line) {
            Ok(()) => {
                self.bytes = after;
                warn!(span = %line.span, reason = line.reason, dir = %self.dir.display(), "a line was not understood: its stub is shipped, the line is kept");
            }
            Err(error) => warn!(span = %line.span, %error, "a line that was not understood cannot be kept"),
        }
    }

    fn write(&self, line: &Kept) -> std::io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let name = format!("{}-{}-{}.raw", line.span.stream, line.span.start, line.reason);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.dir.join(name))?;
        std::io::Write::write_all(&mut file, &line.bytes)
    }
}
