//! The command line.

#[path = "stress.rs"]
mod stress;

use std::path::PathBuf;

pub use self::stress::stress;
use crate::settings::Settings;

pub const HELP: &str = "\
churn: recompilation without end, as a runtime with unstable types does it

Threads call methods of a small dynamically typed language. The types that the methods are
specialised to keep changing: methods are invalidated, and compiled again with constants and types
that no LLVM context has seen before. Every result is checked against an interpreter.

Usage: churn [FLAGS]

  --strategy NAME       pooled (inkpot), global (one context for ever), per-method (a context
                        each, kept), or all: each in a process of its own [pooled]
  --methods N           compilations to make [20000; 8000 with all]
  --threads N           threads that call [2]
  --code-budget SIZE    code to keep, pooled only: bytes, or with KiB, MiB, GiB [4MiB]
  --opt 0..3            LLVM's optimisation level [0]
  --seed N              the same methods and arguments for the same seed [1]
  --survivors SHARE     so many of the methods, 0 to less than 1, stay hot for ever: born among the
                        others, up to half of what fits into the code budget [0]
  --evacuate on|off     pooled only: move the survivors of sparse generations together [on]
  --work N              bytes that may be moved for each byte that comes back [the cache's default]
  --victims NAME        pooled only: evict the coldest methods (plain), or those whose generation
                        gives most memory back for each method lost (generation) [generation]
  --groups on|off       pooled only: the front end tells what stays apart from what changes [off]
  --policy lru|sieve    pooled only: who is cold [lru]
  --tiers on|off        pooled only: quick code first, and O2 for what is called often, instead of
                        one level for all [off]
  --warm-up             pooled only, and nothing else: nothing changes and nothing is evicted, an
                        interpreter runs what has no code yet; how long until 90% of the calls of
                        --methods methods run compiled code, and how fast they are in the end
  --keep-all            nothing changes and nothing is evicted: how many methods can live at once
  --stress              pooled only: evict, invalidate and recycle after every few calls
  --stress-of MODES     only some of that: evict, invalidate, recycle, move, quarantine, between commas
  --guest NAME          pooled only: one more thread, which stays in one method for the whole run,
                        and makes a safepoint every millisecond (safepoint), blocks (blocking), or
                        goes round without calls, with polls compiled in (poll); or which has a
                        hundred fibres suspended in methods (fibres) [none]
  --release-at-sealing  pooled only: a context goes when its generation is sealed
  --report FILE.html    write a page with plots
  --json                print all figures as one JSON object, last on standard output
  --help                this text

Exit code: 0, or 1 if a result was wrong or something failed, or 2 for a flag that is none.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Pooled,
    Global,
    PerMethod,
    All,
}

impl Which {
    pub const EACH: [Which; 3] = [Which::Pooled, Which::Global, Which::PerMethod];

    pub fn name(self) -> &'static str {
        match self {
            Which::Pooled => "pooled",
            Which::Global => "global",
            Which::PerMethod => "per-method",
            Which::All => "all",
        }
    }
}

/// A thread that never leaves the method that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    None,
    Safepoint,
    Blocking,
    Poll,
    Fibres,
}

impl Guest {
    const ALL: [Guest; 5] = [
        Guest::None,
        Guest::Safepoint,
        Guest::Blocking,
        Guest::Poll,
        Guest::Fibres,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Guest::None => "none",
            Guest::Safepoint => "safepoint",
            Guest::Blocking => "blocking",
            Guest::Poll => "poll",
            Guest::Fibres => "fibres",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    pub which: Which,
    methods: Option<u64>,
    pub threads: u64,
    pub code_budget: u64,
    pub opt: u8,
    pub seed: u64,
    /// The share of the methods that stays hot for ever.
    pub survivors: f64,
    pub settings: Settings,
    pub warm_up: bool,
    pub keep_all: bool,
    /// Modes, between commas.
    pub stress: Option<String>,
    pub guest: Guest,
    pub release_at_sealing: bool,
    pub report: Option<PathBuf>,
    pub json: bool,
    /// For the process that compares: a line of JSON for each sample as it is taken.
    pub follow: bool,
    pub help: bool,
}

impl Options {
    pub fn methods(&self) -> u64 {
        self.methods.unwrap_or(if self.which == Which::All {
            8_000
        } else {
            20_000
        })
    }

    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            which: Which::Pooled,
            methods: None,
            threads: 2,
            code_budget: 4 << 20,
            opt: 0,
            seed: 1,
            survivors: 0.0,
            settings: Settings::default(),
            warm_up: false,
            keep_all: false,
            stress: None,
            guest: Guest::None,
            release_at_sealing: false,
            report: None,
            json: false,
            follow: false,
            help: false,
        };
        while let Some(argument) = arguments.next() {
            let (flag, mut given) = match argument.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let mut value = || {
                given
                    .take()
                    .or_else(|| arguments.next())
                    .ok_or(format!("{flag} needs a value"))
            };
            match flag.as_str() {
                "--strategy" => options.which = which(&value()?)?,
                "--methods" => options.methods = Some(positive(&flag, &value()?)?),
                "--threads" => options.threads = positive(&flag, &value()?)?,
                "--code-budget" => options.code_budget = size(&value()?)?,
                "--opt" => options.opt = level(&value()?)?,
                "--seed" => options.seed = number(&flag, &value()?)?,
                "--guest" => options.guest = guest(&value()?)?,
                "--report" => options.report = Some(value()?.into()),
                "--survivors" => options.survivors = share(&flag, &value()?)?,
                "--warm-up" => options.warm_up = true,
                "--keep-all" => options.keep_all = true,
                "--stress" => options.stress = Some(ALL_STRESS.to_owned()),
                "--stress-of" => {
                    let modes = value()?;
                    stress(&modes).map_err(|problem| format!("--stress-of {problem}"))?;
                    options.stress = Some(modes);
                }
                "--release-at-sealing" => options.release_at_sealing = true,
                "--json" => options.json = true,
                "--follow" => options.follow = true,
                "--help" | "-h" => options.help = true,
                _ if options.settings.take(&flag, value)? => {}
                _ => return Err(format!("unknown flag {flag}")),
            }
            if given.is_some() {
                return Err(format!("{flag} takes no value"));
            }
        }
        Ok(options)
    }

    /// The flags that make another process run `which` as these options say.
    pub fn child_flags(&self, which: Which) -> Vec<String> {
        let mut flags = vec![
            format!("--strategy={}", which.name()),
            format!("--methods={}", self.methods()),
            format!("--threads={}", self.threads),
            format!("--code-budget={}", self.code_budget),
            format!("--opt={}", self.opt),
            format!("--seed={}", self.seed),
            format!("--survivors={}", self.survivors),
            format!("--guest={}", self.guest.name()),
            "--json".to_owned(),
            "--follow".to_owned(),
        ];
        let switches = [
            (self.keep_all, "--keep-all"),
            (self.release_at_sealing, "--release-at-sealing"),
        ];
        flags.extend(
            self.stress
                .iter()
                .map(|modes| format!("--stress-of={modes}")),
        );
        flags.extend(self.settings.flags());
        flags.extend(
            switches
                .iter()
                .filter(|(on, _)| *on)
                .map(|(_, flag)| (*flag).to_owned()),
        );
        flags
    }
}

const ALL_STRESS: &str = "evict,invalidate,recycle,move,quarantine";

fn which(name: &str) -> Result<Which, String> {
    [Which::Pooled, Which::Global, Which::PerMethod, Which::All]
        .into_iter()
        .find(|which| which.name() == name)
        .ok_or(format!("--strategy: there is no {name}"))
}

fn guest(name: &str) -> Result<Guest, String> {
    Guest::ALL
        .into_iter()
        .find(|guest| guest.name() == name)
        .ok_or(format!("--guest: there is no {name}"))
}

fn number(flag: &str, text: &str) -> Result<u64, String> {
    text.replace('_', "")
        .parse()
        .map_err(|_| format!("{flag}: {text} is not a number"))
}

fn positive(flag: &str, text: &str) -> Result<u64, String> {
    match number(flag, text)? {
        0 => Err(format!("{flag} must not be 0")),
        n => Ok(n),
    }
}

fn share(flag: &str, text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    share
        .filter(|share| (0.0..1.0).contains(share))
        .ok_or(format!("{flag}: {text} is not from 0 to less than 1"))
}

fn level(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(level @ 0..=3) => Ok(level),
        _ => Err(format!("--opt: {text} is not one of 0, 1, 2, 3")),
    }
}

/// `65536`, `64KiB`, `8MiB`, `1GiB`.
fn size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| text.strip_suffix(unit).map(|digits| (digits, shift)))
        .unwrap_or((text, &0));
    let bytes: Option<u64> = digits
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift));
    bytes.filter(|n| *n > 0).ok_or(format!(
        "--code-budget: {text} is no size such as 64KiB or 8MiB"
    ))
}
