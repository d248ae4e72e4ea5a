//! Eight numbers, which are computed with at once. No sum of a picture with 8 bits comes near to their limits; those of
//! other data wrap.

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(super) use plain::Lanes;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(super) use wide::Lanes;

#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
mod plain {
    use std::ops::{Add, Mul, Sub};

    #[derive(Clone, Copy)]
    pub(in super::super) struct Lanes([i32; 8]);

    impl Lanes {
        /// Loops and no iterators over arrays: these are compiled apart from the function that carries the
        /// processor's instructions.
        #[inline(always)]
        fn of(value: impl Fn(usize) -> i32) -> Self {
            let mut lanes = [0; 8];
            for (i, lane) in lanes.iter_mut().enumerate() {
                *lane = value(i);
            }
            Self(lanes)
        }

        /// The same number eight times.
        #[inline(always)]
        pub(in super::super) fn splat(value: i32) -> Self {
            Self([value; 8])
        }

        /// Coefficients times their steps of quantization.
        #[inline(always)]
        pub(in super::super) fn products(values: &[i16; 8], steps: &[u16; 8]) -> Self {
            Self::of(|i| i32::from(values[i]).wrapping_mul(i32::from(steps[i])))
        }

        /// Divided by two as many times as `shift` says, halves upwards.
        #[inline(always)]
        pub(in super::super) fn halved(self, shift: u32) -> Self {
            Self::of(|i| self.0[i].wrapping_add(1 << (shift - 1)) >> shift)
        }

        /// Rows as columns.
        #[inline(always)]
        pub(in super::super) fn turned(rows: &[Self; 8]) -> [Self; 8] {
            let mut columns = [Self([0; 8]); 8];
            for (x, column) in columns.iter_mut().enumerate() {
                *column = Self::of(|y| rows[y].0[x]);
            }
            columns
        }

        /// Samples, whose middle is 0 so far.
        #[inline(always)]
        pub(in super::super) fn samples(self) -> [u8; 8] {
            let mut samples = [0; 8];
            for (sample, value) in samples.iter_mut().zip(self.0) {
                *sample = value.wrapping_add(128).clamp(0, 255) as u8;
            }
            samples
        }
    }

    impl Add for Lanes {
        type Output = Self;

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self::of(|i| self.0[i].wrapping_add(other.0[i]))
        }
    }

    impl Sub for Lanes {
        type Output = Self;

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            Self::of(|i| self.0[i].wrapping_sub(other.0[i]))
        }
    }

    impl Mul<i32> for Lanes {
        type Output = Self;

        #[inline(always)]
        fn mul(self, factor: i32) -> Self {
            Self::of(|i| self.0[i].wrapping_mul(factor))
        }
    }
}

/// What compilers leave in single numbers for wasm, by its own instructions.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wide {
    use core::arch::wasm32::{
        i16x8_narrow_i32x4, i32x4_add, i32x4_extend_high_i16x8, i32x4_extend_low_i16x8, i32x4_mul,
        i32x4_shr, i32x4_shuffle, i32x4_splat, i32x4_sub, u8x16_narrow_i16x8,
        u32x4_extend_high_u16x8, u32x4_extend_low_u16x8, u64x2, u64x2_extract_lane, v128,
    };
    use std::ops::{Add, Mul, Sub};

    use pulp::bytemuck;

    #[derive(Clone, Copy)]
    pub(in super::super) struct Lanes([v128; 2]);

    impl Lanes {
        #[inline(always)]
        fn both(self, other: Self, of: impl Fn(v128, v128) -> v128) -> Self {
            Self([of(self.0[0], other.0[0]), of(self.0[1], other.0[1])])
        }

        /// The same number eight times.
        #[inline(always)]
        pub(in super::super) fn splat(value: i32) -> Self {
            Self([i32x4_splat(value); 2])
        }

        /// Coefficients times their steps of quantization.
        #[inline(always)]
        pub(in super::super) fn products(values: &[i16; 8], steps: &[u16; 8]) -> Self {
            let [low, high]: [u64; 2] = bytemuck::cast(*values);
            let values = u64x2(low, high);
            let [low, high]: [u64; 2] = bytemuck::cast(*steps);
            let steps = u64x2(low, high);
            Self([
                i32x4_mul(i32x4_extend_low_i16x8(values), u32x4_extend_low_u16x8(steps)),
                i32x4_mul(i32x4_extend_high_i16x8(values), u32x4_extend_high_u16x8(steps)),
            ])
        }

        /// Divided by two as many times as `shift` says, halves upwards.
        #[inline(always)]
        pub(in super::super) fn halved(self, shift: u32) -> Self {
            let half = i32x4_splat(1 << (shift - 1));
            Self(self.0.map(|lanes| i32x4_shr(i32x4_add(lanes, half), shift)))
        }

        /// Rows as columns.
        #[inline(always)]
        pub(in super::super) fn turned(rows: &[Self; 8]) -> [Self; 8] {
            let quarter = |top: usize, left: usize| {
                let [a, b, c, d] = [0, 1, 2, 3].map(|y| rows[top + y].0[left]);
                let [ab, cd] = [(a, b), (c, d)]
                    .map(|(upper, lower)| i32x4_shuffle::<0, 4, 1, 5>(upper, lower));
                let [ab2, cd2] = [(a, b), (c, d)]
                    .map(|(upper, lower)| i32x4_shuffle::<2, 6, 3, 7>(upper, lower));
                [
                    i32x4_shuffle::<0, 1, 4, 5>(ab, cd),
                    i32x4_shuffle::<2, 3, 6, 7>(ab, cd),
                    i32x4_shuffle::<0, 1, 4, 5>(ab2, cd2),
                    i32x4_shuffle::<2, 3, 6, 7>(ab2, cd2),
                ]
            };
            let [upper_left, lower_left] = [quarter(0, 0), quarter(4, 0)];
            let [upper_right, lower_right] = [quarter(0, 1), quarter(4, 1)];
            let mut columns = [Self::splat(0); 8];
            for x in 0..4 {
                columns[x] = Self([upper_left[x], lower_left[x]]);
                columns[4 + x] = Self([upper_right[x], lower_right[x]]);
            }
            columns
        }

        /// Samples, whose middle is 0 so far.
        #[inline(always)]
        pub(in super::super) fn samples(self) -> [u8; 8] {
            let [low, high] = self.0.map(|lanes| i32x4_add(lanes, i32x4_splat(128)));
            let words = i16x8_narrow_i32x4(low, high);
            u64x2_extract_lane::<0>(u8x16_narrow_i16x8(words, words)).to_le_bytes()
        }
    }

    impl Add for Lanes {
        type Output = Self;

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            self.both(other, |a, b| i32x4_add(a, b))
        }
    }

    impl Sub for Lanes {
        type Output = Self;

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            self.both(other, |a, b| i32x4_sub(a, b))
        }
    }

    impl Mul<i32> for Lanes {
        type Output = Self;

        #[inline(always)]
        fn mul(self, factor: i32) -> Self {
            let factor = i32x4_splat(factor);
            Self(self.0.map(|lanes| i32x4_mul(lanes, factor)))
        }
    }
}
