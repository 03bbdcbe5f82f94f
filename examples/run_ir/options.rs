//! The command line.

#[path = "../churn/stress.rs"]
mod stress;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use inkpot::Stress;

use self::stress::stress;

/// What `--help` and every mistake print.
pub const USAGE: &str = "\
usage: run_ir [flags] FILE.ll|FILE.bc [-- ARGS]

Runs a C or C++ program in LLVM IR, each function compiled when first called.

  --code-budget SIZE   evict functions beyond so much code (64KiB, 1MiB, or bytes)
  --opt 0..3           level of LLVM's code generator, and of its passes over what is not optimised yet (default 1)
  --tiers              quick code first, and the level for what is called often or has loops (default 2 then)
  --policy lru|sieve   which functions are evicted first (default lru)
  --load LIB           resolve names in this shared library too (libstdc++.so.6); repeatable
  --threads N          run N instances of the program at once, in one cache, and compare what they print
  --debug-info         keep debug information in what is compiled (it is dropped otherwise)
  --stats              print the cache's statistics at the end, as JSON on the last line of stderr
  --stress             evict, invalidate and recycle far more often than there is need
  --stress-of MODES    only some of that: evict, invalidate, recycle, move, quarantine, between commas
  --harden             begin what can be jumped to with ENDBR64, and load constants from data
  --isolate            have LLVM run in a process of its own, which the program may see as a child of its own

Exit codes: the program's own; 2 for a mistake in the command or the file; 3 for a program that
run_ir cannot run, with the reasons; 4 if instances of a program differed.";

/// Which functions are evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyName {
    /// The least recently used.
    Lru,
    /// By the SIEVE algorithm.
    Sieve,
}

/// The command line, understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The program.
    pub file: PathBuf,
    /// What the program finds from `argv[1]` on.
    pub arguments: Vec<OsString>,
    /// Bytes of code to stay within.
    pub code_budget: Option<u64>,
    /// 0 to 3.
    pub opt: u8,
    /// Whether functions get quick code first.
    pub tiers: bool,
    /// Which functions are evicted first.
    pub policy: PolicyName,
    /// Shared libraries whose names resolve besides libc's and libm's.
    pub libraries: Vec<OsString>,
    /// Instances of the program that run side by side.
    pub threads: u32,
    /// Whether debug information is kept.
    pub debug_info: bool,
    /// Whether to print statistics.
    pub stats: bool,
    /// Whether to evict without need.
    pub stress: Stress,
    /// Whether to harden code against who wrote the program.
    pub harden: bool,
    /// Whether to compile in another process.
    pub isolate: bool,
}

impl Options {
    /// Understands the words after the command's name; the error is a message, empty when help was asked for.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
        let mut words = words.into_iter();
        let (mut file, mut opt) = (None, None);
        let mut options = Options {
            file: PathBuf::new(),
            arguments: Vec::new(),
            code_budget: None,
            opt: 1,
            tiers: false,
            policy: PolicyName::Lru,
            libraries: Vec::new(),
            threads: 1,
            debug_info: false,
            stats: false,
            stress: Stress::default(),
            harden: false,
            isolate: false,
        };
        while let Some(word) = words.next() {
            let shown = word.to_string_lossy();
            let mut value = || words.next().ok_or_else(|| format!("{shown} needs a value"));
            match shown.as_ref() {
                "--" => {
                    options.arguments = words.collect();
                    break;
                }
                "--code-budget" => options.code_budget = Some(size(text(&value()?)?)?),
                "--opt" => opt = Some(level(text(&value()?)?)?),
                "--tiers" => options.tiers = true,
                "--policy" => options.policy = policy(text(&value()?)?)?,
                "--load" => options.libraries.push(value()?),
                "--threads" => options.threads = threads(text(&value()?)?)?,
                "--debug-info" => options.debug_info = true,
                "--stats" => options.stats = true,
                "--stress" => options.stress = Stress::a_lot_with_invalidation(),
                "--stress-of" => options.stress = stress(text(&value()?)?)?,
                "--harden" => options.harden = true,
                "--isolate" => options.isolate = true,
                "--help" | "-h" => return Err(String::new()),
                flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}")),
                _ if file.is_some() => {
                    return Err(format!("{shown}: the program's arguments go after --"));
                }
                _ => file = Some(PathBuf::from(&word)),
            }
        }
        options.file = file.ok_or("no file")?;
        options.opt = opt.unwrap_or(if options.tiers { 2 } else { 1 });
        Ok(options)
    }
}

/// The value of a flag that is no name of a file.
fn text(word: &OsStr) -> Result<&str, String> {
    let shown = word.to_string_lossy();
    word.to_str().ok_or_else(|| format!("{shown} is not text"))
}

fn level(word: &str) -> Result<u8, String> {
    let level = word.parse().ok().filter(|level| *level <= 3);
    level.ok_or_else(|| format!("--opt {word}: a level is 0, 1, 2 or 3"))
}

fn threads(word: &str) -> Result<u32, String> {
    let threads = word.parse().ok().filter(|n| (1..=1024).contains(n));
    threads.ok_or_else(|| format!("--threads {word}: from 1 to 1024"))
}

fn policy(word: &str) -> Result<PolicyName, String> {
    match word {
        "lru" => Ok(PolicyName::Lru),
        "sieve" => Ok(PolicyName::Sieve),
        _ => Err(format!("--policy {word}: there are lru and sieve")),
    }
}

fn size(word: &str) -> Result<u64, String> {
    let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &word[digits.len()..] {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    let bytes = digits.parse::<u64>().ok().zip(shift);
    bytes
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("{word} is no size: say 65536, 64KiB or 1MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("12"), Ok(12));
        for wrong in ["", "KiB", "64kb", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_and_arguments() {
        let options =
            parse("--opt 2 --code-budget 64KiB --policy sieve --load a.so --load b.so --threads 3 a.bc --stats -- -x --opt")
                .unwrap();
        assert_eq!(options.libraries, ["a.so", "b.so"]);
        assert_eq!(options.file, PathBuf::from("a.bc"));
        assert_eq!(options.arguments, ["-x", "--opt"]);
        assert_eq!(options.code_budget, Some(65536));
        assert_eq!((options.opt, options.policy), (2, PolicyName::Sieve));
        assert_eq!(options.threads, 3);
        assert!(
            options.stats
                && options.stress == Stress::default()
                && !options.isolate
                && !options.harden
        );
        assert!(parse("--isolate a.bc").unwrap().isolate);
        assert!(parse("--harden a.bc").unwrap().harden);
    }

    /// Names of files, and what the program is given, need not be text.
    #[test]
    fn words_that_are_not_text() {
        let odd = OsString::from_vec(vec![b'a', 0xff]);
        let options = Options::parse([odd.clone(), "--".into(), odd.clone()]).unwrap();
        assert_eq!(options.file, PathBuf::from(&odd));
        assert_eq!(options.arguments, std::slice::from_ref(&odd));
        for flag in ["--opt", "--code-budget", "--policy", "--threads"] {
            let words = [flag.into(), odd.clone(), "a".into()];
            assert!(Options::parse(words).is_err(), "{flag}");
        }
    }

    #[test]
    fn mistakes() {
        for wrong in [
            "",
            "--opt 4 a",
            "--opt",
            "--nope a",
            "a b",
            "--policy fifo a",
            "--threads 0 a",
            "--threads x a",
            "-- a",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
