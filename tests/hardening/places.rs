//! Where code lies, what may be done with its memory, and who has a way to it.

use std::collections::BTreeSet;

use inkpot::Cache;

use crate::support::maps::{around, mapping_of, mappings};
use crate::support::{Calculator, Op, Unary, wait_until};

fn entry_of(cache: &Cache<Op>, op: Op) -> u64 {
    let me = cache.participant("test");
    let mut guard = me.pin();
    // SAFETY: `Unary` is what the methods are.
    let handle = unsafe { cache.method::<Unary>(&op) }.expect("there are cells");
    let entry = handle.get(&mut guard).expect("it compiles");
    // SAFETY: it is not called.
    unsafe { entry.pointer() as usize as u64 }
}

/// Two caches of one process, and two methods of a cache, lie anywhere.
#[test]
fn nobody_can_tell_where_code_will_be() {
    let mut distances = BTreeSet::new();
    let mut bases = BTreeSet::new();
    for _ in 0..16 {
        let cache = Cache::builder(Calculator)
            .generation_methods(1)
            .build()
            .expect("a cache");
        let first = entry_of(&cache, Op::Add(1));
        cache.seal();
        let second = entry_of(&cache, Op::Add(2));
        bases.insert(first >> 21);
        distances.insert(second.wrapping_sub(first));
    }
    assert!(bases.len() >= 15, "{bases:x?}");
    // Beside the first, on either side.
    assert!(distances.len() >= 2, "{distances:x?}");
}

/// No address of a cache's is before, between or behind what it maps without a hole that nobody can read; text is
/// never writable, and what is writable never executable.
#[test]
fn guards_stand_between_the_stripes() {
    const GUARD: u64 = 1 << 20;
    let cache = Cache::builder(Calculator).build().expect("a cache");
    let inside = entry_of(&cache, Op::Add(3));
    let all = around(inside);
    let ours: Vec<_> = mappings()
        .into_iter()
        .filter(|m| m.span.start >= all.start && m.span.end <= all.end)
        .collect();
    let first = &ours.first().expect("there are some").clone();
    let last = &ours.last().expect("there are some").clone();
    for end in [first, last] {
        assert_eq!(
            end.permissions, "---p",
            "an end of the address space: {end:x?}"
        );
        assert!(end.span.end - end.span.start >= GUARD, "{end:x?}");
    }
    let kinds: BTreeSet<&str> = ours.iter().map(|m| m.permissions.as_str()).collect();
    let expected = BTreeSet::from(["---p", "r--s", "r-xs", "rw-p"]);
    assert_eq!(kinds, expected, "{ours:x?}");
    for pair in ours.windows(2) {
        let [before, after] = pair else {
            unreachable!()
        };
        let [one, other] = [&before.permissions, &after.permissions];
        if one != other && one != "---p" && other != "---p" {
            panic!("nothing between {before:x?} and {after:x?}");
        }
    }
}

/// Nobody has a writable view of code; and descriptors do not get to other programs.
#[test]
fn no_way_to_write_code_is_left() {
    let cache = Cache::builder(Calculator).build().expect("a cache");
    let before = entry_of(&cache, Op::Add(4));
    // The generation is open, and nothing is linked now.
    let all = mappings();
    let text = mapping_of(before).expect("it is mapped");
    assert!(text.path.contains("memfd:inkpot"), "{text:x?}");
    let views: Vec<_> = all.iter().filter(|m| m.file == text.file).collect();
    assert!(!views.is_empty());
    assert!(
        views.iter().all(|m| !m.permissions.contains('w')),
        "{views:x?}"
    );
    let mut seen = 0;
    for entry in std::fs::read_dir("/proc/self/fd").expect("our descriptors") {
        let path = entry.expect("one").path();
        let Ok(target) = std::fs::read_link(&path) else {
            continue; // the one that this is read by
        };
        if !target.to_string_lossy().contains("memfd:inkpot") {
            continue;
        }
        let number: i32 = path.file_name().unwrap().to_string_lossy().parse().unwrap();
        // SAFETY: these ask about a descriptor, whoever's it is.
        let (flags, seals) = unsafe {
            (
                libc::fcntl(number, libc::F_GETFD),
                libc::fcntl(number, libc::F_GET_SEALS),
            )
        };
        if flags < 0 {
            continue; // of a cache of another test, that has ended
        }
        assert_ne!(flags & libc::FD_CLOEXEC, 0, "{target:?}");
        let sealed = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        assert_eq!(seals & sealed, sealed, "{target:?}: nobody can cut it off");
        seen += 1;
    }
    assert!(seen >= 2, "{seen}");
}

/// Memory of a generation that is gone can neither be read nor executed.
#[test]
fn what_was_recycled_cannot_be_read() {
    let cache = Cache::builder(Calculator).build().expect("a cache");
    let entry = entry_of(&cache, Op::Add(5));
    cache.seal();
    cache.evict_all();
    wait_until("its memory is given back", || {
        let mapping = mapping_of(entry).expect("the addresses stay the cache's");
        mapping.permissions == "---p"
    });
}
