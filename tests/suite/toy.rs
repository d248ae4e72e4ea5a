//! A small training run of PaddleClas: its checkpoint, its pictures, the figures of its log.

use std::path::{Path, PathBuf};

use models::backbone::BackboneConfig;
use models::backbone::MobileNetV1Config;
use models::extractor::{Extractor, ExtractorConfig};
use models::image::RgbImage;
use models::image::{ResizeFilter, resize};
use models::inference::Prepared;
use models::neck::NeckConfig;
use models::preprocess::Preprocess;
use native_trainer::data::list_file::Samples;
use native_trainer::embedding::embed_samples;
use native_trainer::exchange::import::read_paddle;
use native_trainer::metric::retrieval::{RetrievalMetrics, retrieval_metrics};
use tests::{assert_close, device, float_tensors, golden_dir, values};

use crate::NETWORK;

/// Least cosine to the recorded features: OpenCV's filter rounds its weights.
const FILTER: f32 = 0.999;

/// The recorded run; a folder of further cases need not hold it again.
fn folder() -> PathBuf {
    let other = golden_dir().join("toy_retrieval");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/toy_retrieval");
    if other.is_dir() { other } else { own }
}

fn preprocess() -> Preprocess {
    Preprocess { filter: ResizeFilter::OpencvLinear, ..Preprocess::square(224) }
}

fn extractor() -> Extractor {
    let config = ExtractorConfig {
        backbone: BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.25, fused: false }),
        neck: Some(NeckConfig::Fc { embedding_dim: 512 }),
    };
    let weights = read_paddle(&folder().join("best_model.pdparams"));
    let weights = weights.expect("a checkpoint of PaddlePaddle");
    weights.load_into(config.init(&device())).expect("the weights of this network").fuse()
}

fn prepared() -> Prepared<Extractor> {
    Prepared::new(&extractor(), &preprocess(), &device())
}

#[test]
fn a_checkpoint_of_the_original_gives_its_features() {
    let folder = folder();
    let bytes = std::fs::read(folder.join("expected.safetensors")).expect("recorded features");
    let recorded = float_tensors(&bytes);
    let recorded = |name: &str| &recorded.tensors[name];
    let extractor = extractor();
    let features = &recorded("features_raw").values;

    // The pixels are those that the original decoded.
    let list = Samples::read(&folder.join("ds/test_list.txt")).expect("the list");
    let mut input = Vec::new();
    for (name, sample) in ["decoded_rgb.0", "decoded_rgb.1"].into_iter().zip(&list.samples) {
        let tensor = recorded(name);
        let data = tensor.values.iter().map(|v| *v as u8).collect();
        let (height, width) = (tensor.shape[0] as u32, tensor.shape[1] as u32);
        let picture = RgbImage::from_rgb(width, height, data).expect("a picture");
        let file = std::fs::read(&sample.path).expect("a file");
        assert!(RgbImage::decode(&file).as_ref() == Ok(&picture), "{}", sample.path.display());
        preprocess().append(&resize(&picture, 224, 224, ResizeFilter::OpencvLinear), &mut input);
    }
    // OpenCV's integer weights round by up to one gray level, 0.018 once normalized.
    let apart = input.iter().zip(&recorded("input0").values).map(|(a, b)| (a - b).abs());
    let worst = apart.fold(0.0, f32::max);
    assert!(worst < 0.018, "the network's input is off by {worst}");

    let exact = tests::tensor(&float_tensors(&bytes), "input0", &device());
    let got = values(extractor.forward(exact).raw_embedding);
    assert_close("from the recorded input", &got, &features[..got.len()], NETWORK);

    let embedded = embed_samples(&prepared(), &list).expect("pictures that decode");
    let rows = features.chunks_exact(512).zip(embedded.values.chunks_exact(512));
    let cosine = |(a, b): (&[f32], &[f32])| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let worst = rows.map(cosine).fold(1.0, f32::min);
    assert!(worst > FILTER, "the farthest picture's cosine is {worst}");
}

fn line(metrics: &RetrievalMetrics) -> String {
    format!(
        "[Avg]recall1: {:.5}, recall5: {:.5}, mAP: {:.5}",
        metrics.recall_at_k[0].1, metrics.recall_at_k[1].1, metrics.mean_average_precision
    )
}

#[test]
fn the_evaluation_prints_the_figures_of_the_log() {
    let folder = folder();
    let expected = std::fs::read(folder.join("expected.json")).expect("recorded figures");
    let expected: serde_json::Value = serde_json::from_slice(&expected).expect("JSON");
    let list = Samples::read(&folder.join("ds/test_list.txt")).expect("the list");
    let mut embedded = embed_samples(&prepared(), &list).expect("pictures that decode");

    // From the pictures, which are decoded as OpenCV decodes them.
    let metrics = retrieval_metrics(&embedded, &embedded, &[1, 5]);
    let recorded = expected["metrics"]["mAP"].as_f64().expect("a figure");
    assert_eq!(metrics.recall_at_k, [(1, 1.0), (5, 1.0)]);
    let apart = (metrics.mean_average_precision - recorded).abs();
    assert!(apart < 1e-5, "mAP {} against {recorded}", metrics.mean_average_precision);

    // From the features of the original: its log, to the last digit.
    let bytes = std::fs::read(folder.join("expected.safetensors")).expect("recorded features");
    let features = tests::tensor(&float_tensors(&bytes), "features_raw", &device());
    embedded.values = values(models::extractor::l2_normalize(features));
    let metrics = retrieval_metrics(&embedded, &embedded, &[1, 5]);
    assert_eq!(Some(line(&metrics).as_str()), expected["log"].as_str());
}
