//! Names of code, which handlers of signals read without a lock.

use std::sync::Arc;

use crate::code::{CodeSpace, Kind, Named};
use crate::run::spawn;
use crate::sync::atomic::settle;

fn name<'n>(address: u64, name: &'n str) -> Named<'n> {
    Named {
        address,
        size: 16,
        name,
    }
}

/// A list of names grows while somebody reads it.
pub(super) fn grow() {
    let space = Arc::new(CodeSpace::new("model", None).expect("no model refuses memory"));
    let (text, _, slot) = space.stripe_of(Kind::Text);
    // The table's part is there.
    space.symbols().add(0, [name(text + slot, "another")]);
    let of_reader = space.clone();
    let reader = spawn(move || {
        of_reader.symbols().look(text + 20, |found| {
            assert!(found.symbol.is_none_or(|symbol| symbol == ("second", 4)));
        });
    });
    space
        .symbols()
        .add(0, [name(text, "first"), name(text + 16, "second")]);
    reader.join().unwrap();
}

/// What was in a slot is forgotten, and freed, while somebody reads it.
pub(super) fn forget() {
    let space = Arc::new(CodeSpace::new("model", None).expect("no model refuses memory"));
    let (text, ..) = space.stripe_of(Kind::Text);
    space.symbols().add(0, [name(text, "first")]);
    let of_reader = space.clone();
    let reader = spawn(move || {
        of_reader.symbols().look(text, |found| {
            assert_eq!(found.symbol.map(|(name, _)| name), Some("first"));
        });
    });
    settle();
    space.symbols().discard(Kind::Text, 0, 1);
    reader.join().unwrap();
}
