//! `cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer nested fuzz/corpus/nested`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| auditship_fuzz::targets::run("nested", input));
