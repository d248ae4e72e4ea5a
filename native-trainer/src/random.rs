//! Random numbers that depend on nothing but named integers (seed, epoch, sample), so that results
//! do not change with the number of threads or with a resumed run.

use rand::{Rng, RngExt, SeedableRng};

/// The generator used throughout.
pub type Random = rand_chacha::ChaCha8Rng;

/// What random numbers of a run are drawn for. A number is part of every run's result: one that is given is
/// never given to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Batches of an extractor's epoch.
    ExtractorOrder = 1,
    /// Changes of an extractor's images.
    Augmentation = 2,
    /// Scenes and changed images that a detector learns from.
    Scenes = 3,
    /// Scenes that a detector is measured on.
    EvaluationScenes = 4,
    /// Batches of a detector's epoch.
    DetectorOrder = 5,
    /// Classes that the head is asked about.
    HeadClasses = 6,
    /// Sizes of a detector's input.
    InputSizes = 7,
    /// Images that are held out.
    HeldOut = 8,
}

impl Stream {
    /// The generator of a run's seed for this purpose, at a place: epoch, sample, or whatever tells places apart.
    pub fn seeded(self, seed: u64, place: impl IntoIterator<Item = u64>) -> Random {
        let parts: Vec<u64> = [seed, self as u64].into_iter().chain(place).collect();
        seeded(&parts)
    }
}

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

/// Uniform in `low..high`; `low` if the range is empty.
pub fn uniform(random: &mut impl Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * random.random::<f32>()
}

/// True with this probability.
pub fn chance(random: &mut impl Rng, probability: f32) -> bool {
    random.random::<f32>() < probability
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_draw_what_runs_of_their_numbers_drew() {
        let streams = [
            (1, Stream::ExtractorOrder),
            (2, Stream::Augmentation),
            (3, Stream::Scenes),
            (4, Stream::EvaluationScenes),
            (5, Stream::DetectorOrder),
            (6, Stream::HeadClasses),
            (7, Stream::InputSizes),
            (8, Stream::HeldOut),
        ];
        for (number, stream) in streams {
            let drawn: u64 = stream.seeded(42, [3, 7]).random();
            assert_eq!(drawn, seeded(&[42, number, 3, 7]).random::<u64>(), "{stream:?}");
        }
    }
}
