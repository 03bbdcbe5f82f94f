//! What is compiled together, and the trait of what compiles it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::source::{Bitcode, Source};
use super::supplies::{How, Supplies};
use super::symbols::{POLL_FLAG, POLL_SAFEPOINT, address_symbol, cell_symbol, symbol_of};
use crate::error::Error;
use crate::generation::Context;
use crate::invalidate::{Assumed, Assumption, Bond};
use crate::method::{Fallback, Key, Method};

/// Turns keys into object bytes. Implemented for LLVM by every [`Frontend`](crate::Frontend);
/// implement it yourself for code that does not come from LLVM.
///
/// # The contract
/// - `compile` is called on compile workers (or threads that [compile](crate::Cache::compile_some) in their
///   stead), from several at once if the cache has several, each
///   with a context of its own.
/// - The object is a relocatable ELF file for this machine. Method *i* is the function symbol
///   [`Batch::symbol`] in a text section.
/// - It calls other methods by a load of their cell right before the call
///   ([`Callee::cell`]), and takes their address as [`Callee::address`]. Both are symbols to be
///   left undefined.
/// - A method into whose code or data addresses get about, other than its own, is announced by
///   [`Batch::stays`].
/// - A method that cannot be compiled is taken out by [`Batch::fail`]; the rest must go on. An
///   `Err` says that nobody knows whose fault it was: the batch is then tried again in halves,
///   down to the guilty one. A panic counts as an `Err`, and costs the context too.
pub trait Backend<K: Key>: Send + Sync + 'static {
    /// What a generation keeps for its batches; `()` if nothing.
    type Context: Send + 'static;

    /// Opens a context. Returns it with the bytes of memory that it takes.
    ///
    /// Called off the compile path: on the reclaimer's thread, or by
    /// [`Cache::maintain`](crate::Cache::maintain).
    fn open(&self) -> Result<(Self::Context, u64), Error>;

    /// Compiles the batch into one object.
    fn compile(
        &self,
        context: &mut Self::Context,
        batch: &mut Batch<'_, K>,
    ) -> Result<Vec<u8>, Error>;

    /// The address of a symbol that the object left undefined, and that is neither a method's,
    /// nor imported in the builder, nor of the runtime library. Called by compile workers.
    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        let _ = symbol;
        None
    }

    /// Methods of one group are expected to die together: see [`Frontend::group`](crate::Frontend::group).
    fn group(&self, key: &K) -> u64 {
        let _ = key;
        0
    }

    /// Where calls of a method go while it has no code: see
    /// [`Frontend::fallback`](crate::Frontend::fallback).
    fn fallback(&self, key: &K) -> Fallback {
        let _ = key;
        Fallback::default()
    }
}

/// The symbols under which code refers to another method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callee {
    /// A pointer-sized variable: the entry to call now. Load it (atomically, monotonic) right
    /// before every call: it changes while the code runs. Always within 2 GiB of the code.
    pub cell: String,
    /// The method's canonical address: for every use that is not a call.
    pub address: String,
}

/// The symbols by which code asks whether it should come to a safepoint: to be left undefined, and
/// always within 2 GiB of the code. A poll on each way round a loop, and at the entry of each
/// function, lets the reclaimer get a safepoint from code that makes no calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// A variable of four bytes, aligned. Load it (atomically, monotonic) at each poll: if it is not
    /// 0, call `safepoint`.
    pub flag: String,
    /// A function without parameters and result, that does not unwind. It keeps all registers but
    /// r11 and the flags (LLVM's `preserve_allcc` is that, or less), and needs no alignment of the
    /// stack. As with any call, what lies below the stack pointer is lost. Addresses of code that is
    /// called afterwards, and of constants that are used, are in registers or on the stack.
    pub safepoint: String,
}

/// Methods that are compiled together, into one object.
pub struct Batch<'b, K: Key> {
    pub(crate) methods: &'b [Arc<Method<K>>],
    pub(crate) failed: Vec<Option<Error>>,
    /// Methods that are to be compiled otherwise than this batch.
    pub(crate) otherwise: Vec<Option<How>>,
    /// Methods that nobody wanted any more when they were looked at.
    pub(crate) unwanted: Vec<bool>,
    /// The version of each whose emission has begun, as it was then.
    pub(crate) versions: Vec<Option<u64>>,
    pub(crate) how: How,
    /// The IR that was kept of methods, which is used instead of asking the front end.
    pub(crate) sources: Vec<Option<Source<K>>>,
    /// The IR that is to be kept of methods.
    pub(crate) kept: Vec<Option<Source<K>>>,
    pub(crate) supplies: &'b Supplies<'b, K>,
    pub(crate) callees: Vec<Arc<Method<K>>>,
    /// Of which the code takes the canonical address: if it is linked, they stay for good.
    pub(crate) addressed: Vec<Arc<Method<K>>>,
    /// What each method relies on.
    pub(crate) assumed: Vec<Vec<Bond>>,
    /// Whether all methods that were emitted went through LLVM's passes before.
    pub(crate) optimised: bool,
    /// Methods that nobody had mentioned before the batch did.
    pub(crate) made: usize,
    /// Pieces of heap that kept IR takes, which is charged as such.
    pub(crate) kept_pieces: Vec<usize>,
    /// What the context grew by; below zero if it shrank, or was charged too much before.
    pub(crate) context_bytes: i64,
    pub(crate) phases: Phases,
}

/// Time spent in each phase of compilation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Phases {
    /// The front end, and the verifier.
    pub(crate) emit: Duration,
    pub(crate) optimise: Duration,
    pub(crate) generate: Duration,
}

impl<'b, K: Key> Batch<'b, K> {
    pub(crate) fn new(
        methods: &'b [Arc<Method<K>>],
        sources: Vec<Option<Source<K>>>,
        supplies: &'b Supplies<'b, K>,
        how: How,
    ) -> Self {
        Self {
            optimised: false,
            methods,
            failed: methods.iter().map(|_| None).collect(),
            otherwise: vec![None; methods.len()],
            unwanted: vec![false; methods.len()],
            versions: vec![None; methods.len()],
            how,
            sources,
            kept: methods.iter().map(|_| None).collect(),
            supplies,
            callees: Vec::new(),
            addressed: Vec::new(),
            assumed: vec![Vec::new(); methods.len()],
            made: 0,
            kept_pieces: Vec::new(),
            context_bytes: 0,
            phases: Phases::default(),
        }
    }

    /// Number of methods.
    pub fn len(&self) -> usize {
        self.methods.len()
    }

    /// Never true: a batch has at least one method.
    pub fn is_empty(&self) -> bool {
        self.methods.is_empty()
    }

    /// The key of method `i`.
    pub fn key(&self, i: usize) -> &'b K {
        &self.methods[i].key
    }

    /// The symbol that method `i` must be defined as.
    pub fn symbol(&self, i: usize) -> String {
        symbol_of(&self.methods[i])
    }

    /// The symbols of another method (or of one of these). It stays callable as long as the
    /// batch's code does, whether it has code of its own or not.
    pub fn callee(&mut self, key: &K) -> Result<Callee, Error> {
        let method = self.intern(key)?;
        let callee = Callee {
            cell: cell_symbol(&method),
            address: address_symbol(&method),
        };
        self.callees.push(method);
        Ok(callee)
    }

    /// The code takes the canonical address of this method: once it is linked, the method's cell and
    /// thunk stay until the cache ends. To be called for every [`Callee::address`] used.
    pub fn takes_address(&mut self, key: &K) -> Result<(), Error> {
        let method = self.intern(key)?;
        self.addressed.push(method);
        Ok(())
    }

    /// The symbols of a poll, if the code is to [poll](crate::Builder::polls).
    pub fn poll(&self) -> Option<Poll> {
        self.supplies.polls.then(|| Poll {
            flag: POLL_FLAG.to_owned(),
            safepoint: POLL_SAFEPOINT.to_owned(),
        })
    }

    fn intern(&mut self, key: &K) -> Result<Arc<Method<K>>, Error> {
        let table = self.supplies.table;
        if let Some(known) = table.find(key) {
            return Ok(known);
        }
        self.made += 1;
        table.intern(key)
    }

    /// Method `i` failed, and has no part in the object.
    pub fn fail(&mut self, i: usize, error: Error) {
        self.failed[i] = Some(error);
    }

    /// What has a part in the object has none.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        for i in 0..self.len() {
            if !self.has_failed(i) {
                self.fail(i, error.clone());
            }
        }
    }

    /// Whether method `i` has no part in the object: it has failed, or is to be compiled otherwise (as it stays while
    /// others do not, say), or is not [wanted](Batch::is_wanted).
    pub fn has_failed(&self, i: usize) -> bool {
        self.failed[i].is_some() || self.otherwise[i].is_some() || self.unwanted[i]
    }

    /// The [tier](crate::Tier) that the batch is compiled for, counted from 0. A cache of a backend's own has tiers too,
    /// if the builder was [told](crate::Builder::tiers): then methods come again when they are promoted.
    pub fn tier(&self) -> usize {
        self.how.tier.into()
    }

    /// Whether code of this batch may be promoted.
    pub(crate) fn is_promotable(&self) -> bool {
        !self.how.staying && self.how.tier < self.last_tier()
    }

    pub(crate) fn last_tier(&self) -> u8 {
        self.supplies.tiers - 1
    }

    /// Method `i` is to be compiled for the last tier at once: false if it is to be left out here. `as_it_is`: what was
    /// emitted for this tier is good for that one; then a method alone takes its batch along.
    pub(crate) fn is_for_the_last(&mut self, i: usize, as_it_is: bool) -> bool {
        if self.is_promotable() {
            let how = How {
                tier: self.last_tier(),
                ..self.how
            };
            if self.len() == 1 && as_it_is {
                self.how = how;
            } else {
                self.otherwise[i] = Some(how);
            }
        }
        self.otherwise[i].is_none()
    }

    /// Whether anybody wants method `i` still. False if all who waited for it have given up, or it was
    /// invalidated and nobody waits: then it is to be left out of the object as if it had failed, and
    /// nothing is told of it. To be asked before the method is compiled; the cache has asked for each
    /// before it called [`Backend::compile`]. Takes the method's lock, for some ten nanoseconds.
    #[must_use = "if it is false the method must be left out of the object"]
    pub fn is_wanted(&mut self, i: usize) -> bool {
        let method = &self.methods[i];
        let wanted = method.is_wanted(&method.lock());
        self.unwanted[i] |= !wanted;
        !self.unwanted[i]
    }

    /// As that, right before anything is looked at that the method is made of: an invalidation that came
    /// before is no reason to throw away what comes after.
    pub(crate) fn begin(&mut self, i: usize) -> bool {
        let method = &self.methods[i];
        let mut state = method.lock();
        if method.is_wanted(&state) {
            state.again = false;
            self.versions[i] = Some(state.version);
        } else {
            self.unwanted[i] = true;
        }
        !self.unwanted[i]
    }

    /// Method `i` relies on an assumption, as it is now: it is unlinked when that falls, and not published
    /// if it falls before. To be called before what the assumption is about is looked at.
    ///
    /// What is returned is for code that is to notice it from inside. Less than half a
    /// microsecond, publishing included.
    pub fn assume(&mut self, i: usize, assumption: &Assumption) -> Assumed {
        let (bond, assumed) = assumption.bind(self.supplies.relying);
        self.assumed[i].push(bond);
        assumed
    }

    /// Says that method `i` must stay, once compiled, for as long as the cache: addresses inside of its
    /// code, constants or data get about, such as those of labels. It is no victim of
    /// eviction then, and its memory is never reused; the statistics name it.
    ///
    /// Methods that stay are compiled in batches of their own. False in any other batch: then this
    /// method is to be left out as if it had failed, and comes again in such a one.
    #[must_use = "if it is false the method must be left out of the object"]
    pub fn stays(&mut self, i: usize) -> bool {
        if !self.how.staying {
            // Its code is never let go of, so it is good at once.
            self.otherwise[i] = Some(How {
                tier: self.last_tier(),
                staying: true,
                ..self.how
            });
        }
        self.how.staying
    }

    /// Keeps the IR of the methods that were emitted, as this bitcode is.
    pub(crate) fn keep(&mut self, bitcode: &[u8], wanted: &[Option<Wanted>]) {
        self.sort_callees();
        let callees = self.callees.clone();
        let bitcode = Arc::new(Bitcode::new(bitcode, callees, self.supplies.kept));
        self.kept_pieces.extend(bitcode.pieces());
        for (i, wanted) in wanted.iter().enumerate() {
            if let Some(wanted) = wanted.filter(|_| !self.has_failed(i)) {
                crate::invalidate::settle(&mut self.assumed[i]);
                self.kept[i] = Some(Source {
                    bitcode: bitcode.clone(),
                    bonds: self.assumed[i].as_slice().into(),
                    optimised: wanted.optimised,
                    inlinable: wanted.inlinable,
                });
            }
        }
    }

    /// The method with this cell, if the batch's code may refer to it.
    pub(crate) fn referred_to(&self, cell: u32) -> Option<&Arc<Method<K>>> {
        // The latest first: each is asked for soon after it came.
        let callees = self.callees.iter().rev();
        callees.chain(self.methods).find(|m| m.cell == cell)
    }

    /// Nothing is asked for any more: each callee once, by its cell.
    pub(crate) fn sort_callees(&mut self) {
        sort(&mut self.callees);
    }

    /// The code refers to the method with this cell: it is to live as long. False if the batch was not given it. When
    /// callees are sorted.
    pub(crate) fn refer_to(&mut self, cell: u32) -> bool {
        let Err(place) = self.callees.binary_search_by_key(&cell, |m| m.cell) else {
            return true;
        };
        // One of the batch's own, which a front end may name without having asked.
        let own = self.methods.iter().find(|m| m.cell == cell).cloned();
        own.map(|method| self.callees.insert(place, method))
            .is_some()
    }

    /// [`Batch::takes_address`] of the method with this cell.
    pub(crate) fn takes_address_of(&mut self, cell: u32) {
        if let Some(method) = self.referred_to(cell).cloned() {
            self.addressed.push(method);
        }
    }

    /// The context has grown by this many bytes.
    pub fn charge_context(&mut self, bytes: u64) {
        self.correct_context(bytes as i64);
    }

    /// [`Batch::charge_context`], or the opposite.
    pub(crate) fn correct_context(&mut self, bytes: i64) {
        self.context_bytes = self.context_bytes.saturating_add(bytes);
    }
}

/// What a front end said of a method whose IR is to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) optimised: bool,
    pub(crate) inlinable: bool,
}

/// Each method once, by its cell.
pub(crate) fn sort<K: Key>(methods: &mut Vec<Arc<Method<K>>>) {
    methods.sort_unstable_by_key(|method| method.cell);
    methods.dedup_by_key(|method| method.cell);
}

/// [`Backend`] with its context's type erased, so that a cache's type names only the key.
pub(crate) trait ErasedBackend<K: Key>: Send + Sync {
    fn open(&self) -> Result<Context, Error>;
    fn compile(&self, context: &mut Context, batch: &mut Batch<'_, K>) -> Result<Vec<u8>, Error>;
    fn resolve(&self, symbol: &str) -> Option<*const ()>;
    /// By whoever asks for a method. A panic is no group.
    fn group(&self, key: &K) -> u64;
    /// By whoever mentions a key first. A panic is none.
    fn fallback(&self, key: &K) -> Fallback;
}

impl<K: Key, B: Backend<K>> ErasedBackend<K> for B {
    fn open(&self) -> Result<Context, Error> {
        let (value, bytes) = Backend::open(self)?;
        Ok(Context {
            value: Box::new(value) as Box<dyn Any + Send>,
            bytes,
        })
    }

    fn compile(&self, context: &mut Context, batch: &mut Batch<'_, K>) -> Result<Vec<u8>, Error> {
        let inner = context
            .value
            .downcast_mut()
            .expect("contexts come from this backend's `open`");
        let object = Backend::compile(self, inner, batch);
        context.bytes = context.bytes.saturating_add_signed(batch.context_bytes);
        object
    }

    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        Backend::resolve(self, symbol)
    }

    fn group(&self, key: &K) -> u64 {
        catch_unwind(AssertUnwindSafe(|| Backend::group(self, key))).unwrap_or(0)
    }

    fn fallback(&self, key: &K) -> Fallback {
        let asked = catch_unwind(AssertUnwindSafe(|| Backend::fallback(self, key)));
        asked.unwrap_or(Fallback::none())
    }
}
