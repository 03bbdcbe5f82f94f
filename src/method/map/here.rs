//! The epochs of all maps. Not crossbeam's own for the process: there a thread of somebody else's that stays pinned would
//! keep what is unlinked here, and whatever others defer would run in the middle of this.

#[cfg(not(feature = "_loom"))]
pub(super) use self::of_process::pin;

#[cfg(not(feature = "_loom"))]
mod of_process {
    use std::sync::LazyLock;

    use crossbeam_epoch::{Collector, Guard, LocalHandle};

    static EPOCHS: LazyLock<Collector> = LazyLock::new(Collector::new);

    thread_local! {
        static HERE: LocalHandle = EPOCHS.register();
    }

    pub(crate) fn pin() -> Guard {
        let here = HERE.try_with(LocalHandle::pin);
        // A thread that runs its last destructors.
        here.unwrap_or_else(|_| EPOCHS.register().pin())
    }
}

/// Those of one execution of a model.
#[cfg(feature = "_loom")]
pub(super) fn pin() -> crate::reclaim::epoch::Guard {
    use crate::reclaim::epoch::Collector;
    crate::sync::global! {
        static EPOCHS: Collector = Collector::new();
    }
    EPOCHS.register().pin()
}
