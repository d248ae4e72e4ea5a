//! Values in another order of their axes.

/// Values in another order of their axes: axis `i` of the result is axis `order[i]` of `values`.
pub(super) fn transposed(values: &[f32], shape: &[usize], order: [usize; 4]) -> Vec<f32> {
    let strides: [usize; 4] = std::array::from_fn(|axis| shape[axis + 1..].iter().product());
    let sides = order.map(|axis| shape[axis]);
    let steps = order.map(|axis| strides[axis]);
    let mut out = Vec::with_capacity(values.len());
    for a in 0..sides[0] {
        for b in 0..sides[1] {
            for c in 0..sides[2] {
                let start = a * steps[0] + b * steps[1] + c * steps[2];
                out.extend((0..sides[3]).map(|d| values[start + d * steps[3]]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_moves_every_value_to_where_its_indices_say() {
        let shape = [2, 3, 4, 5];
        let values: Vec<f32> = (0..120).map(|value| value as f32).collect();
        let order = [2, 0, 3, 1];
        let moved = transposed(&values, &shape, order);
        let sides = order.map(|axis| shape[axis]);
        for (place, value) in moved.iter().enumerate() {
            let mut rest = place;
            let mut indices = [0; 4];
            for axis in (0..4).rev() {
                indices[order[axis]] = rest % sides[axis];
                rest /= sides[axis];
            }
            let [a, b, c, d] = indices;
            assert_eq!(*value, values[((a * 3 + b) * 4 + c) * 5 + d]);
        }
    }
}
