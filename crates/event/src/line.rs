//! A line as it came: its bytes, its place, and what is known of its form before it is parsed.

use crate::span::Span;

/// One logical line, without its terminator (and without the container runtime's prefix).
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// Where it stands in its stream. For joined CRI records: from the first record to the last.
    pub span: Span,
    /// Where it began, when it began in the stream before (a run of CRI records cut by a rotation). That span is
    /// settled together with the line.
    pub carried: Option<Span>,
    /// The bytes. When `cut` is set: only the head of the line.
    pub bytes: &'a [u8],
    /// Set where the source knows that it is no audit event (it stood on standard error): the word that counts it.
    pub skip: Option<&'static str>,
    /// Set when the line is incomplete in memory: longer than the limit, or its end is missing.
    pub cut: Option<Cut<'a>>,
}

/// What is left of a line that is not whole.
#[derive(Clone, Copy)]
pub struct Cut<'a> {
    /// The last bytes of the line (empty when the end is missing).
    pub tail: &'a [u8],
    /// Why: `too_long` or `unfinished`.
    pub reason: &'static str,
}

impl std::fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content.
        write!(f, "Line({}, {} bytes, cut: {})", self.span, self.bytes.len(), self.cut.is_some())
    }
}

/// What a line is by its form, before any parsing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Begins like a JSON object: an audit event, an `EventList`, or something broken that claims to be.
    Json,
    /// Not an audit event by form; the reason is the word that counts it (`skipped{reason}`).
    Skipped(&'static str),
    /// Nothing known: it may be a fragment of an event, so it must be treated as one.
    Unknown,
}

impl Form {
    /// Tells the form of `line` from its first bytes.
    ///
    /// Skipped are: blank lines; the API server's own log in klog's format (`I0102 15:04:05.000000 …`,
    /// k8s.io/klog `klog.go`, "Header formats"); the legacy audit format (`… AUDIT: id="…"`,
    /// k8s.io/apiserver `pkg/audit/format.go`, `EventString`).
    pub fn of(line: &[u8]) -> Form {
        let text = trim_start(line);
        match text.first() {
            None => Form::Skipped("blank"),
            Some(b'{') => Form::Json,
            Some(b'I' | b'W' | b'E' | b'F') if is_klog(text) => Form::Skipped("klog"),
            Some(b'0'..=b'9') if is_legacy(text) => Form::Skipped("legacy_format"),
            Some(_) => Form::Unknown,
        }
    }
}

/// `line` without leading white space (space, tab, carriage return, and the NULs of a truncation hole).
pub fn trim_start(line: &[u8]) -> &[u8] {
    let from = line.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r' | 0)).unwrap_or(line.len());
    &line[from..]
}

fn is_klog(text: &[u8]) -> bool {
    // "I0102 15:04:05."
    const SHAPE: &[u8] = b"L0000 00:00:00.";
    text.len() > SHAPE.len()
        && SHAPE.iter().zip(text).skip(1).all(|(shape, byte)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => other == byte,
        })
}

fn is_legacy(text: &[u8]) -> bool {
    // The time stamp is at most 35 bytes; the marker follows it.
    let head = &text[..text.len().min(64)];
    memchr::memmem::find(head, b" AUDIT: id=\"").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (line, form) in [
            (&b"{\"kind\":\"Event\"}"[..], Form::Json),
            (b"  \0\0{\"kind\"", Form::Json),
            (b"", Form::Skipped("blank")),
            (b" \t\r", Form::Skipped("blank")),
            (b"I1124 02:30:59.123456       1 server.go:1] hello", Form::Skipped("klog")),
            (b"Info: hello", Form::Unknown),
            (b"2026-11-24T02:00:00.123456789Z AUDIT: id=\"x\" stage=\"y\"", Form::Skipped("legacy_format")),
            (b"cmV0\"}},\"stage\":\"x\"}", Form::Unknown),
            (b"\xff\xfe\x00", Form::Unknown),
        ] {
            assert_eq!(Form::of(line), form, "{:?}", String::from_utf8_lossy(line));
        }
    }
}
