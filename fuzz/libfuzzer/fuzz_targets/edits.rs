//! `cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer edits fuzz/corpus/edits`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| auditship_fuzz::targets::run("edits", input));
