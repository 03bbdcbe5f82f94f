//! One test a promise (they are the README's), each with the threads that would break it, by random schedules and by
//! priorities.

use std::sync::Arc;
use std::time::Duration;

use inkpot::__simulation::world;
use inkpot::{Builder, Cache, Error, Reclaimer};
use shuttle::thread;

use crate::caller::{Caller, Method, address, any, failure, handles};
use crate::run;
use crate::storm::at_rest;
use crate::synthetic::{Code, How, Random, method};
use crate::watched::{Shared, Watched};
use crate::{priorities, seeds};

/// A cache, its methods, and threads that use it.
struct Scene {
    shared: Arc<Shared>,
    cache: Cache<Code>,
    handles: Vec<Method>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Scene {
    fn new(
        methods: impl IntoIterator<Item = Code>,
        set: impl FnOnce(Builder<Code>) -> Builder<Code>,
    ) -> Self {
        let shared = Shared::new(methods);
        let builder = Watched::builder(&shared, 1).workers(1).batch_limit(3);
        let builder = builder.batch_window(Duration::ZERO).generation_methods(2);
        let cache = set(builder.failure_entry(failure)).build().unwrap();
        let handles = handles(&shared, &cache);
        Self {
            shared,
            cache,
            handles,
            threads: Vec::new(),
        }
    }

    fn thread(
        &mut self,
        random: &mut Random,
        run: impl FnOnce(&Caller, &mut Random) + Send + 'static,
    ) {
        let (shared, handles) = (self.shared.clone(), self.handles.clone());
        let (cache, name) = (self.cache.clone(), format!("thread {}", self.threads.len()));
        let mut random = Random::new(random.next());
        self.threads.push(thread::spawn(move || {
            let caller = Caller::new(&shared, &handles, cache.participant(name));
            drop((handles, cache));
            run(&caller, &mut random);
        }));
    }

    fn govern(&mut self, run: impl FnOnce(&Cache<Code>, &Shared) + Send + 'static) {
        let (cache, shared) = (self.cache.clone(), self.shared.clone());
        self.threads
            .push(thread::spawn(move || run(&cache, &shared)));
    }

    fn end(self) {
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        drop(self.handles);
        at_rest(&self.cache);
    }
}

/// Calls any method, compiled if need be.
fn call_any(caller: &Caller, random: &mut Random, errand: &mut dyn FnMut()) {
    let index = any(random, caller.handles.len());
    let mut guard = caller.me.pin();
    let floors = caller.shared.floors();
    match caller.handles[index].get(&mut guard) {
        Ok(entry) => {
            let entry = address(&entry);
            caller.call(index, entry, floors, errand);
        }
        Err(error) => caller.allows(&caller.shared.methods[index], &error, false),
    }
}

/// Runs a scene by schedules of both kinds.
fn check(scene: fn(&mut Random)) {
    run::run(seeds(150, 10_000), scene);
    run::by_priorities(priorities(50, 3_000), scene);
}

macro_rules! checks {
    ($($name:ident => $scene:ident;)*) => {
        $(#[test]
        fn $name() {
            check($scene);
        })*
    };
}

checks! {
    promise_1_no_thread_runs_in_memory_that_is_gone => no_thread_in_memory_that_is_gone;
    promise_2_memory_is_bounded => memory_is_bounded;
    promise_3_what_is_run_is_never_written => what_is_run_is_never_written;
    promise_4_no_thread_that_runs_methods_reclaims => no_thread_that_runs_methods_reclaims;
    promise_5_a_failure_costs_its_own_method => a_failure_costs_its_own_method;
    promise_6_what_code_refers_to_outlives_it => what_code_refers_to_outlives_it;
    promise_7_each_key_is_compiled_once_at_a_time_and_never_stale => once_at_a_time_and_never_stale;
    promise_8_readers_share_no_line_that_one_writes => readers_share_no_line_that_one_writes;
    shutdown_while_all_goes_on => shutdown;
    a_thread_that_dies_is_buried => the_dead_are_buried;
    invalidation_is_waited_for => grace_is_waited_for;
    what_relies_on_what_fell_is_not_called => assumptions_fall;
    a_safepoint_after_another_keeps_what_is_below => two_safepoints;
    a_method_that_is_kept_is_there => what_is_kept_stays;
    a_key_has_one_method => handles_are_made_at_once;
    a_guard_below_another_is_respected => a_guard_below_another;
    a_word_that_looks_like_an_address_holds_nothing_else => what_only_looks_like_an_address;
    what_is_moved_is_what_it_was => moved_while_it_changes;
}

const CALLS: [Code; 3] = [
    Code::new(2, How::CallHost),
    Code::new(4, How::Call),
    Code::new(6, How::Jump),
];

pub fn no_thread_in_memory_that_is_gone(random: &mut Random) {
    let mut scene = Scene::new(CALLS, |builder| builder.budget(20_000));
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..4 {
                call_any(caller, random, &mut || {
                    caller.safepoint();
                    // SAFETY: nothing is kept off the stack.
                    unsafe { caller.me.blocking(thread::yield_now) };
                });
            }
        });
    }
    scene.govern(|cache, _| {
        for _ in 0..3 {
            cache.evict_all();
            cache.seal();
            cache.maintain();
            thread::yield_now();
        }
    });
    scene.end();
}

pub fn memory_is_bounded(random: &mut Random) {
    const BUDGET: u64 = 80_000;
    let methods = (0..8).map(|n| Code::new(n, How::Leaf).padded(6000));
    let mut scene = Scene::new(methods, |builder| builder.budget(BUDGET));
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..8 {
                call_any(caller, random, &mut || {});
            }
        });
    }
    let threads = std::mem::take(&mut scene.threads);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    // What is over has been named all the time; when nobody is pinned any more, nothing is over.
    for _ in 0..100 {
        scene.cache.maintain();
        thread::yield_now();
    }
    let bytes = scene.cache.statistics().bytes;
    assert_eq!((bytes.kept, bytes.held, bytes.staying), (0, 0, 0));
    assert!(bytes.charged <= BUDGET && bytes.excess == 0, "{bytes:?}");
    scene.end();
}

/// What would break it is looked for where memory is mapped, and where code is fetched.
pub fn what_is_run_is_never_written(random: &mut Random) {
    let mut scene = Scene::new(CALLS, |builder| builder.budget(15_000).evacuate(true));
    scene.thread(random, |caller, random| {
        for _ in 0..6 {
            call_any(caller, random, &mut || {});
        }
    });
    scene.govern(|cache, _| {
        for _ in 0..3 {
            cache.seal();
            cache.evacuate();
            cache.maintain();
        }
    });
    scene.end();
}

/// What would break it is looked for where memory is taken away, and where contexts are dropped.
pub fn no_thread_that_runs_methods_reclaims(random: &mut Random) {
    let mut scene = Scene::new(CALLS, |builder| builder.budget(1));
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..4 {
                call_any(caller, random, &mut || {
                    // SAFETY: nothing is kept off the stack.
                    unsafe { caller.me.blocking(thread::yield_now) };
                    drop(caller.me.pin());
                });
            }
        });
    }
    scene
        .threads
        .drain(..)
        .for_each(|thread| thread.join().unwrap());
    let recycled = |cache: &Cache<Code>| cache.statistics().generations_recycled;
    for _ in 0..400 {
        if recycled(&scene.cache) > 0 {
            break;
        }
        scene.cache.seal();
        scene.cache.evict_all();
        scene.cache.maintain();
        thread::yield_now();
    }
    assert!(recycled(&scene.cache) > 0, "there was something to reclaim");
    scene.end();
}

pub fn a_failure_costs_its_own_method(random: &mut Random) {
    let bad = [How::Refuse, How::Panic, How::GiveUp, How::Unresolved];
    let bad = Code::new(9, bad[any(random, bad.len())]);
    let methods = [Code::leaf(1), bad, Code::leaf(2)];
    let mut scene = Scene::new(methods, |builder| {
        builder.retry_after(Duration::ZERO, Duration::ZERO)
    });
    for _ in 0..2 {
        scene.thread(random, move |caller, _| {
            for index in 0..3 {
                let asked = caller.handles[index].request();
                if let Err(error) = asked {
                    caller.allows(&caller.shared.methods[index], &error, false);
                }
            }
            for index in 0..3 {
                let mut guard = caller.me.pin();
                let got = caller.handles[index].get(&mut guard);
                let fails = caller.shared.methods[index] == bad;
                match got {
                    Ok(_) if fails => world::broken("it cannot be compiled".to_owned()),
                    Err(error) if !fails => world::broken(format!("it is not to fail: {error}")),
                    _ => {}
                }
            }
        });
    }
    scene.end();
}

pub fn what_code_refers_to_outlives_it(random: &mut Random) {
    let methods = [
        Code::new(8, How::CallAddress).depth(2),
        Code::new(5, How::Jump).depth(2),
    ];
    let mut scene = Scene::new(methods, |builder| builder.budget(10_000));
    // Of the callers alone: nobody else has the callees.
    const CALLERS: [usize; 2] = [0, 3];
    scene.handles = CALLERS.map(|index| scene.handles[index].clone()).to_vec();
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..4 {
                let which = any(random, CALLERS.len());
                let mut guard = caller.me.pin();
                let floors = caller.shared.floors();
                if let Ok(entry) = caller.handles[which].get(&mut guard) {
                    let entry = address(&entry);
                    caller.call(CALLERS[which], entry, floors, &mut || {});
                }
            }
        });
    }
    scene.handles.clear();
    scene.govern(|cache, shared| {
        for _ in 0..3 {
            for key in &shared.methods {
                cache.evict(key);
            }
            cache.maintain();
            thread::yield_now();
        }
    });
    scene.end();
}

pub fn once_at_a_time_and_never_stale(random: &mut Random) {
    let mut scene = Scene::new([Code::leaf(1), Code::new(2, How::Call)], |builder| {
        builder.workers(2)
    });
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..5 {
                call_any(caller, random, &mut || {});
            }
        });
    }
    scene.govern(|cache, shared| {
        for turn in 0..4 {
            drop(shared.invalidate(turn % 2, cache));
            thread::yield_now();
        }
    });
    scene.end();
}

/// Lines are fetched in pairs of 64 bytes.
const LINE: usize = 128;

pub fn readers_share_no_line_that_one_writes(random: &mut Random) {
    let methods = [Code::leaf(1), Code::new(2, How::Call)];
    let mut scene = Scene::new(methods, |builder| builder.reclaimer(Reclaimer::Manual));
    let ready = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for _ in 0..2 {
        let ready = ready.clone();
        scene.thread(random, move |caller, _| {
            use std::sync::atomic::Ordering::SeqCst;
            let mut guard = caller.me.pin();
            for handle in &caller.handles {
                handle.get(&mut guard).unwrap();
                handle.entry(&guard).unwrap();
            }
            if ready.fetch_add(1, SeqCst) == 1 {
                world::watch(true);
            }
            while ready.load(SeqCst) < 2 {
                thread::yield_now();
            }
            for _ in 0..3 {
                for (index, handle) in caller.handles.iter().enumerate() {
                    let floors = caller.shared.floors();
                    let entry = handle.entry(&guard).expect("it is resident");
                    caller.call(index, address(&entry), floors, &mut || {});
                }
                guard.repin();
            }
            // Who is done first ends it: what follows is no call.
            if ready.fetch_add(1, SeqCst) == 2 {
                let touches = world::watch(false);
                for written in touches.iter().filter(|touch| touch.writes) {
                    let shared = touches.iter().find(|touch| {
                        touch.thread != written.thread
                            && touch.address / LINE == written.address / LINE
                    });
                    if let Some(other) = shared {
                        world::broken(format!("one line: {written:?} and {other:?}"));
                    }
                }
            }
        });
    }
    scene.end();
}

/// Handles, participants and the cache go in any order, while others are in the middle of things.
pub fn shutdown(random: &mut Random) {
    let mut scene = Scene::new(CALLS, |builder| builder);
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..3 {
                let index = any(random, caller.handles.len());
                let mut guard = caller.me.pin();
                let floors = caller.shared.floors();
                match caller.handles[index].get(&mut guard) {
                    Ok(entry) => {
                        let entry = address(&entry);
                        caller.call(index, entry, floors, &mut || {});
                    }
                    // They hold the cache, so it is not at its end.
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let Scene {
        cache,
        handles,
        threads,
        ..
    } = scene;
    let future = handles[0].compiled();
    let late = handles[1].clone();
    drop(handles);
    thread::yield_now();
    drop(cache);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    drop((future, late));
}

/// A thread that ends without a word keeps nothing for good.
pub fn the_dead_are_buried(random: &mut Random) {
    let mut scene = Scene::new(CALLS, |builder| builder);
    let (cache, handles, shared) = (
        scene.cache.clone(),
        scene.handles.clone(),
        scene.shared.clone(),
    );
    scene.threads.push(thread::spawn(move || {
        let caller = Caller::new(&shared, &handles, cache.participant("dies"));
        drop((cache, handles));
        call_any(&caller, &mut Random::new(1), &mut || {});
        std::mem::forget(caller.me.pin());
        run::leak(caller.me);
    }));
    scene.thread(random, |caller, random| {
        call_any(caller, random, &mut || {})
    });
    scene.end();
}

/// A wait for a grace period ends when those are out that were in.
pub fn grace_is_waited_for(random: &mut Random) {
    let mut scene = Scene::new([Code::new(3, How::CallHost)], |builder| builder);
    scene.thread(random, |caller, random| {
        for _ in 0..3 {
            call_any(caller, random, &mut || thread::yield_now());
        }
    });
    scene.govern(|cache, shared| {
        let token = shared.invalidate(0, cache);
        match token.wait_for(Duration::from_secs(20)) {
            Ok(()) | Err(Error::Stalled { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    });
    scene.end();
}

/// While a guard of the thread lives below, a re-pin of another one ends nothing.
pub fn a_guard_below_another(random: &mut Random) {
    let mut scene = Scene::new(CALLS, |builder| builder.budget(20_000));
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..3 {
                call_any(caller, random, &mut || {
                    let mut above = caller.me.pin();
                    thread::yield_now();
                    above.repin();
                    thread::yield_now();
                });
            }
        });
    }
    scene.govern(|cache, _| {
        for _ in 0..3 {
            cache.evict_all();
            cache.seal();
            cache.maintain();
            thread::yield_now();
        }
    });
    scene.end();
}

/// Words on a stack that look like addresses of code which is gone.
pub fn what_only_looks_like_an_address(random: &mut Random) {
    let methods = (0..6).map(|n| Code::new(n, How::Host));
    let mut scene = Scene::new(methods, |builder| builder.budget(1).generation_methods(1));
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..6 {
                call_any(caller, random, &mut || {
                    thread::yield_now();
                    caller.safepoint();
                });
            }
        });
    }
    scene.govern(|cache, _| {
        for _ in 0..8 {
            cache.evict_all();
            cache.seal();
            cache.maintain();
        }
    });
    scene.end();
}

/// Methods are moved together while they are invalidated, evicted and compiled anew.
pub fn moved_while_it_changes(random: &mut Random) {
    let methods = (0..4).map(|n| Code::new(n, How::Leaf).padded(3000));
    let set = |builder: Builder<Code>| builder.evacuate(true).generation_methods(2).workers(2);
    let mut scene = Scene::new(methods, set);
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..5 {
                call_any(caller, random, &mut || {});
            }
        });
    }
    scene.govern(|cache, shared| {
        for turn in 0..5 {
            drop(shared.invalidate(turn % 4, cache));
            thread::yield_now();
        }
    });
    scene.govern(|cache, _| {
        for _ in 0..6 {
            cache.seal();
            cache.compact();
            cache.maintain();
        }
    });
    scene.end();
}

/// Assumptions fall while what relies on them is compiled, published and called.
pub fn assumptions_fall(random: &mut Random) {
    let methods = [
        Code::leaf(1),
        Code::new(2, How::Call),
        Code::new(3, How::Jump),
    ];
    let mut scene = Scene::new(methods, |builder| builder.workers(2));
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..5 {
                call_any(caller, random, &mut || {});
            }
        });
    }
    scene.govern(|_, shared| {
        for turn in 0..4 {
            drop(shared.fall(turn % 2));
            thread::yield_now();
        }
    });
    scene.end();
}

/// The second finds frames that nothing but the first's holds keep.
pub fn two_safepoints(random: &mut Random) {
    let mut scene = Scene::new([Code::new(2, How::CallHost)], |builder| builder.budget(1));
    for _ in 0..2 {
        scene.thread(random, |caller, random| {
            for _ in 0..3 {
                call_any(caller, random, &mut || {
                    for _ in 0..3 {
                        caller.safepoint();
                        thread::yield_now();
                    }
                });
            }
        });
    }
    scene.govern(|cache, _| {
        for _ in 0..8 {
            cache.evict_all();
            cache.seal();
            cache.maintain();
        }
    });
    scene.end();
}

/// Memory is short all the time, and what is kept is no victim.
pub fn what_is_kept_stays(random: &mut Random) {
    let methods = (0..4).map(Code::leaf);
    let mut scene = Scene::new(methods, |builder| builder.budget(1));
    scene.thread(random, |caller, _| {
        let handle = &caller.handles[0];
        let keep = handle.keep();
        let mut guard = caller.me.pin();
        handle.get(&mut guard).unwrap();
        for _ in 0..6 {
            thread::yield_now();
            guard.repin();
            if handle.entry(&guard).is_none() {
                world::broken("what is kept was evicted".to_owned());
            }
        }
        drop(keep);
    });
    scene.thread(random, |caller, random| {
        for _ in 0..6 {
            call_any(caller, random, &mut || {});
        }
    });
    scene.govern(|cache, _| {
        for _ in 0..4 {
            cache.evict_all();
            thread::yield_now();
        }
    });
    scene.end();
}

/// Several threads are the first to mention a key.
pub fn handles_are_made_at_once(random: &mut Random) {
    let mut scene = Scene::new([Code::leaf(1)], |builder| builder.workers(2));
    scene.handles.clear();
    for _ in 0..3 {
        let cache = scene.cache.clone();
        scene.thread(random, move |caller, _| {
            for _ in 0..2 {
                let handle = method(&cache, Code::leaf(1));
                let mut guard = caller.me.pin();
                let floors = caller.shared.floors();
                let entry = address(&handle.get(&mut guard).unwrap());
                caller.call(0, entry, floors, &mut || {});
            }
        });
    }
    scene.end();
}
