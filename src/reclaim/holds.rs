//! Holds: generations that are kept because a stack has frames in them.
//!
//! Three tables, whose memory is never freed while anything can refer to them:
//!
//! ```text
//! owners   one word a slot of text, constants and data:  | serial (32) | place + 1 (32) |
//! words    one word a place:                             | serial (32) | holds (32)     |
//! ```
//!
//! A generation takes a **place** with its first slot, and writes it, with the place's serial,
//! beside each of its slots. So which generation an address lies in is a shift and a load, and
//! takes no lock.
//!
//! A hold is one more in the low half of the place's word. It is added by one compare-exchange,
//! which fails if the serial is not the one that stood beside the slot: the slot was refilled
//! meanwhile. The reclaimer **closes** a generation by one compare-exchange from "this serial, no
//! holds" to the next serial: it fails while there is a hold, and once it has succeeded no hold
//! can be added any more.
//!
//! Whoever adds a hold for code that it is truly inside of is protected in another way at that
//! moment (by its pin, or by an older hold), so the generation cannot be closed under it; what can
//! be closed meanwhile is something that only looks like an address.

use std::sync::PoisonError;

use crate::code::{CodeSpace, Kind};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::fault::{kept, order};
use crate::sync::{Mutex, MutexGuard};

/// Where code, and what it points to, can lie.
const HELD: [Kind; 3] = [Kind::Text, Kind::Constants, Kind::Data];

/// The slots of one stripe, and whose they are.
struct Stripe {
    base: u64,
    len: u64,
    slot: u64,
    owners: Box<[AtomicU64]>,
}

/// What stands beside a slot: the place of the generation that has it, and its serial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Owner(u64);

impl Owner {
    fn new(place: u32, serial: u32) -> Self {
        Self(u64::from(serial) << 32 | u64::from(place + 1))
    }

    fn place(self) -> usize {
        (self.0 as u32 - 1) as usize
    }

    fn serial(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// One hold on a generation. To be [given up](Holds::release) once.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a hold that is lost keeps its generation for ever"]
pub(crate) struct Hold(Owner);

impl Hold {
    /// What it holds.
    pub(crate) fn owner(&self) -> Owner {
        self.0
    }
}

/// All holds of a cache.
pub(crate) struct Holds {
    stripes: [Stripe; HELD.len()],
    words: Box<[AtomicU64]>,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    free: Vec<u32>,
    /// The first that was never used.
    next: u32,
}

/// Words that the system fills with zeros when they are first touched.
#[cfg(not(feature = "_loom"))]
fn zeros(len: usize) -> Box<[AtomicU64]> {
    let words = Box::into_raw(vec![0u64; len].into_boxed_slice());
    // SAFETY: an `AtomicU64` has the size, the alignment and the values of a `u64`, so the
    // allocation, which nobody else has, is one of these too.
    unsafe { Box::from_raw(words as *mut [AtomicU64]) }
}

/// Loom's atomics are more than their words.
#[cfg(feature = "_loom")]
fn zeros(len: usize) -> Box<[AtomicU64]> {
    (0..len).map(|_| AtomicU64::new(0)).collect()
}

impl Holds {
    pub(crate) fn new(space: &CodeSpace) -> Self {
        let stripes = HELD.map(|kind| {
            let (base, len, slot) = space.stripe_of(kind);
            Stripe {
                base,
                len,
                slot,
                owners: zeros((len / slot) as usize),
            }
        });
        // Each generation that can be held has a slot.
        let places = stripes.iter().map(|s| s.owners.len()).sum();
        Self {
            stripes,
            words: zeros(places),
            places: Mutex::default(),
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses that [`Holds::owner`] may know: from the first up to, and with, the second.
    #[cfg_attr(feature = "_checked", allow(dead_code))]
    pub(crate) fn span(&self) -> (u64, u64) {
        let first = self.stripes.iter().map(|s| s.base).min();
        let last = self.stripes.iter().map(|s| s.base + s.len).max();
        (first.unwrap_or(0), last.unwrap_or(0))
    }

    /// Whose slot an address lies in. A few instructions, from any thread.
    ///
    /// The return address of a call that is a method's last instruction is one past the code, and
    /// still inside: text ends with padding ([`crate::link`]).
    #[inline]
    pub(crate) fn owner(&self, address: u64) -> Option<Owner> {
        let stripe = self
            .stripes
            .iter()
            .find(|s| address.wrapping_sub(s.base) < s.len)?;
        let slot = (address - stripe.base) / stripe.slot;
        let owner = stripe.owners[slot as usize].load(Ordering::Relaxed);
        (owner != 0).then_some(Owner(owner))
    }

    /// One more hold on a generation; `None` if it is gone.
    pub(crate) fn hold(&self, owner: Owner) -> Option<Hold> {
        let word = &self.words[owner.place()];
        let mut now = word.load(Ordering::Relaxed);
        loop {
            if (now >> 32) as u32 != owner.serial() && kept("hold.serial") {
                return None;
            }
            // Four billion holds on one generation would need as many words of stack.
            debug_assert_ne!(now as u32, u32::MAX);
            // The re-pin, or unpin, that follows it releases: who waits for that finds the hold.
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            match word.compare_exchange_weak(now, now + 1, success, failure) {
                Ok(_) => return Some(Hold(owner)),
                Err(other) => now = other,
            }
        }
    }

    /// Gives a hold up. True if it was the generation's last.
    pub(crate) fn release(&self, hold: Hold) -> bool {
        let Hold(owner) = hold;
        // Release: what the holder did in the code is over before it is unmapped.
        let released = order("hold.release", Ordering::Release);
        let before = self.words[owner.place()].fetch_sub(1, released);
        debug_assert_eq!((before >> 32) as u32, owner.serial());
        debug_assert_ne!(before as u32, 0);
        before as u32 == 1
    }

    /// Says that a generation has these slots. `owner` is `None` until it has its first.
    pub(crate) fn own(&self, owner: &mut Option<Owner>, kind: Kind, address: u64, len: u64) {
        let owner = *owner.get_or_insert_with(|| {
            let mut places = self.places();
            let place = places.free.pop().unwrap_or_else(|| {
                places.next += 1;
                places.next - 1
            });
            let serial = self.words[place as usize].load(Ordering::Relaxed) >> 32;
            Owner::new(place, serial as u32)
        });
        if kept("region.own") {
            self.write(kind, address, len, owner.0);
        }
    }

    /// No more holds for this generation: false if it has one. Once it is true, its slots can be
    /// [let go](Holds::disown).
    pub(crate) fn close(&self, owner: Owner) -> bool {
        let serial = u64::from(owner.serial());
        let next = u64::from(owner.serial().wrapping_add(u32::from(kept("close.serial"))));
        if !kept("close.holds") {
            self.words[owner.place()].store(next << 32, Ordering::SeqCst);
            return true;
        }
        // Acquire: what holders did is over.
        self.words[owner.place()]
            .compare_exchange(
                serial << 32,
                next << 32,
                order("close", Ordering::Acquire),
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// The slots are nobody's any more.
    pub(crate) fn disown(&self, kind: Kind, address: u64, len: u64) {
        self.write(kind, address, len, 0);
    }

    /// The place of a generation that was closed, and has no slots, can be used again.
    pub(crate) fn give_back(&self, owner: Owner) {
        self.places().free.push(owner.place() as u32);
    }

    fn write(&self, kind: Kind, address: u64, len: u64, word: u64) {
        let Some(at) = HELD.iter().position(|&k| k == kind) else {
            return;
        };
        let stripe = &self.stripes[at];
        let first = ((address - stripe.base) / stripe.slot) as usize;
        let count = len.div_ceil(stripe.slot) as usize;
        for owner in &stripe.owners[first..first + count] {
            // Who finds the place, and another serial in `words` than beside it, holds nothing; and whose code it is
            // knows of it by way of the cell.
            owner.store(word, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds() -> (CodeSpace, Holds) {
        let space = CodeSpace::new("test", None).unwrap();
        let holds = Holds::new(&space);
        (space, holds)
    }

    #[test]
    fn an_address_leads_to_its_generation() {
        let (space, holds) = holds();
        let (text, _, slot) = space.stripe_of(Kind::Text);
        let (constants, ..) = space.stripe_of(Kind::Constants);
        let (mut a, mut b) = (None, None);
        holds.own(&mut a, Kind::Text, text, 2 * slot);
        holds.own(&mut b, Kind::Text, text + 2 * slot, slot);
        holds.own(&mut a, Kind::Constants, constants, slot);
        holds.own(&mut a, Kind::Unwind, 0, 1); // not looked at
        assert_eq!(holds.owner(text), a);
        assert_eq!(holds.owner(text + 2 * slot - 1), a);
        assert_eq!(holds.owner(text + 2 * slot), b);
        assert_eq!(holds.owner(text + 3 * slot), None);
        assert_eq!(holds.owner(constants + 5), a);
        assert_eq!(holds.owner(text - 1), None);
        assert_eq!(holds.owner(0), None);
        assert_eq!(holds.owner(u64::MAX), None);
    }

    #[test]
    fn what_is_held_does_not_close_and_what_is_closed_is_not_held() {
        let (space, holds) = holds();
        let (text, _, slot) = space.stripe_of(Kind::Text);
        let mut owner = None;
        holds.own(&mut owner, Kind::Text, text, slot);
        let owner = owner.unwrap();
        let (first, second) = (holds.hold(owner).unwrap(), holds.hold(owner).unwrap());
        assert!(!holds.close(owner));
        assert!(!holds.release(first));
        assert!(!holds.close(owner));
        assert!(holds.release(second));
        assert!(holds.close(owner));
        assert!(holds.hold(owner).is_none(), "its serial is over");
        holds.disown(Kind::Text, text, slot);
        assert_eq!(holds.owner(text), None);
        holds.give_back(owner);
        let mut next = None;
        holds.own(&mut next, Kind::Text, text, slot);
        assert_ne!(next, Some(owner), "the same place, the next serial");
        assert!(holds.hold(owner).is_none());
        let hold = holds.hold(next.unwrap()).unwrap();
        assert!(!holds.close(next.unwrap()));
        holds.release(hold);
    }

    /// One thread holds and looks, the other closes: never both.
    #[test]
    fn a_hold_and_a_close_exclude_each_other() {
        let (space, holds) = holds();
        let (text, _, slot) = space.stripe_of(Kind::Text);
        // Of one place, whose serials count from 0 on.
        let (closed, held) = (AtomicU64::new(0), AtomicU64::new(0));
        let over = || closed.load(Ordering::SeqCst) >= 2000 && held.load(Ordering::SeqCst) >= 100;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over() {
                    let mut owner = None;
                    holds.own(&mut owner, Kind::Text, text, slot);
                    let owner = owner.unwrap();
                    std::thread::yield_now();
                    while !holds.close(owner) {
                        std::thread::yield_now();
                    }
                    closed.fetch_add(1, Ordering::SeqCst);
                    holds.disown(Kind::Text, text, slot);
                    holds.give_back(owner);
                }
            });
            while !over() {
                let hold = holds.owner(text).and_then(|owner| holds.hold(owner));
                if let Some(hold) = hold {
                    let serial = u64::from(hold.owner().serial());
                    let is_closed = || serial < closed.load(Ordering::SeqCst);
                    assert!(!is_closed(), "closed while held");
                    std::thread::yield_now();
                    assert!(!is_closed(), "closed while held");
                    holds.release(hold);
                    held.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::yield_now();
            }
        });
    }
}
