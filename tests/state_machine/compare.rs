//! Whether a cache is what the model says. Where a thread's stack was scanned, more may be kept than
//! the model knows of: then there are bounds.

use std::sync::atomic::Ordering;

use inkpot::Statistics;

use crate::model::{Generation, Model};
use crate::support::synthetic::CONTEXT;
use crate::system::System;

fn same(what: &str, is: u64, expected: usize) -> Result<(), String> {
    if is == expected as u64 {
        return Ok(());
    }
    Err(format!("{what}: {is}, expected {expected}"))
}

fn within(what: &str, is: u64, (least, most): (u64, u64)) -> Result<(), String> {
    if (least..=most).contains(&is) {
        return Ok(());
    }
    Err(format!("{what}: {is}, expected {least} to {most}"))
}

/// What was asked for is compiled, also when nobody waited.
pub fn compiled(system: &System, model: &Model) -> Result<(), String> {
    let now = system.cache.statistics();
    let compiled = (model.compiles + model.failures) as usize;
    same("compiled", now.compiles + now.failures, compiled)
}

/// All is unlinked and nobody pinned: everything is free again.
pub fn the_end(system: &System, model: &Model) -> Result<(), String> {
    let end = system.cache.statistics();
    let generations = model.generations.len() + model.died.len();
    same("participants", end.participants, 0)?;
    same("leases", end.leases, 0)?;
    same("recycled", end.generations_recycled, generations)?;
    same("code", end.mapped_code_bytes, 0)?;
    same("retired", end.bytes.retired, 0)?;
    same("held", end.bytes.held, 0)?;
    same("bonds", end.bonds, 0)?;
    same("recipes", end.bytes.recipes, 0)?;
    let beside = end.bytes.bookkeeping + end.bytes.spare_contexts;
    same("charged", end.bytes.charged, beside as usize)?;
    same("known", end.methods_known, end.addresses_taken as usize)?;
    if !model.quarantine {
        same("mapped", end.mapped, system.mapped_at_first as usize)?;
    }
    Ok(())
}

/// After any transition.
pub fn everything(system: &System, model: &Model) -> Result<(), String> {
    let now = system.cache.statistics();
    same("resident", now.methods_resident, model.resident.len())?;
    same("on probation", now.methods_on_probation, 0)?;
    let open = model.open_for_survivors.iter().chain(&model.open);
    let open = open.flatten().count();
    same("open", now.generations_open, open)?;
    let sealed = model.generations.len() - open;
    same("sealed", now.generations_sealed, sealed)?;
    let gone = now.generations_dead + now.generations_fallow + now.generations_recycled;
    same("died", gone, model.died.len())?;
    if now.generations_held > now.generations_fallow {
        return Err("more are held than are fallow".to_owned());
    }
    same("compiles", now.compiles, model.compiles as usize)?;
    same("promotions", now.promotions, model.promotions as usize)?;
    same("failures", now.failures, model.failures as usize)?;
    same("evictions", now.evictions, model.evictions as usize)?;
    same("bonds", now.bonds, model.bonds())?;
    same("fallen", now.unlinked_by_assumptions, model.fallen as usize)?;
    same("moves", now.moves, model.moves as usize)?;
    same("hits", now.hits, model.hits as usize)?;
    same("misses", now.misses, model.misses as usize)?;
    let spare = now.bytes.spare_contexts / CONTEXT;
    // A context goes as soon as the reclaimer has seen that its generation is dead.
    let unseen = model.died.iter().rev().take(now.generations_dead as usize);
    let there = model.generations.values().chain(unseen);
    let with_context = there.filter(|g| !g.survivors).count();
    let contexts = with_context + spare as usize;
    same("contexts", now.contexts, contexts)?;
    let alive = system.counts.contexts.load(Ordering::SeqCst);
    same("contexts alive", alive as u64, contexts)?;
    let pinned = model.participants.iter().any(|p| p.pin.is_some());
    same(
        "pinned",
        u64::from(now.longest_pinned.is_some()),
        usize::from(pinned),
    )?;
    leases(model, &now)?;
    living(model, &now)?;
    dead(system, model, &now)
}

fn leases(model: &Model, now: &Statistics) -> Result<(), String> {
    same("leases", now.leases, model.leases.len())?;
    let names = model.leases.iter().map(|(code, _)| format!("{code:?}"));
    if !names.eq(now.leased.iter().cloned()) {
        return Err(format!("leased are {:?}", now.leased));
    }
    Ok(())
}

/// Bytes of open and sealed generations.
fn living(model: &Model, now: &Statistics) -> Result<(), String> {
    let bytes = &now.bytes;
    let alive = || model.generations.values();
    let sum = |of: fn(&Generation) -> u64| alive().map(of).sum::<u64>() as usize;
    within("text", bytes.text, span(alive(), |g| g.size.text()))?;
    same("constants", bytes.constants, sum(|g| g.size.constants()))?;
    same("data", bytes.data, 0)?;
    same("unwind", bytes.unwind, sum(|g| g.size.unwind()))?;
    same("contexts", bytes.contexts, sum(|g| g.size.context))?;
    let kept = span(model.kept_generations(), |g| g.size.total());
    within("kept", bytes.kept, kept)?;
    let code = bytes.text + bytes.constants + bytes.unwind;
    let beside = bytes.bookkeeping + bytes.spare_contexts + bytes.recipes;
    let charged = code + bytes.contexts - bytes.kept + beside;
    same("charged", bytes.charged, charged as usize)
}

/// Sums of what each takes at least, and at most.
fn span<'a>(
    generations: impl Iterator<Item = &'a Generation>,
    of: impl Fn(&Generation) -> (u64, u64),
) -> (u64, u64) {
    let sum = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);
    generations.map(of).fold((0, 0), sum)
}

/// Generations without a live method: some must be there, and of the others so many are that the
/// number is right.
fn dead(system: &System, model: &Model, now: &Statistics) -> Result<(), String> {
    let bytes = &now.bytes;
    let unseen = now.generations_dead as usize;
    let (certain, others) = model.certain_and_others(unseen);
    let there = (now.generations_dead + now.generations_fallow) as usize;
    if there < certain.len() {
        let recycled = now.generations_recycled;
        let can_be = model.reclaimable();
        return Err(format!("{recycled} freed, {can_be} can be"));
    }
    let doubtful = there - certain.len();
    let least = model.known(certain.iter().copied());
    let most = match doubtful {
        0 => least,
        _ => model.known(model.died.iter()),
    };
    within("known", now.methods_known, (least as u64, most as u64))?;
    let mut sizes: Vec<_> = others.iter().map(|g| g.size.mapped()).collect();
    sizes.sort_unstable();
    let (mut least, mut most) = span(certain.iter().copied(), |g| g.size.mapped());
    least += sizes.iter().take(doubtful).map(|s| s.0).sum::<u64>();
    sizes.sort_unstable_by_key(|s| std::cmp::Reverse(s.1));
    most += sizes.iter().take(doubtful).map(|s| s.1).sum::<u64>();
    let seen = model.died.len() - unseen;
    let contexts: u64 = model.died[seen..].iter().map(|g| g.size.context).sum();
    let retired = (least + contexts, most + contexts);
    within("retired", bytes.retired, retired)?;
    if bytes.held > bytes.retired {
        return Err("more bytes are held than are retired".to_owned());
    }
    if !model.quarantine {
        let code = bytes.text + bytes.constants + bytes.unwind;
        let mapped = system.mapped_at_first + code + bytes.retired - contexts;
        same("mapped", now.mapped, mapped as usize)?;
    }
    Ok(())
}
