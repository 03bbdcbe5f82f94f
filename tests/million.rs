//! A million live methods in one cache.

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use inkpot::{Cache, Handle};
use support::synthetic::{Code, How, Random, Synthetic, Unary, method};

const METHODS: u32 = 1_000_000;

/// Mappings of the whole process.
fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("there is a /proc");
    maps.lines().count()
}

/// What all threads of the process have used of the processors.
fn cpu_time() -> Duration {
    // SAFETY: zero is a value of this type, and the call writes nothing else.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let of = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}

/// One in a hundred calls the leaf of half its number, one in fifty can be unwound.
fn code(n: u32) -> Code {
    let how = if n % 100 == 99 { How::Call } else { How::Leaf };
    let code = Code::new(n, how);
    if n.is_multiple_of(50) {
        code.framed()
    } else {
        code
    }
}

fn call(handle: &Handle<Code, Unary>, guard: &mut inkpot::Guard<'_>, x: i64) {
    let entry = handle.entry(guard).expect("nothing was evicted");
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(x) }, handle.key().result(x));
    guard.repin();
}

#[test]
fn a_million_methods_live_at_once() {
    let backend = Synthetic::default();
    let counts = backend.counts.clone();
    let cache = Cache::with_backend(backend)
        .budget(8 << 30)
        .build()
        .unwrap();
    let before = mappings();
    let started = Instant::now();
    let handles: Vec<_> = (0..METHODS).map(|n| method(&cache, code(n))).collect();
    println!("{METHODS} handles: {:.2?}", started.elapsed());
    for handle in &handles {
        handle.request().unwrap();
    }
    println!("asked for: {:.2?}", started.elapsed());
    while cache.statistics().methods_resident < u64::from(METHODS) {
        let waited = started.elapsed();
        assert!(
            waited < Duration::from_secs(300),
            "{:#?}",
            cache.statistics()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("compiled: {:.2?}", started.elapsed());

    let with_all = mappings();
    let statistics = cache.statistics();
    println!(
        "{before} mappings before, {with_all} with all; {} generations, {} KiB of text, {} KiB mapped",
        statistics.generations_open + statistics.generations_sealed,
        statistics.bytes.text >> 10,
        statistics.mapped >> 10,
    );
    assert!(with_all < 4_000, "{with_all} mappings");
    assert!(statistics.mappings < 4_000);
    assert_eq!(statistics.evictions, 0);

    let me = cache.participant("caller");
    let mut guard = me.pin();
    let mut random = Random::new(1);
    for _ in 0..100_000 {
        let n = random.below(METHODS);
        call(&handles[n as usize], &mut guard, i64::from(n) * 3);
    }
    for n in (99..METHODS).step_by(1000) {
        call(&handles[n as usize], &mut guard, -5);
    }
    drop(guard);
    println!("called: {:.2?}", started.elapsed());

    let dropping = Instant::now();
    let cpu_before = cpu_time();
    drop(handles);
    cache.seal();
    cache.evict_all();
    println!("evicted: {:.2?}", dropping.elapsed());
    while cache.statistics().generations_recycled < statistics.generations_sealed {
        let waited = dropping.elapsed();
        assert!(
            waited < Duration::from_secs(300),
            "{:#?}",
            cache.statistics()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    // By the processor's time: the machine may have other things to do.
    let took = cpu_time() - cpu_before;
    println!(
        "all gone: {:.2?}, {took:.2?} of processor time",
        dropping.elapsed()
    );
    assert!(took < Duration::from_secs(30), "dropping all took {took:?}");
    let after = cache.statistics();
    assert_eq!(after.methods_resident, 0);
    assert_eq!(after.mapped_code_bytes, 0);
    assert_eq!(after.bytes.unwind, 0);
    assert_eq!(after.bytes.retired, 0);
    // Cells and thunks are for good; with nobody to mention them they are all free again.
    assert_eq!(after.methods_known, 0);
    assert!(after.mapped <= 64 * u64::from(METHODS), "{}", after.mapped);
    let left = mappings();
    assert!(
        left <= before + 50,
        "{before} mappings before, {left} after"
    );

    // What was given back is used again.
    let again = method(&cache, code(7));
    let mut guard = me.pin();
    again.get(&mut guard).unwrap();
    call(&again, &mut guard, 1);
    drop(guard);
    drop((again, me, cache));
    assert_eq!(counts.contexts.load(Ordering::SeqCst), 0);
}
