//! The larger and the smaller of numbers.
//!
//! With relaxed SIMD each is one instruction of a processor. WebAssembly's plain ones have a rule for
//! what is not a number, which takes seven on x86 (and one on ARM, where browsers without relaxed SIMD
//! mostly run).

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

#[cfg(not(all(target_arch = "wasm32", feature = "relaxed")))]
pub(crate) use plain::*;
#[cfg(all(target_arch = "wasm32", feature = "relaxed"))]
pub(crate) use relaxed::*;

#[cfg(not(all(target_arch = "wasm32", feature = "relaxed")))]
mod plain {
    use pulp::Simd;

    /// The larger values of two vectors of numbers.
    #[inline(always)]
    pub(crate) fn larger<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.max_f32s(a, b)
    }

    /// The smaller values of two vectors of numbers.
    #[inline(always)]
    pub(crate) fn smaller<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.min_f32s(a, b)
    }

    /// The least of one vector's numbers and the largest of another's.
    #[cfg(not(target_arch = "wasm32"))]
    #[inline(always)]
    pub(crate) fn extremes<S: Simd>(simd: S, least: S::f32s, largest: S::f32s) -> (f32, f32) {
        (simd.reduce_min_f32s(least), simd.reduce_max_f32s(largest))
    }
}

#[cfg(all(target_arch = "wasm32", feature = "relaxed"))]
mod relaxed {
    use core::arch::wasm32::{
        f32x4, f32x4_extract_lane, f32x4_relaxed_max, f32x4_relaxed_min, i32x4_shuffle, v128,
    };

    use pulp::{Simd, bytemuck};

    #[inline(always)]
    fn of<S: Simd>(values: S::f32s) -> v128 {
        let [a, b, c, d]: [f32; 4] = bytemuck::cast(values);
        f32x4(a, b, c, d)
    }

    #[inline(always)]
    fn back<S: Simd>(values: v128) -> S::f32s {
        bytemuck::cast([
            f32x4_extract_lane::<0>(values),
            f32x4_extract_lane::<1>(values),
            f32x4_extract_lane::<2>(values),
            f32x4_extract_lane::<3>(values),
        ])
    }

    // Single values are vectors of one, which is known while this is compiled.
    #[inline(always)]
    pub(crate) fn larger<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        if S::F32_LANES == 1 {
            return simd.max_f32s(a, b);
        }
        back::<S>(f32x4_relaxed_max(of::<S>(a), of::<S>(b)))
    }

    #[inline(always)]
    pub(crate) fn smaller<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        if S::F32_LANES == 1 {
            return simd.min_f32s(a, b);
        }
        back::<S>(f32x4_relaxed_min(of::<S>(a), of::<S>(b)))
    }

    #[inline(always)]
    pub(crate) fn extremes<S: Simd>(_: S, least: S::f32s, largest: S::f32s) -> (f32, f32) {
        #[inline(always)]
        fn of_all(values: v128, better: impl Fn(v128, v128) -> v128) -> f32 {
            let halves = better(values, i32x4_shuffle::<2, 3, 0, 1>(values, values));
            let best = better(halves, i32x4_shuffle::<1, 0, 3, 2>(halves, halves));
            f32x4_extract_lane::<0>(best)
        }
        let least = of_all(of::<S>(least), |a, b| f32x4_relaxed_min(a, b));
        (least, of_all(of::<S>(largest), |a, b| f32x4_relaxed_max(a, b)))
    }
}
