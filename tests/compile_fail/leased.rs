//! An entry of a lease lives no longer than the lease.
use inkpot::{Lease, Participant};

type Unary = unsafe extern "C" fn(i64) -> i64;

fn call(lease: Lease<Unary>, me: &Participant) -> i64 {
    let guard = me.pin();
    let entry = lease.entry(&guard);
    drop(lease);
    // SAFETY: there is none.
    unsafe { entry.call(1) }
}

fn main() {
    let _ = call;
}
