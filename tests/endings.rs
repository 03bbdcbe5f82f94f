//! What goes wrong at the very end, and what is seen on the way there.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use inkpot::{Backend, Batch, Cache, Error};
use support::child;
use support::synthetic::{Code, How, Synthetic, method};

/// One context's drop panics when this is set.
static ARMED: AtomicBool = AtomicBool::new(false);

struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        if ARMED.swap(false, Ordering::SeqCst) {
            resume_unwind(Box::new("a context's drop"))
        }
    }
}

/// Synthetic code, all of it from one context, and contexts that may panic.
#[derive(Default)]
struct Fragile {
    inner: Synthetic,
    context: Mutex<Option<<Synthetic as Backend<Code>>::Context>>,
}

impl Backend<Code> for Fragile {
    type Context = Explosive;

    fn open(&self) -> Result<(Explosive, u64), Error> {
        Ok((Explosive, 1000))
    }

    fn compile(
        &self,
        _context: &mut Explosive,
        batch: &mut Batch<'_, Code>,
    ) -> Result<Vec<u8>, Error> {
        let mut context = self.context.lock().unwrap();
        if context.is_none() {
            *context = Some(self.inner.open()?.0);
        }
        let context = context.as_mut().expect("opened above");
        self.inner.compile(context, batch)
    }

    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        self.inner.resolve(symbol)
    }
}

/// All unwind tables are gone before anything of the embedder's is dropped: a table that stayed would be read by
/// the next panic, from memory that is gone.
#[test]
fn a_context_whose_drop_panics_when_the_cache_ends() {
    let cache = Cache::with_backend(Fragile::default()).build().unwrap();
    let me = cache.participant("test");
    for n in 0..6 {
        let framed = method(&cache, Code::new(n, How::Host).framed());
        let mut guard = me.pin();
        framed.get(&mut guard).unwrap();
        drop(guard);
        cache.seal();
    }
    drop(me);
    ARMED.store(true, Ordering::SeqCst);
    let _ = catch_unwind(AssertUnwindSafe(|| drop(cache)));
    // The workers end a little later, and one of them is the last owner.
    for _ in 0..50 {
        let later = catch_unwind(|| resume_unwind(Box::new(1)));
        assert!(later.is_err());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Generations go from one state to the next, and none is missed or counted twice on the way.
#[test]
fn statistics_are_one_snapshot() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                let now = cache.statistics();
                let sum = now.generations_open
                    + now.generations_sealed
                    + now.generations_dead
                    + now.generations_fallow
                    + now.generations_recycled;
                assert!((most..=1500).contains(&sum), "{sum} after {most}");
                most = sum;
            }
        });
        let me = cache.participant("test");
        for n in 0..1500 {
            let code = Code::new(n, How::Leaf);
            let leaf = method(&cache, code);
            let mut guard = me.pin();
            leaf.get(&mut guard).unwrap();
            drop(guard);
            cache.seal();
            cache.evict(&code);
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// Exit handlers may run methods that have no code, when the cache tells of the exit; and `exit` within them ends
/// the process as it does natively.
#[test]
fn methods_are_compiled_before_the_exit() {
    static CACHE: OnceLock<Cache<Code>> = OnceLock::new();
    let soon = Duration::from_secs(20);
    let ended = child::run("methods_are_compiled_before_the_exit", soon, || {
        let cache = Cache::with_backend(Synthetic::default())
            .before_exit(|status| {
                let cache = CACHE.get().expect("set below");
                let me = cache.participant("exits");
                let mut guard = me.pin();
                let late = method(cache, Code::new(30, How::Leaf));
                let entry = late.get(&mut guard).expect("workers run");
                // SAFETY: the type is right.
                child::exit(unsafe { entry.call(i64::from(status)) } as i32)
            })
            .build()
            .unwrap();
        // What is compiled puts the cache's own handler on top again.
        let me = cache.participant("test");
        for n in 0..20 {
            let leaf = method(&cache, Code::new(n, How::Leaf));
            leaf.get(&mut me.pin()).unwrap();
        }
        drop(me);
        assert!(CACHE.set(cache).is_ok());
        child::exit(4);
    });
    if let Some(ended) = ended {
        ended.expect_code(34);
    }
}

/// A child that is forked while its parent exits has an exit of its own.
#[test]
fn a_child_forked_during_the_exit_exits() {
    let soon = Duration::from_secs(60);
    let test = "a_child_forked_during_the_exit_exits";
    let ended = child::run(test, soon, || {
        let cache = Cache::with_backend(Synthetic::default())
            .before_exit(|_| {
                // SAFETY: the child does what one does whose `exec` has failed.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    child::exit(3);
                }
                let (mut status, mut waited) = (0, 0);
                // SAFETY: the status lives through the call.
                let mut is_alive =
                    || unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0;
                while waited < 200 && is_alive() {
                    waited += 1;
                    std::thread::sleep(Duration::from_millis(100));
                }
                if waited == 200 {
                    // SAFETY: it is our child yet.
                    unsafe { libc::kill(child, libc::SIGKILL) };
                    println!("the child hangs");
                }
                let code = if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    99
                };
                // SAFETY: ends the process.
                unsafe { libc::_exit(10 + code) };
            })
            .build()
            .unwrap();
        std::mem::forget(cache);
        child::exit(4);
    });
    if let Some(ended) = ended {
        ended.expect_code(13);
    }
}

/// One listener's panic is not another's, nor the exit's.
#[test]
fn a_panic_before_the_exit_stops_nothing() {
    let soon = Duration::from_secs(60);
    let test = "a_panic_before_the_exit_stops_nothing";
    let ended = child::run(test, soon, || {
        for panics in [true, false] {
            let cache = Cache::with_backend(Synthetic::default())
                .before_exit(move |_| {
                    assert!(!panics, "a panic on purpose");
                    println!("the other was told");
                })
                .build()
                .unwrap();
            std::mem::forget(cache);
        }
        child::exit(4);
    });
    if let Some(ended) = ended {
        ended.expect_code(4);
        assert!(
            ended.output.contains("the other was told"),
            "{}",
            ended.output
        );
    }
}
