//! A thread that stays inside of methods lets go, at a safepoint, of everything but what it is
//! inside of. What is gone stays `PROT_NONE` for a while: who returns into it crashes.

mod support;

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use inkpot::{
    Backend, Batch, Cache, Entry, Error, Guard, Participant, Reclaimer, Stress, safepoint_of_thread,
};
use support::held::{HOST, X, churn_until_gone, resident, scrub};
use support::synthetic::{Code, Context, How, Synthetic, Unary, inside, method, quarantined};
use support::{Gate, leaf, wait_until};

#[test]
fn a_thread_inside_a_method_lets_all_others_go() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let others: Vec<Code> = (100..120).map(Code::leaf).collect();
    resident(&cache, &mut guard, &others);
    let host = method(&cache, HOST);
    let entry = host.get(&mut guard).unwrap();
    let errand = || {
        cache.evict_all();
        churn_until_gone(&cache, &me, 1);
        let now = cache.statistics();
        assert_eq!(now.generations_recycled, others.len() as u64 + 1);
        assert!(now.bytes.held > 0 && now.bytes.held == now.bytes.retired);
        assert!(now.held_bytes_peak > 0);
    };
    // SAFETY: the type is right.
    let y = inside(errand, || unsafe { entry.call(X) });
    assert_eq!(y, HOST.result(X));
    drop(guard);
    wait_until("what it was inside of goes too", || {
        cache.statistics().generations_fallow == 0
    });
    assert_eq!(cache.statistics().bytes.held, 0);
}

#[inline(never)]
fn pin_in_a_helper(me: &Participant) -> Guard<'_> {
    me.pin()
}

/// The frame that took the pin lies below those that keep entries: a scan does not end there.
#[test]
fn a_guard_from_a_helper_function() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = pin_in_a_helper(&me);
    resident(&cache, &mut guard, &[HOST, Code::leaf(1)]);
    let (host, one) = (method(&cache, HOST), leaf(&cache, 1));
    let (host, one) = (host.entry(&guard).unwrap(), one.entry(&guard).unwrap());
    let errand = || {
        cache.evict_all();
        churn_until_gone(&cache, &me, 2);
    };
    // SAFETY: the type is right.
    let y = inside(errand, || unsafe { host.call(X) });
    assert_eq!(y, HOST.result(X));
    // SAFETY: the type is right.
    assert_eq!(unsafe { one.call(X) }, X + 1);
}

/// What is on the stack moves about there from safepoint to safepoint.
#[test]
fn held_over_safepoints_at_changing_places() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    resident(&cache, &mut guard, &[Code::leaf(1)]);
    let mut places: [Option<Entry<'_, Unary>>; 64] = [None; 64];
    places[3] = leaf(&cache, 1).entry(&guard);
    cache.evict_all();
    for round in 0..5 {
        churn_until_gone(&cache, &me, 1);
        let from = places.iter().position(Option::is_some).unwrap();
        let entry = places[from].take();
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.unwrap().call(round) }, round + 1);
        black_box(&mut places)[(from * 5 + 7) % 64] = entry;
    }
    let deep = |depth: i64| {
        further_down(depth, &places, &mut || churn_until_gone(&cache, &me, 1));
    };
    deep(1);
    deep(5);
}

/// Takes the entry along in its own frame, and its caller's is lost.
#[inline(never)]
fn further_down(depth: i64, places: &[Option<Entry<'_, Unary>>; 64], safepoint: &mut dyn FnMut()) {
    let mine = black_box(*places);
    if depth > 0 {
        further_down(depth - 1, &mine, safepoint);
    }
    safepoint();
    let entry = mine.iter().flatten().next().unwrap();
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(depth) }, depth + 1);
}

#[inline(never)]
fn on_the_heap<'g>(cache: &Cache<Code>, guard: &'g Guard<'_>) -> Vec<Entry<'g, Unary>> {
    vec![leaf(cache, 1).entry(guard).unwrap()]
}

/// Calls the first, in a frame that leaves nothing of it to the caller's.
#[inline(never)]
fn call_first(entries: &[Entry<'_, Unary>]) -> i64 {
    // SAFETY: the type is right.
    unsafe { entries[0].call(X) }
}

/// An entry that no scan finds does not call what is gone: it panics.
#[test]
fn an_entry_off_the_stack_ends_at_a_safepoint() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    resident(&cache, &mut guard, &[Code::leaf(1), Code::leaf(2), HOST]);
    let heap = on_the_heap(&cache, &guard);
    let two = leaf(&cache, 2).entry(&guard).unwrap();
    let host = method(&cache, HOST).entry(&guard).unwrap();
    assert_eq!(call_first(&heap), X + 1);
    scrub();
    let errand = || {
        cache.evict_all();
        churn_until_gone(&cache, &me, 2);
    };
    // SAFETY: the type is right.
    inside(errand, || unsafe { host.call(X) });
    // SAFETY: the type is right.
    assert_eq!(unsafe { two.call(X) }, X + 2, "on the stack");
    let said = catch_unwind(AssertUnwindSafe(|| call_first(&heap))).unwrap_err();
    let said = said.downcast_ref::<String>().cloned().unwrap_or_default()
        + said.downcast_ref::<&str>().unwrap_or(&"");
    assert!(said.contains("off the stack"), "{said}");
}

/// Its slot is filled anew, and what is there now is held: the entry does not take that for its own.
#[test]
fn an_entry_does_not_call_what_came_to_lie_in_its_place() {
    let cache = Cache::with_backend(Synthetic::default());
    let cache = cache.generation_methods(1).build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    // What stays has the others on either side; in an empty cache they would lie anywhere.
    let stays = leaf(&cache, 2);
    let _keep = stays.keep();
    stays.get(&mut guard).unwrap();
    resident(&cache, &mut guard, &[Code::leaf(1)]);
    let heap = on_the_heap(&cache, &guard);
    let place = format!("{:?}", heap[0]);
    cache.evict_all();
    churn_until_gone(&cache, &me, 0);
    for n in 100.. {
        let mut inner = me.pin();
        let new = leaf(&cache, n).get(&mut inner).unwrap();
        if format!("{new:?}") == place {
            // SAFETY: `new` is on the stack.
            unsafe { me.safepoint() };
            // SAFETY: the type is right.
            assert_eq!(unsafe { new.call(X) }, X + i64::from(n));
            // SAFETY: the type is right.
            let said = catch_unwind(AssertUnwindSafe(|| unsafe { heap[0].call(X) }));
            assert!(said.is_err(), "it called the other method");
            return;
        }
        assert!(n < 10_000, "the slot is used again");
    }
}

#[test]
fn a_safepoint_by_a_guard_that_is_not_the_only_one_does_nothing() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut first = me.pin();
    resident(&cache, &mut first, &[Code::leaf(1), Code::leaf(2)]);
    let heap = on_the_heap(&cache, &first);
    let mut second = me.pin();
    cache.evict_all();
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(2));
        second.safepoint();
    }
    assert_eq!(cache.statistics().generations_recycled, 0);
    assert_eq!(call_first(&heap), X + 1);
    scrub();
    drop(second);
    wait_until("alone it does", || {
        first.safepoint();
        cache.statistics().generations_recycled == 2
    });
}

/// A call that does not return may be the last instruction that a generation has: its return
/// address is one past the code.
#[test]
fn the_return_address_is_one_past_the_code() {
    const SLOT: u16 = 16 << 10;
    let last = Code::new(7, How::Last).framed();
    for before in (SLOT - 96..=SLOT).step_by(8) {
        let cache = quarantined().generation_methods(2).build().unwrap();
        let me = cache.participant("test");
        let mut guard = me.pin();
        // One after the other in one generation.
        resident(&cache, &mut guard, &[Code::leaf(1).padded(before), last]);
        let entry = method(&cache, last).entry(&guard).unwrap();
        let mut done = false;
        let errand = || {
            cache.evict_all();
            churn_until_gone(&cache, &me, 1);
            done = true;
        };
        // SAFETY: the type is right. It unwinds.
        let call = || inside(errand, || unsafe { entry.call(-1) });
        catch_unwind(AssertUnwindSafe(call)).expect_err("it panics");
        assert!(done);
    }
}

/// A backend that waits before it compiles one method.
struct Gated(Synthetic, Arc<Gate>, Code);

impl Backend<Code> for Gated {
    type Context = Context;

    fn open(&self) -> Result<(Context, u64), Error> {
        self.0.open()
    }

    fn compile(
        &self,
        context: &mut Context,
        batch: &mut Batch<'_, Code>,
    ) -> Result<Vec<u8>, Error> {
        if (0..batch.len()).any(|i| *batch.key(i) == self.2) {
            self.1.wait();
        }
        self.0.compile(context, batch)
    }

    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        Backend::<Code>::resolve(&self.0, symbol)
    }
}

/// A thread waits in the resolver of a method that the caller, which jumped there, was the last to
/// mention; and in that of one whose caller's frame is below.
#[test]
fn a_callers_code_goes_while_the_callee_is_compiled() {
    for (how, held) in [(How::Jump, 0), (How::Call, 1)] {
        let caller = Code::new(8, how);
        let gate = Arc::<Gate>::default();
        let backend = Gated(Synthetic::default(), gate.clone(), caller.callee().unwrap());
        let mut stress = Stress::default();
        stress.quarantine = true;
        let cache = Cache::with_backend(backend).workers(2).stress(stress);
        let cache = cache.generation_methods(1).build().unwrap();
        let of_thread = cache.clone();
        let thread = std::thread::spawn(move || {
            let me = of_thread.participant("waits in a resolver");
            let mut guard = me.pin();
            let handle = method(&of_thread, caller);
            handle.get(&mut guard).unwrap();
            let address = handle.address();
            drop((handle, of_thread));
            // SAFETY: a canonical address of this type, on a pinned thread.
            unsafe { std::mem::transmute::<*const (), Unary>(address)(X) }
        });
        wait_until("the callee is being compiled", || gate.came() == 1);
        cache.evict(&caller);
        wait_until("what nobody is inside of is gone", || {
            let now = cache.statistics();
            now.generations_recycled + held == 1 && now.generations_held == held
        });
        assert!(cache.statistics().longest_pinned.is_none(), "it blocks");
        gate.open();
        assert_eq!(thread.join().unwrap(), caller.result(X), "{how:?}");
        cache.evict_all();
        wait_until("the callee is forgotten", || {
            let now = cache.statistics();
            now.mapped_code_bytes == 0 && now.methods_known == now.addresses_taken
        });
    }
}

/// Pinned in two caches, inside of a method of one: a safepoint for both.
#[test]
fn a_safepoint_of_the_thread_is_one_of_all_its_caches() {
    let caches = [(); 2].map(|()| quarantined().build().unwrap());
    let of = |cache: &Cache<Code>| cache.participant("test");
    let participants = caches.each_ref().map(of);
    let mut guards = participants.each_ref().map(Participant::pin);
    for (cache, guard) in caches.iter().zip(&mut guards) {
        resident(cache, guard, &[HOST, Code::leaf(1)]);
    }
    let entry = method(&caches[0], HOST).entry(&guards[0]).unwrap();
    let errand = || {
        caches.iter().for_each(Cache::evict_all);
        wait_until("both let go", || {
            // SAFETY: what is used afterwards is on the stack.
            unsafe { inkpot::safepoint_of_thread() };
            let recycled = caches
                .each_ref()
                .map(|c| c.statistics().generations_recycled);
            recycled == [1, 2]
        });
    };
    // SAFETY: the type is right.
    let y = inside(errand, || unsafe { entry.call(X) });
    assert_eq!(y, HOST.result(X));
}

/// In a handler that runs on an alternate stack nothing is known of the frames that it interrupted:
/// the thread stays pinned.
#[test]
fn a_safepoint_on_a_signals_stack_does_nothing() {
    static ON: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn handler(_: libc::c_int) {
        let here = 0_u8;
        ON.store(black_box(&raw const here).addr(), Ordering::Relaxed);
        // SAFETY: nothing is kept off the stack.
        unsafe { safepoint_of_thread() };
    }
    // SAFETY: plain old data, filled in, and a handler that may run at any time.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        let before = std::ptr::null_mut();
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, before), 0);
    }
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let entry = method(&cache, HOST).get(&mut guard).unwrap();
    let errand = || {
        cache.evict_all();
        let retired = || {
            let now = cache.statistics();
            (now.generations_fallow, now.generations_held)
        };
        wait_until("it is retired", || retired() == (1, 0));
        for _ in 0..20 {
            // SAFETY: it has a handler.
            unsafe { libc::raise(libc::SIGUSR1) };
            std::thread::sleep(Duration::from_millis(1));
            assert_eq!(retired(), (1, 0));
        }
        let own = me.thread_stack().unwrap();
        let on = ON.load(Ordering::Relaxed) as *const ();
        assert!(!own.contains(&on), "the handler has a stack of its own");
        // On its own stack it does what it did not do there.
        churn_until_gone(&cache, &me, 1);
    };
    // SAFETY: the type is right.
    let y = inside(errand, || unsafe { entry.call(X) });
    assert_eq!(y, HOST.result(X));
}

/// Inside of `pinned` a scan goes no further than to there, and finds all that is needed.
#[test]
fn a_closure_that_encloses_the_pin() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let y = me.pinned(|guard| {
        resident(&cache, guard, &[HOST, Code::leaf(1)]);
        let host = method(&cache, HOST).entry(guard).unwrap();
        let one = leaf(&cache, 1).entry(guard).unwrap();
        let errand = || {
            cache.evict_all();
            churn_until_gone(&cache, &me, 2);
            // Not the outermost: nothing changes for the frames outside.
            me.pinned(|_| churn_until_gone(&cache, &me, 2));
        };
        // SAFETY: the type is right.
        let y = inside(errand, || unsafe { host.call(X) });
        // SAFETY: the type is right.
        y + unsafe { one.call(X) }
    });
    assert_eq!(y, HOST.result(X) + X + 1);
    let caught = catch_unwind(AssertUnwindSafe(|| me.pinned(|_| panic!("on purpose"))));
    assert!(caught.is_err());
    wait_until("it is unpinned", || {
        cache.statistics().generations_fallow == 0
    });
    assert!(cache.statistics().longest_pinned.is_none());
}

#[test]
fn a_thread_that_ends_with_holds_gives_them_up() {
    let cache = quarantined().build().unwrap();
    for leak in [false, true] {
        let of_thread = cache.clone();
        std::thread::spawn(move || {
            let me = of_thread.participant("leaks");
            let mut guard = me.pin();
            resident(&of_thread, &mut guard, &[Code::leaf(1)]);
            let entry = leaf(&of_thread, 1).entry(&guard);
            of_thread.evict_all();
            churn_until_gone(&of_thread, &me, 1);
            black_box(entry);
            std::mem::forget(guard);
            if leak {
                std::mem::forget(me);
            }
        })
        .join()
        .unwrap();
        wait_until("it is recycled", || {
            cache.statistics().generations_fallow == 0
        });
    }
}

/// What a scan of so many bytes of stack takes: printed, and far from what would be noticed.
#[test]
fn a_scan_takes_microseconds() {
    let cache = quarantined().reclaimer(Reclaimer::Manual).build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    resident(&cache, &mut guard, &[Code::leaf(1)]);
    // While something is held the tick moves with every step, and each safepoint is a real one.
    let _lease = leaf(&cache, 1).lease(&mut guard).unwrap();
    cache.evict_all();
    let mut took: Vec<Duration> = (0..200)
        .map(|_| {
            std::thread::scope(|scope| {
                scope.spawn(|| cache.maintain());
            });
            below_a_large_frame(&me)
        })
        .collect();
    took.sort_unstable();
    println!(
        "a safepoint with 32 KiB of stack: {:?}",
        took[took.len() / 2]
    );
    assert!(took[took.len() / 2] < Duration::from_micros(500));
}

#[inline(never)]
fn below_a_large_frame(me: &Participant) -> Duration {
    let large = black_box([0u64; 4096]);
    let started = Instant::now();
    // SAFETY: nothing that was loaded is used afterwards.
    unsafe { me.safepoint() };
    let took = started.elapsed();
    black_box(&large);
    took
}
