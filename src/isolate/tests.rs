//! Jobs done by real helpers: further processes of this test's executable.

mod lies;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Isolation, Part, Pool};
use crate::compile::OptLevel;
use crate::compile::llvm::{Counting, Job, Workshop};
use crate::config::Config;
use crate::error::Error;
use crate::tier::Tier;

/// The harness has `main`; what is listed here runs before.
#[used]
#[unsafe(link_section = ".init_array")]
static FIRST_OF_ALL: extern "C" fn() = first_of_all;

extern "C" fn first_of_all() {
    lies::lie_if_liar();
    super::run_if_helper();
}

const LEVELS: [(OptLevel, &str); 4] = [
    (OptLevel::O0, "default<O0>"),
    (OptLevel::O1, "default<O1>"),
    (OptLevel::O2, "default<O2>"),
    (OptLevel::O3, "default<O3>"),
];

fn pool(level: OptLevel) -> Arc<Pool> {
    let config = Config {
        tiers: vec![Tier::new("only", level)],
        ..Config::default()
    };
    Pool::start(Isolation::own_executable(), &config).expect("a helper")
}

/// Every so many programs of the corpus.
fn programs(step: usize) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/bitcode");
    let entries = fs::read_dir(folder).expect("the corpus");
    let mut paths: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "bc"));
    paths.sort();
    let read = |path| fs::read(path).expect("a program");
    paths.iter().step_by(step).map(read).collect()
}

/// The same process compiles one after the other, at levels that it was not made for too: each object is
/// the one that a process gets which compiles nothing else.
#[test]
fn objects_depend_on_the_bitcode_alone() {
    let pool = pool(OptLevel::O1);
    let mut way = 0;
    for (level, passes) in LEVELS {
        for bitcode in programs(9) {
            let methods = [(0, 7), (1, 8)];
            let job = Job {
                passes: if way % 8 == 7 { "" } else { passes },
                level,
                imports: way % 16 > 12,
                pool_constants: way % 4 == 3,
                polls: way % 2 == 1,
                counting: (way % 3 == 1).then_some(Counting {
                    branch_targets: way % 2 == 0,
                    threshold: 100,
                    stub: 0x7123_4567_89ab,
                    by_bytes: true,
                    table: -64,
                    methods: &methods,
                }),
                separable: way % 4 < 2,
            };
            way += 1;
            let mut here = Workshop::new(&[]).expect("a machine");
            let here = here.compile(&job, &bitcode).expect("an object").object;
            let there = pool
                .compile(&job, &bitcode, Part::Alone)
                .expect("an object");
            assert!(here == there.object, "{job:?}");
            assert!(there.object.starts_with(b"\x7fELF"));
        }
    }
    assert_eq!(pool.counts(), (1, 0));
}

#[test]
fn llvms_words_come_back() {
    let pool = pool(OptLevel::O0);
    let said = |passes, bitcode: &[u8]| {
        let job = plain(passes);
        match pool.compile(&job, bitcode, Part::Alone) {
            Err(Error::Codegen { message, .. }) => message,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was compiled"),
        }
    };
    let program = &programs(50)[0];
    assert!(said("no-such-pass", program).contains("no-such-pass"));
    for damaged in [&b""[..], b"no bitcode", &program[..program.len() / 2]] {
        assert_ne!(said("", damaged), "");
    }
    assert_eq!(pool.counts(), (1, 0), "the helper lives");
}

#[test]
fn halves_have_half_the_time() {
    let of = |limit: u64, part| {
        let isolation = Isolation::own_executable().time_limit(Duration::from_millis(limit));
        isolation.limit_for(part).as_millis()
    };
    for (part, time) in [
        (Part::Alone, 8000),
        (Part::Batch(0), 8000),
        (Part::Batch(1), 4000),
        (Part::Batch(6), 125),
        (Part::Batch(7), 100),
        (Part::Batch(u8::MAX), 100),
    ] {
        assert_eq!(of(8000, part), time);
        assert_eq!(of(50, part), 50);
    }
}

/// A job of these passes, at the lowest level, and of nothing else.
fn plain(passes: &str) -> Job<'_> {
    Job {
        passes,
        level: OptLevel::O0,
        imports: false,
        pool_constants: false,
        polls: false,
        counting: None,
        separable: false,
    }
}

/// One that has compiled something is not taken where a fresh one is wanted, and stays.
#[test]
fn a_fresh_helper_has_compiled_nothing() {
    let pool = pool(OptLevel::O0);
    let job = plain("default<O0>");
    let program = &programs(50)[0];
    pool.compile(&job, program, Part::Alone).expect("an object");
    let fresh = pool.take(true).expect("a helper");
    assert_eq!(fresh.jobs, 0);
    pool.give_back(fresh);
    assert_eq!(pool.take(true).expect("that one").jobs, 0);
    assert_eq!(pool.take(false).expect("the other").jobs, 1);
    assert_eq!(pool.counts(), (2, 0));
}

#[test]
fn who_waits_is_told_when_the_pool_closes() {
    let pool = pool(OptLevel::O0);
    let job = plain("default<O0>");
    let program = &programs(50)[0];
    std::thread::scope(|threads| {
        let compiling = threads.spawn(|| {
            loop {
                match pool.compile(&job, program, Part::Batch(0)) {
                    Ok(_) => {}
                    Err(error) => return error,
                }
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        pool.close();
        let error = compiling.join().expect("no panic");
        assert!(matches!(error, Error::ShuttingDown), "{error}");
    });
    let refused = pool.compile(&job, program, Part::Batch(0)).err();
    assert!(matches!(refused, Some(Error::ShuttingDown)), "{refused:?}");
}
