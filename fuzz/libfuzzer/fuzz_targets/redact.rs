//! `cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer redact fuzz/corpus/redact`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| auditship_fuzz::targets::run("redact", input));
