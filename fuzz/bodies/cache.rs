//! Bytes as a sequence of things done with a cache of synthetic code, on one thread. Each result is checked, what is gone
//! stays unmapped for a while, and at the end all is freed. For the fuzzer and for `tests/fuzz_corpus.rs`.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use inkpot::evict::{Lru, Policy, Sieve};
use inkpot::{Assumption, Cache, Guard, Handle, Keep, Lease, Participant, Quarantine, Reclaimer};

use crate::support::held::scrub;
use crate::support::synthetic::{Code, How, Synthetic, Unary, inside, method};

const X: i64 = 11;

struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    /// The next one, or 0 after the last.
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// One of few methods: several calls of one are what is worth seeing.
    fn code(&mut self) -> Code {
        let byte = self.next();
        let how = [
            How::Leaf,
            How::Call,
            How::Jump,
            How::CallAddress,
            How::Host,
            How::CallHost,
        ];
        let code = Code::new(u32::from(byte >> 4), how[usize::from(byte & 7) % 6]).framed();
        match byte & 15 {
            6 => code.padded(20_000),
            7 => code.depth(3),
            8.. => code.depth(2),
            _ => code,
        }
    }
}

/// What is kept from one step to the next.
#[derive(Default)]
struct Kept {
    handles: Vec<Handle<Code, Unary>>,
    keeps: Vec<Keep<Code>>,
    leases: Vec<(Code, Lease<Unary>)>,
    callbacks: Vec<Handle<Code, Unary>>,
}

/// Does what the bytes say.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let settings = bytes.next();
    let assumptions = [(); 4].map(|()| Assumption::new());
    let assumptions = std::sync::Arc::new(Mutex::new(assumptions));
    let relied_on = assumptions.clone();
    let mut backend = Synthetic::relying(move |code| match code.n % 3 {
        0 => vec![relied_on.lock().unwrap()[code.n as usize % 4].clone()],
        _ => Vec::new(),
    });
    backend.groups = 1 + u32::from(settings & 1);
    let counts = backend.counts.clone();
    let policy: Box<dyn Policy> = match settings & 2 {
        0 => Box::new(Lru::new()),
        _ => Box::new(Sieve::new()),
    };
    let cache = Cache::with_backend(backend)
        .workers(0)
        .reclaimer(Reclaimer::Manual)
        .policy(policy)
        .code_budget([64 << 10, 256 << 10, 1 << 20, u64::MAX][usize::from(settings >> 2 & 3)])
        .generation_methods([1, 2, 4, 16][usize::from(settings >> 4 & 3)])
        .evacuate(settings & 64 == 0)
        .quarantine(Quarantine {
            bytes: 8 << 20,
            time: Duration::MAX,
        })
        .retry_after(Duration::ZERO, Duration::ZERO)
        .build()
        .unwrap();
    {
        let me = cache.participant("fuzz");
        let mut kept = Kept::default();
        let mut guard = me.pin();
        while !bytes.0.is_empty() {
            step(&cache, &me, &mut guard, &mut kept, &assumptions, &mut bytes);
        }
        for handle in &kept.callbacks {
            // SAFETY: nobody calls it any more.
            unsafe { handle.release_callback() };
        }
    }
    scrub();
    cache.seal();
    cache.evict_all();
    for _ in 0..20 {
        cache.maintain();
    }
    let s = cache.statistics();
    assert_eq!((s.mapped_code_bytes, s.methods_resident), (0, 0), "{s:#?}");
    assert_eq!(
        (s.generations_fallow, s.leases, s.bonds),
        (0, 0, 0),
        "{s:#?}"
    );
    drop(cache);
    assert_eq!(counts.contexts.load(Ordering::SeqCst), 0);
}

fn step(
    cache: &Cache<Code>,
    me: &Participant,
    guard: &mut Guard<'_>,
    kept: &mut Kept,
    assumptions: &Mutex<[Assumption; 4]>,
    bytes: &mut Bytes<'_>,
) {
    match bytes.next() % 24 {
        0..3 => call(cache, guard, bytes.code()),
        3 => drop(cache.evict(&bytes.code())),
        4 => drop(cache.invalidate(&bytes.code())),
        5 => cache.seal(),
        6 => drop(cache.maintain()),
        7 => guard.repin(),
        8 => drop(cache.compact()),
        9 => drop(cache.evacuate()),
        10 => kept.keeps.push(method(cache, bytes.code()).keep()),
        11 => drop(kept.keeps.pop()),
        12 => {
            let code = bytes.code();
            let lease = method(cache, code).lease(guard).unwrap();
            kept.leases.push((code, lease));
        }
        13 => drop(kept.leases.pop()),
        14 => {
            let at = usize::from(bytes.next()) % 4;
            let mut all = assumptions.lock().unwrap();
            let fallen = std::mem::replace(&mut all[at], Assumption::new());
            drop(all);
            drop(fallen.invalidate());
        }
        15 => {
            let budgets = [1, 64 << 10, 256 << 10, u64::MAX];
            cache.set_code_budget(budgets[usize::from(bytes.next()) % 4]);
        }
        16 => kept.handles.push(method(cache, bytes.code())),
        17 => drop(kept.handles.pop()),
        18 => {
            let handle = method(cache, bytes.code());
            // SAFETY: the type is right, and it is given back at the end.
            let callback =
                unsafe { std::mem::transmute::<*const (), Unary>(handle.callback().unwrap()) };
            // SAFETY: as above.
            assert_eq!(unsafe { callback(X) }, handle.key().result(X));
            kept.callbacks.push(handle);
        }
        19 => {
            // Inside of a method, which goes meanwhile, or not.
            let code = Code::new(u32::from(bytes.next() & 7), How::CallHost).framed();
            let entry = method(cache, code);
            let entry = entry.get(guard).unwrap();
            let errand = || {
                cache.evict(&code);
                // SAFETY: what is used afterwards is on the stack.
                unsafe { me.safepoint() };
                cache.maintain();
                let other = bytes.code();
                let address = method(cache, other).address();
                // SAFETY: the type is right; the thread is pinned.
                let y = unsafe { std::mem::transmute::<*const (), Unary>(address)(X) };
                assert_eq!(y, other.result(X));
                // SAFETY: nobody has it any more.
                unsafe { method(cache, other).release_address() };
            };
            // SAFETY: the type is right.
            assert_eq!(inside(errand, || unsafe { entry.call(X) }), code.result(X));
        }
        20 => drop(method(cache, bytes.code()).request()),
        21 => drop(cache.compile_some(usize::from(bytes.next()) + 1)),
        22 => {
            let n = u32::from(bytes.next());
            drop(cache.invalidate_if(|code| code.n.is_multiple_of(n % 5 + 1)));
        }
        _ => {
            let how = [How::Refuse, How::GiveUp, How::Panic, How::Unresolved];
            let code = Code::new(0, how[usize::from(bytes.next()) % 4]);
            method(cache, code).get(guard).map(drop).unwrap_err();
        }
    }
    for (code, lease) in &kept.leases {
        // SAFETY: the type is right.
        assert_eq!(unsafe { lease.entry(guard).call(X) }, code.result(X));
    }
    let s = cache.statistics();
    assert!(s.methods_resident <= s.methods_known && s.generations_held <= s.generations_fallow);
    assert!(s.bytes.held <= s.bytes.retired && s.methods_on_probation <= s.methods_resident);
}

fn call(cache: &Cache<Code>, guard: &mut Guard<'_>, code: Code) {
    let handle = method(cache, code);
    let entry = handle.get(guard).unwrap();
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(X) }, code.result(X), "{code:?}");
}
