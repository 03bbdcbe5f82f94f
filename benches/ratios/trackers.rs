//! LLJIT as one would keep methods in it: an object for each, with a resource tracker, to which an `Arc` in a concurrent
//! map leads from the method's key. Objects are linked by JITLink.

use std::ffi::CString;
use std::mem::forget;
use std::sync::Arc;

use dashmap::DashMap;
use inkpot::inkwell::llvm_sys::orc2::lljit::{
    LLVMOrcLLJITAddObjectFileWithRT, LLVMOrcLLJITGetMainJITDylib, LLVMOrcLLJITLookup,
};
use inkpot::inkwell::llvm_sys::orc2::{
    LLVMOrcJITDylibCreateResourceTracker, LLVMOrcReleaseResourceTracker, LLVMOrcResourceTrackerRef,
    LLVMOrcResourceTrackerRemove,
};
use inkpot::inkwell::memory_buffer::MemoryBuffer;

use crate::lljit::{Lljit, check};
use crate::methods;

/// Code that goes when this is dropped.
pub struct Tracked {
    /// Where the methods are.
    pub entries: Vec<usize>,
    tracker: LLVMOrcResourceTrackerRef,
}

// SAFETY: trackers may be used from any thread: sessions of ORC lock.
unsafe impl Send for Tracked {}
// SAFETY: as above.
unsafe impl Sync for Tracked {}

impl Drop for Tracked {
    fn drop(&mut self) {
        // SAFETY: the tracker is this one's, and its JIT is never disposed of; nobody is in the code.
        unsafe {
            check(LLVMOrcResourceTrackerRemove(self.tracker)).expect("it is removed");
            LLVMOrcReleaseResourceTracker(self.tracker);
        }
    }
}

/// Methods by their numbers.
pub struct Trackers {
    jit: Lljit,
    pub methods: DashMap<u64, Arc<Tracked>>,
}

impl Trackers {
    pub fn new() -> Self {
        let jit = Lljit::new().expect("LLJIT");
        for (name, address) in methods::imports() {
            jit.define(name, address).expect("it is new");
        }
        Self {
            jit,
            methods: DashMap::new(),
        }
    }

    /// Links an object of its own, and looks its symbols up.
    pub fn link(&self, object: &[u8], symbols: impl IntoIterator<Item = String>) -> Tracked {
        let object = MemoryBuffer::create_from_memory_range_copy(object, "methods");
        let raw = object.as_mut_ptr();
        forget(object);
        // SAFETY: the JIT is alive, and the buffer, which nobody else has any more, passes to it.
        let tracker = unsafe {
            let library = LLVMOrcLLJITGetMainJITDylib(self.jit.0);
            let tracker = LLVMOrcJITDylibCreateResourceTracker(library);
            check(LLVMOrcLLJITAddObjectFileWithRT(self.jit.0, tracker, raw)).expect("it is new");
            tracker
        };
        let look_up = |symbol| {
            let symbol = CString::new(symbol).expect("a name");
            let mut address = 0;
            // SAFETY: the JIT is alive, and the result goes to a place of ours.
            let found = unsafe { LLVMOrcLLJITLookup(self.jit.0, &mut address, symbol.as_ptr()) };
            check(found).expect("it is linked");
            address as usize
        };
        Tracked {
            entries: symbols.into_iter().map(look_up).collect(),
            tracker,
        }
    }

    /// Links a method's object, and says where to find it.
    pub fn add(&self, number: u64, object: &[u8]) {
        let tracked = self.link(object, [format!("method.{number}")]);
        self.methods.insert(number, Arc::new(tracked));
    }

    /// Removes them one by one.
    pub fn remove(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            drop(self.methods.remove(&number));
        }
    }
}
