//! What the table of methods does with keys: where they lie, when they are compared, and when they are dropped.

mod support;

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use inkpot::{BoxError, Builder, Cache, Frontend, Handle, Key, Reclaimer, Unit};
use support::child::{alone, fork};
use support::{Gate, Unary, wait_until};

trait Number: Key {
    fn number(&self) -> u64;
}

/// A key's method adds its number.
struct Adders<K>(PhantomData<fn(K)>);

impl<K: Number> Frontend for Adders<K> {
    type Key = K;

    fn emit<'ctx>(&self, key: &K, unit: &mut Unit<'_, 'ctx, K>) -> Result<(), BoxError> {
        let long = unit.context().i64_type();
        let function = unit.define(long.fn_type(&[long.into()], false));
        let build = unit.context().create_builder();
        build.position_at_end(unit.context().append_basic_block(function, "entry"));
        let x = function.get_first_param().ok_or("x")?.into_int_value();
        let sum = build.build_int_add(x, long.const_int(key.number(), false), "sum")?;
        build.build_return(Some(&sum))?;
        Ok(())
    }
}

fn builder<K: Number>() -> Builder<K> {
    Cache::builder(Adders(PhantomData))
}

fn method<K: Number>(cache: &Cache<K>, key: &K) -> Handle<K, Unary> {
    // SAFETY: `Adders` emits every key with this type.
    unsafe { cache.method(key) }.expect("there are cells")
}

/// What the key's code makes of 1, by its key alone, once it is compiled.
fn call<K: Number>(cache: &Cache<K>, key: &K) -> i64 {
    let me = cache.participant("test");
    let handle = method(cache, key);
    handle.get(&mut me.pin()).unwrap();
    let guard = me.pin();
    // SAFETY: as above.
    let entry = unsafe { cache.entry::<Unary>(key, &guard) };
    // SAFETY: the type is right.
    unsafe { entry.expect("it is resident").call(1) }
}

/// The only one of its type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Only;

impl Number for Only {
    fn number(&self) -> u64 {
        7
    }
}

/// It lies where it must, or says so.
#[derive(Clone, Debug)]
#[repr(align(128))]
struct Wide(u64);

impl Wide {
    fn look(&self) -> u64 {
        assert!(std::ptr::from_ref(self).addr().is_multiple_of(128));
        self.0
    }
}

impl Hash for Wide {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.look().hash(state);
    }
}

impl PartialEq for Wide {
    fn eq(&self, other: &Self) -> bool {
        self.look() == other.look()
    }
}

impl Eq for Wide {}

impl Number for Wide {
    fn number(&self) -> u64 {
        self.look()
    }
}

#[test]
fn keys_of_any_size_and_alignment() {
    let cache = builder().build().unwrap();
    assert_eq!(call(&cache, &Only), 8);
    assert_eq!(cache.statistics().methods_known, 1);
    let cache = builder().build().unwrap();
    let all: Vec<_> = (0..300).map(|n| method(&cache, &Wide(n))).collect();
    assert_eq!(call(&cache, &Wide(123)), 124);
    drop(all);
    assert_eq!(call(&cache, &Wide(299)), 300);
}

/// A key that knows how many there are, itself and copies.
#[derive(Debug)]
struct Counted(u32, Arc<AtomicUsize>);

thread_local! {
    /// Keys panic when they are dropped, and so does what they panic with.
    static PANICS: Cell<bool> = const { Cell::new(false) };
    /// To be done on this thread whenever keys are compared.
    static ERRAND: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

impl Counted {
    fn new(number: u32, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(number, alive.clone())
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(self.0, &self.1)
    }
}

struct Again;

impl Drop for Again {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("once more"));
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
        if PANICS.get() {
            // Without the message that a panic prints.
            std::panic::resume_unwind(Box::new(Again));
        }
    }
}

/// There are two hashes, so that most keys collide.
impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 % 2).hash(state);
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        ERRAND.with_borrow(|errand| errand.iter().for_each(|errand| errand()));
        self.0 == other.0
    }
}

impl Eq for Counted {}

impl Number for Counted {
    fn number(&self) -> u64 {
        self.0.into()
    }
}

/// Without threads of its own.
fn lonely() -> Cache<Counted> {
    let builder = builder().workers(0).reclaimer(Reclaimer::Manual);
    builder.build().unwrap()
}

/// Threads that hold locks of the embedder's make methods, and ask for them, at any time: they must not come to drop
/// keys, which may want these locks.
#[test]
fn keys_are_dropped_by_the_reclaimer_alone() {
    const MANY: u32 = 200;
    let cache = lonely();
    let alive = Arc::<AtomicUsize>::default();
    for n in 0..MANY {
        drop(method(&cache, &Counted::new(n, &alive)));
    }
    let other = Counted::new(MANY, &alive);
    for _ in 0..2_000 {
        assert!(!cache.is_resident(&other));
        drop(method(&cache, &other));
    }
    let its = 2_000 + 1;
    assert_eq!(alive.load(Ordering::SeqCst), MANY as usize + its);
    wait_until("the reclaimer has dropped them", || {
        cache.maintain();
        alive.load(Ordering::SeqCst) == 1
    });
}

#[test]
fn keys_that_wait_to_be_dropped_go_with_the_cache() {
    let alive = Arc::<AtomicUsize>::default();
    for steps in 0..4 {
        let cache = lonely();
        for round in 0..=steps {
            let all: Vec<_> = (0..100)
                .map(|n| method(&cache, &Counted::new(n, &alive)))
                .collect();
            drop(all);
            if round < steps {
                cache.maintain();
            }
        }
        let kept = method(&cache, &Counted::new(1, &alive));
        drop(cache);
        assert!(alive.load(Ordering::SeqCst) > 0);
        drop(kept);
        assert_eq!(alive.load(Ordering::SeqCst), 0, "after {steps} steps");
    }
}

#[test]
fn a_key_that_panics_when_it_is_dropped_costs_nothing_else() {
    const MANY: u32 = 100;
    let cache = lonely();
    let alive = Arc::<AtomicUsize>::default();
    let kept = method(&cache, &Counted::new(MANY, &alive));
    for n in 0..MANY {
        drop(method(&cache, &Counted::new(n, &alive)));
    }
    assert_eq!(alive.load(Ordering::SeqCst), MANY as usize + 2);
    PANICS.set(true);
    wait_until("each is dropped once", || {
        cache.maintain();
        alive.load(Ordering::SeqCst) == 2
    });
    PANICS.set(false);
    assert_eq!(call(&cache, kept.key()), i64::from(MANY) + 1);
}

/// Who compares keys may wait for a lock that another thread has, which makes a method meanwhile.
#[test]
fn keys_are_compared_under_no_lock() {
    let cache = builder().build().unwrap();
    let alive = Arc::<AtomicUsize>::default();
    let first = method(&cache, &Counted::new(1, &alive));
    let (ask, asked) = mpsc::channel::<()>();
    let (answer, answers) = mpsc::channel();
    let (of_other, its) = (cache.clone(), alive.clone());
    let other = std::thread::spawn(move || {
        for n in 0..3 {
            if asked.recv().is_err() {
                return;
            }
            let made = method(&of_other, &Counted::new(101 + 2 * n, &its));
            answer.send(made).unwrap();
        }
    });
    let errand = move || {
        // What was made is dropped here: a record is forgotten, which takes the writers' lock too.
        if ask.send(()).is_ok() {
            let made = answers.recv_timeout(Duration::from_secs(30));
            drop(made.expect("the other thread goes on"));
        }
    };
    let errands = Cell::new(0);
    ERRAND.set(Some(Box::new(move || {
        errands.set(errands.get() + 1);
        if errands.get() <= 3 {
            errand();
        }
    })));
    let second = method(&cache, &Counted::new(3, &alive));
    ERRAND.set(None);
    assert_ne!(first.address(), second.address());
    assert_eq!(
        method(&cache, &Counted::new(3, &alive)).address(),
        second.address()
    );
    other.join().unwrap();
}

/// A thread that the child does not have was inside of the table at the fork: that keeps nothing of the child's.
#[test]
fn a_child_drops_keys_whoever_was_inside_at_the_fork() {
    static INSIDE: Gate = Gate::new();
    alone("a_child_drops_keys_whoever_was_inside_at_the_fork", || {
        let cache = builder().build().unwrap();
        let alive = Arc::<AtomicUsize>::default();
        let known = method(&cache, &Counted::new(1, &alive));
        let (of_other, key) = (cache.clone(), Counted::new(1, &alive));
        let other = std::thread::spawn(move || {
            ERRAND.set(Some(Box::new(|| INSIDE.wait())));
            of_other.is_resident(&key)
        });
        wait_until("it is inside", || INSIDE.came() == 1);
        let forked = cache.quietly(|| {
            fork(false, || {
                let own = cache.after_fork().unwrap();
                let before = alive.load(Ordering::SeqCst);
                for n in 0..50 {
                    drop(method(&own, &Counted::new(n, &alive)));
                }
                wait_until("they are dropped", || {
                    alive.load(Ordering::SeqCst) == before
                });
                0
            })
        });
        forked.unwrap().expect_code(0);
        INSIDE.open();
        assert!(!other.join().unwrap());
        assert_eq!(known.key().0, 1);
    });
}

/// Keys that were forgotten take memory, if little, until all threads that were pinned have moved on: many of them are
/// waited for, and who keeps them is named.
#[test]
fn who_keeps_many_keys_is_told() {
    let (told, tells) = mpsc::channel();
    let builder = builder().stall_after(Duration::from_millis(20));
    let cache = builder
        .on_stall(move |stall| told.send(stall.participant.clone()).unwrap())
        .build()
        .unwrap();
    let alive = Arc::<AtomicUsize>::default();
    let me = cache.participant("sleeper");
    let guard = me.pin();
    for n in 0..10 {
        drop(method(&cache, &Counted::new(n, &alive)));
    }
    let said = tells.recv_timeout(Duration::from_secs(2));
    assert!(said.is_err(), "of a few: {said:?}");
    for _ in 0..3_000 {
        drop(method(&cache, &Counted::new(0, &alive)));
    }
    let said = tells.recv_timeout(Duration::from_secs(30));
    assert_eq!(said.as_deref(), Ok("sleeper"));
    assert!(alive.load(Ordering::SeqCst) >= 3_000);
    drop(guard);
    wait_until("they are dropped", || alive.load(Ordering::SeqCst) == 0);
}
