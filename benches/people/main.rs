//! A few figures in nanoseconds, for people: `cargo bench --bench people`. What is held to is in `ratios`.

#[path = "../ratios/many.rs"]
#[allow(dead_code, reason = "ratios use more of it")]
mod many;
#[path = "../ratios/methods.rs"]
#[allow(dead_code, reason = "ratios use more of it")]
mod methods;
#[path = "../ratios/peers.rs"]
#[allow(dead_code, reason = "ratios use more of it")]
mod peers;

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use many::{FEW, Often, Unary};
use methods::{Bursts, Size};
use peers::{Ours, PEERS, Table, peer};

/// One method, again and again: by a handle under a held guard.
fn call(c: &mut Criterion) {
    let cache = many::cache_of(FEW);
    let me = cache.participant("calls");
    let guard = me.pin();
    // SAFETY: all methods have this type.
    let handle = unsafe { cache.method::<Unary>(&7) }.expect("there are cells");
    c.bench_function("call", |b| {
        b.iter(|| {
            let entry = handle.entry(&guard).expect("it is resident");
            // SAFETY: the type is right, and the method takes any number.
            unsafe { entry.call(black_box(1)) }
        });
    });
}

/// A pin and its end; and a re-pin, with nothing to do.
fn pin(c: &mut Criterion) {
    let cache = many::cache_of(FEW);
    let me = cache.participant("pins");
    c.bench_function("pin", |b| b.iter(|| drop(black_box(&me).pin())));
    let mut guard = me.pin();
    c.bench_function("repin", |b| b.iter(|| black_box(&mut guard).repin()));
}

/// From keys to code: a thousand methods, all equally often.
fn lookup(c: &mut Criterion) {
    const KEYS: usize = 10_000;
    let cache = many::cache_of(FEW);
    let me = cache.participant("looks up");
    let entries = many::entries(cache, &me, FEW);
    let keys = many::keys(Often::Uniform, FEW, KEYS);
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(KEYS as u64));
    let ours = Ours::new(cache, &me);
    group.bench_function(ours.name(), |b| b.iter(|| ours.look_up(black_box(&keys))));
    for name in PEERS {
        let table = peer(name, &entries);
        group.bench_function(name, |b| b.iter(|| table.look_up(black_box(&keys))));
    }
    group.finish();
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

criterion_group!(benches, call, pin, lookup, compile);
criterion_main!(benches);
