//! Moving methods for ever takes no memory. Alone in its process, as the allocator is asked.

mod support;

use inkpot::{Cache, Reclaimer};
use support::synthetic::{Code, How, Synthetic, Unary};
use support::wait_until;

/// Some of everything that a synthetic method can be.
fn any(n: u32) -> Code {
    let code = match n % 5 {
        0 => Code::leaf(n),
        1 => Code::leaf(n).framed(),
        2 => Code::new(n, How::Call).framed(),
        3 => Code::new(n, How::CallAddress),
        _ => Code::new(n, How::Host).framed(),
    };
    code.padded(400 + (n % 7 * 90) as u16)
}

/// Bytes that the allocator has given out.
fn heap() -> usize {
    // SAFETY: reads the allocator's own figures.
    unsafe { libc::mallinfo2().uordblks }
}

/// In each round three methods of four are evicted and compiled again, and the fourth moves.
#[test]
fn moving_for_ever_takes_no_memory() {
    const METHODS: u32 = 1000;
    const ROUNDS: usize = if cfg!(debug_assertions) { 60 } else { 400 };
    let cache = Cache::with_backend(Synthetic::default())
        .reclaimer(Reclaimer::Manual)
        .evacuate(false) // but by hand
        .build()
        .unwrap();
    let keys: Vec<Code> = (0..METHODS).map(any).collect();
    let handles: Vec<_> = keys
        .iter()
        // SAFETY: all methods here are of this type.
        .map(|key| unsafe { cache.method::<Unary>(key) }.unwrap())
        .collect();
    let mut settled = (0, 0);
    for round in 0..ROUNDS {
        for handle in &handles {
            handle.request().unwrap();
        }
        wait_until("all are compiled", || {
            cache.statistics().methods_resident >= u64::from(METHODS)
        });
        cache.seal();
        for (i, key) in keys.iter().enumerate() {
            if (i + round) % 4 != 0 {
                assert!(cache.evict(key));
            }
        }
        while cache.evacuate() > 0 {}
        wait_until("all that is dead is freed", || !cache.maintain());
        if round == ROUNDS / 3 {
            settled = (heap(), cache.statistics().moves);
        }
    }
    let moves = cache.statistics().moves - settled.1;
    assert!(moves > 5000, "{moves}");
    let grown = heap().saturating_sub(settled.0) as u64;
    assert!(grown < 8 * moves, "{grown} bytes in {moves} moves");
}
