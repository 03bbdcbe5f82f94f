//! Alternate stacks for handlers of signals.

use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{MmapMut, MmapOptions};

use super::unmap::unmap;
use super::{PAGE, page_up};

/// What a handler may use, besides what the kernel puts there.
const ROOM: u64 = 64 << 10;

/// Whether threads are to have one.
static WANTED: AtomicBool = AtomicBool::new(false);

/// From now on [`give`] does something.
pub(super) fn begin() {
    WANTED.store(true, Ordering::Relaxed);
}

thread_local! {
    static STACK: Option<Stack> = Stack::install();
}

/// Gives the calling thread an alternate stack until it ends, if a handler wants one and it has
/// none that is large enough. (The standard library's are as small as the system allows.)
pub(crate) fn give() {
    if WANTED.load(Ordering::Relaxed) {
        // A thread that runs its last destructors goes without.
        let _ = STACK.try_with(|_| ());
    }
}

/// A thread's alternate stack, with a page below it that nobody can touch.
struct Stack {
    /// Which would stay mapped if the system refused to unmap it.
    memory: ManuallyDrop<MmapMut>,
    before: libc::stack_t,
}

/// The calling thread's alternate stack; it becomes another if one is given.
fn alternate(new: Option<&libc::stack_t>) -> Option<libc::stack_t> {
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: plain old data, which the call fills; the new one's memory is the caller's promise.
    unsafe {
        let mut before: libc::stack_t = std::mem::zeroed();
        (libc::sigaltstack(new, &mut before) == 0).then_some(before)
    }
}

impl Stack {
    fn install() -> Option<Self> {
        // SAFETY: asks for a number, 0 if it is not known.
        let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) };
        let size = page_up(ROOM + frame) as usize;
        let before = alternate(None)?;
        if before.ss_flags & libc::SS_DISABLE == 0 && before.ss_size >= size / 2 {
            return None;
        }
        let (guard, len) = (PAGE as usize, size + PAGE as usize);
        let memory = MmapOptions::new().len(len).stack().map_anon().ok()?;
        let stack = Self {
            memory: ManuallyDrop::new(memory),
            before,
        };
        let lowest = stack.lowest();
        // SAFETY: the first page of new memory, to which nobody has a reference.
        if unsafe { libc::mprotect(lowest, guard, libc::PROT_NONE) } != 0 {
            return None;
        }
        let new = libc::stack_t {
            ss_sp: lowest.wrapping_byte_add(guard),
            ss_flags: 0,
            ss_size: size,
        };
        // Refused while the thread runs on the one that it has: then ours goes by its drop.
        alternate(Some(&new)).map(|_| stack)
    }

    fn lowest(&self) -> *mut libc::c_void {
        self.memory.as_ptr().cast_mut().cast()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let Some(now) = alternate(None) else { return };
        if now.ss_flags & libc::SS_ONSTACK != 0 {
            return; // a handler on it ends the process, or the thread
        }
        let is_ours = now.ss_sp as usize == self.lowest() as usize + PAGE as usize;
        if is_ours && alternate(Some(&self.before)).is_none() {
            return; // still in use, then
        }
        // SAFETY: the memory is this thread's, and no longer its alternate stack.
        unsafe { unmap(self.lowest() as usize, self.memory.len()) };
    }
}
