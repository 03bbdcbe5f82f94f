//! Quarantine: the addresses of code that has gone are not used again for a while.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use inkpot::{Cache, Keep, Quarantine, Stress};
use support::synthetic::{Code, Synthetic};
use support::{leaf, wait_until};

fn build(quarantine: Option<Quarantine>) -> Cache<Code> {
    let mut builder = Cache::with_backend(Synthetic::default());
    if let Some(quarantine) = quarantine {
        builder = builder.quarantine(quarantine);
    }
    builder.build().unwrap()
}

/// A method that stays. What comes later comes to lie beside it, on one side or the other; in an empty cache it lies
/// anywhere.
fn one_stays(cache: &Cache<Code>) -> Keep<Code> {
    let me = cache.participant("test");
    let stays = leaf(cache, 1_000_000);
    let keep = stays.keep();
    stays.get(&mut me.pin()).unwrap();
    cache.seal();
    keep
}

/// Compiles a method in a generation of its own, lets it go, and says where it was.
fn comes_and_goes(cache: &Cache<Code>, n: u32) -> usize {
    let me = cache.participant("test");
    let before = cache.statistics().mapped_code_bytes;
    // SAFETY: only its address is looked at.
    let code = unsafe { leaf(cache, n).get(&mut me.pin()).unwrap().pointer() } as usize;
    cache.seal();
    cache.evict_all();
    wait_until("it is recycled", || {
        cache.statistics().mapped_code_bytes == before
    });
    code
}

#[test]
fn without_one_addresses_are_used_again_at_once() {
    let cache = build(None);
    let _stays = one_stays(&cache);
    let places: BTreeSet<usize> = (0..8).map(|n| comes_and_goes(&cache, n)).collect();
    assert!(places.len() <= 2, "{places:x?}");
    assert_eq!(cache.statistics().quarantined, 0);
}

#[test]
fn addresses_wait_for_their_time() {
    let time = Duration::from_millis(150);
    let cache = build(Some(Quarantine {
        bytes: u64::MAX,
        time,
    }));
    let _stays = one_stays(&cache);
    let began = Instant::now();
    let first = comes_and_goes(&cache, 0);
    assert!(cache.statistics().quarantined > 0);
    let mut n = 0;
    loop {
        n += 1;
        let again = comes_and_goes(&cache, n) == first;
        let age = began.elapsed();
        assert!(!again || age >= time, "used again after {age:?}");
        if again {
            break;
        }
        assert!(age < Duration::from_secs(20), "never used again");
    }
    assert!(n > 1);
    wait_until("all have served their time", || {
        cache.statistics().quarantined == 0
    });
}

#[test]
fn no_more_bytes_wait_than_were_asked_for() {
    let one = {
        let cache = build(Some(Quarantine::default()));
        comes_and_goes(&cache, 0);
        cache.statistics().quarantined
    };
    assert!(one > 0);
    let cache = build(Some(Quarantine {
        bytes: 4 * one,
        time: Duration::MAX,
    }));
    let _stays = one_stays(&cache);
    let mut last = Vec::new();
    for n in 0..40 {
        let code = comes_and_goes(&cache, n);
        let lately: &[usize] = &last[last.len().saturating_sub(4)..];
        assert!(
            !lately.contains(&code),
            "of the last four one is used again"
        );
        last.push(code);
        let s = cache.statistics();
        assert_eq!(s.quarantined, one * u64::from(n + 1).min(4));
        assert!(s.mapped < s.reserved / 100, "quarantine is not mapped");
    }
    last.sort_unstable();
    last.dedup();
    // Four in quarantine, and one in use, on either side of the one that stays, or with a gap that closes next.
    let all = last.len();
    assert!((5..=12).contains(&all), "{all} places");
}

#[test]
fn stress_has_one_of_its_own() {
    let mut stress = Stress::default();
    stress.quarantine = true;
    let cache = Cache::with_backend(Synthetic::default())
        .stress(stress)
        .build()
        .unwrap();
    let first = comes_and_goes(&cache, 0);
    assert_ne!(comes_and_goes(&cache, 1), first);
    assert!((1..=4 << 20).contains(&cache.statistics().quarantined));
    // What was asked for counts more.
    let cache = Cache::with_backend(Synthetic::default())
        .stress(stress)
        .quarantine(Quarantine {
            bytes: 0,
            time: Duration::MAX,
        })
        .build()
        .unwrap();
    let _stays = one_stays(&cache);
    let places: BTreeSet<usize> = (0..8).map(|n| comes_and_goes(&cache, n)).collect();
    assert!(places.len() <= 2, "{places:x?}");
}

/// Names stay as long as the quarantine, and are charged for so long.
#[test]
fn names_stay_as_long() {
    let name_in = |cache: &Cache<Code>| {
        let code = comes_and_goes(cache, 7);
        // Its record goes a moment after its code.
        wait_until("nothing is left but names", || {
            let s = cache.statistics();
            s.methods_known == 0 && s.generations_recycled == 1
        });
        let symbol = cache.symbol_at((code + 2) as *const ());
        symbol.map(|s| s.to_string())
    };
    let bookkeeping = |cache: &Cache<Code>| cache.statistics().bytes.bookkeeping;

    let cache = build(None);
    assert_eq!(name_in(&cache), None);
    wait_until("nothing is charged", || bookkeeping(&cache) == 0);

    let cache = build(Some(Quarantine {
        bytes: u64::MAX,
        time: Duration::MAX,
    }));
    assert_eq!(name_in(&cache).as_deref(), Some("Leaf 7 + 2"));
    // What was forgotten is charged until the reclaimer drops it; names stay.
    let forgotten = bookkeeping(&cache);
    std::thread::sleep(Duration::from_millis(200));
    assert!((1..=forgotten).contains(&bookkeeping(&cache)));
}
