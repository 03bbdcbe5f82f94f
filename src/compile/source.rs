//! The IR of methods, kept for another tier, and for those that inline them.

use std::sync::Arc;

use crate::invalidate::Bond;
use crate::method::{Key, Method};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Bitcode of the methods of one batch, before their calls were lowered.
pub(crate) struct Bitcode<K: Key> {
    pub(crate) bytes: Box<[u8]>,
    /// Those that its names mean, each once, by cell.
    pub(crate) callees: Vec<Arc<Method<K>>>,
    /// What all bitcode of the cache takes.
    charge: Arc<AtomicU64>,
}

impl<K: Key> Bitcode<K> {
    pub(crate) fn new(bytes: &[u8], callees: Vec<Arc<Method<K>>>, charge: &Arc<AtomicU64>) -> Self {
        let new = Self {
            bytes: bytes.into(),
            callees,
            charge: charge.clone(),
        };
        new.charge.fetch_add(new.size(), Ordering::Relaxed);
        new
    }

    /// The pieces of memory that it takes.
    pub(crate) fn pieces(&self) -> [usize; 3] {
        let callees = self.callees.capacity() * size_of::<Arc<Method<K>>>();
        [size_of::<Self>(), self.bytes.len(), callees]
    }

    fn size(&self) -> u64 {
        self.pieces().iter().sum::<usize>() as u64
    }
}

impl<K: Key> Drop for Bitcode<K> {
    fn drop(&mut self) {
        self.charge.fetch_sub(self.size(), Ordering::Relaxed);
    }
}

/// One method's IR.
pub(crate) struct Source<K: Key> {
    pub(crate) bitcode: Arc<Bitcode<K>>,
    /// What it relies on, each once.
    pub(crate) bonds: Arc<[Bond]>,
    /// It needs no passes.
    pub(crate) optimised: bool,
    /// Others may have its body in theirs.
    pub(crate) inlinable: bool,
}

impl<K: Key> Clone for Source<K> {
    fn clone(&self) -> Self {
        Self {
            bitcode: self.bitcode.clone(),
            bonds: self.bonds.clone(),
            ..*self
        }
    }
}
