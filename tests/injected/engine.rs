//! All on one thread, and without LLVM: the same calls in the same order each time.

use inkpot::{Cache, Handle, Participant, Quarantine, Reclaimer, install_fault_handler};

use super::support::child;
use super::support::held::scrub;
use super::support::synthetic::{Code, How, Synthetic, Unary, inside};
use super::{each_call_fails, interpose, named, soaks};

const X: i64 = 1000;

/// A cache that nothing is done with.
pub fn none() -> Cache<Code> {
    let builder = Cache::with_backend(Synthetic::default()).workers(0);
    builder.reclaimer(Reclaimer::Manual).build().unwrap()
}

/// A cache, and what is resident in it.
struct Scene {
    cache: Cache<Code>,
    me: Participant,
    resident: Vec<(Code, Handle<Code, Unary>)>,
}

/// Tries until it works, which it does the second time at the latest.
#[track_caller]
fn insist<R>(scene: Option<&Scene>, mut what: impl FnMut() -> Result<R, inkpot::Error>) -> R {
    for _ in 0..2 {
        match what() {
            Ok(done) => return done,
            Err(error) => named(&error),
        }
        if let Some(scene) = scene {
            scene.all_can_be_called();
        }
    }
    panic!("nothing is refused any more")
}

impl Scene {
    fn new(quarantine: bool) -> Self {
        let cache = insist(None, || {
            let mut builder = Cache::with_backend(Synthetic::default())
                .workers(0)
                .reclaimer(Reclaimer::Manual)
                .generation_methods(6);
            if quarantine {
                builder = builder.quarantine(Quarantine::default());
            }
            builder.build()
        });
        let me = cache.participant("test");
        Self {
            cache,
            me,
            resident: Vec::new(),
        }
    }

    fn all_can_be_called(&self) {
        let guard = self.me.pin();
        for (code, handle) in &self.resident {
            let entry = handle.entry(&guard);
            let entry = entry.unwrap_or_else(|| panic!("{code:?} is gone"));
            // SAFETY: the type is right.
            assert_eq!(unsafe { entry.call(X) }, code.result(X), "{code:?}");
        }
    }

    fn handle(&self, code: Code) -> Handle<Code, Unary> {
        // SAFETY: all synthetic methods have this type.
        insist(Some(self), || unsafe { self.cache.method(&code) })
    }

    /// Compiles it, what it calls first: a call from code that is refused has nowhere to go.
    fn get(&mut self, code: Code) {
        if let Some(callee) = code.callee() {
            self.get(callee);
        }
        let handle = self.handle(code);
        let y = insist(Some(self), || {
            let mut guard = self.me.pin();
            // SAFETY: as above.
            handle.get(&mut guard).map(|f| unsafe { f.call(X) })
        });
        assert_eq!(y, code.result(X));
        self.resident.push((code, handle));
    }

    fn evict_all(&mut self) {
        self.cache.seal();
        self.cache.evict_all();
        self.resident.clear();
    }

    /// What the system does not let go is let go at the next step.
    fn recycle(&self) {
        scrub();
        for _ in 0..100 {
            if !self.cache.maintain() {
                return;
            }
        }
        interpose::over();
        while self.cache.maintain() {}
    }
}

fn life(quarantine: bool) {
    let mut scene = Scene::new(quarantine);
    for n in 0..4 {
        for how in [How::Leaf, How::Call, How::CallAddress, How::Host] {
            scene.get(Code::new(10 * n + how as u32, how).framed().padded(3000));
        }
    }
    scene.get(Code::leaf(77).padded(u16::MAX));
    scene.all_can_be_called();
    // More cells than there are at first: every other time, since that takes half of all the time.
    let many = if soaks() || quarantine { 4200 } else { 0 };
    let handles: Vec<_> = (0..many)
        .map(|n| scene.handle(Code::leaf(10_000 + n)))
        .collect();
    let callback = insist(Some(&scene), || scene.resident[0].1.callback());
    // SAFETY: the type is right, and it is not given back before.
    unsafe {
        let callback = std::mem::transmute::<*const (), Unary>(callback);
        assert_eq!(callback(X), scene.resident[0].0.result(X));
        scene.resident[0].1.release_callback();
    }
    drop(handles);
    // Frames below hold what they are in, whatever the system says of the stack.
    let host = scene.handle(Code::new(5000, How::Host).framed());
    insist(Some(&scene), || host.get(&mut scene.me.pin()).map(drop));
    {
        let guard = scene.me.pin();
        let entry = host.entry(&guard).expect("it is resident");
        let errand = || {
            scene.cache.evict_all();
            scene.cache.seal();
            for _ in 0..10 {
                // SAFETY: what is used afterwards is on the stack.
                unsafe { scene.me.safepoint() };
                scene.cache.maintain();
            }
            // SAFETY: as above.
            unsafe { scene.me.blocking(|| scene.cache.maintain()) };
        };
        // SAFETY: the type is right.
        let y = inside(errand, || unsafe { entry.call(X) });
        assert_eq!(y, host.key().result(X));
    }
    scene.resident.clear();
    scene.recycle();
    let lease = {
        scene.get(Code::leaf(6000));
        let handle = scene.handle(Code::leaf(6000));
        insist(Some(&scene), || handle.lease(&mut scene.me.pin()))
    };
    scene.evict_all();
    scene.recycle_all_but_one();
    // SAFETY: the type is right.
    assert_eq!(unsafe { lease.entry(&scene.me.pin()).call(X) }, X + 6000);
    drop(lease);
    // After a fork new code goes into a new file.
    scene.get(Code::leaf(7000));
    let forked = child::fork(false, || {
        interpose::over();
        scene.all_can_be_called();
        0
    });
    for n in 0..8 {
        scene.get(Code::leaf(7100 + n));
    }
    forked.expect_code(0);
    scene.resident.retain(|(code, _)| code.n % 2 == 0);
    for n in (0..8).filter(|n| n % 2 == 1) {
        assert!(scene.cache.evict(&Code::leaf(7100 + n)));
    }
    scene.cache.seal();
    scene.cache.compact();
    scene.all_can_be_called();
    scene.recycle();
    scene.all_can_be_called();
    scene.evict_all();
    scene.recycle();
    let end = scene.cache.statistics();
    assert_eq!(end.mapped_code_bytes, 0);
    assert_eq!(end.bytes.unwind, 0);
    assert_eq!(end.generations_fallow, 0);
}

impl Scene {
    /// As `recycle`, with one generation that is held.
    fn recycle_all_but_one(&self) {
        scrub();
        for _ in 0..100 {
            self.cache.maintain();
        }
        let now = self.cache.statistics();
        assert_eq!(now.generations_held, 1, "{now:#?}");
    }
}

#[test]
fn one_call_fails() {
    each_call_fails("engine::one_call_fails", false, 1, || life(false));
}

#[test]
fn calls_fail_until_somebody_is_told() {
    let name = "engine::calls_fail_until_somebody_is_told";
    let step = if soaks() { 1 } else { 4 };
    each_call_fails(name, true, step, || life(true));
}

/// A thread that gets no alternate stack for the handler of faults does without.
#[test]
fn stacks_for_handlers() {
    each_call_fails("engine::stacks_for_handlers", false, 1, || {
        install_fault_handler();
        let scene = Scene::new(false);
        let cache = scene.cache.clone();
        let thread = std::thread::Builder::new().spawn(move || {
            let me = cache.participant("other");
            drop(me.pin());
        });
        if let Ok(thread) = thread {
            thread.join().unwrap();
        }
    });
}
