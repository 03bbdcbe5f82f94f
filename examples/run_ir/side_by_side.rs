//! Several instances of the program at once: `--threads N`.
//!
//! Each instance's thread has a table of file descriptors of its own, in which standard output and error are files in
//! memory; threads that it starts share that table. What libc's streams have buffered would be shared all the same, so
//! `stdout` is unbuffered: whatever a thread prints goes to its own instance's file before the call returns. At the end
//! all instances must have printed the same, and ended with the same code; [`crash`] is for those that do not get there.

use crate::crash;
use crate::handler_stack::HandlerStack;
use crate::instance::{End, Instance};
use std::ffi::c_int;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::exit;

/// The instances did not agree.
const DIFFERENT: i32 = 4;

/// As natively, where nothing else was asked for.
const STACK: usize = 8 << 20;

unsafe extern "C" {
    static mut stdout: *mut libc::FILE;
}

/// What an instance prints.
struct Output {
    out: File,
    err: File,
}

impl Output {
    fn new() -> Result<Self, String> {
        Ok(Self {
            out: in_memory()?,
            err: in_memory()?,
        })
    }

    /// Makes the calling thread print here, and with it those that it starts.
    fn redirect(&self) -> Result<(), String> {
        // SAFETY: descriptors that are open; the table is the thread's own from the first call on.
        let failed = unsafe {
            libc::unshare(libc::CLONE_FILES) != 0
                || libc::dup2(self.out.as_raw_fd(), libc::STDOUT_FILENO) < 0
                || libc::dup2(self.err.as_raw_fd(), libc::STDERR_FILENO) < 0
        };
        match failed {
            true => Err(format!(
                "a thread cannot have descriptors of its own: {}",
                std::io::Error::last_os_error()
            )),
            false => Ok(()),
        }
    }

    fn read(mut self) -> Result<[Vec<u8>; 2], String> {
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind()
                .and_then(|()| file.read_to_end(&mut bytes))
                .map(|_| bytes)
                .map_err(|error| error.to_string())
        };
        Ok([read(&mut self.out)?, read(&mut self.err)?])
    }
}

fn in_memory() -> Result<File, String> {
    // SAFETY: a string of C, and a descriptor that is nobody else's.
    unsafe {
        match libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC) {
            fd if fd < 0 => Err(std::io::Error::last_os_error().to_string()),
            fd => Ok(File::from_raw_fd(fd)),
        }
    }
}

/// Runs `live` with each instance on a thread of its own, and ends the process with what they agree on; `report` runs
/// before that. Comes back only if they could not be started.
pub fn run(
    instances: &[&'static Instance],
    live: impl Fn(&'static Instance) -> String + Copy + Send + 'static,
    report: impl FnOnce(),
) -> Result<std::convert::Infallible, String> {
    crash::watch_side_by_side();
    // SAFETY: nothing has been printed yet.
    unsafe { libc::setvbuf(stdout, std::ptr::null_mut(), libc::_IONBF, 0) };
    let mut outputs = Vec::new();
    for &instance in instances {
        let output = Output::new()?;
        let (out, err) = (output.out.try_clone(), output.err.try_clone());
        let theirs = Output {
            out: out.map_err(|error| error.to_string())?,
            err: err.map_err(|error| error.to_string())?,
        };
        outputs.push(output);
        let thread = std::thread::Builder::new()
            .name(format!("instance {}", instance.number))
            .stack_size(STACK);
        let started = thread.spawn(move || {
            // It stays: the thread does.
            std::mem::forget(HandlerStack::of_this_thread());
            let failed = match theirs.redirect() {
                Ok(()) => live(instance),
                Err(message) => message,
            };
            instance.finish(Err(failed));
        });
        started.map_err(|error| error.to_string())?;
    }
    let ends: Vec<End> = instances.iter().map(|i| i.wait_for_end()).collect();
    let mut printed = Vec::new();
    for output in outputs {
        printed.push(output.read()?);
    }
    let code = agree(&ends, &printed)?;
    for (bytes, mut to) in printed[0].iter().zip([
        Box::new(std::io::stdout()) as Box<dyn Write>,
        Box::new(std::io::stderr()),
    ]) {
        // Whoever listens may be gone.
        let _ = to.write_all(bytes).and_then(|()| to.flush());
    }
    report();
    exit(code)
}

/// The exit code of all; ends the process where they differ.
fn agree(ends: &[End], printed: &[[Vec<u8>; 2]]) -> Result<c_int, String> {
    let code = ends[0].clone()?;
    for (number, (end, bytes)) in ends.iter().zip(printed).enumerate().skip(1) {
        let what = match end {
            Err(message) => format!("could not run: {message}"),
            Ok(other) if *other != code => format!("ended with {other}, and the first with {code}"),
            Ok(_) => match bytes.iter().zip(&printed[0]).position(|(a, b)| a != b) {
                None => continue,
                Some(stream) => difference(stream, &bytes[stream], &printed[0][stream]),
            },
        };
        eprintln!("run_ir: instance {number} of {} {what}", ends.len());
        exit(DIFFERENT);
    }
    Ok(code)
}

fn difference(stream: usize, theirs: &[u8], first: &[u8]) -> String {
    let at = theirs.iter().zip(first).position(|(a, b)| a != b);
    let at = at.unwrap_or(theirs.len().min(first.len()));
    let shown = |bytes: &[u8]| {
        let from = at.saturating_sub(20);
        let to = bytes.len().min(at + 20);
        String::from_utf8_lossy(&bytes[from.min(to)..to]).into_owned()
    };
    format!(
        "differs from the first in what it printed to {}, from byte {at} on: {:?} and {:?}",
        ["standard output", "standard error"][stream],
        shown(theirs),
        shown(first)
    )
}
