//! Code that is hardened against those who control what is compiled: what indirect branches lead to, which bytes are
//! executable, where code lies.

mod branches;
mod constants;
mod places;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "one that throws is enough")]
#[path = "../support/throwing.rs"]
mod throwing;
