//! Fuzzes the decoding of weights that a learner sends.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    test_support::fuzz_targets::weights(bytes);
});
