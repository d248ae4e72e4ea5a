//! Loops with the vectors of the processor, or of the module's build.

mod comparison;

#[cfg(any(not(target_arch = "wasm32"), feature = "relaxed"))]
pub(crate) use comparison::extremes;
pub(crate) use comparison::{larger, smaller};

use pulp::WithSimd;

/// Says which vectors this module is made for. An engine calls it before all else: the first loop that asks, in whatever
/// crate, decides for all.
pub fn choose_vectors() {
    #[cfg(all(target_arch = "wasm32", feature = "relaxed"))]
    pulp::wasm::enable_relaxed_simd();
}

/// Runs a loop with the widest vectors of the processor.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    pulp::Arch::new().dispatch(work)
}

/// Runs a loop with the vectors that this module is made for.
#[cfg(all(target_arch = "wasm32", not(feature = "relaxed")))]
pub(crate) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    let simd = pulp::wasm::Simd128::try_new().expect("compiled for 128-bit vectors");
    pulp::Simd::vectorize(simd, work)
}

/// Runs a loop with the vectors that this module is made for.
#[cfg(all(target_arch = "wasm32", feature = "relaxed"))]
pub(crate) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    choose_vectors();
    let simd = pulp::wasm::RelaxedSimd::try_new().expect("chosen before all else");
    pulp::Simd::vectorize(simd, work)
}

/// Whether a product is added in one rounding here, as processors with fused multiplication and addition do it: then
/// embeddings are the same to the last bit as on any other machine that does. Relaxed SIMD leaves it to the browser.
pub fn is_fused() -> bool {
    struct Fused;

    impl WithSimd for Fused {
        type Output = bool;

        #[expect(clippy::inline_always, reason = "vector code is chosen where it is inlined into")]
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, simd: S) -> bool {
            // (1 + ε)² less 1 + 2ε: two roundings leave nothing of ε².
            let one = std::hint::black_box(1.0 + f32::EPSILON);
            let sum = std::hint::black_box(-1.0 - 2.0 * f32::EPSILON);
            let (one, sum) = (simd.splat_f32s(one), simd.splat_f32s(sum));
            simd.reduce_max_f32s(simd.mul_add_e_f32s(one, one, sum)) > 0.0
        }
    }

    dispatch(Fused)
}
