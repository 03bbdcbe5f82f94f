//! A batch's object: by LLVM, here or in a helper, or by the tier's own emitter.

use std::time::Instant;

use inkwell::module::Module;

use super::context::LlvmContext;
use super::emitter::Refused;
use super::job::{Counting, Job};
use super::machine::Machine;
use super::{Llvm, count, heap};
use crate::compile::{Batch, Frontend, How};
use crate::error::Error;
use crate::isolate::{Part, Pool};
use crate::method::Key;
use crate::tier::counts;

impl<F: Frontend> Llvm<F> {
    /// Makes the object. Nothing if the tier's emitter has refused methods, which are not the batch's any more then.
    pub(super) fn make(
        &self,
        context: &LlvmContext,
        module: &Module<'_>,
        machine: &Machine,
        batch: &mut Batch<'_, F::Key>,
        imports: bool,
    ) -> Result<Option<Vec<u8>>, Error> {
        let codegen = |message| Error::Codegen {
            method: String::new(), // the engine knows
            message,
        };
        let tier = self.tier(batch);
        let methods = batch.methods.iter();
        let methods: Vec<_> = methods.map(|m| (m.cell, m.id.get())).collect();
        let emitter = tier.emitter.as_ref().filter(|_| batch.how.by_emitter);
        let threshold = tier.threshold().filter(|_| batch.is_promotable());
        let job = Job {
            passes: match batch.optimised {
                true => "",
                false => Machine::passes(&tier.passes, module),
            },
            level: machine.level(),
            imports,
            pool_constants: self.hardening.pool_constants,
            polls: batch.supplies.polls,
            counting: threshold.map(|threshold| Counting {
                threshold,
                table: counts::offset(),
                stub: batch.supplies.table.cells().stub() as u64,
                by_bytes: emitter.is_none(),
                branch_targets: self.hardening.branch_targets,
                methods: &methods,
            }),
            separable: batch.supplies.separable && !batch.how.staying,
        };
        let Some(emitter) = emitter else {
            let made = match &self.helpers {
                None => job.run(context, machine, module).map_err(codegen)?,
                Some(helpers) => {
                    let object = made_elsewhere(helpers, &job, module, batch);
                    return object.map(Some);
                }
            };
            batch.phases.optimise += made.optimise;
            batch.phases.generate += made.generate;
            return Ok(Some(made.object));
        };
        let started = Instant::now();
        job.prepare(context, machine, module).map_err(codegen)?;
        batch.phases.optimise += started.elapsed();
        let started = Instant::now();
        let emitted = emitter.emit(module);
        batch.phases.generate += started.elapsed();
        match emitted {
            Ok(object) => Ok(Some(heap::measurable(object.as_slice()))),
            Err(Refused { functions }) => {
                leave_to_llvm(batch, &functions).map_err(codegen)?;
                Ok(None)
            }
        }
    }
}

/// An object that a helper makes.
fn made_elsewhere<K: Key>(
    helpers: &Pool,
    job: &Job<'_>,
    module: &Module<'_>,
    batch: &mut Batch<'_, K>,
) -> Result<Vec<u8>, Error> {
    let started = Instant::now();
    let bitcode = module.write_bitcode_to_memory();
    let part = match batch.len() {
        1 => Part::Alone,
        _ => Part::Batch(batch.how.halvings),
    };
    match helpers.compile(job, bitcode.as_slice(), part) {
        Ok(made) => {
            batch.phases.optimise += made.optimise;
            batch.phases.generate += made.generate;
            // What was not for LLVM's passes or code was for getting it there.
            let there = made.optimise + made.generate;
            batch.phases.emit += started.elapsed().saturating_sub(there);
            Ok(made.object)
        }
        Err(error @ (Error::NoHelper { .. } | Error::ShuttingDown)) => {
            // It is no method's fault, and would be the same for each.
            batch.fail_all(&error);
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// The methods of these functions, or the only one, are to be compiled by LLVM's generator.
fn leave_to_llvm<K: Key>(batch: &mut Batch<'_, K>, functions: &[String]) -> Result<(), String> {
    let cells = functions.iter().map(|name| count::owner(name.as_bytes()));
    let cells: Vec<u32> = cells.flatten().collect();
    let there: Vec<usize> = (0..batch.len()).filter(|&i| !batch.has_failed(i)).collect();
    let is_refused = |i: &usize| cells.contains(&batch.methods[*i].cell);
    let refused = match there[..] {
        [only] => vec![only],
        _ => there.into_iter().filter(is_refused).collect(),
    };
    if refused.is_empty() {
        return Err("the tier's emitter refuses a method".to_owned());
    }
    for i in refused {
        batch.otherwise[i] = Some(How {
            by_emitter: false,
            ..batch.how
        });
    }
    Ok(())
}
