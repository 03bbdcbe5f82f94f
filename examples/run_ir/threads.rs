//! The program's threads: each is a participant, from its start to the last of its destructors.
//!
//! `pthread_create` is ours, also for loaded libraries (`std::thread` calls it from within libstdc++): this
//! executable defines it, and the dynamic linker finds it here first. Who calls it from outside the program, such as
//! the cache for its own threads, gets libc's.

use crate::frontend::Key;
use crate::thread_locals;
use inkpot::{Cache, Guard, Participant};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Start,
    *mut c_void,
) -> c_int;
type Destructor = unsafe extern "C" fn(*mut c_void);

static CACHE: OnceLock<Cache<Key>> = OnceLock::new();

/// The key whose destructor ends a thread. Made before any of the program's, it is asked before them in each round.
static END: OnceLock<libc::pthread_key_t> = OnceLock::new();

/// Rounds in which libc calls the destructors of keys that are still set.
const ROUNDS: u32 = 4;

thread_local! {
    /// Whether the thread runs the program.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// What `__cxa_thread_atexit` registered, newest last. Never dropped: [`run_destructors`] empties it.
    static DESTRUCTORS: RefCell<std::mem::ManuallyDrop<Vec<(Destructor, usize)>>> =
        const { RefCell::new(std::mem::ManuallyDrop::new(Vec::new())) };
}

/// The calling thread begins to run the program.
pub fn begin(cache: Cache<Key>) {
    // The first stays: there is one program.
    let _ = CACHE.set(cache);
    let mut key = 0;
    // SAFETY: `key` is written by the call.
    if unsafe { libc::pthread_key_create(&mut key, Some(end)) } == 0 {
        let _ = END.set(key);
    }
    INSIDE.set(true);
}

/// What a thread of the program holds.
struct Life {
    guard: Guard<'static>,
    participant: *mut Participant,
    rounds: u32,
}

/// What a thread is to do.
struct Task {
    start: Start,
    argument: *mut c_void,
}

/// libc's function of this name, with a participant for the new thread.
///
/// # Safety
/// As for libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let Some(create) = libc_create() else {
        return libc::ENOSYS;
    };
    // Not in the program, nor on a thread that is through with it.
    if !INSIDE.try_with(Cell::get).unwrap_or(false) || END.get().is_none() {
        // SAFETY: the caller's promise.
        return unsafe { create(thread, attributes, start, argument) };
    }
    let task = Box::into_raw(Box::new(Task { start, argument }));
    // SAFETY: the caller's promise; `run` takes what it is given.
    unsafe {
        let failed = create(thread, attributes, run, task.cast());
        if failed != 0 {
            drop(Box::from_raw(task));
        }
        failed
    }
}

fn libc_create() -> Option<Create> {
    static CREATE: OnceLock<usize> = OnceLock::new();
    let address = *CREATE.get_or_init(|| {
        // SAFETY: a string of C; looking runs nothing.
        unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr()) as usize }
    });
    // SAFETY: null, or libc's function of this type.
    unsafe { std::mem::transmute::<usize, Option<Create>>(address) }
}

/// The first function of a thread of the program's.
///
/// `pthread_exit` and cancellation unwind through it: while the program runs, nothing in this frame needs dropping.
unsafe extern "C-unwind" fn run(task: *mut c_void) -> *mut c_void {
    let Task { start, argument } = enter(task.cast());
    // SAFETY: what the program gave to `pthread_create`, on a pinned thread.
    unsafe { start(argument) }
}

/// Pins the thread until [`end`] is through with it.
fn enter(task: *mut Task) -> Task {
    // SAFETY: from `pthread_create`, for this thread alone.
    let task = unsafe { *Box::from_raw(task) };
    if let (Some(cache), Some(&key)) = (CACHE.get(), END.get()) {
        let participant = Box::into_raw(Box::new(cache.participant("a thread of the program")));
        // SAFETY: it lives until `end` has dropped the guard.
        let guard = unsafe { &*participant }.pin();
        let life = Box::new(Life {
            guard,
            participant,
            rounds: 0,
        });
        // SAFETY: a key of ours; `end` takes the value.
        unsafe { libc::pthread_setspecific(key, Box::into_raw(life).cast()) };
        INSIDE.set(true);
    }
    task
}

/// libc calls this when a thread ends, with the destructors of the program's own keys, in rounds. The thread stays
/// pinned to the last one.
unsafe extern "C" fn end(life: *mut c_void) {
    run_destructors();
    // SAFETY: from `enter`, of this thread.
    let life = unsafe { &mut *life.cast::<Life>() };
    life.rounds += 1;
    if let (true, Some(&key)) = (life.rounds < ROUNDS, END.get()) {
        let life: *mut Life = life;
        // SAFETY: a key of ours.
        unsafe { libc::pthread_setspecific(key, life.cast()) };
        return;
    }
    INSIDE.set(false);
    thread_locals::end();
    // SAFETY: both were boxed in `enter`, and this is their last use.
    unsafe {
        let life = Box::from_raw(std::ptr::from_mut(life));
        let participant = life.participant;
        drop(life.guard);
        drop(Box::from_raw(participant));
    }
}

/// Runs the destructors of the calling thread's variables, those that they register too.
pub fn run_destructors() {
    let next = || DESTRUCTORS.try_with(|all| all.borrow_mut().pop());
    while let Ok(Some((destructor, object))) = next() {
        // SAFETY: what the program registered for this object, on a pinned thread.
        unsafe { destructor(object as *mut c_void) };
    }
}

/// libc++abi's function of this name: `destructor` runs when the calling thread ends.
extern "C" fn cxa_thread_atexit(
    destructor: Destructor,
    object: *mut c_void,
    _dso: *mut c_void,
) -> c_int {
    let pushed = DESTRUCTORS.try_with(|all| all.borrow_mut().push((destructor, object as usize)));
    if pushed.is_ok() { 0 } else { -1 }
}

/// The functions that stand in for those of libraries.
pub fn supplied(name: &str) -> Option<*const ()> {
    Some(match name {
        "pthread_create" => pthread_create as Create as *const (),
        "__cxa_thread_atexit" | "__cxa_thread_atexit_impl" => cxa_thread_atexit as *const (),
        _ => return None,
    })
}
