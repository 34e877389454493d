//! Documents inside strings: the decoded bytes of a string, and the way from there back to the raw line.

use auditship_event::text;

/// How text is spelled inside of other text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// With the escapes of a JSON string.
    #[default]
    Json,
    /// Percent-encoded.
    Percent,
}

/// Where decoded bytes come from: plain stretches of the enclosing document, begun at each seam.
///
/// Invariant: seams are sorted by `decoded`; an offset maps through the last seam at or before it.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// The text.
    pub(crate) bytes: Vec<u8>,
    /// `(offset in bytes, offset in the enclosing document)`.
    seams: Vec<(usize, usize)>,
    spelling: Spelling,
}

impl Decoded {
    /// Decodes text that is spelled like this and stands at `start` in its document.
    pub(crate) fn fill_as(&mut self, spelling: Spelling, raw: &[u8], start: usize) {
        match spelling {
            Spelling::Json => self.fill(raw, start),
            Spelling::Percent => self.fill_percent(raw, start),
        }
    }

    /// Decodes the inside of a JSON string that stands at `start` in its document.
    pub(crate) fn fill(&mut self, raw: &[u8], start: usize) {
        self.spelling = Spelling::Json;
        self.bytes.clear();
        self.seams.clear();
        let seams = &mut self.seams;
        text::unescape(raw, &mut self.bytes, |decoded, at| seams.push((decoded, start + at)));
    }

    /// Decodes percent-encoding (RFC 3986 §2.1) in text that stands at `start` in its document. Behind a `?` a plus is a
    /// space (WHATWG URL, `application/x-www-form-urlencoded`).
    fn fill_percent(&mut self, raw: &[u8], start: usize) {
        self.spelling = Spelling::Percent;
        self.bytes.clear();
        self.seams.clear();
        self.seams.push((0, start));
        let (mut at, mut query) = (0, false);
        while let Some(&byte) = raw.get(at) {
            query |= byte == b'?';
            match percent(&raw[at..]) {
                Some(plain) => {
                    self.bytes.push(plain);
                    at += 3;
                    self.seams.push((self.bytes.len(), start + at));
                }
                None => {
                    self.bytes.push(if query && byte == b'+' { b' ' } else { byte });
                    at += 1;
                }
            }
        }
    }

    fn outer(&self, at: usize) -> usize {
        let seam = self.seams.partition_point(|(decoded, _)| *decoded <= at) - 1;
        let (decoded, outer) = self.seams[seam];
        outer + (at - decoded)
    }
}

/// The byte that is percent-encoded at the beginning of `text`.
pub(crate) fn percent(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = *text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(high)? * 16 + digit(low)?) as u8)
}

/// A document and its place: in the line itself, or in a string of the enclosing one.
#[derive(Clone, Copy)]
pub(crate) struct Place<'p> {
    /// How the document's bytes lie in the enclosing one; `None` for the line itself, which begins at `base`.
    enclosing: Option<(&'p Decoded, &'p Place<'p>)>,
    base: usize,
    /// How many strings it stands in.
    pub(crate) level: usize,
    /// Whether one of them is percent-encoded.
    percent: bool,
}

impl<'p> Place<'p> {
    /// The line itself, whose first byte has the raw offset `base`.
    pub(crate) fn line(base: usize) -> Place<'static> {
        Place { enclosing: None, base, level: 0, percent: false }
    }

    /// A document decoded from text of the one at `outer`.
    pub(crate) fn inside(decoded: &'p Decoded, outer: &'p Place<'p>) -> Place<'p> {
        let percent = outer.percent || decoded.spelling == Spelling::Percent;
        Place { enclosing: Some((decoded, outer)), base: 0, level: outer.level + 1, percent }
    }

    /// The raw offset of `at`.
    pub(crate) fn raw(&self, at: usize) -> usize {
        match self.enclosing {
            None => self.base + at,
            Some((decoded, outer)) => outer.raw(decoded.outer(at)),
        }
    }

    /// Appends a quotation mark as it must be written at this depth: `"`, `\"`, `\\\"`, …
    pub(crate) fn quote(&self, out: &mut Vec<u8>) {
        if self.percent {
            out.extend_from_slice(b"%22");
            return;
        }
        // Each level escapes every backslash and the quotation mark of the one inside it: 2^level - 1 of them.
        out.resize(out.len() + (1usize << self.level) - 1, b'\\');
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_back_through_two_levels() {
        let inner = r#"{"a":"é\"x"}"#;
        let middle = format!(r#"{{"m":{}}}"#, serde_json::to_string(inner).unwrap());
        let line = format!(r#"{{"l":{}}}"#, serde_json::to_string(&middle).unwrap());
        let string = |doc: &str| (doc.find(":\"").unwrap() + 2, doc.len() - 2);

        let (start, end) = string(&line);
        let mut first = Decoded::default();
        first.fill(&line.as_bytes()[start..end], start);
        assert_eq!(first.bytes, middle.as_bytes());
        let (start, end) = string(&middle);
        let mut second = Decoded::default();
        second.fill(&middle.as_bytes()[start..end], start);
        assert_eq!(second.bytes, inner.as_bytes());

        let root = Place::line(0);
        let place = Place::inside(&first, &root);
        let place = Place::inside(&second, &place);
        let (from, to) = (inner.find('é').unwrap(), inner.find("\"}").unwrap());
        assert_eq!(&line[place.raw(from)..place.raw(to)], r#"é\\\\\\\"x"#);
        let mut quote = Vec::new();
        place.quote(&mut quote);
        assert_eq!(quote, br#"\\\""#);
    }
}
