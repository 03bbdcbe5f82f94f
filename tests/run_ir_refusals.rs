//! What the example `run_ir` does not run: programs it refuses by name, and files that are no programs.

#[path = "run_ir/harness.rs"]
#[allow(dead_code)]
mod harness;

use harness::{clang, compile, run_through, scratch};
use std::fs;
use std::path::Path;

/// Runs IR text; exit code and what was said.
fn refuse(folder: &Path, name: &str, text: &str) -> (i32, String) {
    let file = folder.join(name).with_extension("ll");
    fs::write(&file, text).unwrap();
    let run = run_through("", &file, &[], &format!("{name}-run"), "");
    assert_eq!(run.outcome.stdout, "", "{name} ran");
    (run.outcome.code, run.stderr)
}

const MAIN: &str = "define i32 @main() {\n ret i32 0\n}\n";

/// IR, and the words that the refusal must have.
const REFUSED: &[(&str, &str, &[&str])] = &[
    (
        "exceptions",
        "declare i32 @llvm.eh.sjlj.setjmp(ptr)
         define i32 @risky(ptr %b) {\n %r = call i32 @llvm.eh.sjlj.setjmp(ptr %b)\n ret i32 %r\n}",
        &["exception handling by setjmp", "risky"],
    ),
    ("extern_threads", "@other = external thread_local global i32\ndefine ptr @f() {\n ret ptr @other\n}", &["thread-local", "other"]),
    (
        "constructors",
        "declare void @tzset()
         @llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 65535, ptr @tzset, ptr null }]",
        &["constructors", "tzset"],
    ),
    (
        "indirect",
        "@chosen = ifunc void (), ptr @resolver\ndefine ptr @resolver() {\n ret ptr null\n}
         @llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 65535, ptr @chosen, ptr null }]",
        &["constructors", "indirect functions", "chosen"],
    ),
    ("assembly", "module asm \"nop\"", &["module-level assembly"]),
    (
        "tail",
        "define tailcc i32 @by_tail() {\n ret i32 0\n}\ndefine swifttailcc i32 @swiftly() {\n ret i32 0\n}\ndefine ghccc void @ghc() {\n ret void\n}",
        &["tailcc", "by_tail", "swifttailcc", "swiftly", "GHC", "ghc"],
    ),
    (
        "tail_call",
        "define i32 @calls(ptr %f) {\n %r = call tailcc i32 %f()\n ret i32 %r\n}",
        &["tailcc", "calls"],
    ),
    (
        "unresolved",
        "declare i32 @no_such_function()\n@no_such_variable = external global i32
         define i32 @user() {\n %a = call i32 @no_such_function()\n %b = load i32, ptr @no_such_variable\n ret i32 %b\n}",
        &["unresolved", "no_such_function", "no_such_variable", "user"],
    ),
    (
        "child_processes",
        "declare i32 @fork()
         define i32 @spawns() {\n %a = call i32 @fork()\n ret i32 %a\n}",
        &["fork", "spawns"],
    ),
    (
        "daemons",
        "declare i32 @daemon(i32, i32)\ndeclare i32 @forkpty(ptr, ptr, ptr, ptr)
         define i32 @hides() {\n %a = call i32 @daemon(i32 0, i32 0)\n ret i32 %a\n}
         define i32 @types() {\n %a = call i32 @forkpty(ptr null, ptr null, ptr null, ptr null)\n ret i32 %a\n}",
        &["daemon", "hides", "forkpty", "types"],
    ),
    (
        "system_calls",
        "declare i64 @syscall(i64, ...)
         define i64 @forks() {\n %a = call i64 (i64, ...) @syscall(i64 57)\n ret i64 %a\n}
         define i64 @clones() {\n %a = call i64 (i64, ...) @syscall(i64 56, i64 0, i64 0)\n ret i64 %a\n}
         define i64 @asks() {\n %a = call i64 (i64, ...) @syscall(i64 39)\n ret i64 %a\n}",
        &["child processes", "system call 57): forks", "threads (system call 56): clones"],
    ),
    (
        "bad_assembly",
        "define i32 @unknown() {\n call void asm sideeffect \"frobnicate $0\", \"r\"(i32 1)\n ret i32 0\n}",
        &["inline assembly", "frobnicate", "unknown"],
    ),
    (
        "bad_constraint",
        "define i32 @unfit(i32 %x) {\n call void asm sideeffect \"nop $0\", \"i\"(i32 %x)\n ret i32 0\n}",
        &["inline assembly", "unfit"],
    ),
    (
        "bad_assembly_of_the_globals",
        "@table = global ptr blockaddress(@mixed, %a)
         define i32 @mixed(ptr %l) {\n store ptr %l, ptr @table\n call void asm sideeffect \"frobnicate\", \"\"()\n indirectbr ptr %l, [label %a]\na:\n ret i32 0\n}",
        &["inline assembly", "frobnicate", "mixed"],
    ),
    (
        "alignment",
        "@huge = internal global i32 0, align 4194304\ndefine i32 @f() align 8388608 {\n %v = load volatile i32, ptr @huge\n ret i32 %v\n}",
        &["alignment", "huge", "f"],
    ),
    (
        "signals",
        "declare ptr @sigset(i32, ptr)\ndefine void @handler(i32 %s) {\n ret void\n}
         define ptr @installs() {\n %a = call ptr @sigset(i32 2, ptr @handler)\n ret ptr %a\n}",
        &["sigset", "installs"],
    ),
    ("machine", "target triple = \"aarch64-unknown-linux-gnu\"", &["triple", "aarch64-unknown-linux-gnu"]),
    ("windows", "target triple = \"x86_64-pc-windows-msvc\"", &["triple", "x86_64-pc-windows-msvc"]),
    (
        "collected",
        "define void @managed() gc \"shadow-stack\" {\n ret void\n}",
        &["garbage collection", "managed"],
    ),
    (
        "prefixed",
        "define void @prefixed() prefix i32 7 {\n ret void\n}",
        &["prefix", "prefixed"],
    ),
];

#[test]
fn by_name() {
    let folder = scratch("refused");
    for (name, text, words) in REFUSED {
        let (code, said) = refuse(&folder, name, &format!("{text}\n{MAIN}"));
        assert_eq!(code, 3, "{name}: {said}");
        for word in *words {
            assert!(said.contains(word), "{name}: {word} is missing in\n{said}");
        }
    }
}

/// A program with many reasons is told all of them.
#[test]
fn all_reasons_at_once() {
    let folder = scratch("reasons");
    let all: Vec<&str> = REFUSED
        .iter()
        .filter(|(name, ..)| {
            ["extern_threads", "constructors", "unresolved", "assembly"].contains(name)
        })
        .map(|(_, text, _)| *text)
        .collect();
    let (code, said) = refuse(&folder, "all", &all.join("\n"));
    assert_eq!(code, 3);
    for word in [
        "thread-local",
        "tzset",
        "no_such_function",
        "assembly",
        "no function main",
    ] {
        assert!(said.contains(word), "{word} is missing in\n{said}");
    }
}

/// Ignored signals, empty lists and C-like conventions are no reasons.
#[test]
fn what_looks_like_a_reason() {
    let folder = scratch("harmless");
    let text = "declare ptr @signal(i32, ptr)
        @llvm.global_ctors = appending global [0 x { i32, ptr, ptr }] zeroinitializer
        @weak = extern_weak global i32
        define internal fastcc i32 @fast(i32 %a) {\n ret i32 %a\n}
        define internal coldcc i32 @cold(i32 %a) {\n %r = tail call fastcc i32 @fast(i32 %a)\n ret i32 %r\n}
        define i32 @main() {
         call ptr @signal(i32 13, ptr inttoptr (i64 1 to ptr))
         call ptr @signal(i32 13, ptr null)
         %null = icmp eq ptr @weak, null
         %wide = zext i1 %null to i32
         %r = call coldcc i32 @cold(i32 %wide)
         ret i32 %r
        }";
    let (code, said) = refuse(&folder, "program", text);
    assert_eq!(code, 1, "{said}");
}

#[test]
fn mistakes_in_the_command() {
    let folder = scratch("mistakes");
    let file = folder.join("program.ll");
    fs::write(&file, MAIN).unwrap();
    for (index, flags) in [
        "--nope",
        "--opt 4",
        "--code-budget much",
        "--policy fifo",
        "two",
    ]
    .iter()
    .enumerate()
    {
        let run = run_through(flags, &file, &[], &format!("run{index}"), "");
        assert_eq!(run.outcome.code, 2, "{flags}");
        assert!(run.stderr.contains("usage:"), "{flags}: {}", run.stderr);
    }
}

#[test]
fn missing_and_damaged_files() {
    let folder = scratch("damaged");
    let missing = run_through("", &folder.join("missing.bc"), &[], "missing-run", "");
    assert_eq!(missing.outcome.code, 2);
    assert!(missing.stderr.contains("missing.bc"), "{}", missing.stderr);
    for (name, text) in [
        ("empty", ""),
        ("prose", "This is no program."),
        ("cut", "define i32 @main() {\n ret i32"),
        ("wrong", "define i32 @main() {\n ret i64 %nothing\n}"),
        (
            "invalid",
            "define i32 @main() {\n %a = add i32 %b, 1\n %b = add i32 %a, 1\n ret i32 %a\n}",
        ),
    ] {
        let (code, said) = refuse(&folder, name, text);
        assert_eq!(code, 2, "{name}: {said}");
        assert!(said.contains("not a valid program"), "{name}: {said}");
    }
}

/// Bitcode cut short or with bits turned over never gets further than a message. (It is of a program that would
/// be refused: what survives the damage must not start to run.)
#[test]
fn damaged_bitcode() {
    let Some(clang) = clang() else { return };
    let folder = scratch("damaged_bitcode");
    let (c, good) = (folder.join("program.c"), folder.join("program.bc"));
    let text = "int no_such_function(const char *, double);
        static int table[] = {1, 2, 3};
        static int twice(int x) { static void *l[] = {&&a, &&b}; goto *l[x & 1]; a: return x; b: return 2 * x; }
        int main(int c, char **v) { for (int i = 0; i < c; i++) table[i % 3] += twice(c);
            return no_such_function(v[0], table[1] * 0.5); }";
    fs::write(&c, text).unwrap();
    compile(clang, &c, &good, &["-c", "-emit-llvm"]);
    let bytes = fs::read(&good).unwrap();
    let mut random = 88_172_645_463_325_252_u64;
    for case in 0..60 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut damaged = bytes.clone();
        match case % 3 {
            0 => damaged.truncate(random as usize % bytes.len()),
            _ => damaged[(random >> 8) as usize % bytes.len()] ^= 1 << (random & 7),
        }
        let file = folder.join(format!("{case}.bc"));
        fs::write(&file, damaged).unwrap();
        let run = run_through("", &file, &[], &format!("run{case}"), "");
        assert!(
            [2, 3].contains(&run.outcome.code),
            "{case}: {} {}",
            run.outcome.code,
            run.stderr
        );
        assert!(!run.stderr.is_empty(), "{case}");
    }
}
