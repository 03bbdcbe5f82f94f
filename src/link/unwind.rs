//! Unwind tables as libgcc knows them.
//!
//! A Rust panic, a C++ exception or a backtrace walks through jitted frames only
//! if the unwinder finds their description. libgcc takes tables in the form of
//! `.eh_frame` by `__register_frame`, and gives none back but by
//! `__deregister_frame`, before the memory goes.
//!
//! # One table out of many
//!
//! Each batch is registered before its code is published. Registered tables
//! make finding one slower, so when a generation is sealed, its batches' tables
//! become one. libgcc takes such a [`Whole`] as a list of tables, by
//! `__register_frame_table`; the tables themselves stay as they are. They must:
//! whoever unwinds may be reading them. libgcc counts a table's records, makes
//! room for as many, and walks over them again; one that grows in between (by
//! writing over the zeros that end it, say) makes it write beyond that room,
//! and abort.
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

/// Size of the zeros that end a table.
pub(crate) const END: usize = 8;

/// Alignment of tables.
pub(crate) const ALIGN: u64 = 8;

unsafe extern "C" {
    fn __register_frame(table: *const u8);
    fn __register_frame_table(tables: *const u64);
    fn __deregister_frame(table: *const u8);
    fn _Unwind_Find_FDE(pc: *const u8, bases: *mut [usize; 3]) -> *const u8;
}

/// Registers the table at an address.
///
/// # Safety
///
/// There must be a sound table, ended by a zero word, that stays readable and
/// unchanged until it is deregistered. No other
/// registered table may begin at the same address, and where
/// [`tables_are_trees`], none may cover the same code.
pub(crate) unsafe fn register(address: u64) {
    // SAFETY: the caller's promise.
    unsafe { __register_frame(address as *const u8) }
}

/// Removes the table at an address.
///
/// # Safety
///
/// It must be registered, and no thread may be inside code that only this table
/// describes and still unwind.
pub(crate) unsafe fn deregister(address: u64) {
    // SAFETY: the caller's promise.
    unsafe { __deregister_frame(address as *const u8) }
}

/// Several tables, registered as one.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Their addresses, and a zero: libgcc reads the list, and knows the whole by its address.
    tables: Box<[u64]>,
}

impl Whole {
    /// Removes it.
    ///
    /// # Safety
    ///
    /// As for [`deregister`].
    pub(crate) unsafe fn deregister(self) {
        // SAFETY: registered by `replace` under this address; the caller's promise.
        unsafe { __deregister_frame(self.tables.as_ptr().cast()) }
    }
}

/// Registers the tables at these addresses as one, in the place of each by itself. Their code must
/// ascend as they do here. Does nothing where that cannot be done: the parts are registered still,
/// and must be deregistered one by one.
///
/// # Safety
///
/// They must be registered, nobody else's code may lie between theirs, and they must stay readable
/// and unchanged until the whole is deregistered.
pub(crate) unsafe fn replace(parts: &[u64]) -> Option<Whole> {
    if tables_are_trees() {
        return None;
    }
    let mut tables: Vec<u64> = parts.iter().copied().chain([0]).collect();
    // libgcc takes a list for empty, when asked to remove it, by the lower half of its first word.
    // One address at most is such a one, and the order of the list does not matter.
    let first = tables.iter().position(|&table| table as u32 != 0)?;
    tables.swap(0, first);
    let whole = Whole {
        tables: tables.into(),
    };
    // SAFETY: the caller's promise; the list lives until it is deregistered, since dropping a
    // `Whole` without that is left to nobody. Overlapping tables are fine in a list.
    unsafe {
        __register_frame_table(whole.tables.as_ptr());
        for &part in parts {
            deregister(part);
        }
    }
    Some(whole)
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
        __register_frame(address.cast());
        address.add(start).write_volatile(second);
        let found = _Unwind_Find_FDE((second + 1) as *const u8, &raw mut bases);
        address.add(start).write_volatile(first);
        __deregister_frame(address.cast());
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
