//! Compiling on threads of the embedder's: because it says so, or because there are no workers, and
//! somebody waits.
//!
//! Such a thread takes a seat, which is a place in the list of workers' open generations, and compiles
//! one batch there. As long as it does it counts as a worker: what it runs of the embedder's must not
//! wait for a compilation, and the exit of the process waits for it. There are a few seats; who finds
//! none free waits for one, until somebody's batch is over: so nobody's request is left with nobody at it.

use std::marker::PhantomData;
use std::sync::PoisonError;

use super::core::{Core, lock};
use super::exit;
use super::wait::Deadline;
use crate::compile::{Work, on_a_worker, set_on_a_worker};
use crate::method::Key;
use crate::sync::{Condvar, Mutex};

/// Threads of the embedder's that compile at the same time, at most: where there are no workers, and
/// where there are.
const SEATS_ALONE: usize = 8;
const SEATS_BESIDE: usize = 1;

/// Places for threads of the embedder's.
pub(crate) struct Seats {
    /// The lowest last: few are ever used then, each with open generations of its own.
    free: Mutex<Vec<usize>>,
    freed: Condvar,
}

impl Seats {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            free: Mutex::new((0..Self::count(workers)).rev().collect()),
            freed: Condvar::new(),
        }
    }

    /// How many there are besides so many workers.
    pub(super) fn count(workers: usize) -> usize {
        match workers {
            0 => SEATS_ALONE,
            _ => SEATS_BESIDE,
        }
    }

    /// Waits for a free one, at most so long.
    fn take(&self, deadline: Option<Deadline>) -> Option<usize> {
        let mut free = lock(&self.free);
        loop {
            if let Some(seat) = free.pop() {
                return Some(seat);
            }
            free = match deadline {
                None => self
                    .freed
                    .wait(free)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.left()?;
                    let waited = self.freed.wait_timeout(free, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn give_back(&self, seat: usize) {
        let mut free = lock(&self.free);
        free.push(seat);
        free.sort_unstable_by(|a, b| b.cmp(a));
        drop(free);
        self.freed.notify_one();
    }
}

/// The calling thread is a worker for as long as this lives.
struct Seat<'c> {
    seats: &'c Seats,
    number: usize,
    _serving: exit::Serving,
    not_send: PhantomData<*mut ()>,
}

impl<'c> Seat<'c> {
    fn take(seats: &'c Seats, deadline: Option<Deadline>) -> Option<Self> {
        let number = seats.take(deadline)?;
        set_on_a_worker(true);
        Some(Self {
            seats,
            number,
            _serving: exit::Serving::begins(),
            not_send: PhantomData,
        })
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        set_on_a_worker(false);
        self.seats.give_back(self.number);
    }
}

impl<K: Key> Core<K> {
    /// Compiles a batch of what is queued, of so many methods at most, and returns how many these were.
    /// If nothing is queued it does what workers do when they have nothing to do.
    pub(crate) fn compile_some(&self, most: usize) -> usize {
        if most == 0 || on_a_worker() {
            return 0;
        }
        let seat = Seat::take(&self.seats, None).expect("it waited");
        let methods = self.compile_at(&seat, most);
        if methods == 0 {
            self.rest();
        }
        methods
    }

    /// A thread waits for what is queued, and there are no workers. False if nothing was done.
    pub(super) fn compile_for_oneself(&self, deadline: Option<Deadline>) -> bool {
        let seat = Seat::take(&self.seats, deadline);
        seat.is_some_and(|seat| self.compile_at(&seat, usize::MAX) > 0)
    }

    fn compile_at(&self, seat: &Seat<'_>, most: usize) -> usize {
        let limit = self.config.batch_limit.min(most);
        let Work::Batch(class, methods) = self.queue.take(limit) else {
            return 0;
        };
        let (worker, many) = (self.config.workers + seat.number, methods.len());
        self.compile(worker, class, methods);
        // A policy of the embedder's may panic here: another time it may not.
        crate::contain(|| {
            self.seal_what_is_full(worker);
            self.evacuate(false);
        });
        many
    }

    /// What workers do when nothing is queued.
    fn rest(&self) {
        crate::contain(|| {
            self.seal_free_seats();
            self.come_down();
            self.evacuate(true);
        });
    }

    /// As [`Core::rest`], from time to time, where there may be nobody else to do it.
    pub(super) fn rest_for_workers(&self) {
        if self.config.workers == 0 && self.queue.len() == 0 && !self.queue.is_closed() {
            self.rest();
        }
    }
}
