//! Fuzzes the decoding of an unroll that an actor sends.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    test_support::fuzz_targets::unroll(bytes);
});
