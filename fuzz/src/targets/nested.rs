//! The decoders: any text with a credential at its end, in JSON inside of strings, in base64, in gzip inside of base64.

use super::redact::body;
use auditship_event::Event;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use std::io::Write;

/// A token of a form that is known everywhere. In pieces, so that no scanner takes this file for a leak.
const TOKEN: &str = concat!("ghp", "_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");

pub(super) fn run(input: &[u8]) {
    let (choice, rest) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
    let text = format!("{}\n{TOKEN}\n", String::from_utf8_lossy(rest));
    let packed = match choice % 8 {
        0 => STANDARD.encode(&text),
        1 => STANDARD_NO_PAD.encode(&text),
        2 => URL_SAFE.encode(&text),
        3 => URL_SAFE_NO_PAD.encode(&text),
        4 => STANDARD.encode(gzip(text.as_bytes())),
        5 => STANDARD.encode(STANDARD.encode(gzip(text.as_bytes()))),
        6 => STANDARD.encode(&gzip(text.as_bytes())[..24]),
        _ => text.clone(),
    };
    let mut document = packed.clone();
    for _ in 0..choice / 8 % 5 {
        document = serde_json::json!({"kind": "ConfigMap", "data": {"x": document}}).to_string();
    }
    let event = serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "requestObject": {"kind": "ConfigMap", "data": {"x": document}}
    })
    .to_string();
    let out = body(&Event::parse(event.as_bytes()).expect("serde writes JSON"));
    let left = match choice % 8 {
        // The stream breaks off before the token.
        6 => false,
        7 => memchr::memmem::find(&out, TOKEN.as_bytes()).is_some(),
        _ => memchr::memmem::find(&out, packed.as_bytes()).is_some(),
    };
    assert!(!left, "a token leaves");
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text).expect("memory takes all");
    gz.finish().expect("memory takes all")
}
