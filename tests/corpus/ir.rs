//! The corpus, part: IR written by hand.

use crate::table::Feature::*;
use crate::table::{Program, program};

/// What no C compiler writes, or not so.
pub const BY_HAND: &[Program] = &[
    program("ir_unnamed.ll"),
    program("ir_aliases.ll"),
    program("ir_indirect.ll").needs(&[Ifuncs]),
    program("ir_indirect_data.ll").needs(&[Ifuncs]),
    program("ir_linkage.ll"),
    program("ir_musttail.ll"),
    program("ir_labels.ll"),
    program("ir_odd_widths.ll"),
    program("ir_constants.ll").needs(&[Differences]),
    program("ir_vectors.ll"),
    program("ir_atomics.ll"),
    program("ir_arguments.ll"),
    program("ir_used.ll"),
    program("ir_constructors.ll").needs(&[Constructors]),
    program("ir_thread_local.ll").needs(&[ThreadLocals]),
    program("ir_invoke.ll").library(&[Exceptions]),
    program("ir_tail_convention.ll").refused(&["tailcc", "by_tail"]),
    program("ir_asm_goto.ll"),
    program("ir_undefined.ll"),
];
