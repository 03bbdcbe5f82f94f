//! Threads of caches: who wakes them, whom they wake, and how they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::reclaim::Participant;
use crate::run::spawn;
use crate::stub::{Plain, Stub, builder, cache, call, method};
use crate::{Error, Event};

/// A worker compiles what somebody waits for, and ends with the cache.
pub(super) fn worker() {
    let cache = builder(&Arc::<Stub<Plain>>::default()).workers(1).build();
    let cache = cache.expect("no model refuses memory");
    let method = method(&cache, 1);
    let me = cache.participant("one");
    call(&method.get(&mut me.pin()).expect("it can be compiled"));
}

/// The cache is shut down while somebody waits: who waits has his code, or is told.
pub(super) fn shut_down() {
    let cache = builder(&Arc::<Stub<Plain>>::default()).workers(1).build();
    let cache = cache.expect("no model refuses memory");
    let method = method(&cache, 1);
    let core = cache.core().clone();
    let waiter = spawn(move || {
        let me = Participant::new(&core.domain, String::new(), Arc::new(()));
        let got = core.get(method.method(), &mut me.pin(), None);
        assert!(matches!(got, Ok(_) | Err(Error::ShuttingDown)));
    });
    cache.core().close();
    waiter.join().unwrap();
}

/// The reclaimer sleeps until there is something to do.
pub(super) fn bell() {
    let (cache, _method) = cache(&Arc::<Stub<Plain>>::default());
    let core = cache.core().clone();
    let reclaimer = spawn(move || core.bell.wait(Duration::MAX));
    cache.core().bell.ring();
    reclaimer.join().unwrap();
}

/// Events are told one at a time, and none is left when all who might tell have done.
pub(super) fn telling() {
    let (inside, told) = (
        loom::cell::UnsafeCell::new(()),
        Arc::<AtomicUsize>::default(),
    );
    struct Alone(loom::cell::UnsafeCell<()>);
    // SAFETY: that nobody is beside another is what loom looks after.
    unsafe impl Sync for Alone {}
    // SAFETY: as above.
    unsafe impl Send for Alone {}
    let (alone, counts) = (Alone(inside), told.clone());
    let listener = move |event: &Event<'_, u32>| {
        let alone = &alone;
        alone.0.with_mut(|_| ());
        counts.fetch_add(
            usize::from(matches!(event, Event::Queued { .. })),
            Ordering::Relaxed,
        );
    };
    let cache = builder(&Arc::<Stub<Plain>>::default())
        .listener(listener)
        .build();
    let cache = cache.expect("no model refuses memory");
    let (first, second) = (method(&cache, 1), method(&cache, 2));
    let core = cache.core().clone();
    let other = spawn(move || {
        first.request().expect("there is room");
        core.outbox.as_ref().expect("there is a listener").tell();
    });
    second.request().expect("there is room");
    cache
        .core()
        .outbox
        .as_ref()
        .expect("there is a listener")
        .tell();
    other.join().unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 2, "an event is left");
}
