//! Which map lies where: maps that are not needed at the same time share a place.

use super::{Step, Value};

/// A place for every map, and the size of every place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) places: Vec<usize>,
    pub(super) sizes: Vec<usize>,
}

/// The last step that reads each map; outputs are read for ever.
pub(super) fn last_uses(steps: &[Step], outputs: &[Value], maps: usize) -> Vec<usize> {
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
pub(super) fn lay_out(input: Value, steps: &[Step], outputs: &[Value], maps: usize) -> Layout {
    let last = last_uses(steps, outputs, maps);
    let mut layout = Layout { places: vec![usize::MAX; maps], sizes: Vec::new() };
    let mut free: Vec<usize> = Vec::new();
    layout.place(input, &mut free);
    for (index, step) in steps.iter().enumerate() {
        let first = step.inputs[0];
        if step.operation.is_in_place() {
            layout.places[step.output.index] = layout.places[first.index];
        } else {
            layout.place(step.output, &mut free);
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
    fn place(&mut self, value: Value, free: &mut Vec<usize>) {
        let size = value.extent.values();
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
