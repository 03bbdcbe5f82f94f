//! Key -> method, without locks for readers, and cell number -> method, for thunks.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::Key;
use super::cells::Cells;
use super::map::Map;
use super::record::Method;
use super::resolve::ResolveContext;
use crate::code::CodeSpace;
use crate::error::Error;
use crate::evict::MethodId;

/// Numbers that one chunk of [`Table::owners`] covers, and the chunks that cover all numbers.
const CHUNK: usize = 4096;
const CHUNKS: usize = 1024;

type Owners<K> = Box<[AtomicPtr<Method<K>>]>;

/// All methods that anybody can mention. The map holds them weakly: what keeps a method alive is
/// listed at [`Method`].
pub(crate) struct Table<K: Key> {
    map: Map<K, Weak<Method<K>>>,
    owners: Box<[OnceLock<Owners<K>>]>,
    next_id: AtomicU64,
    /// Methods on probation. Counted here, as a call ends a probation without the ledger.
    pub(super) on_probation: AtomicUsize,
    /// Methods whose canonical address was taken.
    for_good: Mutex<Vec<Arc<Method<K>>>>,
    cells: Cells,
    context: Box<ResolveContext>,
    /// This process is a forked child: locks may be held by threads that it does not have.
    abandoned: AtomicBool,
}

impl<K: Key> Table<K> {
    pub(crate) fn new(space: Arc<CodeSpace>, context: ResolveContext) -> Result<Self, Error> {
        let context = Box::new(context);
        Ok(Self {
            map: Map::new(),
            owners: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            next_id: AtomicU64::new(0),
            on_probation: AtomicUsize::new(0),
            for_good: Mutex::default(),
            cells: Cells::new(space, &*context)?,
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

    fn find_by(&self, hash: u64, key: &K) -> Option<Arc<Method<K>>> {
        self.map.get(hash, key, Weak::upgrade)?
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
            let cell = self.cells.allocate(&*self.context)?;
            let id = MethodId::new(self.next_id.fetch_add(1, Ordering::Relaxed));
            let method = Arc::new(Method::new(own, hash, id, cell, self.clone()));
            let owner = Arc::as_ptr(&method).cast_mut();
            self.owner(cell).store(owner, Ordering::Release);
            let weak = Arc::downgrade(&method);
            // A record that is being dropped does not stand in the way.
            let stands = |other: &Weak<Method<K>>| other.strong_count() > 0;
            if self.map.insert_unless(hash, of_map, weak, stands) {
                return Ok(method);
            }
            // Another thread was first: ours goes, with its cell, and we look again.
        }
    }

    fn owner(&self, cell: u32) -> &AtomicPtr<Method<K>> {
        let chunk = self.owners[cell as usize / CHUNK]
            .get_or_init(|| (0..CHUNK).map(|_| AtomicPtr::default()).collect());
        &chunk[cell as usize % CHUNK]
    }

    /// The method that owns a cell.
    ///
    /// # Safety
    /// Something keeps that method alive during the call: the code whose call came to the cell's
    /// thunk (its generation holds its callees until no thread is inside), or its canonical
    /// address having been taken.
    pub(crate) unsafe fn owner_of(&self, cell: u32) -> Arc<Method<K>> {
        let owner = self.owner(cell).load(Ordering::Acquire);
        assert!(!owner.is_null(), "the thunk of a cell that nobody has");
        // SAFETY: `owner` came from `Arc::as_ptr` and the caller knows that its count is above 0.
        unsafe {
            Arc::increment_strong_count(owner);
            Arc::from_raw(owner)
        }
    }

    /// Called by a method's drop: the key and the cell are free again.
    pub(super) fn forget(&self, method: &Method<K>) {
        if self.abandoned.load(Ordering::Relaxed) {
            return;
        }
        let this: *const Method<K> = method;
        // A successor may have taken the key already.
        self.map
            .remove(method.hash, |weak| std::ptr::eq(weak.as_ptr(), this));
        self.owner(method.cell)
            .store(std::ptr::null_mut(), Ordering::Release);
        self.cells.give_back(method.cell);
    }

    /// From now on nothing here takes a lock: the process is a forked child.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    pub(super) fn hold_for_good(method: Arc<Method<K>>) {
        if method.table.abandoned.load(Ordering::Relaxed) {
            std::mem::forget(method);
            return;
        }
        let table = method.table.clone();
        table
            .for_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(method);
    }

    /// Methods whose canonical address was taken.
    pub(crate) fn addresses_taken(&self) -> usize {
        self.for_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Lets go of methods held for good: they refer to the table, which would never end.
    pub(crate) fn release_addresses(&self) {
        let held =
            std::mem::take(&mut *self.for_good.lock().unwrap_or_else(PoisonError::into_inner));
        drop(held);
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
