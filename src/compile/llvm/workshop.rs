//! The part of LLVM that a helper process is for: bitcode in, object out (`crate::isolate`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use inkwell::llvm_sys::core::LLVMGetVersion;
use inkwell::memory_buffer::MemoryBuffer;
use inkwell::module::Module;
use inkwell::targets::TargetMachine;

use super::context::LlvmContext;
use super::job::{Job, Made};
use super::machine::{Machine, Machines, OptLevel};
use crate::error::Error;
use crate::isolate::Identity;
use crate::tier::Passes;

/// Machines of all levels that were asked for.
pub(crate) struct Workshop(HashMap<OptLevel, Machine>);

impl Workshop {
    /// What of LLVM and the machine an object depends on, besides the module and the job.
    pub(crate) fn identity() -> Result<Identity, Error> {
        Machines::initialise()?;
        let (mut major, mut minor, mut patch) = (0, 0, 0);
        // SAFETY: the variables live through the call.
        unsafe { LLVMGetVersion(&mut major, &mut minor, &mut patch) };
        let triple = TargetMachine::get_default_triple();
        Ok(Identity {
            inkpot: env!("CARGO_PKG_VERSION").to_owned(),
            llvm: format!("{major}.{minor}.{patch}"),
            triple: triple.as_str().to_string_lossy().into_owned(),
            cpu: TargetMachine::get_host_cpu_name().to_string(),
            features: TargetMachine::get_host_cpu_features().to_string(),
        })
    }

    /// With machines of these levels, warmed up.
    pub(crate) fn new(levels: &[OptLevel]) -> Result<Self, Error> {
        let mut new = Self(HashMap::new());
        for &level in levels {
            let machine = new.machine(level)?;
            // What it cannot do here it cannot do later, and says so then.
            let _ = machine.try_out(&Passes::Level(level));
        }
        Ok(new)
    }

    fn machine(&mut self, level: OptLevel) -> Result<&Machine, Error> {
        Machines::initialise()?;
        match self.0.entry(level) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(Machine::new(level)?)),
        }
    }

    /// Compiles a module, in a context of its own. An error is in LLVM's words.
    pub(crate) fn compile(&mut self, job: &Job<'_>, bitcode: &[u8]) -> Result<Made, String> {
        let machine = self.machine(job.level).map_err(|e| e.to_string())?;
        let context = LlvmContext::new();
        let bitcode = MemoryBuffer::create_from_memory_range_copy(bitcode, "inkpot.batch");
        let module = Module::parse_bitcode_from_buffer(&bitcode, context.llvm())
            .map_err(|e| context.take_errors().unwrap_or_else(|| e.to_string()))?;
        job.run(&context, machine, &module)
    }
}
