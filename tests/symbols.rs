//! Names of code by address: of all methods, in signal handlers too, for as long as the code is
//! there.

mod support;

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use inkpot::{BoxError, Cache, Frontend, Unit};
use support::synthetic::{Code, How, Synthetic};
use support::texts::{Name, Texts, text};
use support::{Unary, leaf, synthetic, wait_until};

fn code_of(cache: &Cache<Code>, code: Code) -> usize {
    let me = cache.participant("test");
    let handle = synthetic::method(cache, code);
    // SAFETY: only the address is looked at.
    unsafe { handle.get(&mut me.pin()).unwrap().pointer() as usize }
}

fn name_at(cache: &Cache<Code>, address: usize) -> Option<(String, u64)> {
    let symbol = cache.symbol_at(address as *const ())?;
    Some((symbol.method, symbol.offset))
}

#[test]
fn every_byte_of_every_method_has_a_name() {
    let cache = Cache::with_backend(Synthetic::default())
        .generation_methods(64)
        .build()
        .unwrap();
    let codes: Vec<_> = (0..300)
        .map(|n| Code::new(n, [How::Leaf, How::Call, How::Host][n as usize % 3]))
        .collect();
    // Some alone, some together.
    for code in &codes {
        synthetic::method(&cache, *code).request().unwrap();
    }
    for code in codes {
        let begin = code_of(&cache, code);
        for offset in 0..7 {
            let expected = (format!("{code:?}"), offset);
            assert_eq!(name_at(&cache, begin + offset as usize), Some(expected));
        }
    }
    let symbols: Vec<_> = [1, 299]
        .map(|n| code_of(&cache, Code::leaf(n / 3 * 3)))
        .map(|at| cache.symbol_at(at as *const ()).unwrap())
        .into();
    assert_ne!(symbols[0].generation, symbols[1].generation);
    assert_eq!(symbols[0].to_string(), "Leaf 0 + 0");
}

#[test]
fn large_methods_and_what_is_none() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let large = Code::leaf(1).padded(60_000);
    let begin = code_of(&cache, large);
    for offset in (0..60_000).step_by(777) {
        let expected = (format!("{large:?}"), offset);
        assert_eq!(name_at(&cache, begin + offset as usize), Some(expected));
    }
    assert_eq!(name_at(&cache, begin + 60_100), None);
    let handle = leaf(&cache, 1);
    for address in [
        handle.address() as usize,
        handle.callback().unwrap() as usize,
        synthetic::host as *const () as usize,
        0,
        usize::MAX,
    ] {
        assert_eq!(name_at(&cache, address), None);
    }
}

#[test]
fn names_go_with_the_code() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let me = cache.participant("test");
    let code = code_of(&cache, Code::leaf(8));
    let with_names = cache.statistics().bytes.bookkeeping;
    let guard = me.pin();
    cache.seal();
    cache.evict_all();
    // Somebody may be inside.
    assert_eq!(name_at(&cache, code), Some(("Leaf 8".to_owned(), 0)));
    drop(guard);
    wait_until("it is recycled", || {
        cache.statistics().mapped_code_bytes == 0
    });
    assert_eq!(name_at(&cache, code), None);
    wait_until("names are not charged", || {
        cache.statistics().bytes.bookkeeping < with_names
    });
}

#[test]
fn names_are_cut_to_the_buffer() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let code = code_of(&cache, Code::leaf(12)) as *const ();
    for (size, expected) in [
        (0, ""),
        (1, "L"),
        (6, "Leaf 1"),
        (7, "Leaf 12"),
        (100, "Leaf 12"),
    ] {
        let mut buffer = vec![b'x'; size];
        let symbol = cache.symbol_into(code, &mut buffer).unwrap();
        assert_eq!((symbol.method, symbol.offset), (expected, 0));
    }
    let mut buffer = [0; 8];
    assert_eq!(cache.symbol_into(std::ptr::null(), &mut buffer), None);
}

/// Keys of which `Debug` makes too much, or nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Odd {
    /// Its name has so many times three bytes.
    Long(usize),
    Panics,
}

/// How often a long name was written to.
static WRITTEN: AtomicUsize = AtomicUsize::new(0);

impl std::fmt::Debug for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Odd::Panics => std::panic::resume_unwind(Box::new("on purpose")),
            Odd::Long(n) => (0..*n).try_for_each(|_| {
                WRITTEN.fetch_add(1, Ordering::Relaxed);
                f.write_str("\u{20ac}")
            }),
        }
    }
}

struct Odds;

impl Frontend for Odds {
    type Key = Odd;

    fn emit<'ctx>(&self, _: &Odd, unit: &mut Unit<'_, 'ctx, Odd>) -> Result<(), BoxError> {
        let context = unit.context();
        let long = context.i64_type();
        let function = unit.define(long.fn_type(&[long.into()], false));
        let build = context.create_builder();
        build.position_at_end(context.append_basic_block(function, "entry"));
        build.build_return(function.get_first_param().as_ref().map(|p| p as _))?;
        Ok(())
    }
}

#[test]
fn odd_keys_have_names() {
    let cache = Cache::builder(Odds).build().unwrap();
    let me = cache.participant("test");
    let name = |key: Odd| {
        // SAFETY: the type is right.
        let handle = unsafe { cache.method::<Unary>(&key) }.unwrap();
        // SAFETY: only the address is looked at.
        let code = unsafe { handle.get(&mut me.pin()).unwrap().pointer() };
        let mut buffer = [0; 10];
        let short = cache.symbol_into(code as *const (), &mut buffer).unwrap();
        (
            short.method.len(),
            cache.symbol_at(code as *const ()).unwrap().method,
        )
    };
    assert_eq!(name(Odd::Long(3)), (9, "\u{20ac}".repeat(3)));
    assert_eq!(name(Odd::Long(85)), (9, "\u{20ac}".repeat(85)));
    WRITTEN.store(0, Ordering::Relaxed);
    assert_eq!(name(Odd::Long(1_000_000)), (9, "\u{20ac}".repeat(85)));
    assert!(
        WRITTEN.load(Ordering::Relaxed) < 1000,
        "the rest is not made"
    );
    assert_eq!(name(Odd::Panics).1, "a method whose key panics in Debug");
}

// --- in a handler ---

static CACHE: OnceLock<Cache<Name>> = OnceLock::new();
static SEEN: Mutex<String> = Mutex::new(String::new());
static SIGNALLED: AtomicUsize = AtomicUsize::new(0);

/// Names the code that was interrupted.
extern "C" fn profiles(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: what the kernel gave.
    let at =
        unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] };
    let mut buffer = [0; 64];
    let cache = CACHE.get().expect("set before");
    if let Some(symbol) = cache.symbol_into(at as *const (), &mut buffer)
        && let Ok(mut seen) = SEEN.try_lock()
        && seen.len() + symbol.method.len() < seen.capacity()
        && !seen.contains(symbol.method)
    {
        seen.push_str(symbol.method);
    }
    SIGNALLED.fetch_add(1, Ordering::Relaxed);
}

/// A profiler's signals interrupt threads in methods, in compilations, in evictions, anywhere.
#[test]
fn a_handler_names_what_it_interrupts() {
    let busy = "
        define i64 @self(i64 %n) {
        entry:
          br label %loop
        loop:
          %i = phi i64 [ 0, %entry ], [ %next, %loop ]
          %x = phi i64 [ $N, %entry ], [ %y, %loop ]
          %y = mul i64 %x, %i
          %next = add i64 %i, 1
          %more = icmp slt i64 %next, %n
          br i1 %more, label %loop, label %done
        done:
          ret i64 %y
        }";
    let cache = Cache::builder(Texts::new([("busy", busy)]))
        .build()
        .unwrap();
    CACHE.set(cache.clone()).unwrap();
    SEEN.lock().unwrap().reserve(4096);
    // SAFETY: a handler of this type; the timer's signals go to threads that run.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = profiles as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigaction(libc::SIGPROF, &action, std::ptr::null_mut());
        let each = libc::timeval {
            tv_sec: 0,
            tv_usec: 1000,
        };
        let timer = libc::itimerval {
            it_interval: each,
            it_value: each,
        };
        libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut());
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for thread in 0..2 {
            let (cache, stop) = (&cache, &stop);
            threads.spawn(move || {
                let me = cache.participant("busy");
                for n in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let busy = text::<Unary>(cache, &format!("busy#{}", n % 3 + 1 + 10 * thread));
                    // SAFETY: the type is right.
                    unsafe { busy.get(&mut me.pin()).unwrap().call(300_000) };
                    if n % 30 == 0 {
                        cache.evict_all();
                        cache.seal();
                    }
                }
            });
        }
        let started = std::time::Instant::now();
        let all_seen = || {
            let seen = SEEN.lock().unwrap();
            [1, 2, 3, 11, 12, 13]
                .iter()
                .all(|n| seen.contains(&format!("\"busy#{n}\"")))
        };
        while !all_seen() && started.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(
            all_seen(),
            "{:?} in {SIGNALLED:?} signals",
            SEEN.lock().unwrap()
        );
    });
}
