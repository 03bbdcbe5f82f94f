//! Fallbacks: where calls of a method go while it has no code.
//!
//! An embedder's fallback is one function (an interpreter's entry, say) for many methods. Each method has
//! a thunk of its own before it, 16 bytes beside a pair of words (32 where [indirect branches are
//! tracked](super::targets), the first of them ENDBR64):
//!
//! ```text
//! thunk  | mov r10, [word] (7) | jmp *[entry] (6) | int3 (3) |
//! pair   | word (8)            | entry (8)                   |
//! ```
//!
//! r10 is where LLVM's `nest` parameter is: no calling convention of C's has an argument there, so the
//! fallback finds all of these where the caller put them, on the stack too, and the word besides.
//!
//! Thunk and pair *n* belong to the cell of the same number. They are made when the first method with a
//! fallback needs them, with all before them.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use super::assembler::Assembler;
use super::errno;
use super::targets::ENDBR64;
use crate::code::{CodeSpace, Kind, Run, zeros};
use crate::error::Error;
use crate::reclaim::give_up;
use crate::sync::Mutex;

/// Where calls of a method go while it has no code, and what they bring: what a front end
/// [says of a key](crate::Frontend::fallback).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fallback {
    to: To,
    word: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum To {
    /// What the builder was told.
    #[default]
    Common,
    Own(usize),
    Nowhere,
}

impl Fallback {
    /// The [fallback for all](crate::Builder::fallback), which finds `word` in its `nest` parameter. If
    /// there is none, calls wait for code.
    pub const fn with_word(word: usize) -> Self {
        let to = To::Common;
        Self { to, word }
    }

    /// A fallback of this method's own, which finds `word` in its `nest` parameter: a function that takes and
    /// returns what the method does, by the same convention, and outlives the cache.
    pub fn to(entry: *const (), word: usize) -> Self {
        let to = To::Own(entry as usize);
        Self { to, word }
    }

    /// None, even if there is one for all: calls wait for code.
    pub const fn none() -> Self {
        Self {
            to: To::Nowhere,
            word: 0,
        }
    }

    /// Entry and word, if calls go anywhere; `common` is what the builder was told.
    pub(crate) fn resolve(self, common: Option<usize>) -> Option<(usize, usize)> {
        let entry = match self.to {
            To::Common => common?,
            To::Own(entry) => entry,
            To::Nowhere => return None,
        };
        (entry != 0).then_some((entry, self.word))
    }
}

const PAIR: u64 = 16;
/// Thunks that are made at a time: one slot of the pairs' stripe, and one or two of theirs.
const CHUNK: u64 = Kind::FallbackPairs.slot() / PAIR;

/// What a thunk loads. In memory that outlives every use (the cache's reservation).
#[repr(C)]
struct Pair {
    word: AtomicUsize,
    entry: AtomicUsize,
}

/// All fallback thunks of a cache.
pub(super) struct Fallbacks {
    space: Arc<CodeSpace>,
    /// What a thunk begins with.
    begin: &'static [u8],
    /// Thunks of numbers below this one are there. It advances under the lock; in a forked child, where nobody
    /// may hold that, it is read all the same.
    end: AtomicU64,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// The mapped chunks; they go with the reservation.
    chunks: Vec<(Run, Run)>,
    /// A chunk that could not be finished, to be finished at the next try.
    half_made: (Option<Run>, Option<Run>),
}

/// What the pair of a method that is gone leads to.
unsafe extern "C" fn gone() {
    give_up("the fallback of a method that is gone was called");
}

impl Fallbacks {
    /// None yet. `targets`: whether indirect branches may lead to ENDBR64 alone.
    pub(super) fn new(space: Arc<CodeSpace>, targets: bool) -> Self {
        Self {
            space,
            begin: if targets { &ENDBR64 } else { &[] },
            end: AtomicU64::new(0),
            made: Mutex::default(),
        }
    }

    /// Has the thunk of a number pass `word` to `entry`, and returns its address.
    pub(super) fn set(
        &self,
        number: u32,
        entry: usize,
        word: usize,
    ) -> Result<NonZeroUsize, Error> {
        self.make(number)?;
        let pair = self.pair(number);
        pair.word.store(word, Ordering::Relaxed);
        pair.entry.store(entry, Ordering::Release);
        let thunk = NonZeroUsize::new(self.thunk(number) as usize);
        Ok(thunk.expect("nothing is mapped at 0"))
    }

    /// Nobody can call the thunk of this number, which was set, any more.
    pub(super) fn clear(&self, number: u32) {
        let pair = self.pair(number);
        pair.entry
            .store(gone as *const () as usize, Ordering::Relaxed);
        pair.word.store(0, Ordering::Relaxed);
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        self.end() * (self.len() + PAIR)
    }

    fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Bytes of one thunk.
    fn len(&self) -> u64 {
        if self.begin.is_empty() { 16 } else { 32 }
    }

    fn thunk(&self, number: u32) -> u64 {
        self.space.base(Kind::Fallbacks) + u64::from(number) * self.len()
    }

    fn pair_address(&self, number: u32) -> u64 {
        self.space.base(Kind::FallbackPairs) + u64::from(number) * PAIR
    }

    /// The pair of a number whose thunk has been made.
    fn pair(&self, number: u32) -> &Pair {
        // SAFETY: `make` has mapped the chunk that it is in, readable and writable, and nothing else is kept
        // there; it stays mapped as long as the reservation, which `self` keeps. All its values are numbers.
        unsafe { &*(self.pair_address(number) as *const Pair) }
    }

    /// Sees to it that there is a thunk of this number.
    fn make(&self, number: u32) -> Result<(), Error> {
        if u64::from(number) < self.end() {
            return Ok(());
        }
        let errno = errno::get();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        while self.end() <= u64::from(number) {
            self.grow(&mut made)?;
        }
        errno::set(errno);
        Ok(())
    }

    /// Maps and fills another chunk.
    fn grow(&self, made: &mut Made) -> Result<(), Error> {
        let end = self.end();
        let first = end as u32;
        if made.half_made.0.is_none() {
            made.half_made.0 = Some(self.space.take(Kind::Fallbacks, CHUNK * self.len())?);
        }
        if made.half_made.1.is_none() {
            made.half_made.1 = Some(self.space.take(Kind::FallbackPairs, CHUNK * PAIR)?);
        }
        let (Some(thunks), Some(pairs)) = (&mut made.half_made.0, &made.half_made.1) else {
            unreachable!("both were taken above");
        };
        assert_eq!(
            (thunks.address, pairs.address),
            (self.thunk(first), self.pair_address(first)),
            "chunks are taken in order"
        );
        let mut bytes = zeros(CHUNK * self.len())?;
        self.fill(first, &mut bytes);
        self.space.write(thunks, 0, &bytes)?;
        self.end.store(end + CHUNK, Ordering::Release);
        if let (Some(thunks), Some(pairs)) = std::mem::take(&mut made.half_made) {
            made.chunks.push((thunks, pairs));
        }
        Ok(())
    }

    fn fill(&self, first: u32, bytes: &mut [u8]) {
        bytes.fill(0xcc);
        for (i, thunk) in bytes.chunks_exact_mut(self.len() as usize).enumerate() {
            let number = first + i as u32;
            let pair = self.pair_address(number);
            let mut at = Assembler::new(thunk, self.thunk(number));
            at.put(self.begin);
            at.put(&[0x4c, 0x8b, 0x15]).displacement(pair); // mov r10, [rip + disp]
            at.jump_by(pair + 8);
        }
    }
}

/// What a [`fallback!`](crate::fallback!) can take: types that the C convention passes in one register.
///
/// # Safety
/// A value is passed in one general register if `GENERAL` is 1 and any is left, else on the stack; and never in
/// one if it is 0.
pub unsafe trait FallbackArgument {
    /// General registers that it takes, if they are left.
    const GENERAL: usize;
}

/// What a [`fallback!`](crate::fallback!) can return: types that the C convention returns in registers.
///
/// # Safety
/// No function that returns it is handed a place for it by its caller.
pub unsafe trait FallbackResult {}

macro_rules! scalars {
    ($general:literal: $($ty:ty)*) => {$(
        // SAFETY: the System V convention for x86-64, classes INTEGER (1) and SSE (0).
        unsafe impl FallbackArgument for $ty {
            const GENERAL: usize = $general;
        }
        // SAFETY: scalars are returned in rax or xmm0.
        unsafe impl FallbackResult for $ty {}
    )*};
}

scalars!(1: i8 i16 i32 i64 isize u8 u16 u32 u64 usize bool char);
scalars!(0: f32 f64);

// SAFETY: a pointer to what has a size is an integer to the convention.
unsafe impl<T> FallbackArgument for *const T {
    const GENERAL: usize = 1;
}
// SAFETY: as above.
unsafe impl<T> FallbackArgument for *mut T {
    const GENERAL: usize = 1;
}
// SAFETY: as above.
unsafe impl<T> FallbackResult for *const T {}
// SAFETY: as above.
unsafe impl<T> FallbackResult for *mut T {}
// SAFETY: nothing is returned.
unsafe impl FallbackResult for () {}

/// Defines a [fallback](crate::Builder::fallback) in Rust: a function that is given the method's word, and then
/// what the method was called with.
///
/// What it defines is a function *without* the first parameter, of the method's own prototype. (No function
/// of Rust's can have a `nest` parameter, so it begins with an instruction that moves the word into the next
/// register for arguments, and jumps to the body.)
///
/// ```
/// inkpot::fallback! {
///     /// Interprets the function whose number is `word`.
///     pub unsafe extern "C" fn interpret(word: usize, x: i64, scale: f64) -> i64 {
///         (x as f64 * scale) as i64 + word as i64
///     }
/// }
/// let f: unsafe extern "C" fn(i64, f64) -> i64 = interpret; // for `Builder::fallback(f as *const ())`
/// ```
///
/// Compiled code that calls with `bool`, or with integers narrower than 32 bits, must extend them, as for any function
/// of Rust's ([`MethodType`](crate::MethodType)).
///
/// The convention is `"C"`, or `"C-unwind"` for a body that may panic (or call methods that throw). Arguments are
/// numbers, booleans and pointers, at most five of them in general registers (not `f32` and `f64`), and any number of
/// others; the result is one of these or nothing ([`FallbackArgument`](crate::FallbackArgument),
/// [`FallbackResult`](crate::FallbackResult)). More than that is refused when it is compiled. Fallbacks with other
/// prototypes (structures by value, variable arguments) are written in C, assembly, or IR: the word is in r10, LLVM's
/// `nest`.
///
/// ```compile_fail
/// inkpot::fallback! {
///     unsafe extern "C" fn too_many(word: usize, a: i64, b: i64, c: i64, d: i64, e: i64, f: i64) {}
/// }
/// ```
/// ```compile_fail
/// inkpot::fallback! {
///     unsafe extern "win64" fn elsewhere(word: usize, a: i64) {}
/// }
/// ```
#[macro_export]
macro_rules! fallback {
    (
        $(#[$attribute:meta])*
        $visible:vis unsafe extern $abi:literal
        fn $name:ident($word:ident: usize $(, $argument:ident: $type:ty)* $(,)?) $(-> $result:ty)?
        $body:block
    ) => {
        $(#[$attribute])*
        #[unsafe(naked)]
        $visible unsafe extern $abi fn $name($($argument: $type),*) $(-> $result)? {
            unsafe extern $abi fn body($($argument: $type,)* $word: usize) $(-> $result)? {
                $body
            }
            const _: () = $crate::__fallback_convention($abi);
            const _: () = $crate::__fallback_result::<(($($result)?))>();
            ::core::arch::naked_asm!(
                "endbr64",
                ".byte {rex}, 0x89, {to}", // mov <register number `REGISTER` for arguments>, r10
                "jmp {body}",
                rex = const $crate::__fallback_move::<{
                    0 $(+ <$type as $crate::FallbackArgument>::GENERAL)*
                }>()[0],
                to = const $crate::__fallback_move::<{
                    0 $(+ <$type as $crate::FallbackArgument>::GENERAL)*
                }>()[1],
                body = sym body,
            )
        }
    };
}

/// The first and the last byte of `mov register, r10`, for the register that the word comes to be in, after so many
/// others.
#[doc(hidden)]
pub const fn fallback_move<const GENERAL: usize>() -> [u8; 2] {
    match GENERAL {
        0 => [0x4c, 0xd7], // rdi
        1 => [0x4c, 0xd6], // rsi
        2 => [0x4c, 0xd2], // rdx
        3 => [0x4c, 0xd1], // rcx
        4 => [0x4d, 0xd0], // r8
        5 => [0x4d, 0xd1], // r9
        _ => panic!("a fallback takes at most five arguments in general registers"),
    }
}

/// Refuses conventions by which arguments are in other registers.
#[doc(hidden)]
pub const fn fallback_convention(abi: &str) {
    assert!(
        matches!(
            abi.as_bytes(),
            b"C" | b"C-unwind" | b"sysv64" | b"sysv64-unwind"
        ),
        "a fallback's convention is \"C\" or \"C-unwind\""
    );
}

#[doc(hidden)]
pub const fn fallback_result<R: FallbackResult>() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conventions_with_other_registers_are_refused() {
        for abi in ["C", "C-unwind", "sysv64", "sysv64-unwind"] {
            fallback_convention(abi);
        }
        for abi in ["win64", "efiapi", "Rust", "c", "vectorcall", "system", ""] {
            assert!(std::panic::catch_unwind(|| fallback_convention(abi)).is_err());
        }
    }
}
