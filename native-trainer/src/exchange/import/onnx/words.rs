//! What is told of a detector: by the words of its description's fields.

use models::detector::{BoxValues, PointValue, ScoreValues};
use models::preprocess::{ChannelOrder, Fit, Letterbox, Preprocess};

/// What a point says, as `values` has it.
pub(super) fn value(value: PointValue) -> &'static str {
    match value {
        PointValue::Scores => "scores",
        PointValue::Objectness => "objectness",
        PointValue::Box => "box",
    }
}

/// How maps hold boxes.
pub(super) fn boxes(boxes: BoxValues) -> String {
    match boxes {
        BoxValues::Distribution(bins) => format!("distances to the sides, each by {bins} bins"),
        BoxValues::Distances => "distances to the sides".to_owned(),
        BoxValues::Exponents => "logarithms of the distances to the sides".to_owned(),
        BoxValues::Center => "center, width and height".to_owned(),
    }
}

/// How maps hold scores.
pub(super) fn scores(scores: ScoreValues) -> &'static str {
    match scores {
        ScoreValues::Logits => "logits",
        ScoreValues::Probabilities => "probabilities",
        ScoreValues::Squares => "squares of probabilities",
    }
}

/// What becomes of a picture before it is shown to the network.
pub(super) fn picture(preprocess: &Preprocess) -> String {
    let Preprocess { width, height, fit, channels, mean, std, .. } = preprocess;
    let fit = match fit {
        Fit::Stretched => "stretched".to_owned(),
        Fit::Letterbox(Letterbox { padding, centered: true }) => {
            format!("in a letterbox, centered, beside bars of {padding}")
        }
        Fit::Letterbox(Letterbox { padding, centered: false }) => {
            format!("in a letterbox, above and to the left, beside bars of {padding}")
        }
    };
    let channels = match channels {
        ChannelOrder::Rgb => "RGB",
        ChannelOrder::Bgr => "BGR",
    };
    format!(
        "images {width} pixels wide and {height} high, {fit}, as {channels}, mean {mean:?}, deviation {std:?}"
    )
}

/// Columns and rows of maps.
pub(super) fn maps(sides: &[(usize, usize)]) -> String {
    let sides: Vec<String> =
        sides.iter().map(|(columns, rows)| format!("{rows} × {columns}")).collect();
    sides.join(", ")
}
