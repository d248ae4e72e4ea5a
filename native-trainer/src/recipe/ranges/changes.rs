//! The numbers of what changes pictures.

use models::limits::LimitError;

use super::{May, Table};
use crate::data::augment::Augmentation;
use crate::data::boxed::BoxedAugmentation;
use crate::data::operator::Operator;
use crate::data::scenes::SceneOptions;

/// Pixels of a side that an operator makes.
const SIDES: May = May::From(1.0, 8192.0);
/// Shares by which colors change.
const COLORS: May = May::Share;
/// Degrees by which a picture or its hue is turned.
const DEGREES: May = May::From(0.0, 360.0);

/// Two ends of a range, in order.
fn ordered(key: &str, [low, high]: [f32; 2]) -> Result<(), LimitError> {
    if low <= high {
        return Ok(());
    }
    let allowed = "the first must not be above the second";
    Err(LimitError::new(key, format!("[{low}, {high}]"), allowed))
}

impl Augmentation {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        let mut table = Table(Vec::new());
        table.rows(
            "",
            &[
                ("rotation", self.rotation, DEGREES),
                ("stretch", self.stretch, May::From(0.0, 100.0)),
                ("translate", self.translate, May::From(0.0, 10.0)),
                ("flip", self.flip, May::Share),
                ("distort", self.distort, May::Share),
                ("color", self.color, COLORS),
                ("hue", self.hue, DEGREES),
                ("grayscale", self.grayscale, May::Share),
                ("blur", self.blur, May::Share),
                ("erase", self.erase, May::Share),
                ("background", self.background, May::Share),
            ],
        );
        // Zero and zero keep the size.
        let least = if self.scale == [0.0, 0.0] { 0.0 } else { 0.01 };
        self.scale.iter().for_each(|scale| table.row("scale", *scale, May::From(least, 100.0)));
        table.check()?;
        ordered("scale", self.scale)
    }
}

impl BoxedAugmentation {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        let mut table = Table(Vec::new());
        table.rows(
            "",
            &[
                ("flip", self.flip, May::Share),
                ("hue", self.hue, DEGREES),
                ("color", self.color, COLORS),
                ("distort", self.distort, May::Share),
            ],
        );
        table.check()
    }
}

impl SceneOptions {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        let mut table = Table(Vec::new());
        table.row("max_things", self.max_things, May::From(0.0, 1000.0));
        self.size.iter().for_each(|size| table.row("size", *size, May::From(0.01, 10.0)));
        table.rows("", &[("rotation", self.rotation, DEGREES), ("color", self.color, COLORS)]);
        table.check()?;
        ordered("size", self.size)
    }
}

impl Operator {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        let mut table = Table(Vec::new());
        let probability =
            |table: &mut Table, value: f32| table.row("probability", value, May::Share);
        match *self {
            Self::Resize { width, height } => {
                table.rows("", &[("width", width, SIDES), ("height", height, SIDES)]);
            }
            Self::ResizeShort { side } | Self::CenterCrop { side } | Self::RandomCrop { side } => {
                table.row("side", side, SIDES);
            }
            Self::RandomResizedCrop { side, area, aspect } => {
                table.row("side", side, SIDES);
                area.iter().for_each(|area| table.row("area", *area, May::Share));
                aspect.iter().for_each(|ratio| table.row("aspect", *ratio, May::Positive));
                ordered("area", area)?;
                ordered("aspect", aspect)?;
            }
            Self::Flip { probability: p } | Self::Grayscale { probability: p } => {
                probability(&mut table, p);
            }
            Self::Rotation { probability: p, degrees } => {
                probability(&mut table, p);
                table.row("degrees", degrees, DEGREES);
            }
            Self::Pad { padding, .. } => table.row("padding", padding, May::From(0.0, 4096.0)),
            Self::RandomErasing { probability: p, area, aspect, .. } => {
                probability(&mut table, p);
                area.iter().for_each(|area| table.row("area", *area, May::Share));
                table.row("aspect", aspect, May::Share);
                table.row("aspect", aspect, May::Positive);
                ordered("area", area)?;
            }
            Self::ColorJitter { probability: p, color, hue } => {
                probability(&mut table, p);
                table.rows("", &[("color", color, COLORS), ("hue", hue, DEGREES)]);
            }
            Self::AutoAugment => {}
            Self::RandAugment { layers, magnitude } => {
                table.row("layers", layers, May::From(0.0, 100.0));
                table.row("magnitude", magnitude, May::From(0.0, 10.0));
            }
            Self::AugMix { probability: p, width, depth, severity } => {
                probability(&mut table, p);
                table.rows("", &[("width", width, May::From(1.0, 100.0))]);
                table.rows("", &[("depth", depth, May::From(1.0, 100.0))]);
                table.row("severity", severity, May::From(0.0, 10.0));
            }
            Self::Cutout { holes, length } => {
                table.row("holes", holes, May::From(0.0, 1000.0));
                table.row("length", length, SIDES);
            }
        }
        table.check()
    }
}
