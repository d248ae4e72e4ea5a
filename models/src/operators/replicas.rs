//! One batch shared between replicas of a network.
//!
//! Each replica has the same weights and a part of the batch. The only place where pictures of a
//! batch meet inside a network is batch normalization: there the replicas tell each other their
//! statistics, forwards and backwards, so that together they compute what one network would of the
//! whole batch.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Arc;

use super::scoped;

/// How a replica hears of the others.
pub trait Exchange: Debug + Send + Sync {
    /// What every replica says at this point of a step, in one order for all of them, this one
    /// included.
    ///
    /// All replicas run the same steps and say equally many values at each. One that hears the
    /// others no more gets its own values alone: the step is lost, and whoever opened the link knows.
    fn gather(&self, values: Vec<f32>) -> Vec<Vec<f32>>;
}

thread_local! {
    static CURRENT: RefCell<Option<Replicas>> = const { RefCell::new(None) };
}

/// Runs a forward pass as one of several replicas.
///
/// The backward pass of what was computed inside hears the others as well, wherever it runs.
pub fn within<R>(exchange: Arc<dyn Exchange>, forward: impl FnOnce() -> R) -> R {
    scoped::within(&CURRENT, Some(Replicas(exchange)), forward)
}

/// The replicas that a forward pass is one of.
#[derive(Debug, Clone)]
pub struct Replicas(Arc<dyn Exchange>);

impl Replicas {
    /// Those of the forward pass that this thread is in.
    #[cfg_attr(not(feature = "train"), expect(dead_code, reason = "training alone has replicas"))]
    pub(super) fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Mean and biased variance of every channel over all replicas, from this one's over `pixels`
    /// pixels.
    ///
    /// Joined by the parallel form of the variance (Chan, Golub and `LeVeque`, 1979).
    #[cfg_attr(not(feature = "train"), expect(dead_code, reason = "training alone has replicas"))]
    pub(super) fn statistics(
        &self,
        pixels: usize,
        mean: &[f32],
        variance: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let channels = mean.len();
        let parts = self.0.gather([&[pixels as f32], mean, variance].concat());
        let total: f32 = parts.iter().map(|part| part[0]).sum();
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        for part in &parts {
            let share = part[0] / total;
            mean.iter_mut().zip(&part[1..]).for_each(|(sum, m)| *sum += share * m);
        }
        for part in &parts {
            let share = part[0] / total;
            let (means, variances) = part[1..].split_at(channels);
            for c in 0..channels {
                let apart = means[c] - mean[c];
                variance[c] += share * (variances[c] + apart * apart);
            }
        }
        (mean, variance)
    }

    /// Pixels and sums over all replicas.
    pub(super) fn sums(&self, pixels: usize, mut sums: Vec<f32>) -> (f32, Vec<f32>) {
        sums.push(pixels as f32);
        let mut total = vec![0.0; sums.len()];
        for part in self.0.gather(sums) {
            total.iter_mut().zip(&part).for_each(|(sum, value)| *sum += value);
        }
        let pixels = total.pop().unwrap_or_default();
        (pixels, total)
    }
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Alone;

    impl Exchange for Alone {
        fn gather(&self, values: Vec<f32>) -> Vec<Vec<f32>> {
            vec![values]
        }
    }

    #[test]
    fn a_panic_inside_leaves_the_thread_as_it_was() {
        let inner = || within(Arc::new(Alone), || panic!("the closure fails"));
        let ended = std::panic::catch_unwind(inner);
        assert!(ended.is_err(), "the panic goes through");
        assert!(Replicas::current().is_none());
    }
}
