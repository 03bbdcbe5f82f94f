//! Any bytes are a sequence of things done with a cache.

#![no_main]

#[path = "../bodies/cache.rs"]
mod cache;
#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cache::run(bytes));
