//! Whole caches in which somebody asks: single flight, failures, what falls meanwhile, and who is woken.
//!
//! Promise 7: each key is compiled once at a time, and what was begun before an invalidation is never published.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use crate::engine::Cause;
use crate::run::spawn;
use crate::stub::{Loose, Method, Plain, Stub, cache, call, compile, tiered};
use crate::{Assumption, Cache, Handle};

fn get(cache: &Cache<u32>, method: &Handle<u32, Method>) -> u8 {
    let me = cache.participant("one");
    let mut guard = me.pin();
    call(&method.get(&mut guard).expect("it can be compiled"))
}

/// The number in the method's code, if it is resident.
fn look(cache: &Cache<u32>, method: &Handle<u32, Method>) -> Option<u8> {
    let me = cache.participant("one");
    let guard = me.pin();
    method.entry(&guard).map(|entry| call(&entry))
}

fn invalidate(cache: &Cache<u32>, method: &Handle<u32, Method>) {
    let mut ledger = cache.core().ledger();
    ledger.drop_code(method.method(), Cause::Invalidated);
}

/// Promise 7: two ask at once, and it is compiled once.
pub(super) fn single_flight() {
    let stub = Arc::<Stub<Plain>>::default();
    let (cache, method) = cache(&stub);
    let (of_other, its) = (cache.clone(), method.clone());
    let other = spawn(move || get(&of_other, &its));
    get(&cache, &method);
    other.join().unwrap();
    assert_eq!(stub.compiled.load(Ordering::Relaxed), 1);
}

/// Promise 5: it cannot be compiled, and all who ask are told.
pub(super) fn fails() {
    let stub = Arc::new(Stub::<Plain>::failing());
    let (cache, method) = cache(&stub);
    let (of_other, its) = (cache.clone(), method.clone());
    let asks = |cache: &Cache<u32>, method: &Handle<u32, Method>| {
        let me = cache.participant("one");
        let mut guard = me.pin();
        assert!(method.get(&mut guard).is_err());
    };
    let other = spawn(move || asks(&of_other, &its));
    asks(&cache, &method);
    other.join().unwrap();
}

/// Promise 7: it is invalidated while it is compiled. From then on nobody finds what was begun before.
pub(super) fn invalidated() {
    let stub = Arc::<Stub<Loose>>::default();
    let (cache, method) = cache(&stub);
    let (of_other, its) = (cache.clone(), method.clone());
    let other = spawn(move || get(&of_other, &its));
    stub.about.change();
    invalidate(&cache, &method);
    assert_eq!(get(&cache, &method), 1, "it was begun before");
    other.join().unwrap();
    assert_eq!(look(&cache, &method), Some(1), "it was begun before");
}

/// Promise 7: what it relies on falls while it is compiled.
pub(super) fn assumption_falls() {
    let falls = Assumption::new();
    let stub = Arc::new(Stub::<Loose>::relying_on(&falls));
    let (cache, method) = cache(&stub);
    let (of_other, its) = (cache.clone(), method.clone());
    let other = spawn(move || get(&of_other, &its));
    stub.about.change();
    drop(falls.invalidate());
    assert!(
        look(&cache, &method).is_none_or(|number| number == 1),
        "it was begun before"
    );
    other.join().unwrap();
    assert_eq!(get(&cache, &method), 1, "it was begun before");
}

/// Promise 7: it is invalidated while it is promoted.
pub(super) fn promoted() {
    let stub = Arc::<Stub<Loose>>::default();
    let (cache, method) = tiered(&stub);
    compile(&cache, &method);
    let (of_other, its) = (cache.clone(), method.clone());
    let other = spawn(move || {
        if its.promote().expect("the cache goes on") {
            of_other.compile_some(1);
        }
    });
    stub.about.change();
    invalidate(&cache, &method);
    assert!(
        look(&cache, &method).is_none_or(|number| number == 1),
        "it was begun before"
    );
    other.join().unwrap();
    assert!(
        look(&cache, &method).is_none_or(|number| number == 1),
        "it was begun before"
    );
}

/// Who asks, and does not wait, after an invalidation, while it is compiled in vain: it is compiled once more.
pub(super) fn asked_again() {
    let stub = Arc::<Stub<Loose>>::default();
    let (cache, method) = cache(&stub);
    method.request().expect("there is room");
    let of_other = cache.clone();
    let other = spawn(move || of_other.compile_some(1));
    invalidate(&cache, &method);
    method.request().expect("there is room");
    other.join().unwrap();
    cache.compile_some(1);
    assert!(look(&cache, &method).is_some(), "a request was lost");
}

/// Two wait, and one gives up: the other has what it waited for.
pub(super) fn one_gives_up() {
    let stub = Arc::<Stub<Plain>>::default();
    let (cache, method) = cache(&stub);
    let its = method.clone();
    let other = spawn(move || {
        let mut waits = pin!(its.compiled());
        let _ = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    });
    let mut waits = pin!(method.compiled());
    let before = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    other.join().unwrap();
    cache.compile_some(1);
    let ready = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(
        before.is_ready() || matches!(ready, Poll::Ready(Ok(_))),
        "its request was dropped"
    );
}

/// One gives up, and another asked and does not wait.
pub(super) fn wish_stays() {
    let stub = Arc::<Stub<Plain>>::default();
    let (cache, method) = cache(&stub);
    let its = method.clone();
    let other = spawn(move || {
        let mut waits = pin!(its.compiled());
        let _ = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    });
    method.request().expect("there is room");
    other.join().unwrap();
    cache.compile_some(1);
    assert!(look(&cache, &method).is_some(), "a request was lost");
}
