//! Promise 3: no page is ever writable and executable through one mapping, and no text or constant
//! is writable through any.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use inkpot::{Cache, OptLevel};
use support::maps::{mapping_of, mappings};
use support::texts::{Texts, text};
use support::{Calculator, Op, Unary, method};

const MAPPED: &str = "it is mapped";

/// Held by a test while it runs: each reads the map of the whole process, where the other's cache
/// stands too.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the kernel says to making this page writable.
fn protect(address: u64, protection: i32) -> Result<(), i32> {
    let page = (address & !4095) as *mut libc::c_void;
    // SAFETY: the caller asks for what must be refused, or changes nothing.
    match unsafe { libc::mprotect(page, 4096, protection) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
    }
}

/// Two threads make methods come and go while a third reads the map again and again.
#[test]
fn nothing_is_writable_and_executable_in_a_churn() {
    let _alone = alone();
    static STOP: AtomicBool = AtomicBool::new(false);
    let cache = Cache::builder(Calculator)
        .workers(2)
        .generation_methods(8)
        .opt_level(OptLevel::O0)
        .build()
        .unwrap();
    let looks = AtomicUsize::new(0);
    let executable = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for thread in 0..2 {
            let cache = &cache;
            threads.spawn(move || {
                let me = cache.participant("churns");
                for n in (0..).take_while(|_| !STOP.load(Ordering::Relaxed)) {
                    let n = 1_000_000 * thread + n;
                    let outer = Op::CallAdd(Box::new(Op::Add(n)), 1);
                    let mut guard = me.pin();
                    // SAFETY: the type is right.
                    let y = unsafe { method(cache, &outer).get(&mut guard).unwrap().call(1) };
                    assert_eq!(y, n + 2);
                    cache.evict(&outer);
                    cache.evict(&Op::Add(n));
                }
            });
        }
        let (looks, executable) = (&looks, &executable);
        threads.spawn(move || {
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(3) {
                for mapping in mappings() {
                    let p = &mapping.permissions;
                    assert!(!(p.contains('w') && p.contains('x')), "{mapping:?}");
                    let ours = mapping.path.contains("memfd:inkpot");
                    assert!(!(ours && p.contains('w')), "{mapping:?}");
                    if p.contains('x') && ours {
                        executable.fetch_add(1, Ordering::Relaxed);
                    }
                }
                looks.fetch_add(1, Ordering::Relaxed);
            }
            STOP.store(true, Ordering::Relaxed);
        });
    });
    assert!(looks.load(Ordering::Relaxed) > 50, "{looks:?}");
    assert!(executable.load(Ordering::Relaxed) > 50, "the code was seen");
    assert!(cache.statistics().generations_recycled > 5);
}

const TABLE: &str = "
    @table = private constant [4 x i64] [i64 11, i64 22, i64 33, i64 44]
    define i64 @self(i64 %i) {
      %at = getelementptr i64, ptr @table, i64 %i
      %y = load i64, ptr %at
      ret i64 %y
    }";
const WHERE: &str = "
    @table = private constant [4 x i64] [i64 11, i64 22, i64 33, i64 44]
    define i64 @self(i64 %i) {
      %at = getelementptr i64, ptr @table, i64 %i
      %y = ptrtoint ptr %at to i64
      ret i64 %y
    }";

/// The kernel refuses to make text, constants or thunks writable, while the generation is open and
/// when it is sealed; and there is no other, writable view of it.
#[test]
fn the_kernel_refuses_to_make_code_writable() {
    let _alone = alone();
    let cache = Cache::builder(Texts::new([("table", TABLE), ("where", WHERE)]))
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let table = text::<Unary>(&cache, "table");
    let place = text::<Unary>(&cache, "where");
    // SAFETY: the types are right; the constants live as long as the guard.
    let (code, constants) = unsafe {
        assert_eq!(table.get(&mut guard).unwrap().call(2), 33);
        let constants = place.get(&mut guard).unwrap().call(0) as u64;
        (table.entry(&guard).unwrap().pointer(), constants)
    };
    let thunk = table.address() as u64;
    let code = code as *const () as u64;
    for sealed in [false, true] {
        if sealed {
            cache.seal();
        }
        assert_eq!(mapping_of(code).expect(MAPPED).permissions, "r-xs");
        assert_eq!(mapping_of(constants).expect(MAPPED).permissions, "r--s");
        assert_eq!(mapping_of(thunk).expect(MAPPED).permissions, "r-xs");
        for address in [code, constants, thunk] {
            for wanted in [
                libc::PROT_WRITE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
            ] {
                assert_eq!(protect(address, wanted), Err(libc::EACCES));
            }
        }
        assert_eq!(protect(code, libc::PROT_READ | libc::PROT_EXEC), Ok(()));
    }
    let views: Vec<_> = mappings()
        .into_iter()
        .filter(|m| m.path.contains("inkpot") && m.permissions.contains('w'))
        .collect();
    assert!(views.is_empty(), "{views:?}");
    // SAFETY: the type is right.
    assert_eq!(unsafe { table.entry(&guard).unwrap().call(3) }, 44);
}
