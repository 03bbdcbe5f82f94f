// The parts of the example `run_ir`, for the tests of what stands in them: included at the root of a test, as they name
// each other from there.

#[path = "../../examples/run_ir/c11.rs"]
mod c11;
#[path = "../../examples/run_ir/constants.rs"]
mod constants;
#[path = "../../examples/run_ir/crash.rs"]
mod crash;
#[path = "../../examples/run_ir/frontend.rs"]
mod frontend;
#[path = "../../examples/run_ir/handler_stack.rs"]
mod handler_stack;
#[path = "../../examples/run_ir/indirect.rs"]
mod indirect;
#[path = "../../examples/run_ir/instance.rs"]
mod instance;
#[path = "../../examples/run_ir/ir.rs"]
mod ir;
#[path = "../../examples/run_ir/labels.rs"]
mod labels;
#[path = "../../examples/run_ir/large.rs"]
mod large;
#[path = "../../examples/run_ir/lifecycle.rs"]
mod lifecycle;
#[path = "../../examples/run_ir/load.rs"]
mod load;
#[path = "../../examples/run_ir/moving.rs"]
mod moving;
#[path = "../../examples/run_ir/normalise.rs"]
mod normalise;
#[path = "../../examples/run_ir/operators.rs"]
mod operators;
#[path = "../../examples/run_ir/optimised.rs"]
mod optimised;
#[path = "../../examples/run_ir/options.rs"]
mod options;
#[path = "../../examples/run_ir/prepare.rs"]
mod prepare;
#[path = "../../examples/run_ir/process.rs"]
mod process;
#[path = "../../examples/run_ir/program.rs"]
mod program;
#[path = "../../examples/run_ir/reading.rs"]
mod reading;
#[path = "../../examples/run_ir/refuse.rs"]
mod refuse;
#[path = "../../examples/run_ir/report.rs"]
mod report;
#[path = "../../examples/run_ir/sets.rs"]
mod sets;
#[path = "../../examples/run_ir/shared.rs"]
mod shared;
#[path = "../../examples/run_ir/signals/mod.rs"]
mod signals;
#[path = "../../examples/run_ir/split.rs"]
mod split;
#[path = "../../examples/run_ir/stubs.rs"]
mod stubs;
#[path = "../../examples/run_ir/symbols.rs"]
mod symbols;
#[path = "../../examples/run_ir/thread_locals.rs"]
mod thread_locals;
#[path = "../../examples/run_ir/threads.rs"]
mod threads;
#[path = "../../examples/run_ir/timers.rs"]
mod timers;
#[path = "../../examples/run_ir/unpinned.rs"]
mod unpinned;
#[path = "../../examples/run_ir/waits.rs"]
mod waits;
#[path = "../../examples/run_ir/watch.rs"]
mod watch;
