//! What generations take, and what keeps them.

use std::collections::BTreeSet;

use super::{BIG, Key};
use crate::support::synthetic::{Code, How};

const SLOT: u64 = 16 << 10;
const UNWIND_SLOT: u64 = 32 << 10;

/// Bytes of one generation, without its context: what it takes at least, and at most (its text
/// can be in one piece or in several).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of the methods' code, and how many of them are larger than a slot.
    text: u64,
    big: u64,
    /// Times that methods moved in: what comes together is in one piece.
    moves: u64,
    constants: bool,
    unwind: bool,
    pub context: u64,
}

impl Size {
    pub fn add(&mut self, code: Code) {
        // Every object is padded by 1 to 31 bytes.
        self.text += u64::from(code.padding) + 48;
        self.big += u64::from(code.padding == BIG);
        self.constants |= matches!(code.how, How::Host | How::Unresolved);
        self.unwind |= code.frames;
    }

    /// Methods move in together.
    pub fn move_in(&mut self, codes: &[Code]) {
        codes.iter().for_each(|code| self.add(*code));
        self.moves += 1;
    }

    pub fn text(&self) -> (u64, u64) {
        let least = self.text.div_ceil(SLOT) * SLOT;
        (least, least + (self.big + self.moves) * SLOT)
    }

    pub fn constants(&self) -> u64 {
        u64::from(self.constants) * SLOT
    }

    pub fn unwind(&self) -> u64 {
        u64::from(self.unwind) * UNWIND_SLOT
    }

    /// Everything but the context, at least and at most.
    pub fn mapped(&self) -> (u64, u64) {
        let (least, most) = self.text();
        let rest = self.constants() + self.unwind();
        (least + rest, most + rest)
    }

    /// Everything, at least and at most.
    pub fn total(&self) -> (u64, u64) {
        let (least, most) = self.mapped();
        (least + self.context, most + self.context)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Generation {
    pub id: u64,
    pub live: BTreeSet<Key>,
    pub callees: BTreeSet<Key>,
    pub methods: usize,
    pub size: Size,
    /// What is in it was compiled elsewhere: it has no context.
    pub survivors: bool,
    /// Pins that were there when it died: as long as one is, it must not be freed.
    pub blockers: BTreeSet<u64>,
}
