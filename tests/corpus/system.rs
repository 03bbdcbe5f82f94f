//! The corpus, part: libc and the system.

use crate::table::Feature::*;
use crate::table::{Program, program};

/// What libc and the kernel do for programs.
pub const LIBC: &[Program] = &[
    program("wide_chars.c"),
    program("errno_values.c").needs(&[Errno]),
    program("environment.c"),
    program("stdin_lines.c").input("first line\n1 2 3 4\nx y z\nthe rest\nof it"),
    program("clock.c"),
    program("cookie_stream.c"),
    program("dynamic_lookup.c"),
    program("children.c"),
    program("pipes.c"),
    program("options.c").arguments(&[
        "-x",
        "--name=abc",
        "-l5",
        "--verbose",
        "-q",
        "--level",
        "-n",
        "z",
        "rest",
        "-x",
    ]),
    program("fork_child.c").refused(&["fork", "main"]),
    program("vfork_child.c"),
];

/// How programs end, and what interrupts them.
pub const ENDS_AND_SIGNALS: &[Program] = &[
    program("exit_order.c"),
    program("exit_deep.c"),
    program("exit_by_libc.c").arguments(&["nested"]),
    program("abort_inside.c"),
    program("null_call.c"),
    program("stack_overflow.c"),
    program("divide_by_zero.c"),
    program("trap.c"),
    program("signals_raise.c").needs(&[Signals]),
    program("signals_action.c").needs(&[Signals]),
    program("signals_segv.c").needs(&[Signals]),
    program("signals_repair.c").needs(&[Signals]),
    program("signals_restart.c").needs(&[Signals]),
    program("signals_timer.c").needs(&[Signals]),
    program("signals_overflow.c").needs(&[Signals]),
    program("signals_streams.c").needs(&[Signals, Threads]),
    program("signals_waiting.c").needs(&[Signals, Threads]),
    program("signals_abort.c").needs(&[Signals]),
    program("signals_threads.c").needs(&[Signals, Threads, ThreadLocals]),
];

/// Threads.
pub const THREADS: &[Program] = &[
    program("threads_join.c").needs(&[Threads]),
    program("threads_c11.c").needs(&[Threads, ThreadLocals]),
    program("timers_thread.c").needs(&[Threads, ThreadLocals]),
    program("threads_mutex.c").needs(&[Threads]),
    program("threads_condition.c").needs(&[Threads]),
    program("threads_main_exit.c").needs(&[Threads]),
    program("threads_exit.c").needs(&[Threads, JoinsMain]),
    program("threads_cancel.c").needs(&[Threads]),
    program("threads_cancel_waits.c").needs(&[Threads, Signals]),
    program("threads_leave.c").needs(&[Threads, Signals, ThreadLocals]),
    program("threads_specific.c").needs(&[Threads]),
    program("threads_detached.c").needs(&[Threads]),
    program("threads_atomic.c").needs(&[Threads]),
    program("thread_local_many.c").needs(&[Threads, ThreadLocals]),
    program("large_workers.c").needs(&[Threads, ThreadLocals]),
];
