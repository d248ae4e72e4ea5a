//! Numbers of tests, the same every time.

/// Numbers between −1 and 1 that look drawn at random: Knuth's MMIX generator, whose low bits are the weak ones.
pub(crate) fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}
