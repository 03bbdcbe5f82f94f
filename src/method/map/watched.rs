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
        pub(in super::super) fn write(&self) {}
    }
}

#[cfg(feature = "_loom")]
mod inner {
    use loom::cell::UnsafeCell;

    pub(in super::super) struct Watched(UnsafeCell<()>);

    impl Watched {
        pub(in super::super) fn new() -> Self {
            let new = Self(UnsafeCell::new(()));
            new.write();
            new
        }

        pub(in super::super) fn read(&self) {
            self.0.with(|_| ());
        }

        pub(in super::super) fn write(&self) {
            self.0.with_mut(|_| ());
        }
    }
}
