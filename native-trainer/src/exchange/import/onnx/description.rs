//! What a detector's graph does not tell: what its outputs hold, and what it expects of a picture. Descriptions of
//! published networks, and files with others.

use std::path::Path;

use authoring::label::on_one_line;
use models::detector::{PointValue, ScoreValues};
use models::image::ResizeFilter;
use models::preprocess::{ChannelOrder, Fit, Letterbox};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::ImportError;
use crate::files;

/// Largest file of a description.
const LIMIT: u64 = 64 << 10;
/// Most outputs that a description names: three for each of eight strides.
const MAX_OUTPUTS: usize = 24;
/// What pictures are filled up with by `YOLOX` and `RTMDet`.
const GRAY: u8 = 114;

/// How the outputs of a graph say where an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DescribedBoxes {
    /// Distances to the left, upper, right and lower side, in strides, each by the logits of so many bins.
    Distribution(usize),
    /// These four distances, in strides.
    Distances,
    /// These four distances, in pixels of the input.
    PixelDistances,
    /// Logarithms of these four distances in strides.
    Exponents,
    /// From the point to the center, then the logarithms of width and height, all in strides; or the center, width and
    /// height that were made of them, in pixels of the input.
    Center,
}

/// What the outputs of a detector's graph hold, and what the network expects of a picture.
///
/// ```
/// use native_trainer::exchange::import::{DescribedBoxes, DetectorDescription};
///
/// let text = r#"{"strides": [8, 16], "values": ["scores", "box"], "boxes": {"distribution": 8}}"#;
/// let description: DetectorDescription = serde_json::from_str(text)?;
/// assert_eq!(description.boxes, DescribedBoxes::Distribution(8));
/// assert_eq!(description.std, [1.0; 3]);
/// assert!(DetectorDescription::named("yolox").is_some());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorDescription {
    /// Names of the outputs; none means all of the graph. What they hold comes in this order.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// Pixels of the input from a point to the next one, for each map.
    pub strides: Vec<usize>,
    /// What a point says, in the order of its values, or in the order of the outputs.
    pub values: Vec<PointValue>,
    /// How boxes are said.
    pub boxes: DescribedBoxes,
    /// How scores, and objectness, are said.
    #[serde(default)]
    pub scores: ScoreValues,
    /// Where the first point lies, in strides.
    #[serde(default)]
    pub offset: f32,
    /// Classes; without a number those that the outputs have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// How a picture lies in the input.
    #[serde(default)]
    pub fit: Fit,
    /// Which color is the first channel.
    #[serde(default)]
    pub channels: ChannelOrder,
    /// How a picture is resampled.
    #[serde(default)]
    pub filter: ResizeFilter,
    /// Subtracted from each channel, of values from 0 to 1.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Each channel is divided by it.
    #[serde(default = "ones")]
    pub std: [f32; 3],
}

/// Where a description stands that can be read.
const EXAMPLE: &str = "docs/onnx.md has an example of each field";

const fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// Of values from 0 to 1, what is given of bytes.
fn of_bytes(values: [f32; 3]) -> [f32; 3] {
    values.map(|value| value / 255.0)
}

impl DetectorDescription {
    /// The networks that are described here.
    pub const NAMES: [&'static str; 4] = ["yolox", "nanodet", "picodet", "rtmdet"];

    /// That of a published network; none for another name.
    ///
    /// Sources: YOLOX `yolox/models/yolo_head.py`, `yolox/data/data_augment.py`; NanoDet
    /// `nanodet/model/head/nanodet_plus_head.py`; PaddleDetection `ppdet/modeling/heads/pico_head.py`; MMDetection
    /// `mmdet/models/dense_heads/rtmdet_head.py`, and their configurations.
    pub fn named(name: &str) -> Option<Self> {
        let letterbox = Fit::Letterbox(Letterbox { padding: GRAY, centered: false });
        let plain = Self {
            outputs: Vec::new(),
            strides: vec![8, 16, 32],
            values: vec![PointValue::Scores, PointValue::Box],
            boxes: DescribedBoxes::Center,
            scores: ScoreValues::Probabilities,
            offset: 0.0,
            classes: None,
            fit: letterbox,
            channels: ChannelOrder::Bgr,
            filter: ResizeFilter::OpencvLinear,
            mean: [0.0; 3],
            std: of_bytes([1.0; 3]),
        };
        let pyramid = || vec![8, 16, 32, 64];
        Some(match name {
            "yolox" => Self {
                values: vec![PointValue::Box, PointValue::Objectness, PointValue::Scores],
                ..plain
            },
            "nanodet" => Self {
                strides: pyramid(),
                boxes: DescribedBoxes::Distribution(8),
                fit: Fit::Stretched,
                mean: of_bytes([103.53, 116.28, 123.675]),
                std: of_bytes([57.375, 57.12, 58.395]),
                ..plain
            },
            "picodet" => Self {
                strides: pyramid(),
                boxes: DescribedBoxes::Distribution(8),
                offset: 0.5,
                fit: Fit::Stretched,
                channels: ChannelOrder::Rgb,
                filter: ResizeFilter::OpencvCubic,
                mean: [0.485, 0.456, 0.406],
                std: [0.229, 0.224, 0.225],
                ..plain
            },
            "rtmdet" => Self {
                boxes: DescribedBoxes::PixelDistances,
                scores: ScoreValues::Logits,
                mean: of_bytes([103.53, 116.28, 123.675]),
                std: of_bytes([57.375, 57.12, 58.395]),
                ..plain
            },
            _ => return None,
        })
    }

    /// That of a published network, or one of a file of JSON.
    ///
    /// # Errors
    ///
    /// [`ImportError::File`], [`ImportError::Described`].
    pub fn of(named: &str) -> Result<Self, ImportError> {
        if let Some(known) = Self::named(named) {
            return Ok(known);
        }
        let path = Path::new(named);
        let failed = |reason: String| ImportError::Described { path: path.to_owned(), reason };
        if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
            let names = Self::NAMES.join(", ");
            return Err(failed(format!(
                "known detectors are {names}; a file of another ends with .json"
            )));
        }
        let bytes = files::read(path, LIMIT)?;
        let read = Self::read(&bytes).map_err(|reason| failed(format!("{reason}; {EXAMPLE}")))?;
        let count = read.outputs.len();
        if count > MAX_OUTPUTS {
            return Err(failed(format!("{count} outputs, where {MAX_OUTPUTS} at most are read")));
        }
        if ![0.0, 0.5].contains(&read.offset) {
            return Err(failed(format!("offset is {}; give 0 or 0.5", read.offset)));
        }
        let is_of_bytes = |values: [f32; 3]| values.iter().any(|value| value.abs() > 1.0);
        if is_of_bytes(read.mean) || is_of_bytes(read.std) {
            return Err(failed(
                "mean and std are of values from 0 to 1; divide those of bytes by 255".to_owned(),
            ));
        }
        Ok(read)
    }
}

/// The fields of a description, and what each takes.
const FIELDS: [(&str, &str); 12] = [
    ("outputs", "a list of names of the graph's outputs"),
    ("strides", "a list of whole numbers, such as [8, 16, 32]"),
    ("values", "a list of \"scores\", \"objectness\" and \"box\""),
    (
        "boxes",
        "{\"distribution\": 8}, \"distances\", \"pixel_distances\", \"exponents\" or \"center\"",
    ),
    ("scores", "\"logits\", \"probabilities\" or \"squares\""),
    ("offset", "0 or 0.5"),
    ("classes", "a whole number"),
    ("fit", "\"stretched\" or {\"letterbox\": {\"padding\": 114, \"centered\": false}}"),
    ("channels", "\"rgb\" or \"bgr\""),
    ("filter", "\"antialiased\", \"opencv_linear\" or \"opencv_cubic\""),
    ("mean", "three numbers from 0 to 1"),
    ("std", "three numbers from 0 to 1"),
];
/// Those that have to be there.
const NEEDED: [&str; 3] = ["strides", "values", "boxes"];
/// Characters of a file's text that a sentence shows at most.
const SHOWN: usize = 80;

impl DetectorDescription {
    /// A description from its file's bytes; an error says which field is wrong, and what it takes.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        if let Ok(read) = serde_json::from_slice(bytes) {
            return Ok(read);
        }
        let whole: Value = serde_json::from_slice(bytes).map_err(|error| {
            format!("is no JSON from line {}, column {} on", error.line(), error.column())
        })?;
        let Value::Object(fields) = &whole else {
            return Err("is JSON, and no object of fields in { }".to_owned());
        };
        let takes = |name: &str| FIELDS.iter().find(|(known, _)| *known == name).map(|(_, it)| *it);
        if let Some(name) = fields.keys().find(|name| takes(name).is_none()) {
            let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
            let name = on_one_line(name, SHOWN);
            return Err(format!("{name} is no field; the fields are {}", known.join(", ")));
        }
        if let Some(name) = NEEDED.iter().find(|name| !fields.contains_key(**name)) {
            return Err(format!("{name} is missing: {}", takes(name).unwrap_or_default()));
        }
        // Which of them it is: each alone in a description that is good.
        for (name, value) in fields {
            let mut alone = json!({"strides": [8], "values": ["scores", "box"], "boxes": "center"});
            alone[name] = value.clone();
            if serde_json::from_value::<Self>(alone).is_err() {
                let value = on_one_line(&value.to_string(), SHOWN);
                return Err(format!(
                    "{name} is {value}; it takes {}",
                    takes(name).unwrap_or_default()
                ));
            }
        }
        Err("names a field twice".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn descriptions_of_published_networks_can_be_written_down() {
        let folder = tempfile::tempdir().unwrap();
        for name in DetectorDescription::NAMES {
            let known = DetectorDescription::of(name).unwrap();
            let path = folder.path().join(format!("{name}.JSON"));
            std::fs::write(&path, serde_json::to_vec(&known).unwrap()).unwrap();
            assert_eq!(DetectorDescription::of(path.to_str().unwrap()).unwrap(), known);
        }
        let error = DetectorDescription::of("yolo").unwrap_err().to_string();
        assert!(error.contains("yolox, nanodet, picodet, rtmdet"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_description_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            DetectorDescription::of(path.to_str().unwrap()).unwrap_err().to_string()
        };
        let own = r#"{"strides":[8],"values":["scores","box"],"boxes":"distances""#;
        let many = vec![r#""a""#; 25].join(",");
        for (text, told) in [
            ("{}".to_owned(), "strides is missing: a list of whole numbers"),
            ("{\n\"strides\": [8,]}".to_owned(), "is no JSON from line 2, column 15 on"),
            ("[8]".to_owned(), "no object of fields"),
            (format!(r#"{own},"boxes":"center"}}"#), "names a field twice"),
            (
                format!(r#"{own},"anchors":3}}"#),
                "anchors is no field; the fields are outputs, strides",
            ),
            (
                format!(r#"{own},"fit":"cropped"}}"#),
                "fit is \"cropped\"; it takes \"stretched\" or",
            ),
            (format!(r#"{own},"scores":"Logits"}}"#), "scores is \"Logits\"; it takes \"logits\","),
            (format!(r#"{own},"classes":-3}}"#), "classes is -3; it takes a whole number"),
            (format!(r#"{own},"mean":[0.5]}}"#), "mean is [0.5]; it takes three numbers"),
            (format!(r#"{own},"offset":0.3}}"#), "give 0 or 0.5"),
            (format!(r#"{own},"mean":[123.7,116.3,103.5]}}"#), "divide those of bytes by 255"),
            (format!(r#"{own},"outputs":[{many}]}}"#), "25 outputs, where 24 at most are read"),
            (" ".repeat(70_000), "own.json"),
        ] {
            let error = read(&text);
            assert!(error.contains(told) && error.contains("own.json"), "{told}: {error}");
        }
    }

    proptest! {
        #[test]
        fn damaged_descriptions_are_read_or_refused(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
            let mut bytes = serde_json::to_vec(&DetectorDescription::named("yolox")).unwrap();
            let (at, cut) = (at % bytes.len(), cut % bytes.len());
            bytes[at] = byte;
            // What is read is what serde reads.
            for bytes in [&bytes[..], &bytes[..cut]] {
                let plain = serde_json::from_slice::<DetectorDescription>(bytes);
                let read = DetectorDescription::read(bytes);
                prop_assert_eq!(read.clone().ok(), plain.ok(), "{:?}", read);
            }
        }
    }
}
