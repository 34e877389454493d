//! `cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer lines fuzz/corpus/lines`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| auditship_fuzz::targets::run("lines", input));
