//! Time by the number of dependents, and of assumptions: by ratios with wide margins, since others use the
//! machine too.

use std::time::{Duration, Instant};

use crate::{compile, many, relying, relying_on_one};

/// The best of three.
fn best(mut measure: impl FnMut() -> Duration) -> Duration {
    (0..3).map(|_| measure()).min().expect("three")
}

#[test]
fn time_is_linear_in_the_dependents() {
    let time = |n: u32| {
        let (cache, a) = relying_on_one();
        best(|| {
            compile(&cache, 0..n);
            let began = Instant::now();
            drop(a.invalidate());
            began.elapsed()
        })
    };
    let (few, many) = (time(2_000), time(20_000));
    assert!(many < 40 * few, "2,000 in {few:?}, 20,000 in {many:?}");
}

#[test]
fn time_is_linear_in_the_assumptions_of_a_method() {
    let time = |n: usize| {
        let all = many(n);
        let of = all.clone();
        let cache = relying(move |_| of.to_vec()).build().unwrap();
        best(|| {
            compile(&cache, [1]);
            let began = Instant::now();
            drop(all[n / 2].invalidate());
            began.elapsed()
        })
    };
    let (few, many) = (time(1_000), time(10_000));
    assert!(many < 60 * few, "1,000 in {few:?}, 10,000 in {many:?}");
}
