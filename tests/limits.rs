//! Memory that is not given: by the system, by a hard limit, by a budget. An error each time, never
//! a hang, and nothing lost.

mod support;

use std::time::Duration;

use inkpot::{Cache, Error, MapStep};
use support::synthetic::{self, CONTEXT, CONTEXT_PER_METHOD, Code, Synthetic};
use support::{Calculator, Op, child, leaf, method, wait_until};

fn outcome(cache: &Cache<Op>, n: i64) -> Result<i64, Error> {
    let me = cache.participant("test");
    let add = method(cache, &Op::Add(n));
    let mut guard = me.pin();
    // SAFETY: the type is right.
    add.get(&mut guard).map(|f| unsafe { f.call(1) })
}

fn recycle_all<K: inkpot::Key>(cache: &Cache<K>) {
    cache.evict_all();
    cache.seal();
    wait_until("all is recycled", || {
        let s = cache.statistics();
        let generations = s.generations_open + s.generations_sealed;
        generations + s.generations_dead + s.generations_fallow == 0
    });
    assert_eq!(cache.statistics().mapped_code_bytes, 0);
}

#[test]
fn refused_mappings_are_errors_and_cost_nothing() {
    let cache = Cache::builder(Calculator)
        .generation_methods(4)
        .build()
        .unwrap();
    assert_eq!(outcome(&cache, 0).unwrap(), 1);
    recycle_all(&cache);
    let before = cache.statistics();
    for n in 0..200 {
        cache.refuse_memory(true);
        match outcome(&cache, n) {
            Err(Error::Memory { step, bytes, .. }) => {
                assert_eq!(step, MapStep::Map);
                assert!(bytes > 0);
            }
            // An open generation may have room left.
            Ok(y) => assert_eq!(y, n + 1),
            Err(other) => panic!("{other}"),
        }
        cache.refuse_memory(false);
        assert_eq!(outcome(&cache, n).unwrap(), n + 1);
    }
    let during = cache.statistics();
    assert!(during.failures >= 50, "{}", during.failures);
    recycle_all(&cache);
    let after = cache.statistics();
    assert_eq!(after.mapped, before.mapped);
    assert_eq!(after.resident, before.resident);
}

#[test]
fn refused_cells_are_errors_of_method() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    cache.refuse_memory(true);
    let mut handles = Vec::new();
    let refused = (0..10_000).find_map(|n| {
        // SAFETY: the type is right.
        match unsafe { cache.method::<synthetic::Unary>(&Code::leaf(n)) } {
            Ok(handle) => {
                handles.push(handle);
                None
            }
            Err(error) => Some(error),
        }
    });
    assert!(matches!(refused, Some(Error::Memory { .. })), "{refused:?}");
    let had = handles.len();
    assert!(
        had > 1000,
        "the first cells are there from the start: {had}"
    );
    cache.refuse_memory(false);
    handles.extend((had..10_000).map(|n| leaf(&cache, n as u32)));
    let me = cache.participant("test");
    for n in [0, had - 1, had, 9_999] {
        let mut guard = me.pin();
        // SAFETY: the type is right.
        let y = unsafe { handles[n].get(&mut guard).unwrap().call(1) };
        assert_eq!(y, 1 + n as i64);
    }
}

fn set_limit(resource: libc::__rlimit_resource_t, soft: u64) {
    // SAFETY: the structure lives through the calls.
    unsafe {
        let mut limit = std::mem::zeroed::<libc::rlimit>();
        libc::getrlimit(resource, &mut limit);
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(resource, &limit), 0);
    }
}

fn address_space() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The kernel itself refuses: code is written to a file, in which it comes to lie further on than files may be long. To
/// write there all the same would be a signal that ends the process.
#[test]
fn no_long_files_while_running() {
    let name = "no_long_files_while_running";
    let ended = child::run(name, Duration::from_secs(60), || {
        let cache = Cache::builder(Calculator)
            .generation_methods(4)
            .build()
            .unwrap();
        for n in 0..100 {
            assert_eq!(outcome(&cache, n).unwrap(), n + 1);
        }
        for round in 1..10 {
            set_limit(libc::RLIMIT_FSIZE, 1 << 20);
            match outcome(&cache, 1000 * round) {
                Err(Error::Memory { step, .. }) => assert_eq!(step, MapStep::Write),
                other => panic!("{other:?}"),
            }
            // What is there can be called.
            assert_eq!(outcome(&cache, round).unwrap(), round + 1);
            set_limit(libc::RLIMIT_FSIZE, libc::RLIM_INFINITY);
            let again = 1000 * round;
            assert_eq!(outcome(&cache, again).unwrap(), again + 1);
        }
        // Nor is there a file to begin with: for another cache, and for this one after a fork.
        set_limit(libc::RLIMIT_FSIZE, 1 << 20);
        let refused = |error: Option<Error>| match error {
            Some(Error::Memory { step, .. }) => step,
            other => panic!("{other:?}"),
        };
        let step = refused(Cache::builder(Calculator).build().err());
        assert_eq!(step, MapStep::Backing);
        // SAFETY: the child does nothing but end.
        match unsafe { libc::fork() } {
            // SAFETY: as above.
            0 => unsafe { libc::_exit(0) },
            // SAFETY: a child of ours.
            child => assert_eq!(unsafe { libc::waitpid(child, &mut 0, 0) }, child),
        }
        cache.seal();
        refused(outcome(&cache, 20_000).err());
        set_limit(libc::RLIMIT_FSIZE, libc::RLIM_INFINITY);
        assert_eq!(outcome(&cache, 30_000).unwrap(), 30_001);
        recycle_all(&cache);
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
    }
}

/// Building a cache fails at each of its steps, one after the other, and leaves nothing.
#[test]
fn no_memory_to_build_with() {
    let name = "no_memory_to_build_with";
    let ended = child::run(name, Duration::from_secs(60), || {
        drop(Cache::builder(Calculator).build().unwrap()); // LLVM is there now
        let (space, files) = (address_space(), open_files());
        let build = |workers| match Cache::builder(Calculator).workers(workers).build() {
            Ok(_) => panic!("built without memory"),
            Err(Error::Memory { step, .. }) => step,
            Err(other) => panic!("{other}"),
        };
        set_limit(libc::RLIMIT_AS, address_space() + (64 << 20));
        assert_eq!(build(1), MapStep::Reserve);
        // Room for the reservation, and for some stacks of 2 MiB each.
        set_limit(libc::RLIMIT_AS, address_space() + (2048 << 20) + (64 << 20));
        assert_eq!(build(200), MapStep::Thread);
        set_limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
        set_limit(libc::RLIMIT_NOFILE, files as u64 + 10);
        let taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        assert_eq!(build(1), MapStep::Backing);
        drop(taken);
        set_limit(libc::RLIMIT_NOFILE, 1024);
        assert_eq!(open_files(), files);
        let space_now = address_space();
        assert!(space_now < space + (512 << 20), "a reservation was leaked");
        let cache = Cache::builder(Calculator).build().unwrap();
        assert_eq!(outcome(&cache, 1).unwrap(), 2);
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
    }
}

/// As many mappings as the kernel allows a process.
fn take_all_mappings() -> Vec<*mut libc::c_void> {
    let mut taken = Vec::with_capacity(1 << 17);
    // Neighbours of different permission do not merge.
    for i in 0.. {
        let protection = if i % 2 == 0 {
            libc::PROT_NONE
        } else {
            libc::PROT_READ
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a mapping wherever there is room.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            break;
        }
        taken.push(at);
    }
    taken
}

fn free_mappings(taken: Vec<*mut libc::c_void>) {
    // From the end: a hole in the middle of one mapping would need another one.
    for at in taken.into_iter().rev() {
        // SAFETY: one of ours.
        unsafe { libc::munmap(at, 4096) };
    }
}

/// The kernel refuses to split mappings: neither new code can be mapped nor, in the middle of
/// other code, old code be unmapped. Both work again as soon as it lets them.
#[test]
fn no_mappings_left() {
    let ended = child::run("no_mappings_left", Duration::from_secs(120), || {
        let cache = Cache::with_backend(Synthetic::default())
            .generation_methods(1)
            .batch_limit(1)
            .build()
            .unwrap();
        let me = cache.participant("test");
        let get = |n: u32| {
            let add = leaf(&cache, n);
            let mut guard = me.pin();
            // SAFETY: the type is right.
            add.get(&mut guard).map(|f| unsafe { f.call(1) })
        };
        for n in 0..100 {
            assert_eq!(get(n).unwrap(), i64::from(n) + 1);
        }
        let recycled = cache.statistics().generations_recycled;
        let taken = take_all_mappings();
        for n in (20..40).step_by(2) {
            assert!(cache.evict(&Code::leaf(n)));
        }
        for n in 100..110 {
            match get(n) {
                Err(Error::Memory { step, .. }) => {
                    assert!(matches!(step, MapStep::Map | MapStep::Write), "{step}");
                }
                other => panic!("{other:?}"),
            }
        }
        for n in (1..100).step_by(2) {
            assert_eq!(get(n).unwrap(), i64::from(n) + 1, "still there");
        }
        std::thread::sleep(Duration::from_millis(50));
        let stuck = cache.statistics();
        assert!(stuck.generations_recycled < recycled + 10, "{stuck:#?}");
        assert!(stuck.bytes.retired > 0);
        free_mappings(taken);
        wait_until("what could not be unmapped is", || {
            cache.statistics().generations_recycled == recycled + 10
        });
        for n in 20..110 {
            assert_eq!(get(n).unwrap(), i64::from(n) + 1);
        }
        recycle_all(&cache);
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
    }
}

#[test]
fn a_hard_limit_that_nothing_fits() {
    let cache = Cache::builder(Calculator).hard_limit(1).build().unwrap();
    for n in 0..20 {
        match outcome(&cache, n) {
            Err(Error::HardLimit {
                method,
                needed,
                in_use,
                limit,
            }) => {
                assert_eq!(method, format!("{:?}", Op::Add(n)));
                assert_eq!(limit, 1);
                assert!(needed + in_use > limit);
            }
            other => panic!("{other:?}"),
        }
    }
    let s = cache.statistics();
    assert_eq!((s.compiles, s.mapped_code_bytes), (0, 0));
}

#[test]
fn a_hard_limit_holds_and_lets_go() {
    const LIMIT: u64 = 1 << 20;
    let cache = Cache::with_backend(Synthetic::default())
        .hard_limit(LIMIT)
        .generation_methods(8)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let in_use = || {
        let b = cache.statistics().bytes;
        let code = b.text + b.constants + b.data + b.unwind;
        code + b.contexts + b.spare_contexts + b.retired + b.bookkeeping
    };
    let mut kept = Vec::new();
    let mut refused = 0;
    for n in 0..2000 {
        let add = leaf(&cache, n);
        kept.push(add.keep());
        match add.get(&mut me.pin()) {
            // SAFETY: the type is right.
            Ok(f) => assert_eq!(unsafe { f.call(1) }, i64::from(n) + 1),
            Err(Error::HardLimit { .. }) => {
                refused += 1;
                kept.pop(); // and with it the method's record, which takes memory too
            }
            Err(other) => panic!("{other}"),
        }
        // What a method leaves in its context is known only when it is compiled, and the spare
        // context is replaced whenever it was taken.
        // (A record that was refused its code is forgotten a moment later.)
        if n % 100 == 0 {
            wait_until("what is in use is within the limit", || {
                in_use() <= LIMIT + CONTEXT_PER_METHOD + CONTEXT
            });
        }
    }
    assert!(refused > 0 && refused < 2000, "{refused}");
    assert!(cache.statistics().compiles > 0);
    drop(kept);
    recycle_all(&cache);
    let mut guard = me.pin();
    // SAFETY: the type is right.
    let y = unsafe { leaf(&cache, 1).get(&mut guard).unwrap().call(1) };
    assert_eq!(y, 2);
}

/// Eviction makes room only once what was evicted has been freed, and here it cannot be: the
/// thread that asks is pinned. It is told so, and does not wait for itself.
#[test]
fn a_hard_limit_never_waits_for_a_pinned_thread() {
    let cache = Cache::with_backend(Synthetic::default())
        .hard_limit(1 << 20)
        .generation_methods(8)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let outer = me.pin();
    let mut guard = me.pin();
    let mut refused = 0;
    for n in 0..2000 {
        match leaf(&cache, n).get(&mut guard) {
            // SAFETY: the type is right.
            Ok(f) => assert_eq!(unsafe { f.call(1) }, i64::from(n) + 1),
            Err(Error::HardLimit { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 1000, "{refused}");
    drop((outer, guard));
    wait_until("there is room again", || {
        leaf(&cache, 5000).get(&mut me.pin()).is_ok()
    });
}

#[test]
fn a_budget_of_one_byte_still_works() {
    let cache = Cache::builder(Calculator).budget(1).build().unwrap();
    for n in 0..200 {
        let outer = Op::CallAdd(Box::new(Op::Add(n)), 1000);
        let me = cache.participant("test");
        let mut guard = me.pin();
        // SAFETY: the type is right.
        let y = unsafe { method(&cache, &outer).get(&mut guard).unwrap().call(1) };
        assert_eq!(y, 1001 + n);
    }
    let s = cache.statistics();
    assert_eq!(s.compiles, 400);
    assert!(s.methods_resident <= 2, "{}", s.methods_resident);
    assert!(s.generations_recycled > 100, "{}", s.generations_recycled);
    assert!(s.bytes.excess > 0);
    recycle_all(&cache);
}

#[test]
fn a_budget_can_shrink_to_nothing_and_grow_again() {
    let cache = Cache::builder(Calculator)
        .generation_methods(10)
        .build()
        .unwrap();
    for n in 0..100 {
        assert_eq!(outcome(&cache, n).unwrap(), n + 1);
    }
    assert_eq!(cache.statistics().methods_resident, 100);
    cache.set_budget(1);
    assert_eq!(cache.statistics().methods_resident, 0);
    cache.set_budget(u64::MAX);
    for n in 0..100 {
        assert_eq!(outcome(&cache, n).unwrap(), n + 1);
    }
    assert_eq!(cache.statistics().methods_resident, 100);
}
