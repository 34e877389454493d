//! Where in an event an edit stands: the path that a person writes down, found after the fact.
//!
//! Redaction knows ranges of raw bytes and nothing else, which is what makes it fast. Here a line that is to be
//! explained is scanned once more: keys and values have offsets, and a string that is a document is decoded, the
//! edit's range mapped into it, and the search goes on inside. A key that was edited itself is never shown.

use auditship_event::scan::{self, Scalar, Str, Visitor};
use auditship_event::text;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::io::Read;
use std::ops::Range;

/// Documents in strings are followed to this depth; redaction itself stops sooner.
const MAX_LEVEL: usize = 16;
/// Stands for a key that was edited.
const HIDDEN: &str = "<key>";

/// The path of each of `ranges`, which are sorted and disjoint, in `doc`: `requestObject.data["a.b"]`,
/// `items[2].token`, with `<json>` where a string's text is a document. It is that of the innermost value around the
/// range, and empty for all of `doc` and where `doc` is no JSON.
pub fn paths(doc: &[u8], ranges: &[Range<usize>]) -> Vec<String> {
    let mut found = vec![None; ranges.len()];
    locate(doc, ranges, "", MAX_LEVEL, &mut found);
    found.into_iter().map(Option::unwrap_or_default).collect()
}

fn locate(doc: &[u8], ranges: &[Range<usize>], prefix: &str, levels: usize, found: &mut [Option<String>]) {
    let mut finder = Finder { doc, ranges, prefix, levels, frames: Vec::new(), found };
    // What comes before a cut is found all the same.
    let _ = scan::value(doc, 0, &mut finder);
    for place in found.iter_mut() {
        place.get_or_insert_with(|| prefix.to_owned());
    }
}

/// The visitor.
struct Finder<'a> {
    doc: &'a [u8],
    ranges: &'a [Range<usize>],
    prefix: &'a str,
    levels: usize,
    frames: Vec<Frame>,
    /// Beside `ranges`.
    found: &'a mut [Option<String>],
}

/// An open container.
struct Frame {
    at: usize,
    step: Step,
}

/// Which of its values is passed.
enum Step {
    Key(Option<Str>),
    /// So many items have begun.
    Items(usize),
}

impl Finder<'_> {
    /// The ranges that touch `from..to`.
    fn touching(&self, from: usize, to: usize) -> Range<usize> {
        let first = self.ranges.partition_point(|range| range.end <= from);
        let count = self.ranges[first..].iter().take_while(|range| range.start < to).count();
        first..first + count
    }

    fn begin(&mut self) {
        if let Some(Frame { step: Step::Items(count), .. }) = self.frames.last_mut() {
            *count += 1;
        }
    }

    fn path(&self) -> String {
        let mut path = self.prefix.to_owned();
        for frame in &self.frames {
            match frame.step {
                Step::Items(count) => path.push_str(&format!("[{}]", count.saturating_sub(1))),
                Step::Key(Some(key)) if self.touching(key.start, key.end).is_empty() => {
                    push_key(&text::decoded(self.doc, key), &mut path);
                }
                Step::Key(Some(_)) => push_hidden(&mut path),
                Step::Key(None) => {}
            }
        }
        path
    }

    /// The value at `start..end` (a string's inside) takes the ranges that lie in it.
    fn value(&mut self, start: usize, end: usize) -> Range<usize> {
        let here = self.touching(start, end);
        if !here.is_empty() {
            let path = self.path();
            for at in here.clone() {
                if self.ranges[at].start >= start && self.ranges[at].end <= end {
                    self.found[at].get_or_insert_with(|| path.clone());
                }
            }
        }
        here
    }

    /// Looks for the ranges `here` inside of a string that is a document.
    fn nested(&mut self, value: Str, here: Range<usize>) -> Option<()> {
        let ranges = self.ranges.get(here.clone())?;
        let (start, end) = (value.start, value.end);
        let inside =
            |range: &Range<usize>| range.start >= start && range.end <= end && *range != (start..end);
        if self.levels == 0 || !ranges.iter().all(inside) {
            return None;
        }
        let (mut bytes, mut seams) = (Vec::new(), Vec::new());
        text::unescape(value.raw(self.doc), &mut bytes, |decoded, raw| seams.push((decoded, raw)));
        let first = scan::skip_space(&bytes, 0);
        if !matches!(bytes.get(first), Some(b'{' | b'['))
            || scan::document(&bytes, &mut scan::Ignore).is_err()
        {
            return None;
        }
        let inner = |at: usize| {
            let after = seams.partition_point(|(_, raw)| *raw <= at - start);
            let (decoded, raw) = seams[after - 1];
            let limit = seams.get(after).map_or(bytes.len(), |(decoded, _)| *decoded);
            (decoded + (at - start - raw)).min(limit)
        };
        let ranges: Vec<Range<usize>> =
            ranges.iter().map(|range| inner(range.start)..inner(range.end)).collect();
        let prefix = self.path() + "<json>";
        let mut found = vec![None; ranges.len()];
        locate(&bytes, &ranges, &prefix, self.levels - 1, &mut found);
        self.found[here].clone_from_slice(&found);
        Some(())
    }
}

impl Visitor for Finder<'_> {
    fn open_object(&mut self, at: usize, _: usize) {
        self.begin();
        self.frames.push(Frame { at, step: Step::Key(None) });
    }

    fn open_array(&mut self, at: usize, _: usize) {
        self.begin();
        self.frames.push(Frame { at, step: Step::Items(0) });
    }

    fn close(&mut self, at: usize, _: usize) {
        if let Some(frame) = self.frames.pop() {
            self.value(frame.at, at + 1);
        }
    }

    fn key(&mut self, key: Str, _: usize) {
        if let Some(frame) = self.frames.last_mut() {
            frame.step = Step::Key(Some(key));
        }
        self.value(key.start, key.end);
    }

    fn string(&mut self, value: Str, _: usize) {
        self.begin();
        let here = self.touching(value.start, value.end);
        if !here.is_empty() && self.nested(value, here).is_none() {
            self.value(value.start, value.end);
        }
    }

    fn scalar(&mut self, start: usize, end: usize, _: Scalar, _: usize) {
        self.begin();
        self.value(start, end);
    }
}

fn push_key(key: &str, path: &mut String) {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if !plain {
        path.push_str(&format!("[{}]", serde_json::Value::from(key)));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

fn push_hidden(path: &mut String) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(HIDDEN);
}

const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG);

/// A string gives at most so many bytes.
const MAX_UNPACKED: u64 = 4 << 20;
/// Layers of base64 and gzip that are taken off.
const MAX_LAYERS: usize = 4;

/// What is packed in the raw inside of a string, and how: `<b64>`, `<b64><b64><gzip>`.
pub fn unpacked(raw: &[u8]) -> Option<(Vec<u8>, String)> {
    let mut bytes = Vec::new();
    text::unescape(raw, &mut bytes, |_, _| {});
    let mut steps = String::new();
    for _ in 0..MAX_LAYERS {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            let mut packed = flate2::read::GzDecoder::new(&*bytes).take(MAX_UNPACKED);
            packed.read_to_end(&mut plain).ok()?;
            (bytes, steps) = (plain, steps + "<gzip>");
            continue;
        }
        let joined: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        match STANDARD.decode(&joined).or_else(|_| URL_SAFE.decode(&joined)) {
            Ok(plain) if joined.len() >= 16 => (bytes, steps) = (plain, steps + "<b64>"),
            _ => break,
        }
    }
    (!steps.is_empty()).then_some((bytes, steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use std::io::Write;

    /// The paths of everything between `‹` and `›` in `marked`.
    fn told(marked: &str) -> Vec<String> {
        let (mut doc, mut ranges, mut from) = (String::new(), Vec::new(), 0);
        for c in marked.chars() {
            match c {
                '‹' => from = doc.len(),
                '›' => ranges.push(from..doc.len()),
                c => doc.push(c),
            }
        }
        paths(doc.as_bytes(), &ranges)
    }

    #[test]
    fn keys_items_and_scalars() {
        for (marked, want) in [
            (r#"{"a":{"b":"‹x›"}}"#, "a.b"),
            (r#"{"a":[{},[1,{"b":"x‹y›z"}]]}"#, "a[1][1].b"),
            (r#"{"a":1,"a b":{"c.d":‹7›}}"#, r#"["a b"]["c.d"]"#),
            (r#"{"x":{"":"‹y›"}}"#, r#"x[""]"#),
            (r#"{"d\u0061ta":"‹y›"}"#, "data"),
            (r#"["a","‹b›"]"#, "[1]"),
            (r#"{"q\"":"‹y›"}"#, r#"["q\""]"#),
            (r#"{"a":‹{"b":1}›,"c":2}"#, "a"),
            (r#"{"a":{"b":"‹x","c":"y›"}}"#, "a"),
            ("‹{}›", ""),
            ("no JSON ‹at› all", ""),
            (r#"{"a":{"b":"‹x›","c"#, "a.b"),
        ] {
            assert_eq!(told(marked), [want], "{marked}");
        }
        assert_eq!(told(r#"{"a":"‹x›","b":["‹y›z‹w›"]}"#), ["a", "b[0]", "b[0]"]);
    }

    #[test]
    fn an_edited_key_is_not_shown() {
        assert_eq!(told(r#"{"m":{"‹secret›":{"a":"‹x›"},"b":"‹y›"}}"#), ["m.<key>", "m.<key>.a", "m.b"]);
        let nested = r#"{"m":"{\"s‹ecr›et\":[\"‹x›\"]}"}"#;
        assert_eq!(told(nested), ["m<json>.<key>", "m<json>.<key>[0]"]);
    }

    #[test]
    fn documents_in_strings_at_any_depth() {
        let key = "kubectl.kubernetes.io/last-applied-configuration";
        let marked = format!(r#"{{"annotations":{{"{key}":"{{\"data\":{{\"pass\":\"‹QQ==›\"}}}}\n"}}}}"#);
        assert_eq!(told(&marked), [format!(r#"annotations["{key}"]<json>.data.pass"#)]);
        let inner = r#"{"k":["a","é\"‹x\\y›z"]}"#;
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let marked = format!(r#"{{"l":{}}}"#, quoted(&format!(r#"{{"m":{}}}"#, quoted(inner))));
        assert_eq!(told(&marked), ["l<json>.m<json>.k[1]"]);
        assert_eq!(told(r#"{"a":"‹{\"b\":1}›"}"#), ["a"]);
        assert_eq!(told(r#"{"a":"{\"b\":‹1›}"}"#), ["a<json>.b"]);
        assert_eq!(told(r#"{"a":"{\"b\": no ‹x›"}"#), ["a"]);
    }

    #[test]
    fn what_is_packed() {
        let steps =
            |raw: &str| unpacked(raw.as_bytes()).map(|(bytes, steps)| (String::from_utf8(bytes), steps));
        let text = "password=hunter2 and more";
        let once = BASE64.encode(text);
        assert_eq!(steps(&once), Some((Ok(text.to_owned()), "<b64>".to_owned())));
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        let helm = BASE64.encode(BASE64.encode(gz.finish().unwrap()));
        assert_eq!(steps(&helm), Some((Ok(text.to_owned()), "<b64><b64><gzip>".to_owned())));
        let wrapped = format!("{}\\n{}\\n", &once[..20], &once[20..]);
        assert_eq!(steps(&wrapped), Some((Ok(text.to_owned()), "<b64>".to_owned())));
        assert_eq!(steps("not packed at all"), None);
    }
}
