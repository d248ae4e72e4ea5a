//! What a step of a list does, and what it may be asked for.

use serde::{Deserialize, Serialize};

use crate::layers::{
    Activation, ConvShape, Gate, GlobalPool, Grid, Pick, Pool, Resampling, Tokens,
};
use crate::limits::{LimitError, MAX_WIDTH, within};
use crate::values::Device;

/// Widest kernel and longest stride: a whole map of most networks fits into one.
const KERNELS: std::ops::RangeInclusive<usize> = 1..=64;
/// Numbers that are added to a variance or to a squared length.
const EPSILONS: std::ops::RangeInclusive<f64> = 1e-12..=1.0;

/// Channels that a shader computes at once.
const LANES: usize = 4;
/// Channels of a head: as many as a workgroup of the shaders adds up at once.
const HEADS: std::ops::RangeInclusive<usize> = 4..=256;
/// Most pixels that attention looks at.
const MOST_PIXELS: usize = 16_384;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphStep {
    /// Convolution with bias and activation.
    Conv(GraphConv),
    /// A product at every pixel, to so many channels.
    Linear(usize),
    /// A factor and a summand a channel.
    Affine,
    /// Every pixel normalized over its channels; the number is added to the variance.
    LayerNorm(f64),
    /// An activation with nothing before it.
    Activate(Activation),
    /// A function of every value.
    Gate(Gate),
    /// Sum of two maps.
    Add,
    /// `max(a + b, 0)`
    AddRelu,
    /// Product of two maps.
    Multiply,
    /// Every channel of the first map times its value in the second, of one pixel.
    Scale,
    /// The channels of the first map, then those of the second.
    Concatenate,
    /// Windows of a map, pooled.
    Pool(Pool),
    /// One pixel from all.
    GlobalPool(GlobalPool),
    /// Some channels, or all in another order.
    Pick(Pick),
    /// Every pixel repeated so many times down and to the right.
    Enlarge([usize; 2]),
    /// Every pixel's vector brought to unit length.
    UnitLength,
    /// A map as one line behind learned pixels, with learned values added.
    Tokens(GraphTokens),
    /// Of queries, keys and values the mean of the values, by so many heads; see [`Flow::attend`](crate::layers::Flow).
    Attend(usize),
    /// The first pixel of a line.
    First,
    /// The pixels of a line behind so many, with the height and width of the second map.
    Behind(usize),
}

/// What comes before the pixels of a line, and what is added to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphTokens {
    /// Learned pixels before all others.
    #[serde(default)]
    pub before: usize,
    /// Rows and columns of the map whose every pixel has values of its own that are added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<[usize; 2]>,
}

/// A convolution's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphConv {
    /// Channels that come out.
    pub channels: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step in both directions.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub stride: usize,
    /// Groups of channels that see nothing of each other.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Zeros beyond the border: above, left, below, right.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub padding: [usize; 4],
    /// What is applied behind it.
    #[serde(default = "identity", skip_serializing_if = "is_identity")]
    pub activation: Activation,
}

fn one() -> usize {
    1
}

fn identity() -> Activation {
    Activation::Identity
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_one(value: &usize) -> bool {
    *value == 1
}

fn is_nothing(padding: &[usize; 4]) -> bool {
    *padding == [0; 4]
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_identity(activation: &Activation) -> bool {
    *activation == Activation::Identity
}

impl GraphStep {
    /// How many maps it takes.
    pub const fn arity(&self) -> usize {
        match self {
            Self::Add
            | Self::AddRelu
            | Self::Multiply
            | Self::Scale
            | Self::Concatenate
            | Self::Behind(_) => 2,
            Self::Attend(_) => 3,
            _ => 1,
        }
    }

    /// Channels that come out, of those that go in.
    pub(super) fn channels(&self, inputs: &[usize]) -> Result<usize, LimitError> {
        let first = inputs[0];
        let equal = |key: &str| {
            let allowed = format!("the other map has {first} channels");
            let same = inputs.iter().all(|channels| *channels == first);
            if same { Ok(first) } else { Err(LimitError::new(key, inputs[1], allowed)) }
        };
        match self {
            Self::Conv(conv) => conv.check(first),
            Self::Linear(channels) => {
                within("linear", *channels, &(1..=MAX_WIDTH)).map(|()| *channels)
            }
            Self::LayerNorm(epsilon) => within("layer_norm", *epsilon, &EPSILONS).map(|()| first),
            Self::Concatenate => {
                let all = inputs.iter().sum();
                within("concatenate", all, &(1..=MAX_WIDTH)).map(|()| all)
            }
            Self::Add | Self::AddRelu | Self::Multiply => equal("add"),
            Self::Scale => equal("scale"),
            Self::Pool(pool) => check_pool(pool).map(|()| first),
            Self::Pick(pick) => check_pick(*pick, first),
            Self::Enlarge(factors) => {
                factors.iter().try_for_each(|factor| within("enlarge", *factor, &(1..=4096)))?;
                Ok(first)
            }
            Self::Tokens(tokens) => tokens.check(first),
            Self::Attend(heads) => {
                let head = first.checked_div(*heads).unwrap_or_default();
                let is_shared = head * heads == first && head.is_multiple_of(LANES);
                if !is_shared || !HEADS.contains(&head) {
                    let allowed = format!(
                        "{first} channels are shared by heads of a multiple of {LANES} channels, up to {} each",
                        HEADS.end()
                    );
                    return Err(LimitError::new("attend", heads, allowed));
                }
                equal("attend")
            }
            Self::Behind(before) => within("behind", *before, &(0..=MOST_PIXELS)).map(|()| first),
            Self::Affine
            | Self::First
            | Self::Activate(_)
            | Self::Gate(_)
            | Self::GlobalPool(_)
            | Self::UnitLength => Ok(first),
        }
    }

    /// Weights of a checked step, as a plan lays them out.
    pub(super) fn weights(&self, channels_in: usize) -> u64 {
        let channels = channels_in as u64;
        match self {
            // Groups are run as one dense layer where each has more than one channel.
            Self::Conv(conv) => {
                let is_depthwise = conv.groups == channels_in && conv.channels == channels_in;
                let seen = if is_depthwise { 1 } else { channels };
                (conv.kernel * conv.kernel) as u64 * seen * conv.channels as u64
            }
            Self::Linear(channels_out) => channels * *channels_out as u64,
            Self::Tokens(GraphTokens { before, places }) => {
                let [rows, columns] = places.unwrap_or_default().map(|side| side as u64);
                channels * (*before as u64 + rows * columns)
            }
            _ => 2 * channels,
        }
    }

    /// Rows and columns that come out, of those that go in.
    pub(super) fn sides(&self, inputs: &[[usize; 2]]) -> Result<[usize; 2], LimitError> {
        let first = inputs[0];
        let [height, width] = first;
        let pixels = |[height, width]: [usize; 2]| format!("{height} × {width} pixels");
        match self {
            Self::Conv(conv) => {
                let sides: [usize; 2] = std::array::from_fn(|axis| {
                    let padded = first[axis] + conv.padding[axis] + conv.padding[axis + 2];
                    padded.checked_sub(conv.kernel).map_or(0, |room| room / conv.stride + 1)
                });
                Ok(sides)
            }
            Self::Pool(pool) => Ok(pool.windows(first)),
            Self::GlobalPool(_) => Ok([1, 1]),
            Self::Enlarge([down, right]) => {
                Ok([height.saturating_mul(*down), width.saturating_mul(*right)])
            }
            Self::Scale if inputs[1] != [1, 1] => {
                Err(LimitError::new("scale", pixels(inputs[1]), "a gate has one pixel"))
            }
            Self::Add | Self::AddRelu | Self::Multiply | Self::Concatenate
                if inputs[1] != first =>
            {
                let allowed = format!("the other map has {}", pixels(first));
                Err(LimitError::new("inputs", pixels(inputs[1]), allowed))
            }
            Self::Tokens(tokens) => tokens.sides(first),
            Self::Attend(_) => {
                let [asking, told] = [inputs[0], inputs[1]].map(|[height, width]| height * width);
                within("attend", asking.max(told), &(1..=MOST_PIXELS))?;
                if inputs[1] == inputs[2] {
                    return Ok(first);
                }
                let allowed = format!("keys have {}, values as many", pixels(inputs[1]));
                Err(LimitError::new("attend", pixels(inputs[2]), allowed))
            }
            Self::First if height == 1 => Ok([1, 1]),
            Self::Behind(before)
                if height == 1 && width == before + inputs[1][0] * inputs[1][1] =>
            {
                Ok(inputs[1])
            }
            Self::First | Self::Behind(_) => Err(LimitError::new(
                "inputs",
                pixels(first),
                "a line of as many pixels as are taken",
            )),
            _ => Ok(first),
        }
    }
}

impl GraphTokens {
    fn check(self, channels: usize) -> Result<usize, LimitError> {
        within("tokens.before", self.before, &(0..=MOST_PIXELS))?;
        if let Some(sides) = self.places {
            sides.iter().try_for_each(|side| within("tokens.places", *side, &(1..=MOST_PIXELS)))?;
        }
        if channels.is_multiple_of(LANES) {
            return Ok(channels);
        }
        let allowed = format!("tokens have a multiple of {LANES} channels");
        Err(LimitError::new("channels", channels, allowed))
    }

    fn sides(self, [height, width]: [usize; 2]) -> Result<[usize; 2], LimitError> {
        match self.places {
            Some([rows, columns]) if [rows, columns] != [height, width] => {
                let allowed = format!(
                    "its values are for {rows} × {columns}; give the input size that the graph was made for"
                );
                Err(LimitError::new("pixels", format!("{height} × {width}"), allowed))
            }
            _ => Ok([1, height.saturating_mul(width).saturating_add(self.before)]),
        }
    }

    /// A layer of this many channels.
    pub(super) fn layer(self, channels: usize, device: &Device) -> Tokens {
        let grid = self.places.map(|[rows, columns]| Grid {
            rows,
            columns,
            has_class: false,
            resampling: Resampling::default(),
        });
        Tokens::new(channels, false, self.before, grid, device)
    }
}

impl GraphConv {
    /// Channels that come out, if such a layer can be made for so many that go in.
    fn check(&self, channels_in: usize) -> Result<usize, LimitError> {
        within("channels", self.channels, &(1..=MAX_WIDTH))?;
        within("kernel", self.kernel, &KERNELS)?;
        within("stride", self.stride, &KERNELS)?;
        within("groups", self.groups, &(1..=channels_in))?;
        if !channels_in.is_multiple_of(self.groups) || !self.channels.is_multiple_of(self.groups) {
            let allowed = format!("it divides {channels_in} and {}", self.channels);
            return Err(LimitError::new("groups", self.groups, allowed));
        }
        self.padding
            .iter()
            .try_for_each(|side| within("padding", *side, &(0..=self.kernel - 1)))?;
        // Products and their gradients are made for odd kernels, and for patches.
        if self.kernel.is_multiple_of(2) && !self.is_patches() {
            let allowed = "it is odd, or, without groups, as long as the stride";
            return Err(LimitError::new("kernel", self.kernel, allowed));
        }
        Ok(self.channels)
    }

    /// Whether its windows lie beside each other.
    pub(super) const fn is_patches(&self) -> bool {
        self.kernel == self.stride && self.groups == 1
    }

    pub(super) fn shape(&self, channels_in: usize) -> ConvShape {
        ConvShape::grouped(channels_in, self.channels, self.kernel, self.stride, self.groups)
    }
}

fn check_pool(pool: &Pool) -> Result<(), LimitError> {
    for side in pool.kernel.iter().chain(&pool.stride) {
        within("pool", *side, &(1..=4096))?;
    }
    for (index, side) in pool.padding.iter().enumerate() {
        within("padding", *side, &(0..=pool.kernel[index % 2] - 1))?;
    }
    Ok(())
}

fn check_pick(pick: Pick, channels: usize) -> Result<usize, LimitError> {
    let Pick { start, count, groups } = pick;
    within("start", start, &(0..=channels))?;
    within("count", count, &(1..=channels.saturating_sub(start).max(1)))?;
    within("groups", groups, &(1..=count))?;
    if start + count > channels || !count.is_multiple_of(groups) {
        let allowed = format!("they are among {channels} channels, and the groups divide them");
        return Err(LimitError::new("count", count, allowed));
    }
    Ok(count)
}
