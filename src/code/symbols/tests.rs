//! Names given, found, and forgotten.

use super::*;

const SLOT: u64 = 16 << 10;
const BASE: u64 = 1 << 40;

/// Stripes of 4096 slots, one after the other.
fn symbols() -> Symbols {
    let span = BASE..BASE + 3 * 4096 * SLOT;
    Symbols::new("test", span, |kind| {
        let at = NAMED.iter().position(|&k| k == kind).unwrap() as u64;
        (BASE + at * 4096 * SLOT, 4096 * SLOT, SLOT)
    })
}

fn named(address: u64, size: u64, name: &str) -> Named<'_> {
    Named {
        address,
        size,
        name,
    }
}

fn at(symbols: &Symbols, address: u64) -> Option<(u64, Option<(String, u64)>)> {
    symbols.look(address, |f| {
        (f.generation, f.symbol.map(|(n, o)| (n.to_owned(), o)))
    })
}

#[test]
fn addresses_have_the_names_that_they_were_given() {
    let symbols = symbols();
    assert_eq!(at(&symbols, BASE), None);
    // As many as a slot holds, in batches.
    for batch in 0..256 {
        let names: Vec<_> = (0..4).map(|i| format!("f{}", batch * 4 + i)).collect();
        let first = BASE + SLOT + batch * 64;
        let all = (0..).zip(&names);
        symbols.add(7, all.map(|(i, name)| named(first + i * 16, 12, name)));
    }
    for i in 0..1024 {
        let begin = BASE + SLOT + i * 16;
        for offset in [0, 5, 11] {
            let expected = (format!("f{i}"), offset);
            assert_eq!(at(&symbols, begin + offset), Some((7, Some(expected))));
        }
        assert_eq!(at(&symbols, begin + 12), Some((7, None)), "between two");
    }
    assert_eq!(at(&symbols, BASE + SLOT - 1), None);
    assert_eq!(at(&symbols, BASE + 2 * SLOT), None);
    assert_eq!(at(&symbols, 0), None);
    assert_eq!(at(&symbols, u64::MAX), None);
}

#[test]
fn a_large_function_is_in_all_its_slots() {
    let symbols = symbols();
    let begin = BASE + 5 * SLOT + 100;
    symbols.add(
        1,
        [
            named(begin, 3 * SLOT, "large"),
            named(begin + 3 * SLOT, 16, "next"),
        ],
    );
    symbols.unlinked(begin, Cause::Invalidated);
    for offset in (0..3 * SLOT).step_by(1000) {
        let found = symbols.look(begin + offset, |f| {
            assert_eq!(f.symbol, Some(("large", offset)));
            f.unlinked.unwrap().0
        });
        assert_eq!(found, Some(Cause::Invalidated));
    }
    symbols.look(begin + 3 * SLOT, |f| {
        assert_eq!((f.symbol, f.unlinked), (Some(("next", 0)), None));
    });
    symbols.unlinked(begin + 3 * SLOT, Cause::Evicted);
    symbols.unmapped(Kind::Text, 5, 4);
    symbols.look(begin + 3 * SLOT, |f| {
        let (why, when) = f.unlinked.unwrap();
        assert_eq!(why, Cause::Evicted);
        assert!(when <= f.unmapped.unwrap());
    });
    symbols.discard(Kind::Text, 5, 4);
    assert_eq!(at(&symbols, begin), None);
    assert_eq!(symbols.bytes(), 0);
}

#[test]
fn constants_and_text_have_tables_of_their_own() {
    let symbols = symbols();
    let constants = BASE + 4096 * SLOT;
    symbols.add(
        1,
        [named(BASE, 10, "code"), named(constants, 10, "constants")],
    );
    symbols.look(constants + 3, |f| {
        assert_eq!(
            (f.kind, f.symbol),
            (Kind::Constants, Some(("constants", 3)))
        );
    });
    symbols.discard(Kind::Constants, 0, 1);
    assert_eq!(at(&symbols, constants), None);
    assert!(at(&symbols, BASE).is_some());
    // Of a kind without names nothing is known, and nothing is discarded.
    symbols.discard(Kind::Unwind, 0, 1);
}

/// Readers look all the time, while lists come and go; what they see is whole.
#[test]
fn readers_see_whole_names_while_lists_go() {
    let symbols = symbols();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let mut seen = 0;
                while !stop.load(Ordering::Relaxed) {
                    for slot in 0..4 {
                        let found = at(&symbols, BASE + slot * SLOT + 8);
                        if let Some((generation, Some((name, 8)))) = found {
                            assert_eq!(name, format!("method of {generation}"));
                            seen += 1;
                        }
                    }
                }
                assert!(seen > 0);
            });
        }
        for generation in 0..20_000 {
            let slot = generation % 4;
            let name = format!("method of {generation}");
            symbols.add(generation, [named(BASE + slot * SLOT, 16, &name)]);
            if generation % 64 == 0 {
                std::thread::yield_now();
            }
            symbols.discard(Kind::Text, slot as usize, 1);
        }
        symbols.add(9, [named(BASE, 16, "method of 9")]);
        std::thread::sleep(std::time::Duration::from_millis(5));
        stop.store(true, Ordering::Relaxed);
    });
    // Other tests read too.
    while symbols.bytes() > 0 || !symbols.discarded.lock().unwrap().is_empty() {
        symbols.discard(Kind::Text, 0, 4);
    }
}
