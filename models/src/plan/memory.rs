//! Which map lies where: maps that are not needed at the same time share a place.

use super::{Convolution, Step, Value};

/// A place for every map, and the size of every place, counted as [`Convolution::room`] does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) places: Vec<usize>,
    pub(super) sizes: Vec<usize>,
}

/// The last step that reads each map; outputs are read for ever.
pub(super) fn last_uses<C>(steps: &[Step<C>], outputs: &[Value], maps: usize) -> Vec<usize> {
    let mut last = vec![0; maps];
    for (index, step) in steps.iter().enumerate() {
        for input in &step.inputs {
            last[input.index] = index;
        }
    }
    for output in outputs {
        last[output.index] = usize::MAX;
    }
    last
}

/// Lays out the maps in the order in which the steps make them: each goes to the free place whose
/// size fits best, or that has to grow least.
pub(super) fn lay_out<C: Convolution>(
    input: Value,
    steps: &[Step<C>],
    outputs: &[Value],
    maps: usize,
) -> Layout {
    let last = last_uses(steps, outputs, maps);
    let mut layout = Layout { places: vec![usize::MAX; maps], sizes: Vec::new() };
    let mut free: Vec<usize> = Vec::new();
    layout.place(input, C::room(input.extent), &mut free);
    for (index, step) in steps.iter().enumerate() {
        let first = step.inputs[0];
        if step.operation.is_in_place() {
            layout.places[step.output.index] = layout.places[first.index];
        } else {
            layout.place(step.output, C::room(step.output.extent), &mut free);
        }
        let mut ended: Vec<usize> = step
            .inputs
            .iter()
            .filter(|value| last[value.index] == index)
            .map(|value| layout.places[value.index])
            .filter(|place| *place != layout.places[step.output.index])
            .collect();
        ended.sort_unstable();
        ended.dedup();
        free.extend(ended);
    }
    layout
}

impl Layout {
    fn place(&mut self, value: Value, size: usize, free: &mut Vec<usize>) {
        let fit = |place: usize| {
            let has = self.sizes[place];
            // Too large wastes nothing new, too small has to grow.
            if has >= size { (0, has - size) } else { (1, size - has) }
        };
        let best = (0..free.len()).min_by_key(|at| fit(free[*at]));
        let place = if let Some(at) = best {
            free.swap_remove(at)
        } else {
            self.sizes.push(0);
            self.sizes.len() - 1
        };
        self.sizes[place] = self.sizes[place].max(size);
        self.places[value.index] = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::{DetectorBackbone, DetectorConfig, DetectorVariant};
    use crate::kernels::Arithmetic;
    use crate::plan::cpu::Packed;
    use crate::plan::{Operation, Recorder};
    use burn::tensor::Device;

    /// Follows what every place holds: a step finds its inputs there, and nothing that is still
    /// needed is overwritten.
    #[test]
    fn no_map_is_overwritten_while_it_is_needed() {
        for variant in [DetectorVariant::First, DetectorVariant::Second] {
            let config = DetectorConfig {
                variant,
                backbone: DetectorBackbone::PpLcNet,
                backbone_scale: 0.25,
                neck_channels: 16,
                num_classes: 1,
                head_blocks: 2,
                fused: true,
            };
            let (mut recorder, input) = Recorder::<Packed>::new(Arithmetic::F32, 64, 96);
            let outputs = config.init(&Device::flex()).wire(&mut recorder, input);
            let plan = recorder.finish(outputs);
            let mut holds = vec![None; plan.layout.sizes.len()];
            let fits = |value: Value, holds: &mut Vec<Option<usize>>| {
                let place = plan.layout.places[value.index];
                assert!(value.extent.values() <= plan.layout.sizes[place], "{value:?}");
                holds[place] = Some(value.index);
            };
            fits(plan.input, &mut holds);
            for step in &plan.steps {
                for input in &step.inputs {
                    let held = holds[plan.layout.places[input.index]];
                    assert_eq!(held, Some(input.index), "{variant:?}: {:?}", step.output);
                }
                fits(step.output, &mut holds);
            }
            for output in &plan.outputs {
                assert_eq!(
                    holds[plan.layout.places[output.index]],
                    Some(output.index),
                    "{variant:?}"
                );
            }
            // Sharing saves at least half of what every map by itself would need.
            let apart: usize = plan.steps.iter().map(|step| step.output.extent.values()).sum();
            assert!(plan.layout.sizes.iter().sum::<usize>() * 2 < apart, "{variant:?}");
            let is_joined = |operation: &Operation<_>| {
                matches!(operation, Operation::Convolve(Packed::Separable(_)))
            };
            let joined = plan.steps.iter().filter(|step| is_joined(&step.operation)).count();
            assert!(joined > 10, "{variant:?}");
        }
    }
}
