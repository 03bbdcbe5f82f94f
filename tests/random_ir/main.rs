//! Random programs in IR, each function a method of its own: whatever the settings, their results are those of LLVM's
//! own JIT.
//!
//! `INKPOT_SOAK=1` makes it 10,000 functions, `INKPOT_SOAK=5` five times as many. What a failure prints is the smallest
//! program that still fails.

mod body;
mod caches;
mod compute;
mod emit;
mod memory;
mod module;
mod program;
mod reference;
mod types;

use std::cell::RefCell;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use caches::Caches;
use module::Piece;
use program::Program;

/// Functions of the short form and of the long one.
const FEW: usize = 40;
const MANY: usize = 10_000;

fn soak() -> usize {
    std::env::var("INKPOT_SOAK").map_or(0, |value| value.parse().unwrap_or(1))
}

/// Programs in an order that is the same each time.
fn runner() -> TestRunner {
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

/// Each function with each input.
fn calls(program: &Program) -> Vec<(usize, u64)> {
    let functions = 0..program.functions.len();
    functions
        .flat_map(|function| program.inputs.iter().map(move |&seed| (function, seed)))
        .collect()
}

/// Runs a program by the reference and in all caches; or says where results differ.
fn compare(caches: &mut Caches, layout: &str, program: &Program) -> Result<(), String> {
    compare_pieces(caches, layout, program, &module::pieces(program, layout))
}

/// As `compare`, of what the caches shall have.
fn compare_pieces(
    caches: &mut Caches,
    layout: &str,
    program: &Program,
    pieces: &[Piece],
) -> Result<(), String> {
    let whole = module::whole(program, layout);
    let calls = calls(program);
    let expected = reference::results(&whole, &calls);
    let number = caches.learn(pieces);
    let mut outcome = Ok(());
    for setting in &caches.settings {
        let results = setting.results(number, program.functions.len(), &calls);
        let both = expected.iter().zip(&results);
        for (call, (expected, result)) in calls.iter().zip(both) {
            if expected != result && outcome.is_ok() {
                outcome = Err(format!(
                    "{}: function and input {call:?}: {result:?} instead of {expected:?}\n{whole}",
                    setting.name
                ));
            }
        }
    }
    caches.forget(number);
    outcome
}

/// The comparison sees what it is for: an operation that became another in what the caches have is noticed. (Not in
/// each program: the operation may be on no path that is taken, or make no difference to these numbers.)
#[test]
fn an_operation_that_is_another_is_noticed() {
    let mut caches = Caches::new();
    let layout = reference::layout();
    let (mut runner, programs) = (runner(), program::programs());
    let (mut changed, mut noticed) = (0, 0);
    while changed < 16 {
        let tree = programs.new_tree(&mut runner).expect("a program");
        let program = tree.current();
        let mut pieces = module::pieces(&program, &layout);
        let functions = &mut pieces[..program.functions.len()];
        let changes = functions.iter_mut().filter_map(|piece| {
            let at = piece.module.find(" = ashr ").map(|at| (at, " = lshr "));
            let (at, other) = at.or_else(|| Some((piece.module.find(" = fsub ")?, " = fadd ")))?;
            piece.module.replace_range(at..at + other.len(), other);
            Some(())
        });
        if changes.count() == 0 {
            continue;
        }
        changed += 1;
        noticed += u32::from(compare_pieces(&mut caches, &layout, &program, &pieces).is_err());
    }
    println!("{noticed} of {changed} changes noticed");
    assert!(noticed >= 4, "{noticed} of {changed}");
}

#[test]
fn results_are_those_of_llvm() {
    let enough = match soak() {
        0 => FEW,
        times => MANY * times,
    };
    let caches = RefCell::new(Caches::new());
    let layout = reference::layout();
    let (mut runner, programs) = (runner(), program::programs());
    let (mut agreed, mut count) = (0, 0);
    while agreed < enough {
        let tree = programs.new_tree(&mut runner).expect("a program");
        let functions = RefCell::new(None);
        let outcome = runner.run_one(tree, |program| {
            functions
                .borrow_mut()
                .get_or_insert(program.functions.len());
            let result = compare(&mut caches.borrow_mut(), &layout, &program);
            result.map_err(TestCaseError::fail)
        });
        if let Err(error) = outcome {
            panic!("program {count}: {error}");
        }
        agreed += functions.into_inner().unwrap_or(0);
        count += 1;
    }
    println!("{agreed} functions of {count} programs agree, in each of:");
    for setting in &caches.borrow().settings {
        let s = setting.statistics();
        println!(
            "  {}: {} compiled, {} evicted",
            setting.name, s.compiles, s.evictions
        );
    }
}
