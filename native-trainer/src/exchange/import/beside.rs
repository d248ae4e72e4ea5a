//! What lies beside weights: `config.json` of timm's models, `preprocessor_config.json` of Hugging Face's,
//! `open_clip_config.json` of `open_clip`'s.

use std::path::Path;

use models::backbone::Between;
use models::preprocess::Preprocess;
use serde_json::Value;

use super::ImportError;
use super::named::Named;
use super::texts::TextHints;
use super::transformers::Hints;
use crate::files;

/// Most bytes of such a file that are read.
const LIMIT: u64 = 1 << 20;

/// Names of the files, the one that says more first.
const FILES: [&str; 3] = ["preprocessor_config.json", "config.json", "open_clip_config.json"];

/// What the files say; what they do not say is absent.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Beside {
    /// timm's name of the network.
    pub(super) architecture: Option<String>,
    /// One that lies there, whatever it says.
    there: Option<&'static str>,
    /// Where the rest was read.
    file: Option<&'static str>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    /// Height and width.
    size: Option<[u32; 2]>,
    /// The share of a resized image that the original cut out of its middle.
    crop: Option<f64>,
    interpolation: Option<String>,
    hints: Hints,
    text: TextHints,
}

impl Beside {
    /// Reads the files beside a checkpoint, if there are any.
    pub(super) fn read(checkpoint: &Path) -> Result<Self, ImportError> {
        let mut beside = Self::default();
        for name in FILES {
            let path = files::folder_of(checkpoint).join(name);
            if !path.is_file() {
                continue;
            }
            let text = files::read(&path, LIMIT)?;
            let value: Value = serde_json::from_slice(&text).map_err(|error| {
                ImportError::Beside { path: path.clone(), reason: error.to_string() }
            })?;
            beside.add(name, &value).map_err(|reason| ImportError::Beside { path, reason })?;
        }
        Ok(beside)
    }

    /// Whether the network of the files is one that is told rightly by its tensors, or is none.
    pub(super) fn check(&self, checkpoint: &Path) -> Result<(), ImportError> {
        match &self.architecture {
            Some(name) if Named::find(name).is_none() && !is_sized(name) => {
                let path = files::folder_of(checkpoint).join("config.json");
                let reason = format!("the architecture {name} is none that is known here");
                Err(ImportError::Beside { path, reason })
            }
            _ => Ok(()),
        }
    }

    /// Takes what is not known yet; what is wrong where a value is of another shape.
    fn add(&mut self, file: &'static str, value: &Value) -> Result<(), String> {
        self.there.get_or_insert(file);
        let parts = [&value["pretrained_cfg"], &value["preprocess_cfg"]];
        let from = parts.into_iter().find(|part| part.is_object()).unwrap_or(value);
        let triple = |key: &str, value: &Value| -> Result<Option<[f32; 3]>, String> {
            if value.is_null() {
                return Ok(None);
            }
            let values = value.as_array().map(|values| values.iter().map(Value::as_f64));
            let values = values.and_then(|values| {
                values.map(|v| v.map(|v| v as f32)).collect::<Option<Vec<f32>>>()?.try_into().ok()
            });
            values.map(Some).ok_or_else(|| {
                format!("{key} is not three numbers, one for each of red, green and blue")
            })
        };
        let side = |value: &Value| value.as_u64().and_then(|side| u32::try_from(side).ok());
        let pair = |value: &Value| Some([side(&value["height"])?, side(&value["width"])?]);
        let square = |value: &Value| side(value).map(|side| [side, side]);
        let vision = &value["vision_config"];
        // What the network sees is the part that is cut out; without one, the whole.
        let crops = value["do_center_crop"] != Value::Bool(false);
        let cut = Some(&value["crop_size"]).filter(|_| crops);
        let size = None
            .or_else(|| {
                let sizes = from["input_size"].as_array()?;
                Some([side(sizes.get(1)?)?, side(sizes.get(2)?)?])
            })
            .or_else(|| cut.and_then(|cut| pair(cut).or_else(|| square(cut))))
            .or_else(|| pair(&value["size"]))
            .or_else(|| square(&value["size"]))
            .or_else(|| square(&value["size"]["shortest_edge"]))
            .or_else(|| square(&vision["image_size"]));
        let interpolation = from["interpolation"].as_str().map(str::to_owned).or_else(|| {
            // Pillow's numbers.
            let name = match value["resample"].as_u64()? {
                0 => "nearest",
                2 => "bilinear",
                3 => "bicubic",
                _ => return None,
            };
            Some(name.to_owned())
        });
        let mean = triple("mean", &from["mean"])?.or(triple("image_mean", &value["image_mean"])?);
        let std = triple("std", &from["std"])?.or(triple("image_std", &value["image_std"])?);
        if mean.is_some() || std.is_some() || size.is_some() {
            self.file.get_or_insert(file);
        }
        self.mean = self.mean.or(mean);
        self.std = self.std.or(std);
        self.size = self.size.or(size);
        self.crop = self.crop.or_else(|| from["crop_pct"].as_f64());
        self.interpolation = self.interpolation.take().or(interpolation);
        self.hint(if vision.is_object() { vision } else { value });
        self.text = TextHints::of(value).unwrap_or(std::mem::take(&mut self.text));
        let architecture = value["architecture"].as_str().map(str::to_owned);
        self.architecture = self.architecture.take().or(architecture);
        Ok(())
    }

    /// Whether a transformer of the files is of a form that is known here.
    pub(super) fn check_transformer(&self, checkpoint: &Path) -> Result<(), ImportError> {
        match &self.hints.other {
            Some(other) => {
                let path = files::folder_of(checkpoint).join("config.json");
                let reason = format!("the activation {other} is none that is known here");
                Err(ImportError::Beside { path, reason })
            }
            None => Ok(()),
        }
    }

    /// Takes what `transformers` says of a transformer and its tensors do not tell.
    fn hint(&mut self, value: &Value) {
        let heads = value["num_attention_heads"].as_u64().and_then(|heads| heads.try_into().ok());
        let hints = &mut self.hints;
        let between = match value["hidden_act"].as_str() {
            None => None,
            Some("gelu") => Some(Between::Gelu),
            Some("quick_gelu") => Some(Between::QuickGelu),
            Some("gelu_pytorch_tanh" | "gelu_new") => Some(Between::GeluTanh),
            Some("silu") => Some(Between::SwiGlu),
            Some(other) => {
                hints.other = Some(other.to_owned());
                None
            }
        };
        hints.heads = hints.heads.or(heads);
        hints.between = hints.between.or(between);
        hints.epsilon = hints.epsilon.or(value["layer_norm_eps"].as_f64());
        hints.base = hints.base.or(value["rope_theta"].as_f64());
        hints.base = hints.base.or(value["rope_parameters"]["rope_theta"].as_f64());
    }

    /// The same of a file with `transformers`' names.
    pub(super) fn of_transformers(&self) -> Self {
        let mut beside = self.clone();
        beside.text.default_to(true, Some(true));
        beside
    }

    /// The same of a file with `open_clip`'s names: both towers have the plain activation there if nothing says
    /// otherwise. In CLIP's own tower of texts a token sees those before it; of another one that has to be said.
    pub(super) fn of_open_clip(&self, is_own: bool) -> Self {
        let name = self.architecture.as_deref().unwrap_or_default();
        let is_quick = self.text.is_quick().unwrap_or_else(|| name.contains("quickgelu"));
        let between = if is_quick { Between::QuickGelu } else { Between::Gelu };
        let mut beside = self.clone();
        beside.hints.between = beside.hints.between.or(Some(between));
        beside.text.default_to(is_quick, is_own.then_some(true));
        beside
    }

    /// What is said of a tower of texts.
    pub(super) fn text(&self) -> TextHints {
        self.text.clone()
    }

    /// What is said of a transformer beyond its tensors.
    pub(super) fn hints(&self) -> Hints {
        Hints { name: self.architecture.clone(), ..self.hints.clone() }
    }

    /// Changes what the files say otherwise; sentences on that, and on what cannot be followed.
    pub(super) fn apply(&self, preprocess: &mut Preprocess) -> Vec<String> {
        preprocess.mean = self.mean.unwrap_or(preprocess.mean);
        preprocess.std = self.std.unwrap_or(preprocess.std);
        [preprocess.height, preprocess.width] =
            self.size.unwrap_or([preprocess.height, preprocess.width]);
        let source = match (self.file, self.there) {
            (Some(file), _) => format!("from {file}"),
            (None, Some(file)) => {
                format!("as is usual for this network: {file} says nothing of them")
            }
            (None, None) => {
                "as is usual for this network: no config.json lies beside the file".to_owned()
            }
        };
        let Preprocess { width, height, mean, std, .. } = preprocess;
        let mut said = vec![format!(
            "images of {width} × {height} pixels, mean {mean:?}, deviation {std:?}, {source}"
        )];
        if let Some(crop) = self.crop.filter(|crop| *crop < 1.0) {
            said.push(format!(
                "crop_pct {crop} is not followed: the whole image is resized, nothing is cut off"
            ));
        }
        if let Some(other) = self.interpolation.as_deref().filter(|name| *name != "bilinear") {
            said.push(format!(
                "the interpolation {other} is not followed: images are resized by the bilinear filter"
            ));
        }
        said
    }
}

/// Whether it is one of a family whose sizes the tensors tell.
pub(super) fn is_sized(architecture: &str) -> bool {
    const SIZED: [&str; 19] = [
        "resnet26",
        "resnet101",
        "resnet152",
        "resnet18d",
        "resnet34d",
        "resnet26d",
        "resnet101d",
        "resnet152d",
        "tv_resnet101",
        "tv_resnet152",
        "repvit_m1",
        "repvit_m2",
        "repvit_m3",
        "repvit_m1_1",
        "repvit_m1_5",
        "repvit_m2_3",
        "convnext_base",
        "convnext_large",
        "convnext_xlarge",
    ];
    const SMALL: [&str; 4] = ["convnext_atto", "convnext_femto", "convnext_pico", "convnext_nano"];
    // A transformer's tensors tell all but what its name says, and rotations that are not DINO's.
    let is_vit = ["vit_", "deit", "flexivit_"].iter().any(|start| architecture.starts_with(start))
        && !["rope", "_pe_"].iter().any(|part| architecture.contains(part));
    // FastViT's tensors tell all.
    let is_fastvit = architecture.starts_with("fastvit_");
    is_vit || is_fastvit || SIZED.contains(&architecture) || SMALL.contains(&architecture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(files: &[(&str, Value)]) -> Result<Beside, ImportError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in files {
            std::fs::write(dir.path().join(name), value.to_string()).unwrap();
        }
        let path = dir.path().join("model.safetensors");
        let beside = Beside::read(&path)?;
        beside.check(&path).map(|()| beside)
    }

    #[test]
    fn what_timm_writes_is_followed() {
        let config = json!({
            "architecture": "resnet18",
            "num_classes": 1000,
            "pretrained_cfg": {
                "input_size": [3, 160, 192], "interpolation": "bicubic", "crop_pct": 0.95,
                "mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.1],
            },
        });
        let beside = read(&[("config.json", config)]).unwrap();
        assert_eq!(beside.architecture.as_deref(), Some("resnet18"));
        let mut preprocess = Preprocess::square(224);
        let said = beside.apply(&mut preprocess);
        assert_eq!((preprocess.width, preprocess.height), (192, 160));
        assert_eq!((preprocess.mean, preprocess.std), ([0.5, 0.4, 0.3], [0.25, 0.2, 0.1]));
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].ends_with("from config.json"), "{said:?}");
        assert!(said[1].contains("crop_pct 0.95") && said[2].contains("bicubic"), "{said:?}");
    }

    #[test]
    fn a_file_that_says_nothing_is_not_called_absent_and_a_wrong_one_is_refused() {
        let nothing = read(&[("config.json", json!({ "num_classes": 3 }))]).unwrap();
        let said = nothing.apply(&mut Preprocess::square(224));
        assert!(said[0].ends_with("config.json says nothing of them"), "{said:?}");
        for wrong in
            [json!({ "image_mean": [0.5] }), json!({ "pretrained_cfg": { "std": ["a", 1, 1] } })]
        {
            let error = read(&[("config.json", wrong)]).unwrap_err().to_string();
            assert!(error.contains("is not three numbers"), "{error}");
        }
    }

    #[test]
    fn what_hugging_face_writes_is_followed() {
        for (size, crop, wanted) in [
            (json!({ "height": 200, "width": 180 }), Value::Null, (180, 200)),
            (json!({ "shortest_edge": 256 }), json!({ "height": 224, "width": 224 }), (224, 224)),
            (json!(192), Value::Null, (192, 192)),
        ] {
            let config = json!({
                "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
                "size": size, "crop_size": crop, "resample": 2,
            });
            let beside = read(&[("preprocessor_config.json", config)]).unwrap();
            let mut preprocess = Preprocess::square(224);
            let said = beside.apply(&mut preprocess);
            assert_eq!((preprocess.width, preprocess.height), wanted);
            assert_eq!((preprocess.mean, said.len()), ([0.5; 3], 1));
        }
    }

    #[test]
    fn an_architecture_that_differs_without_a_trace_in_its_tensors_is_refused() {
        let of = |name: &str| read(&[("config.json", json!({ "architecture": name }))]);
        assert!(of("convnext_nano").is_ok() && of("tf_efficientnet_b0").is_ok());
        assert!(of("vit_large_patch16_384").is_ok() && of("deit3_small_patch16_224").is_ok());
        assert!(of("vit_small_patch16_rope_224").is_err());
        assert!(of("vit_pe_core_base_patch16_224").is_err());
        let error = of("resnetaa50").unwrap_err();
        assert!(
            matches!(&error, ImportError::Beside { reason, .. } if reason.contains("resnetaa50"))
        );
        let silent = read(&[("config.json", json!({ "hidden_act": "relu" }))]).unwrap();
        let error = silent.check_transformer(Path::new("model.safetensors")).unwrap_err();
        assert!(error.to_string().contains("the activation relu is none"), "{error}");
        assert_eq!(read(&[]).unwrap(), Beside::default());
        let said = Beside::default().apply(&mut Preprocess::square(224));
        assert!(said[0].contains("no config.json lies beside the file"), "{said:?}");
    }
}
