//! Embeddings in few bytes: rotated into directions that matter, then rounded by each one's own step.

use crate::index::exact_product;

/// Most bits of a value.
pub(super) const MOST_BITS: u8 = 8;

/// Steps with which values of variance 1 lose least when they are rounded to so many bits, from 1 bit
/// on: Max, "Quantizing for Minimum Distortion" (1960), table II.
#[cfg(feature = "parallel")]
const STEPS: [f32; MOST_BITS as usize] =
    [1.596, 0.9957, 0.586, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308];

/// How many bits each component takes, and how far its levels are apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Coder {
    pub(super) bits: Vec<u8>,
    pub(super) steps: Vec<f32>,
}

impl Coder {
    /// Gives at most so many bytes to components, each bit to the one whose rounding moves similarities
    /// most without it, until these move by less than `tolerance` on average.
    ///
    /// # Shapes
    ///
    /// - `variances`: `[components]`, of what is coded
    /// - `weights`: `[components]`, mean squares of what it is multiplied with
    #[cfg(feature = "parallel")]
    pub(super) fn for_variances(
        variances: &[f64],
        weights: &[f64],
        bytes: usize,
        tolerance: f64,
    ) -> Self {
        let mut bits = vec![0_u8; variances.len()];
        // What rounding to no bits, one bit, … costs, roughly.
        let mut left: Vec<f64> = variances.iter().zip(weights).map(|(v, w)| v * w).collect();
        let mut free = bytes * 8;
        let enough = |left: &[f64]| left.iter().sum::<f64>() < tolerance * tolerance;
        while free > 0 && !enough(&left) {
            let open = (0..left.len()).filter(|place| bits[*place] < MOST_BITS);
            let Some(place) = open.max_by(|a, b| left[*a].total_cmp(&left[*b])) else { break };
            bits[place] += 1;
            left[place] /= 4.0;
            free -= 1;
        }
        let step = |(bits, variance): (&u8, &f64)| match bits {
            0 => 0.0,
            bits => STEPS[usize::from(*bits) - 1] * variance.sqrt() as f32,
        };
        let steps = bits.iter().zip(variances).map(step).collect();
        Self { bits, steps }
    }

    /// Bytes of a code.
    pub(super) fn bytes(&self) -> usize {
        self.bits.iter().map(|bits| usize::from(*bits)).sum::<usize>().div_ceil(8)
    }

    /// Rounds values, one a component.
    #[cfg(feature = "parallel")]
    pub(super) fn encode(&self, values: &[f32], code: &mut Vec<u8>) {
        let (mut pending, mut count) = (0_u32, 0);
        for ((bits, step), value) in self.bits.iter().zip(&self.steps).zip(values) {
            if *bits == 0 {
                continue;
            }
            let half = f32::from(1_u8 << (bits - 1));
            let level = (value / step).floor().clamp(-half, half - 1.0) + half;
            pending |= (level as u32) << count;
            count += bits;
            while count >= 8 {
                code.push(pending as u8);
                (pending, count) = (pending >> 8, count - 8);
            }
        }
        if count > 0 {
            code.push(pending as u8);
        }
    }

    /// Hands each component that has bits, with its value, to `use_value`. Bytes that are missing count
    /// as zeros.
    #[inline]
    pub(super) fn decode(&self, code: &[u8], mut use_value: impl FnMut(usize, f32)) {
        let mut bytes = code.iter();
        let (mut pending, mut count) = (0_u32, 0);
        for (component, (bits, step)) in self.bits.iter().zip(&self.steps).enumerate() {
            if *bits == 0 {
                continue;
            }
            if count < *bits {
                pending |= u32::from(bytes.next().copied().unwrap_or_default()) << count;
                count += 8;
            }
            let level = pending & ((1 << bits) - 1);
            (pending, count) = (pending >> bits, count - bits);
            let half = f32::from(1_u8 << (bits - 1));
            use_value(component, (level as f32 - half + 0.5) * step);
        }
    }

    /// The product of a code with a query that was rotated.
    pub(super) fn product(&self, code: &[u8], rotated: &[f32]) -> f32 {
        let mut sum = 0.0;
        self.decode(code, |component, value| sum += value * rotated[component]);
        sum
    }
}

/// The directions, and how centroids and what they leave are rounded in them.
#[derive(Debug, Clone)]
pub(super) struct Transform {
    pub(super) dim: usize,
    /// `[components, dim]`
    pub(super) directions: Vec<f32>,
    pub(super) centroids: Coder,
    pub(super) residuals: Coder,
}

impl Transform {
    /// Components of an embedding.
    ///
    /// # Shapes
    ///
    /// - `values`: `[dim]`
    /// - output: `[components]`
    pub(super) fn rotate(&self, values: &[f32]) -> Vec<f32> {
        self.directions.chunks_exact(self.dim).map(|d| exact_product(d, values)).collect()
    }

    /// The components of a centroid's code.
    pub(super) fn centroid(&self, code: &[u8]) -> Vec<f32> {
        let mut components = vec![0.0; self.centroids.bits.len()];
        self.centroids.decode(code, |component, value| components[component] = value);
        components
    }

    /// The embedding of some components.
    ///
    /// # Shapes
    ///
    /// - `components`: `[components]`
    /// - output: `[dim]`
    pub(super) fn back(&self, components: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; self.dim];
        for (amount, direction) in components.iter().zip(self.directions.chunks_exact(self.dim)) {
            values.iter_mut().zip(direction).for_each(|(v, d)| *v += amount * d);
        }
        values
    }
}
