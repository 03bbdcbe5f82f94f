//! Modes of stress in words, as the examples' flag `--stress-of` takes them.

use inkpot::Stress;

/// Some of the modes of stress: `evict`, `invalidate`, `recycle`, `move`, `quarantine`, between commas.
pub fn stress(modes: &str) -> Result<Stress, String> {
    let all = Stress::a_lot_with_invalidation();
    let mut stress = Stress::default();
    for mode in modes.split(',') {
        match mode {
            "evict" => stress.evict_every = all.evict_every,
            "invalidate" => stress.invalidate_every = all.invalidate_every,
            "recycle" => stress.recycle_every = all.recycle_every,
            "move" => stress.move_every = all.move_every,
            "quarantine" => stress.quarantine = true,
            _ => {
                return Err(format!(
                    "{mode}: a mode of stress is evict, invalidate, recycle, move or quarantine"
                ));
            }
        }
    }
    Ok(stress)
}
