//! Lines in which nothing was found, remembered: most events of a quiet cluster differ from an earlier one in nothing but
//! their ID, their times and the resource versions that they name.
//!
//! A line is compared whole with the one that is remembered. Only between a few names of Kubernetes' own and the quote
//! after them may it differ, and there in nothing but digits, in an audit ID in hexadecimal ones: what stands there is
//! no text that any rule looks at. So the two are one structure, with its fields at the same places, and there is as
//! little to be found in one as in the other. Whoever sends lines that displace others costs time, and nothing else.

use auditship_event::Event;
use auditship_event::audit::Outline;
use memchr::memmem;
use std::ops::Range;
use wide::u8x16;

/// So many lines are remembered.
const LINES: usize = 1024;

/// Longer ones are not: they have bodies, which seldom come again.
const LONGEST: usize = 2048;

/// How an event begins up to its level, as the API server writes it (k8s.io/apiserver `pkg/audit/event.go`, in the order of
/// `pkg/apis/audit/v1/types.go`).
const BEGINNING: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":""#;

/// What stands between the level and the ID.
const BEFORE_ID: &[u8] = br#"","auditID":""#;

/// A UUID, its digits in hexadecimal.
const ID: &[u8; 36] = b"00000000-0000-0000-0000-000000000000";

/// A time as the API server writes it (`MicroTime`, k8s.io/apimachinery `pkg/apis/meta/v1/micro_time.go`).
const TIME: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";

/// What a line has whatever its ID and its digits are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

/// The lines.
pub(crate) struct Twins {
    /// Empty until the first line is kept. Each line has one place, which another takes that comes twice.
    places: Vec<Place>,
    before_holes: [(memmem::Finder<'static>, Before); 5],
}

/// What else is around a hole, by what stands before it.
#[derive(Clone, Copy)]
enum Before {
    /// Members of the event: of a time.
    Time,
    /// A member somewhere.
    Version,
    /// An option of the query.
    Option,
}

impl Default for Twins {
    fn default() -> Twins {
        let finder = |name: &'static str, before| (memmem::Finder::new(name), before);
        let before_holes = [
            finder(r#""requestReceivedTimestamp":""#, Before::Time),
            finder(r#""stageTimestamp":""#, Before::Time),
            finder(r#""resourceVersion":""#, Before::Version),
            finder("resourceVersion=", Before::Option),
            finder("timeoutSeconds=", Before::Option),
        ];
        Twins { places: Vec::new(), before_holes }
    }
}

#[derive(Clone, Default)]
struct Place {
    /// Tells the line that came last, and was not kept, from most others.
    rival: u32,
    known: Option<Box<Known>>,
}

#[derive(Clone)]
struct Known {
    line: Vec<u8>,
    holes: Vec<Hole>,
    outline: Outline,
}

/// Where two lines may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hole {
    range: Range<usize>,
    form: Form,
}

/// What may stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Id,
    Time,
    Digits,
}

impl std::fmt::Debug for Twins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content.
        f.write_str("Twins")
    }
}

impl Mark {
    /// That of `line`; none if it is too long, or does not begin as the API server writes it.
    pub(crate) fn of(line: &[u8]) -> Option<Mark> {
        if line.len() > LONGEST {
            return None;
        }
        let id = id(line)?;
        let (before, after) = (line.get(BEGINNING.len()..id.start)?, line.get(id.end..)?);
        let seed = (before.len() as u64) << 32 | line.len() as u64;
        Some(Mark(hash(after, seed)))
    }

    fn place(self) -> usize {
        const { assert!(LINES.is_power_of_two()) };
        self.0 as usize & (LINES - 1)
    }

    fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Twins {
    /// Where the fields of `line` stand, if it is the twin of one that was [kept](Twins::keep).
    pub(crate) fn outline(&self, mark: Mark, line: &[u8]) -> Option<&Outline> {
        let known = self.places.get(mark.place())?.known.as_ref()?;
        known.is_twin(line).then_some(&known.outline)
    }

    /// Remembers that nothing was found in `event`, which is a whole line with this mark.
    pub(crate) fn keep(&mut self, mark: Mark, event: &Event<'_>) {
        if self.places.is_empty() {
            self.places.resize(LINES, Place::default());
        }
        let rival = &mut self.places[mark.place()].rival;
        if *rival != mark.tag() {
            *rival = mark.tag();
            return;
        }
        let (line, holes, outline) = (event.raw(), self.holes(event.raw()), event.outline());
        let place = &mut self.places[mark.place()];
        match &mut place.known {
            Some(known) => {
                known.line.clear();
                known.line.extend_from_slice(line);
                (known.holes, known.outline) = (holes, outline);
            }
            none => *none = Some(Box::new(Known { line: line.to_vec(), holes, outline })),
        }
    }

    /// Where twins of `line` may differ from it, in order.
    fn holes(&self, line: &[u8]) -> Vec<Hole> {
        let mut holes: Vec<Hole> = id(line).map(|range| Hole { range, form: Form::Id }).into_iter().collect();
        let uri = uri(line);
        for (name, before) in &self.before_holes {
            let (part, form, begins, ends) = match before {
                // A quote with a backslash before it is text, and what stands there may be anything.
                Before::Time => (0..line.len(), Form::Time, &b","[..], &b"\""[..]),
                Before::Version => (0..line.len(), Form::Digits, &b",{"[..], &b"\""[..]),
                // JSON in Go writes the ampersand as \u0026.
                Before::Option => (uri.clone(), Form::Digits, &b"?&6"[..], &b"\"&\\"[..]),
            };
            for at in name.find_iter(&line[part.clone()]).map(|at| part.start + at) {
                let start = at + name.needle().len();
                let inside = line.get(start..).unwrap_or_default();
                let length = match form {
                    Form::Time => TIME.len(),
                    _ => inside.iter().take_while(|b| b.is_ascii_digit()).count(),
                };
                let after = |list: &[u8], at: usize| line.get(at).is_some_and(|b| list.contains(b));
                let fits = at > 0 && after(begins, at - 1) && after(ends, start + length);
                if fits && (1..=TIME.len()).contains(&length) && form.fits(&inside[..length]) {
                    holes.push(Hole { range: start..start + length, form });
                }
            }
        }
        holes.sort_unstable_by_key(|hole| hole.range.start);
        holes
    }
}

impl Known {
    fn is_twin(&self, line: &[u8]) -> bool {
        if line.len() != self.line.len() {
            return false;
        }
        let mut from = 0;
        for Hole { range, form } in &self.holes {
            let (Some(own), Some(others), Some(inside)) =
                (self.line.get(from..range.start), line.get(from..range.start), line.get(range.clone()))
            else {
                return false;
            };
            if own != others || !form.fits(inside) {
                return false;
            }
            from = range.end;
        }
        self.line.get(from..) == line.get(from..)
    }
}

impl Form {
    fn fits(self, text: &[u8]) -> bool {
        match self {
            // Without a branch at each byte.
            Form::Id => text.first_chunk::<36>().is_some_and(|text| {
                let hexadecimal = |b: u8| b.wrapping_sub(b'0') < 10 || b.wrapping_sub(b'a') < 6;
                let fits = |(s, b): (&u8, &u8)| if *s == b'0' { hexadecimal(*b) } else { s == b };
                ID.iter().zip(text).fold(true, |all, both| all & fits(both))
            }),
            Form::Time => text.first_chunk::<27>().is_some_and(|text| {
                let fits = |(s, b): (&u8, &u8)| if *s == b'0' { b.is_ascii_digit() } else { s == b };
                TIME.iter().zip(text).fold(true, |all, both| all & fits(both))
            }),
            Form::Digits => text.iter().all(u8::is_ascii_digit),
        }
    }
}

/// Where the ID of an event stands that begins as the API server writes it.
fn id(line: &[u8]) -> Option<Range<usize>> {
    let level = line.strip_prefix(BEGINNING)?;
    let end = memchr::memchr(b'"', level.get(..24)?)?;
    let start = BEGINNING.len() + end + BEFORE_ID.len();
    let range = start..start + ID.len();
    let fits = level.get(end..)?.starts_with(BEFORE_ID) && Form::Id.fits(line.get(range.clone())?);
    (fits && line.get(range.end) == Some(&b'"')).then_some(range)
}

/// Where the path and the query of the request stand.
fn uri(line: &[u8]) -> Range<usize> {
    const NAME: &[u8] = br#","requestURI":""#;
    let Some(start) = memmem::find(line, NAME).map(|at| at + NAME.len()) else { return 0..0 };
    start..memchr::memchr(b'"', &line[start..]).map_or(start, |length| start + length)
}

/// A hash of `text` in which one digit counts as much as another.
fn hash(text: &[u8], seed: u64) -> u64 {
    const KEYS: [u64; 4] =
        [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];
    let folded = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let halves = |lanes: [u8; 16]| {
        let number = u128::from_le_bytes(lanes);
        (number as u64, (number >> 64) as u64)
    };
    let (pairs, rest) = text.as_chunks::<32>();
    let (mut first, mut second) = (seed ^ KEYS[0], seed ^ KEYS[1]);
    let mut take = |chunk: &[u8; 32]| {
        let (left, right) = chunk.split_at(16);
        let (Some(left), Some(right)) = (left.first_chunk(), right.first_chunk()) else { return };
        let (a, b) = halves(without_digits(left));
        let (c, d) = halves(without_digits(right));
        first = folded(first ^ a, b ^ KEYS[2]);
        second = folded(second ^ c, d ^ KEYS[3]);
    };
    pairs.iter().for_each(&mut take);
    let mut last = [0; 32];
    last[..rest.len()].copy_from_slice(rest);
    take(&last);
    folded(first ^ KEYS[3], second ^ KEYS[2])
}

/// `lanes` with zero for each digit.
fn without_digits(lanes: &[u8; 16]) -> [u8; 16] {
    let lanes = u8x16::new(*lanes);
    let from_zero = lanes - u8x16::splat(b'0');
    let digit = from_zero.min(u8x16::splat(9)).simd_eq(from_zero);
    (lanes & !digit).to_array()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1d50b2c6-b72a-45d2-a016-d4e9221680d5","stage":"ResponseComplete","requestURI":"/api/v1/pods?a=b\u0026resourceVersion=1234\u0026timeoutSeconds=547","verb":"watch","user":{"username":"u 12"},"objectRef":{"resource":"pods","resourceVersion":"1234"},"note":"x&timeoutSeconds=547 \"stageTimestamp\":\"","requestReceivedTimestamp":"2026-11-24T00:33:57.317232Z","stageTimestamp":"2026-11-24T00:33:57.382595Z"}"#;

    fn remembered(line: &str) -> Twins {
        let mut twins = Twins::default();
        let mark = Mark::of(line.as_bytes()).expect("a mark");
        for _ in 0..2 {
            assert!(twins.outline(mark, line.as_bytes()).is_none());
            twins.keep(mark, &Event::parse(line.as_bytes()).unwrap());
        }
        twins
    }

    fn is_known(twins: &Twins, line: &str) -> bool {
        Mark::of(line.as_bytes()).is_some_and(|mark| twins.outline(mark, line.as_bytes()).is_some())
    }

    #[test]
    fn the_second_time_a_line_is_kept_and_its_twins_are_known() {
        let twins = remembered(LINE);
        assert!(is_known(&twins, LINE));
        for (before, after) in [
            ("1d50b2c6-b72a-45d2-a016-d4e9221680d5", "0a0b0c0d-aaaa-ffff-0123-456789abcdef"),
            ("=1234", "=0009"),
            ("=547\"", "=300\""),
            ("\"1234\"", "\"9999\""),
            ("57.317232Z", "00.000000Z"),
            ("2026-11-24T00:33:57.382595Z", "1999-12-31T23:59:59.999999Z"),
        ] {
            assert!(is_known(&twins, &LINE.replace(before, after)), "{after}");
        }
    }

    #[test]
    fn what_differs_elsewhere_is_no_twin() {
        let twins = remembered(LINE);
        for (before, after) in [
            ("1d50b2c6-b72a", "1D50b2c6-b72a"),
            ("1d50b2c6-b72a", "1d50b2c60b72a"),
            ("1d50b2c6-b72a", "1d50b2c6-b72g"),
            // The mark is the same, the line is not.
            ("u 12", "u 13"),
            ("x&timeoutSeconds=547", "x&timeoutSeconds=548"),
            ("v1/pods", "v2/pods"),
            ("=1234", "=12a4"),
            ("\"1234\"", "\"12 4\""),
            ("2026-11-24T00:33:57.317232Z", "2026-11-24T00:33:57.31723aZ"),
            ("2026-11-24T00:33:57.317232Z", "2026-11-24T00:33:57.317232z"),
            ("\"verb\":\"watch\"", "\"verb\":\"fetch\""),
            ("\"u 12\"}", "\"u 12\"]"),
            ("=547\"", "=5471\""),
        ] {
            assert!(!is_known(&twins, &LINE.replacen(before, after, 1)), "{after}");
        }
    }

    #[test]
    fn holes_are_where_no_rule_looks() {
        let holes = Twins::default().holes(LINE.as_bytes());
        let inside: Vec<&str> = holes.iter().map(|hole| &LINE[hole.range.clone()]).collect();
        assert_eq!(
            inside,
            [
                "1d50b2c6-b72a-45d2-a016-d4e9221680d5",
                "1234",
                "547",
                "1234",
                "2026-11-24T00:33:57.317232Z",
                "2026-11-24T00:33:57.382595Z"
            ]
        );
    }

    #[test]
    fn other_lines_have_no_mark() {
        for line in [
            "",
            "{}",
            &LINE[1..],
            &LINE[..70],
            &LINE.replace("auditID", "auditId"),
            &LINE.replace("-b72a", "_b72a"),
        ] {
            assert!(Mark::of(line.as_bytes()).is_none(), "{line}");
        }
        let long = LINE.replace("u 12", &"u".repeat(LONGEST));
        assert!(Mark::of(long.as_bytes()).is_none());
    }
}
