//! Memory that is looked at without a lock, and freed by somebody else: loom does not know of it by itself.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use loom::cell::UnsafeCell;

// All threads of a model are one to the system.
std::thread_local! {
    static ALIVE: RefCell<BTreeMap<usize, Rc<UnsafeCell<()>>>> = const { RefCell::new(BTreeMap::new()) };
}

fn at<T: ?Sized>(what: *const T) -> usize {
    what.cast::<()>() as usize
}

/// It is there from now on.
pub(crate) fn begins<T: ?Sized>(what: *const T) {
    ALIVE.with_borrow_mut(|alive| alive.insert(at(what), Rc::default()));
}

/// It is looked at: it must be there, and go only afterwards.
#[track_caller]
pub(crate) fn goes_on<T: ?Sized>(what: *const T) {
    let found = ALIVE.with_borrow(|alive| alive.get(&at(what)).cloned());
    found
        .expect("it was looked at when it was gone")
        .with(|_| ());
}

/// It goes.
#[track_caller]
pub(crate) fn ends<T: ?Sized>(what: *const T) {
    let found = ALIVE.with_borrow_mut(|alive| alive.remove(&at(what)));
    if let Some(found) = found {
        found.with_mut(|_| ());
    }
}
