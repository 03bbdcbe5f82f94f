//! Entries: code that may be called while a guard lives.

use std::marker::PhantomData;

/// Types of methods: `unsafe extern "C" fn(A, ..) -> R` and `unsafe extern "C-unwind"
/// fn(A, ..) -> R`, of up to twelve arguments.
///
/// # Safety
/// The type is a function pointer, as large as an address.
pub unsafe trait MethodType: Copy + Send + Sync + 'static {}

/// A method's code, loaded under a guard, to be called while the guard lives.
///
/// There is no way in safe code to get at the bare pointer: it would outlive the guard.
pub struct Entry<'g, F: MethodType> {
    code: usize,
    guard: PhantomData<(&'g (), F, *mut ())>,
}

impl<F: MethodType> Clone for Entry<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: MethodType> Copy for Entry<'_, F> {}

impl<F: MethodType> Entry<'_, F> {
    #[inline(always)]
    pub(crate) fn new(code: usize) -> Self {
        Self {
            code,
            guard: PhantomData,
        }
    }

    /// The bare function pointer.
    ///
    /// # Safety
    /// As for `call`; and it must not be called once the guard is dropped, re-pinned, or used
    /// for [`Handle::get`](crate::Handle::get), nor on another thread.
    #[inline(always)]
    pub unsafe fn pointer(&self) -> F {
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
            /// # Safety
            /// The arguments are what the method's code expects: the prototype that the handle
            /// was made with is the one that the front end emitted, and the code itself is sound.
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "as many as the method has")]
            pub unsafe fn call(&self, $($arg: $ty),*) -> R {
                // SAFETY: the caller's promise; the guard that this entry is bound to is alive
                // and has not been re-pinned, so the code is mapped.
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
