//! Distance to a learned center of the class.
//!
//! Agrees with PaddleClas `ppcls/loss/centerloss.py` @ d178931, including its bounds on a squared
//! distance, which give every other class 1e-12.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};

/// Bounds of a squared distance.
const BOUNDS: [f64; 2] = [1e-12, 1e12];

/// `Σ ‖f − center of its class‖²` over rows, divided by the batch.
///
/// Source: "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016, Eq. 2.
#[derive(Module, Debug)]
pub struct Center {
    /// `[classes, dim]`, learned beside the network, see [`Self::follow`].
    pub centers: Param<Tensor<2>>,
}

impl Center {
    /// Centers drawn from N(0, 1).
    pub fn new(classes: usize, dim: usize, device: &Device) -> Self {
        let standard = Initializer::Normal { mean: 0.0, std: 1.0 };
        Self { centers: standard.init([classes, dim], device) }
    }

    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`
    /// - `targets`: `[batch]`
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let centers = self.centers.val();
        let others = centers.dims()[0] as f64 - 1.0;
        let own = centers.select(0, targets);
        let squared = (features - own).powi_scalar(2).sum_dim(1).clamp(BOUNDS[0], BOUNDS[1]);
        squared.mean() + others * BOUNDS[0]
    }
    /// A step of gradient descent of the centers on [`Self::forward`]: the reference's own
    /// optimizer for them.
    ///
    /// # Shapes
    ///
    /// As [`Self::forward`]; everything on a device without gradients.
    pub fn follow(&mut self, features: Tensor<2>, targets: Tensor<1, Int>, rate: f64) {
        let rows = features.dims()[0] as f64;
        let centers = self.centers.val();
        let pull = (features - centers.clone().select(0, targets.clone())) * (2.0 * rate / rows);
        let moved = centers.select_assign(0, targets, pull, IndexingUpdateOp::Add);
        self.centers = Param::from_tensor(moved);
    }
}
