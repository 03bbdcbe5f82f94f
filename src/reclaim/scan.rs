//! Looking over a stack for addresses of code, without knowing what else is there.

use super::holds::{Holds, Owner};

/// What a scan found.
#[derive(Default)]
pub(super) struct Found {
    /// The generations, each once.
    pub(super) owners: Vec<Owner>,
    /// The addresses nearest to the top of the stack.
    pub(super) standing: Vec<u64>,
}

/// All generations that an address on the stack between `low` and `high` lies in.
///
/// Conservative: a number that only looks like an address keeps its generation too. Entries and
/// return addresses are whole, aligned words, wherever a compiler spills them.
///
/// # Safety
/// The words from `low` to `high` can be read, and nobody else writes them: they are the calling
/// thread's stack, from below its last frame.
pub(super) unsafe fn scan(low: usize, high: usize, holds: &Holds, standing: usize) -> Found {
    const WORD: usize = size_of::<u64>();
    let (first, last) = holds.span();
    let span = last - first;
    let mut found = Found::default();
    let mut at = low.next_multiple_of(WORD);
    while at + WORD <= high {
        // SAFETY: the caller's promise. Volatile: these are frames that the compiler knows
        // nothing of here.
        let word = unsafe { (at as *const u64).read_volatile() };
        at += WORD;
        if word.wrapping_sub(first) > span {
            continue;
        }
        let Some(owner) = holds.owner(word) else {
            continue;
        };
        if found.owners.last() != Some(&owner) {
            found.owners.push(owner);
        }
        if found.standing.len() < standing {
            found.standing.push(word);
        }
    }
    found.owners.sort_unstable();
    found.owners.dedup();
    found
}
