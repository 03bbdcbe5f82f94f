//! The guest (`--guest`): one more thread, which calls one method at the beginning and stays in it
//! to the end, while the others come and go. What it is inside of must stay; all else must not wait
//! for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inkpot::inkwell::values::BasicValue;
use inkpot::inkwell::{AddressSpace, AtomicOrdering, IntPredicate};
use inkpot::{Cache, Handle, Participant, Unit};

use crate::fibre::Fibre;
use crate::options::Guest;
use crate::prelude;
use crate::runtime::{MethodFn, Thread, Value};
use crate::strategy::Fallible;
use crate::world::{GUEST, Key};

/// Fibres that are suspended in methods.
const FIBRES: u32 = 100;
/// Between two safepoints, and between two looks whether the run is over.
const REST: Duration = Duration::from_millis(1);

/// What a method of the guest's calls again and again until it says no.
type Turn<'a> = &'a mut dyn FnMut() -> bool;

/// The function that these methods call, by name and address.
pub const IMPORT: (&str, *const ()) = ("vm_guest", vm_guest as *const ());

extern "C" fn vm_guest(turn: *mut Turn<'_>) -> i64 {
    // SAFETY: `stay_in` passes this address to the method, which it calls while the turn lives.
    let turn = unsafe { &mut *turn };
    i64::from(turn())
}

/// A method that calls its turn for as long as it is to (part 0), or one that makes no calls and
/// looks at a flag (part 1). The address of either is its first value; it returns what
/// [`expected`] says.
pub fn emit(seed: u64, key: &Key, unit: &mut Unit<'_, '_, Key>) -> Fallible<()> {
    let context = unit.context();
    let (long, byte) = (context.i64_type(), context.i8_type());
    let pointer = context.ptr_type(AddressSpace::default());
    let function = unit.define(prelude::method_type(context));
    let turn = unit.import(IMPORT.0, long.fn_type(&[pointer.into()], false));
    let builder = context.create_builder();
    let [entry, again, out] =
        ["entry", "again", "out"].map(|name| context.append_basic_block(function, name));
    builder.position_at_end(entry);
    let value = |n| function.get_nth_param(n).ok_or("two values");
    let at = value(1)?.into_int_value();
    let at = builder.build_int_to_ptr(at, pointer, "at")?;
    builder.build_unconditional_branch(again)?;
    builder.position_at_end(again);
    let more = if key.part == 0 {
        let more = builder.build_call(turn, &[at.into()], "more")?;
        let more = more.try_as_basic_value().basic();
        let more = more.ok_or("a number")?.into_int_value();
        builder.build_int_compare(IntPredicate::NE, more, long.const_zero(), "")?
    } else {
        let flag = builder.build_load(byte, at, "flag")?;
        let load = flag.as_instruction_value().ok_or("a load")?;
        load.set_atomic_ordering(AtomicOrdering::Monotonic)?;
        let flag = flag.into_int_value();
        builder.build_int_compare(IntPredicate::EQ, flag, byte.const_zero(), "")?
    };
    builder.build_conditional_branch(more, again, out)?;
    builder.position_at_end(out);
    let mark = long.const_int(key.mark(seed), false);
    let result = builder.build_xor(value(2)?.into_int_value(), mark, "result")?;
    builder.build_return(Some(&result))?;
    Ok(())
}

/// What a method of the guest's returns.
fn expected(seed: u64, key: &Key, right: Value) -> Value {
    right ^ key.mark(seed) as i64
}

/// A guest's thread: what it needs to be one.
pub struct Stay<'a> {
    pub cache: &'a Cache<Key>,
    pub seed: u64,
    /// Says that the run is over.
    pub stop: &'a AtomicBool,
}

impl Stay<'_> {
    /// Stays inside until the run is over. Returns how many results were wrong.
    pub fn stay(&self, guest: Guest) -> Fallible<u64> {
        let me = self.cache.participant("guest");
        match guest {
            Guest::None => Ok(0),
            Guest::Safepoint => self.stay_in(&me, &mut || {
                std::thread::sleep(REST);
                // SAFETY: nothing was loaded but the method that is being called.
                unsafe { me.safepoint() };
                !self.is_over()
            }),
            Guest::Blocking => self.stay_in(&me, &mut || {
                // SAFETY: as above; the wait loads nothing, and returns.
                unsafe { me.blocking(|| self.wait()) };
                false
            }),
            Guest::Poll => {
                let flag = std::ptr::from_ref(self.stop).expose_provenance();
                self.call(&me, &key(1, 0), flag)
            }
            Guest::Fibres => self.stay_in_fibres(&me),
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn wait(&self) {
        while !self.is_over() {
            std::thread::sleep(REST);
        }
    }

    fn handle(&self, key: &Key) -> Fallible<Handle<Key, MethodFn>> {
        // SAFETY: `emit` gives all of its methods this type.
        Ok(unsafe { self.cache.method(key) }?)
    }

    fn stay_in(&self, me: &Participant, turn: Turn<'_>) -> Fallible<u64> {
        let mut turn = turn;
        let turn = std::ptr::from_mut(&mut turn).expose_provenance();
        self.call(me, &key(0, 0), turn)
    }

    fn call(&self, me: &Participant, key: &Key, left: usize) -> Fallible<u64> {
        const RIGHT: Value = 0x1234_5678_9abc;
        let handle = self.handle(key)?;
        let mut guard = me.pin();
        let entry = handle.get(&mut guard)?;
        let mut thread = Thread::NEW;
        // SAFETY: the address is of what this method uses, which outlives the call.
        let result = unsafe { entry.call(&mut thread, left as Value, RIGHT) };
        Ok(u64::from(result != expected(self.seed, key, RIGHT)))
    }

    /// Stacks that are suspended in methods, each in one of its own, while the thread is not even
    /// pinned.
    fn stay_in_fibres(&self, me: &Participant) -> Fallible<u64> {
        let keys: Vec<Key> = (0..FIBRES).map(|n| key(0, n)).collect();
        let handles = keys.iter().map(|key| self.handle(key));
        let handles: Vec<_> = handles.collect::<Fallible<_>>()?;
        for handle in &handles {
            handle.request()?; // together, so that they are compiled together
        }
        let mut fibres = Vec::new();
        for (n, handle) in (0..).zip(&handles) {
            let mut guard = me.pin();
            let entry = handle.get(&mut guard)?;
            // SAFETY: called at once, on this thread, which stays pinned until then.
            let code = unsafe { entry.pointer() };
            let mut fibre = Fibre::new(move |inside| {
                let mut turn: Turn<'_> = &mut || {
                    inside.pause();
                    false
                };
                let turn = std::ptr::from_mut(&mut turn).expose_provenance();
                // SAFETY: the turn outlives the call. Who resumes the fibre is pinned, and its hold
                // keeps the code meanwhile.
                unsafe { code(&mut { Thread::NEW }, turn as Value, n) }
            });
            if fibre.resume(me).is_some() {
                return Err("a fibre ended before it was suspended".into());
            }
            fibres.push(fibre);
        }
        self.wait();
        let _guard = me.pin();
        let results = fibres.iter_mut().map(|fibre| fibre.resume(me));
        let right = (0..).zip(&keys).map(|(n, key)| expected(self.seed, key, n));
        Ok(results.zip(right).filter(|&(y, e)| y != Some(e)).count() as u64)
    }
}

fn key(part: u8, version: u32) -> Key {
    Key {
        family: GUEST,
        version,
        part,
    }
}
