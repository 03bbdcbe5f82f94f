//! Tests that end, fork or starve their process: each runs in a process of its own.
//!
//! The test calls itself again: the same binary, this one test, and a variable of the environment
//! that says so.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const VARIABLE: &str = "INKPOT_TEST_CHILD";

/// How a child process ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub took: Duration,
    /// What it wrote, errors included.
    pub output: String,
}

impl Ended {
    /// Panics, with the output, unless the child exited with this code.
    #[track_caller]
    pub fn expect_code(&self, code: i32) {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{} after {:?}\n{}",
            self.status,
            self.took,
            self.output
        );
    }

    /// Panics, with the output, unless the child was ended by this signal.
    #[track_caller]
    pub fn expect_signal(&self, signal: i32) {
        assert_eq!(
            self.status.signal(),
            Some(signal),
            "{} after {:?}\n{}",
            self.status,
            self.took,
            self.output
        );
    }
}

/// Whether this process is the child.
pub fn is_child() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Runs a test's body in a process of its own, which may fork, and must end well within a minute.
#[track_caller]
pub fn alone(test: &str, body: impl FnOnce()) {
    if let Some(ended) = run(test, Duration::from_secs(60), body) {
        ended.expect_code(0);
    }
}

/// Runs the body of the test of this name (its path in the test binary) in a child process, and
/// says how that ended. `None` in the child itself, after the body has returned: the test then
/// returns too, and the process ends as `main` returns.
///
/// The child is killed after `patience`, and the test fails.
#[track_caller]
pub fn run(test: &str, patience: Duration, body: impl FnOnce()) -> Option<Ended> {
    if is_child() {
        no_core_files();
        body();
        return None;
    }
    let program = std::env::current_exe().expect("a test binary has a path");
    let started = Instant::now();
    let mut child = Command::new(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, test)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test binary runs");
    let readers = [
        reader(child.stdout.take().expect("piped")),
        reader(child.stderr.take().expect("piped")),
    ];
    let status = wait(&mut child, started, patience);
    let took = started.elapsed();
    let output = readers.map(|r| r.join().unwrap_or_default()).concat();
    match status {
        Some(status) => Some(Ended {
            status,
            took,
            output,
        }),
        None => panic!("the child was still running after {took:?}\n{output}"),
    }
}

fn reader(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child, started: Instant, patience: Duration) -> Option<ExitStatus> {
    while started.elapsed() < patience {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("it is our child");
    let _ = child.wait();
    None
}

fn no_core_files() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure lives through the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
}

/// Exits by `exit`, handlers and destructors included.
pub fn exit(code: i32) -> ! {
    // SAFETY: what tests leave running is what they test.
    unsafe { libc::exit(code) }
}

/// A forked child, to be waited for.
pub struct Forked(libc::pid_t);

/// Forks. The child runs `body` and ends with the code that it returns: by `_exit`, or by `exit`
/// if `by_exit`. A child that panics ends with 101, and one that hangs is ended by SIGALRM.
pub fn fork(by_exit: bool, body: impl FnOnce() -> i32) -> Forked {
    // SAFETY: the child runs on with one thread, which is what these tests are about.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid != 0 {
        return Forked(pid);
    }
    // SAFETY: without a handler the alarm ends the process.
    unsafe { libc::alarm(20) };
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
    if by_exit {
        exit(code);
    }
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(code) }
}

/// Forks where it stands: `None` in the child, which goes on as its parent does, and has to end by
/// `_exit`. A panic ends it with 101, wherever it would be caught (this may be a thread of the
/// harness's, which ends with 0 if it is the last one), and one that hangs is ended by SIGALRM.
pub fn fork_here() -> Option<Forked> {
    // SAFETY: the child runs on with one thread, which is what these tests are about.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid != 0 {
        return Some(Forked(pid));
    }
    std::panic::set_hook(Box::new(|panic| {
        let message = format!("in the forked child: {panic}\n");
        // SAFETY: the buffer is valid for its length; ends the process at once.
        unsafe {
            libc::write(2, message.as_ptr().cast(), message.len());
            libc::_exit(101)
        }
    }));
    // SAFETY: without a handler the alarm ends the process.
    unsafe { libc::alarm(20) };
    None
}

impl Forked {
    /// Waits for the child to end.
    pub fn wait(self) -> ExitStatus {
        let mut status = 0;
        loop {
            // SAFETY: `status` lives through the call.
            let ended = unsafe { libc::waitpid(self.0, &mut status, 0) };
            if ended == self.0 {
                return ExitStatus::from_raw(status);
            }
            let error = std::io::Error::last_os_error();
            assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
        }
    }

    /// Waits, and panics unless the child ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) {
        let status = self.wait();
        assert_eq!(status.code(), Some(code), "the forked child: {status}");
    }
}
