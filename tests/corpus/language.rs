//! The corpus, part: the C language.

use crate::table::Feature::*;
use crate::table::{Program, program};

/// What every program has. `tests/run_ir.rs` runs these in more ways.
pub const BASICS: &[Program] = &[
    program("arrays.c"),
    program("bit_fields.c"),
    program("callbacks.c"),
    program("computed_goto.c"),
    program("escaping_labels.c"),
    program("formats.c"),
    program("function_pointers.c"),
    program("heap.c"),
    program("jumps.c"),
    program("linked_globals.c"),
    program("literals.c"),
    program("main_with_labels.c"),
    program("numbers.c"),
    program("recursion.c"),
    program("statics.c"),
    program("structs.c"),
    program("switches.c"),
    program("varargs.c"),
    program("arguments.c")
        .arguments(&["one", "--opt", "", "a b"])
        .input("some input"),
    program("ends.c").arguments(&["deep"]),
];

/// Numbers, structs, vectors and how they are passed.
pub const VALUES: &[Program] = &[
    program("varargs_forward.c"),
    program("varargs_structs.c"),
    program("byval_large.c"),
    program("int128.c"),
    program("float16.c"),
    program("long_double.c"),
    program("vectors_128.c"),
    program("vectors_256.c"),
    program("avx2.c").needs(&[CpuModel]),
    program("bit_int.c"),
    program("bit_packing.c"),
    program("unions.c"),
    program("flexible_arrays.c"),
    program("variable_arrays.c"),
    program("alignment.c"),
    program("large_variables.c").flags(&["-fcommon"]),
    program("large_alignment.c").needs(&[Threads, ThreadLocals]),
    program("rounding.c"),
    program("atomics.c"),
    program("large_compressor.c"),
    program("large_json.c"),
];

/// Calls, jumps and labels.
pub const CONTROL: &[Program] = &[
    program("callback_qsort.c"),
    program("callback_bsearch.c"),
    program("dispatch_structs.c"),
    program("setjmp_layers.c"),
    program("protothreads.c"),
    program("direct_threading.c"),
    program("global_labels.c"),
    program("own_address_and_labels.c"),
    program("musttail.c"),
    program("big_switch.c"),
    program("cleanup_attribute.c"),
    program("contexts.c"),
    program("inline_asm.c"),
    program("naked.c"),
    program("frame_addresses.c"),
    program("own_machine_code.c"),
    program("large_frames.c"),
    program("large_stack_language.c"),
];

/// Names, linkage, sections and what is said to linkers.
pub const LINKING: &[Program] = &[
    program("weak_symbols.c"),
    program("aliases.c"),
    program("ifunc.c").needs(&[Ifuncs]),
    program("used.c"),
    program("linker_sets.c"),
    program("extern_inline.c"),
    program("name_clashes.c"),
    program("literal_merging.c"),
    // From `-O1` on, clang makes `puts` of some calls of `printf`, and knows what libc's `isdigit` answers.
    program("own_libc.c").needs(&[OwnMemcpy]).by_level(),
    program("debug_info.c").flags(&["-g"]),
    program("module_assembly.c").refused(&["module-level assembly"]),
    program("constructors.c").needs(&[Constructors]),
    program("constructor_arguments.c")
        .needs(&[Constructors])
        .arguments(&["ends"]),
    program("thread_local_one.c").needs(&[ThreadLocals]),
];
