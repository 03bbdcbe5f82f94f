//! The corpus, part: C++.

use crate::table::Feature::*;
use crate::table::{Program, program};

/// The language, with as little of the library as it goes.
pub const LANGUAGE: &[Program] = &[
    program("inheritance.cpp").flags(&["-fno-rtti"]),
    program("member_pointers.cpp").flags(&["-fno-rtti"]),
    program("templates.cpp"),
    program("inline_functions.cpp"),
    program("multiple_inheritance.cpp").library(&[Exceptions]),
    program("run_time_types.cpp").library(&[Exceptions]),
    program("placement_new.cpp").library(&[Exceptions, Replacements]),
    program("replaced_operators.cpp").library(&[Exceptions, Replacements]),
    program("global_objects.cpp").library(&[Exceptions, Constructors]),
    program("static_guards.cpp").library(&[Exceptions, Threads]),
    program("thread_local_objects.cpp").library(&[Exceptions, Threads, ThreadLocals]),
    program("coroutines.cpp").library(&[Exceptions]),
];

/// Exceptions.
pub const EXCEPTIONS: &[Program] = &[
    program("exceptions_basic.cpp").library(&[Exceptions]),
    program("exceptions_rethrow.cpp").library(&[Exceptions]),
    program("exceptions_cleanup.cpp").library(&[Exceptions]),
    program("exceptions_qsort.cpp").library(&[Exceptions]),
    program("exceptions_uncaught.cpp").library(&[Exceptions]),
    program("exceptions_noexcept.cpp").library(&[Exceptions]),
    program("exceptions_threads.cpp").library(&[Exceptions, Threads, Constructors, ThreadLocals]),
];

/// The library.
pub const LIBRARY: &[Program] = &[
    program("streams.cpp")
        .library(&[Exceptions, Constructors])
        .input("first line\n1 2 3 4\nx y z\nthe rest\nof it"),
    program("containers.cpp").library(&[Exceptions]),
    program("callables.cpp").library(&[Exceptions]),
    program("threads_library.cpp").library(&[Exceptions, Threads, Constructors, ThreadLocals]),
    program("large_inventory.cpp").library(&[Exceptions, Constructors]),
];
