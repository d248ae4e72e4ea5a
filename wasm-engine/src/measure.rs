//! How long parts of the pipeline take on this device.

use models::recognizer::Recognizer;
use models::timing;

use crate::error::failed;
use crate::protocol::{EngineError, Stage};
use crate::scope::now;
use crate::threads;

/// Most runs of one measurement, and most crops or entries in it: a page that asks for more would
/// only run out of memory.
const MOST: [usize; 3] = [10_000, 64, 200_000];

/// Bytes of the module's memory, which only ever grows.
pub(crate) fn memory() -> f64 {
    /// WebAssembly's own.
    const PAGE: f64 = 65_536.0;
    core::arch::wasm32::memory_size::<0>() as f64 * PAGE
}

/// Runs a part of the pipeline several times, on a drawn image.
pub(crate) async fn measure(
    recognizer: &Recognizer,
    stage: Stage,
    runs: usize,
) -> Result<Vec<f64>, EngineError> {
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
    let measured = timing::measure(recognizer, stage, &timing::drawn(), runs, now).await;
    measured.map_err(|error| failed(&error))
}
