//! A few figures in nanoseconds, for people: `cargo bench --bench people`. What is held to is in `ratios`.

#[path = "../ratios/methods.rs"]
#[allow(dead_code, reason = "ratios use more of it")]
mod methods;

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use methods::{Bursts, Name, Size};

/// What one thread does all the time: a call by a handle under a held guard; a pin and its end; a re-pin, with nothing to do.
fn call(c: &mut Criterion) {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let cache = methods::builder(&EMITTING).build().expect("a cache");
    let size = Size::Tiny;
    let handle = methods::handle(&cache, Name { size, number: 1 });
    let me = cache.participant("calls");
    let mut guard = me.pin();
    handle.get(&mut guard).expect("it compiles");
    c.bench_function("call", |b| {
        b.iter(|| {
            let entry = handle.entry(&guard).expect("it is resident");
            // SAFETY: the type is right; a tiny method does not look at its object.
            unsafe { entry.call(std::ptr::null_mut(), black_box(1)) }
        });
    });
    c.bench_function("repin", |b| b.iter(|| black_box(&mut guard).repin()));
    drop(guard);
    c.bench_function("pin", |b| b.iter(|| drop(black_box(&me).pin())));
}

/// Methods of 700 bytes at O1: one, and sixty-four together.
fn compile(c: &mut Criterion) {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let mut group = c.benchmark_group("compile");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for batch in [1, 64] {
        let cache = methods::builder(&EMITTING).build().expect("a cache");
        let mut bursts = Bursts::new(cache, Size::Medium, batch);
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("{batch} together"), |b| {
            b.iter_custom(|times| {
                (0..times)
                    .map(|_| Duration::from_secs_f64(bursts.run()))
                    .sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, call, compile);
criterion_main!(benches);
