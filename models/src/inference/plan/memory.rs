//! Which map lies where: maps that are not needed at the same time share memory.

use std::ops::Range;

use super::{Convolution, Record, Step, Value};

/// Values of a cache line: maps begin at one.
const LINE: usize = 16;

/// A stretch of one piece of memory for every map, counted in values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arena {
    /// Empty for a map that nothing makes.
    pub(super) stretches: Vec<Range<usize>>,
    pub(super) length: usize,
}

/// Maps that are one in memory: how much they take, and from which step to which they are needed.
#[derive(Clone)]
struct Need {
    values: usize,
    steps: Range<usize>,
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

impl Arena {
    /// Lays out the maps of a network: the largest first, each as near to the beginning as those leave
    /// room that are needed at the same time.
    pub(super) fn new<C: Convolution>(record: &Record<C>) -> Self {
        let Record { steps, input, outputs, maps } = record;
        let last = last_uses(steps, outputs, *maps);
        // Of maps in one place, the first one made stands for all.
        let mut first_made: Vec<usize> = (0..*maps).collect();
        let mut needs: Vec<Option<Need>> = vec![None; *maps];
        // The input is there before the first step.
        let made =
            [(*input, 0, None)].into_iter().chain(steps.iter().enumerate().map(|(index, step)| {
                let over = step.operation.is_in_place().then(|| step.inputs[0]);
                (step.output, index + 1, over)
            }));
        for (value, step, over) in made {
            let end = last[value.index].saturating_add(2).max(step + 1);
            let stands = over.map_or(value.index, |over| first_made[over.index]);
            first_made[value.index] = stands;
            let values = value.extent.values().next_multiple_of(LINE);
            let need = needs[stands].get_or_insert(Need { values, steps: step..end });
            need.steps.end = need.steps.end.max(end);
        }
        // By where they begin.
        let mut placed: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        let mut stretches = vec![0..0; *maps];
        let size = |map: &usize| needs[*map].as_ref().map(|need| need.values);
        let mut left: Vec<usize> = (0..*maps).filter(|map| needs[*map].is_some()).collect();
        while let Some(largest) = (0..left.len()).rev().max_by_key(|at| size(&left[*at])) {
            let map = left.remove(largest);
            let Some(Need { values, steps }) = &needs[map] else { continue };
            let mut start = 0;
            for (taken, other) in &placed {
                let meets = other.start < steps.end && steps.start < other.end;
                if meets && start + values <= taken.start {
                    break;
                }
                if meets {
                    start = start.max(taken.end);
                }
            }
            stretches[map] = start..start + values;
            let at = placed.partition_point(|(taken, _)| taken.start < start);
            placed.insert(at, (stretches[map].clone(), steps.clone()));
        }
        let length = placed.iter().map(|(taken, _)| taken.end).max().unwrap_or_default();
        let stretches = first_made.into_iter().map(|map| stretches[map].clone()).collect();
        Self { stretches, length }
    }
}

/// A place for every map, and the size of every place, counted as [`Convolution::room`] does: for
/// processors that write no buffer which they read.
#[cfg(any(test, feature = "webgpu"))]
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) places: Vec<usize>,
    pub(super) sizes: Vec<usize>,
}

#[cfg(any(test, feature = "webgpu"))]
impl Layout {
    /// Lays out the maps in the order in which the steps make them: each goes to the free place whose
    /// size fits best, or that has to grow least.
    pub(super) fn new<C: Convolution>(record: &Record<C>) -> Self {
        let Record { steps, input, outputs, maps } = record;
        let last = last_uses(steps, outputs, *maps);
        let mut layout = Self { places: vec![usize::MAX; *maps], sizes: Vec::new() };
        let mut free: Vec<usize> = Vec::new();
        layout.place(*input, C::room(input.extent), &mut free);
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
    use crate::inference::Arithmetic;
    use crate::inference::plan::cpu::Packed;
    use crate::inference::plan::{Operation, Recorder};
    use burn::tensor::Device;

    /// Follows what memory holds: a step finds its inputs there, and nothing that is still needed is
    /// overwritten. `stretch` tells where a map lies.
    fn follow(record: &Record<Packed>, stretch: impl Fn(Value) -> Range<usize>) {
        let mut holds: Vec<(Range<usize>, usize)> = Vec::new();
        let write = |value: Value, holds: &mut Vec<(Range<usize>, usize)>| {
            let to = stretch(value);
            holds.retain(|(other, _)| other.end <= to.start || to.end <= other.start);
            holds.push((to, value.index));
        };
        write(record.input, &mut holds);
        for step in &record.steps {
            for (number, input) in step.inputs.iter().enumerate() {
                let from = stretch(*input);
                assert!(holds.contains(&(from.clone(), input.index)), "{:?}", step.output);
                let to = stretch(step.output);
                let apart = from.end <= to.start || to.end <= from.start;
                assert!(apart || number == 0 && step.operation.is_in_place(), "{:?}", step.output);
            }
            write(step.output, &mut holds);
        }
        for output in &record.outputs {
            assert!(holds.contains(&(stretch(*output), output.index)), "{output:?}");
        }
    }

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
            let record = recorder.finish(outputs);

            let arena = Arena::new(&record);
            follow(&record, |value| {
                let stretch = arena.stretches[value.index].clone();
                assert!(value.extent.values() <= stretch.len(), "{value:?}");
                assert!(stretch.end <= arena.length && stretch.start.is_multiple_of(LINE));
                stretch
            });

            let layout = Layout::new(&record);
            follow(&record, |value| {
                let place = layout.places[value.index];
                assert!(value.extent.values() <= layout.sizes[place], "{value:?}");
                place..place + 1
            });

            // Sharing saves at least half of what every map by itself would need, and one piece of
            // memory is no larger than many.
            let apart: usize = record.steps.iter().map(|step| step.output.extent.values()).sum();
            let shared: usize = layout.sizes.iter().sum();
            assert!(shared * 2 < apart && arena.length <= shared, "{variant:?}");
            let is_joined = |operation: &Operation<_>| {
                matches!(operation, Operation::Convolve(Packed::Separable(_)))
            };
            let joined = record.steps.iter().filter(|step| is_joined(&step.operation)).count();
            assert!(joined > 10, "{variant:?}");
        }
    }
}
