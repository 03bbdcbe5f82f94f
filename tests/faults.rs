//! The fault handler: what it says of calls, returns and reads that come too late, and that it leaves
//! everything else as it was. Each in a process of its own, that ends by it.

mod support;

use std::ffi::{c_int, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inkpot::{Cache, Quarantine, install_fault_handler};
use support::child::{self, Ended};
use support::synthetic::{Code, How, Synthetic, Unary as Throws};
use support::texts::{Name, Texts, text};
use support::{Unary, leaf, synthetic, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);

fn quarantined() -> Cache<Code> {
    Cache::with_backend(Synthetic::default())
        .name("faults")
        .quarantine(Quarantine::default())
        .build()
        .unwrap()
}

/// The code of a method, which is about to go.
fn code_of(cache: &Cache<Code>, code: Code) -> Throws {
    let me = cache.participant("test");
    let handle = synthetic::method(cache, code);
    let mut guard = me.pin();
    // SAFETY: it is kept for longer than it may be: this ends the process.
    unsafe { handle.get(&mut guard).unwrap().pointer() }
}

fn evict_and_recycle(cache: &Cache<Code>) {
    cache.seal();
    cache.evict_all();
    wait_until("all is recycled", || {
        cache.statistics().mapped_code_bytes == 0
    });
}

/// The line that the handler wrote.
#[track_caller]
fn line(ended: &Ended) -> &str {
    let line = ended.output.lines().find(|l| l.contains("inkpot: thread"));
    line.unwrap_or_else(|| panic!("nothing was said\n{}", ended.output))
}

#[track_caller]
fn says(ended: &Ended, parts: &[&str]) {
    let line = line(ended);
    let mut rest = line;
    for part in parts {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("{part:?} is not in {line:?}, or not in this order"));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn a_late_call_is_named() {
    let ended = child::run("a_late_call_is_named", PATIENCE, || {
        install_fault_handler();
        install_fault_handler();
        let cache = quarantined();
        let late = code_of(&cache, Code::leaf(5));
        evict_and_recycle(&cache);
        // SAFETY: it is not sound, and the process ends for it.
        let call = move || unsafe { late(1) };
        let thread = std::thread::Builder::new().name("comes late".to_owned());
        let _ = thread.spawn(call).unwrap().join();
    });
    let Some(ended) = ended else { return };
    ended.expect_signal(libc::SIGSEGV);
    says(
        &ended,
        &[
            "(comes late) jumped to Leaf 5 + 0, generation 0, evicted at ",
            " s, unmapped at ",
            " s; now it is ",
            " s since the cache \"faults\" began; the call would have returned to 0x",
        ],
    );
    let times: Vec<f64> = line(&ended)
        .split_whitespace()
        .filter_map(|word| word.parse().ok().filter(|_| word.contains('.')))
        .collect();
    assert_eq!(times.len(), 3, "{}", line(&ended));
    assert!(times.is_sorted(), "{}", line(&ended));
    assert!(times[2] < 20.0, "{}", line(&ended));
}

#[test]
fn invalidation_is_named_as_such() {
    let ended = child::run("invalidation_is_named_as_such", PATIENCE, || {
        install_fault_handler();
        let cache = quarantined();
        let late = code_of(&cache, Code::leaf(5));
        drop(cache.invalidate(&Code::leaf(5)));
        evict_and_recycle(&cache);
        // SAFETY: it is not sound, and the process ends for it.
        unsafe { late(1) };
    });
    let Some(ended) = ended else { return };
    ended.expect_signal(libc::SIGSEGV);
    says(&ended, &["jumped to Leaf 5 + 0", ", invalidated at "]);
}

/// A method is called without a pin, and its code goes while it calls the host.
#[test]
fn a_late_return_is_named() {
    static CACHE: Mutex<Option<Cache<Name>>> = Mutex::new(None);
    extern "C" fn host(x: i64) -> i64 {
        let cache = CACHE.lock().unwrap().clone().unwrap();
        cache.seal();
        cache.evict_all();
        wait_until("all is recycled", || {
            cache.statistics().mapped_code_bytes == 0
        });
        x
    }
    let ended = child::run("a_late_return_is_named", PATIENCE, || {
        let text_of_method = "
            declare i64 @host(i64)
            define i64 @self(i64 %x) {
              %y = call i64 @host(i64 %x)
              %z = add i64 %y, 100
              ret i64 %z
            }";
        let cache = Cache::builder(Texts::new([("via", text_of_method)]))
            .import("host", host as *const ())
            .quarantine(Quarantine::default())
            .build()
            .unwrap();
        install_fault_handler();
        *CACHE.lock().unwrap() = Some(cache.clone());
        let me = cache.participant("test");
        let mut guard = me.pin();
        let via = text::<Unary>(&cache, "via");
        // SAFETY: it is not sound: the thread is not pinned any more when it calls.
        unsafe {
            let late = via.get(&mut guard).unwrap().pointer();
            drop(guard);
            late(1);
        }
    });
    let Some(ended) = ended else { return };
    ended.expect_signal(libc::SIGSEGV);
    says(
        &ended,
        &["returned into \"via\" + ", ", generation 0, evicted at"],
    );
    assert!(!line(&ended).contains("\"via\" + 0,"), "{}", line(&ended));
    assert!(
        !line(&ended).contains("would have returned"),
        "{}",
        line(&ended)
    );
}

/// A pointer to a method's constant is kept for longer than the method.
#[test]
fn a_late_read_is_named() {
    let ended = child::run("a_late_read_is_named", PATIENCE, || {
        let words = "
            @words = private constant [6 x i8] c\"hello\\00\"
            define ptr @self() { ret ptr @words }";
        let cache = Cache::builder(Texts::new([("words", words)]))
            .quarantine(Quarantine::default())
            .build()
            .unwrap();
        install_fault_handler();
        let words = text::<unsafe extern "C" fn() -> *const u8>(&cache, "words");
        let me = cache.participant("test");
        let mut guard = me.pin();
        // SAFETY: the type is right; the constant is read for longer than it may be.
        unsafe {
            let late = words.get(&mut guard).unwrap().call();
            assert_eq!(*late, b'h');
            drop(guard);
            cache.seal();
            cache.evict_all();
            wait_until("all is recycled", || {
                cache.statistics().mapped_code_bytes == 0
            });
            std::hint::black_box(late.read_volatile());
        }
    });
    let Some(ended) = ended else { return };
    ended.expect_signal(libc::SIGSEGV);
    says(
        &ended,
        &["read constants of \"words\" + 0, generation 0, unmapped at"],
    );
}

#[test]
fn without_a_quarantine_the_cache_is_named() {
    let ended = child::run("without_a_quarantine_the_cache_is_named", PATIENCE, || {
        install_fault_handler();
        let cache = Cache::with_backend(Synthetic::default())
            .name("forgetful")
            .build()
            .unwrap();
        let late = code_of(&cache, Code::leaf(5));
        evict_and_recycle(&cache);
        // SAFETY: it is not sound, and the process ends for it.
        unsafe { late(1) };
    });
    let Some(ended) = ended else { return };
    ended.expect_signal(libc::SIGSEGV);
    says(
        &ended,
        &[
            "jumped to 0x",
            "where the cache \"forgetful\" has no code, or none any more",
        ],
    );
}

// --- what stood before ---

/// A null pointer is nobody's business but the program's. (Rust's own handler stood before.)
#[test]
fn other_faults_pass_in_silence() {
    let ended = child::run("other_faults_pass_in_silence", PATIENCE, || {
        let cache = quarantined();
        code_of(&cache, Code::leaf(5));
        install_fault_handler();
        // SAFETY: it is not sound, and the process ends for it.
        unsafe { std::hint::black_box(std::ptr::null::<u8>()).read_volatile() };
    });
    let Some(ended) = ended else { return };
    ended.expect_signal(libc::SIGSEGV);
    assert!(!ended.output.contains("inkpot:"), "{}", ended.output);
}

/// Rust's handler tells of a stack overflow, and so it does with ours before it.
#[test]
fn a_stack_overflow_is_told_as_before() {
    #[allow(unconditional_recursion, reason = "it is what is tested")]
    fn deeper(n: &mut [u64; 64]) -> u64 {
        let mut more = [n[3] + 1; 64];
        deeper(std::hint::black_box(&mut more)) + more[5]
    }
    let ended = child::run("a_stack_overflow_is_told_as_before", PATIENCE, || {
        install_fault_handler();
        let overflow = || deeper(&mut [1; 64]);
        let _ = std::thread::Builder::new().spawn(overflow).unwrap().join();
    });
    let Some(ended) = ended else { return };
    ended.expect_signal(libc::SIGABRT);
    assert!(
        ended.output.contains("has overflowed its stack"),
        "{}",
        ended.output
    );
}

static CALLED: AtomicUsize = AtomicUsize::new(0);

/// Installs a handler for SIGSEGV; with libc's flags.
fn handle(handler: usize, flags: c_int) {
    // SAFETY: the handler has the type that the flags say.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigaddset(&mut action.sa_mask, libc::SIGUSR1);
        assert_eq!(
            libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()),
            0
        );
    }
}

fn is_blocked(signal: c_int) -> bool {
    // SAFETY: asks for this thread's mask.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut mask);
        libc::sigismember(&mask, signal) == 1
    }
}

/// Where the handler sends the thread, instead of where it wanted to go.
extern "C" fn instead(x: i64) -> i64 {
    x + 1000
}

/// A handler that mends what it can: the program goes on.
extern "C" fn mends(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    CALLED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: what the kernel gave.
    unsafe {
        assert_eq!(signal, libc::SIGSEGV);
        let context = &mut *context.cast::<libc::ucontext_t>();
        let registers = &mut context.uc_mcontext.gregs;
        assert_eq!((*info).si_addr() as i64, registers[libc::REG_RIP as usize]);
        registers[libc::REG_RIP as usize] = instead as *const () as i64;
        assert!(is_blocked(libc::SIGUSR1), "its mask is in force");
        assert!(is_blocked(libc::SIGSEGV));
        let mut stack: libc::stack_t = std::mem::zeroed();
        libc::sigaltstack(std::ptr::null(), &mut stack);
        assert_ne!(
            stack.ss_flags & libc::SS_ONSTACK,
            0,
            "on an alternate stack"
        );
    }
}

#[test]
fn the_handler_before_is_called_and_may_go_on() {
    let ended = child::run(
        "the_handler_before_is_called_and_may_go_on",
        PATIENCE,
        || {
            handle(mends as *const () as usize, libc::SA_SIGINFO);
            install_fault_handler();
            let cache = quarantined();
            let late = code_of(&cache, Code::leaf(5));
            evict_and_recycle(&cache);
            for n in 1..4 {
                // SAFETY: the handler sends it elsewhere.
                assert_eq!(unsafe { late(5) }, 1005);
                assert_eq!(CALLED.load(Ordering::Relaxed), n);
            }
            assert!(!is_blocked(libc::SIGUSR1) && !is_blocked(libc::SIGSEGV));
            child::exit(77);
        },
    );
    let Some(ended) = ended else { return };
    ended.expect_code(77);
    let told = ended.output.matches("jumped to Leaf 5 + 0").count();
    assert_eq!(told, 3, "{}", ended.output);
}

#[test]
fn a_plain_handler_before_is_called() {
    extern "C" fn ends(signal: c_int) {
        // SAFETY: ends the process.
        unsafe { libc::_exit(100 + signal) };
    }
    let ended = child::run("a_plain_handler_before_is_called", PATIENCE, || {
        handle(ends as *const () as usize, 0);
        install_fault_handler();
        let cache = quarantined();
        let late = code_of(&cache, Code::leaf(5));
        evict_and_recycle(&cache);
        // SAFETY: it is not sound, and the process ends for it.
        unsafe { late(1) };
    });
    let Some(ended) = ended else { return };
    ended.expect_code(100 + libc::SIGSEGV);
    says(&ended, &["jumped to Leaf 5 + 0"]);
}

#[test]
fn a_handler_that_is_called_once_is_called_once() {
    let name = "a_handler_that_is_called_once_is_called_once";
    let ended = child::run(name, PATIENCE, || {
        handle(
            mends as *const () as usize,
            libc::SA_SIGINFO | libc::SA_RESETHAND,
        );
        install_fault_handler();
        let cache = quarantined();
        let late = code_of(&cache, Code::leaf(5));
        evict_and_recycle(&cache);
        // SAFETY: the handler sends it elsewhere, the first time.
        unsafe {
            assert_eq!(late(5), 1005);
            late(5);
        }
    });
    let Some(ended) = ended else { return };
    ended.expect_signal(libc::SIGSEGV);
    assert_eq!(
        ended.output.matches("jumped to Leaf 5 + 0").count(),
        2,
        "{}",
        ended.output
    );
}

/// Nobody handled it, or it was ignored: the process ends by a fault, and by somebody's signal as it
/// would have.
#[test]
fn without_a_handler_before_the_process_ends() {
    let name = "without_a_handler_before_the_process_ends";
    let ended = child::run(name, PATIENCE, || {
        let cache = quarantined();
        let late = code_of(&cache, Code::leaf(5));
        evict_and_recycle(&cache);
        let ends = |before: usize, by_fault: bool| {
            let forked = child::fork(false, || {
                handle(before, 0);
                install_fault_handler();
                // SAFETY: it is not sound, and the process ends for it; or it sends a signal.
                unsafe {
                    if by_fault {
                        late(1);
                    } else {
                        libc::raise(libc::SIGSEGV);
                    }
                }
                33
            });
            use std::os::unix::process::ExitStatusExt;
            let status = forked.wait();
            (status.signal(), status.code())
        };
        let dead = (Some(libc::SIGSEGV), None);
        assert_eq!(ends(libc::SIG_DFL, true), dead);
        assert_eq!(ends(libc::SIG_DFL, false), dead);
        assert_eq!(ends(libc::SIG_IGN, true), dead);
        assert_eq!(ends(libc::SIG_IGN, false), (None, Some(33)));
        child::exit(78);
    });
    let Some(ended) = ended else { return };
    ended.expect_code(78);
}

/// Threads that the standard library did not start get an alternate stack as participants.
#[test]
fn participants_have_an_alternate_stack() {
    extern "C" fn start(cache: *mut c_void) -> *mut c_void {
        let has_one = || {
            // SAFETY: asks, and fills plain old data.
            unsafe {
                let mut stack: libc::stack_t = std::mem::zeroed();
                libc::sigaltstack(std::ptr::null(), &mut stack);
                stack.ss_flags & libc::SS_DISABLE == 0 && stack.ss_size >= 64 << 10
            }
        };
        // SAFETY: the cache that the test keeps.
        let cache = unsafe { &*cache.cast::<Cache<Code>>() };
        let before = has_one();
        let me = cache.participant("of C");
        // SAFETY: the type is right.
        let y = unsafe { leaf(cache, 3).get(&mut me.pin()).unwrap().call(4) };
        (usize::from(!before && has_one() && y == 7)) as *mut c_void
    }
    install_fault_handler();
    let cache = quarantined();
    for _ in 0..3 {
        let (mut thread, mut result) = (0, std::ptr::null_mut());
        // SAFETY: as these functions want it.
        unsafe {
            let argument = (&raw const cache).cast_mut().cast();
            libc::pthread_create(&mut thread, std::ptr::null(), start, argument);
            libc::pthread_join(thread, &mut result);
        }
        assert_eq!(result as usize, 1);
    }
}

/// Many threads come late at once: each is named, whole.
#[test]
fn many_late_calls_at_once() {
    let ended = child::run("many_late_calls_at_once", PATIENCE, || {
        handle(mends as *const () as usize, libc::SA_SIGINFO);
        install_fault_handler();
        let cache = quarantined();
        let late: Vec<_> = (0..4)
            .map(|n| code_of(&cache, Code::new(n, How::Leaf)))
            .collect();
        evict_and_recycle(&cache);
        std::thread::scope(|threads| {
            for late in late {
                threads.spawn(move || {
                    for _ in 0..50 {
                        // SAFETY: the handler sends it elsewhere.
                        assert_eq!(unsafe { late(5) }, 1005);
                    }
                });
            }
            // Names come and go meanwhile.
            for n in 100..400 {
                code_of(&cache, Code::leaf(n));
                cache.seal();
                cache.evict_all();
            }
        });
        child::exit(79);
    });
    let Some(ended) = ended else { return };
    ended.expect_code(79);
    for n in 0..4 {
        let told = ended
            .output
            .matches(&format!("jumped to Leaf {n} + 0"))
            .count();
        assert_eq!(told, 50);
    }
}
