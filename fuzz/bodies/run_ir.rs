//! Bytes as a program, up to where it would start to run. For the fuzzer and for `tests/fuzz_corpus.rs`.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};

use crate::options::Options;
use crate::prepare::{Stop, prepare};

/// Whether it is a program that runs.
pub fn run(bytes: &[u8]) -> bool {
    // SAFETY: a file in memory, owned by the result.
    let mut file = unsafe { File::from_raw_fd(libc::memfd_create(c"program".as_ptr(), 0)) };
    file.write_all(bytes).expect("a file in memory");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let options = Options::parse([path.into()]).expect("a file is enough");
    match prepare(&options) {
        Ok(mut program) => {
            for name in program.methods.clone() {
                program.pieces.get(&name).expect("no method got lost");
            }
            true
        }
        Err(Stop::Mistake(message)) => {
            assert!(!message.is_empty());
            false
        }
        Err(Stop::Refused(reasons)) => {
            assert!(!reasons.is_empty());
            false
        }
    }
}
