//! The necks of PicoDet: maps of stride 8 to 32 are joined top-down, then bottom-up, and stride 64
//! is added. CSP-PAN joins with CSP layers, the newer LC-PAN with pairs of depthwise-separable blocks.
//!
//! Source: PP-PicoDet, <https://arxiv.org/abs/2111.00902>, §2.2; LC-PAN is of its release of 2022.
//! Agrees with PaddleDetection `ppdet/modeling/necks/csp_pan.py` (`CSPPAN`) @ 666f597, follows
//! `lc_pan.py` (`LCPAN`), of which there are no recorded numbers to compare with.

use super::DetectorVariant;
use crate::backbone::DepthwiseSeparable;
use crate::layers::{Activation, ConvBn, ConvShape, Flow, Padding};
use crate::values::{Device, Module};

pub(super) const ACTIVATION: Activation = Activation::HardSwish;
pub(super) const KERNEL: usize = 5;

fn pointwise(channels_in: usize, channels_out: usize, fused: bool, device: &Device) -> ConvBn {
    ConvBn::new(ConvShape::pointwise(channels_in, channels_out), ACTIVATION, fused, device)
}

/// Depthwise 5×5, pointwise 1×1; normalized and activated behind both.
#[derive(Module, Debug)]
pub(crate) struct DpModule {
    pub(crate) dw: ConvBn,
    pub(crate) pw: ConvBn,
}

impl DpModule {
    pub(crate) fn new(channels: usize, stride: usize, fused: bool, device: &Device) -> Self {
        let shape = ConvShape::depthwise(channels, KERNEL, stride);
        Self {
            dw: ConvBn::new(shape, ACTIVATION, fused, device),
            pw: pointwise(channels, channels, fused, device),
        }
    }

    pub(crate) fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let x = flow.conv_bn(x, &self.dw, Padding::Even);
        flow.conv_bn(x, &self.pw, Padding::Even)
    }

    #[cfg(feature = "tensors")]
    pub(crate) fn fuse(self) -> Self {
        Self { dw: self.dw.fuse(), pw: self.pw.fuse() }
    }
}

/// One bottleneck on half of the channels, joined with the other half.
#[derive(Module, Debug)]
struct CspLayer {
    main_conv: ConvBn,
    short_conv: ConvBn,
    final_conv: ConvBn,
    bottleneck: Bottleneck,
}

#[derive(Module, Debug)]
struct Bottleneck {
    conv1: ConvBn,
    conv2: DpModule,
}

impl CspLayer {
    fn new(channels_in: usize, channels_out: usize, fused: bool, device: &Device) -> Self {
        let half = channels_out / 2;
        Self {
            main_conv: pointwise(channels_in, half, fused, device),
            short_conv: pointwise(channels_in, half, fused, device),
            final_conv: pointwise(2 * half, channels_out, fused, device),
            bottleneck: Bottleneck {
                conv1: pointwise(half, half, fused, device),
                conv2: DpModule::new(half, 1, fused, device),
            },
        }
    }

    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let short = flow.conv_bn(x.clone(), &self.short_conv, Padding::Even);
        let main = flow.conv_bn(x, &self.main_conv, Padding::Even);
        let main = flow.conv_bn(main, &self.bottleneck.conv1, Padding::Even);
        let main = self.bottleneck.conv2.wire(flow, main);
        let both = flow.concatenate(main, short);
        flow.conv_bn(both, &self.final_conv, Padding::Even)
    }

    #[cfg(feature = "tensors")]
    fn fuse(self) -> Self {
        Self {
            main_conv: self.main_conv.fuse(),
            short_conv: self.short_conv.fuse(),
            final_conv: self.final_conv.fuse(),
            bottleneck: Bottleneck {
                conv1: self.bottleneck.conv1.fuse(),
                conv2: self.bottleneck.conv2.fuse(),
            },
        }
    }
}

/// Keeps the joined width, then halves it.
#[derive(Module, Debug)]
struct Pair {
    wide: DepthwiseSeparable,
    narrow: DepthwiseSeparable,
}

impl Pair {
    fn new(channels: usize, fused: bool, device: &Device) -> Self {
        let block = |channels_out| {
            let shape = ConvShape::depthwise(2 * channels, KERNEL, 1);
            DepthwiseSeparable::new(shape, channels_out, false, fused, device)
        };
        Self { wide: block(2 * channels), narrow: block(channels) }
    }

    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let x = self.wide.wire(flow, x);
        self.narrow.wire(flow, x)
    }

    #[cfg(feature = "tensors")]
    fn fuse(self) -> Self {
        Self { wide: self.wide.fuse(), narrow: self.narrow.fuse() }
    }
}

/// What makes one map of two joined ones.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "four values a network")]
enum Join {
    Csp(CspLayer),
    Pair(Pair),
}

impl Join {
    fn new(variant: DetectorVariant, channels: usize, fused: bool, device: &Device) -> Self {
        match variant {
            DetectorVariant::First => {
                Self::Csp(CspLayer::new(2 * channels, channels, fused, device))
            }
            DetectorVariant::Second => Self::Pair(Pair::new(channels, fused, device)),
        }
    }

    fn wire<F: Flow>(&self, flow: &mut F, a: F::Map, b: F::Map) -> F::Map {
        let both = flow.concatenate(a, b);
        match self {
            Self::Csp(layer) => layer.wire(flow, both),
            Self::Pair(pair) => pair.wire(flow, both),
        }
    }

    #[cfg(feature = "tensors")]
    fn fuse(self) -> Self {
        match self {
            Self::Csp(layer) => Self::Csp(layer.fuse()),
            Self::Pair(pair) => Self::Pair(pair.fuse()),
        }
    }
}

/// The neck of [`crate::detector::Detector`].
#[derive(Module, Debug)]
pub struct Pan {
    conv_t: Vec<ConvBn>,
    first_top_conv: DpModule,
    second_top_conv: DpModule,
    top_down_blocks: Vec<Join>,
    downsamples: Vec<DpModule>,
    bottom_up_blocks: Vec<Join>,
}

impl Pan {
    /// A freshly initialized neck.
    pub fn new(
        variant: DetectorVariant,
        channels_in: [usize; 3],
        channels: usize,
        fused: bool,
        device: &Device,
    ) -> Self {
        let join = || Join::new(variant, channels, fused, device);
        let downsample = || DpModule::new(channels, 2, fused, device);
        Self {
            conv_t: channels_in.map(|c| pointwise(c, channels, fused, device)).to_vec(),
            first_top_conv: downsample(),
            second_top_conv: downsample(),
            top_down_blocks: vec![join(), join()],
            downsamples: vec![downsample(), downsample()],
            bottom_up_blocks: vec![join(), join()],
        }
    }

    /// Joins the backbone's maps of stride 8, 16 and 32 into maps of stride 8, 16, 32 and 64.
    pub fn wire<F: Flow>(&self, flow: &mut F, maps: [F::Map; 3]) -> [F::Map; 4] {
        let mut narrowed = maps.into_iter().zip(&self.conv_t);
        let [c3, c4, c5] = std::array::from_fn(|_| {
            let (map, conv) = narrowed.next().expect("three maps, three convolutions");
            flow.conv_bn(map, conv, Padding::Even)
        });
        let above = flow.upsample(c5.clone());
        let n4 = self.top_down_blocks[0].wire(flow, above, c4);
        let above = flow.upsample(n4.clone());
        let p3 = self.top_down_blocks[1].wire(flow, above, c3);
        let below = self.downsamples[0].wire(flow, p3.clone());
        let p4 = self.bottom_up_blocks[0].wire(flow, below, n4);
        let below = self.downsamples[1].wire(flow, p4.clone());
        let p5 = self.bottom_up_blocks[1].wire(flow, below, c5.clone());
        let first = self.first_top_conv.wire(flow, c5);
        let second = self.second_top_conv.wire(flow, p5.clone());
        [p3, p4, p5, flow.add(first, second)]
    }

    /// The deployed form.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        let convs = |convs: Vec<ConvBn>| convs.into_iter().map(ConvBn::fuse).collect();
        let joins = |joins: Vec<Join>| joins.into_iter().map(Join::fuse).collect();
        Self {
            conv_t: convs(self.conv_t),
            first_top_conv: self.first_top_conv.fuse(),
            second_top_conv: self.second_top_conv.fuse(),
            top_down_blocks: joins(self.top_down_blocks),
            downsamples: self.downsamples.into_iter().map(DpModule::fuse).collect(),
            bottom_up_blocks: joins(self.bottom_up_blocks),
        }
    }
}
