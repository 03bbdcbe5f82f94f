//! How fast a burst of methods is compiled: through the cache, and one module each through the
//! bare pipeline of LLVM.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use inkpot::OptLevel;
use inkpot::inkwell::OptimizationLevel;
use inkpot::inkwell::comdat::ComdatSelectionKind;
use inkpot::inkwell::context::Context;
use inkpot::inkwell::module::{Linkage, Module};
use inkpot::inkwell::passes::PassBuilderOptions;
use inkpot::inkwell::targets::{
    CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine,
};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, SectionKind};

use crate::measure::{Pair, processor_seconds, quantile};
use crate::methods::{self, Bursts, Name, Size};

/// Modules that share a context in the bare pipeline.
const PER_CONTEXT: u64 = 64;

pub fn medium() {
    run("batch_medium_rate", Size::Medium, 192);
}

pub fn small() {
    run("batch_small_rate", Size::Tiny, 384);
}

fn run(name: &'static str, size: Size, burst: u64) {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let cache = methods::builder(&EMITTING).build().expect("a cache");
    let mut ours = Bursts::new(cache, size, burst);
    let mut theirs = Bare::new(size, burst);
    let pair = Pair {
        name,
        ours: "through the cache",
        theirs: "a module each",
        unit: "methods/s",
    };
    // All that the cache's threads did counts, also what they did behind the burst's back.
    let (mut our_work, mut their_work) = (Vec::new(), Vec::new());
    let work = |took: &mut Vec<f64>, run: &mut dyn FnMut() -> f64| {
        let before = processor_seconds();
        let seconds = run();
        took.push((processor_seconds() - before) * 1e3 / burst as f64);
        burst as f64 / seconds
    };
    pair.in_turns(
        || work(&mut our_work, &mut || ours.run()),
        || work(&mut their_work, &mut || theirs.run()),
    );
    let (our_work, their_work) = (quantile(&our_work, 0.5), quantile(&their_work, 0.5));
    eprintln!(
        "{name}: processor time {our_work:.3} and {their_work:.3} ms a method, a rate of {:.3}",
        their_work / our_work
    );
    let text = theirs.text as f64 / theirs.next as f64;
    eprintln!("{name}: {text:.0} bytes of code a method");
}

/// LLVM as one would use it without a cache: emit, optimise, generate an object.
pub struct Bare {
    machine: TargetMachine,
    passes: &'static str,
    size: Size,
    methods: u64,
    next: u64,
    /// Bytes of code generated.
    text: u64,
}

// SAFETY: a target machine is used by one thread at a time, as whoever calls it has `Bare` alone.
unsafe impl Send for Bare {}

impl Bare {
    pub fn new(size: Size, methods: u64) -> Self {
        Self::at(OptLevel::O1, size, methods)
    }

    /// At O1 or O2.
    pub fn at(level: OptLevel, size: Size, methods: u64) -> Self {
        let (level, passes) = match level {
            OptLevel::O2 => (OptimizationLevel::Default, "default<O2>"),
            _ => (OptimizationLevel::Less, "default<O1>"),
        };
        Target::initialize_native(&InitializationConfig::default()).expect("a native target");
        let triple = TargetMachine::get_default_triple();
        let target = Target::from_triple(&triple).expect("a native target");
        let machine = target.create_target_machine(
            &triple,
            &TargetMachine::get_host_cpu_name().to_string(),
            &TargetMachine::get_host_cpu_features().to_string(),
            level,
            RelocMode::PIC,
            CodeModel::Small,
        );
        Self {
            machine: machine.expect("a native target"),
            passes,
            size,
            methods,
            next: 0,
            text: 0,
        }
    }

    /// Compiles a burst, and says how many seconds that took. What the cache leaves to its
    /// reclaimer is not in the time here either: contexts are disposed of afterwards.
    fn run(&mut self) -> f64 {
        let started = Instant::now();
        let mut objects = Vec::new();
        let contexts = self.each(|_, object| objects.push(object));
        let took = started.elapsed().as_secs_f64();
        drop(contexts);
        self.text += objects.iter().map(|o| text_bytes(o)).sum::<u64>();
        took
    }

    /// Compiles a burst, and passes each object on with its number. The contexts are to be disposed of by the caller.
    pub fn each(&mut self, mut object: impl FnMut(u64, Vec<u8>)) -> Vec<Context> {
        self.contexts(|bare, context, number| object(number, bare.compile(context, number)))
    }

    /// Emits and optimises a burst, and passes each module on with its symbol. The contexts are to be disposed of by the
    /// caller, after the modules.
    pub fn modules(&mut self, mut module: impl FnMut(Module<'_>, &str)) -> Vec<Context> {
        self.contexts(|bare, context, number| {
            let size = bare.size;
            let all = [(Name { size, number }, format!("method.{number}"))];
            module(bare.optimised(context, &all), &all[0].1);
        })
    }

    fn contexts(&mut self, mut each: impl FnMut(&Self, &Context, u64)) -> Vec<Context> {
        let names = self.next..self.next + self.methods;
        self.next = names.end;
        let mut contexts = Vec::new();
        for (n, number) in (0..).zip(names) {
            if u64::is_multiple_of(n, PER_CONTEXT) {
                let context = Context::create();
                methods::prelude(&context);
                contexts.push(context);
            }
            each(self, contexts.last().expect("just made"), number);
        }
        contexts
    }

    fn compile(&self, context: &Context, number: u64) -> Vec<u8> {
        let size = self.size;
        self.compile_into(
            context,
            &[(Name { size, number }, format!("method.{number}"))],
            false,
        )
    }

    /// Compiles methods into one object, under these symbols; `apart`: each has a section of its own, as the cache
    /// has it.
    pub fn compile_all(&self, all: &[(Name, String)], apart: bool) -> Vec<u8> {
        let context = Context::create();
        methods::prelude(&context);
        self.compile_into(&context, all, apart)
    }

    /// A module of methods.
    fn optimised<'ctx>(&self, context: &'ctx Context, all: &[(Name, String)]) -> Module<'ctx> {
        let module = context.create_module("methods");
        module.set_triple(&self.machine.get_triple());
        module.set_data_layout(&self.machine.get_target_data().get_data_layout());
        for (name, symbol) in all {
            let signature = methods::signature(context);
            let function = module.add_function(symbol, signature, Some(Linkage::External));
            methods::body(context, &module, *name, function, |name, ty| {
                let known = module.get_function(name);
                known.unwrap_or_else(|| module.add_function(name, ty, Some(Linkage::External)))
            })
            .expect("it is emitted");
        }
        module
            .run_passes(self.passes, &self.machine, PassBuilderOptions::create())
            .expect("it is optimised");
        module
    }

    fn compile_into(&self, context: &Context, all: &[(Name, String)], apart: bool) -> Vec<u8> {
        let module = self.optimised(context, all);
        if apart {
            for (_, symbol) in all {
                let function = module.get_function(symbol).expect("it was added");
                let comdat = module.get_or_insert_comdat(&all[0].1);
                comdat.set_selection_kind(ComdatSelectionKind::NoDuplicates);
                function.as_global_value().set_comdat(comdat);
            }
        }
        let object = self
            .machine
            .write_to_memory_buffer(&module, FileType::Object)
            .expect("it is generated");
        object.as_slice().to_vec()
    }
}

fn text_bytes(object: &[u8]) -> u64 {
    let file = ElfFile64::<Endianness>::parse(object).expect("LLVM's objects are ELF");
    file.sections()
        .filter(|s| s.kind() == SectionKind::Text)
        .map(|s| s.size())
        .sum()
}
