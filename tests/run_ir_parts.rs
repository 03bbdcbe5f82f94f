//! The unit tests of the example `run_ir`.
//!
//! Cargo builds an example either to run it or to test it; `tests/run_ir.rs` needs it to run. So its parts are taken
//! in here, for the tests that stand in them.

#![allow(dead_code)]

include!("run_ir/parts.rs");
