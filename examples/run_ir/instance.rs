//! An instance of the program: what natively belongs to a process.
//!
//! There is one, or with `--threads N` several side by side, each on a thread of its own with its own global and
//! thread-local variables and its own exit handlers. They share the program's bitcode and the cache; their methods are
//! keyed by instance and function. Threads that an instance starts belong to it.

use crate::frontend::Source;
use crate::large;
use crate::process::Handlers;
use crate::thread_locals::Block;
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// How an instance ended: with an exit code, or because it could not be started.
pub type End = Result<c_int, String>;

/// All that belongs to one run of the program. It lives as long as the process.
pub struct Instance {
    pub number: u32,
    /// No other instance is there: the process is its own, and ends with it.
    pub alone: bool,
    pub source: Arc<Source>,
    /// Where its globals are; known once their piece has been compiled, before any function is.
    addresses: OnceLock<HashMap<String, usize>>,
    /// Its large variables, in the order of the source's list.
    large: Vec<large::Memory>,
    /// What its thread-local variables begin with.
    pub block: OnceLock<Block>,
    pub at_exit: Handlers,
    pub at_quick_exit: Handlers,
    /// The thread that it began on.
    first_thread: AtomicI32,
    /// How many threads it has started that have not ended.
    running: (Mutex<usize>, Condvar),
    end: (Mutex<Option<End>>, Condvar),
}

thread_local! {
    static CURRENT: Cell<Option<&'static Instance>> = const { Cell::new(None) };
}

/// The instance that the calling thread belongs to, if it runs the program.
pub fn current() -> Option<&'static Instance> {
    CURRENT.try_with(Cell::get).ok().flatten()
}

/// For what only the program calls.
pub fn of_program() -> &'static Instance {
    current().expect("the program runs on threads of its own")
}

impl Instance {
    pub fn new(source: &Arc<Source>, number: u32, alone: bool) -> &'static Instance {
        Box::leak(Box::new(Instance {
            number,
            alone,
            source: source.clone(),
            addresses: OnceLock::new(),
            large: source
                .large
                .iter()
                .map(|_| large::Memory::default())
                .collect(),
            block: OnceLock::new(),
            at_exit: Handlers::default(),
            at_quick_exit: Handlers::default(),
            first_thread: AtomicI32::new(0),
            running: Default::default(),
            end: Default::default(),
        }))
    }

    /// It begins, on the calling thread.
    pub fn begin(&'static self) {
        self.first_thread.store(thread(), Ordering::Relaxed);
        self.enter();
    }

    /// Whether the calling thread is the one that it began on.
    pub fn is_first_thread(&self) -> bool {
        self.first_thread.load(Ordering::Relaxed) == thread()
    }

    /// The calling thread belongs to it from now on.
    pub fn enter(&'static self) {
        CURRENT.set(Some(self));
    }

    /// Learns where the globals are.
    ///
    /// # Safety
    /// `table` is what the compiled globals' piece returned.
    pub unsafe fn set_addresses(&self, table: *const *const ()) {
        let address = |(index, name): (usize, &String)| {
            // SAFETY: by contract the table is as long as the list of names it was made from.
            (name.clone(), unsafe { *table.add(index) } as usize)
        };
        // The first stays: there is one piece of globals for each instance.
        let _ = self
            .addresses
            .set(self.source.table.iter().enumerate().map(address).collect());
    }

    /// Where a global variable or kept function is.
    pub fn address(&self, name: &str) -> Option<*const ()> {
        let mut large = self.source.large.iter().zip(&self.large);
        if let Some((large, memory)) = large.find(|(large, _)| large.name == name) {
            return memory.address(large);
        }
        let address = self.addresses.get()?.get(name)?;
        Some(*address as *const ())
    }

    /// A thread of it begins.
    pub fn count_thread(&self) {
        *lock(&self.running.0) += 1;
    }

    /// A thread of it has ended, or could not be started.
    pub fn uncount_thread(&self) {
        *lock(&self.running.0) -= 1;
        self.running.1.notify_all();
    }

    /// Waits until all threads that it started have ended.
    pub fn wait_for_threads(&self) {
        let mut running = lock(&self.running.0);
        while *running > 0 {
            running = wait(&self.running.1, running);
        }
    }

    /// Says how it ended; the first to say so counts.
    pub fn finish(&self, end: End) {
        lock(&self.end.0).get_or_insert(end);
        self.end.1.notify_all();
    }

    /// Waits until it has ended.
    pub fn wait_for_end(&self) -> End {
        let mut end = lock(&self.end.0);
        loop {
            match &*end {
                Some(end) => return end.clone(),
                None => end = wait(&self.end.1, end),
            }
        }
    }
}

fn thread() -> i32 {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
