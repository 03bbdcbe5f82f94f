//! Keys whose own code panics: it costs the call that ran into it, and nothing else.

mod support;

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use inkpot::{BoxError, Cache, Error, Frontend, Handle, Unit};
use support::{Unary, wait_until};

/// What panics on this thread now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Clone,
    Hash,
    Eq,
}

thread_local! {
    static TROUBLE: Cell<Option<Trouble>> = const { Cell::new(None) };
}

fn trouble(now: Trouble) {
    if TROUBLE.get() == Some(now) {
        // Without the message that a panic prints.
        std::panic::resume_unwind(Box::new("a panic on purpose"));
    }
}

/// Runs `f` with what panics, and says whether it did.
fn panics<R>(what: Trouble, f: impl FnOnce() -> R) -> bool {
    TROUBLE.set(Some(what));
    let outcome = catch_unwind(AssertUnwindSafe(f));
    TROUBLE.set(None);
    outcome.is_err()
}

#[derive(Debug)]
struct Touchy(u32);

impl Clone for Touchy {
    fn clone(&self) -> Self {
        trouble(Trouble::Clone);
        Self(self.0)
    }
}

impl Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        trouble(Trouble::Hash);
        self.0.hash(state);
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        trouble(Trouble::Eq);
        self.0 == other.0
    }
}

impl Eq for Touchy {}

/// Method n adds n.
struct Adders;

impl Frontend for Adders {
    type Key = Touchy;

    fn emit<'ctx>(&self, key: &Touchy, unit: &mut Unit<'_, 'ctx, Touchy>) -> Result<(), BoxError> {
        let long = unit.context().i64_type();
        let function = unit.define(long.fn_type(&[long.into()], false));
        let build = unit.context().create_builder();
        build.position_at_end(unit.context().append_basic_block(function, "entry"));
        let x = function.get_first_param().ok_or("x")?.into_int_value();
        let sum = build.build_int_add(x, long.const_int(key.0.into(), false), "sum")?;
        build.build_return(Some(&sum))?;
        Ok(())
    }
}

fn method(cache: &Cache<Touchy>, n: u32) -> Result<Handle<Touchy, Unary>, Error> {
    // SAFETY: `Adders` emits every key with this type.
    unsafe { cache.method(&Touchy(n)) }
}

/// The table of methods grows several times meanwhile, and shrinks again.
#[test]
fn a_key_that_panics_leaves_the_table_as_it_was() {
    const MANY: u32 = 3_000;
    let cache = Cache::builder(Adders).build().unwrap();
    let mapped = cache.statistics().mapped;
    let mut handles = Vec::new();
    for n in 0..MANY {
        assert!(panics(Trouble::Clone, || method(&cache, n)));
        assert!(panics(Trouble::Hash, || method(&cache, n)));
        assert_eq!(cache.statistics().methods_known, u64::from(n));
        handles.push(method(&cache, n).unwrap());
        // Now it is there: it is compared, and not copied.
        assert!(panics(Trouble::Eq, || method(&cache, n)));
        assert!(!panics(Trouble::Clone, || method(&cache, n)));
    }
    // A cell lost by each panic would be more than the first chunk of cells has.
    assert_eq!(cache.statistics().mapped, mapped);
    let me = cache.participant("test");
    for n in (0..MANY).step_by(500) {
        let found = method(&cache, n).unwrap();
        assert_eq!(found.address(), handles[n as usize].address());
        // SAFETY: the type is right.
        assert_eq!(
            // SAFETY: the type is right.
            unsafe { found.get(&mut me.pin()).unwrap().call(1) },
            i64::from(n) + 1
        );
    }
}

/// A record goes with its last handle, which may be dropped while a panic unwinds: another one would
/// end the process.
#[test]
fn to_drop_a_handle_asks_nothing_of_its_key() {
    let cache = Cache::builder(Adders).build().unwrap();
    for trouble in [Trouble::Clone, Trouble::Hash, Trouble::Eq] {
        let handles: Vec<_> = (0..1_000).map(|n| method(&cache, n).unwrap()).collect();
        assert!(!panics(trouble, || drop(handles)));
        wait_until("all records are gone", || {
            cache.statistics().methods_known == 0
        });
    }
}

/// A key whose copies cannot be dropped without a panic.
#[derive(Debug)]
struct Grumpy {
    number: u32,
    is_copy: bool,
}

impl Clone for Grumpy {
    fn clone(&self) -> Self {
        Self {
            is_copy: true,
            ..*self
        }
    }
}

impl Hash for Grumpy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl PartialEq for Grumpy {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Grumpy {}

impl Drop for Grumpy {
    fn drop(&mut self) {
        if self.is_copy {
            std::panic::resume_unwind(Box::new(Spite));
        }
    }
}

/// What it panics with panics again.
struct Spite;

impl Drop for Spite {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("a panic on purpose"));
    }
}

/// Method n calls method n + 1, the last none.
struct Callers(u32);

impl Frontend for Callers {
    type Key = Grumpy;

    fn emit<'ctx>(&self, key: &Grumpy, unit: &mut Unit<'_, 'ctx, Grumpy>) -> Result<(), BoxError> {
        let long = unit.context().i64_type();
        let of_method = long.fn_type(&[long.into()], false);
        let function = unit.define(of_method);
        let build = unit.context().create_builder();
        build.position_at_end(unit.context().append_basic_block(function, "entry"));
        let mut x = function.get_first_param().ok_or("x")?.into_int_value();
        if key.number + 1 < self.0 {
            let next = Grumpy {
                number: key.number + 1,
                is_copy: false,
            };
            let next = unit.callee(&next, of_method);
            let call = build.build_call(next, &[x.into()], "next")?;
            x = call.try_as_basic_value().unwrap_basic().into_int_value();
        }
        let sum = build.build_int_add(x, long.const_int(1, false), "sum")?;
        build.build_return(Some(&sum))?;
        Ok(())
    }
}

/// Two panics at once end the process: so whatever lets go of many keys does so one by one.
#[test]
fn keys_that_panic_when_they_go_end_nothing() {
    const MANY: u32 = 40;
    let key = |number| Grumpy {
        number,
        is_copy: false,
    };
    let cache = Cache::builder(Callers(MANY)).build().unwrap();
    let me = cache.participant("test");
    for round in 0..3 {
        let mut guard = me.pin();
        for number in (0..MANY).rev() {
            // SAFETY: `Callers` emits every key with this type.
            let handle = unsafe { cache.method::<Unary>(&key(number)) }.unwrap();
            // SAFETY: the type is right.
            let sum = unsafe { handle.get(&mut guard).unwrap().call(0) };
            assert_eq!(sum, i64::from(MANY - number));
            // The record stays with its code.
            drop(handle);
        }
        drop(guard);
        if round == 2 {
            break; // what is resident goes with the cache
        }
        cache.evict_all();
        cache.seal();
        wait_until("all records are gone", || {
            cache.statistics().methods_known == 0
        });
    }
    drop(me);
    drop(cache);
}

#[test]
fn a_key_that_panics_in_a_look_up_for_code() {
    let cache = Cache::builder(Adders).build().unwrap();
    let me = cache.participant("test");
    let handles: Vec<_> = (0..100).map(|n| method(&cache, n).unwrap()).collect();
    handles[7].get(&mut me.pin()).map(drop).unwrap();
    let guard = me.pin();
    // SAFETY: `Adders` emits every key with this type, and keys call nothing.
    let entry = || unsafe { cache.entry::<Unary>(&Touchy(7), &guard) };
    for _ in 0..10 {
        assert!(panics(Trouble::Hash, entry));
        assert!(panics(Trouble::Eq, entry));
        assert!(!panics(Trouble::Clone, entry));
        let entry = entry().expect("it is resident");
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.call(1) }, 8);
    }
}
