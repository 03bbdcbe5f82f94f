//! Key -> method, without locks for readers, and cell number -> method, for thunks.

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::sync::{Arc, OnceLock, PoisonError, Weak};

use super::Key;
use super::callback::Callbacks;
use super::cells::Cells;
use super::fallback::Fallbacks;
use super::map::{COUNTS, MUCH, Map, Unlinked};
use super::record::Method;
use super::resolve::ResolveContext;
use crate::code::CodeSpace;
use crate::error::Error;
use crate::evict::MethodId;
use crate::reclaim::{Domain, Guard};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use crate::sync::fault::kept;
use crate::sync::{KeyHash, Mutex, MutexGuard};

/// Numbers that one chunk of [`Table::owners`] covers, and the chunks that cover all numbers.
const CHUNK: usize = if cfg!(feature = "_loom") { 16 } else { 4096 };
const CHUNKS: usize = 1024;

/// Bits of a method's number that are its cell's: a table by method can be as small as there are cells.
const CELL_BITS: u32 = 22;
const _: () = assert!(CHUNK * CHUNKS <= 1 << CELL_BITS);

/// The number of a method that has this cell, after so many others. None has the same, before or later: there are 2^41
/// (the last bit is for [`FULL`](super::FULL)), which at a thousand a second are seventy years. Who makes handles to new keys
/// two million times a second has them used up in two weeks: then methods are not promoted by their counters any more,
/// until as many more were made.
pub(crate) fn id_of(born: u64, cell: u32) -> MethodId {
    MethodId::new(born << CELL_BITS | u64::from(cell))
}

/// Its cell.
pub(crate) fn cell_of(id: MethodId) -> u32 {
    (id.get() & ((1 << CELL_BITS) - 1)) as u32
}

/// Keys that are not in the table any more, and what they led to.
pub(crate) type Forgotten<K> = Unlinked<K, Weak<Method<K>>>;

type Owners<K> = Box<[AtomicPtr<Method<K>>]>;

/// Entry and word of a key's fallback, if it has one.
type FallbackOf<K> = Box<dyn Fn(&K) -> Option<(usize, usize)> + Send + Sync>;

/// All methods that anybody can mention. The map holds them weakly: what keeps a method alive is
/// listed at [`Method`].
pub(crate) struct Table<K: Key> {
    map: ManuallyDrop<Map<K, Weak<Method<K>>>>,
    owners: Box<[OnceLock<Owners<K>>]>,
    /// Methods so far.
    born: AtomicU64,
    /// Methods on probation. Counted here, as a call ends a probation without the ledger.
    pub(super) on_probation: AtomicUsize,
    given_out: Mutex<GivenOut<K>>,
    cells: Cells,
    callbacks: Callbacks,
    fallbacks: Fallbacks,
    /// Asks the front end, where code of the embedder's may run.
    fallback_of: FallbackOf<K>,
    /// Calls for somebody who does [`Table::take_forgotten`].
    call: Box<dyn Fn() + Send + Sync>,
    context: Box<ResolveContext>,
    /// This process is a forked child: locks may be held by threads that it does not have.
    abandoned: AtomicBool,
}

/// Methods that stay until what was given out is given back.
struct GivenOut<K: Key> {
    /// By canonical address.
    addresses: HashMap<MethodId, Arc<Method<K>>, KeyHash>,
    /// By callback, of this number.
    callbacks: HashMap<MethodId, (u32, Arc<Method<K>>), KeyHash>,
}

impl<K: Key> Table<K> {
    /// Sizes of the pieces of memory that one record and its place in the map take.
    pub(crate) const RECORD: [usize; 2] = [
        COUNTS + size_of::<Method<K>>(),
        Map::<K, Weak<Method<K>>>::ENTRY,
    ];

    pub(crate) fn new(
        space: Arc<CodeSpace>,
        context: ResolveContext,
        domain: Arc<Domain>,
        fallback_of: FallbackOf<K>,
        call: Box<dyn Fn() + Send + Sync>,
        targets: bool,
    ) -> Result<Self, Error> {
        let context = Box::new(context);
        Ok(Self {
            map: ManuallyDrop::new(Map::new()),
            owners: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            born: AtomicU64::new(0),
            on_probation: AtomicUsize::new(0),
            given_out: Mutex::new(GivenOut {
                addresses: HashMap::default(),
                callbacks: HashMap::default(),
            }),
            callbacks: Callbacks::new(space.clone(), domain),
            fallbacks: Fallbacks::new(space.clone(), targets),
            fallback_of,
            call,
            cells: Cells::new(space, &*context, targets)?,
            context,
            abandoned: AtomicBool::new(false),
        })
    }

    /// What the thunks hand to the resolver.
    pub(crate) fn context(&self) -> &ResolveContext {
        &self.context
    }

    pub(crate) fn cells(&self) -> &Cells {
        &self.cells
    }

    /// The key's method, if there is one. Takes no lock.
    pub(crate) fn find(&self, key: &K) -> Option<Arc<Method<K>>> {
        self.find_by(self.map.hash(key), key)
    }

    fn find_by(&self, hash: u32, key: &K) -> Option<Arc<Method<K>>> {
        self.map.get(hash, key, Weak::upgrade)?
    }

    /// The key's code, if it has some, and whether that is known to be in use; else, most often, a resolve entry, or
    /// `None`. Loaded while the guard is held; takes no lock, and no other pin.
    #[inline(always)]
    pub(crate) fn code_of(&self, key: &K, _guard: &Guard<'_>) -> Option<(usize, bool)> {
        let near = |cell| self.cells.fetch(cell);
        let load = |cell, _: &_| {
            let word = self.cells.word(cell);
            let code = word.load();
            (code, word.is_code_in_use(code))
        };
        // SAFETY: the thread is pinned, as the caller has seen to it in this cache; and what was taken is destroyed only
        // after a grace period that began later.
        unsafe { self.map.look(key, near, load) }
    }

    /// What was forgotten since the last time: to be destroyed after a grace period that begins after this call, by
    /// somebody who has no lock.
    pub(crate) fn take_forgotten(&self) -> Forgotten<K> {
        self.map.take_unlinked()
    }

    /// Bytes of records that are forgotten, and wait for readers.
    pub(crate) fn forgotten_bytes(&self) -> u64 {
        (self.map.lingering() * Self::RECORD.iter().sum::<usize>()) as u64
    }

    /// Whether so much is forgotten, besides what was taken, that its memory counts.
    pub(crate) fn has_forgotten_much(&self, taken: usize) -> bool {
        self.map.unlinked() + taken >= MUCH
    }

    /// The key's method, made if need be.
    pub(crate) fn intern(self: &Arc<Self>, key: &K) -> Result<Arc<Method<K>>, Error> {
        let hash = self.map.hash(key);
        loop {
            if let Some(method) = self.find_by(hash, key) {
                return Ok(method);
            }
            // Before the cell is taken, which a panic of theirs would lose.
            let (own, of_map) = (key.clone(), key.clone());
            let fallback = (self.fallback_of)(key);
            let cell = self.cells.allocate(&*self.context)?;
            let set = |(entry, word)| self.fallbacks.set(cell, entry, word);
            let fallback = fallback.map(set).transpose();
            let fallback = fallback.inspect_err(|_| self.cells.give_back(cell))?;
            let id = id_of(self.born.fetch_add(1, Ordering::Relaxed), cell);
            let method = Method::new(own, hash, id, cell, fallback, self.clone());
            let method = Arc::new(method);
            let owner = Arc::as_ptr(&method).cast_mut();
            self.owner(cell).store(owner, Ordering::Release);
            let weak = Arc::downgrade(&method);
            // A record that is being dropped does not stand in the way.
            let stands =
                |other: &Weak<Method<K>>| other.strong_count() > 0 && kept("intern.stands");
            if self.map.insert_unless(hash, of_map, cell, weak, stands) {
                return Ok(method);
            }
            // Another thread was first: ours goes, with its cell, and we look again.
        }
    }

    fn owner(&self, cell: u32) -> &AtomicPtr<Method<K>> {
        let chunk = self.owners[cell as usize / CHUNK].get_or_init(|| {
            (0..CHUNK)
                .map(|_| AtomicPtr::new(std::ptr::null_mut()))
                .collect()
        });
        &chunk[cell as usize % CHUNK]
    }

    /// The method that owns a cell.
    ///
    /// # Safety
    /// Something keeps that method alive during the call: the code whose call came to the cell's
    /// thunk (its generation holds its callees until no thread is inside), or its canonical
    /// address having been taken.
    #[cfg_attr(feature = "_shuttle", allow(dead_code))]
    pub(crate) unsafe fn owner_of(&self, cell: u32) -> Arc<Method<K>> {
        let owner = self.owner(cell).load(Ordering::Acquire);
        assert!(!owner.is_null(), "the thunk of a cell that nobody has");
        // SAFETY: `owner` came from `Arc::as_ptr` and the caller knows that its count is above 0.
        unsafe {
            Arc::increment_strong_count(owner);
            Arc::from_raw(owner)
        }
    }

    /// The method that owns a cell; a simulation looks whether what [`Table::owner_of`] leans on is so.
    #[cfg(feature = "_shuttle")]
    pub(crate) fn owner_if_any(&self, cell: u32) -> Option<Arc<Method<K>>> {
        let owner = self.owner(cell).load(Ordering::Acquire);
        if owner.is_null() {
            return None;
        }
        // SAFETY: it came from `Arc::as_ptr`, and its memory is there: the method's drop, as its first thing, takes
        // it out of here, and no other thread of a simulation goes on between the load and the end of this.
        let method = std::mem::ManuallyDrop::new(unsafe { Arc::from_raw(owner) });
        (Arc::strong_count(&method) > 0).then(|| (*method).clone())
    }

    /// Called by a method's drop: the key and the cell are free again.
    pub(super) fn forget(&self, method: &Method<K>) {
        if self.abandoned.load(Ordering::Relaxed) {
            return;
        }
        let this: *const Method<K> = method;
        if !kept("forget.gone_first") {
            self.cells.give_back(method.cell);
        }
        // A successor may have taken the key already.
        let much = self.map.remove(method.hash, |weak| {
            std::ptr::eq(weak.as_ptr(), this) || !kept("forget.own")
        });
        self.owner(method.cell)
            .store(std::ptr::null_mut(), Ordering::Release);
        if method.fallback.is_some() {
            self.fallbacks.clear(method.cell);
        }
        if kept("forget.gone_first") {
            self.cells.give_back(method.cell);
        }
        if much {
            (self.call)();
        }
    }

    /// From now on nothing here takes a lock: the process is a forked child.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    fn given_out(&self) -> MutexGuard<'_, GivenOut<K>> {
        self.given_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a method because its canonical address is given out.
    pub(super) fn hold(&self, method: &Arc<Method<K>>) {
        if self.abandoned.load(Ordering::Relaxed) {
            return std::mem::forget(method.clone());
        }
        let mut given_out = self.given_out();
        given_out.addresses.insert(method.id, method.clone());
        method.note_address_taken(true);
    }

    /// Ends what `hold` began. The caller has the method.
    pub(super) fn let_go(&self, method: &Method<K>) {
        if self.abandoned.load(Ordering::Relaxed) {
            return;
        }
        let mut given_out = self.given_out();
        method.note_address_taken(false);
        let held = given_out.addresses.remove(&method.id);
        drop(given_out);
        drop(held);
    }

    /// The address of a method's callback, which keeps the method.
    pub(crate) fn take_callback(&self, method: &Arc<Method<K>>) -> Result<usize, Error> {
        let mut given_out = self.given_out();
        let number = match given_out.callbacks.get(&method.id) {
            Some(&(number, _)) => number,
            None => {
                let target = self.cells.canonical(method.cell);
                let number = self.callbacks.allocate(target)?;
                let held = (number, method.clone());
                given_out.callbacks.insert(method.id, held);
                number
            }
        };
        Ok(self.callbacks.address(number))
    }

    /// Ends what `take_callback` began. The caller has the method.
    pub(crate) fn release_callback(&self, method: &Method<K>) {
        let held = self.given_out().callbacks.remove(&method.id);
        if let Some((number, _method)) = held {
            self.callbacks.give_back(number);
        }
    }

    /// Methods whose canonical address is given out.
    pub(crate) fn addresses_taken(&self) -> usize {
        self.given_out().addresses.len()
    }

    /// Bytes that thunks to fallbacks take.
    pub(crate) fn fallback_bytes(&self) -> u64 {
        self.fallbacks.bytes()
    }

    /// Callbacks that are given out.
    pub(crate) fn callbacks(&self) -> usize {
        self.callbacks.taken()
    }

    /// Lets go of all that was given out: methods refer to the table, which would never end.
    pub(crate) fn release_all(&self) {
        let mut given_out = self.given_out();
        let addresses = std::mem::take(&mut given_out.addresses);
        let callbacks = std::mem::take(&mut given_out.callbacks);
        drop(given_out);
        drop((addresses, callbacks));
    }

    /// All methods, as they are at some time during the call.
    pub(crate) fn all(&self) -> Vec<Arc<Method<K>>> {
        let mut all = Vec::new();
        self.map.for_each(|method| all.extend(method.upgrade()));
        all
    }

    /// Methods with code that calls do not go to, unless one links it again.
    pub(crate) fn on_probation(&self) -> usize {
        self.on_probation.load(Ordering::Relaxed)
    }

    /// Methods that can be mentioned.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }
}

impl<K: Key> Drop for Table<K> {
    fn drop(&mut self) {
        if !self.abandoned.load(Ordering::Relaxed) {
            // SAFETY: once, and nothing uses it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}
