//! What an engine's answers tell of its health: whether WebGPU has become slower than the processor, and whether
//! the engine holds more memory than a phone lets a page have.

use std::collections::VecDeque;

use wasm_engine::protocol::{Backend, Recognized};

use super::event::Cost;

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
    /// The processor in its place for the rest of the visit: a trial has chosen it, or this platform is known to end
    /// pages that use WebGPU for long.
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

#[cfg(test)]
mod tests {
    use wasm_engine::protocol::{Backend, Recognized, StageTimes};

    use super::{Cost, GAIN, Need, RECENT, Watch};

    const CPU: Cost = Cost { detect: 10.0, embed: 5.0 };

    fn answer(detect: f64, memory: f64) -> Recognized {
        Recognized {
            picture: 1,
            width: 8,
            height: 8,
            objects: Vec::new(),
            pointed: 0,
            timings: StageTimes { detect, ..StageTimes::default() },
            embedded: 0,
            threads: 1,
            memory,
        }
    }

    #[test]
    fn webgpu_is_left_when_most_answers_are_slower() {
        let mut watch = Watch::default();
        let mut see = || watch.see(&answer(13.0, 0.0), Backend::WebGpu, Some(CPU), None);
        for _ in 1..RECENT {
            assert_eq!(see(), None);
        }
        assert_eq!(see(), Some(Need::Processor));
    }

    #[test]
    fn one_slow_answer_is_no_reason() {
        let mut watch = Watch::default();
        for number in 0..2 * RECENT {
            let time = if number == 3 { 500.0 } else { 9.0 };
            assert_eq!(watch.see(&answer(time, 0.0), Backend::WebGpu, Some(CPU), None), None);
        }
    }

    #[test]
    fn without_a_trial_times_tell_nothing() {
        let mut watch = Watch::default();
        for _ in 0..2 * RECENT {
            assert_eq!(watch.see(&answer(500.0, 0.0), Backend::WebGpu, None, None), None);
        }
    }

    #[test]
    fn the_processor_is_not_compared_with_itself() {
        let mut watch = Watch::default();
        for _ in 0..2 * RECENT {
            assert_eq!(watch.see(&answer(500.0, 0.0), Backend::Cpu, Some(CPU), None), None);
        }
    }

    #[test]
    fn webgpu_rests_after_as_many_answers_as_the_platform_bears() {
        let mut watch = Watch::default();
        assert_eq!(watch.see(&answer(1.0, 0.0), Backend::WebGpu, None, Some(2)), None);
        assert_eq!(watch.see(&answer(1.0, 0.0), Backend::WebGpu, None, Some(2)), Some(Need::Rest));
    }

    #[test]
    fn an_engine_that_gained_memory_is_renewed() {
        let mut watch = Watch::default();
        assert_eq!(watch.see(&answer(1.0, 50e6), Backend::Cpu, None, None), None);
        assert_eq!(watch.see(&answer(1.0, 50e6 + GAIN), Backend::Cpu, None, None), None);
        let large = answer(1.0, 51e6 + GAIN);
        assert_eq!(watch.see(&large, Backend::Cpu, None, None), Some(Need::Renewal));
    }
}
