//! Pin, retire, grace period, hold, close, recycle: participants and the reclaimer, without the engine.
//!
//! Promise 1: no thread executes, or returns into, unmapped memory. Promise 4: what a participant's thread happens to
//! run when it collects is a mark, and nothing else.

use std::sync::Arc;

use loom::thread::yield_now;

use super::world::{Region, World, with_on_stack};
use crate::code::Kind;
use crate::reclaim::Reclaimer;
use crate::run::spawn;

/// Promise 1: who finds code finds all of it, however it was written.
pub(super) fn publish() {
    let world = World::empty();
    let of_reader = world.clone();
    let reader = spawn(move || {
        let me = of_reader.participant();
        let guard = me.pin();
        of_reader.call();
        drop(guard);
    });
    world.publish();
    reader.join().unwrap();
}

/// Promise 1: a method is evicted and its region unmapped, while a thread pins, loads and calls.
pub(super) fn evict() {
    let world = World::new();
    let of_reader = world.clone();
    let reader = spawn(move || {
        let me = of_reader.participant();
        let guard = me.pin();
        of_reader.call();
        drop(guard);
    });
    world.evict();
    reader.join().unwrap();
}

/// Promise 1: guards nest. A thread is inside for as long as it has one, and does not re-pin while it has two.
pub(super) fn nested() {
    let world = World::new();
    let me = world.participant();
    let mut outer = me.pin();
    let inner = me.pin();
    world.tick();
    let of_evictor = world.clone();
    let evictor = spawn(move || of_evictor.evict());
    let found = world.cell.load() == world.code as usize;
    outer.repin();
    if found {
        world.region.call();
    }
    drop(inner);
    if found {
        world.region.call();
    }
    drop(outer);
    evictor.join().unwrap();
}

/// Promise 1: what is loaded after a re-pin is good until the next. Another participant drives the epoch on meanwhile.
pub(super) fn repin() {
    let world = World::new();
    let me = world.participant();
    let mut guard = me.pin();
    world.tick();
    let of_evictor = world.clone();
    let evictor = spawn(move || of_evictor.evict());
    let of_other = world.clone();
    let other = spawn(move || of_other.domain.collector.register().pin().flush());
    guard.repin();
    world.call();
    drop(guard);
    evictor.join().unwrap();
    other.join().unwrap();
}

/// A thread that re-pins now and then stops nobody: what was retired before goes.
pub(super) fn repin_lets_go() {
    let world = World::new();
    let me = world.participant();
    let mut guard = me.pin();
    world.call();
    let of_evictor = world.clone();
    let evictor = spawn(move || {
        of_evictor.evict();
        of_evictor.cell.store(0);
    });
    while world.cell.load() != 0 {
        guard.repin();
        yield_now();
    }
    drop(guard);
    evictor.join().unwrap();
}

/// Promise 1: a thread comes to safepoints with a frame in code, which is all that protects it from the first one on.
pub(super) fn safepoint() {
    let world = World::new();
    let me = world.participant();
    let guard = me.pin();
    world.call();
    world.tick();
    let of_evictor = world.clone();
    let evictor = spawn(move || of_evictor.evict());
    with_on_stack(world.code, || {
        for _ in 0..2 {
            // SAFETY: nothing is kept off the stack.
            unsafe { me.safepoint() };
            world.region.call();
            world.tick();
        }
    });
    drop(guard);
    evictor.join().unwrap();
}

/// Promise 1: a thread blocks with a frame in code; and loads anew when that is over.
pub(super) fn blocking() {
    let world = World::new();
    let me = world.participant();
    let guard = me.pin();
    world.call();
    let of_evictor = world.clone();
    let evictor = spawn(move || of_evictor.evict());
    with_on_stack(world.code, || {
        // SAFETY: nothing is kept off the stack.
        unsafe { me.blocking(|| world.region.call()) };
        world.region.call();
    });
    world.call();
    drop(guard);
    evictor.join().unwrap();
}

/// Promise 1: who has blocked without a frame in code is pinned again afterwards.
pub(super) fn blocking_ends() {
    let world = World::new();
    let me = world.participant();
    let guard = me.pin();
    let of_evictor = world.clone();
    let evictor = spawn(move || of_evictor.evict());
    // SAFETY: nothing is kept off the stack.
    unsafe { me.blocking(|| ()) };
    world.call();
    drop(guard);
    evictor.join().unwrap();
}

/// Promise 4: a participant that collects runs the mark itself; who waits for it sees what all of them did before.
pub(super) fn collected_by_another() {
    let world = World::new();
    let of_other = world.clone();
    let other = spawn(move || {
        let me = of_other.participant();
        let guard = me.pin();
        of_other.call();
        drop(guard);
        for _ in 0..2 {
            of_other.domain.collector.register().pin().flush();
        }
    });
    let mut reclaimer = Reclaimer::new(&world.domain);
    world.unlink();
    let grace = reclaimer.start();
    yield_now();
    if grace.is_over() {
        world.region.unmap();
    }
    other.join().unwrap();
}

/// Promise 1: what is held stays, whoever unpins; and what the holder did is over when it goes.
pub(super) fn hold() {
    let world = World::new();
    let me = world.participant();
    let guard = me.pin();
    let of_evictor = world.clone();
    let evictor = spawn(move || of_evictor.evict());
    let holds = world.domain.holds();
    let owner = holds.owner(world.code).expect("it has the slot");
    if world.cell.load() == world.code as usize {
        let hold = holds.hold(owner).expect("it is protected by the pin");
        drop(guard);
        world.region.call();
        holds.release(hold);
    } else {
        drop(guard);
    }
    evictor.join().unwrap();
}

/// Promise 1: a word that looks like an address holds what has the slot then, or nothing; whoever had it before.
pub(super) fn slot_again() {
    let world = World::new();
    let next = Arc::new(Region::empty());
    let (of_reader, of_next, first) = (world.clone(), next.clone(), world.owner);
    let reader = spawn(move || {
        let holds = of_reader.domain.holds();
        let found = holds.owner(of_reader.code);
        if let Some(hold) = found.and_then(|owner| holds.hold(owner)) {
            let held = match hold.owner() == first {
                true => &of_reader.region,
                false => &*of_next,
            };
            assert!(held.is_there(), "what is held is unmapped");
            yield_now();
            assert!(held.is_there(), "what is held is unmapped");
            holds.release(hold);
        }
    });
    let holds = world.domain.holds();
    while !holds.close(world.owner) {
        yield_now();
    }
    world.region.unmap();
    let slot = Kind::Text.slot();
    holds.disown(Kind::Text, world.code, slot);
    holds.give_back(world.owner);
    let mut owner = None;
    next.fill();
    holds.own(&mut owner, Kind::Text, world.code, slot);
    let owner = owner.expect("it has the slot");
    while !holds.close(owner) {
        yield_now();
    }
    next.unmap();
    reader.join().unwrap();
}
