//! Tiers: how well a method is compiled, and what makes it worth more.
//!
//! A cache has one tier or several. A method's first code is of the first tier. Code of a tier that is not the last
//! counts how often it runs ([`counts`]); when that is often enough the method is queued for the next tier. It is
//! compiled there from the IR that was kept, the cell is swapped, and the old code dies like evicted code.

pub(crate) mod counts;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::compile::{Emitter, OptLevel};

/// No cache has more tiers.
pub(crate) const MOST_TIERS: usize = 8;

/// A call counts as much as so many ways round a loop: what loops is worth more than what only is called, but each
/// turn is short.
pub(crate) const CALL: u32 = 8;

/// A counter that is never full in a thread's life has no use: beyond this, thresholds are cut.
const MOST_CALLS: u32 = u32::MAX / CALL / 2;

/// Which passes code goes through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Passes {
    /// Those of a level.
    Level(OptLevel),
    /// As text.
    Text(Cow<'static, str>),
}

/// What pays for itself, as what it takes out need not be generated: variables that a front end keeps in memory. (To
/// look for common values and for blocks to join costs more than it saves: `design/16-tiers.md`.)
const CHEAP: &str = "default<O0>,function(sroa<modify-cfg>)";

/// How methods are compiled, and what makes them worth compiling better: passes, a generator of code, and a
/// number of calls.
///
/// ```
/// use inkpot::{OptLevel, Tier};
///
/// // What `Tier::defaults` is, but that methods are promoted late.
/// let tiers = [Tier::baseline().promote_after(10_000), Tier::optimised()];
/// // One tier, that promotes nothing.
/// let alone = [Tier::new("quick", OptLevel::O0)];
/// # let _ = (tiers, alone);
/// ```
#[derive(Clone)]
pub struct Tier {
    name: Cow<'static, str>,
    pub(crate) passes: Passes,
    pub(crate) generator: OptLevel,
    pub(crate) emitter: Option<Arc<dyn Emitter>>,
    pub(crate) promote_after: Option<u32>,
    pub(crate) emits_again: bool,
    pub(crate) inlines: bool,
    pub(crate) passes_loops_on: bool,
}

impl Tier {
    /// A tier with LLVM's passes and code generator of a level. It promotes nothing by itself, and does not inline
    /// methods into each other.
    pub fn new(name: impl Into<Cow<'static, str>>, level: OptLevel) -> Self {
        Self {
            name: name.into(),
            passes: Passes::Level(level),
            generator: level,
            emitter: None,
            promote_after: None,
            emits_again: false,
            inlines: false,
            passes_loops_on: false,
        }
    }

    /// Code at once: a few cheap passes, and LLVM's fast instruction selector. Methods that were called a thousand
    /// times are promoted.
    pub fn baseline() -> Self {
        Self {
            passes: Passes::Text(Cow::Borrowed(CHEAP)),
            ..Self::new("baseline", OptLevel::O0).promote_after(1000)
        }
    }

    /// Good code: O2, and methods that [say so](crate::Unit::inlinable) are inlined into others.
    pub fn optimised() -> Self {
        Self::new("optimised", OptLevel::O2).inline(true)
    }

    /// [`Tier::baseline`], and then [`Tier::optimised`].
    pub fn defaults() -> [Self; 2] {
        [Self::baseline(), Self::optimised()]
    }

    /// Its name, in statistics and events.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Passes other than the level's, in LLVM's textual form (as `opt -passes` takes it); none if it is empty. They are
    /// tried out when the cache is built.
    pub fn passes(mut self, pipeline: impl Into<Cow<'static, str>>) -> Self {
        self.passes = Passes::Text(pipeline.into());
        self
    }

    /// A generator of code other than LLVM's. What it refuses LLVM's generates, method by method.
    pub fn emitter(mut self, emitter: impl Emitter) -> Self {
        self.emitter = Some(Arc::new(emitter));
        self
    }

    /// After how many calls, on one thread, a method is compiled for the next tier; a way round a loop counts as
    /// an eighth of a call. Code counts in a table of its thread's own, where methods may share a counter: some are
    /// promoted earlier for that. In the last tier it means nothing.
    ///
    /// # Cost
    /// Four instructions at the entry of each function and on each way round a loop. No line of memory is written that
    /// another thread uses.
    pub fn promote_after(mut self, calls: u32) -> Self {
        self.promote_after = Some(calls.clamp(1, MOST_CALLS));
        self
    }

    /// Methods do not count, and stay in this tier until [`Handle::promote`](crate::Handle::promote) is called.
    pub fn promote_by_hand(mut self) -> Self {
        self.promote_after = None;
        self
    }

    /// Whether a method that comes to this tier is emitted again by the front end, which sees
    /// [the tier](crate::Unit::tier) and may speculate on what it has learned meanwhile. Default: no, it is compiled from
    /// the IR that was kept when it was emitted for the first tier.
    pub fn emit_again(mut self, again: bool) -> Self {
        self.emits_again = again;
        self
    }

    /// Whether methods with loops (of their own or in their private functions) are not compiled for this tier, but for the
    /// last at once. Default: no, they count their turns.
    ///
    /// For methods that may loop for minutes, as a program's `main` does or an interpreter: who is inside of a method
    /// when that is promoted stays in its old code. (.NET came to tiers with this rule.)
    pub fn pass_loops_on(mut self, pass_on: bool) -> Self {
        self.passes_loops_on = pass_on;
        self
    }

    /// Whether methods that [say so](crate::Unit::inlinable) are inlined into the methods of this tier that call them,
    /// where LLVM finds that it pays.
    pub fn inline(mut self, inline: bool) -> Self {
        self.inlines = inline;
        self
    }

    /// What a counter is full at, if code of this tier counts.
    pub(crate) fn threshold(&self) -> Option<u32> {
        self.promote_after.map(|calls| calls * CALL)
    }
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier")
            .field("name", &self.name)
            .field("passes", &self.passes)
            .field("generator", &self.generator)
            .field("promote_after", &self.promote_after)
            .finish_non_exhaustive()
    }
}
