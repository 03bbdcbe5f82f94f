//! Looking over a stack for addresses of code, without knowing what else is there.

use super::holds::{Holds, Owner};

const WORD: usize = size_of::<u64>();
/// Words that are looked at together. Nearly all words are no addresses of code: one branch for so
/// many of them.
const GROUP: usize = 8;

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
    let mut found = Found::default();
    let mut note = |word| {
        let Some(owner) = holds.owner(word) else {
            return;
        };
        if found.owners.last() != Some(&owner) {
            found.owners.push(owner);
        }
        if found.standing.len() < standing {
            found.standing.push(word);
        }
    };
    // SAFETY: the caller's promise.
    unsafe { words_in(low, high, holds.span(), &mut note) };
    found.owners.sort_unstable();
    found.owners.dedup();
    found
}

/// Reads a word of a frame that the compiler knows nothing of here.
///
/// # Safety
/// It is a whole, aligned word that can be read, and nobody else writes.
#[cfg(not(inkpot_sanitized))]
#[inline(always)]
unsafe fn read(at: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (at as *const u64).read_volatile() }
}

/// The same where sanitizers watch (`make sanitize`), unseen by them: what lies between the variables of
/// frames is nobody's, and is read all the same.
///
/// # Safety
/// As above.
#[cfg(inkpot_sanitized)]
unsafe fn read(at: usize) -> u64 {
    let word;
    // SAFETY: reads the one word.
    unsafe {
        std::arch::asm!("mov {}, [{}]", out(reg) word, in(reg) at, options(nostack, readonly, preserves_flags));
    }
    word
}

/// Calls `note` with each aligned word between `low` and `high` that is a number from the first of
/// `span` to the last, in the order of memory.
///
/// # Safety
/// As for [`scan`].
#[inline]
unsafe fn words_in(low: usize, high: usize, span: (u64, u64), note: &mut impl FnMut(u64)) {
    let (first, last) = span;
    let span = last - first;
    let is_near = |word: u64| word.wrapping_sub(first) <= span;
    // SAFETY: called with addresses of whole, aligned words between `low` and `high` alone: the
    // caller's promise.
    let word = |at: usize| unsafe { read(at) };
    let mut at = low.next_multiple_of(WORD);
    while at + GROUP * WORD <= high {
        let near = (0..GROUP).fold(false, |near, n| near | is_near(word(at + n * WORD)));
        if near {
            // Read once more: nobody writes them.
            let group = (0..GROUP).map(|n| word(at + n * WORD));
            group.filter(|&word| is_near(word)).for_each(&mut *note);
        }
        at += GROUP * WORD;
    }
    while at + WORD <= high {
        let last = word(at);
        if is_near(last) {
            note(last);
        }
        at += WORD;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{CodeSpace, Kind};

    const SPAN: (u64, u64) = (0x7000, 0x7fff);

    /// What is found from byte `low` to byte `high` of these words.
    fn found(words: &[u64], low: usize, high: usize) -> Vec<u64> {
        let base = words.as_ptr() as usize;
        let mut found = Vec::new();
        // SAFETY: within the slice.
        unsafe { words_in(base + low, base + high, SPAN, &mut |word| found.push(word)) };
        found
    }

    /// What shall be: the whole words there that are in the span.
    fn expected(words: &[u64], low: usize, high: usize) -> Vec<u64> {
        let whole = |i: &usize| i * WORD >= low && (i + 1) * WORD <= high;
        let inside = (0..words.len()).filter(whole).map(|i| words[i]);
        inside.filter(|w| (SPAN.0..=SPAN.1).contains(w)).collect()
    }

    #[test]
    fn each_word_is_found_wherever_the_range_begins_and_ends() {
        const WORDS: usize = 3 * GROUP + 2;
        for place in 0..WORDS {
            let mut words = [1_u64; WORDS];
            words[place] = SPAN.0 + place as u64;
            for low in 0..=4 * WORD {
                for high in low..=WORDS * WORD {
                    let right = expected(&words, low, high);
                    assert_eq!(found(&words, low, high), right, "{place}, {low}..{high}");
                }
            }
        }
    }

    #[test]
    fn several_are_found_in_their_order() {
        for pattern in 0..1_u64 << (GROUP + 2) {
            let words: [u64; GROUP + 2] = std::array::from_fn(|i| match pattern >> i & 1 {
                0 => i as u64,
                _ => SPAN.0 + i as u64,
            });
            let high = size_of_val(&words);
            assert_eq!(found(&words, 0, high), expected(&words, 0, high));
            assert_eq!(found(&words, WORD, high), expected(&words, WORD, high));
        }
    }

    #[test]
    fn the_span_is_exact() {
        let words = [
            SPAN.0 - 1,
            SPAN.0,
            SPAN.1,
            SPAN.1 + 1,
            0,
            u64::MAX,
            SPAN.0 | 1 << 63,
            3,
        ];
        assert_eq!(words.len(), GROUP);
        assert_eq!(found(&words, 0, GROUP * WORD), [SPAN.0, SPAN.1]);
        assert_eq!(found(&words, WORD, GROUP * WORD), [SPAN.0, SPAN.1]);
        assert_eq!(found(&words, 0, 0), []);
    }

    #[test]
    fn generations_are_told_once_and_the_top_of_the_stack_first() {
        let space = CodeSpace::new("test", None).unwrap();
        let holds = Holds::new(&space);
        let (text, _, slot) = space.stripe_of(Kind::Text);
        let (mut a, mut b) = (None, None);
        holds.own(&mut a, Kind::Text, text, slot);
        holds.own(&mut b, Kind::Text, text + slot, slot);
        // The slot after these is nobody's.
        let [in_a, in_b, nobodys] = [text + 3, text + slot, text + 2 * slot + 5];
        let words = [0, in_b, in_a, nobodys, in_b, in_b + 1, 7, in_a, 9, in_b];
        let low = words.as_ptr() as usize;
        // SAFETY: within the array.
        let found = unsafe { scan(low, low + size_of_val(&words), &holds, 3) };
        assert_eq!(found.owners, [a.unwrap(), b.unwrap()]);
        assert_eq!(found.standing, [in_b, in_a, in_b]);
    }
}
