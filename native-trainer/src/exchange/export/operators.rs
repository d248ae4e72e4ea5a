//! Values and operators that LiteRT and TensorFlow.js share.

/// A tensor of the graph.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) shape: Vec<usize>,
    pub(super) constant: Option<Constant>,
}

/// What a tensor holds that is no answer of a step.
#[derive(Debug)]
pub(super) enum Constant {
    Floats(Vec<f32>),
    Numbers(Vec<i32>),
    /// Of a convolution, `[channels_out, channels_in / groups, kernel, kernel]`.
    Kernel {
        values: Vec<f32>,
        depthwise: bool,
    },
}

/// An operator between values, by their places in [`Graph::values`](super::tensorflow::Graph).
#[derive(Debug)]
pub(super) struct Step {
    pub(super) operator: Operator,
    pub(super) inputs: Vec<usize>,
    pub(super) output: usize,
}

/// What TensorFlow applies to a sum without a step of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fused {
    Nothing,
    Relu,
    Relu6,
}

/// Rows and columns of a pool's window, and from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
}

/// Pixels beyond a map's border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Border {
    /// TensorFlow's `SAME`.
    Same,
    /// Above, left, below, right.
    Pixels([usize; 4]),
}

/// The operators; unless said otherwise, of one value to one of its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    /// Of a map, a [`Constant::Kernel`] and a bias.
    Convolution {
        depthwise: bool,
        stride: usize,
        border: Border,
        then: Fused,
    },
    /// Of two values, of which the second may have sides of 1 that are repeated.
    Add(Fused),
    /// As [`Self::Add`].
    Multiply,
    /// As [`Self::Add`], where the first may be the smaller one, too.
    Subtract,
    /// As [`Self::Add`].
    Divide,
    /// As [`Self::Add`].
    Minimum,
    Relu,
    Relu6,
    HardSwish,
    Sigmoid,
    Tanh,
    Root,
    Logarithm,
    /// Over the axes that the second input lists, which stay as sides of 1.
    Mean,
    /// As [`Self::Mean`].
    Sum,
    /// As [`Self::Mean`].
    Largest,
    /// Of any number of values, along an axis.
    Concatenate(usize),
    /// Twice as high and wide, which the second input says in pixels.
    Upsample,
    /// Widened by what the second input says, `[4, 2]`, with the value of the third.
    Pad,
    /// Of windows whose pixels are all there.
    MaxPool(Window),
    /// The same; the mean.
    AveragePool(Window),
    /// Of 2×2 pixels, stride 2, at odd borders of those that are there.
    HalfPool,
    /// Channels, in the order that the second input lists.
    Gather,
    /// To the shape of the second input.
    Reshape,
    /// The part that begins at the second input and has the size of the third.
    Slice,
    /// The axes in the order of the second input.
    Transpose,
    /// Of two stacks of matrices, the second one's with rows and columns exchanged if it is so.
    Product {
        across: bool,
    },
    /// Over the last axis.
    Softmax,
}
