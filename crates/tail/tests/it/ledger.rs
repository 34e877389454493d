//! The ledger against a simple model.

use std::collections::BTreeMap;

use auditship_event::{Span, StreamId};
use auditship_tail::{AckResult, Class, ClassKind, Ledger, Totals};
use proptest::prelude::*;

fn span(stream: u64, start: u64, end: u64) -> Span {
    Span { stream: StreamId(stream), start, end }
}

#[test]
fn a_position_never_passes_an_open_line() {
    let mut ledger = Ledger::default();
    let dropped = ledger.name(ClassKind::Dropped, "noise");
    ledger.settle(span(1, 0, 10), None, dropped);
    assert_eq!((ledger.position(StreamId(1)), ledger.entries()), (10, 0));
    let first = ledger.open(span(1, 10, 20), None, 2);
    for line in 2..100_000 {
        ledger.settle(span(1, line * 10, line * 10 + 10), None, dropped);
    }
    assert_eq!((ledger.position(StreamId(1)), ledger.entries(), ledger.open_lines()), (10, 2, 1));
    ledger.ack(first, AckResult::DeadLettered);
    assert_eq!(ledger.position(StreamId(1)), 10);
    ledger.ack(first, AckResult::Delivered);
    assert_eq!((ledger.position(StreamId(1)), ledger.entries()), (1_000_000, 0));
    let totals = ledger.totals();
    assert_eq!((totals.dead_lettered, totals.dropped["noise"]), (1, 99_999));
    assert_eq!(totals, *Box::new(ledger.committed()));
    ledger.ack(first, AckResult::Delivered);
    ledger.ack(77, AckResult::Delivered);
    assert_eq!(ledger.faults(), 2);
    assert!(ledger.totals().adds_up());
}

#[test]
fn both_halves_of_a_carried_line_pass_together() {
    let mut ledger = Ledger::default();
    let first = ledger.open(span(1, 0, 10), None, 1);
    let before = ledger.open(span(2, 0, 10), None, 1);
    let carried = ledger.open(span(2, 10, 20), Some(span(1, 10, 30)), 1);
    ledger.ack(carried, AckResult::Delivered);
    ledger.ack(before, AckResult::Delivered);
    assert_eq!((ledger.position(StreamId(1)), ledger.position(StreamId(2))), (0, 10));
    ledger.ack(first, AckResult::Delivered);
    assert_eq!((ledger.position(StreamId(1)), ledger.position(StreamId(2))), (30, 20));
    assert_eq!(ledger.committed().read_bytes, 50);
}

#[test]
fn totals_survive_a_restart_with_their_names() {
    let mut ledger = Ledger::default();
    let b = ledger.name(ClassKind::Skipped, "b");
    let a = ledger.name(ClassKind::Skipped, "a");
    ledger.settle(span(1, 0, 1), None, b);
    ledger.settle(span(1, 1, 2), None, a);
    ledger.settle(span(1, 2, 3), None, a);
    ledger.lost("deleted", span(1, 3, 9));
    ledger.open(span(1, 9, 10), None, 1);
    assert_eq!(ledger.totals().open, 1);
    let json = serde_json::to_string(&ledger.committed()).unwrap();
    let restored: Totals = serde_json::from_str(&json).unwrap();
    assert_eq!(restored, ledger.committed());
    let again = Ledger::new(&ledger.positions(), &restored);
    assert_eq!((again.totals(), again.position(StreamId(1))), (restored.clone(), 9));
    assert_eq!((restored.skipped["a"], restored.lost_bytes["deleted"], restored.read_lines), (2, 6, 3));
}

#[test]
fn a_span_that_does_not_follow_is_a_fault_and_no_panic() {
    let mut ledger = Ledger::default();
    ledger.settle(span(1, 5, 10), None, Class::Unrouted);
    assert_eq!(ledger.faults(), 0);
    ledger.settle(span(1, 12, 20), None, Class::Unrouted);
    assert_eq!(ledger.faults(), 1);
    ledger.retain(|_| false);
    assert!(ledger.positions().is_empty());
}

#[derive(Clone, Debug)]
enum Action {
    Settle {
        stream: usize,
        class: u8,
        length: u64,
    },
    Open {
        stream: usize,
        parts: u32,
        length: u64,
    },
    /// The first line of the next stream, begun in this one.
    Carry {
        parts: u32,
        length: u64,
    },
    Ack {
        which: usize,
        dead: bool,
    },
    Lost {
        stream: usize,
        length: u64,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0..2usize, 0..5u8, 1..9u64).prop_map(|(stream, class, length)| Action::Settle {
            stream,
            class,
            length
        }),
        (0..2usize, 1..4u32, 1..9u64).prop_map(|(stream, parts, length)| Action::Open {
            stream,
            parts,
            length
        }),
        (0..3u32, 1..9u64).prop_map(|(parts, length)| Action::Carry { parts, length }),
        (any::<usize>(), any::<bool>()).prop_map(|(which, dead)| Action::Ack { which, dead }),
        (any::<usize>(), any::<bool>()).prop_map(|(which, dead)| Action::Ack { which, dead }),
        (0..2usize, 1..9u64).prop_map(|(stream, length)| Action::Lost { stream, length }),
    ]
}

/// A line in the model: in one stream or two, passed when it is closed and at the front of each.
struct Item {
    places: Vec<(usize, u64)>,
    parts: u32,
    dead: bool,
    class: Option<Class>,
    lost: bool,
}

#[derive(Default)]
struct Model {
    items: Vec<Item>,
    queues: [Vec<usize>; 2],
    passed: Vec<usize>,
    ends: [u64; 2],
}

impl Model {
    fn add(&mut self, item: Item) {
        for (stream, _) in &item.places {
            self.queues[*stream].push(self.items.len());
        }
        self.items.push(item);
    }

    fn positions(&mut self) -> [u64; 2] {
        loop {
            let front = |index: usize| {
                let places = &self.items[index].places;
                places.iter().all(|(stream, _)| self.queues[*stream].first() == Some(&index))
            };
            let next = (0..2).filter_map(|stream| self.queues[stream].first().copied());
            let Some(index) = next.into_iter().find(|index| self.items[*index].parts == 0 && front(*index))
            else {
                break;
            };
            for (stream, _) in self.items[index].places.clone() {
                self.queues[stream].remove(0);
            }
            self.passed.push(index);
        }
        [0, 1].map(|stream| {
            let places = self.passed.iter().flat_map(|index| &self.items[*index].places);
            places.filter(|place| place.0 == stream).map(|place| place.1).sum()
        })
    }
}

fn check(ledger: &Ledger, model: &mut Model, open: usize) -> Result<(), TestCaseError> {
    let positions = model.positions();
    prop_assert_eq!([ledger.position(StreamId(0)), ledger.position(StreamId(1))], positions);
    let (totals, committed) = (ledger.totals(), ledger.committed());
    prop_assert!(totals.adds_up() && committed.adds_up());
    prop_assert_eq!((totals.open as usize, ledger.open_lines()), (open, open));
    prop_assert_eq!(committed.open, 0);
    let lines = model.passed.iter().filter(|index| !model.items[**index].lost);
    prop_assert_eq!(committed.read_lines as usize, lines.count());
    let delivered = |index: &&usize| model.items[**index].class == Some(Class::Delivered);
    prop_assert_eq!(committed.delivered as usize, model.passed.iter().filter(delivered).count());
    prop_assert_eq!(ledger.faults(), 0);
    Ok(())
}

proptest! {
    #[test]
    fn the_ledger_is_the_model(actions in proptest::collection::vec(action(), 0..120)) {
        let (mut ledger, mut model) = (Ledger::default(), Model::default());
        let (noise, reads) = (ledger.name(ClassKind::Dropped, "noise"), ledger.name(ClassKind::Thinned, "reads"));
        let summary = ledger.name(ClassKind::RolledUp, "summary");
        let classes = [noise, reads, summary, Class::Elsewhere, Class::Unrouted];
        let mut tickets: BTreeMap<u64, usize> = BTreeMap::new();
        let mut carried = false;
        for action in actions {
            // What is carried is the end of the first stream.
            let closed = |stream: usize| stream == 0 && carried;
            match action {
                Action::Settle { stream, class, length } if !closed(stream) => {
                    let start = model.ends[stream];
                    model.ends[stream] += length;
                    let class = classes[usize::from(class)];
                    ledger.settle(span(stream as u64, start, start + length), None, class);
                    let places = vec![(stream, length)];
                    model.add(Item { places, parts: 0, dead: false, class: Some(class), lost: false });
                }
                Action::Open { stream, parts, length } if !closed(stream) => {
                    let start = model.ends[stream];
                    model.ends[stream] += length;
                    let ticket = ledger.open(span(stream as u64, start, start + length), None, parts);
                    tickets.insert(ticket, model.items.len());
                    let places = vec![(stream, length)];
                    model.add(Item { places, parts, dead: false, class: None, lost: false });
                }
                Action::Carry { parts, length } if !carried => {
                    carried = true;
                    let start = model.ends[1];
                    model.ends[1] += length;
                    let head = span(0, model.ends[0], model.ends[0] + 5);
                    let line = span(1, start, start + length);
                    let class = if parts == 0 {
                        ledger.settle(line, Some(head), noise);
                        Some(noise)
                    } else {
                        tickets.insert(ledger.open(line, Some(head), parts), model.items.len());
                        None
                    };
                    model.add(Item { places: vec![(0, 5), (1, length)], parts, dead: false, class, lost: false });
                }
                Action::Ack { which, dead } if !tickets.is_empty() => {
                    let (ticket, index) = tickets.iter().nth(which % tickets.len()).map(|(a, b)| (*a, *b)).unwrap();
                    ledger.ack(ticket, if dead { AckResult::DeadLettered } else { AckResult::Delivered });
                    let item = &mut model.items[index];
                    item.dead |= dead;
                    item.parts -= 1;
                    if item.parts == 0 {
                        item.class = Some(if item.dead { Class::DeadLettered } else { Class::Delivered });
                        tickets.remove(&ticket);
                    }
                }
                Action::Lost { stream, length } if !closed(stream) => {
                    let start = model.ends[stream];
                    model.ends[stream] += length;
                    ledger.lost("deleted", span(stream as u64, start, start + length));
                    let places = vec![(stream, length)];
                    model.add(Item { places, parts: 0, dead: false, class: None, lost: true });
                }
                _ => {}
            }
            check(&ledger, &mut model, tickets.len())?;
        }
    }
}
