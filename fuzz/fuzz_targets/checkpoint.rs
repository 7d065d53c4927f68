//! Fuzzes the decoding of a checkpoint file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hrm_fuzz::checkpoint(bytes);
});
