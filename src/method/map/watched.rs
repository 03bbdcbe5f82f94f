//! What of memory that is shared by pointers a checker can see: when it is made, read, and destroyed. Nothing in what ships.

pub(super) use self::inner::Watched;

#[cfg(not(feature = "_loom"))]
mod inner {
    pub(in super::super) struct Watched;

    impl Watched {
        pub(in super::super) fn new() -> Self {
            Self
        }

        #[inline(always)]
        pub(in super::super) fn read(&self) {}

        #[inline(always)]
        pub(in super::super) fn end(&self) {}
    }
}

#[cfg(feature = "_loom")]
mod inner {
    use loom::cell::UnsafeCell;

    /// Whether it is there: so it is found out who comes too late, and who is not ordered.
    pub(in super::super) struct Watched(UnsafeCell<bool>);

    impl Watched {
        pub(in super::super) fn new() -> Self {
            let new = Self(UnsafeCell::new(false));
            // SAFETY: loom's pointer is good for the time of the call.
            new.0.with_mut(|there| unsafe { *there = true });
            new
        }

        #[track_caller]
        pub(in super::super) fn read(&self) {
            // SAFETY: as above.
            let there = |there: *const bool| unsafe { *there };
            assert!(self.0.with(there), "it was looked at when it was gone");
        }

        #[track_caller]
        pub(in super::super) fn end(&self) {
            // SAFETY: as above.
            self.0.with_mut(|there| unsafe { *there = false });
        }
    }
}
