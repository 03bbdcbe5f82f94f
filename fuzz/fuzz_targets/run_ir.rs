//! Any bytes are a program, as IR or as bitcode: read, checked and taken apart, or refused with a message. LLVM may crash
//! on what is damaged: then the example ends with a message, as it should, and what it ends with is no find.

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../bodies/run_ir.rs"]
mod body;

include!("../../tests/run_ir/parts.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    body::run(bytes);
});
