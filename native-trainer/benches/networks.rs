//! Networks with drawn weights, those of PP-ShiTu or those whose weights others publish: written as model files and
//! for other runtimes, and timed natively, as JSON lines. `cargo xtask bench engine` runs other runtimes on the same
//! files.
//!
//! `networks write FOLDER pp-shitu|imported`, `networks time FOLDER RUNS [NETWORK]`
//!
//! Of the imported ones, `mobileclip_s0_256.safetensors` has to lie in the folder: only `magpie import` makes one.
#![expect(clippy::print_stdout, reason = "the figures")]

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use burn::tensor::Device;
use models::backbone::{
    BackboneConfig, EfficientNetLiteConfig, InvertedConfig, InvertedNetwork, LiteSize,
    MobileNetV1Config, PpLcNetConfig, PpLcNetV2Config, RepVitConfig, VitConfig,
};
use models::detector::{DetectorBackbone, DetectorConfig, DetectorVariant};
use models::extractor::ExtractorConfig;
use models::image::RgbImage;
use models::inference::Arithmetic;
use models::inference::{Network, Prepared, RunError};
use models::model_file::{Architecture, ModelDescription, ModelFile};
use models::neck::NeckConfig;
use models::preprocess::Preprocess;
use models::timing::drawn_for;
use models::weights::{Precision, Weights};
use native_trainer::exchange::export::{Format, network_files};

/// Seed of the drawn weights.
const SEED: u64 = 7;

/// Made of a file, see above.
const MOBILECLIP: &str = "mobileclip_s0_256";

fn imported() -> Vec<(&'static str, u32, Architecture)> {
    let extractor = |config| {
        let config = BackboneConfig::fused(&config);
        Architecture::Extractor(ExtractorConfig { backbone: config, neck: None })
    };
    let inverted = |network| extractor(BackboneConfig::Inverted(InvertedConfig::new(network)));
    let vit = |config| extractor(BackboneConfig::Vit(config));
    let lite = BackboneConfig::EfficientNetLite(EfficientNetLiteConfig {
        size: LiteSize::Lite0,
        fused: true,
    });
    vec![
        ("efficientnet_lite0", 224, extractor(lite)),
        ("mobilenetv3_large", 224, inverted(InvertedNetwork::MobilenetV3Large)),
        ("mobilenetv4_conv_medium_256", 256, inverted(InvertedNetwork::MobilenetV4Medium)),
        ("repvit_m1_0", 224, extractor(BackboneConfig::RepVit(RepVitConfig::m1_0()))),
        ("vit_small_patch16", 224, vit(VitConfig::small(16, 224))),
        ("dinov2_small_patch14", 224, vit(VitConfig::small(14, 224))),
    ]
}

fn pp_shitu() -> Vec<(&'static str, u32, Architecture)> {
    let lcnet = |scale| {
        let (class_expand, dropout) = (Some(1280), 0.2);
        let config = PpLcNetConfig { scale, class_expand, dropout, fused: true };
        let neck = Some(NeckConfig::Fc { embedding_dim: 512 });
        Architecture::Extractor(ExtractorConfig { backbone: BackboneConfig::PpLcNet(config), neck })
    };
    let shitu = BackboneConfig::PpLcNetV2(PpLcNetV2Config {
        scale: 1.0,
        depths: [2, 2, 6, 2],
        class_expand: 512,
        shitu: true,
        dropout: 0.2,
        fused: true,
    });
    let mobilenet = BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 1.0, fused: true });
    let detector = |backbone_scale, neck_channels, head_blocks| {
        Architecture::Detector(DetectorConfig {
            variant: DetectorVariant::First,
            backbone: DetectorBackbone::PpLcNet,
            backbone_scale,
            neck_channels,
            num_classes: 1,
            head_blocks,
            fused: true,
        })
    };
    let extractor = |backbone, neck| Architecture::Extractor(ExtractorConfig { backbone, neck });
    vec![
        ("pp_lcnet_x1_0", 224, lcnet(1.0)),
        ("pp_lcnet_x2_5", 224, lcnet(2.5)),
        ("pp_lcnet_v2_shitu", 224, extractor(shitu, Some(NeckConfig::BnNeck))),
        ("mobilenet_v1", 224, extractor(mobilenet, None)),
        ("picodet_320", 320, detector(0.75, 64, 2)),
        ("mainbody_640", 640, detector(2.5, 128, 4)),
    ]
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["write", folder, "pp-shitu"] => write(Path::new(folder), &pp_shitu()),
        ["write", folder, "imported"] => {
            write(Path::new(folder), &imported())?;
            write_mobileclip(Path::new(folder))
        }
        ["time", folder, runs, only @ ..] => time(Path::new(folder), runs.parse()?, only),
        other => bail!("unknown words {other:?}; there is write FOLDER SET and time FOLDER RUNS"),
    }
}

/// Writes networks with drawn weights.
///
/// Extractors' filters are brought to length one. Values then shrink by a constant factor a layer at most. Fresh
/// filters are shorter: after many layers values are too small for a processor to add at its usual pace, or zero.
/// Longer ones drive activations to their bounds, where rounding decides the answer.
fn write(folder: &Path, networks: &[(&str, u32, Architecture)]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let device = Device::flex();
    for (name, side, architecture) in networks {
        device.seed(SEED);
        let preprocess = Preprocess::square(*side);
        let weights = match &architecture {
            Architecture::Extractor(config) => {
                let mut weights = Weights::from_module(&config.init(&device));
                for tensor in weights.tensors.values_mut().filter(|tensor| tensor.shape.len() == 4)
                {
                    let filter = tensor.shape[1..].iter().product();
                    for filter in tensor.values.chunks_exact_mut(filter) {
                        let length = filter.iter().map(|value| value * value).sum::<f32>().sqrt();
                        filter.iter_mut().for_each(|value| *value /= length);
                    }
                }
                let network = weights.clone().load_into(config.init(&device))?;
                write_for_others(folder, name, &network, &preprocess)?;
                weights
            }
            detector => {
                let network = detector.detector(&device).expect("a detector");
                write_for_others(folder, name, &network, &preprocess)?;
                Weights::from_module(&network)
            }
        };
        write_ours(folder, name, (architecture, &preprocess), &weights)?;
    }
    Ok(())
}

/// What `magpie import` made, for the input that all networks get.
fn write_mobileclip(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(MOBILECLIP).with_extension("safetensors");
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let file = ModelFile::from_bytes(&bytes)?;
    let ModelFile { description, weights } = file.clone();
    let preprocess = Preprocess::square(256);
    let network = file.into_extractor(&Device::flex())?;
    write_for_others(folder, MOBILECLIP, &network, &preprocess)?;
    write_ours(folder, MOBILECLIP, (&description.architecture, &preprocess), &weights)
}

fn write_ours(
    folder: &Path,
    name: &str,
    (architecture, preprocess): (&Architecture, &Preprocess),
    weights: &Weights,
) -> anyhow::Result<()> {
    for (arithmetic, suffix) in [(Arithmetic::F32, ""), (Arithmetic::I8, "_i8")] {
        let (architecture, preprocess) = (architecture.clone(), preprocess.clone());
        let notes = String::new();
        let description = ModelDescription { architecture, preprocess, arithmetic, notes };
        let weights = weights.clone();
        let bytes = ModelFile { description, weights }.to_bytes(Precision::F32)?;
        std::fs::write(folder.join(format!("{name}{suffix}.safetensors")), bytes)?;
    }
    Ok(())
}

fn write_for_others(
    folder: &Path,
    name: &str,
    network: &impl Network,
    preprocess: &Preprocess,
) -> anyhow::Result<()> {
    for format in Format::ALL {
        for (file, bytes) in network_files(format, name, network, preprocess) {
            std::fs::write(folder.join(file), bytes)?;
        }
    }
    Ok(())
}

enum Ready {
    Extractor(Prepared<models::extractor::Extractor>),
    Detector(Prepared<models::detector::Detector>),
}

impl Ready {
    fn open(file: ModelFile, device: &Device) -> anyhow::Result<Self> {
        Ok(match file.description.architecture {
            Architecture::Extractor(_) => Self::Extractor(file.prepare_extractor(device)?),
            _ => Self::Detector(file.prepare_detector(device)?),
        })
    }

    fn run(&self, pictures: &[RgbImage]) -> Result<Vec<f32>, RunError> {
        pollster::block_on(async {
            match self {
                Self::Extractor(extractor) => extractor.run(pictures).await,
                Self::Detector(detector) => detector.run(pictures).await,
            }
        })
    }
}

fn time(folder: &Path, runs: usize, only: &[&str]) -> anyhow::Result<()> {
    let device = Device::flex();
    let names = [pp_shitu(), imported()].concat().into_iter().map(|(name, ..)| name);
    for name in names.chain([MOBILECLIP]) {
        let path = folder.join(name).with_extension("safetensors");
        let is_wanted = only.is_empty() || only.contains(&name);
        if !is_wanted || !path.exists() {
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let model = ModelFile::from_bytes(&bytes)?;
        // What every runtime gets, computed alike elsewhere.
        let picture = [drawn_for(&model.description.preprocess)];
        let ready = Ready::open(model, &device)?;
        let answer = ready.run(&picture)?;
        let mut times: Vec<f64> = (0..runs.max(1))
            .map(|_| {
                let start = Instant::now();
                ready.run(&picture)?;
                Ok(start.elapsed().as_secs_f64() * 1e3)
            })
            .collect::<Result<_, RunError>>()?;
        times.sort_by(f64::total_cmp);
        let bytes: Vec<u8> = answer.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(folder.join(name).with_extension("answer.f32"), bytes)?;
        println!(
            "{}",
            serde_json::json!({
                "network": name,
                "runtime": "magpie",
                "threads": rayon::current_num_threads(),
                "median_ms": times[times.len() / 2],
                "least_ms": times[0],
            })
        );
    }
    Ok(())
}
