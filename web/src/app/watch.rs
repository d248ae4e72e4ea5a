//! What an engine's answers tell of its health: whether WebGPU has become slower than the processor, and whether
//! the engine holds more memory than a phone lets a page have.

use std::collections::VecDeque;

use wasm_engine::protocol::{Backend, Recognized};

use super::choice::Cost;

/// Answers over which times are looked at: the median of fewer is one slow picture.
const RECENT: usize = 15;
/// WebGPU is left above this part of what the processor took in the trial.
const SLOWER: f64 = 1.25;
/// Bytes that an engine may gain over what it held after its first answer. Memory of WebAssembly is never given
/// back, so one large picture is paid for as long as the engine lives.
const GAIN: f64 = 160e6;

/// What an engine needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// The processor in its place: WebGPU takes longer.
    Processor,
    /// The processor in its place for the rest of the visit: this platform is known to end pages that use WebGPU
    /// for long.
    Rest,
    /// Another one of its kind, with fresh memory.
    Renewal,
}

/// The answers of one engine.
#[derive(Debug, Default)]
pub(super) struct Watch {
    recent: VecDeque<f64>,
    answers: u32,
    first: Option<f64>,
}

impl Watch {
    /// Takes an answer in. `cpu` is what the processor took in the trial, `most` the number of answers that WebGPU
    /// may give on this platform.
    pub(super) fn see(
        &mut self,
        result: &Recognized,
        backend: Backend,
        cpu: Option<Cost>,
        most: Option<u32>,
    ) -> Option<Need> {
        self.answers = self.answers.saturating_add(1);
        let first = *self.first.get_or_insert(result.memory);
        if backend == Backend::WebGpu {
            if most.is_some_and(|most| self.answers >= most) {
                return Some(Need::Rest);
            }
            if let Some(ratio) = cpu.and_then(|cpu| beside(result, cpu)) {
                self.recent.push_back(ratio);
            }
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
            if self.recent.len() == RECENT && self.median() > SLOWER {
                return Some(Need::Processor);
            }
        }
        (result.memory > first + GAIN).then_some(Need::Renewal)
    }

    fn median(&self) -> f64 {
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

/// What an answer took, as a part of what the processor would take for as many objects.
fn beside(result: &Recognized, cpu: Cost) -> Option<f64> {
    let expected = cpu.detect + cpu.embed * result.embedded as f64;
    (expected > 0.0).then(|| (result.timings.detect + result.timings.embed) / expected)
}
