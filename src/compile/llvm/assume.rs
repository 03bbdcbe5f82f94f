//! What the code of a method relies on.

use inkwell::AtomicOrdering;
use inkwell::builder::{Builder, BuilderError};
use inkwell::values::{BasicValue, IntValue};
use inkwell::{AddressSpace, IntPredicate};

use super::Unit;
use crate::error::BoxError;
use crate::invalidate::Assumed;
use crate::method::Key;

impl<'ctx, K: Key> Unit<'_, 'ctx, K> {
    /// Emits a comparison: an `i1` that says whether an assumption still holds, when this is executed. For
    /// after a call, where the assumption may have fallen while the method's frame was inside: the method
    /// itself is not called any more then.
    ///
    /// It is a load, which no pass moves or drops, and a compare.
    ///
    /// # Errors
    /// As for any use of the builder: it must stand at a place in a block.
    pub fn holds(
        &self,
        build: &Builder<'ctx>,
        assumed: &Assumed,
    ) -> Result<IntValue<'ctx>, BoxError> {
        let emitted: Result<_, BuilderError> = (|| {
            let long = self.context().i64_type();
            let pointer = self.context().ptr_type(AddressSpace::default());
            let address = long.const_int(assumed.address() as u64, false);
            let version = build.build_load(long, address.const_to_pointer(pointer), "version")?;
            let version = version.into_int_value();
            if let Some(load) = version.as_instruction_value() {
                // Neither fails for a load.
                let _ = load.set_atomic_ordering(AtomicOrdering::Monotonic);
                let _ = load.set_alignment(8);
                let _ = load.set_volatile(true);
            }
            let value = long.const_int(assumed.value(), false);
            build.build_int_compare(IntPredicate::EQ, version, value, "holds")
        })();
        Ok(emitted?)
    }
}
