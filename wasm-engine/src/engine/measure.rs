//! How long parts of the pipeline take on this device.

use models::timing;

use super::Engine;
use crate::protocol::{EngineError, Stage};
use crate::scope::now;
use crate::threads;

/// Most runs of one measurement, and most crops or entries in it: a page that asks for more would
/// only run out of memory.
const MOST: [usize; 3] = [10_000, 64, 200_000];

/// Bytes of the module's memory, which only ever grows.
pub(super) fn memory() -> f64 {
    /// WebAssembly's own.
    const PAGE: f64 = 65_536.0;
    core::arch::wasm32::memory_size::<0>() as f64 * PAGE
}

impl Engine {
    /// Milliseconds of several runs of a part of the pipeline, on a drawn image.
    pub(crate) async fn measure(&self, stage: Stage, runs: usize) -> Result<Vec<f64>, EngineError> {
        let [most_runs, most_crops, most_entries] = MOST;
        let stage = match stage {
            Stage::DetectorNetwork => timing::Stage::DetectorNetwork,
            Stage::ExtractorNetwork => timing::Stage::ExtractorNetwork,
            Stage::Detect => timing::Stage::Detect,
            Stage::Embed(crops) => timing::Stage::Embed(crops.clamp(1, most_crops)),
            Stage::Search => timing::Stage::Search,
            Stage::SearchIn(entries) => timing::Stage::SearchIn(entries.clamp(1, most_entries)),
            Stage::Recognize => timing::Stage::Recognize,
        };
        let runs = runs.clamp(1, most_runs);
        threads::settled().await;
        Ok(timing::measure(&self.recognizer, stage, &timing::drawn(), runs, now).await?)
    }
}
