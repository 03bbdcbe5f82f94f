//! Entries: code that may be called while a guard lives.

use std::marker::PhantomData;

use crate::reclaim::Quantum;

/// Types of methods: `unsafe extern "C" fn(A, ..) -> R` and `unsafe extern "C-unwind"
/// fn(A, ..) -> R`, of up to twelve arguments.
///
/// Rust expects `bool`, and integers narrower than 32 bits, to be extended by whoever passes or returns them. So in the IR
/// such parameters and results need `zeroext` or `signext`: where the method is defined, where it is declared, and at
/// calls. Without it the upper bits are whatever they are, which for a `bool` is undefined behaviour. Integers of 32 and
/// 64 bits need nothing.
///
/// # Safety
/// The type is a function pointer, as large as an address.
pub unsafe trait MethodType: Copy + Send + Sync + 'static {}

/// A method's code, loaded under a guard, to be called while the guard lives.
///
/// There is no way in safe code to get at the bare pointer: it would outlive the guard.
///
/// # Safepoints
/// While the thread is inside a method it may come to a safepoint: one that a runtime function
/// makes, a poll, or the wait for a callee that has no code. From then on only such entries are
/// good that were on the thread's stack, or in its registers, at that time: the scan finds these. A
/// call of one that was kept elsewhere, in a `Vec` say, panics, unless its code is held for other
/// reasons; load it again after a call, or keep the [`Handle`](crate::Handle).
pub struct Entry<'g, F: MethodType> {
    code: usize,
    /// The quantum that it was loaded in.
    quantum: Quantum<'g>,
    signature: PhantomData<(F, *mut ())>,
}

impl<F: MethodType> Clone for Entry<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: MethodType> Copy for Entry<'_, F> {}

impl<'g, F: MethodType> Entry<'g, F> {
    #[inline(always)]
    pub(crate) fn new(code: usize, quantum: Quantum<'g>) -> Self {
        Self {
            code,
            quantum,
            signature: PhantomData,
        }
    }

    /// The bare function pointer.
    ///
    /// # Safety
    /// As for `call`; and it must not be called once the guard is dropped, re-pinned, blocked
    /// under, or used for [`Handle::get`](crate::Handle::get) or a
    /// [safepoint](crate::Guard::safepoint), nor on another thread. Over a call of a method it is
    /// kept on the thread's stack (inside of [`Participant::pinned`](crate::Participant::pinned), if
    /// that was called), and nowhere else: a safepoint finds it there.
    #[inline(always)]
    pub unsafe fn pointer(&self) -> F {
        self.quantum.check(self.code);
        // SAFETY: `MethodType` says that F is a function pointer, and `code` is an address.
        unsafe { std::mem::transmute_copy(&self.code) }
    }
}

impl<F: MethodType> std::fmt::Debug for Entry<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({:#x})", self.code)
    }
}

macro_rules! arity {
    ($abi:literal $(, $arg:ident $ty:ident)*) => {
        // SAFETY: a function pointer.
        unsafe impl<$($ty: 'static,)* R: 'static> MethodType for unsafe extern $abi fn($($ty),*) -> R {}

        impl<$($ty: 'static,)* R: 'static> Entry<'_, unsafe extern $abi fn($($ty),*) -> R> {
            /// Calls the method. A load and an indirect call, no more.
            ///
            /// # Panics
            /// If the entry was kept off the stack while the thread came to a safepoint, and its
            /// code may be gone.
            ///
            /// # Safety
            /// The arguments are what the method's code expects: the prototype that the handle
            /// was made with is the one that the front end emitted, and the code itself is sound.
            /// Bare pointers that are used after the call are on the stack meanwhile: see
            /// [`Entry::pointer`].
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "as many as the method has")]
            pub unsafe fn call(&self, $($arg: $ty),*) -> R {
                // SAFETY: the caller's promise; the guard that this entry is bound to is alive
                // and has not been re-pinned, and `pointer` has looked whether all safepoints
                // since found the code on the stack: so it is mapped.
                unsafe { (self.pointer())($($arg),*) }
            }
        }
    };
}

macro_rules! arities {
    ($abi:literal) => {
        arity!($abi);
        arity!($abi, a A);
        arity!($abi, a A, b B);
        arity!($abi, a A, b B, c C);
        arity!($abi, a A, b B, c C, d D);
        arity!($abi, a A, b B, c C, d D, e E);
        arity!($abi, a A, b B, c C, d D, e E, f G);
        arity!($abi, a A, b B, c C, d D, e E, f G, g H);
        arity!($abi, a A, b B, c C, d D, e E, f G, g H, h I);
        arity!($abi, a A, b B, c C, d D, e E, f G, g H, h I, i J);
        arity!($abi, a A, b B, c C, d D, e E, f G, g H, h I, i J, j K);
        arity!($abi, a A, b B, c C, d D, e E, f G, g H, h I, i J, j K, k L);
        arity!($abi, a A, b B, c C, d D, e E, f G, g H, h I, i J, j K, k L, l M);
    };
}

arities!("C");
arities!("C-unwind");
