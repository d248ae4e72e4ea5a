//! A network alone, for measurements in a browser beside other runtimes.

use models::detector::Detector;
use models::extractor::Extractor;
use models::image::RgbImage;
use models::inference::Prepared;
use models::model_file::{Architecture, ModelFile};
use wasm_bindgen::prelude::wasm_bindgen;
// Its threads.
use wasm_engine as _;

/// A network that is ready to run.
#[wasm_bindgen]
pub struct Network {
    ready: Ready,
    picture: [RgbImage; 1],
}

enum Ready {
    Extractor(Prepared<Extractor>),
    Detector(Prepared<Detector>),
}

#[wasm_bindgen]
impl Network {
    /// Opens a model file; nothing where it is none.
    pub async fn open(bytes: Vec<u8>) -> Option<Self> {
        #[cfg(feature = "webgpu")]
        let target = &models::inference::gpu::Gpu::open().await.ok()?;
        #[cfg(not(feature = "webgpu"))]
        let target = {
            std::future::ready(()).await;
            models::inference::Target::cpu()
        };
        let file = ModelFile::from_vec(bytes).ok()?;
        let preprocess = file.description.preprocess.clone();
        let ready = match file.description.architecture {
            Architecture::Extractor(_) => Ready::Extractor(file.prepare_extractor(target).ok()?),
            _ => Ready::Detector(file.prepare_detector(target).ok()?),
        };
        let side = preprocess.width;
        let bytes = (0..side * side * 3).map(|index| (index * 7 % 251) as u8);
        let picture = RgbImage::from_rgb(side, side, bytes.collect()).ok()?;
        Some(Self { ready, picture: [picture] })
    }

    /// Runs it once and returns the values of its answer.
    pub async fn run(&self) -> Vec<f32> {
        let answer = match &self.ready {
            Ready::Extractor(extractor) => extractor.run(&self.picture).await,
            Ready::Detector(detector) => detector.run(&self.picture).await,
        };
        answer.unwrap_or_default()
    }
}
