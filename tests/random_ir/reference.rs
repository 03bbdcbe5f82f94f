//! LLVM's own JIT, without optimisation: the measure.

use inkpot::inkwell::OptimizationLevel;
use inkpot::inkwell::context::Context;
use inkpot::inkwell::memory_buffer::MemoryBuffer;
use inkpot::inkwell::module::Module;
use inkpot::inkwell::targets::{CodeModel, InitializationConfig, RelocMode, Target, TargetMachine};

use crate::emit::FUEL;
use crate::memory::{COUNTERS, OWN, SHARED};
use crate::module::{MOST, STEP};
use crate::types::mix;

/// How functions are called from outside.
pub type Door = unsafe extern "C" fn(*mut u8, *mut u8, *const u8, *mut u8);

/// All memory that a call of a function may touch.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C, align(32))]
pub struct Memory {
    arguments: [u8; STEP * MOST],
    results: [u8; STEP * MOST],
    shared: [u8; (COUNTERS + SHARED) as usize],
    buffer: [u8; OWN as usize],
}

impl Memory {
    pub fn new(seed: u64) -> Self {
        let mut memory = Self {
            arguments: fill(seed),
            results: fill(0),
            shared: fill(seed ^ 1),
            buffer: fill(seed ^ 2),
        };
        memory.shared[..COUNTERS as usize].fill(0);
        memory.shared[4..8].copy_from_slice(&FUEL.to_le_bytes());
        memory
    }

    /// # Safety
    /// It is a door of a program.
    pub unsafe fn call(&mut self, door: Door) {
        let (shared, buffer) = (self.shared.as_mut_ptr(), self.buffer.as_mut_ptr());
        let (arguments, results) = (self.arguments.as_ptr(), self.results.as_mut_ptr());
        // SAFETY: the caller's promise; programs stay within memory of these sizes.
        unsafe { door(shared, buffer, arguments, results) }
    }
}

/// Words of all kinds: small, of ones, of anything.
fn fill<const N: usize>(seed: u64) -> [u8; N] {
    std::array::from_fn(|at| {
        let number = mix(seed.wrapping_mul(64).wrapping_add(at as u64 / 8));
        let word = match mix(number) % 5 {
            0 => number % 16,
            1 => u64::MAX,
            2 => (number as f64 / 1e18).to_bits(),
            3 => number >> 40,
            _ => number,
        };
        word.to_le_bytes()[at % 8]
    })
}

/// How the machine lays out memory, as IR says it.
pub fn layout() -> String {
    Target::initialize_native(&InitializationConfig::default()).expect("LLVM for this machine");
    let triple = TargetMachine::get_default_triple();
    let target = Target::from_triple(&triple).expect("LLVM for this machine");
    let (level, mode, model) = (
        OptimizationLevel::None,
        RelocMode::Default,
        CodeModel::Default,
    );
    let machine = target.create_target_machine(&triple, "generic", "", level, mode, model);
    let machine = machine.expect("LLVM for this machine");
    let layout = machine.get_target_data().get_data_layout();
    layout.as_str().to_str().expect("ASCII").to_owned()
}

/// Reads a module, which must be valid.
pub fn parse<'c>(context: &'c Context, text: &str) -> Module<'c> {
    let buffer = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "program");
    let module = match context.create_module_from_ir(buffer) {
        Ok(module) => module,
        Err(message) => panic!("{message}\n{text}"),
    };
    if let Err(message) = module.verify() {
        panic!("{message}\n{text}");
    }
    module
}

/// What is in memory after calls of these functions, each with memory made of a seed.
pub fn results(text: &str, calls: &[(usize, u64)]) -> Vec<Memory> {
    let context = Context::create();
    let module = parse(&context, text);
    let engine = module
        .create_jit_execution_engine(OptimizationLevel::None)
        .expect("LLVM's JIT");
    let result = |&(function, seed): &(usize, u64)| {
        let address = engine.get_function_address(&format!("d{function}"));
        let address = address.expect("a door") as *const ();
        let mut memory = Memory::new(seed);
        // SAFETY: doors are defined with this type, and the engine lives.
        unsafe { memory.call(std::mem::transmute::<*const (), Door>(address)) };
        memory
    };
    calls.iter().map(result).collect()
}
