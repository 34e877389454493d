//! One pass over JSON: validates the whole grammar (RFC 8259) and reports keys, strings, scalars, brackets.
//!
//! Iterative, with a bit stack for nesting, so no input can make it recurse; it allocates nothing. It never
//! interprets a number (`1e400` is fine) and accepts any bytes ≥ 0x20 inside a string: UTF-8 is the business
//! of whoever ships them. What is reported is always raw: offsets into the input.
//!
//! Strings are most of it, and short: sixteen bytes are looked at together for whatever ends one.

use std::fmt;
use wide::u8x16;

/// Deepest nesting accepted. `kube-apiserver` itself refuses bodies much shallower than this
/// (k8s.io/apimachinery `pkg/util/json`, limit 10,000, is the outer bound; real objects stay under 40).
pub const MAX_DEPTH: usize = 512;

/// The inside of a JSON string, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Str {
    /// First byte after the opening quote.
    pub start: usize,
    /// The closing quote.
    pub end: usize,
    /// Whether a backslash occurs inside.
    pub escaped: bool,
}

impl Str {
    #[inline(always)]
    fn new(quote: usize, end: End) -> Str {
        Str { start: quote + 1, end: end.0 & !ESCAPED, escaped: end.0 & ESCAPED != 0 }
    }

    /// The raw bytes inside `doc`.
    pub fn raw<'a>(&self, doc: &'a [u8]) -> &'a [u8] {
        &doc[self.start..self.end]
    }
}

/// What a scalar that is not a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A number, uninterpreted.
    Number,
    /// `true` or `false`.
    Bool,
    /// `null`.
    Null,
}

/// What the scanner tells as it passes. `depth` counts the containers around the thing reported: the members
/// of the outermost object are at depth 1.
pub trait Visitor {
    /// `{` at `at`.
    fn open_object(&mut self, _at: usize, _depth: usize) {}
    /// `[` at `at`.
    fn open_array(&mut self, _at: usize, _depth: usize) {}
    /// The bracket that closes the container opened at the same `depth`.
    fn close(&mut self, _at: usize, _depth: usize) {}
    /// An object's key.
    fn key(&mut self, _key: Str, _depth: usize) {}
    /// A string value.
    fn string(&mut self, _value: Str, _depth: usize) {}
    /// Any other scalar, at `start..end`.
    fn scalar(&mut self, _start: usize, _end: usize, _kind: Scalar, _depth: usize) {}
}

/// Looks at nothing: mere validation.
pub struct Ignore;
impl Visitor for Ignore {}

/// Two visitors on one pass; the first is told first.
pub struct Both<'v, A, B>(pub &'v mut A, pub &'v mut B);

impl<A: Visitor, B: Visitor> Visitor for Both<'_, A, B> {
    #[inline(always)]
    fn open_object(&mut self, at: usize, depth: usize) {
        self.0.open_object(at, depth);
        self.1.open_object(at, depth);
    }

    #[inline(always)]
    fn open_array(&mut self, at: usize, depth: usize) {
        self.0.open_array(at, depth);
        self.1.open_array(at, depth);
    }

    #[inline(always)]
    fn close(&mut self, at: usize, depth: usize) {
        self.0.close(at, depth);
        self.1.close(at, depth);
    }

    #[inline(always)]
    fn key(&mut self, key: Str, depth: usize) {
        self.0.key(key, depth);
        self.1.key(key, depth);
    }

    #[inline(always)]
    fn string(&mut self, value: Str, depth: usize) {
        self.0.string(value, depth);
        self.1.string(value, depth);
    }

    #[inline(always)]
    fn scalar(&mut self, start: usize, end: usize, kind: Scalar, depth: usize) {
        self.0.scalar(start, end, kind, depth);
        self.1.scalar(start, end, kind, depth);
    }
}

/// Why bytes are not JSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Offset of the first byte that cannot be.
    pub at: usize,
    /// What is wrong.
    pub reason: Reason,
}

/// The kinds of [`Malformed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The grammar does not allow this byte here.
    Grammar,
    /// The input ended inside the value.
    Truncated,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// Longer than offsets can say (4 GiB).
    TooLong,
}

impl Reason {
    /// The word that counts it in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Grammar => "not_json",
            Reason::Truncated => "truncated",
            Reason::TooDeep => "too_deep",
            Reason::TooLong => "too_long",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason.word(), self.at)
    }
}

impl std::error::Error for Malformed {}

/// Nesting as bits: set for an object, clear for an array.
struct Nesting {
    bits: [u64; MAX_DEPTH / 64],
    depth: usize,
}

impl Nesting {
    #[inline(always)]
    fn push(&mut self, object: bool, at: usize) -> Result<(), Malformed> {
        if self.depth == MAX_DEPTH {
            return Err(Malformed { at, reason: Reason::TooDeep });
        }
        let (word, bit) = (self.depth / 64, 1u64 << (self.depth % 64));
        if object {
            self.bits[word] |= bit;
        } else {
            self.bits[word] &= !bit;
        }
        self.depth += 1;
        Ok(())
    }

    #[inline(always)]
    fn in_object(&self) -> bool {
        let top = self.depth.wrapping_sub(1);
        self.bits.get(top / 64).is_some_and(|word| word & (1 << (top % 64)) != 0)
    }
}

/// Scans one JSON value that begins at `from` (white space allowed before it) and returns the offset after it.
///
/// # Errors
/// [`Malformed`], with the visitor having seen everything before that place.
pub fn value<V: Visitor>(doc: &[u8], from: usize, visitor: &mut V) -> Result<usize, Malformed> {
    let mut nesting = Nesting { bits: [0; MAX_DEPTH / 64], depth: 0 };
    let mut at = from;
    loop {
        // A value begins here.
        let depth = nesting.depth;
        let first;
        (at, first) = next(doc, at)?;
        match first {
            b'"' => {
                let text = Str::new(at, string(doc, at)?);
                at = text.end + 1;
                visitor.string(text, depth);
            }
            b'{' => {
                nesting.push(true, at)?;
                visitor.open_object(at, depth);
                let first;
                (at, first) = next(doc, at + 1)?;
                if first == b'}' {
                    nesting.depth -= 1;
                    visitor.close(at, depth);
                    at += 1;
                } else {
                    at = key(doc, at, depth + 1, visitor)?;
                    continue;
                }
            }
            b'[' => {
                nesting.push(false, at)?;
                visitor.open_array(at, depth);
                let first;
                (at, first) = next(doc, at + 1)?;
                if first == b']' {
                    nesting.depth -= 1;
                    visitor.close(at, depth);
                    at += 1;
                } else {
                    continue;
                }
            }
            b'-' | b'0'..=b'9' => {
                let end = number(doc, at)?;
                visitor.scalar(at, end, Scalar::Number, depth);
                at = end;
            }
            b't' => at = literal(doc, at, b"true", Scalar::Bool, depth, visitor)?,
            b'f' => at = literal(doc, at, b"false", Scalar::Bool, depth, visitor)?,
            b'n' => at = literal(doc, at, b"null", Scalar::Null, depth, visitor)?,
            _ => return Err(Malformed { at, reason: Reason::Grammar }),
        }
        // A value has ended: close what closes, then go to the next one.
        loop {
            if nesting.depth == 0 {
                return Ok(at);
            }
            let object = nesting.in_object();
            let after;
            (at, after) = next(doc, at)?;
            match after {
                b',' => {
                    at += 1;
                    if object {
                        at = key(doc, at, nesting.depth, visitor)?;
                    }
                    break;
                }
                b'}' if object => {}
                b']' if !object => {}
                _ => return Err(Malformed { at, reason: Reason::Grammar }),
            }
            nesting.depth -= 1;
            visitor.close(at, nesting.depth);
            at += 1;
        }
    }
}

/// Scans a document that must be one value and nothing but white space after it.
///
/// # Errors
/// As [`value`]; bytes after the value are a [`Reason::Grammar`] error at their place.
pub fn document<V: Visitor>(doc: &[u8], visitor: &mut V) -> Result<(), Malformed> {
    let end = skip_space(doc, value(doc, 0, visitor)?);
    if end == doc.len() { Ok(()) } else { Err(Malformed { at: end, reason: Reason::Grammar }) }
}

/// The offset of the first byte at or after `at` that is not JSON white space.
#[inline(always)]
pub fn skip_space(doc: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r' | b'\n') = doc.get(at) {
        at += 1;
    }
    at
}

/// The first byte at or after `at` that is not JSON white space, with its offset.
#[inline(always)]
fn next(doc: &[u8], at: usize) -> Result<(usize, u8), Malformed> {
    match doc.get(at) {
        Some(byte) if *byte > b' ' => Ok((at, *byte)),
        _ => next_after_space(doc, at),
    }
}

#[cold]
#[inline(never)]
fn next_after_space(doc: &[u8], at: usize) -> Result<(usize, u8), Malformed> {
    let at = skip_space(doc, at);
    Ok((at, byte(doc, at)?))
}

#[inline(always)]
fn byte(doc: &[u8], at: usize) -> Result<u8, Malformed> {
    doc.get(at).copied().ok_or(Malformed { at, reason: Reason::Truncated })
}

#[inline(always)]
fn key<V: Visitor>(doc: &[u8], at: usize, depth: usize, visitor: &mut V) -> Result<usize, Malformed> {
    let (at, first) = next(doc, at)?;
    if first != b'"' {
        return Err(Malformed { at, reason: Reason::Grammar });
    }
    let text = Str::new(at, string(doc, at)?);
    let (colon, between) = next(doc, text.end + 1)?;
    if between != b':' {
        return Err(Malformed { at: colon, reason: Reason::Grammar });
    }
    visitor.key(text, depth);
    Ok(colon + 1)
}

/// Bytes that are looked at together.
const LANES: usize = 16;

/// Where a string ends, and whether a backslash occurs in it: one register, for it is passed on at every string.
#[derive(Clone, Copy)]
struct End(usize);

/// No offset is so large ([`value`] is given slices, which are at most `isize::MAX` long).
const ESCAPED: usize = 1 << (usize::BITS - 1);

/// The string whose opening quote stands at `quote`.
#[inline(always)]
fn string(doc: &[u8], quote: usize) -> Result<End, Malformed> {
    let start = quote + 1;
    // Most strings end within the first lanes, and nearly all others within the next.
    if let Some(lanes) = doc.get(start..).and_then(|rest| rest.first_chunk::<{ 2 * LANES }>()) {
        let (first, second) = lanes.split_at(LANES);
        let step = match (first.first_chunk().and_then(stops), second.first_chunk()) {
            (Some(step), _) => Some(step),
            (None, Some(second)) => stops(second).map(|step| LANES + step),
            (None, None) => None,
        };
        match step {
            Some(step) if lanes[step] == b'"' => return Ok(End(start + step)),
            Some(_) => {}
            None => return string_slow(doc, start, 2 * LANES),
        }
    }
    string_slow(doc, start, 0)
}

/// As [`string`], for one that is long, holds a backslash, or stands at the end of the input, and of which `plain` bytes
/// have been looked at.
#[inline(never)]
fn string_slow(doc: &[u8], start: usize, plain: usize) -> Result<End, Malformed> {
    let (mut at, mut escaped) = (start + plain, 0);
    loop {
        let rest = doc.get(at..).unwrap_or_default();
        at += match rest.first_chunk() {
            Some(lanes) => match stops(lanes) {
                Some(step) => step,
                None => {
                    at += LANES;
                    continue;
                }
            },
            None => rest.iter().position(|byte| is_stop(*byte)).unwrap_or(rest.len()),
        };
        match byte(doc, at)? {
            b'"' => return Ok(End(at | escaped)),
            b'\\' => {
                escaped = ESCAPED;
                at = escape(doc, at)?;
            }
            _ => return Err(Malformed { at, reason: Reason::Grammar }),
        }
    }
}

/// A quote, a backslash or a control character: control characters are not allowed in strings (RFC 8259 §7).
fn is_stop(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// Where the first of `lanes` stands that is a stop.
#[inline(always)]
fn stops(lanes: &[u8; LANES]) -> Option<usize> {
    let lanes = u8x16::new(*lanes);
    let control = lanes.min(u8x16::splat(0x1f)).simd_eq(lanes);
    let stop = control | lanes.simd_eq(u8x16::splat(b'"')) | lanes.simd_eq(u8x16::splat(b'\\'));
    let mask = stop.to_bitmask();
    (mask != 0).then(|| mask.trailing_zeros() as usize)
}

/// The offset after the escape whose backslash stands at `at`.
#[inline(always)]
fn escape(doc: &[u8], at: usize) -> Result<usize, Malformed> {
    match byte(doc, at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => {
            for digit in at + 2..at + 6 {
                if !byte(doc, digit)?.is_ascii_hexdigit() {
                    return Err(Malformed { at: digit, reason: Reason::Grammar });
                }
            }
            Ok(at + 6)
        }
        _ => Err(Malformed { at: at + 1, reason: Reason::Grammar }),
    }
}

fn number(doc: &[u8], start: usize) -> Result<usize, Malformed> {
    let digits = |from: usize| {
        let mut at = from;
        while doc.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let must = |from: usize| match byte(doc, from)? {
        b'0'..=b'9' => Ok(digits(from)),
        _ => Err(Malformed { at: from, reason: Reason::Grammar }),
    };
    let mut at = if doc[start] == b'-' { start + 1 } else { start };
    at = if byte(doc, at)? == b'0' { at + 1 } else { must(at)? };
    if doc.get(at) == Some(&b'.') {
        at = must(at + 1)?;
    }
    if let Some(b'e' | b'E') = doc.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = doc.get(at) {
            at += 1;
        }
        at = must(at)?;
    }
    Ok(at)
}

fn literal<V: Visitor>(
    doc: &[u8],
    at: usize,
    word: &[u8],
    kind: Scalar,
    depth: usize,
    visitor: &mut V,
) -> Result<usize, Malformed> {
    let end = at + word.len();
    match doc.get(at..end) {
        Some(found) if found == word => {
            visitor.scalar(at, end, kind, depth);
            Ok(end)
        }
        Some(_) => Err(Malformed { at, reason: Reason::Grammar }),
        None if word.starts_with(&doc[at..]) => Err(Malformed { at: doc.len(), reason: Reason::Truncated }),
        None => Err(Malformed { at, reason: Reason::Grammar }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Told(String);

    impl Visitor for Told {
        fn open_object(&mut self, at: usize, depth: usize) {
            self.0 += &format!("{{{at}@{depth} ");
        }
        fn open_array(&mut self, at: usize, depth: usize) {
            self.0 += &format!("[{at}@{depth} ");
        }
        fn close(&mut self, at: usize, depth: usize) {
            self.0 += &format!("){at}@{depth} ");
        }
        fn key(&mut self, key: Str, depth: usize) {
            self.0 += &format!("k{}-{}@{depth} ", key.start, key.end);
        }
        fn string(&mut self, value: Str, depth: usize) {
            self.0 +=
                &format!("s{}-{}{}@{depth} ", value.start, value.end, if value.escaped { "!" } else { "" });
        }
        fn scalar(&mut self, start: usize, end: usize, _: Scalar, depth: usize) {
            self.0 += &format!("n{start}-{end}@{depth} ");
        }
    }

    #[test]
    fn tells_what_it_passes() {
        let mut told = Told::default();
        document(br#" {"a":[1,"b\n"],"c":{}} "#, &mut told).unwrap();
        assert_eq!(told.0, "{1@0 k3-4@1 [6@1 n7-8@2 s10-13!@2 )14@1 k17-18@1 {20@1 )21@1 )22@0 ");
    }

    #[test]
    fn refuses_what_is_not_json() {
        for (doc, reason) in [
            (&b""[..], Reason::Truncated),
            (b"{", Reason::Truncated),
            (b"{\"a\"", Reason::Truncated),
            (b"{\"a\":1", Reason::Truncated),
            (b"\"abc", Reason::Truncated),
            (b"\"abc\\", Reason::Truncated),
            (b"\"\\u12", Reason::Truncated),
            (b"tru", Reason::Truncated),
            (b"-", Reason::Truncated),
            (b"1.", Reason::Truncated),
            (b"{,}", Reason::Grammar),
            (b"{\"a\":1,}", Reason::Grammar),
            (b"[1,]", Reason::Grammar),
            (b"[1}", Reason::Grammar),
            (b"01", Reason::Grammar),
            (b"\"a\x01\"", Reason::Grammar),
            (b"\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x01\"", Reason::Grammar),
            (b"\"\\x\"", Reason::Grammar),
            (b"nul!", Reason::Grammar),
            (b"1 2", Reason::Grammar),
        ] {
            assert_eq!(
                document(doc, &mut Ignore).unwrap_err().reason,
                reason,
                "{:?}",
                String::from_utf8_lossy(doc)
            );
        }
    }

    #[test]
    fn a_million_brackets_are_refused_and_not_followed() {
        let doc = vec![b'['; 1 << 20];
        assert_eq!(document(&doc, &mut Ignore), Err(Malformed { at: MAX_DEPTH, reason: Reason::TooDeep }));
    }

    #[test]
    fn the_deepest_nesting_is_accepted() {
        let doc = [vec![b'['; MAX_DEPTH], vec![b']'; MAX_DEPTH]].concat();
        assert_eq!(document(&doc, &mut Ignore), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn agrees_with_serde_json_on_bytes_like_json(doc in "[\\[\\]{}:,\"\\\\ubn0-9a-f.eE+ -]{0,24}") {
            let ours = document(doc.as_bytes(), &mut Ignore).is_ok();
            // IgnoredAny does not range-check numbers, as we do not.
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&doc).is_ok();
            prop_assert_eq!(ours, theirs, "{}", doc);
        }
    }
}
