//! Who goes first.

use std::time::Duration;

use crate::support::leaf;
use crate::support::synthetic::Code;
use crate::support::wait_until;
use crate::{Plugged, at_rest};

#[test]
fn what_is_waited_for_goes_first_and_hot_before_cold() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.batch_limit(1).build().unwrap();
    plugged.plug(&cache);
    let handles: Vec<_> = (0..6).map(|n| leaf(&cache, n)).collect();
    handles.iter().for_each(|handle| handle.request().unwrap());
    (0..2).for_each(|_| handles[4].request().unwrap());
    (0..9).for_each(|_| handles[3].request().unwrap());
    std::thread::scope(|threads| {
        // One that is queued already, and one that is not.
        for n in [5, 7] {
            let cache = &cache;
            threads.spawn(move || {
                let me = cache.participant("waits");
                leaf(cache, n).get(&mut me.pin()).map(|_| ()).unwrap();
            });
            wait_until("it waits", || {
                cache.statistics().misses == u64::from(n / 2 - 1)
            });
            std::thread::sleep(Duration::from_millis(30));
        }
        plugged.gate.open();
    });
    at_rest(&cache, 8);
    assert_eq!(plugged.emitted(), [5, 7, 3, 4, 0, 1, 2]);
}

/// Somebody waits for one thing after the other, all the time.
#[test]
fn a_wish_does_not_wait_for_ever() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.batch_limit(1).build().unwrap();
    plugged.plug(&cache);
    leaf(&cache, 1).request().unwrap();
    std::thread::scope(|threads| {
        // Two, so that there is always one in the queue when the worker looks.
        for thread in 0..4 {
            let cache = &cache;
            threads.spawn(move || {
                let me = cache.participant("waits");
                for n in 0..1000 {
                    leaf(cache, 1000 + thread * 1000 + n)
                        .get(&mut me.pin())
                        .map(|_| ())
                        .unwrap();
                    if cache.is_resident(&Code::leaf(1)) {
                        return;
                    }
                }
            });
        }
        wait_until("all wait", || cache.statistics().queued == 5);
        plugged.gate.open();
    });
    let emitted = plugged.emitted();
    let place = emitted.iter().position(|&n| n == 1).unwrap();
    assert!(place <= 8, "{place}");
}
