//! The stripes of a reservation, and the runs of slots that generations hold in them.

use std::sync::{Arc, PoisonError};

use super::backing::Backing;
use super::page_up;
use super::quarantine::{Freed, Quarantine, Ward};
use super::reservation::{Reservation, map_anonymous};
use super::slots::Slots;
use super::symbols::{Listed, Symbols};
use crate::error::{Error, MapStep};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// What a stripe holds, and with that its permission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Canonical and resolve entries of cells: readable and executable.
    Thunks,
    /// Entry words of cells: readable and writable, private to the process.
    Cells,
    /// Machine code: readable and executable.
    Text,
    /// Constants, jump tables, addresses of imports: readable.
    Constants,
    /// `.eh_frame` tables: readable.
    Unwind,
    /// Mutable globals that a front end insisted on: readable and writable, private.
    Data,
    /// Entries of methods for threads that are not registered: readable and executable.
    Callbacks,
    /// What leads to the embedder's fallbacks: readable and executable.
    Fallbacks,
    /// What these load: readable and writable, private to the process.
    FallbackPairs,
}

const KINDS: [Kind; 9] = [
    Kind::Thunks,
    Kind::Cells,
    Kind::Text,
    Kind::Constants,
    Kind::Unwind,
    Kind::Data,
    Kind::Callbacks,
    Kind::Fallbacks,
    Kind::FallbackPairs,
];

/// Bytes before, between and after the stripes where nothing is ever mapped: what runs off the end of one faults.
const GUARD: u64 = if cfg!(feature = "_checked") {
    super::PAGE
} else {
    1 << 20
};

impl Kind {
    /// Stripe length and slot size in bytes. The sum stays below 2 GiB.
    #[cfg(not(feature = "_checked"))]
    const fn shape(self) -> (u64, u64) {
        const MIB: u64 = 1 << 20;
        match self {
            Kind::Thunks | Kind::Cells | Kind::Fallbacks | Kind::FallbackPairs => {
                (64 * MIB, 64 << 10)
            }
            Kind::Text => (960 * MIB, 16 << 10),
            Kind::Constants => (336 * MIB, 16 << 10),
            Kind::Unwind => (336 * MIB, 32 << 10),
            Kind::Data => (128 * MIB, 16 << 10),
            Kind::Callbacks => (16 * MIB, 16 << 10),
        }
    }

    /// As little as a checker gets along with: so that it can also run out.
    #[cfg(feature = "_checked")]
    const fn shape(self) -> (u64, u64) {
        const PAGES: u64 = super::PAGE;
        // Loom looks at each word that there is.
        const SLOTS: u64 = if cfg!(feature = "_loom") { 8 } else { 64 };
        match self {
            Kind::Thunks | Kind::Cells => (16 * PAGES, PAGES),
            Kind::Fallbacks | Kind::FallbackPairs | Kind::Callbacks => (16 * PAGES, 4 * PAGES),
            Kind::Text | Kind::Constants | Kind::Unwind => (SLOTS * 2 * PAGES, 2 * PAGES),
            Kind::Data => (8 * PAGES, PAGES),
        }
    }

    /// The size of its slots.
    pub(crate) const fn slot(self) -> u64 {
        self.shape().1
    }

    /// Whether its slots are found by arithmetic, so that they are taken in order.
    fn in_order(self) -> bool {
        use Kind::*;
        // A checker's runs shall be the same each time.
        cfg!(feature = "_checked")
            || matches!(self, Thunks | Cells | Callbacks | Fallbacks | FallbackPairs)
    }

    fn private(self) -> bool {
        matches!(self, Kind::Cells | Kind::Data | Kind::FallbackPairs)
    }
}

struct Stripe {
    base: u64,
    slot: u64,
    slots: Mutex<Slots>,
    /// Bytes of pages that were written since they were mapped.
    touched: AtomicU64,
}

/// Neighbouring slots of one stripe, mapped with the stripe's permission, owned by whoever
/// holds this value. There is no `Drop`: releasing is fallible and needs [`CodeSpace`].
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) address: u64,
    pub(crate) len: u64,
    /// Bytes of whole pages from the start of the run that have been written.
    touched: u64,
    backing: Option<Arc<Backing>>,
}

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backing")
    }
}

impl Run {
    /// Bytes of memory (whole pages) behind this run.
    pub(crate) fn resident(&self) -> u64 {
        self.touched
    }
}

/// What a cache's memory amounts to, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Occupancy {
    pub(crate) reserved: u64,
    /// Bytes of all slots in use.
    pub(crate) mapped: u64,
    /// Bytes of pages that have been written.
    pub(crate) resident: u64,
    /// Mappings of the process inside the reservation, gaps between slots included.
    pub(crate) mappings: u64,
}

/// All the executable memory of a cache.
pub(crate) struct CodeSpace {
    stripes: [Stripe; KINDS.len()],
    /// What new runs are backed by.
    backing: Mutex<Backings>,
    /// What keeps released slots out of use for a while.
    ward: Option<Ward>,
    symbols: Listed,
    /// Tests set it: the next mappings are refused as if the kernel had.
    refuse: AtomicBool,
    reservation: Reservation,
}

#[derive(Default)]
struct Backings {
    /// `None` after a fork, until the next run needs one.
    current: Option<Arc<Backing>>,
    /// Thunks and callbacks have a file of their own: they are never released, and would keep a file
    /// that is shared with a child, and all that was ever in it.
    thunks: Option<Arc<Backing>>,
    /// Files shared with forked children, until their last run is released.
    shared: Vec<std::sync::Weak<Backing>>,
}

impl CodeSpace {
    /// Address space for the cache of this name.
    pub(crate) fn new(owner: &str, quarantine: Option<Quarantine>) -> Result<Self, Error> {
        let len: u64 = KINDS.iter().map(|k| GUARD + k.shape().0).sum::<u64>() + GUARD;
        let reservation = Reservation::new(len)?;
        let backings = Backings {
            current: Some(Arc::new(Backing::new(len)?)),
            thunks: Some(Arc::new(Backing::new(len)?)),
            shared: Vec::new(),
        };
        let span = reservation.base()..reservation.base() + len;
        let mut end = span.start;
        let stripes: [Stripe; KINDS.len()] = KINDS.map(|kind| {
            let (len, slot) = kind.shape();
            let count = (len / slot) as usize;
            let base = end + GUARD;
            end = base + len;
            Stripe {
                base,
                slot,
                slots: Mutex::new(match kind.in_order() {
                    true => Slots::in_order(count),
                    false => Slots::at_random(count),
                }),
                touched: AtomicU64::new(0),
            }
        });
        let symbols = Symbols::new(owner, span, |kind| {
            let stripe = &stripes[kind as usize];
            (stripe.base, kind.shape().0, stripe.slot)
        });
        Ok(Self {
            symbols: Listed::new(symbols),
            stripes,
            backing: Mutex::new(backings),
            ward: quarantine.map(Ward::new),
            refuse: AtomicBool::new(false),
            reservation,
        })
    }

    fn stripe(&self, kind: Kind) -> &Stripe {
        &self.stripes[kind as usize]
    }

    /// The first address of a stripe.
    pub(crate) fn base(&self, kind: Kind) -> u64 {
        self.stripe(kind).base
    }

    /// A stripe's first address, its length, and the size of its slots.
    pub(crate) fn stripe_of(&self, kind: Kind) -> (u64, u64, u64) {
        let stripe = self.stripe(kind);
        (stripe.base, kind.shape().0, stripe.slot)
    }

    /// Whether an address lies in the reservation.
    pub(crate) fn contains(&self, address: u64) -> bool {
        let base = self.reservation.base();
        (base..base + self.reservation.len()).contains(&address)
    }

    /// The names of what is in it.
    pub(crate) fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Bytes that slots for `bytes` take.
    pub(crate) fn slots_for(&self, kind: Kind, bytes: u64) -> u64 {
        bytes.next_multiple_of(self.stripe(kind).slot)
    }

    /// Maps slots for at least `bytes`.
    pub(crate) fn take(&self, kind: Kind, bytes: u64) -> Result<Run, Error> {
        let stripe = self.stripe(kind);
        let n = bytes.div_ceil(stripe.slot).max(1) as usize;
        self.let_go(self.ward.iter().flat_map(Ward::discharge));
        let mut first = lock(&stripe.slots).take(n);
        if first.is_none() {
            self.let_go(self.ward.iter().flat_map(Ward::clear));
            first = lock(&stripe.slots).take(n);
        }
        let Some(first) = first else {
            return Err(Error::OutOfSpace {
                stripe: format!("{kind:?}").to_lowercase(),
                bytes,
            });
        };
        let address = stripe.base + first as u64 * stripe.slot;
        let len = n as u64 * stripe.slot;
        match self.map(kind, address, len, None) {
            Ok(backing) => Ok(Run {
                kind,
                address,
                len,
                touched: 0,
                backing,
            }),
            Err(e) => {
                lock(&stripe.slots).give_back(first, n);
                Err(Error::map(MapStep::Map, len, e))
            }
        }
    }

    /// Makes `run` longer by the slots after it, so that it holds at least `bytes`. False when
    /// these are taken or cannot be mapped.
    pub(crate) fn extend(&self, run: &mut Run, bytes: u64) -> bool {
        let stripe = self.stripe(run.kind);
        if bytes <= run.len {
            return true;
        }
        if self.is_shared(run) {
            // Slots behind it may have been freed since the fork, and the child still be inside.
            return false;
        }
        let n = (bytes - run.len).div_ceil(stripe.slot) as usize;
        let at = ((run.address + run.len - stripe.base) / stripe.slot) as usize;
        if !lock(&stripe.slots).take_at(at, n) {
            return false;
        }
        let len = n as u64 * stripe.slot;
        let mapped = self
            .map(run.kind, run.address + run.len, len, run.backing.as_ref())
            .is_ok();
        if mapped {
            run.len += len;
        } else {
            lock(&stripe.slots).give_back(at, n);
        }
        mapped
    }

    fn map(
        &self,
        kind: Kind,
        address: u64,
        len: u64,
        backing: Option<&Arc<Backing>>,
    ) -> std::io::Result<Option<Arc<Backing>>> {
        if self.refuse.load(Ordering::Relaxed) {
            return Err(std::io::Error::from_raw_os_error(libc::ENOMEM));
        }
        if kind.private() {
            // SAFETY: the slots were free (PROT_NONE), and are now ours alone.
            unsafe { map_anonymous(address, len, libc::PROT_READ | libc::PROT_WRITE)? };
            return Ok(None);
        }
        let backing = match backing {
            Some(b) => b.clone(),
            None => self.current_backing(kind)?,
        };
        let executable = matches!(
            kind,
            Kind::Thunks | Kind::Callbacks | Kind::Fallbacks | Kind::Text
        );
        // SAFETY: as above.
        unsafe { backing.map_sealed(address, address - self.reservation.base(), len, executable)? };
        Ok(Some(backing))
    }

    fn current_backing(&self, kind: Kind) -> std::io::Result<Arc<Backing>> {
        let mut backings = lock(&self.backing);
        let backing = match kind {
            Kind::Thunks | Kind::Callbacks | Kind::Fallbacks => &mut backings.thunks,
            _ => &mut backings.current,
        };
        if backing.is_none() {
            let fresh = Backing::new(self.reservation.len())
                .map_err(|_| std::io::Error::from_raw_os_error(libc::ENOMEM))?;
            *backing = Some(Arc::new(fresh));
        }
        Ok(backing.clone().expect("set above"))
    }

    /// Whether a forked child has the pages of this run too.
    fn is_shared(&self, run: &Run) -> bool {
        let current = lock(&self.backing).current.clone();
        let same = |backing: &Arc<Backing>| current.is_some_and(|c| Arc::ptr_eq(&c, backing));
        run.backing.as_ref().is_some_and(|backing| !same(backing))
    }

    /// Writes bytes at `offset` of the run, which nobody reads there yet.
    pub(crate) fn write(&self, run: &mut Run, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let len = bytes.len() as u64;
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= run.len),
            "outside the run"
        );
        if len == 0 {
            return Ok(());
        }
        let end = page_up(offset + len).max(run.touched);
        self.stripe(run.kind)
            .touched
            .fetch_add(end - run.touched, Ordering::Relaxed);
        run.touched = end;
        let Some(backing) = &run.backing else {
            let at = (run.address + offset) as *mut u8;
            // SAFETY: private memory of this run, mapped readable and writable, and as long as was looked at; the caller owns
            // the run, and nothing was published yet from this part of it.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
            return Ok(());
        };
        let file_offset = run.address - self.reservation.base() + offset;
        let written = backing.write(file_offset, bytes);
        written.map_err(|e| Error::map(MapStep::Write, len, e))
    }

    /// Unmaps a run and gives its memory back. On failure (the kernel may lack memory for the
    /// split of a mapping) the run comes back, still mapped, to be released later.
    ///
    /// # Safety
    /// No thread executes or reads in the run, nor can reach it any more.
    pub(crate) unsafe fn release(&self, run: Run) -> Result<(), Box<(Run, Error)>> {
        // SAFETY: the caller promises that the run is unreachable.
        if let Err(e) = unsafe { map_anonymous(run.address, run.len, libc::PROT_NONE) } {
            let error = Error::map(MapStep::Unmap, run.len, e);
            return Err(Box::new((run, error)));
        }
        let stripe = self.stripe(run.kind);
        if let Some(backing) = &run.backing {
            // Pages older than a fork are the child's too: they go with their file.
            if self.is_shared(&run) {
                backing.leave(run.touched);
            } else {
                // Punching cannot fail on a memfd of ours but for exhausted kernel memory; the
                // pages then wait for the slot's next user.
                let _ = backing.punch(run.address - self.reservation.base(), run.len);
            }
        }
        stripe.touched.fetch_sub(run.touched, Ordering::Relaxed);
        let freed = Freed {
            kind: run.kind,
            first: ((run.address - stripe.base) / stripe.slot) as usize,
            n: (run.len / stripe.slot) as usize,
            bytes: run.len,
        };
        self.symbols.unmapped(freed.kind, freed.first, freed.n);
        // Chunks of cells, thunks, callbacks and fallbacks are released only when nobody has seen them,
        // and must be taken again in order.
        let never_seen = !matches!(
            run.kind,
            Kind::Text | Kind::Constants | Kind::Unwind | Kind::Data
        );
        match self.ward.as_ref().filter(|_| !never_seen) {
            Some(ward) => self.let_go(ward.admit(freed)),
            None => self.let_go([freed]),
        }
        Ok(())
    }

    /// The addresses of these slots may be used again.
    fn let_go(&self, all: impl IntoIterator<Item = Freed>) {
        for Freed { kind, first, n, .. } in all {
            self.symbols.discard(kind, first, n);
            lock(&self.stripe(kind).slots).give_back(first, n);
        }
    }

    /// Bytes of address space in quarantine.
    pub(crate) fn quarantined(&self) -> u64 {
        self.let_go(self.ward.iter().flat_map(Ward::discharge));
        self.ward.as_ref().map_or(0, Ward::bytes)
    }

    /// Called in the parent after a fork: pages so far are shared with the child from now on.
    pub(crate) fn forked(&self) {
        let mut backings = lock(&self.backing);
        if let Some(old) = backings.current.take() {
            backings.shared.retain(|b| b.strong_count() > 0);
            backings.shared.push(Arc::downgrade(&old));
        }
    }

    /// Bytes of pages that were released here, and that a forked child may still have.
    pub(crate) fn left_to_children(&self) -> u64 {
        let backings = lock(&self.backing);
        let shared = backings.shared.iter().filter_map(std::sync::Weak::upgrade);
        shared.map(|backing| backing.left()).sum()
    }

    /// Makes mappings fail (or work again), for tests of that failure.
    pub(crate) fn refuse_mappings(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::Relaxed);
    }

    /// Bytes of slots and of written pages of one kind.
    pub(crate) fn occupancy(&self, kind: Kind) -> Occupancy {
        let stripe = self.stripe(kind);
        let slots = lock(&stripe.slots);
        let series = slots.series() as u64;
        Occupancy {
            reserved: kind.shape().0,
            mapped: slots.taken() as u64 * stripe.slot,
            resident: stripe.touched.load(Ordering::Relaxed),
            // each series, and the gap after it
            mappings: 2 * series,
        }
    }

    /// The sum of [`CodeSpace::occupancy`] over all kinds.
    pub(crate) fn total(&self) -> Occupancy {
        KINDS
            .iter()
            .map(|&k| self.occupancy(k))
            .fold(Occupancy::default(), |a, b| Occupancy {
                reserved: a.reserved + b.reserved,
                mapped: a.mapped + b.mapped,
                resident: a.resident + b.resident,
                mappings: a.mappings + b.mappings,
            })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
