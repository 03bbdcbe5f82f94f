//! Waiting for a time.

use std::time::{Duration, Instant};

use inkpot::Error;

use crate::support::leaf;
use crate::{Plugged, bad};

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    let me = cache.participant("test");
    let mut guard = me.pin();
    let patience = Duration::from_millis(50);
    let started = Instant::now();
    let error = leaf(&cache, 1)
        .get_timeout(&mut guard, patience)
        .unwrap_err();
    let took = started.elapsed();
    assert!(took >= patience, "{took:?}");
    match error {
        Error::TimedOut {
            method,
            patience: told,
        } => assert_eq!((method.as_str(), told), ("Leaf 1", patience)),
        other => panic!("{other:?}"),
    }
    // Without any patience at all, and with more than the clock has.
    let none = leaf(&cache, 1).get_timeout(&mut guard, Duration::ZERO);
    assert!(matches!(none.map(|_| ()), Err(Error::TimedOut { .. })));
    plugged.gate.open();
    for n in [1, 2] {
        let entry = leaf(&cache, n)
            .get_timeout(&mut guard, Duration::MAX)
            .unwrap();
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.call(1) }, 1 + i64::from(n));
    }
    // What is there is there at once.
    let entry = leaf(&cache, 1)
        .get_timeout(&mut guard, Duration::ZERO)
        .unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { entry.call(1) }, 2);
}

#[test]
fn a_failure_in_time_is_told() {
    let (_, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    let me = cache.participant("test");
    let handle = crate::support::synthetic::method(&cache, bad(1));
    let mut guard = me.pin();
    let error = handle.get_timeout(&mut guard, Duration::from_secs(60));
    assert!(matches!(error.map(|_| ()), Err(Error::Codegen { .. })));
}
