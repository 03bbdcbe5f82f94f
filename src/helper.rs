//! Being a helper process: see [`Builder::isolation`](crate::Builder::isolation).

pub use crate::isolate::run_if_helper;
