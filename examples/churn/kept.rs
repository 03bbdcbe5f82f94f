//! The two strategies without a cache, over LLVM's own LLJIT, an object a method: all methods in
//! one context for ever, or each in a context of its own. No code is ever freed: nobody can say when
//! a thread has left a method for good. Modules are, as soon as they have been compiled.
//!
//! One thread compiles, and owns contexts and code. The others ask it, and wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use inkwell::OptimizationLevel;
use inkwell::context::Context;
use inkwell::module::Module;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{
    CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine,
};
use inkwell::values::FunctionValue;

use crate::emit::{self, emit};
use crate::lljit::Lljit;
use crate::prelude;
use crate::runtime::{MethodFn, Thread, Value, functions};
use crate::strategy::{Body, Caller, Fallible, Figures, Strategy};
use crate::world::Key;

/// Which contexts there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Contexts {
    One,
    OneEach,
}

/// Compiled methods that stay.
pub struct Kept {
    shared: Arc<Shared>,
    /// `None` once no more requests are taken.
    requests: Option<Sender<Key>>,
    compiler: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    table: Mutex<HashMap<Key, Method>>,
    compiled: Condvar,
    compiles: AtomicU64,
    contexts: AtomicU64,
    invalidations: AtomicU64,
    /// What is still asked for is not compiled any more.
    stop: AtomicBool,
}

#[derive(Clone)]
enum Method {
    Queued,
    Ready(MethodFn),
    Failed(String),
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, HashMap<Key, Method>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    pub fn new(contexts: Contexts, seed: u64, opt: u8) -> Fallible<Self> {
        let shared = Arc::new(Shared::default());
        let (requests, queue) = channel();
        let theirs = shared.clone();
        let (ready, begun) = sync_channel(1);
        let compile = move || match Compiler::new(contexts, seed, opt, theirs) {
            Ok(compiler) => {
                ready.send(Ok(())).ok();
                compiler.run(&queue);
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let compiler = std::thread::Builder::new()
            .name("compiler".into())
            .spawn(compile)?;
        begun.recv()??;
        Ok(Self {
            shared,
            requests: Some(requests),
            compiler: Some(compiler),
        })
    }

    fn send(&self, key: &Key) -> Fallible<()> {
        let requests = self.requests.as_ref();
        Ok(requests.ok_or("nobody compiles any more")?.send(*key)?)
    }

    fn resident(&self, key: &Key) -> Option<MethodFn> {
        match self.shared.table().get(key) {
            Some(Method::Ready(entry)) => Some(*entry),
            _ => None,
        }
    }

    fn wait_for(&self, key: &Key) -> Fallible<MethodFn> {
        let mut table = self.shared.table();
        loop {
            match table.get(key) {
                Some(Method::Ready(entry)) => return Ok(*entry),
                Some(Method::Failed(error)) => return Err(error.clone().into()),
                Some(Method::Queued) => {}
                None => {
                    table.insert(*key, Method::Queued);
                    self.send(key)?;
                }
            }
            table = self
                .shared
                .compiled
                .wait(table)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// LLVM's static variables go when the process exits: nobody must be compiling then.
impl Drop for Kept {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.requests = None;
        if let Some(compiler) = self.compiler.take() {
            let _ = compiler.join(); // a panic was reported when it happened
        }
    }
}

impl Strategy for Kept {
    type Site = Key;

    fn site(&self, key: &Key) -> Fallible<Key> {
        Ok(*key)
    }

    fn request(&self, site: &Key) -> Fallible<()> {
        let mut table = self.shared.table();
        if !table.contains_key(site) {
            table.insert(*site, Method::Queued);
            self.send(site)?;
        }
        Ok(())
    }

    fn invalidate(&self, keys: &[Key]) {
        let table = self.shared.table();
        // Their code stays, since someone may be in it, and so does what is known of them, for
        // call sites that ask for an old version once more.
        let known = keys
            .iter()
            .filter(|key| matches!(table.get(key), Some(Method::Ready(_))));
        self.shared
            .invalidations
            .fetch_add(known.count() as u64, Ordering::Relaxed);
    }

    fn figures(&self) -> Figures {
        Figures {
            compiles: self.shared.compiles.load(Ordering::Relaxed),
            contexts: self.shared.contexts.load(Ordering::Relaxed),
            invalidations: self.shared.invalidations.load(Ordering::Relaxed),
            ..Figures::default()
        }
    }

    fn enter(&self, _name: &str, body: &mut Body<'_, Key>) -> Fallible<()> {
        body(&mut &*self)
    }
}

impl Caller<Key> for &Kept {
    fn call(
        &mut self,
        site: &Key,
        thread: &mut Thread,
        left: Value,
        right: Value,
    ) -> Fallible<Value> {
        let entry = self.wait_for(site)?;
        // SAFETY: the compiler emitted it with this type, and it is never freed.
        Ok(unsafe { entry(thread, left, right) })
    }

    fn call_resident(
        &mut self,
        site: &Key,
        thread: &mut Thread,
        left: Value,
        right: Value,
    ) -> Option<Value> {
        let entry = self.resident(site)?;
        // SAFETY: as above.
        Some(unsafe { entry(thread, left, right) })
    }

    fn rest(&mut self) {}
}

/// What the compiling thread owns. Contexts and code end with the process.
struct Compiler {
    contexts: Contexts,
    seed: u64,
    opt: u8,
    shared: Arc<Shared>,
    current: &'static Context,
    machine: TargetMachine,
    jit: Lljit,
}

impl Compiler {
    fn new(contexts: Contexts, seed: u64, opt: u8, shared: Arc<Shared>) -> Fallible<Self> {
        Target::initialize_native(&InitializationConfig::default())?;
        let triple = TargetMachine::get_default_triple();
        let machine = Target::from_triple(&triple)?
            .create_target_machine(
                &triple,
                TargetMachine::get_host_cpu_name().to_str()?,
                TargetMachine::get_host_cpu_features().to_str()?,
                level(opt),
                RelocMode::PIC,
                CodeModel::Small,
            )
            .ok_or("no target machine")?;
        let jit = Lljit::new()?;
        for (name, _, address) in functions() {
            jit.define(name, address)?;
        }
        let current = new_context(&shared);
        Ok(Self {
            contexts,
            seed,
            opt,
            shared,
            current,
            machine,
            jit,
        })
    }

    fn run(mut self, queue: &Receiver<Key>) {
        for key in queue {
            if self.shared.stop.load(Ordering::Relaxed) {
                break;
            }
            self.address(&key).ok();
        }
    }

    /// A method's address, after it has been compiled if need be.
    fn address(&mut self, key: &Key) -> Fallible<MethodFn> {
        if let Some(Method::Ready(entry)) = self.shared.table().get(key) {
            return Ok(*entry);
        }
        let compiled = self.compile(key);
        let method = match &compiled {
            Ok(entry) => Method::Ready(*entry),
            Err(error) => Method::Failed(error.to_string()),
        };
        self.shared.table().insert(*key, method);
        self.shared.compiled.notify_all();
        compiled
    }

    fn compile(&mut self, key: &Key) -> Fallible<MethodFn> {
        let context = match self.contexts {
            Contexts::One => self.current,
            Contexts::OneEach if self.shared.compiles.load(Ordering::Relaxed) == 0 => self.current,
            Contexts::OneEach => new_context(&self.shared),
        };
        let module = context.create_module("method");
        module.set_triple(&self.machine.get_triple());
        module.set_data_layout(&self.machine.get_target_data().get_data_layout());
        prelude::declare_functions(context, &module);
        let mut target = ModuleTarget {
            context,
            module: &module,
            key,
            callees: Vec::new(),
        };
        emit(self.seed, key, &mut target)?;
        for callee in target.callees {
            self.address(&callee)?;
        }
        module.verify()?;
        if self.opt > 0 {
            let passes = format!("default<O{}>", self.opt);
            module.run_passes(&passes, &self.machine, PassBuilderOptions::create())?;
        }
        self.jit.add(
            self.machine
                .write_to_memory_buffer(&module, FileType::Object)?,
        )?;
        let address = self.jit.address(&name(key))?;
        self.shared.compiles.fetch_add(1, Ordering::Relaxed);
        // SAFETY: every method is emitted with this type.
        Ok(unsafe { std::mem::transmute::<*const (), MethodFn>(address) })
    }
}

fn name(key: &Key) -> String {
    format!("method.{}.{}.{}", key.family, key.version, key.part)
}

fn level(opt: u8) -> OptimizationLevel {
    match opt {
        0 => OptimizationLevel::None,
        1 => OptimizationLevel::Less,
        2 => OptimizationLevel::Default,
        _ => OptimizationLevel::Aggressive,
    }
}

/// A context that stays, with the VM's types in it.
fn new_context(shared: &Shared) -> &'static Context {
    let context: &'static Context = Box::leak(Box::new(Context::create()));
    prelude::declare(context, &context.create_module("prelude"));
    shared.contexts.fetch_add(1, Ordering::Relaxed);
    context
}

/// A method in a module of its own.
struct ModuleTarget<'m> {
    context: &'static Context,
    module: &'m Module<'static>,
    key: &'m Key,
    callees: Vec<Key>,
}

impl ModuleTarget<'_> {
    fn declare(&self, key: &Key) -> FunctionValue<'static> {
        let name = name(key);
        self.module.get_function(&name).unwrap_or_else(|| {
            self.module
                .add_function(&name, prelude::method_type(self.context), None)
        })
    }
}

impl emit::Target<'static> for ModuleTarget<'_> {
    fn context(&self) -> &'static Context {
        self.context
    }

    fn define(&mut self) -> FunctionValue<'static> {
        self.declare(self.key)
    }

    fn callee(&mut self, key: &Key) -> Fallible<FunctionValue<'static>> {
        if !self.callees.contains(key) {
            self.callees.push(*key);
        }
        Ok(self.declare(key))
    }

    fn runtime(&mut self, name: &str) -> Fallible<FunctionValue<'static>> {
        Ok(self
            .module
            .get_function(name)
            .ok_or_else(|| format!("no runtime function {name}"))?)
    }
}
