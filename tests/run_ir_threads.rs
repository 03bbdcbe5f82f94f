//! Several instances of a program side by side: `run_ir --threads N`.

#[path = "run_ir/harness.rs"]
#[allow(dead_code)]
mod harness;

use harness::{clang, compile, run, run_through, scratch};
use std::fs;
use std::path::{Path, PathBuf};

const WAYS: [&str; 3] = [
    "--threads 4",
    "--threads 3 --code-budget 64KiB --opt 0",
    "--threads 4 --code-budget 16KiB --stress --opt 2",
];

fn source(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(program)
}

/// Instances agree with each other, and with the native build.
fn check(programs: &[&str]) {
    let Some(clang) = clang() else { return };
    for program in programs {
        let folder = scratch(&format!("threads-{program}"));
        let (native, bitcode) = (folder.join("native"), folder.join("program.bc"));
        compile(clang, &source(program), &native, &["-O1", "-pthread"]);
        let flags = ["-O1", "-c", "-emit-llvm"];
        compile(clang, &source(program), &bitcode, &flags);
        let expected = run::<&str>(&native, &[], &folder.join("native-run"), "").outcome;
        for (index, way) in WAYS.iter().enumerate() {
            let got = run_through(way, &bitcode, &[], &format!("run{index}"), "");
            assert_eq!(got.outcome, expected, "{program} {way}\n{}", got.stderr);
        }
    }
}

#[test]
fn globals_and_labels() {
    check(&[
        "statics.c",
        "literals.c",
        "linked_globals.c",
        "escaping_labels.c",
        "direct_threading.c",
        "main_with_labels.c",
        "constructors.c",
    ]);
}

#[test]
fn calls() {
    check(&[
        "callbacks.c",
        "jumps.c",
        "varargs.c",
        "recursion.c",
        "heap.c",
    ]);
}

/// `exit` ends its instance only, and handlers are the instance's.
#[test]
fn ends() {
    check(&[
        "exit_order.c",
        "exit_deep.c",
        "abort_inside.c",
        "null_call.c",
        "divide_by_zero.c",
        "ends.c",
    ]);
}

/// Threads of an instance belong to it.
#[test]
fn threads() {
    check(&[
        "threads_mutex.c",
        "threads_specific.c",
        "threads_main_exit.c",
        "thread_local_many.c",
        "thread_local_one.c",
        "large_workers.c",
    ]);
}

#[test]
fn an_interpreter() {
    check(&["large_stack_language.c"]);
}

/// The handler that shows what was printed has a stack of its own.
#[test]
fn a_stack_overflow() {
    let text = "#include <stdio.h>
        static volatile int zero;
        static int down(int n) { volatile char room[500]; room[n % 500] = 1; return down(n + 1 - zero) + room[0]; }
        int main(void) { printf(\"going down\\n\"); fflush(stdout); return down(0); }";
    let Some(run) = run_text("overflow", text, "--threads 2") else {
        return;
    };
    let (code, stdout) = (run.outcome.code, run.outcome.stdout);
    assert_eq!(
        (code, stdout.as_str()),
        (139, "going down\n"),
        "{}",
        run.stderr
    );
}

fn run_text(name: &str, text: &str, flags: &str) -> Option<harness::Run> {
    let clang = clang()?;
    let folder = scratch(&format!("threads-{name}"));
    let (c, bitcode) = (folder.join("program.c"), folder.join("program.bc"));
    fs::write(&c, text).unwrap();
    compile(clang, &c, &bitcode, &["-O1", "-c", "-emit-llvm"]);
    Some(run_through(flags, &bitcode, &[], "run", ""))
}

/// What depends on the thread differs: that is said, and nothing else is printed.
#[test]
fn differences() {
    let output = "#define _GNU_SOURCE
        #include <stdio.h>
        #include <unistd.h>
        int main(void) { printf(\"same\\n%d\\n\", gettid()); return 0; }";
    let Some(run) = run_text("output", output, "--threads 3") else {
        return;
    };
    assert_eq!((run.outcome.code, run.outcome.stdout.as_str()), (4, ""));
    assert!(run.stderr.contains("standard output"), "{}", run.stderr);
    let code = "#define _GNU_SOURCE
        #include <unistd.h>
        int main(void) { return gettid() & 0x7f; }";
    let run = run_text("code", code, "--threads 3").expect("clang is there");
    assert_eq!(run.outcome.code, 4, "{}", run.stderr);
}

/// What instances would share by nature is refused by name; alone the program runs.
#[test]
fn refusals() {
    let text = "#include <signal.h>
        #include <unistd.h>
        static void handler(int s) { (void)s; }
        static int installs(void) { return signal(SIGUSR1, handler) == SIG_ERR; }
        int main(void) { return installs() + chdir(\"/\"); }";
    let Some(run) = run_text("refused", text, "--threads 2") else {
        return;
    };
    assert_eq!(run.outcome.code, 3, "{}", run.stderr);
    for word in ["signal", "chdir"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
    let alone = run_text("alone", text, "--threads 1").expect("clang is there");
    assert_eq!(alone.outcome.code, 0, "{}", alone.stderr);
}
