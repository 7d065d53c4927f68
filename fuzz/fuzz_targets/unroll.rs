//! Fuzzes the decoding of an unroll that an actor sends.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hrm_fuzz::unroll(bytes);
});
