//! Which methods rely on which assumptions.
//!
//! A method has its bonds in a list, and each bond has its place in the list of what relies on that version
//! of that assumption; so a bond is undone in constant time, from either side.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{ByNumber, Cause, Ledger};
use crate::evict::MethodId;
use crate::invalidate::{Bond, Inner};
use crate::method::Key;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Bytes that a bond takes, in both lists; and an assumption that has some, or a method.
const BOND_BYTES: u64 = 64;
const OWNER_BYTES: u64 = 80;
/// Methods that are looked at ahead of being unlinked.
const AHEAD: usize = 32;

/// A method's side of a bond.
struct Bound {
    assumption: Arc<Inner>,
    version: u64,
    /// Its place in the assumption's list.
    place: usize,
}

/// An assumption's side of a bond.
#[derive(Clone, Copy)]
struct Dependent {
    method: MethodId,
    /// Its place in the method's list.
    bond: usize,
}

/// What relies on one version.
type Version = (u64, Vec<Dependent>);

/// All bonds of a cache.
#[derive(Default)]
pub(crate) struct Bonds {
    methods: ByNumber<MethodId, Box<[Bound]>>,
    /// By address. More than one version only while somebody is about to unlink what relies on the older.
    assumptions: ByNumber<usize, Vec<Version>>,
    alive: u64,
    /// What they take: read without the lock.
    bytes: Arc<AtomicU64>,
}

fn name(assumption: &Inner) -> usize {
    assumption.address() as usize
}

impl Bonds {
    pub(crate) fn new(bytes: Arc<AtomicU64>) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }

    /// Bonds there are.
    pub(crate) fn alive(&self) -> u64 {
        self.alive
    }

    /// What a method relies on.
    pub(crate) fn of(&self, method: MethodId) -> impl Iterator<Item = &Arc<Inner>> {
        let bonds = self.methods.get(&method).into_iter().flatten();
        bonds.map(|bond| &bond.assumption)
    }

    /// A method that has no bonds gets these, each to another assumption.
    pub(super) fn bind(&mut self, method: MethodId, bonds: Vec<Bond>) {
        if bonds.is_empty() {
            return;
        }
        self.alive += bonds.len() as u64;
        let mut bound = Vec::with_capacity(bonds.len());
        for (i, bond) in bonds.into_iter().enumerate() {
            let Bond {
                assumption,
                version,
            } = bond;
            let versions = self.assumptions.entry(name(&assumption)).or_default();
            let at = versions.iter().position(|(v, _)| *v == version);
            let at = at.unwrap_or_else(|| {
                versions.push((version, Vec::new()));
                versions.len() - 1
            });
            let list = &mut versions[at].1;
            bound.push(Bound {
                assumption,
                version,
                place: list.len(),
            });
            list.push(Dependent { method, bond: i });
        }
        self.methods.insert(method, bound.into());
        self.count();
    }

    /// Undoes all bonds of a method, and returns how many these were.
    pub(super) fn unbind(&mut self, method: MethodId) -> usize {
        let Some(bonds) = self.methods.remove(&method) else {
            return 0;
        };
        for bond in &bonds {
            self.remove(bond);
        }
        self.alive -= bonds.len() as u64;
        self.count();
        bonds.len()
    }

    fn remove(&mut self, bond: &Bound) {
        let assumption = name(&bond.assumption);
        let versions = self.assumptions.get_mut(&assumption).expect("it is bound");
        let at = versions.iter().position(|(v, _)| *v == bond.version);
        let at = at.expect("it is bound to this version");
        let list = &mut versions[at].1;
        list.swap_remove(bond.place);
        if let Some(moved) = list.get(bond.place) {
            let owner = self.methods.get_mut(&moved.method);
            owner.expect("a dependent has bonds")[moved.bond].place = bond.place;
        }
        if list.is_empty() {
            versions.swap_remove(at);
            if versions.is_empty() {
                self.assumptions.remove(&assumption);
            }
        } else if list.capacity() > 4 * list.len() + 16 {
            list.shrink_to(2 * list.len());
        }
    }

    /// A method that relies on an older version than this one.
    fn older(&self, assumption: &Inner, than: u64) -> Option<MethodId> {
        let list = self.older_than(assumption, than)?;
        list.last().map(|dependent| dependent.method)
    }

    /// What relies on a version older than this one.
    fn older_than(&self, assumption: &Inner, than: u64) -> Option<&[Dependent]> {
        let versions = self.assumptions.get(&name(assumption))?;
        let (_, list) = versions.iter().find(|(v, _)| *v < than)?;
        Some(list)
    }

    fn count(&self) {
        let owners = (self.methods.len() + self.assumptions.len()) as u64;
        let bytes = self.alive * BOND_BYTES + owners * OWNER_BYTES;
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// What came of a turn at unlinking.
pub(crate) struct Turn {
    /// Bonds undone, and assumptions looked at.
    pub(crate) done: usize,
    /// Nothing relies on the older versions any more.
    pub(crate) over: bool,
    pub(crate) panic: Option<Box<dyn Any + Send>>,
}

impl<K: Key> Ledger<K> {
    /// Looks at what the next ones need, for no other reason than that it is in the cache then: where there
    /// are many of them nothing is, and to wait for all of it at once takes a fraction of the time.
    fn look_ahead(&self, assumption: &Inner, than: u64) {
        let look = |dependent: &Dependent| {
            let home = self.homes.get(dependent.method);
            let bonds = self.bonds.methods.get(&dependent.method);
            let cell = home.map_or(0, |home| home.look());
            cell ^ bonds.map_or(0, |bonds| bonds[dependent.bond].place)
        };
        let next = self.bonds.older_than(assumption, than);
        let seen = next.map_or(0, |list| {
            let next = list.iter().rev().take(AHEAD);
            next.map(look).fold(0, |a, b| a ^ b)
        });
        std::hint::black_box(seen);
    }

    /// Unlinks what relies on older versions of an assumption, until that many bonds are undone.
    pub(crate) fn drop_dependents(
        &mut self,
        assumption: &Inner,
        version: u64,
        most: usize,
    ) -> Turn {
        let mut turn = Turn {
            done: 1,
            over: false,
            panic: None,
        };
        while turn.done < most {
            if turn.done % AHEAD == 1 {
                self.look_ahead(assumption, version);
            }
            let Some(id) = self.bonds.older(assumption, version) else {
                turn.over = true;
                break;
            };
            let before = self.bonds.alive();
            let method = self.homes[id].method.clone();
            // A policy may panic, after all else is done.
            let dropped = catch_unwind(AssertUnwindSafe(|| {
                self.drop_code(&method, Cause::Assumption)
            }));
            self.gone.methods.push(method);
            self.counters.unlinked_by_assumptions += 1;
            turn.panic = dropped.err().or(turn.panic);
            turn.done += (before - self.bonds.alive()) as usize;
        }
        turn
    }
}

#[cfg(test)]
mod tests;
