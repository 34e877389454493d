//! Protobuf's wire format, as far as sinks write requests and read answers in it.
//!
//! Written by hand: an event's document is put where it belongs without a copy, and its place is known. Source:
//! protobuf.dev, "Encoding": a field is its number and wire type as a varint, then a varint (type 0), eight bytes
//! (1), or a length and so many bytes (2). A varint may be longer than it need be, which is how a length is written
//! before it is known.

use std::ops::Range;

/// Bytes of a length that is filled in later: enough for 32 GiB.
pub(crate) const PADDED: usize = 5;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LEN: u32 = 2;
const FIXED32: u32 = 5;

/// `len` as a varint of [`PADDED`] bytes.
pub(crate) fn padded(len: usize) -> [u8; PADDED] {
    let mut bytes = [0; PADDED];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let more = if at + 1 < PADDED { 0x80 } else { 0 };
        *byte = (len >> (7 * at)) as u8 & 0x7f | more;
    }
    bytes
}

/// Appends a varint.
pub(crate) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(field: u32, kind: u32, out: &mut Vec<u8>) {
    varint(u64::from(field << 3 | kind), out);
}

/// Appends an integer (`int64` and `uint64` alike) or an enum's number.
pub(crate) fn integer(field: u32, value: u64, out: &mut Vec<u8>) {
    tag(field, VARINT, out);
    varint(value, out);
}

/// Appends eight bytes: a `fixed64`, or a `double`'s bits.
pub(crate) fn fixed64(field: u32, value: u64, out: &mut Vec<u8>) {
    tag(field, FIXED64, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a string or bytes.
pub(crate) fn bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    tag(field, LEN, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Appends a short message, or anything else with a length, that `fill` appends.
pub(crate) fn message(field: u32, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    tag(field, LEN, out);
    let at = out.len();
    out.push(0);
    fill(out);
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
    } else {
        let mut length = Vec::with_capacity(PADDED);
        varint(len as u64, &mut length);
        out.splice(at..at + 1, length);
    }
}

/// The same for a long one, which is not moved: its length takes [`PADDED`] bytes. Gives the place of what was
/// filled in.
pub(crate) fn long(field: u32, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
    tag(field, LEN, out);
    let at = out.len();
    out.extend_from_slice(&[0; PADDED]);
    fill(out);
    let content = at + PADDED..out.len();
    out[at..at + PADDED].copy_from_slice(&padded(content.len()));
    content
}

/// A field's value, as far as wire types tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A varint, or four or eight bytes.
    Number(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message with their numbers. `None` where it is no message.
pub(crate) fn fields(mut message: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        let value = match (key & 7) as u32 {
            VARINT => Value::Number(take_varint(&mut message)?),
            FIXED64 => Value::Number(u64::from_le_bytes(take(&mut message, 8)?.try_into().ok()?)),
            FIXED32 => Value::Number(u64::from(u32::from_le_bytes(take(&mut message, 4)?.try_into().ok()?))),
            LEN => {
                let len = usize::try_from(take_varint(&mut message)?).ok()?;
                Value::Bytes(take(&mut message, len)?)
            }
            _ => return None,
        };
        if key < 8 {
            return None;
        }
        fields.push((key >> 3, value));
    }
    Some(fields)
}

/// How many bytes the first field takes, where it is a string, bytes or a message.
pub(crate) fn first_len(message: &[u8]) -> Option<usize> {
    let mut rest = message;
    let kind = take_varint(&mut rest)? & 7;
    let len = usize::try_from(take_varint(&mut rest)?).ok()?;
    (kind == u64::from(LEN)).then_some(message.len() - rest.len() + len)
}

fn take<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(taken)
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(from, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Every {
        #[prost(int64, tag = "1")]
        integer: i64,
        #[prost(fixed64, tag = "2")]
        fixed: u64,
        #[prost(double, tag = "3")]
        double: f64,
        #[prost(string, tag = "4")]
        text: String,
        #[prost(message, repeated, tag = "500")]
        nested: Vec<Every>,
    }

    fn every() -> impl Strategy<Value = Every> {
        let leaf = (any::<i64>(), any::<u64>(), -1e9..1e9, "\\PC{0,200}").prop_map(
            |(integer, fixed, double, text)| Every { integer, fixed, double, text, nested: Vec::new() },
        );
        leaf.prop_recursive(3, 20, 4, |inner| {
            (inner.clone(), prop::collection::vec(inner, 0..4))
                .prop_map(|(every, nested)| Every { nested, ..every })
        })
    }

    fn write(every: &Every, padded: bool, out: &mut Vec<u8>) {
        integer(1, every.integer as u64, out);
        fixed64(2, every.fixed, out);
        fixed64(3, every.double.to_bits(), out);
        bytes(4, every.text.as_bytes(), out);
        for nested in &every.nested {
            if padded {
                let content = long(500, out, |out| write(nested, padded, out));
                assert_eq!(content.end, out.len());
            } else {
                message(500, out, |out| write(nested, padded, out));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn prost_reads_what_is_written(every in every(), padded in any::<bool>()) {
            let mut out = Vec::new();
            write(&every, padded, &mut out);
            prop_assert_eq!(Every::decode(&*out).unwrap(), every);
        }

        #[test]
        fn what_prost_writes_is_read(every in every()) {
            let written = every.encode_to_vec();
            let fields = fields(&written).unwrap();
            let number = |of| fields.iter().rfind(|(field, _)| *field == of).map_or(Value::Number(0), |(_, value)| *value);
            prop_assert_eq!(number(1), Value::Number(every.integer as u64));
            prop_assert_eq!(number(2), Value::Number(every.fixed));
            prop_assert_eq!(fields.iter().filter(|(field, _)| *field == 500).count(), every.nested.len());
        }

        #[test]
        fn any_bytes_are_read_or_refused(message in prop::collection::vec(any::<u8>(), 0..60)) {
            // Whatever prost takes for some message is one here too.
            if Every::decode(&*message).is_ok() && !message.iter().any(|byte| matches!(byte & 7, 3 | 4)) {
                prop_assert!(fields(&message).is_some());
            }
        }
    }

    #[test]
    fn text_is_no_message() {
        for text in ["<html>", "ok", "{}", "{\"a\":1}", "\u{0}"] {
            assert_eq!(fields(text.as_bytes()), None, "{text}");
        }
        assert_eq!(fields(b""), Some(Vec::new()));
    }
}
