//! Any bytes are an object file: an error or a link, and nothing written but where it belongs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inkpot::__link_bytes(bytes));
