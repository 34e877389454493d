//! One consumer's straight path, from a line to its batch. Read this first.
//!
//! ```text
//! Line → parts → Event → filter → route → edits → Record → Batch      (the shipper) → Ack → Ledger
//! ```
//!
//! Pure: the time is an argument, lines and acknowledgements are handed in, batches are handed out. Invariant: every
//! line handed in is settled or opened in the ledger exactly once, whatever it holds; a line that makes this code
//! panic leaves as a stub.

use crate::plan::{OutputPlan, Plan};
use crate::report::{Account, IndexAmount};
use auditship_event::{Broken, Event, Index, Line, Part, Record, Span, StreamId, parts};
use auditship_redact::{Looked, Scratch, filter::Decision};
use auditship_route::{Routed, Verdict};
use auditship_rule::Facts;
use auditship_ship::{Ack, Batch, Batcher, Settled, Stats};
use auditship_tail::ledger::{AckResult, Class, ClassKind, Ledger};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// When a line is handled: the clock that ages batches, and the wall clock for events without a readable time.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic.
    pub instant: Instant,
    /// Microseconds since 1970.
    pub micros: i64,
}

/// A line that was not understood, to be kept on the node.
#[derive(Debug)]
pub struct Kept {
    /// Its place.
    pub span: Span,
    /// Why.
    pub reason: &'static str,
    /// Its bytes, or the head and tail of them.
    pub bytes: Vec<u8>,
}

/// One consumer: its ledger, its batches, and the plan that it follows.
pub struct Pipeline {
    plan: Arc<Plan>,
    output: OutputPlan,
    /// Which lines are open.
    pub ledger: Ledger,
    /// The batches in the making.
    pub batcher: Batcher,
    scratch: Scratch,
    deliveries: Vec<(usize, Index)>,
    routed: Routed,
    drop_classes: Vec<Class>,
    thin_classes: Vec<Class>,
    failed_closed: BTreeMap<&'static str, u64>,
    /// Lines that were under way when the process died, again and again: they are not looked into any more.
    pub poison: Vec<Span>,
    /// The time of the newest event that was looked at, microseconds since 1970.
    pub newest: Option<i64>,
    /// The time of the first event of each stream that was looked at: what a gap ends with.
    pub firsts: BTreeMap<StreamId, i64>,
    /// The stream of the last event that had a time.
    current: Option<StreamId>,
    /// Lines to keep on the node, where this consumer is the one that does.
    pub kept: Option<Vec<Kept>>,
}

impl Pipeline {
    /// A consumer for `output` that goes on from `ledger`.
    pub fn new(plan: Arc<Plan>, output: OutputPlan, mut ledger: Ledger) -> Pipeline {
        let drop_classes = match &output.filter {
            Some(filter) => filter.names().iter().map(|name| ledger.name(ClassKind::Dropped, name)).collect(),
            None => Vec::new(),
        };
        let thin_classes =
            plan.router.names().iter().map(|name| ledger.name(ClassKind::Thinned, name)).collect();
        let batcher = Batcher::new(output.sink.clone(), plan.context.clone(), output.sink.limits());
        Pipeline {
            plan,
            output,
            ledger,
            batcher,
            scratch: Scratch::default(),
            deliveries: Vec::new(),
            routed: Routed::default(),
            drop_classes,
            thin_classes,
            failed_closed: BTreeMap::new(),
            poison: Vec::new(),
            newest: None,
            firsts: BTreeMap::new(),
            current: None,
            kept: None,
        }
    }

    /// The output it serves.
    pub fn output(&self) -> &OutputPlan {
        &self.output
    }

    /// Takes one line all the way to the ledger and, where something of it leaves, to a batch.
    pub fn line(&mut self, line: &Line<'_>, now: Now) {
        if !self.usual(line, now) {
            self.unusual(line, now);
        }
        if self.batcher.is_thawing() {
            self.batcher.pass(line.span);
        }
    }

    /// A line that may hold anything.
    fn unusual(&mut self, line: &Line<'_>, now: Now) {
        let mut found = Vec::new();
        let decided = catch_unwind(AssertUnwindSafe(|| {
            if self.poison.contains(&line.span) {
                // Not even its beginning is looked at.
                found.push(Part::Broken(Broken { head: b"", tail: b"", reason: "in_flight" }));
            } else {
                parts(line, &mut found);
            }
            self.decide(&found, line.span)
        }));
        let class = decided.unwrap_or_else(|_| {
            found = vec![Part::Broken(Broken { head: line.bytes, tail: b"", reason: "panic" })];
            self.deliveries.clear();
            self.decide(&found, line.span)
        });
        self.keep(line, &found);
        if self.deliveries.is_empty() {
            self.ledger.settle(line.span, line.carried, class);
            return;
        }
        let ticket = self.ledger.open(line.span, line.carried, self.deliveries.len() as u32);
        let mut deliveries = std::mem::take(&mut self.deliveries);
        for (part, index) in deliveries.drain(..) {
            self.deliver(&found[part], &index, ticket, line.span, now);
        }
        self.deliveries = deliveries;
    }

    /// The usual line, one audit event and nothing else, parsed and looked through in one pass. False: it is not
    /// that, and nothing has happened.
    fn usual(&mut self, line: &Line<'_>, now: Now) -> bool {
        if line.cut.is_some() || line.skip.is_some() || !self.poison.is_empty() {
            return false;
        }
        let looked = catch_unwind(AssertUnwindSafe(|| {
            let looked = self.plan.redactor.look(line.bytes, &mut self.scratch)?;
            let time = looked.event.time();
            let class = self.decide_event(0, &looked.event, time, line.span.stream);
            Some((looked, time, class))
        }));
        let (looked, time, class) = match looked {
            Ok(Some(found)) => found,
            Ok(None) => return false,
            Err(_) => {
                self.deliveries.clear();
                return false;
            }
        };
        if let Some(class) = class {
            self.ledger.settle(line.span, line.carried, class);
        } else {
            let ticket = self.ledger.open(line.span, line.carried, self.deliveries.len() as u32);
            let time = time.unwrap_or(now.micros);
            self.deliver_event(&looked, time, ticket, line.span, now);
        }
        self.plan.redactor.forget(looked, &mut self.scratch);
        true
    }

    /// Redacts one event and puts its records into batches.
    fn deliver_event(&mut self, looked: &Looked<'_>, time: i64, ticket: u64, span: Span, now: Now) {
        let Pipeline { plan, scratch, batcher, failed_closed, deliveries, .. } = self;
        let event = &looked.event;
        let uid = plan.keys.uid(event.raw());
        if let Ok(body) = plan.redactor.body_of(looked, scratch) {
            for (_, index) in deliveries.drain(..) {
                let record = Record { index: &index, time, uid, span, body };
                batcher.push(&record, ticket, now.instant);
            }
            return;
        }
        let broken = Broken { head: event.raw(), tail: b"", reason: "panic" };
        *failed_closed.entry(broken.reason).or_default() += 1;
        let body = plan.redactor.stub(&broken, span, scratch);
        for (_, index) in deliveries.drain(..) {
            let record = Record { index: &index, time: now.micros, uid, span, body };
            batcher.push(&record, ticket, now.instant);
        }
    }

    /// Decides every part; fills `deliveries`, and returns the class of the line if there are none.
    fn decide(&mut self, found: &[Part<'_>], span: Span) -> Class {
        let mut class = None;
        for (at, part) in found.iter().enumerate() {
            let one = match part {
                Part::Event(event) => self.decide_event(at, event, event.time(), span.stream),
                Part::Broken(broken) => self.decide_broken(at, broken, span),
                Part::Skipped { reason, .. } => Some(self.ledger.name(ClassKind::Skipped, reason)),
            };
            class = worse(class, one);
        }
        class.unwrap_or(Class::Delivered)
    }

    /// `None` where it is delivered.
    fn decide_event(
        &mut self,
        at: usize,
        event: &Event<'_>,
        time: Option<i64>,
        stream: StreamId,
    ) -> Option<Class> {
        if let Some(time) = time {
            self.newest = Some(self.newest.map_or(time, |newest| newest.max(time)));
            if self.current != Some(stream) {
                self.current = Some(stream);
                self.firsts.entry(stream).or_insert(time);
            }
        }
        let facts = Facts::new(event);
        if let Some(filter) = &self.output.filter
            && let Decision::Drop(rule) = filter.decide(&facts)
        {
            return Some(self.drop_classes[usize::from(rule.0)]);
        }
        match self.plan.router.route(&facts, self.output.id, &self.plan.keys, &mut self.routed) {
            Verdict::Deliver => {
                self.deliveries.extend(self.routed.hits.drain(..).map(|(_, index)| (at, index)));
                None
            }
            Verdict::Thinned(route) => Some(self.thin_classes[usize::from(route.0)]),
            Verdict::Elsewhere => Some(Class::Elsewhere),
            Verdict::Unrouted => Some(Class::Unrouted),
        }
    }

    /// What cannot be read is never filtered and never thinned: nobody knows what it was.
    fn decide_broken(&mut self, at: usize, broken: &Broken<'_>, span: Span) -> Option<Class> {
        let mut stub = Vec::new();
        auditship_redact::stub::write(broken, span, &mut stub);
        let index = match Event::parse(&stub) {
            Ok(event) => self.plan.router.always(&Facts::new(&event), self.output.id, &mut self.routed),
            Err(_) => None,
        };
        match index {
            Some(index) => {
                self.deliveries.push((at, index));
                None
            }
            // No route leads to this output at all.
            None => Some(Class::Unrouted),
        }
    }

    /// Redacts one part and puts its record into a batch.
    fn deliver(&mut self, part: &Part<'_>, index: &Index, ticket: u64, span: Span, now: Now) {
        let Pipeline { plan, scratch, batcher, failed_closed, .. } = self;
        let (broken, uid) = match part {
            Part::Event(event) => {
                let uid = plan.keys.uid(event.raw());
                if let Ok(body) = plan.redactor.body(event, scratch) {
                    let time = event.time().unwrap_or(now.micros);
                    batcher.push(&Record { index, time, uid, span, body }, ticket, now.instant);
                    return;
                }
                (Broken { head: event.raw(), tail: b"", reason: "panic" }, uid)
            }
            Part::Broken(broken) => {
                let whole = [broken.head, broken.tail].concat();
                (*broken, plan.keys.uid(&whole))
            }
            Part::Skipped { .. } => return,
        };
        *failed_closed.entry(broken.reason).or_default() += 1;
        let body = plan.redactor.stub(&broken, span, scratch);
        batcher.push(&Record { index, time: now.micros, uid, span, body }, ticket, now.instant);
    }

    fn keep(&mut self, line: &Line<'_>, found: &[Part<'_>]) {
        let Some(kept) = &mut self.kept else { return };
        for part in found {
            if let Part::Broken(broken) = part {
                let bytes = [broken.head, broken.tail].concat();
                kept.push(Kept { span: line.span, reason: broken.reason, bytes });
            }
        }
    }

    /// Takes what the shipper says about a record.
    pub fn ack(&mut self, ack: &Ack) {
        let result = match &ack.result {
            Settled::Delivered => AckResult::Delivered,
            Settled::DeadLettered { .. } => AckResult::DeadLettered,
        };
        self.ledger.ack(ack.ticket, result);
    }

    /// The next frozen batch, if there is one.
    pub fn take_ready(&mut self) -> Option<Batch> {
        self.batcher.take_ready()
    }

    /// The account so far.
    pub fn account(&self, stats: &Stats) -> Account {
        use std::sync::atomic::Ordering::Relaxed;
        let mut account = Account::default();
        account.set_totals(&self.ledger.totals());
        let counts = self.scratch.counts().iter().copied();
        let names = self.plan.redactor.names().iter().cloned();
        account.redactions = names.zip(counts).filter(|(_, count)| *count > 0).collect();
        account.allowed = self.plan.redactor.count_allowed(&self.scratch);
        account.failed_closed = self.failed_closed.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        account.indexes = stats
            .delivered()
            .into_iter()
            .map(|(index, totals)| {
                (index.as_str().to_owned(), IndexAmount { records: totals.records, bytes: totals.bytes })
            })
            .collect();
        account.wire_bytes = stats.wire_bytes.load(Relaxed);
        account.requests = stats.requests.load(Relaxed);
        account.retries = stats.retries.load(Relaxed);
        account.ambiguous_retries = stats.ambiguous_retries.load(Relaxed);
        account.splits = stats.splits.load(Relaxed);
        account.flattened = stats.flattened.load(Relaxed);
        account.trimmed = stats.trimmed.load(Relaxed);
        account.fallen_back = stats.fallen_back.load(Relaxed);
        account.diverted = stats.diverted.load(Relaxed);
        account.too_old = stats.too_old.load(Relaxed);
        account.refused_unnamed = stats.refused_unnamed.load(Relaxed);
        account.batch_bytes = stats.batch_bytes.load(Relaxed);
        let state = stats.state();
        account.last_error = state.last_error.filter(|_| state.phase != auditship_ship::Phase::Ok);
        account.state = Some(
            match state.phase {
                auditship_ship::Phase::Ok => "ok",
                auditship_ship::Phase::Retrying => "retrying",
                auditship_ship::Phase::Held => "held",
            }
            .to_owned(),
        );
        account
    }
}

/// The class that a line takes of two parts' classes: the one nearer to being shipped.
fn worse(a: Option<Class>, b: Option<Class>) -> Option<Class> {
    let rank = |class: &Option<Class>| match class {
        None => 0,
        Some(Class::Skipped(_)) => 1,
        Some(Class::Unrouted) => 2,
        Some(Class::Elsewhere) => 3,
        Some(Class::Dropped(_)) => 4,
        Some(Class::Thinned(_)) => 5,
        Some(Class::RolledUp(_)) => 6,
        Some(Class::Delivered) => 7,
        Some(Class::DeadLettered) => 8,
    };
    if rank(&b) > rank(&a) { b } else { a }
}
