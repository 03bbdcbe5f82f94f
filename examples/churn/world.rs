//! What there is to compile: families of methods, and the types that they see.
//!
//! A *family* is a handful of methods that were written together and see the same types, as the
//! methods of one class do. Its source never changes. Its *profile* does: each version of it names
//! other classes and other constants, and the methods are specialised to them. Everything here is
//! a pure function of the seed and of a [`Key`], so nothing has to be kept for a key that has died,
//! and what a method must return can be worked out at any time from its key alone.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Methods in a family.
pub const PARTS: u8 = 8;
/// The methods of a family that the host calls; those behind them are called from jitted code only.
pub const PUBLIC_PARTS: u8 = 7;
/// Leaves that every family calls, from jitted code only. They never change.
pub const CORE_METHODS: u8 = 16;
/// The family of those leaves.
pub const CORE: u32 = u32::MAX;
/// The family of the methods that a guest stays in.
pub const GUEST: u32 = u32::MAX - 1;
/// The first of the families that survive: their types never change.
pub const SURVIVORS: u32 = 1 << 31;
/// Classes in a profile.
pub const CLASSES: usize = 3;
/// Constants in a profile.
pub const CONSTANTS: usize = 6;
/// Fields of every class.
pub const FIELDS: usize = 8;

/// One method, specialised to one profile of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub family: u32,
    pub version: u32,
    pub part: u8,
}

impl Key {
    /// A number that no other key has: the method leaves it in the thread's trace.
    pub fn mark(&self, seed: u64) -> u64 {
        Random::of(
            seed,
            &[5, self.family.into(), self.version.into(), self.part.into()],
        )
        .next()
    }

    /// Whether it is needed for ever: a core leaf, or of a family that survives.
    pub fn stays(&self) -> bool {
        self.family >= SURVIVORS
    }
}

/// SplitMix64: the workload must be the same for a seed on every machine.
pub struct Random(u64);

impl Random {
    /// The stream that belongs to `seed` and these words.
    pub fn of(seed: u64, words: &[u64]) -> Self {
        let mut random = Self(seed);
        for word in words {
            random.0 = random.next() ^ word;
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How a class stores a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Byte,
    Short,
    Int,
    Long,
    Double,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Byte, Kind::Short, Kind::Int, Kind::Long, Kind::Double];

    /// Size and alignment in bytes.
    pub fn size(self) -> usize {
        match self {
            Kind::Byte => 1,
            Kind::Short => 2,
            Kind::Int => 4,
            Kind::Long | Kind::Double => 8,
        }
    }
}

/// A class as objects and call sites know it: by its shape, a number that no other class has. The
/// layout of its objects follows from the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    pub shape: u64,
}

/// Where a class keeps its fields, after the shape in front.
pub struct Layout {
    /// In the order of memory.
    pub kinds: [Kind; FIELDS],
    /// Field name to position in memory.
    pub position: [usize; FIELDS],
}

impl Class {
    pub fn layout(self) -> Layout {
        let mut random = Random::of(self.shape, &[7]);
        let kinds = std::array::from_fn(|_| Kind::ALL[random.below(Kind::ALL.len())]);
        let mut position = std::array::from_fn(|i| i);
        for i in (1..FIELDS).rev() {
            position.swap(i, random.below(i + 1));
        }
        Layout { kinds, position }
    }
}

impl Layout {
    /// The offset of the field at `position`, by the rules of C.
    pub fn offset(&self, position: usize) -> usize {
        let mut at = 8_usize;
        for kind in &self.kinds[..position] {
            at = at.next_multiple_of(kind.size()) + kind.size();
        }
        at.next_multiple_of(self.kinds[position].size())
    }
}

/// What a version of a family is specialised to.
pub struct Profile {
    pub classes: [Class; CLASSES],
    pub constants: [i64; CONSTANTS],
}

impl Profile {
    pub fn of(seed: u64, family: u32, version: u32) -> Self {
        let mut random = Random::of(seed, &[11, family.into(), version.into()]);
        Self {
            classes: std::array::from_fn(|_| Class {
                shape: random.next(),
            }),
            // Any 63-bit number: each version brings constants that no context has seen.
            constants: std::array::from_fn(|_| (random.next() as i64) >> 1),
        }
    }
}

/// The families and the version that each is at.
pub struct World {
    pub seed: u64,
    versions: Vec<AtomicU32>,
    /// With `--keep-all` nothing changes, and families are visited one after the other for ever.
    fresh: Option<AtomicU64>,
    /// Of the families that come to be, a change of types being the birth of one, so many survive.
    survivors: Survivors,
    changes: AtomicU64,
}

/// The families whose types never change, born one by one among the others.
#[derive(Clone, Copy, Default)]
pub struct Survivors {
    /// Of all families that come to be: 0 to less than 1.
    pub share: f64,
    pub most: u32,
}

impl World {
    pub fn new(seed: u64, families: usize, survivors: Survivors, keep_all: bool) -> Self {
        Self {
            seed,
            versions: (0..families).map(|_| AtomicU32::new(0)).collect(),
            fresh: keep_all.then(|| AtomicU64::new(0)),
            survivors,
            changes: AtomicU64::new(0),
        }
    }

    /// How many families have been born that survive: from [`SURVIVORS`] on.
    pub fn survivors(&self) -> u32 {
        let Survivors { share, most } = self.survivors;
        let changes = self.changes.load(Ordering::Relaxed) as f64;
        // As a conversion saturates, this holds for any number.
        ((changes * share / (1.0 - share)) as u32).min(most)
    }

    /// The next family to visit, and its version. Low numbers come oftener.
    pub fn pick(&self, random: &mut Random) -> (u32, u32) {
        if let Some(fresh) = &self.fresh {
            let known = fresh.load(Ordering::Relaxed);
            let family = if known > 0 && random.chance(25) {
                random.below(known as usize) as u64
            } else {
                fresh.fetch_add(1, Ordering::Relaxed)
            };
            return (family as u32, 0);
        }
        let family = self.pick_family(random);
        (family as u32, self.versions[family].load(Ordering::Acquire))
    }

    /// Whether the types of a method's family are still those that it is specialised to.
    pub fn is_current(&self, key: Key) -> bool {
        self.versions
            .get(key.family as usize)
            .is_none_or(|version| version.load(Ordering::Acquire) == key.version)
    }

    fn pick_family(&self, random: &mut Random) -> usize {
        let n = self.versions.len();
        // The smaller of two: a family in front is chosen oftener than one at the end.
        random.below(n).min(random.below(n))
    }

    /// The types that some family sees change. Returns the family and the version that is over;
    /// `None` where nothing ever changes.
    pub fn change(&self, random: &mut Random) -> Option<(u32, u32)> {
        if self.fresh.is_some() {
            return None;
        }
        let family = self.pick_family(random);
        self.changes.fetch_add(1, Ordering::Relaxed);
        Some((
            family as u32,
            self.versions[family].fetch_add(1, Ordering::AcqRel),
        ))
    }
}
