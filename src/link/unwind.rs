//! Unwind tables as libgcc knows them.
//!
//! A Rust panic, a C++ exception or a backtrace walks through jitted frames only
//! if the unwinder finds their description. libgcc takes tables in the form of
//! `.eh_frame` by `__register_frame_info`, and gives none back but by
//! `__deregister_frame_info`, before the memory goes.
//!
//! # One table out of many
//!
//! Each batch is registered before its code is published. Registered tables
//! make finding one slower, so when a generation is sealed, its batches' tables
//! become one. libgcc takes a list of tables, by
//! `__register_frame_info_table`; the tables themselves stay as they are. They must:
//! whoever unwinds may be reading them. libgcc counts a table's records, makes
//! room for as many, and walks over them again; one that grows in between (by
//! writing over the zeros that end it, say) makes it write beyond that room,
//! and abort.
//!
//! What libgcc notes of a table must stay as well ([`Registered`]), longer than
//! it is registered: when libgcc (before 13) has found a record, it gives up its
//! lock, and then reads there how addresses are encoded. Who has found one is
//! inside the code that it describes, so the note goes when the code goes.
//! (`__register_frame` and `__deregister_frame` would allocate it and free it at
//! once.) Notes stand side by side, in memory of their own: [`notes`] says why.
//!
//! # Replacing the parts by the whole
//!
//! [`replace`] registers the whole, and then removes the parts, lowest code
//! first. libgcc (before 13) searches the tables it has sorted from the highest
//! code down, and asks only the first that begins at or below the address. With
//! batch 2 gone and batch 1 still there, it would ask batch 1 for batch 2's
//! code, and give up; going up from the lowest, it finds a part that is still
//! there, or the whole, at each moment.
//!
//! Since 13, libgcc keeps tables in a tree by the code they cover, and tables that
//! overlap break it. There the parts must stay; finding is fast anyhow.
//! [`tables_are_trees`] tells.

use std::sync::OnceLock;

use super::notes::{self, Note};

/// Size of the zeros that end a table.
pub(crate) const END: usize = 8;

/// Alignment of tables.
pub(crate) const ALIGN: u64 = 8;

unsafe extern "C" {
    fn __register_frame_info(table: *const u8, note: *mut Note);
    fn __register_frame_info_table(tables: *const u64, note: *mut Note);
    fn __deregister_frame_info(table: *const u8) -> *mut Note;
    fn _Unwind_Find_FDE(pc: *const u8, bases: *mut [usize; 3]) -> *const u8;
}

/// A table, or several as one, that libgcc knows or has known. To be dropped when no thread can
/// be inside the code any more; dropped while it is registered it leaks.
#[derive(Debug)]
pub(crate) struct Registered {
    /// By which libgcc knows it: the table, or the list.
    begin: *const u8,
    /// The tables of a whole, and a zero; empty for a single one.
    list: *mut [u64],
    note: *mut Note,
    registered: bool,
}

// SAFETY: libgcc takes its own lock, from whichever thread it is called.
unsafe impl Send for Registered {}

/// Registers the table at an address.
///
/// # Safety
///
/// There must be a sound table, ended by a zero word, that stays readable and
/// unchanged until it is deregistered. No other
/// registered table may begin at the same address, and where
/// [`tables_are_trees`], none may cover the same code.
pub(crate) unsafe fn register(address: u64) -> Registered {
    let registered = Registered {
        begin: address as *const u8,
        list: Box::into_raw(Box::default()),
        note: notes::take(),
        registered: true,
    };
    // SAFETY: the caller's promise; the note lives until `Registered` is dropped, which does not
    // free it while it is registered.
    unsafe { __register_frame_info(registered.begin, registered.note) };
    registered
}

/// Registers several tables as one, in the place of each by itself. Their code must ascend as they
/// do here. Does nothing where that cannot be done: the parts are registered still, and must be
/// deregistered one by one.
///
/// # Safety
///
/// Nobody else's code may lie between theirs, and they must stay readable and unchanged until the
/// whole is deregistered.
pub(crate) unsafe fn replace(parts: &mut [Registered]) -> Option<Registered> {
    if tables_are_trees() {
        return None;
    }
    let tables = parts.iter().map(|part| part.begin as u64);
    let mut tables: Vec<u64> = tables.chain([0]).collect();
    // libgcc takes a list for empty, when asked to remove it, by the lower half of its first word.
    // One address at most is such a one, and the order of the list does not matter.
    let first = tables.iter().position(|&table| table as u32 != 0)?;
    tables.swap(0, first);
    let list = Box::into_raw(tables.into_boxed_slice());
    let whole = Registered {
        begin: list.cast::<u64>().cast(),
        list,
        note: notes::take(),
        registered: true,
    };
    // SAFETY: the caller's promise; list and note live as `Registered` does. Overlapping tables
    // are fine in a list.
    unsafe {
        __register_frame_info_table(whole.begin.cast(), whole.note);
        for part in parts {
            part.deregister();
        }
    }
    Some(whole)
}

impl Registered {
    /// Removes it, if that has not been done.
    ///
    /// # Safety
    ///
    /// No thread may be inside code that only this describes and still unwind.
    pub(crate) unsafe fn deregister(&mut self) {
        if std::mem::take(&mut self.registered) {
            // SAFETY: it is registered under this address; the caller's promise.
            unsafe { __deregister_frame_info(self.begin) };
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if !self.registered {
            // SAFETY: from a box, and from `take`; libgcc has forgotten them, and whoever drops
            // this knows that no thread reads them any more.
            unsafe {
                drop(Box::from_raw(self.list));
                notes::give_back(self.note);
            }
        }
    }
}

/// Whether the unwinder keeps tables by the code that they cover, so that no two
/// may cover the same. Asks it once.
pub(crate) fn tables_are_trees() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| !(0..8).any(|_| reads_late()))
}

/// Whether the unwinder reads a table only when it first searches it.
///
/// The version of the library would be a guess: there are static builds, other
/// unwinders, patched ones. So the question is put to the thing itself. A
/// table is registered and only then told which bytes it describes. Who finds
/// them has not looked before: a list, sorted when first needed. Who does not
/// find them went by the address it was registered with: a tree. Another thread
/// that unwinds just now can make a list look like a tree, but not the other way
/// round; so one of a few tries is enough.
fn reads_late() -> bool {
    // Not code, but nobody else's code either.
    static PROBE: [u8; 64] = [0; 64];
    let first = PROBE.as_ptr() as u64;
    let second = first + 32;
    let mut table = leaf_words(first, 16);
    let address = table.as_mut_ptr();
    let start = LEAF_START / 8;
    let mut bases = [0; 3];
    // SAFETY: `leaf_words` makes a sound table, with its start in an aligned
    // word; it lives until it is deregistered, when it says again what it said
    // at registration. Writes are volatile, since the unwinder reads behind the
    // compiler's back. `bases` has the size of libgcc's `dwarf_eh_bases`.
    unsafe {
        let mut probe = register(address as u64);
        address.add(start).write_volatile(second);
        let found = _Unwind_Find_FDE((second + 1) as *const u8, &raw mut bases);
        address.add(start).write_volatile(first);
        probe.deregister();
        !found.is_null()
    }
}

/// A leaf's CIE: 24 bytes. No augmentation, so its FDEs have absolute addresses.
const LEAF_CIE: [u8; 24] = [
    20,
    0,
    0,
    0, // length
    0,
    0,
    0,
    0, // a CIE
    1,
    0, // version, no augmentation
    1,
    0x78, // code in bytes, data in -8
    16,   // the return address
    0x0C,
    7,
    8, // frame = rsp + 8
    0x80 | 16,
    1, // return address at frame - 8
    0,
    0,
    0,
    0,
    0,
    0,
];

/// Where the function's start is in a leaf table.
const LEAF_START: usize = 32;

/// A table that describes code which never moves the stack pointer: at every
/// instruction in it the return address is on top. It ends with a zero word, and
/// has absolute addresses, so it does not depend on where it is, but for being
/// aligned.
pub(super) fn leaf_words(start: u64, len: u64) -> Vec<u64> {
    let word = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte))
    };
    let mut words: Vec<u64> = LEAF_CIE.chunks(8).map(word).collect();
    // Length 20 of the FDE, and the distance from its pointer back to the CIE.
    words.push(20 | (LEAF_CIE.len() as u64 + 4) << 32);
    words.extend([start, len, 0]);
    words
}
