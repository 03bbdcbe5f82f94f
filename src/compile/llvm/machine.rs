//! LLVM's target machines: the passes and the code generator.

use std::sync::{Once, OnceLock, PoisonError};

use inkwell::OptimizationLevel;
use inkwell::context::Context;
use inkwell::memory_buffer::MemoryBuffer;
use inkwell::module::{FlagBehavior, Module};
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{
    CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine, TargetTriple,
};

use super::heap::{self, Gauge};
use crate::error::Error;
use crate::sync::plain::{Mutex, MutexGuard};
use crate::tier::{Passes, Tier};

/// How much LLVM optimises: the pipelines `default<O0>` to `default<O3>`, and the code
/// generator's level of the same name. A batch at O1 in which no method has functions or variables of its own
/// goes through a shorter pipeline, of the passes of `default<O1>` that look at one function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OptLevel {
    /// No optimisation, the fast instruction selector.
    O0,
    /// What pays at once.
    #[default]
    O1,
    /// All that usually pays.
    O2,
    /// All.
    O3,
}

impl OptLevel {
    fn generator(self) -> OptimizationLevel {
        match self {
            OptLevel::O0 => OptimizationLevel::None,
            OptLevel::O1 => OptimizationLevel::Less,
            OptLevel::O2 => OptimizationLevel::Default,
            OptLevel::O3 => OptimizationLevel::Aggressive,
        }
    }
}

/// A target machine. It belongs to no context, but caches what it learns of subtargets, so it is
/// used again and again rather than made for each batch.
pub(super) struct Machine {
    inner: TargetMachine,
    level: OptLevel,
}

// SAFETY: a target machine may be used by any one thread at a time.
unsafe impl Send for Machine {}

/// Machines that are not in use: at most one for each worker that ever compiled at once.
pub(super) struct Machines {
    idle: Mutex<Vec<Machine>>,
    gauge: Gauge,
    /// Whether functions begin with ENDBR64.
    branch_targets: bool,
}

impl Machines {
    /// Makes LLVM know this machine.
    pub(super) fn initialise() -> Result<(), Error> {
        static INITIALISED: Once = Once::new();
        let mut outcome = Ok(());
        INITIALISED.call_once(|| {
            outcome = Target::initialize_native(&InitializationConfig::default());
        });
        outcome.map_err(|message| Error::Target { message })
    }

    /// One for each level of these tiers, whose passes are tried out.
    pub(super) fn new(tiers: &[Tier], branch_targets: bool) -> Result<Self, Error> {
        Self::initialise()?;
        let mut machines: Vec<Machine> = Vec::new();
        for tier in tiers {
            let of_level = |m: &&Machine| m.level == tier.generator;
            if !machines.iter().any(|m| of_level(&m)) {
                machines.push(Machine::new(tier.generator)?);
            }
            let machine = machines.iter().find(of_level).expect("just made");
            machine
                .try_out(&tier.passes)
                .map_err(|message| Error::Setting {
                    setting: "passes",
                    problem: format!("{}: {message}", tier.name()),
                })?;
        }
        Ok(Self {
            idle: Mutex::new(machines),
            gauge: Gauge::default(),
            branch_targets,
        })
    }

    pub(super) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// A machine of a level for the caller alone, to be [given back](Machines::give_back).
    pub(super) fn take(&self, level: OptLevel) -> Result<Machine, Error> {
        let mut idle = self.idle();
        let place = idle.iter().position(|machine| machine.level == level);
        let machine = place.map(|place| idle.swap_remove(place));
        drop(idle);
        machine.map_or_else(|| Machine::new(level), Ok)
    }

    pub(super) fn give_back(&self, machine: Machine) {
        self.idle().push(machine);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Machine>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a module what it is for.
    pub(super) fn describe(&self, module: &Module<'_>) {
        // They are all for the same machine; making one cannot fail now if it did not before.
        let idle = self.idle().pop();
        if let Ok(machine) = idle.map_or_else(|| Machine::new(OptLevel::O0), Ok) {
            machine.describe(module);
            self.give_back(machine);
        }
        if self.branch_targets {
            // As clang says it.
            let yes = module.get_context().i32_type().const_int(1, false);
            let flag = "cf-protection-branch";
            module.add_basic_value_flag(flag, FlagBehavior::Override, yes);
        }
    }
}

/// [`SMALL_PROGRAM`] in a context. Read as text once in a process: with LLVM 22 inkwell 0.11 leaks what it reads text
/// from, and each cache comes here.
fn small_program(context: &Context) -> Option<Module<'_>> {
    static BITCODE: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let bitcode = BITCODE.get_or_init(|| {
        let context = Context::create();
        let text = MemoryBuffer::create_from_memory_range_copy(SMALL_PROGRAM, "first");
        let module = context.create_module_from_ir(text).ok()?;
        Some(module.write_bitcode_to_memory().as_slice().to_vec())
    });
    let bitcode = MemoryBuffer::create_from_memory_range_copy(bitcode.as_ref()?, "first");
    Module::parse_bitcode_from_buffer(&bitcode, context).ok()
}

/// A loop, a switch, vectors, floats, a call, a constant: some of everything.
const SMALL_PROGRAM: &[u8] = b"
@table = private constant [4 x double] [double 1.0, double 2.5, double 3.5, double 4.5]
declare i64 @host(i64)
define i64 @first(i64 %n, ptr %p) {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %join ]
  %sum = phi i64 [ 0, %entry ], [ %more, %join ]
  switch i64 %i, label %other [ i64 1, label %one  i64 2, label %two  i64 3, label %one
                                i64 4, label %two  i64 9, label %other ]
one:
  %a = call i64 @host(i64 %i)
  br label %join
two:
  %at = getelementptr double, ptr @table, i64 %i
  %d = load double, ptr %at
  %e = fmul double %d, 1.25
  %b = fptosi double %e to i64
  br label %join
other:
  %v = load <4 x i32>, ptr %p
  %w = add <4 x i32> %v, <i32 1, i32 2, i32 3, i32 4>
  store <4 x i32> %w, ptr %p
  %c = sdiv i64 %n, 7
  br label %join
join:
  %x = phi i64 [ %a, %one ], [ %b, %two ], [ %c, %other ]
  %more = add i64 %sum, %x
  %next = add i64 %i, 1
  %end = icmp slt i64 %next, %n
  br i1 %end, label %head, label %done
done:
  ret i64 %more
}
";

impl Machine {
    /// Makes one.
    pub(super) fn new(level: OptLevel) -> Result<Self, Error> {
        let target_error = |message: String| Error::Target { message };
        let triple = TargetMachine::get_default_triple();
        let target = Target::from_triple(&triple).map_err(|e| target_error(e.to_string()))?;
        let cpu = TargetMachine::get_host_cpu_name().to_string();
        let features = TargetMachine::get_host_cpu_features().to_string();
        target
            .create_target_machine(
                &triple,
                &cpu,
                &features,
                level.generator(),
                RelocMode::PIC,
                CodeModel::Small,
            )
            .map(|inner| Self { inner, level })
            .ok_or_else(|| target_error(format!("none for {}", display(&triple))))
    }

    pub(super) fn level(&self) -> OptLevel {
        self.level
    }

    pub(super) fn describe(&self, module: &Module<'_>) {
        module.set_triple(&self.inner.get_triple());
        module.set_data_layout(&self.inner.get_target_data().get_data_layout());
    }

    /// Compiles something small. The first time in the process that takes ten times as long as it
    /// will from then on: variables inside LLVM's functions are made, and their destructors
    /// registered before a cache's handler of `exit`, which must run before them. And what each
    /// machine learns of its target at first is not taken for the memory of a context.
    ///
    /// What is wrong with the passes is an error; what it cannot generate here it cannot later, and says so then.
    pub(super) fn try_out(&self, passes: &Passes) -> Result<(), String> {
        let context = Context::create();
        let Some(module) = small_program(&context) else {
            return Ok(());
        };
        self.describe(&module);
        if let Passes::Level(level) = passes {
            // The program may have no use for the passes over whole modules, but later ones may.
            let _ = self.run(level.whole(), &module);
        }
        match Self::passes(passes, &module) {
            "" => {}
            passes => self.run(passes, &module)?,
        }
        let _ = self.generate(&module);
        Ok(())
    }

    /// These passes, or those of a level for such a module.
    pub(super) fn passes<'p>(passes: &'p Passes, module: &Module<'_>) -> &'p str {
        match passes {
            Passes::Level(level) => level.pipeline(module),
            Passes::Text(text) => text,
        }
    }

    /// Runs passes. What went wrong is returned in LLVM's words, or told to the context's handler.
    pub(super) fn run(&self, passes: &str, module: &Module<'_>) -> Result<(), String> {
        module
            .run_passes(passes, &self.inner, PassBuilderOptions::create())
            .map_err(|e| e.to_string())
    }

    /// Generates an ELF object. What went wrong in the module is told to the context's handler.
    pub(super) fn generate(&self, module: &Module<'_>) -> Result<Vec<u8>, String> {
        self.inner
            .write_to_memory_buffer(module, FileType::Object)
            .map(|object| heap::measurable(object.as_slice()))
            .map_err(|e| e.to_string())
    }
}

fn display(triple: &TargetTriple) -> String {
    triple.as_str().to_string_lossy().into_owned()
}
