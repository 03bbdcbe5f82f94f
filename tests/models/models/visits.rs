//! Calls by callbacks on threads that nobody registered, while the cache ends.

use std::any::Any;
use std::sync::Arc;

use super::world::{Region, World};
use crate::reclaim::{begin, end};
use crate::run::spawn_for_ever;
use crate::sync::atomic::settle;

/// What threads that are inside keep.
struct Running(Region);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.unmap();
    }
}

/// The public side: as long as it is there, callbacks may be called.
struct Public(Arc<World>, Option<Arc<Running>>);

impl Drop for Public {
    fn drop(&mut self) {
        drop(self.0.domain.close());
        drop(self.1.take());
    }
}

/// Promises 1 and 6: a cache does not end while a thread is inside, and does end when none is, though the thread lives
/// on.
pub(super) fn visit() {
    let world = World::new();
    let running = Arc::new(Running(Region::empty()));
    running.0.fill();
    let at = Arc::as_ptr(&running) as usize;
    let keep: Arc<dyn Any + Send + Sync> = running.clone();
    let kept = Arc::downgrade(&keep);
    world.domain.set_keep(kept.clone());
    drop(keep);
    // Loom's: who drops the last of it sees what the others did.
    let public = loom::sync::Arc::new(Public(world.clone(), Some(running)));
    let its = public.clone();
    let visitor = spawn_for_ever(move || {
        let slot = 0_usize;
        // SAFETY: as the assembly does: the visit ends below.
        let visit = unsafe { begin(&world.domain, &slot, 0) };
        drop(its);
        // SAFETY: that it is kept is what is checked.
        unsafe { (*(at as *const Running)).0.call() };
        // SAFETY: begun above.
        unsafe { end(visit, false) };
    });
    settle();
    drop(public);
    visitor.join().unwrap();
    assert!(
        kept.upgrade().is_none(),
        "nobody is inside, and the cache goes on"
    );
}
