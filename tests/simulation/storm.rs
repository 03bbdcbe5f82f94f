//! The whole cache under one seed: its settings, its threads, what they do and which goes on, the clock, and which
//! calls of the system fail.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use inkpot::__simulation::world;
use inkpot::{
    Cache, ContextRelease, Error, Event, Guard, Keep, Lease, Listener, Quarantine, Reclaimer,
    Statistics, Stress, Tier, Victims,
};
use shuttle::thread;

use crate::caller::{Caller, address, any, failure, fallback, handles};
use crate::run;
use crate::synthetic::{Code, How, Random, Unary};
use crate::watched::{Shared, Watched};

/// What one thread keeps for a while.
#[derive(Default)]
struct Kept {
    keeps: Vec<Keep<Code>>,
    leases: Vec<(usize, Lease<Unary>, Vec<u32>)>,
}

/// Methods that call each other, some of which cannot be compiled.
fn methods(random: &mut Random) -> Vec<Code> {
    let hows = [
        How::Leaf,
        How::Leaf,
        How::Jump,
        How::Call,
        How::CallAddress,
        How::CallHost,
        How::Host,
    ];
    let mut all: Vec<Code> = (0..3 + random.below(6))
        .map(|n| {
            let how = hows[any(random, hows.len())];
            let code = Code::new(n, how).depth(1 + random.below(2) as u8);
            code.padded((random.below(3) * 1500) as u16)
        })
        .collect();
    let bad = [How::Refuse, How::GiveUp, How::Panic, How::Unresolved];
    if random.below(3) == 0 {
        all.push(Code::new(90, bad[any(random, bad.len())]));
    }
    all
}

/// Is told of everything.
struct Listens;

impl Listener<Code> for Listens {
    fn event(&self, event: &Event<'_, Code>) {
        world::point();
        world::note(format!("{event:?}").len() as u64);
    }
}

/// A cache with settings that the seed chooses.
fn cache(
    shared: &Arc<Shared>,
    random: &mut Random,
    has_fallback: bool,
) -> Result<Cache<Code>, Error> {
    let millis = |random: &mut Random, most| Duration::from_millis(random.below(most).into());
    let mut builder = Watched::builder(shared, 1 + random.below(2))
        .name("simulated")
        .workers(any(random, 3))
        .budget(10_000 << random.below(6))
        .generation_methods(1 + any(random, 5))
        .generation_age(millis(random, 30))
        .batch_limit(1 + any(random, 5))
        .batch_window(millis(random, 3))
        .evacuate(random.below(2) == 0)
        .groups(1 + any(random, 2))
        .retry_after(millis(random, 20), Duration::from_millis(40))
        .damping(millis(random, 20), Duration::from_millis(40))
        .stall_after(Duration::from_millis(5))
        .failure_entry(failure);
    if random.below(4) == 0 {
        builder = builder.hard_limit(60_000 << random.below(4));
    }
    if random.below(3) == 0 {
        builder = builder.listener(Listens);
    }
    if random.below(3) == 0 {
        builder = builder.reclaimer(Reclaimer::Manual);
    }
    if random.below(3) == 0 {
        builder = builder.release_context(ContextRelease::AtSealing);
    }
    if random.below(3) == 0 {
        builder = builder.victims(Victims::Plain);
    }
    if has_fallback {
        builder = builder.fallback(fallback as *const ());
    }
    if random.below(3) == 0 {
        builder = builder.quarantine(Quarantine {
            bytes: 100_000,
            time: millis(random, 20),
        });
    }
    if random.below(2) == 0 {
        let [first, second] = Tier::defaults();
        builder = builder.tiers([first.promote_by_hand(), second.emit_again(true)]);
    }
    if random.below(4) == 0 {
        let mut stress = Stress::a_lot();
        stress.quarantine = random.below(2) == 0;
        builder = builder.stress(stress);
    }
    builder.build()
}

/// One simulation.
pub fn storm(random: &mut Random) {
    let refusals = [0, 0, 0, 40, 200][any(random, 5)];
    let shared = Shared::new(methods(random));
    world::set_refusals(refusals);
    let has_fallback = random.below(3) == 0;
    let built = cache(&shared, random, has_fallback);
    world::note(u64::from(built.is_ok()));
    let cache = match built {
        Ok(cache) => cache,
        Err(Error::Memory { .. } | Error::OutOfSpace { .. } | Error::HardLimit { .. })
            if refusals != 0 =>
        {
            return;
        }
        Err(error) => panic!("there is no cache: {error}"),
    };
    // Handles cannot be had without cells.
    world::set_refusals(0);
    let handles = handles(&shared, &cache);
    let ends_early = random.below(4) == 0;
    let threads: Vec<_> = (0..2 + random.below(2))
        .map(|n| {
            let (shared, cache, handles) = (shared.clone(), cache.clone(), handles.clone());
            let mut random = Random::new(random.next());
            thread::spawn(move || {
                let me = cache.participant(format!("thread {n}"));
                let mut caller = Caller::new(&shared, &handles, me);
                drop(handles);
                caller.may_fail = refusals != 0 || ends_early;
                caller.has_fallback = has_fallback;
                life(caller, cache, &mut random, ends_early);
            })
        })
        .collect();
    world::set_refusals(refusals);
    drop(handles);
    if ends_early {
        drop(cache);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        world::set_refusals(0);
        return;
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    world::set_refusals(0);
    at_rest(&cache);
    drop(cache);
}

/// What one thread does.
fn life(caller: Caller, cache: Cache<Code>, random: &mut Random, leaves_cache: bool) {
    let mut cache = Some(cache);
    let mut kept = Kept::default();
    let acts = 4 + random.below(16);
    for act in 0..acts {
        if leaves_cache && act == acts / 2 {
            cache = None;
        }
        if random.below(8) == 0 {
            kept = Kept::default();
        }
        match &cache {
            Some(cache) if random.below(3) == 0 => govern(&caller, cache, random),
            _ => use_methods(&caller, random, &mut kept),
        }
    }
    if random.below(16) == 0 && !leaves_cache {
        // It ends without a word: the reclaimer finds out.
        let Caller { me, handles, .. } = caller;
        drop(handles);
        std::mem::forget(me.pin());
        kept = Kept::default();
        drop((kept, cache));
        run::leak(me);
    }
}

/// What an embedder does with its cache.
fn govern(caller: &Caller, cache: &Cache<Code>, random: &mut Random) {
    let index = any(random, caller.shared.methods.len());
    let key = &caller.shared.methods[index];
    match random.below(17) {
        0 => drop(caller.shared.invalidate(index, cache)),
        1 => drop(caller.shared.fall(any(random, 2))),
        2 => drop(cache.evict(key)),
        3 => cache.evict_all(),
        4 => cache.seal(),
        5 => drop(cache.evacuate()),
        6 => drop(cache.compact()),
        7 => drop(cache.compile_some(3)),
        8..=10 => drop(cache.maintain()),
        11 => cache.set_budget(5_000 << random.below(7)),
        12 => {
            let token = caller.shared.fall(any(random, 2));
            let waited = token.wait_for(Duration::from_millis(20));
            world::note(u64::from(waited.is_ok()));
        }
        13 => {
            // Where nobody reclaims it takes the whole time.
            let token = caller.shared.invalidate(index, cache);
            let waited = token.wait_for(Duration::from_millis(20));
            world::note(u64::from(waited.is_ok()));
        }
        14 | 15 => {
            let guard = caller.me.pin();
            let floors = caller.shared.floors();
            // SAFETY: all methods have this type, and to compare their keys calls nothing.
            if let Some(entry) = unsafe { cache.entry::<Unary>(key, &guard) } {
                let entry = address(&entry);
                caller.call(index, entry, floors, &mut || errand(caller, random));
            }
        }
        _ => {
            let statistics = cache.statistics();
            world::note(statistics.methods_resident);
            let resident = statistics.methods_resident + statistics.methods_on_probation;
            if statistics.methods_known < resident.min(statistics.methods_resident) {
                world::broken("more methods are resident than there are".to_owned());
            }
        }
    }
}

/// What a runtime does with methods.
fn use_methods(caller: &Caller, random: &mut Random, kept: &mut Kept) {
    let index = any(random, caller.handles.len());
    let handle = &caller.handles[index];
    let code = caller.shared.methods[index];
    match random.below(16) {
        0..=2 => {
            let guard = caller.me.pin();
            let floors = caller.shared.floors();
            if let Some(entry) = handle.entry(&guard) {
                let entry = address(&entry);
                caller.call(index, entry, floors, &mut || errand(caller, random));
            }
        }
        3..=6 => {
            let mut guard = caller.me.pin();
            get(caller, index, &mut guard, random);
            if random.below(3) == 0 {
                guard.repin();
                get(caller, index, &mut guard, random);
            }
        }
        7 => {
            let mut guard = caller.me.pin();
            let floors = caller.shared.floors();
            match handle.get_timeout(&mut guard, Duration::from_millis(random.below(4).into())) {
                Ok(entry) => {
                    let entry = address(&entry);
                    caller.call(index, entry, floors, &mut || errand(caller, random));
                }
                Err(Error::TimedOut { .. }) => {}
                Err(error) => caller.allows(&code, &error, false),
            }
        }
        8 => match handle.request() {
            Ok(()) => {}
            Err(error) => caller.allows(&code, &error, false),
        },
        9 => match handle.promote() {
            Ok(_) => {}
            Err(error) => caller.allows(&code, &error, false),
        },
        10 => {
            let mut future = Box::pin(handle.compiled());
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..random.below(4) {
                match future.as_mut().poll(&mut context) {
                    Poll::Ready(Err(error)) => return caller.allows(&code, &error, false),
                    Poll::Ready(Ok(_)) => break,
                    Poll::Pending => thread::yield_now(),
                }
            }
        }
        11 => kept.keeps.push(handle.keep()),
        12 => {
            let mut guard = caller.me.pin();
            let floors = caller.shared.floors();
            match handle.lease(&mut guard) {
                Ok(lease) => kept.leases.push((index, lease, floors)),
                Err(error) => caller.allows(&code, &error, false),
            }
        }
        13 => {
            if let Some((index, lease, floors)) = kept.leases.last() {
                let guard = caller.me.pin();
                let entry = address(&lease.entry(&guard));
                caller.call(*index, entry, floors.clone(), &mut || {
                    errand(caller, random)
                });
            }
        }
        14 => {
            let address = handle.address() as u64;
            let guard = caller.me.pin();
            let floors = caller.shared.floors();
            caller.call(index, address, floors, &mut || errand(caller, random));
            drop(guard);
            // It stays taken: other threads may have it too.
        }
        _ if caller.has_fallback => {
            let guard = caller.me.pin();
            let floors = caller.shared.floors();
            let entry = address(&handle.entry_or_fallback(&guard));
            caller.call(index, entry, floors, &mut || errand(caller, random));
        }
        _ => thread::yield_now(),
    }
}

fn get(caller: &Caller, index: usize, guard: &mut Guard<'_>, random: &mut Random) {
    let floors = caller.shared.floors();
    match caller.handles[index].get(guard) {
        Ok(entry) => {
            let entry = address(&entry);
            caller.call(index, entry, floors, &mut || errand(caller, random));
        }
        Err(error) => caller.allows(&caller.shared.methods[index], &error, false),
    }
}

/// What a host function does that a method calls.
fn errand(caller: &Caller, random: &mut Random) {
    match random.below(6) {
        0 | 1 => caller.safepoint(),
        2 => {
            let mut inner = Random::new(random.next());
            // SAFETY: nothing is kept off the stack; it pins anew inside.
            unsafe {
                caller.me.blocking(|| {
                    thread::yield_now();
                    if inner.below(2) == 0 {
                        let index = any(&mut inner, caller.handles.len());
                        let mut guard = caller.me.pin();
                        get(caller, index, &mut guard, &mut inner);
                    }
                });
            }
        }
        3 => {
            let index = any(random, caller.handles.len());
            let guard = caller.me.pin();
            let floors = caller.shared.floors();
            if let Some(entry) = caller.handles[index].entry(&guard) {
                let entry = address(&entry);
                caller.call(index, entry, floors, &mut || {});
            }
        }
        _ => world::point(),
    }
}

/// Nobody uses the cache any more: all memory comes back, and what is charged is what is there.
pub fn at_rest(cache: &Cache<Code>) {
    let mut statistics = cache.statistics();
    for _ in 0..1000 {
        cache.evict_all();
        cache.seal();
        cache.compile_some(64);
        cache.maintain();
        thread::yield_now();
        statistics = cache.statistics();
        if is_empty(&statistics) {
            break;
        }
    }
    assert!(
        is_empty(&statistics),
        "something keeps code: {statistics:?}"
    );
    // Who waits for a grace period has the dead looked for.
    for _ in 0..200 {
        if cache.statistics().participants == 0 {
            break;
        }
        let waited = cache.invalidate_all().wait_for(Duration::from_millis(1));
        world::note(u64::from(waited.is_ok()));
    }
    let left = cache.statistics().participants;
    assert_eq!(left, 0, "the dead are buried");
    run::end_leaks();
    world::note(statistics.generations_recycled);
}

fn is_empty(statistics: &Statistics) -> bool {
    let generations = statistics.generations_dead
        + statistics.generations_fallow
        + statistics.generations_held
        + statistics.generations_sealed
        + statistics.generations_open;
    let bytes = statistics.bytes.retired + statistics.bytes.held + statistics.bytes.kept;
    generations + bytes + statistics.methods_resident + statistics.queued == 0
}
