//! From a module of methods to an object: passes, polls, sections, code.
//!
//! All that this needs stands in the module and in a [`Job`], so it can be done in another process as well
//! (`crate::isolate`).

use std::time::{Duration, Instant};

use inkwell::module::Module;

use super::context::LlvmContext;
use super::machine::{Machine, OptLevel};
use super::{constants, count, import, polls, separate};

/// What is to be done to a module whose methods have been emitted, verified and lowered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Job<'j> {
    /// LLVM's passes, as `opt -passes` takes them; none if empty.
    pub(crate) passes: &'j str,
    /// The code generator's level.
    pub(crate) level: OptLevel,
    /// Whether the module has bodies of other methods, to be inlined.
    pub(crate) imports: bool,
    /// Whether constants are loaded from data.
    pub(crate) pool_constants: bool,
    /// Whether polls are put in after the passes.
    pub(crate) polls: bool,
    /// Whether code counts how often it runs.
    pub(crate) counting: Option<Counting<'j>>,
    /// Whether each function gets a section of its own.
    pub(crate) separable: bool,
}

/// How methods count how often they run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counting<'j> {
    /// What a counter is full at.
    pub(crate) threshold: u32,
    /// Where a thread has the address of its table (`crate::tier::counts`), in the process where the code is to run.
    pub(crate) table: i64,
    /// What a full counter's number is pushed for, and then jumped to: there too.
    pub(crate) stub: u64,
    /// Whether LLVM generates the code: it puts bytes in front of functions.
    pub(crate) by_bytes: bool,
    /// Whether these begin with ENDBR64.
    pub(crate) branch_targets: bool,
    /// Methods by the number of their cell, and the numbers that they are counted under.
    pub(crate) methods: &'j [(u32, u64)],
}

/// What came of a job.
pub(crate) struct Made {
    /// An ELF object, in a piece of memory that can be measured (`super::heap`).
    pub(crate) object: Vec<u8>,
    /// Time taken by the passes, polls and sections.
    pub(crate) optimise: Duration,
    /// Time taken by the code generator.
    pub(crate) generate: Duration,
}

impl Job<'_> {
    /// Does the job, on a module of this context, by a machine of the job's level. What LLVM had to say
    /// against it is returned in its own words.
    pub(super) fn run(
        &self,
        context: &LlvmContext,
        machine: &Machine,
        module: &Module<'_>,
    ) -> Result<Made, String> {
        let started = Instant::now();
        self.prepare(context, machine, module)?;
        let optimise = started.elapsed();
        let started = Instant::now();
        let generated = machine.generate(module);
        let generate = started.elapsed();
        match (generated, context.take_errors()) {
            (Ok(object), None) => Ok(Made {
                object,
                optimise,
                generate,
            }),
            (Ok(_), Some(said)) => Err(said),
            (Err(message), said) => Err(said.unwrap_or(message)),
        }
    }

    /// All but the code itself: passes, and what is added when these are done.
    pub(super) fn prepare(
        &self,
        context: &LlvmContext,
        machine: &Machine,
        module: &Module<'_>,
    ) -> Result<(), String> {
        if !self.passes.is_empty() {
            let optimised = machine.run(self.passes, module);
            if let Some(said) = context.take_errors() {
                return Err(said);
            }
            optimised?;
        }
        if self.imports {
            import::lower_rest(module);
        }
        if self.pool_constants {
            machine.run(constants::BEFORE, module)?;
            constants::apart(module);
        }
        if self.polls {
            polls::add(module);
        }
        if let Some(counting) = &self.counting {
            count::add(module, counting, self.level);
        }
        if self.separable {
            separate::apart(module);
        }
        Ok(())
    }
}
