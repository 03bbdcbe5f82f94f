//! Settings against those who control what is compiled.

use super::Builder;
use crate::method::{Key, targets};

/// What [`Builder`] was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hardening {
    /// Whether whatever indirect branches may lead to begins with ENDBR64.
    pub(crate) branch_targets: bool,
    /// Whether constants are loaded from read-only data instead of standing in code.
    pub(crate) pool_constants: bool,
}

impl Default for Hardening {
    fn default() -> Self {
        Self {
            branch_targets: targets::are_checked(),
            pool_constants: false,
        }
    }
}

impl<K: Key> Builder<K> {
    /// Whether all that calls and jumps by pointer can lead to begins with ENDBR64: methods, and the thunks, callbacks and
    /// fallbacks of the cache. Default: whether this process is run with indirect branch tracking (a part of Intel's CET).
    ///
    /// Costs four bytes of code a function, and no time that could be measured; thunks take 32 bytes instead of
    /// 16, so that a cache has cells for two million methods and not for four. The code of other
    /// [backends](crate::Backend), and of [emitters](crate::Tier::emitter), is their own.
    pub fn branch_targets(mut self, targets: bool) -> Self {
        self.config.hardening.branch_targets = targets;
        self
    }

    /// Whether the numbers of a program are kept out of executable memory: what is longer than a byte, be it an
    /// operand, a result, an index, a length or the case of a `switch`, is loaded from read-only data. Who chooses
    /// the numbers of a program (a query's, say) then does not choose bytes that can be jumped to ("JIT spraying").
    /// Default: no.
    ///
    /// Instead of hiding each number behind a random one: there is no key to be found out, objects stay the
    /// same for the same IR, and a load is no longer than what takes the random number away again. It is done
    /// after optimisation. Costs a load for each use of such a number, and `switch` becomes comparisons. Left as they are:
    /// numbers within -128 and 255, what follows from types (the place of a field in a struct) and from the frame's
    /// layout, and what stands in inline assembly.
    pub fn pool_constants(mut self, pool: bool) -> Self {
        self.config.hardening.pool_constants = pool;
        self
    }
}
