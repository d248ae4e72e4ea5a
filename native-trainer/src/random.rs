//! Random numbers that depend on nothing but named integers (seed, epoch, sample), so that results
//! do not change with the number of threads or with a resumed run.

use rand::{Rng, RngExt, SeedableRng};

/// The generator used throughout.
pub type Random = rand_chacha::ChaCha8Rng;

/// A generator for this place in the run.
pub fn seeded(parts: &[u64]) -> Random {
    // splitmix64 over the parts: neighboring seeds give unrelated streams.
    let mut state = 0_u64;
    for part in parts {
        state = state.wrapping_add(*part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^= state >> 31;
    }
    Random::seed_from_u64(state)
}

/// Uniform in `low..high`; `low` where the range is empty.
pub fn uniform(random: &mut impl Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * random.random::<f32>()
}

/// True with this probability.
pub fn chance(random: &mut impl Rng, probability: f32) -> bool {
    random.random::<f32>() < probability
}
