//! Whole caches that lose code: evicted, retired, recycled, while it is called.
//!
//! Promise 1, and promise 4: the model's own threads reclaim, and find all that was unlinked before.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread::yield_now;

use super::world::Region;
use crate::code::memory;
use crate::engine::Cause;
use crate::run::spawn;
use crate::stub::{Method, Plain, Stub, builder, cache, call, compile, method};
use crate::{Cache, Handle};

fn compiled() -> (Cache<u32>, Handle<u32, Method>) {
    let (cache, method) = cache(&Arc::<Stub<Plain>>::default());
    compile(&cache, &method);
    (cache, method)
}

fn evict(cache: &Cache<u32>, method: &Handle<u32, Method>) {
    let mut ledger = cache.core().ledger();
    ledger.drop_code(method.method(), Cause::Evicted);
}

fn call_if_resident(cache: &Cache<u32>, method: &Handle<u32, Method>) {
    let me = cache.participant("reader");
    let guard = me.pin();
    if let Some(entry) = method.entry(&guard) {
        call(&entry);
    }
}

/// Reclaims until a generation has been recycled.
fn reclaim(cache: &Cache<u32>) {
    while cache.core().ledger().counters.recycled == 0 {
        cache.maintain();
        yield_now();
    }
}

/// Promise 1: evicted and recycled while somebody calls.
pub(super) fn recycle() {
    let (cache, method) = compiled();
    let (of_reader, its) = (cache.clone(), method.clone());
    let reader = spawn(move || call_if_resident(&of_reader, &its));
    evict(&cache, &method);
    reclaim(&cache);
    reader.join().unwrap();
}

/// Promises 1 and 4: who is inside has the method evicted, while another thread reclaims.
pub(super) fn retire() {
    let (cache, method) = compiled();
    let (of_reader, its) = (cache.clone(), method.clone());
    let reader = spawn(move || {
        let me = of_reader.participant("reader");
        let guard = me.pin();
        let entry = its.entry(&guard).expect("nobody else evicts");
        evict(&of_reader, &its);
        call(&entry);
        drop(guard);
        call_if_resident(&of_reader, &its);
    });
    reclaim(&cache);
    reader.join().unwrap();
}

/// Promise 1: who compiles what was evicted calls the new code, and nobody the old.
pub(super) fn compile_again() {
    let (cache, method) = compiled();
    let (of_reader, its) = (cache.clone(), method.clone());
    let reader = spawn(move || {
        let me = of_reader.participant("reader");
        let mut guard = me.pin();
        call(&its.get(&mut guard).expect("it can be compiled"));
    });
    evict(&cache, &method);
    cache.maintain();
    reader.join().unwrap();
}

/// Promise 1: code that is leased stays for as long as the lease, and no longer.
pub(super) fn lease() {
    let (cache, method) = compiled();
    let me = cache.participant("reader");
    let lease = method.lease(&mut me.pin()).expect("it is there");
    evict(&cache, &method);
    let of_reclaimer = cache.clone();
    let reclaimer = spawn(move || reclaim(&of_reclaimer));
    let guard = me.pin();
    call(&lease.entry(&guard));
    drop(guard);
    drop(lease);
    reclaimer.join().unwrap();
}

/// Promises 1 and 6: compiled code calls a method that has no code, or has lost it just now.
pub(super) fn resolve() {
    let (cache, method) = compiled();
    let core = cache.core().clone();
    let me = cache.participant("reader");
    let guard = me.pin();
    let (of_evictor, its) = (cache.clone(), method.clone());
    let evictor = spawn(move || {
        evict(&of_evictor, &its);
        of_evictor.maintain();
    });
    let context: *const _ = core.table.context();
    // SAFETY: the thread is pinned, and the handle keeps the method.
    let at = unsafe { crate::method::resolve(context as u64, method.method().cell.into()) };
    memory::call(at);
    drop(guard);
    evictor.join().unwrap();
}

/// Promise 1, and what probation is for: a method whose cell is at its thunk, and whose code is there, is dropped while
/// compiled code calls it. If the call came first it is saved.
pub(super) fn probation() {
    // An eighth of all is on probation at most.
    const ALL: u32 = 8;
    let cache = builder(&Arc::<Stub<Plain>>::default())
        .generation_methods(ALL as usize)
        .build();
    let cache = cache.expect("no model refuses memory");
    let all: Vec<_> = (0..ALL).map(|key| method(&cache, key)).collect();
    all.iter()
        .for_each(|method| method.request().expect("there is room"));
    cache.compile_some(usize::MAX);
    let core = cache.core().clone();
    core.ledger().fill_probation(|_| true);
    let (cold, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|m| !m.method().is_linked());
    let [cold] = &cold[..] else {
        panic!("one of eight is on probation");
    };
    let code = cold
        .method()
        .lock()
        .resident
        .expect("its code is there")
        .entry as u64;
    others.iter().for_each(|method| evict(&cache, method));
    let me = cache.participant("reader");
    let guard = me.pin();
    let (of_evictor, its) = (cache.clone(), cold.clone());
    let evictor = spawn(move || {
        let mut ledger = of_evictor.core().ledger();
        if ledger.still_on_probation(its.method()) {
            ledger.squeeze_out(its.method());
        }
        drop(ledger);
        of_evictor.maintain();
    });
    let context: *const _ = core.table.context();
    // SAFETY: the thread is pinned, and the handle keeps the method.
    let at = unsafe { crate::method::resolve(context as u64, cold.method().cell.into()) };
    memory::call(at);
    drop(guard);
    evictor.join().unwrap();
    let resident = cold.method().lock().resident.expect("it was called");
    assert_eq!(resident.entry as u64, at, "it was called, and dropped");
    assert!(
        at != code || cold.method().is_linked(),
        "it was called, and is not linked"
    );
}

/// Who waits for an invalidation is woken, by whoever reclaims; and all who were inside then have left.
pub(super) fn ticket() {
    let (cache, method) = compiled();
    let inside = Arc::new(Region::empty());
    inside.fill();
    let (of_reader, its, place) = (cache.clone(), method.clone(), inside.clone());
    let reader = spawn(move || {
        let me = of_reader.participant("reader");
        let guard = me.pin();
        if let Some(entry) = its.entry(&guard) {
            call(&entry);
            place.call();
        }
        drop(guard);
    });
    let over = Arc::new(AtomicBool::new(false));
    let (of_reclaimer, is_over) = (cache.clone(), over.clone());
    let reclaimer = spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            of_reclaimer.maintain();
            yield_now();
        }
    });
    cache.invalidate(&1).wait().expect("the cache goes on");
    inside.unmap();
    over.store(true, Ordering::Relaxed);
    reader.join().unwrap();
    reclaimer.join().unwrap();
}
