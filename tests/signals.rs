//! Signals at any moment: handlers that allocate nothing, and ask what may be asked in one, while threads pin,
//! call, compile, evict and reclaim. Each interrupted system call of the library's is made again.

mod support;

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inkpot::{Cache, Isolation, OptLevel, install_fault_handler};
use support::synthetic::{Code, How, Random, Synthetic, method, quarantined};
use support::texts::{Name, Texts, text};
use support::{Unary, child, helpers, wait_until};

static CACHE: OnceLock<Cache<Code>> = OnceLock::new();
static HANDLED: AtomicU64 = AtomicU64::new(0);
static INSIDE: AtomicU64 = AtomicU64::new(0);

/// Looks up where the thread was.
extern "C" fn handle(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
    let Some(cache) = CACHE.get() else { return };
    // SAFETY: the kernel gives it to the handler.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let at = context.uc_mcontext.gregs[libc::REG_RIP as usize] as *const ();
    if cache.contains(at) {
        let mut buffer = [0; 64];
        if let Some(symbol) = cache.symbol_into(at, &mut buffer) {
            assert!(!symbol.method.is_empty());
            INSIDE.fetch_add(1, Ordering::Relaxed);
        }
    }
    cache.ask_for_polls(HANDLED.load(Ordering::Relaxed).is_multiple_of(2));
}

fn install(signal: c_int, flags: c_int) {
    // SAFETY: the handler does what handlers may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | flags;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// A signal to the process, from the system, again and again.
fn every(microseconds: i64, timer: c_int) {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: microseconds,
    };
    let interval = libc::itimerval {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: the structure lives through the call.
    let done = unsafe { libc::syscall(libc::SYS_setitimer, timer, &interval, 0) };
    assert_eq!(done, 0);
}

/// SIGALRM and SIGPROF, which the system sends to whichever thread it likes.
fn storm() {
    install(libc::SIGALRM, libc::SA_ONSTACK);
    install(libc::SIGPROF, libc::SA_ONSTACK | libc::SA_RESTART);
    every(150, libc::ITIMER_REAL);
    every(170, libc::ITIMER_PROF);
}

fn calm() {
    every(0, libc::ITIMER_REAL);
    every(0, libc::ITIMER_PROF);
}

fn seconds(short: u64) -> Duration {
    let soaks = std::env::var_os("INKPOT_SOAK").is_some();
    Duration::from_secs(if soaks { 60 } else { short })
}

#[test]
fn threads_that_pin_and_evict() {
    let name = "threads_that_pin_and_evict";
    let ended = child::run(name, Duration::from_secs(180), || {
        install_fault_handler();
        let builder = quarantined().workers(2).generation_methods(8);
        let cache = CACHE.get_or_init(|| builder.build().unwrap());
        storm();
        let (over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|threads| {
            for seed in 0..3 {
                let (over, calls) = (&over, &calls);
                threads.spawn(move || {
                    let mut random = Random::new(seed);
                    while !over.load(Ordering::Relaxed) {
                        let me = cache.participant("caller");
                        for _ in 0..50 {
                            let how = [How::Leaf, How::Call, How::Jump, How::Host];
                            let how = how[random.below(4) as usize];
                            let code = Code::new(random.below(40), how).framed();
                            let handle = method(cache, code);
                            let mut guard = me.pin();
                            let entry = handle.get(&mut guard).unwrap();
                            // SAFETY: the type is right.
                            assert_eq!(unsafe { entry.call(7) }, code.result(7));
                            calls.fetch_add(1, Ordering::Relaxed);
                            match random.below(12) {
                                0 => drop(cache.evict(&code)),
                                1 => drop(cache.invalidate(&code)),
                                // SAFETY: what is used afterwards is on the stack.
                                2 => unsafe { me.safepoint() },
                                3 => guard.repin(),
                                4 => cache.seal(),
                                _ => {}
                            }
                        }
                    }
                });
            }
            let started = Instant::now();
            while started.elapsed() < seconds(2) {
                std::thread::sleep(Duration::from_millis(5));
            }
            over.store(true, Ordering::Relaxed);
        });
        calm();
        cache.ask_for_polls(false);
        let handled = HANDLED.load(Ordering::Relaxed);
        assert!(handled > 500, "{handled} signals only");
        cache.seal();
        cache.evict_all();
        wait_until("all is recycled", || {
            cache.statistics().mapped_code_bytes == 0
        });
        let (calls, inside) = (calls.into_inner(), INSIDE.load(Ordering::Relaxed));
        println!("{calls} calls, {handled} signals, {inside} of them inside of methods");
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
        print!("{}", ended.output);
    }
}

/// LLVM, and helper processes: sockets, pipes and waits that are interrupted.
#[test]
fn compiling_here_and_elsewhere() {
    let name = "compiling_here_and_elsewhere";
    let ended = child::run(name, Duration::from_secs(180), || {
        drop(CACHE.set(Cache::with_backend(Synthetic::default()).build().unwrap()));
        storm();
        let started = Instant::now();
        let mut n = 0;
        while started.elapsed() < seconds(2) {
            let build = |isolated: bool| -> Cache<Name> {
                let builder = Cache::builder(Texts::new([("add", helpers::ADD)]));
                let builder = builder.opt_level(OptLevel::O0).generation_methods(3);
                match isolated {
                    false => builder.build().unwrap(),
                    true => {
                        let helper = Isolation::binary(env!("CARGO_BIN_EXE_inkpot-helper"));
                        builder.isolation(helper).build().unwrap()
                    }
                }
            };
            for isolated in [false, true] {
                let cache = build(isolated);
                let me = cache.participant("test");
                for _ in 0..8 {
                    n += 1;
                    let add = text::<Unary>(&cache, &format!("add#{n}"));
                    let mut guard = me.pin();
                    // SAFETY: the type is right.
                    let y = add.get(&mut guard).map(|f| unsafe { f.call(1) });
                    assert_eq!(y.unwrap(), 1 + n);
                }
                cache.evict_all();
            }
        }
        calm();
        assert!(HANDLED.load(Ordering::Relaxed) > 500);
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
    }
}
