//! One method, in one generation, without the engine: what a host's thread and the reclaimer have to do with each
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::cell::UnsafeCell;
use loom::thread::yield_now;

use crate::code::{CodeSpace, Kind};
use crate::method::CellWord;
use crate::reclaim::{Domain, Holds, Owner, Participant, Reclaimer, stack_of_thread};

/// Where an empty cell leads.
const THUNK: usize = 1;

/// A generation's memory. Who calls code reads it; to write code, and to unmap it, is to write it: so whatever is not
/// ordered is found out.
pub(super) struct Region {
    there: UnsafeCell<bool>,
    /// Loom does not know of it.
    unmapped: AtomicBool,
}

// SAFETY: that nobody reads it while somebody writes is what loom looks after.
unsafe impl Sync for Region {}
// SAFETY: as above.
unsafe impl Send for Region {}

impl Region {
    pub(super) fn empty() -> Self {
        Self {
            there: UnsafeCell::new(false),
            unmapped: AtomicBool::new(false),
        }
    }

    #[track_caller]
    pub(super) fn fill(&self) {
        // SAFETY: loom's pointer is good for the time of the call.
        self.there.with_mut(|there| unsafe { *there = true });
    }

    #[track_caller]
    pub(super) fn call(&self) {
        // SAFETY: as above.
        self.there
            .with(|there| assert!(unsafe { *there }, "a call of nothing"));
    }

    #[track_caller]
    pub(super) fn unmap(&self) {
        // SAFETY: as above.
        self.there.with_mut(|there| unsafe { *there = false });
        self.unmapped.store(true, Ordering::Relaxed);
    }

    /// Whether it has not been unmapped yet, whatever the calling thread may know.
    pub(super) fn is_there(&self) -> bool {
        !self.unmapped.load(Ordering::Relaxed)
    }
}

pub(super) struct World {
    pub(super) cell: CellWord,
    pub(super) region: Region,
    pub(super) domain: Arc<Domain>,
    pub(super) owner: Owner,
    /// An address in the code.
    pub(super) code: u64,
    _space: CodeSpace,
}

impl World {
    /// A method without code, whose generation has its memory.
    pub(super) fn empty() -> Arc<Self> {
        let space = CodeSpace::new("model", None).expect("no model refuses memory");
        let holds = Holds::new(&space);
        let (code, _, slot) = space.stripe_of(Kind::Text);
        let mut owner = None;
        holds.own(&mut owner, Kind::Text, code, slot);
        Arc::new(Self {
            cell: CellWord::new(THUNK),
            region: Region::empty(),
            domain: Arc::new(Domain::new(holds, false)),
            owner: owner.expect("it has a slot"),
            code,
            _space: space,
        })
    }

    /// A method that has code.
    pub(super) fn new() -> Arc<Self> {
        let world = Self::empty();
        world.publish();
        world
    }

    pub(super) fn participant(&self) -> Participant {
        Participant::new(&self.domain, String::new(), Arc::new(()))
    }

    /// As a worker does it.
    pub(super) fn publish(&self) {
        self.region.fill();
        self.cell.store(self.code as usize);
    }

    /// As a host calls: its thread is pinned.
    #[track_caller]
    pub(super) fn call(&self) {
        if self.cell.load() != THUNK {
            self.region.call();
        }
    }

    /// Who is pinned re-pins, or comes to a safepoint, for real when he does next.
    pub(super) fn tick(&self) {
        self.domain.advance();
    }

    /// From now on nobody finds the code.
    pub(super) fn unlink(&self) {
        self.cell.store(THUNK);
    }

    /// The method is evicted, and its generation, which had no other, recycled.
    pub(super) fn evict(&self) {
        let mut reclaimer = Reclaimer::new(&self.domain);
        self.unlink();
        let grace = reclaimer.start();
        while !grace.is_over() {
            reclaimer.step();
            yield_now();
        }
        while !self.domain.holds().close(self.owner) {
            yield_now();
        }
        self.region.unmap();
    }
}

/// Runs `f` with an address on the calling thread's stack.
pub(super) fn with_on_stack<R>(address: u64, f: impl FnOnce() -> R) -> R {
    stack_of_thread::push(address);
    let result = f();
    stack_of_thread::pop();
    result
}
