//! Loops with the vectors of the processor, or of the module's build.

use pulp::WithSimd;

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
    pulp::wasm::enable_relaxed_simd();
    let simd = pulp::wasm::RelaxedSimd::try_new().expect("just enabled");
    pulp::Simd::vectorize(simd, work)
}
