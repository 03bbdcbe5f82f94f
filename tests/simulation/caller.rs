//! A thread that calls methods, and looks at what comes of it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use inkpot::__simulation::{stack, world};
use inkpot::{Cache, Entry, Error, Handle, Participant};

use crate::processor::{Ended, Outside, call};
use crate::synthetic::{Code, Random, Unary, method};
use crate::watched::{Shared, compiles};

pub type Method = Handle<Code, Unary>;

/// Nobody runs these: the processor knows their addresses.
pub extern "C" fn fallback() {}
pub unsafe extern "C" fn failure() {}

/// A thread that calls methods.
pub struct Caller {
    pub shared: Arc<Shared>,
    pub handles: Vec<Method>,
    pub me: Participant,
    /// Memory may be refused, and the cache may be at its end: then errors say so.
    pub may_fail: bool,
    pub has_fallback: bool,
    /// Where code was that was called before: its address may be left on the stack.
    stale: Cell<u64>,
}

impl Caller {
    pub fn new(shared: &Arc<Shared>, handles: &[Method], me: Participant) -> Self {
        Self {
            shared: shared.clone(),
            handles: handles.to_vec(),
            me,
            may_fail: false,
            has_fallback: false,
            stale: Cell::new(0),
        }
    }

    /// Calls code that was loaded when the floors were these, and looks at the result. `errand`: what the host
    /// function does.
    pub fn call(&self, index: usize, entry: u64, floors: Vec<u32>, errand: &mut dyn FnMut()) {
        const X: i64 = 1000;
        let shared = &*self.shared;
        let code = shared.methods[index];
        let floors = RefCell::new(floors);
        let mut outside = Outside {
            looks: &mut || *floors.borrow_mut() = shared.floors(),
            begins: &mut |stamp| shared.runs(stamp, &floors.borrow()),
            errand,
            fallback: (fallback as *const () as u64, &|word, x| {
                shared.methods[word as usize].result(x)
            }),
            failure: failure as *const () as u64,
        };
        let ended = call(entry, X, &mut outside);
        self.stale.set(entry);
        match ended {
            Ok(result) => {
                world::note(result as u64);
                let right = code.result(X);
                if result != right {
                    world::broken(format!("{code:?} returned {result}, not {right}"));
                }
            }
            Err(Ended::Broken) => {}
            Err(Ended::Failed(error)) => self.allows(&code, &error, true),
        }
    }

    /// A safepoint, with a word on the stack that only looks as if it were of use.
    pub fn safepoint(&self) {
        const WORDS: usize = 6;
        (0..WORDS).for_each(|_| stack::push(self.stale.get()));
        // SAFETY: all that is used afterwards is on the simulated stack.
        unsafe { self.me.safepoint() };
        for _ in 0..WORDS {
            stack::pop();
        }
    }

    /// An error that somebody was told, which is to be the method's own, or one of want.
    pub fn allows(&self, code: &Code, error: &Error, callees: bool) {
        let of_want = matches!(
            error,
            Error::OutOfSpace { .. } | Error::HardLimit { .. } | Error::Unstable { .. }
        );
        let of_the_system = matches!(error, Error::Memory { .. } | Error::ShuttingDown);
        let mut own = !compiles(code);
        let mut callee = code.callee().filter(|_| callees);
        while let Some(code) = callee {
            own |= !compiles(&code);
            callee = code.callee();
        }
        let allowed = of_want || own || of_the_system && self.may_fail;
        if !allowed {
            world::broken(format!("{code:?} failed, and is not to: {error}"));
        }
    }
}

/// Handles to all methods.
pub fn handles(shared: &Shared, cache: &Cache<Code>) -> Vec<Method> {
    let all = shared.methods.iter();
    all.map(|&code| method(cache, code)).collect()
}

pub fn address(entry: &Entry<'_, Unary>) -> u64 {
    // SAFETY: it is only called while the guard lives, by the simulated processor.
    (unsafe { entry.pointer() }) as usize as u64
}

pub fn any(random: &mut Random, of: usize) -> usize {
    random.below(of as u32) as usize
}
