//! LLVM, driven by a front end: emit, verify, lower, optimise, generate.
//!
//! All methods of a batch are emitted into one module of the generation's context; each is
//! checked and verified as it comes. If any of them fails, the module is dropped and the others
//! are emitted again into a fresh one: taking a half-built method out of a module would mean to
//! find everything that refers to it. Failures are rare, and emitting is the cheap part.

mod aliases;
mod assume;
mod census;
mod check;
mod constants;
mod context;
mod count;
mod emitter;
mod heap;
mod import;
mod job;
mod kept;
mod labels;
mod length;
mod lower;
mod machine;
mod make;
mod names;
mod own;
mod pipeline;
mod places;
mod polls;
pub(crate) mod separate;
mod strip;
mod threads;
mod unit;
mod workshop;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use inkwell::context::Context;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::Module;

use self::census::Census;
use self::context::LlvmContext;
pub use self::emitter::{Emitter, Refused};
pub(crate) use self::heap::measurable;
pub(crate) use self::job::{Counting, Job, Made};
pub use self::machine::OptLevel;
use self::machine::{Machine, Machines};
pub use self::strip::DebugInfo;
pub use self::unit::Unit;
use self::unit::{Finished, Wishes};
pub(crate) use self::workshop::Workshop;
use super::batch::Wanted;
use super::{Backend, Batch};
use crate::config::{Hardening, TooLong};
use crate::error::{BoxError, Error, Reason};
use crate::isolate::Pool;
use crate::method::{Fallback, Key, Method, Table};
use crate::tier::Tier;

/// Emits methods as LLVM IR: what an embedder implements.
///
/// All methods of the trait are called on compile workers, or on threads that compile in
/// [their stead](crate::Cache::compile_some) (the prelude also on the reclaimer),
/// from several threads at once if the cache has several workers, never twice at once for one
/// key. They may panic: it costs the method its compilation and nothing else.
pub trait Frontend: Send + Sync + 'static {
    /// What names a method.
    type Key: Key;

    /// Runs once in each new context, off the compile path: declare the runtime's types (named
    /// structs are found again by [`Context::get_struct_type`]) and, in `prelude`, the runtime's
    /// functions with their attributes, which [`Unit::declared`] then declares where needed.
    fn prelude<'ctx>(
        &self,
        context: &'ctx Context,
        prelude: &Module<'ctx>,
    ) -> Result<(), BoxError> {
        let _ = (context, prelude);
        Ok(())
    }

    /// Emits one method into the batch's module.
    ///
    /// It may be called again for the same key: when the method is compiled again after an
    /// eviction, and when another method of the batch fails and the batch is built anew.
    fn emit<'ctx>(
        &self,
        key: &Self::Key,
        unit: &mut Unit<'_, 'ctx, Self::Key>,
    ) -> Result<(), BoxError>;

    /// The address of a name that the code left undefined, and that was neither imported in the
    /// builder nor belongs to the runtime library of code generation. What it points to must
    /// outlive the cache.
    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        let _ = symbol;
        None
    }

    /// A hint: methods with the same number are expected to die together, those of one class or
    /// module, say, or all that stay in use for ever. They are compiled together, into generations of
    /// their own as far as these are few ([`Builder::groups`](crate::Builder::groups)), so that a
    /// generation does not outlive its time for the sake of one. Default: 0 for all.
    ///
    /// Called by whoever asks for the method, on its thread and whenever it is asked for: it shall be
    /// quick, and must neither ask the cache for anything nor wait.
    fn group(&self, key: &Self::Key) -> u64 {
        let _ = key;
        0
    }

    /// Where calls of a method go while it has no code, and the word that they bring. Default: to the
    /// [fallback for all](crate::Builder::fallback), if there is one, with the word 0.
    ///
    /// Asked when the key is first mentioned (by a handle, or by code that calls it), by whoever does that, and again
    /// only when nothing had referred to the key for a time. It must not call the cache. One that panics
    /// means that the method has none.
    fn fallback(&self, key: &Self::Key) -> Fallback {
        let _ = key;
        Fallback::default()
    }
}

/// The backend of every front end.
pub(crate) struct Llvm<F> {
    frontend: F,
    machines: Machines,
    tiers: Vec<Tier>,
    hardening: Hardening,
    /// Who does the jobs, if this process does not.
    helpers: Option<Arc<Pool>>,
}

impl<F: Frontend> Llvm<F> {
    pub(crate) fn new(
        frontend: F,
        tiers: Vec<Tier>,
        helpers: Option<Arc<Pool>>,
        hardening: Hardening,
    ) -> Result<Self, Error> {
        Ok(Self {
            frontend,
            machines: Machines::new(&tiers, hardening.branch_targets)?,
            hardening,
            tiers,
            helpers,
        })
    }

    fn tier(&self, batch: &Batch<'_, F::Key>) -> &Tier {
        &self.tiers[batch.tier()]
    }

    /// Emits all methods that have not failed, and of which no IR is kept. False when one of them failed now, or is not for this batch.
    fn emit_all<'ctx>(
        &self,
        context: &'ctx LlvmContext,
        module: &Module<'ctx>,
        batch: &mut Batch<'_, F::Key>,
        all_wanted: &mut [Option<Wanted>],
    ) -> Result<bool, Error> {
        let mut good = true;
        batch.optimised = true;
        let mut census = Census::default();
        for (i, wanted) in all_wanted.iter_mut().enumerate() {
            *wanted = None;
            if batch.has_failed(i) || batch.sources[i].is_some() || !batch.begin(i) {
                continue;
            }
            let emitted = if good {
                self.emit_one(context, module, &mut census, batch, i)
            } else {
                // The module has the remains of a failed method, and will be dropped: the others
                // are tried each on its own, so that none is blamed for them.
                let trial = context.module("inkpot.trial");
                self.machines.describe(&trial);
                self.emit_one(context, &trial, &mut Census::default(), batch, i)
            };
            match emitted {
                Ok(Some(wishes)) => *wanted = self.wanted(batch, wishes),
                Ok(None) => good = false,
                Err(error @ (Error::OutOfSpace { .. } | Error::Memory { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    batch.fail(i, error);
                    good = false;
                }
            }
        }
        Ok(good)
    }

    /// What is to be kept of a method's IR, if anything.
    fn wanted(&self, batch: &Batch<'_, F::Key>, wishes: Wishes) -> Option<Wanted> {
        if wishes.long {
            return None; // it comes to no other tier
        }
        let next = self.tiers.get(batch.tier() + 1);
        let for_next = next.is_some_and(|next| !next.emits_again) && batch.is_promotable();
        let inlinable = wishes.inlinable && self.tiers.iter().any(|tier| tier.inlines);
        (for_next || inlinable).then_some(Wanted {
            optimised: wishes.optimised,
            inlinable,
        })
    }

    /// Emits one method. Nothing if it is to be compiled otherwise, and left its remains here.
    fn emit_one<'ctx>(
        &self,
        context: &'ctx LlvmContext,
        module: &Module<'ctx>,
        census: &mut Census,
        batch: &mut Batch<'_, F::Key>,
        i: usize,
    ) -> Result<Option<Wishes>, Error> {
        let key = batch.key(i);
        // Of an earlier try, whose code is gone.
        batch.assumed[i].clear();
        let method = || format!("{key:?}");
        let mut unit = Unit::new(context, module, batch, i);
        let emitted = catch_unwind(AssertUnwindSafe(|| self.frontend.emit(key, &mut unit)));
        let Finished {
            own,
            mut wishes,
            trouble,
        } = unit.finish();
        context.listen();
        match emitted {
            Err(panic) => {
                let message = crate::panic_message(&*panic);
                return Err(Error::FrontendPanicked {
                    method: method(),
                    message,
                });
            }
            Ok(_) if trouble.is_some() => return Err(trouble.expect("just seen")),
            Ok(Err(source)) => {
                return Err(Error::Frontend {
                    method: method(),
                    source: source.into(),
                });
            }
            Ok(Ok(())) => {}
        }
        // First: what is done about aliases deletes what is only declared.
        check::own_function(own).map_err(|m| Error::Verification {
            method: method(),
            message: m,
        })?;
        if aliases::any(module) {
            module.verify().map_err(|message| Error::Verification {
                method: method(),
                message: message.to_string(),
            })?;
            aliases::dissolve(module);
            aliases::drop_unused(module);
        }
        let mut added = census.additions(module);
        added.verify(module).map_err(|m| Error::Verification {
            method: method(),
            message: m,
        })?;
        added
            .restrict(own, wishes.data, batch)
            .map_err(|r| r.into_error(method()))?;
        added.drop_lists();
        wishes.long = self.is_long(batch, &added.functions, method)?;
        // SAFETY: live functions of the module, which has no aliases now.
        let stays = wishes.stay || unsafe { labels::escape(&added.functions) };
        if stays && !batch.stays(i) {
            return Ok(None);
        }
        // To promote it would be to reset its data, or come too late.
        // SAFETY: live functions of the module.
        let loops = || unsafe { added.functions.iter().any(|&f| places::loops(f)) };
        let passed_on = self.tier(batch).passes_loops_on && !wishes.long;
        let last = wishes.data || (passed_on && loops());
        let as_it_is = self.tiers.last().is_none_or(|last| !last.emits_again);
        if last && !batch.is_for_the_last(i, as_it_is) {
            return Ok(None);
        }
        // SAFETY: as above.
        wishes.inlinable &= !stays && !wishes.data && unsafe { import::fits(&added, own) };
        own::address(own, &lower::address_name(&batch.methods[i]))
            .map_err(|r| r.into_error(method()))?;
        census.settle(added, own, batch.methods[i].cell);
        batch.optimised &= wishes.optimised;
        Ok(Some(wishes))
    }

    /// Whether the method with these functions is longer than methods shall be, and is compiled none the less: for the first
    /// tier. Elsewhere that is an error.
    fn is_long(
        &self,
        batch: &Batch<'_, F::Key>,
        functions: &[LLVMValueRef],
        method: impl Fn() -> String,
    ) -> Result<bool, Error> {
        let Some((limit, what)) = batch.supplies.longest else {
            return Ok(false);
        };
        // SAFETY: live functions of the batch's module.
        let instructions = unsafe { length::of(functions) };
        let long = instructions > limit;
        if long && (what == TooLong::Refuse || batch.how.promotes) {
            return Err(Error::Declined {
                method: method(),
                reason: Reason::TooLong {
                    instructions,
                    limit,
                },
            });
        }
        Ok(long)
    }

    /// Emission of the whole batch, over again for as long as a method fails or is taken out.
    fn build<'ctx>(
        &self,
        context: &'ctx LlvmContext,
        batch: &mut Batch<'_, F::Key>,
    ) -> Result<Option<Built<'ctx>>, Error> {
        let mut wanted = vec![None; batch.len()];
        loop {
            if (0..batch.len()).all(|i| batch.has_failed(i)) {
                return Ok(None);
            }
            let module = context.module("inkpot.batch");
            self.machines.describe(&module);
            // Nothing is left if nobody wants any of it.
            let none = |batch: &Batch<'_, F::Key>| (0..batch.len()).all(|i| batch.has_failed(i));
            let emitted = self.emit_all(context, &module, batch, &mut wanted)?;
            if emitted && none(batch) {
                return Ok(None);
            }
            if emitted && kept::adopt(context, &module, batch) {
                return Ok(Some((module, wanted)));
            }
        }
    }

    /// Emits the batch, and makes it an object: over again, if the tier's emitter refuses methods.
    fn compile_module(
        &self,
        context: &LlvmContext,
        machine: &Machine,
        batch: &mut Batch<'_, F::Key>,
    ) -> Result<Vec<u8>, Error> {
        let mut may_import = batch.supplies.debug_info == DebugInfo::Stripped;
        loop {
            let started = Instant::now();
            context.listen();
            let Some((module, wanted)) = self.build(context, batch)? else {
                return Ok(Vec::new());
            };
            batch.supplies.debug_info.apply(&module);
            if wanted.iter().any(Option::is_some) {
                batch.keep(kept::write(&module).as_slice(), &wanted);
            }
            let imports = may_import && self.tier(batch).inlines && !batch.optimised;
            if imports && !import::bodies(context, &module, batch) {
                may_import = false;
                continue;
            }
            lower::calls(&module, batch);
            batch.phases.emit += started.elapsed();
            // A method may have taken its batch along to another tier.
            let level = self.tier(batch).generator;
            let other = (machine.level() != level).then(|| self.machines.take(level));
            let other = other.transpose()?;
            let with = other.as_ref().unwrap_or(machine);
            let object = self.make(context, &module, with, batch, imports);
            other
                .into_iter()
                .for_each(|other| self.machines.give_back(other));
            if let Some(object) = object? {
                return Ok(object);
            }
        }
    }
}

/// A batch's module, and what is to be kept of each method.
type Built<'ctx> = (Module<'ctx>, Vec<Option<Wanted>>);

/// What a batch took of the heap besides the context: lists that go when it is linked, and records of
/// methods, which are charged as such.
fn taken_for<K: Key>(batch: &Batch<'_, K>) -> i64 {
    let list = |list: &Vec<_>| heap::taken_by(list.capacity() * size_of::<Arc<Method<K>>>());
    let record: i64 = Table::<K>::RECORD.map(heap::taken_by).iter().sum();
    let kept: i64 = batch.kept_pieces.iter().map(|n| heap::taken_by(*n)).sum();
    list(&batch.callees) + list(&batch.addressed) + batch.made as i64 * record + kept
}

impl<F: Frontend> Backend<F::Key> for Llvm<F> {
    type Context = LlvmContext;

    fn open(&self) -> Result<(LlvmContext, u64), Error> {
        let before = heap::in_use();
        let mut context = LlvmContext::new();
        let prelude = |context: &LlvmContext| {
            context.with_prelude(|llvm, module| {
                self.machines.describe(module);
                catch_unwind(AssertUnwindSafe(|| self.frontend.prelude(llvm, module)))
                    .map_err(|panic| crate::panic_message(&*panic))?
                    .map_err(|error| error.to_string())?;
                module.verify().map_err(|e| e.to_string())
            })
        };
        prelude(&context).map_err(|message| Error::Prelude { message })?;
        context.listen();
        let gauge = self.machines.gauge();
        context.bytes = gauge.opened(heap::in_use() - before);
        let bytes = context.bytes as u64;
        Ok((context, bytes))
    }

    fn compile(
        &self,
        context: &mut LlvmContext,
        batch: &mut Batch<'_, F::Key>,
    ) -> Result<Vec<u8>, Error> {
        let machine = self.machines.take(self.tier(batch).generator)?;
        heap::fill_store();
        let before = heap::in_use() - batch.supplies.library.queued_bytes() as i64;
        let object = self.compile_module(context, &machine, batch);
        self.machines.give_back(machine);
        let (copy, work) = object.as_ref().map_or((0, 0), |o| (o.capacity(), o.len()));
        heap::fill_store();
        let queued = batch.supplies.library.queued_bytes() as i64;
        let measured = heap::in_use() - queued - before - heap::taken_by(copy) - taken_for(batch);
        let grown = self
            .machines
            .gauge()
            .grown(measured, work as u64, context.bytes);
        context.bytes += grown;
        batch.correct_context(grown);
        object
    }

    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        self.frontend.resolve(symbol)
    }

    fn group(&self, key: &F::Key) -> u64 {
        self.frontend.group(key)
    }

    fn fallback(&self, key: &F::Key) -> Fallback {
        self.frontend.fallback(key)
    }
}
