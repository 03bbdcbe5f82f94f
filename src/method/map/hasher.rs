//! How keys are hashed: quickly, and so that nobody can tell beforehand which keys collide.

#[cfg(not(feature = "_checked"))]
pub(super) use self::quick::{Hasher, new};

#[cfg(feature = "_checked")]
pub(super) use crate::sync::KeyHash as Hasher;

/// The same each time, as all else is.
#[cfg(feature = "_checked")]
pub(super) fn new() -> Hasher {
    Hasher::default()
}

/// foldhash, with seeds by the system's randomness: by itself it takes addresses, and the time of day.
#[cfg(not(feature = "_checked"))]
mod quick {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::LazyLock;

    use foldhash::SharedSeed;
    use foldhash::fast::SeedableRandomState;

    pub(crate) type Hasher = SeedableRandomState;

    static SEEDS: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(random()));

    fn random() -> u64 {
        RandomState::new().hash_one(0)
    }

    pub(crate) fn new() -> Hasher {
        Hasher::with_seed(random(), &SEEDS)
    }
}
