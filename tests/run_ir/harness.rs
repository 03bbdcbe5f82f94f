//! Builds C programs with clang 22, and runs them natively and through the example `run_ir`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No program here runs for longer, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(240);

/// How a run came out.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code; as shells have it, 128 and the signal for who dies of one.
    pub code: i32,
    /// All of its output.
    pub stdout: String,
}

/// An outcome, and what was said besides.
pub struct Run {
    /// What is compared with the native run.
    pub outcome: Outcome,
    /// All of its errors.
    pub stderr: String,
}

/// The example's executable: cargo builds the examples before it runs tests, into a folder beside theirs.
///
/// (`cargo test --test run_ir` alone builds no examples: `cargo build --example run_ir` goes before.)
pub fn run_ir() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/TEST");
    let path = profile.join("examples").join("run_ir");
    assert!(
        path.exists(),
        "{} is missing: cargo build --example run_ir",
        path.display()
    );
    path
}

/// Where clang 22 is. `None` only where `INKPOT_WITHOUT_CLANG=1` says that there is none, and that the tests which need
/// it shall be left out.
pub fn clang() -> Option<&'static str> {
    let works = |name: &&str| {
        let probe = Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        probe.is_ok_and(|status| status.success())
    };
    let found = ["clang-22"].into_iter().find(works);
    let without = std::env::var_os("INKPOT_WITHOUT_CLANG").is_some_and(|value| value == "1");
    assert!(
        found.is_some() || without,
        "clang-22 is missing: `make deps` installs it, and INKPOT_WITHOUT_CLANG=1 leaves these tests out"
    );
    found.filter(|_| !without)
}

/// A folder of this test's own.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("run_ir")
        .join(name);
    fs::create_dir_all(&folder).expect("a folder for what the test makes");
    folder
}

/// Compiles C source, to bitcode or to an executable by what `flags` say.
pub fn compile(clang: &str, source: &Path, output: &Path, flags: &[&str]) {
    let mut command = Command::new(clang);
    command
        .args(flags)
        .arg("-w")
        .arg(source)
        .arg("-o")
        .arg(output);
    if !flags.contains(&"-c") && !flags.contains(&"-S") {
        command.arg("-lm");
    }
    let done = command.output().expect("clang runs");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Runs a command to its end, with files for its streams: no pipe can fill up while nobody reads.
///
/// `name` tells the files of runs at the same time apart.
pub fn run<S: AsRef<OsStr>>(program: &Path, arguments: &[S], name: &Path, input: &str) -> Run {
    let file = |kind: &str| name.with_extension(kind);
    fs::write(file("in"), input).expect("the input");
    let mut child = Command::new(program)
        .args(arguments)
        .env("RUN_IR_TEST", "here")
        .stdin(File::open(file("in")).expect("the input"))
        .stdout(File::create(file("out")).expect("the output"))
        .stderr(File::create(file("err")).expect("the errors"))
        .spawn()
        .expect("the program starts");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().expect("a child");
            child.wait().expect("a child");
            panic!("{} takes too long", name.display());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    let read = |kind: &str| {
        String::from_utf8_lossy(&fs::read(file(kind)).expect("what it said")).into_owned()
    };
    Run {
        outcome: Outcome {
            code: status.code().or(signal).unwrap_or(-1),
            stdout: read("out"),
        },
        stderr: read("err"),
    }
}

/// Runs IR through `run_ir`.
pub fn run_through(flags: &str, file: &Path, arguments: &[&str], name: &str, input: &str) -> Run {
    let file_word = file.to_string_lossy();
    let mut words: Vec<&str> = flags.split_whitespace().collect();
    words.push(&file_word);
    if !arguments.is_empty() {
        words.push("--");
        words.extend(arguments);
    }
    run(&run_ir(), &words, &file.with_file_name(name), input)
}

/// Seconds of processor time that a child has taken so far. It may have ended, but has not been waited for.
#[allow(dead_code, reason = "one test and a bench ask")]
pub fn processor_seconds(child: u32) -> f64 {
    let (mut clock, mut time) = (0, std::mem::MaybeUninit::<libc::timespec>::uninit());
    // SAFETY: both are written by the calls.
    let time = unsafe {
        let failed = libc::clock_getcpuclockid(child as i32, &mut clock);
        assert_eq!(failed, 0, "the child is there");
        let failed = libc::clock_gettime(clock, time.as_mut_ptr());
        assert_eq!(failed, 0, "the child is there");
        time.assume_init()
    };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
