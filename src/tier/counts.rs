//! How often code runs: counters that each thread has for itself.
//!
//! Baseline code adds to a counter at the entry of each function and on each way round a loop; when
//! the counter reaches the tier's threshold, it calls the cache. A counter that threads share would be a
//! cache line that all of them write, so each thread has a table of its own, of a fixed size: a method's
//! counter is found in it by a hash of the method. Methods that share one add up; then that one
//! is promoted which happens to reach the threshold, and so each is with a probability in proportion to its part.
//! (LuaJIT counts in such a table, of 64 counters, `lj_dispatch.h`.)
//!
//! Code finds the table by a thread-local variable at a fixed distance from the thread pointer (the initial-exec
//! model), which it loads at every count: two instructions more than a counter at a fixed address. The variable
//! belongs to the process, and so do the tables: a thread that is a participant of several caches has one.
//!
//! A thread that was given no table, or is running its last destructors, counts in one that such threads share.

use std::arch::{asm, global_asm};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counters of a thread.
const SLOTS: usize = 4096;

#[repr(C, align(64))]
struct Counts([AtomicU32; SLOTS]);

/// For threads that have none of their own.
static SHARED: Counts = Counts([const { AtomicU32::new(0) }; SLOTS]);

global_asm!(
    // Bytes of the library's own in each thread's block: small enough for what the loader keeps for libraries
    // that are loaded late.
    ".pushsection .tdata.inkpot_counts,\"awT\",@progbits",
    ".p2align 3",
    ".hidden inkpot_counts",
    ".globl inkpot_counts",
    ".type inkpot_counts,@object",
    "inkpot_counts:",
    ".quad {shared}",
    ".size inkpot_counts, 8",
    ".popsection",
    shared = sym SHARED,
);

/// Where the pointer to a thread's table is, from its thread pointer (fs) on.
pub(crate) fn offset() -> i64 {
    let offset: i64;
    // SAFETY: loads the offset that the linker, or the loader, has put down for the variable above.
    unsafe {
        asm!(
            "mov {}, qword ptr [rip + inkpot_counts@GOTTPOFF]",
            out(reg) offset,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    offset
}

/// An offset from the thread pointer as instructions have it.
pub(crate) fn displacement(offset: i64) -> [u8; 4] {
    // Thread-local blocks of the program's and of its libraries are small.
    let near = i32::try_from(offset).expect("within 2 GiB of the thread pointer");
    near.to_le_bytes()
}

/// Points the calling thread to a table.
fn point_to(table: *const Counts) {
    // SAFETY: the variable above, of this thread. Who counts is code, on this thread, that loads the pointer each time.
    unsafe {
        asm!(
            "mov qword ptr fs:[{}], {}",
            in(reg) offset(),
            in(reg) table,
            options(nostack, preserves_flags),
        );
    }
}

/// A thread's table, while it lives.
struct Own(Box<Counts>);

impl Drop for Own {
    fn drop(&mut self) {
        // Other destructors may run code after this.
        point_to(&SHARED);
    }
}

thread_local! {
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
}

/// Gives the calling thread a table of its own, if it has none: 16 KiB, until it ends.
pub(crate) fn give() {
    // On a thread that runs its last destructors it stays without.
    let _ = OWN.try_with(|own| {
        let mut own = own.borrow_mut();
        if own.is_none() {
            let mut table = Box::<Counts>::new_uninit();
            // SAFETY: zero is a value of every part.
            let table = unsafe {
                table.as_mut_ptr().write_bytes(0, 1);
                table.assume_init()
            };
            point_to(&*table);
            *own = Some(Own(table));
        }
    });
}

/// Where in the table a method's counter is, in bytes.
pub(crate) fn place(method: u64) -> u64 {
    const BITS: u32 = SLOTS.trailing_zeros();
    let hash = method.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> (64 - BITS)) * size_of::<AtomicU32>() as u64
}

/// A counter of the calling thread's is full: it begins anew.
pub(crate) fn restart(method: u64) {
    let at = (place(method) / size_of::<AtomicU32>() as u64) as usize;
    let clear = |table: &Counts| table.0[at].store(0, Ordering::Relaxed);
    let has_own = OWN.try_with(|own| own.borrow().as_ref().map(|own| clear(&own.0)));
    if !matches!(has_own, Ok(Some(()))) {
        clear(&SHARED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> *const Counts {
        let table;
        // SAFETY: loads the thread's variable.
        unsafe { asm!("mov {}, qword ptr fs:[{}]", out(reg) table, in(reg) offset()) };
        table
    }

    #[test]
    fn each_thread_has_a_table_for_as_long_as_it_lives() {
        let own = || {
            assert!(std::ptr::eq(table(), &SHARED));
            give();
            let mine = table();
            assert!(!std::ptr::eq(mine, &SHARED));
            give();
            assert!(std::ptr::eq(table(), mine));
            mine as usize
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(own);
            // Both are alive at once.
            assert_ne!(own(), 0);
            other.join().unwrap();
        });
    }

    #[test]
    fn a_thread_at_its_end_counts_with_others() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                // After the table's own, as it was made before.
                assert!(std::ptr::eq(table(), &SHARED));
                restart(1);
            }
        }
        thread_local!(static LATE: Late = const { Late });
        std::thread::spawn(|| {
            LATE.with(|_| ());
            give();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn counters_are_spread() {
        let mut of_first: Vec<u64> = (0..SLOTS as u64).map(place).collect();
        of_first.sort_unstable();
        of_first.dedup();
        assert!(of_first.len() > SLOTS / 2);
        assert!(of_first.iter().all(|at| *at < 4 * SLOTS as u64));
    }
}
