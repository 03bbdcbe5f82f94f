//! Runs a C or C++ program, given as LLVM IR, through the cache: each function is a method of its own, compiled when first
//! called, evictable at any time, and called by the others through its cell.
//!
//! ```text
//! clang-22 -O1 -emit-llvm -c program.c -o program.bc
//! cargo run --release --example run_ir -- --code-budget 64KiB --stats program.bc -- arguments
//! ```
//!
//! What a program expects of its functions' addresses, labels and data is more than what a method that comes and
//! goes can give; so it is first taken apart into what lives as long as the program and what each function may keep
//! for itself:
//!
//! - [`prepare`] does all of this, and [`watch`] sees to it that a damaged file is an error and no crash;
//! - [`load`] reads and verifies the file, [`refuse`] says what cannot run, [`normalise`] brings the rest into form;
//! - [`indirect`] has resolvers say, before anything else runs, which functions are meant;
//! - [`sets`] joins the variables of sections that the program walks through;
//! - [`reading`] and [`labels`] find out which constants and tables of labels stay inside their functions;
//! - [`program`] takes the program apart accordingly, [`split`] cuts it into its functions, lazily, which [`moving`]
//!   moves into modules of their own, with their [`constants`]; [`optimised`] tells which need no passes, and
//!   [`large`] variables get memory of their own;
//! - [`lifecycle`] finds what runs before `main` and after it;
//! - [`thread_locals`] gives each thread its variables, [`threads`], [`c11`] and [`timers`] make the
//!   program's threads participants;
//! - [`unpinned`] unpins threads while they wait in libc, if the program handles no signals;
//! - [`waits`] calls the host's functions that wait if it does, and [`signals`] runs its handlers, where that can
//!   be done; both with the help of [`stubs`];
//! - [`instance`] is one run of the program, [`side_by_side`] has several at once, [`shared`] what these would share;
//! - [`crash`] has the [`report`] of a fault name the function that it was in, on a [`handler_stack`];
//! - [`frontend`] hands the pieces to inkpot, [`symbols`] resolves libc's names, [`operators`] has libraries
//!   call the program's own `new` and `delete`, [`process`] ends the program.

mod c11;
mod constants;
mod crash;
mod frontend;
mod handler_stack;
mod indirect;
mod instance;
mod ir;
mod labels;
mod large;
mod lifecycle;
mod load;
mod moving;
mod normalise;
mod operators;
mod optimised;
mod options;
mod prepare;
mod process;
mod program;
mod reading;
mod refuse;
mod report;
mod run;
mod sets;
mod shared;
mod side_by_side;
mod signals;
mod split;
mod stubs;
mod symbols;
mod thread_locals;
mod threads;
mod timers;
mod unpinned;
mod waits;
mod watch;

use crate::frontend::Source;
use crate::options::{Options, USAGE};
use crate::prepare::Stop;
use crate::refuse::Refusal;
use std::process::exit;

/// A mistake in the command or the file.
const MISTAKE: i32 = 2;

/// A valid program that cannot run here.
const REFUSED: i32 = 3;

fn main() {
    inkpot::helper::run_if_helper();
    let options = Options::parse(std::env::args_os().skip(1)).unwrap_or_else(|mistake| {
        if mistake.is_empty() {
            println!("{USAGE}");
            exit(0);
        }
        eprintln!("run_ir: {mistake}\n{USAGE}");
        exit(MISTAKE)
    });
    let program = prepare::prepare(&options).unwrap_or_else(|reason| stop(&options, reason));
    if options.stats && !program.kept.is_empty() {
        let names = program.kept.join(", ");
        eprintln!("note: kept as long as the program, as their labels stand in its data: {names}");
    }
    let Err(error) = run::run(&Source::new(program, options.threads > 1), &options);
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        stop(&options, Stop::Refused(refusal.lines().collect()));
    }
    eprintln!("run_ir: {error}");
    exit(1)
}

fn stop(options: &Options, stop: Stop) -> ! {
    match stop {
        Stop::Mistake(message) => {
            eprintln!("run_ir: {message}");
            exit(MISTAKE)
        }
        Stop::Refused(reasons) => {
            eprintln!("run_ir: cannot run {}:", options.file.display());
            for line in reasons {
                eprintln!("  {line}");
            }
            exit(REFUSED)
        }
    }
}
