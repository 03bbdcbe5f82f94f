//! The program's threads: each is a participant, and pinned, from its start to its end.
//!
//! `pthread_create` is ours, also for loaded libraries (`std::thread` calls it from within libstdc++): this
//! executable defines it, and the dynamic linker finds it here first. Who calls it from outside the program, such as
//! the cache for its own threads, gets libc's.
//!
//! A thread runs code of the program's to its very end: libc calls destructors of keys in several rounds, any of which
//! may call the program. In each round it goes through the keys by number. So our own key has the highest there is, and
//! its destructor, in the last round, comes after everything of the program's: there the thread is unpinned, and what
//! it holds is freed.

use crate::frontend::Key;
use crate::handler_stack::HandlerStack;
use crate::instance::{self, Instance};
use crate::{process, signals, thread_locals};
use inkpot::{Cache, Guard, Participant};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// What a thread begins with.
pub type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Start,
    *mut c_void,
) -> c_int;
type Destructor = unsafe extern "C-unwind" fn(*mut c_void);

unsafe extern "C" {
    /// Calls `destructor` when the calling thread ends, before the destructors of keys.
    fn __cxa_thread_atexit_impl(
        destructor: Destructor,
        object: *mut c_void,
        dso: *const c_void,
    ) -> c_int;
}

static CACHE: OnceLock<Cache<Key>> = OnceLock::new();

/// Its destructor is the last of all to be called when a thread ends.
static END: OnceLock<libc::pthread_key_t> = OnceLock::new();

thread_local! {
    /// The thread, as the cache knows it.
    static PARTICIPANT: Cell<Option<&'static Participant>> = const { Cell::new(None) };
    /// What `__cxa_thread_atexit` registered, newest last. Never dropped by Rust, as destructors may register others to
    /// the thread's very end: [`end`] frees it.
    static DESTRUCTORS: RefCell<std::mem::ManuallyDrop<Vec<(Destructor, usize)>>> =
        const { RefCell::new(std::mem::ManuallyDrop::new(Vec::new())) };
}

/// Takes the key with the highest number. Before there are other threads: for a moment no key is left.
///
/// # Errors
/// When there are no keys.
pub fn take_key() -> Result<(), String> {
    let mut keys = Vec::new();
    let mut key = 0;
    // SAFETY: `key` is written by the call.
    while unsafe { libc::pthread_key_create(&mut key, Some(end)) } == 0 {
        keys.push(key);
    }
    let highest = keys.iter().copied().max();
    for key in keys.into_iter().filter(|key| Some(*key) != highest) {
        // SAFETY: created above, and used by nobody.
        unsafe { libc::pthread_key_delete(key) };
    }
    let _ = END.set(highest.ok_or("no key is left for the program's threads")?);
    Ok(())
}

/// Before the program starts.
pub fn begin(cache: Cache<Key>) {
    // The first stays: there is one program.
    let _ = CACHE.set(cache);
}

/// What a thread of the program holds.
struct Life {
    /// The guard refers to the participant. None on the first thread, whose guard stands at the bottom of its stack.
    pinned: Option<(Guard<'static>, *mut Participant)>,
    /// Not on the first thread, which has its own for good.
    handler_stack: Option<HandlerStack>,
    /// The instance whose end may have to wait for the thread's.
    counted: Option<&'static Instance>,
    /// Rounds of destructors that have begun.
    rounds: u8,
}

/// How often libc asks for destructors when a thread ends (`PTHREAD_DESTRUCTOR_ITERATIONS`).
const ROUNDS: u8 = 4;

/// What a thread is to do.
struct Task {
    instance: &'static Instance,
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
    let Some(instance) = instance::current().filter(|_| END.get().is_some()) else {
        // SAFETY: the caller's promise.
        return unsafe { create(thread, attributes, start, argument) };
    };
    let task = Box::into_raw(Box::new(Task {
        instance,
        start,
        argument,
    }));
    // SAFETY: the caller's promise; `run` takes what it is given.
    unsafe {
        instance.count_thread();
        let failed = create(thread, attributes, run, task.cast());
        if failed != 0 {
            instance.uncount_thread();
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
    let Task {
        start, argument, ..
    } = enter(task.cast());
    // SAFETY: what the program gave to `pthread_create`, on a pinned thread.
    unsafe { start(argument) }
}

/// Pins the thread for as long as it lives.
fn enter(task: *mut Task) -> Task {
    // SAFETY: from `pthread_create`, for this thread alone.
    let task = unsafe { *Box::from_raw(task) };
    pin_for_life(task.instance, true);
    task
}

/// Makes a thread that libc started for itself one of an instance's, before it calls the program.
pub fn adopt(instance: &'static Instance) {
    if instance::current().is_none() {
        pin_for_life(instance, false);
    }
}

/// `counted`: the instance's end may have to wait for the thread.
fn pin_for_life(instance: &'static Instance, counted: bool) {
    if let Some(cache) = CACHE.get() {
        let participant = Box::into_raw(Box::new(cache.participant("a thread of the program")));
        // SAFETY: freed by `end`, after the guard, and when nothing of the program's runs any more.
        let participant: &'static Participant = unsafe { &*participant };
        PARTICIPANT.set(Some(participant));
        let guard = participant.pin();
        let participant = std::ptr::from_ref(participant).cast_mut();
        instance.enter();
        live(Some((guard, participant)), counted.then_some(instance));
    }
}

/// Makes the calling thread, which is an instance's first, a participant for as long as it lives.
pub fn first(cache: &Cache<Key>) -> &'static Participant {
    let participant: &Participant = Box::leak(Box::new(cache.participant("the program")));
    PARTICIPANT.set(Some(participant));
    participant
}

/// Runs `wait`, which may take long and does not call the program, with the thread unpinned.
pub fn blocking<R>(wait: impl FnOnce() -> R) -> R {
    match PARTICIPANT.try_with(Cell::get).ok().flatten() {
        // SAFETY: the program's frames, and `run_ir`'s below them, keep nothing of the cache's off the stack; `wait`
        // loads nothing of it, and returns or is unwound.
        Some(participant) => unsafe { participant.blocking(wait) },
        None => wait(),
    }
}

/// Has [`end`] called when the calling thread ends.
fn live(pinned: Option<(Guard<'static>, *mut Participant)>, counted: Option<&'static Instance>) {
    let life = Box::into_raw(Box::new(Life {
        handler_stack: pinned.is_some().then(HandlerStack::of_this_thread),
        pinned,
        counted,
        rounds: 0,
    }));
    if let Some(&key) = END.get() {
        // SAFETY: a key of ours; a destructor that takes nothing; an address in this executable.
        unsafe {
            libc::pthread_setspecific(key, life.cast());
            let dso = (&raw const END).cast();
            __cxa_thread_atexit_impl(destruct, std::ptr::null_mut(), dso);
        }
    }
}

/// Natively the destructors of variables run before those of keys.
unsafe extern "C-unwind" fn destruct(_nothing: *mut c_void) {
    run_destructors();
}

/// libc calls this when a thread ends, in each of its rounds, after the destructors of the program's own keys.
unsafe extern "C" fn end(life: *mut c_void) {
    let of_this_thread = life.cast::<Life>();
    // SAFETY: from `live`, of this thread.
    let rounds = unsafe {
        (*of_this_thread).rounds += 1;
        (*of_this_thread).rounds
    };
    if rounds < ROUNDS {
        if let Some(&key) = END.get() {
            // SAFETY: a key of ours.
            unsafe { libc::pthread_setspecific(key, life) };
        }
        return;
    }
    signals::thread_ends();
    // Nothing of the program's runs on this thread from here on.
    let _ = PARTICIPANT.try_with(|participant| participant.set(None));
    // SAFETY: from `live`, and libc does not ask again; the guard goes before its participant, which was a box.
    unsafe {
        let life = Box::from_raw(of_this_thread);
        if let Some((guard, participant)) = life.pinned {
            drop(guard);
            drop(Box::from_raw(participant));
        }
        drop(life.handler_stack);
        if let Some(instance) = life.counted {
            instance.uncount_thread();
        }
    }
    thread_locals::free();
    let destructors = DESTRUCTORS.try_with(|all| std::mem::take(&mut **all.borrow_mut()));
    drop(destructors);
}

unsafe extern "C-unwind" {
    fn pthread_exit(value: *mut c_void) -> !;
}

/// libc's `pthread_exit`. Natively the process ends with its last thread; here the cache's never end. So when an
/// instance's first thread ends, another one stays, and ends the instance when all of its threads have ended.
///
/// # Safety
/// As for libc's.
pub unsafe extern "C-unwind" fn exit_thread(value: *mut c_void) -> ! {
    let instance = instance::of_program();
    if instance.is_first_thread() {
        run_destructors();
        instance.count_thread();
        live(None, Some(instance));
        begin_to_end(instance);
    }
    // SAFETY: the program's wish; it unwinds through this frame, which has nothing to drop. The first thread's goes
    // on to where its stack ends for the unwinder, above all frames of ours.
    unsafe { pthread_exit(value) }
}

/// Starts the thread that ends the instance.
fn begin_to_end(instance: &'static Instance) {
    let mut thread = 0;
    let created = libc_create().map(|create| {
        let argument = std::ptr::from_ref(instance).cast_mut().cast();
        // SAFETY: `wait_and_end` takes an instance.
        unsafe { create(&mut thread, std::ptr::null(), wait_and_end, argument) }
    });
    if created != Some(0) {
        // There is no memory for a thread: then the program ends here, though others may run.
        process::exit(0);
    }
}

unsafe extern "C-unwind" fn wait_and_end(instance: *mut c_void) -> *mut c_void {
    // SAFETY: from `begin_to_end`; instances live as long as the process.
    let instance = unsafe { &*instance.cast_const().cast::<Instance>() };
    instance.wait_for_threads();
    // Its exit handlers run here.
    pin_for_life(instance, false);
    process::exit(0)
}

/// Where a thread goes whose instance has ended, while others go on.
pub fn stay_for_ever() -> ! {
    blocking(|| {
        loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        }
    })
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
        "pthread_exit" => exit_thread as *const (),
        "__cxa_thread_atexit" | "__cxa_thread_atexit_impl" => cxa_thread_atexit as *const (),
        _ => return None,
    })
}
