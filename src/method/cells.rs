//! Cells: the entry words that every call goes through, and the thunks beside them.
//!
//! A cell has a number. Cell *n* is 16 bytes at `cells + 16 n`, and its thunk 16 bytes at
//! `thunks + 16 n`, so either is found from the other by arithmetic:
//!
//! ```text
//! cell   | entry word (8) | called (8) |
//! thunk  | jmp *cell (6) | push n (5) | jmp stub (5) |
//!          ^ canonical      ^ resolve
//! ```
//!
//! An empty cell's entry word is its thunk's *resolve* entry. The canonical entry is what
//! programs see as the method's address: one jump more than a call through the cell, and never
//! the resolve entry itself, or calls by pointer would always go the slow way. Nor does an empty
//! cell point to the canonical entry: that would loop.
//!
//! Where [indirect branches are tracked](super::targets) both entries begin with ENDBR64, and a thunk has 32 bytes:
//!
//! ```text
//! thunk  | endbr64 (4) | jmp *cell (6) | int3 (6) | endbr64 (4) | push n (5) | jmp stub (5) | int3 (2) |
//! ```
//!
//! Cells 0 to 7 are no cells: there stands the flag that polls look at. And thunks 0 to 7 are no
//! thunks: there stands the stub that all resolve entries jump to. It loads
//! the cache's [`ResolveContext`] into r11, which no calling convention uses, and goes on in
//! [`resolve`](crate::method::resolve). Polls use the same way to save what a thread has in its
//! registers: what code calls that finds the flag raised looks like a resolve entry, with a number
//! that is no cell's, and what it goes on at is a return. So does code whose counter is full, with a number in r10 (an
//! argument that is declared `nest`).
//!
//! ```text
//! thunks | endbr64 (4) | mov r11, context (10) | jmp *0(%rip) (6) | resolve (8) |
//!   + 32 | endbr64 (4) | push POLL (5) | jmp stub (5) | endbr64 (4) | ret (1)
//!   + 56 | endbr64 (4) | push r10 (2) | jmp stub (5)
//!   + 72 | endbr64 (4) | add 1 to the counter at rdi in the thread's table; is it esi? no: ret; yes: push rdx | jmp stub
//! ```

use std::sync::{Arc, PoisonError};

use crate::code::{CodeSpace, Kind, Run, zeros};
use crate::error::Error;
use crate::method::assembler::Assembler;
use crate::method::resolve::{self, ResolveContext};
use crate::method::targets::ENDBR64;
use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sync::fault::{kept, order};
use crate::sync::{Mutex, MutexGuard};
use crate::tier::counts;

/// The part of a cell that calls read. It lies in memory that outlives every use (the cache's
/// reservation), at an address that code has as a displacement.
#[repr(C, align(16))]
pub(crate) struct CellWord {
    /// Where a call goes: code, or the resolve entry of the cell's thunk.
    pub(crate) entry: AtomicUsize,
    /// The code that the host called since the policy was last told, or 0; never the resolve
    /// entry. So one comparison with the entry shows both that there is code and that it is known
    /// to be in use. Written only when it changes: callers of a hot method share the line without
    /// writing it.
    called: AtomicUsize,
}

impl CellWord {
    #[cfg(feature = "_loom")]
    pub(crate) fn new(entry: usize) -> Self {
        Self {
            entry: AtomicUsize::new(entry),
            called: AtomicUsize::new(0),
        }
    }

    /// Where a call goes now. What was written there before it was published is seen.
    #[inline(always)]
    pub(crate) fn load(&self) -> usize {
        self.entry.load(order("entry.load", Ordering::Acquire))
    }

    /// Sends calls to `entry` from now on. What was written there happens before.
    #[inline(always)]
    pub(crate) fn store(&self, entry: usize) {
        self.entry
            .store(entry, order("entry.store", Ordering::Release));
    }

    /// Whether `code`, loaded from this cell, is the method's code and known to be in use.
    #[inline(always)]
    pub(crate) fn is_code_in_use(&self, code: usize) -> bool {
        code == self.called.load(Ordering::Relaxed)
    }

    /// Notes that the method is in use by this code of it; a write only if the policy was told of
    /// the last call.
    pub(crate) fn note_call(&self, code: usize) {
        if self.called.load(Ordering::Relaxed) != code {
            self.called.store(code, Ordering::Relaxed);
        }
    }

    /// What was noted of code counts for where that is now.
    pub(crate) fn move_calls(&self, from: usize, to: usize) {
        // If it fails nothing was noted, or not of this code.
        let _ = self
            .called
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the code that it has now was in use since this was last asked. What a slow thread
    /// notes of earlier code counts for nothing.
    pub(crate) fn take_calls(&self) -> bool {
        self.called.load(Ordering::Relaxed) != 0
            && self.called.swap(0, Ordering::Relaxed) == self.entry.load(Ordering::Relaxed)
    }
}

const CELL: u64 = 16;
/// Cells that are made at a time: one slot of their stripe, and one or two of the thunks'.
const CHUNK: u64 = Kind::Cells.slot() / CELL;
/// Numbers taken by the stub, and by what polls call.
const FIRST: u32 = 8;
/// Who asks code to come to polls: the reclaimer, for safepoints, and the embedder.
pub(crate) const ASKED_BY_RECLAIMER: u32 = 1;
pub(crate) const ASKED_BY_EMBEDDER: u32 = 2;
/// The number that a poll hands to the resolver.
pub(crate) const POLL: u64 = 2;
/// In what a full counter hands to the resolver, beside the number of the method that it is of.
pub(crate) const FULL: u64 = 1 << 63;
/// Where that stands from the first thunk on, and how long it is up to the return.
const POLL_AT: usize = 32;
const POLL_LEN: usize = 14;
const FULL_AT: usize = 56;
const ROUND_AT: usize = 72;

/// How thunks are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    /// Bytes of one.
    thunk: u64,
    /// Where its resolve entry is.
    resolve: u64,
    /// What either entry begins with.
    begin: &'static [u8],
}

impl Shape {
    const PLAIN: Self = Self {
        thunk: 16,
        resolve: 6,
        begin: &[],
    };
    const TARGETS: Self = Self {
        thunk: 32,
        resolve: 16,
        begin: &ENDBR64,
    };
}

/// All cells of a cache.
pub(crate) struct Cells {
    space: Arc<CodeSpace>,
    shape: Shape,
    /// Of the first cell.
    base: u64,
    free: Mutex<Free>,
    #[cfg(feature = "_loom")]
    aside: Aside,
}

/// Loom's atomics are more than their words, and cannot be where code expects them.
#[cfg(feature = "_loom")]
struct Aside {
    words: Box<[CellWord]>,
    flag: AtomicU32,
}

#[cfg(feature = "_loom")]
impl Aside {
    /// Cells that a model may have.
    const CELLS: u64 = 24;

    fn new(space: &CodeSpace) -> Self {
        let Shape { thunk, resolve, .. } = Shape::PLAIN;
        let word =
            |number| CellWord::new((space.base(Kind::Thunks) + number * thunk + resolve) as usize);
        Self {
            words: (0..Self::CELLS).map(word).collect(),
            flag: AtomicU32::new(0),
        }
    }
}

/// A chunk's cells and thunks, as far as they could be had.
type HalfMade = (Option<Run>, Option<Run>);

#[derive(Default)]
struct Free {
    /// Given back, to be used again first.
    numbers: Vec<u32>,
    /// The first number that was never used.
    next: u32,
    /// Numbers below this one have memory.
    end: u32,
    /// The mapped chunks; they go with the reservation.
    chunks: Vec<HalfMade>,
    /// A chunk that could not be finished, to be finished at the next try.
    half_made: HalfMade,
}

impl Cells {
    /// No cells yet; `context` is what their thunks hand to the resolver, and must live as long
    /// as any thread may call one. `targets`: whether indirect branches may lead to ENDBR64 alone.
    pub(crate) fn new(
        space: Arc<CodeSpace>,
        context: *const ResolveContext,
        targets: bool,
    ) -> Result<Self, Error> {
        let cells = Self {
            #[cfg(feature = "_loom")]
            aside: Aside::new(&space),
            base: space.base(Kind::Cells),
            space,
            shape: if targets {
                Shape::TARGETS
            } else {
                Shape::PLAIN
            },
            free: Mutex::new(Free {
                next: FIRST,
                ..Free::default()
            }),
        };
        cells.grow(&mut cells.lock(), context)?;
        Ok(cells)
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cell of its own for the caller, empty.
    pub(crate) fn allocate(&self, context: *const ResolveContext) -> Result<u32, Error> {
        let mut free = self.lock();
        let number = match free.numbers.pop() {
            Some(number) => number,
            None => {
                if free.next == free.end {
                    self.grow(&mut free, context)?;
                }
                free.next += 1;
                free.next - 1
            }
        };
        Ok(number)
    }

    /// Gives a cell back.
    ///
    /// The caller is the last to know the number: no handle, no code and no holder of a
    /// canonical address can reach the cell.
    pub(crate) fn give_back(&self, number: u32) {
        if !kept("give_back.empty") {
            self.lock().numbers.push(number);
        }
        let word = self.word(number);
        word.entry
            .store(self.resolve_entry(number), Ordering::Relaxed);
        word.called.store(0, Ordering::Relaxed);
        if kept("give_back.empty") {
            self.lock().numbers.push(number);
        }
    }

    pub(crate) fn word_address(&self, number: u32) -> u64 {
        self.base + u64::from(number) * CELL
    }

    /// The entry word of a cell that has been allocated.
    #[cfg(feature = "_loom")]
    pub(crate) fn word(&self, number: u32) -> &CellWord {
        &self.aside.words[number as usize]
    }

    /// The entry word of a cell that has been allocated.
    #[cfg(not(feature = "_loom"))]
    pub(crate) fn word(&self, number: u32) -> &CellWord {
        // SAFETY: `number` came from `allocate`, so `grow` has mapped and initialised the cell
        // as a `CellWord`; it stays mapped as long as the reservation, which `self` keeps.
        unsafe { &*(self.word_address(number) as *const CellWord) }
    }

    /// Has the processor fetch a cell, if it is one: its word will be read.
    #[inline(always)]
    pub(crate) fn fetch(&self, number: u32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint; any address will do.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.word_address(number) as *const i8);
        }
    }

    /// Raises the flag that polls in code look at, or lowers it, for one of those who ask: it stands
    /// while anybody does. Two instructions, from any thread, and from a signal handler.
    pub(crate) fn ask(&self, who: u32, ask: bool) {
        let flag = self.flag();
        if (flag.load(Ordering::Relaxed) & who != 0) == ask {
            return;
        }
        // Sequentially consistent: whoever asks has said before what for.
        if ask {
            flag.fetch_or(who, Ordering::SeqCst);
        } else {
            flag.fetch_and(!who, Ordering::SeqCst);
        }
    }

    #[cfg(feature = "_loom")]
    fn flag(&self) -> &AtomicU32 {
        &self.aside.flag
    }

    #[cfg(not(feature = "_loom"))]
    fn flag(&self) -> &AtomicU32 {
        // SAFETY: the first cells were mapped by `new`, and are no cells, so the word is only ever
        // used as this flag; it stays mapped as long as the reservation, which `self` keeps.
        unsafe { &*(self.flag_address() as *const AtomicU32) }
    }

    pub(crate) fn flag_address(&self) -> u64 {
        self.word_address(0)
    }

    /// What code calls that finds the flag raised.
    pub(crate) fn poll_entry(&self) -> usize {
        self.space.base(Kind::Thunks) as usize + POLL_AT
    }

    /// Where that goes on.
    pub(crate) fn poll_return(&self) -> usize {
        self.poll_entry() + POLL_LEN
    }

    /// What all thunks jump to, with a number on the stack.
    pub(crate) fn stub(&self) -> usize {
        self.space.base(Kind::Thunks) as usize
    }

    /// What code calls to count a way round a loop.
    pub(crate) fn round_entry(&self) -> usize {
        self.stub() + ROUND_AT
    }

    /// What code calls whose counter is full.
    pub(crate) fn full_entry(&self) -> usize {
        self.space.base(Kind::Thunks) as usize + FULL_AT
    }

    /// The method's address as programs see it.
    pub(crate) fn canonical(&self, number: u32) -> usize {
        (self.space.base(Kind::Thunks) + u64::from(number) * self.shape.thunk) as usize
    }

    /// The number of the cell that an address is of, or whose canonical entry it is.
    pub(crate) fn number_at(&self, address: u64) -> Option<u32> {
        let end = self.lock().end;
        let number = |base: u64, size: u64| {
            let number = address.checked_sub(base)? / size;
            (number < u64::from(end)).then_some(number as u32)
        };
        let cell = number(self.space.base(Kind::Cells), CELL);
        cell.or_else(|| number(self.space.base(Kind::Thunks), self.shape.thunk))
    }

    /// What the cell holds while there is no code.
    pub(crate) fn resolve_entry(&self, number: u32) -> usize {
        self.canonical(number) + self.shape.resolve as usize
    }

    /// Maps and fills another chunk of cells and thunks.
    fn grow(&self, free: &mut Free, context: *const ResolveContext) -> Result<(), Error> {
        let first = free.end;
        // What an earlier try got before it failed is used now: chunks are taken in order.
        if free.half_made.0.is_none() {
            free.half_made.0 = Some(self.space.take(Kind::Cells, CHUNK * CELL)?);
        }
        if free.half_made.1.is_none() {
            free.half_made.1 = Some(self.space.take(Kind::Thunks, CHUNK * self.shape.thunk)?);
        }
        let (Some(cells), Some(thunks)) = (&mut free.half_made.0, &mut free.half_made.1) else {
            unreachable!("both were taken above");
        };
        assert_eq!(
            cells.address,
            self.word_address(first),
            "chunks are taken in order"
        );
        assert_eq!(
            thunks.address,
            self.canonical(first) as u64,
            "chunks are taken in order"
        );
        let mut bytes = zeros(CHUNK * self.shape.thunk)?;
        self.fill_thunks(first, &mut bytes, context);
        self.space.write(thunks, 0, &bytes)?;
        let mut bytes = zeros(CHUNK * CELL)?;
        for (i, cell) in bytes.chunks_exact_mut(CELL as usize).enumerate() {
            let number = first + i as u32;
            if number < FIRST {
                continue; // the flag
            }
            let entry = self.resolve_entry(number);
            cell[..8].copy_from_slice(&entry.to_ne_bytes());
        }
        self.space.write(cells, 0, &bytes)?;
        free.end += CHUNK as u32;
        free.chunks.push(std::mem::take(&mut free.half_made));
        Ok(())
    }

    fn fill_thunks(&self, first: u32, bytes: &mut [u8], context: *const ResolveContext) {
        let stub = self.space.base(Kind::Thunks);
        let Shape {
            thunk: len,
            resolve: resolve_at,
            begin,
        } = self.shape;
        bytes.fill(0xcc);
        for (i, thunk) in bytes.chunks_exact_mut(len as usize).enumerate() {
            let number = first + i as u32;
            if number < FIRST {
                continue;
            }
            let mut at = Assembler::new(thunk, self.canonical(number) as u64);
            at.put(begin);
            at.put(&[0xff, 0x25])
                .displacement(self.word_address(number)); // jmp *disp(%rip)
            at.skip_to(resolve_at);
            at.put(begin).push(number).jump(stub);
        }
        if first == 0 {
            self.fill_stubs(&mut bytes[..FIRST as usize * len as usize], stub, context);
        }
    }

    /// What stands in the place of the first thunks.
    fn fill_stubs(&self, bytes: &mut [u8], stub: u64, context: *const ResolveContext) {
        let mut at = Assembler::new(bytes, stub);
        at.put(&ENDBR64);
        at.enter(context as u64, resolve::entry_point());
        at.skip_to(POLL_AT as u64);
        at.put(&ENDBR64).push(POLL as u32).jump(stub);
        at.put(&ENDBR64).put(&[0xc3]); // ret
        at.skip_to(FULL_AT as u64);
        at.put(&ENDBR64).put(&[0x41, 0x52]).jump(stub); // push r10
        at.skip_to(ROUND_AT as u64);
        at.put(&ENDBR64);
        at.put(&[0x64, 0x48, 0x8b, 0x04, 0x25]); // mov rax, fs:[disp32]
        at.put(&counts::displacement(counts::offset()));
        at.put(&[
            0x48, 0x01, 0xf8, // add rax, rdi
            0x83, 0x00, 0x01, // add dword ptr [rax], 1
            0x39, 0x30, // cmp dword ptr [rax], esi
            0x73, 0x01, // jae + 1
            0xc3, // ret
            0x52, // push rdx
        ]);
        at.jump(stub);
    }
}
