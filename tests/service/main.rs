//! The compile service: who goes first, who waits and for how long, what is dropped.

#[path = "../support/mod.rs"]
mod support;

mod backlog;
mod dropped;
mod executor;
mod futures;
mod order;
mod timeouts;
mod workers;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use inkpot::{Builder, Cache};
use support::synthetic::{Code, How, Synthetic};
use support::{Gate, leaf, wait_until};

/// The method that holds its worker up.
const PLUG: u32 = 1_000_001;

/// A cache whose worker can be held up, and that notes what reaches the backend, in which order.
struct Plugged {
    gate: Gate,
    /// Held up in the middle of a batch, by the method with this number.
    second: Gate,
    second_is: AtomicU32,
    emitted: Mutex<Vec<u32>>,
}

impl Plugged {
    fn builder() -> (Arc<Self>, Builder<Code>) {
        let plugged = Arc::new(Self {
            gate: Gate::new(),
            second: Gate::new(),
            second_is: AtomicU32::new(u32::MAX),
            emitted: Mutex::default(),
        });
        let of_backend = plugged.clone();
        let backend = Synthetic::relying(move |code| {
            of_backend.emits(code.n);
            Vec::new()
        });
        (plugged, Cache::with_backend(backend))
    }

    fn emits(&self, n: u32) {
        match n {
            PLUG => self.gate.wait(),
            n if n == self.second_is.load(Ordering::SeqCst) => {
                self.emitted.lock().unwrap().push(n);
                self.second.wait();
            }
            n => self.emitted.lock().unwrap().push(n),
        }
    }

    /// Holds the worker up, until the gate is opened.
    fn plug(&self, cache: &Cache<Code>) {
        let came = self.gate.came();
        leaf(cache, PLUG).request().unwrap();
        wait_until("the worker is held up", || self.gate.came() > came);
    }

    fn emitted(&self) -> Vec<u32> {
        self.emitted.lock().unwrap().clone()
    }
}

/// Nothing is queued, and nothing is being compiled.
fn at_rest(cache: &Cache<Code>, compiles: u64) {
    wait_until("all that was queued is compiled", || {
        let s = cache.statistics();
        s.queued == 0 && s.compiles >= compiles
    });
}

fn bad(n: u32) -> Code {
    Code::new(n, How::Refuse)
}
