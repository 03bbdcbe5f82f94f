//! What tests of holds share: they see to it that all is gone but what is held.

use inkpot::{Cache, Guard, Participant};

use super::synthetic::{Code, How, method};
use super::wait_until;

/// A method that calls the host.
pub const HOST: Code = Code::new(4, How::Host).framed();
/// What methods are called with.
pub const X: i64 = 1000;

/// Compiles methods, and leaves nothing of them on the stack.
#[inline(never)]
pub fn resident(cache: &Cache<Code>, guard: &mut Guard<'_>, codes: &[Code]) {
    /// In frames that end before the stack is cleared.
    #[inline(never)]
    fn compile(cache: &Cache<Code>, guard: &mut Guard<'_>, codes: &[Code]) {
        for &code in codes {
            method(cache, code).get(guard).unwrap();
        }
    }
    compile(cache, guard, codes);
    scrub();
}

/// Clears what calls that have ended left on the stack: a scan from frames that come to lie there,
/// and do not fill every word of theirs, would find it.
#[inline(never)]
pub fn scrub() {
    std::hint::black_box([0u64; 8192]);
}

/// Has a method compiled and evicts it; waits until it is gone, and with it whatever else could go.
/// Then so many generations are held. `meanwhile` is done again and again.
#[track_caller]
pub fn churn_while(cache: &Cache<Code>, held: u64, mut meanwhile: impl FnMut()) {
    // Not looked up: its address does not come to lie on this stack.
    let control = Code::leaf(4711);
    let recycled = cache.statistics().generations_recycled;
    method(cache, control).request().unwrap();
    wait_until("it is compiled", || cache.is_resident(&control));
    cache.seal();
    cache.evict(&control);
    scrub();
    wait_until("all but what is held is recycled", || {
        meanwhile();
        let now = cache.statistics();
        let fallow = now.generations_open + now.generations_dead + now.generations_fallow;
        now.generations_recycled > recycled && fallow == held && now.generations_held == held
    });
}

/// The same, with safepoints of this participant's.
#[track_caller]
pub fn churn_until_gone(cache: &Cache<Code>, me: &Participant, held: u64) {
    // SAFETY: in these tests what is used afterwards is on the stack.
    churn_while(cache, held, || unsafe { me.safepoint() });
}
