//! `cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer scan fuzz/corpus/scan`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| auditship_fuzz::targets::run("scan", input));
