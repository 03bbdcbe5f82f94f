//! Damaged IR and bitcode, in text and in binary: whatever the bytes are, `run_ir` ends with a message or has a valid
//! program, and never crashes.
//!
//! Each case is read, checked and taken apart in a forked child, up to where it would start to run. `INKPOT_SOAK=1`
//! makes it 10,000 cases, `INKPOT_SOAK=20` twenty times as many; a case is made from its number alone.

#![allow(dead_code, unused_imports)]

include!("run_ir/parts.rs");

use inkwell::context::Context;
use inkwell::memory_buffer::MemoryBuffer;
use options::Options;
use prepare::{Stop, prepare};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};

/// Cases of the short form and of the long one.
const FEW: u64 = 400;
const MANY: u64 = 10_000;

/// A child that takes longer, on a busy machine too, would not end.
const SECONDS: u32 = 120;

/// Address space for a child: a size that is damaged must not take all of the machine's.
const MOST_MEMORY: u64 = 8 << 30;

/// A larger file says nothing that a smaller one does not, and costs more.
const LARGEST: usize = 40 << 10;

struct Random(u64);

impl Random {
    /// SplitMix64, so that neighbouring cases have nothing in common.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Programs of the corpus, as bitcode, and as text.
fn programs() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let mut files: Vec<PathBuf> = [folder.clone(), folder.join("bitcode")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("the corpus"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "bc" || e == "ll"))
        .collect();
    files.sort();
    let read = |path: &PathBuf| fs::read(path).expect("a file of the corpus");
    let programs = files
        .iter()
        .map(read)
        .filter(|program| program.len() < LARGEST);
    programs
        .flat_map(|program| [text_of(&program), program])
        .collect()
}

fn text_of(program: &[u8]) -> Vec<u8> {
    let context = Context::create();
    let buffer = MemoryBuffer::create_from_memory_range_copy(program, "program");
    let module = context
        .create_module_from_ir(buffer)
        .expect("a valid program");
    module.print_to_string().to_bytes().to_vec()
}

/// Cuts a file, turns bits over, or writes, copies and takes out some bytes.
fn damage(random: &mut Random, file: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        if file.is_empty() {
            return;
        }
        let at = random.below(file.len());
        let length = random.below(64).min(file.len() - at);
        match random.below(8) {
            0 => file.truncate(at),
            1..=3 => file[at] ^= 1 << random.below(8),
            4 => file[at] = random.next() as u8,
            5 => {
                let from = random.below(file.len() - length + 1);
                file.copy_within(from..from + length, at);
            }
            6 => drop(file.drain(at..at + length)),
            _ => {
                // A word of text elsewhere, or a number: what parses, and means something else.
                let from = random.below(file.len());
                let is_end = |byte: &u8| !byte.is_ascii_alphanumeric();
                let word: Vec<u8> = file[from..]
                    .iter()
                    .copied()
                    .take_while(|b| !is_end(b))
                    .take(30)
                    .collect();
                file.splice(at..at, word);
            }
        }
    }
}

/// How it ended.
#[derive(Default, Debug)]
struct Ends {
    valid: u32,
    wrong: u32,
    refused: u32,
    /// Of `wrong`: LLVM crashed.
    crashes: u32,
}

/// What a child does: all that `run_ir` does before it starts a program. Returns the exit code.
fn attempt(options: &Options) -> i32 {
    match prepare(options) {
        Ok(mut program) => {
            let names = program.methods.clone();
            for name in names.iter().take(2).chain(names.last()) {
                if let Err(message) = program.pieces.get(name) {
                    eprintln!("{name} got lost: {message}");
                    return 1;
                }
            }
            0
        }
        Err(Stop::Mistake(message)) => {
            eprintln!("run_ir: {message}");
            2
        }
        Err(Stop::Refused(reasons)) => {
            eprintln!("run_ir: cannot run it: {reasons:?}");
            3
        }
    }
}

/// Runs `attempt` in a child: its exit code or signal, and what it said.
fn in_child(options: &Options) -> (Result<i32, i32>, String) {
    // SAFETY: a file in memory, owned by the result.
    let mut said = unsafe { fs::File::from_raw_fd(libc::memfd_create(c"said".as_ptr(), 0)) };
    // SAFETY: this is the one thread of the process that does anything, so the child can go on as it pleases; it ends
    // without running anything of the parent's.
    let status = unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::dup2(said.as_raw_fd(), 2);
            let most = libc::rlimit {
                rlim_cur: MOST_MEMORY,
                rlim_max: MOST_MEMORY,
            };
            libc::setrlimit(libc::RLIMIT_AS, &most);
            libc::alarm(SECONDS);
            libc::_exit(attempt(options));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        status
    };
    let mut text = Vec::new();
    said.seek(SeekFrom::Start(0)).expect("a file in memory");
    said.read_to_end(&mut text).expect("a file in memory");
    let text = String::from_utf8_lossy(&text).into_owned();
    match libc::WIFEXITED(status) {
        true => (Ok(libc::WEXITSTATUS(status)), text),
        false => (Err(libc::WTERMSIG(status)), text),
    }
}

/// What the fuzzer has found worth keeping (`fuzz/`).
fn replay(options: &Options, file: &Path) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/run_ir");
    let mut ran = 0;
    for entry in fs::read_dir(folder).expect("the corpus") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, file).expect("a copy");
        let (end, said) = in_child(options);
        assert!(
            matches!(end, Ok(0 | 2 | 3)),
            "{}: {end:?}: {said}",
            path.display()
        );
        ran += u32::from(end == Ok(0));
    }
    assert!(ran > 5, "{ran}");
}

fn main() {
    // Without a harness, whose threads would be in the middle of something when a child is forked.
    if std::env::args().any(|word| word == "--list") {
        return;
    }
    let soak = std::env::var("INKPOT_SOAK").map_or(0, |value| value.parse().unwrap_or(1));
    let cases = if soak > 0 { MANY * soak } else { FEW };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("run_ir_damaged");
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("program");
    let command = [file.to_string_lossy().into_owned()];
    let options = Options::parse(command.map(Into::into)).expect("a file is enough");
    replay(&options, &file);
    let programs = programs();
    assert!(programs.len() > 100, "{}", programs.len());
    let mut ends = Ends::default();
    for case in 0..cases {
        let mut random = Random(case << 8);
        let mut program = programs[random.below(programs.len())].clone();
        damage(&mut random, &mut program);
        fs::write(&file, &program).expect("the file");
        let (end, said) = in_child(&options);
        match end {
            Ok(0) => ends.valid += 1,
            Ok(2) => ends.wrong += 1,
            Ok(3) => ends.refused += 1,
            other => {
                let kept = folder.join(format!("case-{case}"));
                fs::copy(&file, &kept).expect("a copy");
                panic!("case {case} ({}): {other:?}: {said}", kept.display());
            }
        }
        assert_eq!(end == Ok(0), said.is_empty(), "case {case}: {said}");
        ends.crashes += u32::from(said.contains("LLVM crashed"));
    }
    println!("{cases} cases: {ends:?}");
    let least = cases as u32 / 20;
    assert!(ends.valid > least && ends.wrong > least, "{ends:?}");
}
