//! Timers that call a function (`SIGEV_THREAD`): libc does that on threads of its own, and each is made a participant
//! before it comes to the program.

use crate::instance::{self, Instance};
use crate::threads;
use std::ffi::{c_int, c_void};

/// Takes a `union sigval`, which goes into a register as a pointer does.
type Notify = unsafe extern "C-unwind" fn(*mut c_void);

/// libc's `struct sigevent`, as `SIGEV_THREAD` has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Event {
    value: *mut c_void,
    signal: c_int,
    notify: c_int,
    function: Option<Notify>,
    attributes: *mut c_void,
    rest: [u64; 4],
}

const _: () = assert!(size_of::<Event>() == size_of::<libc::sigevent>());

/// What the program wants called.
struct Wanted {
    instance: &'static Instance,
    function: Notify,
    value: *mut c_void,
}

/// # Safety
/// As for libc's function of this name.
unsafe extern "C" fn timer_create(
    clock: libc::clockid_t,
    event: *mut Event,
    timer: *mut libc::timer_t,
) -> c_int {
    // SAFETY: the caller's promise: an event or null, and room for the timer.
    unsafe {
        let of_program = event.as_ref();
        let of_program = of_program.filter(|event| event.notify == libc::SIGEV_THREAD);
        let Some((event, function)) = of_program.and_then(|event| Some((*event, event.function?)))
        else {
            return libc::timer_create(clock, event.cast(), timer);
        };
        // It stays: a call may be under way when the timer is deleted, and nobody says when it has ended.
        let wanted = Box::leak(Box::new(Wanted {
            instance: instance::of_program(),
            function,
            value: event.value,
        }));
        let mut ours = Event {
            value: std::ptr::from_mut(wanted).cast(),
            function: Some(expired),
            ..event
        };
        libc::timer_create(clock, (&raw mut ours).cast(), timer)
    }
}

/// The program's function may end the thread, which unwinds through this frame: nothing in it needs dropping.
unsafe extern "C-unwind" fn expired(wanted: *mut c_void) {
    // SAFETY: from `timer_create`, and never freed; the function is called as the program asked, on a pinned thread.
    unsafe {
        let Wanted {
            instance,
            function,
            value,
        } = *wanted.cast::<Wanted>();
        threads::adopt(instance);
        function(value);
    }
}

/// The functions that stand in for libc's.
pub fn supplied(name: &str) -> Option<*const ()> {
    (name == "timer_create").then_some(timer_create as *const ())
}
