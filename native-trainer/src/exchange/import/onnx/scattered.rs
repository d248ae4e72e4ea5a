//! Values that are put into an array at places that another array names: what a graph has where a program has changed a
//! part of a tensor.

use super::array::{Array, Values, strides};
use super::interpret::{Call, Made};

/// The function of such an operator.
pub(super) fn operator(name: &str) -> Option<fn(&Call<'_>) -> Made> {
    (name == "ScatterND").then_some(scatter as fn(&Call<'_>) -> Made)
}

fn scatter(call: &Call<'_>) -> Made {
    let (x, places, new) = (call.input(0)?, call.input(1)?, call.input(2)?);
    if call.node.text("reduction").is_some_and(|how| how != "none") {
        return Err(call.wrong("a reduction, which is not read"));
    }
    let Some((depth, outer)) = places.shape.split_last().filter(|(depth, _)| **depth > 0) else {
        return Err(call.wrong("places of no axes"));
    };
    let Some((axes, inner)) = x.shape.split_at_checked(*depth) else {
        return Err(call.wrong("places of more axes than the array has"));
    };
    if new.shape != [outer, inner].concat() {
        return Err(call.wrong(&format!("{:?} does not fit its places", new.shape)));
    }
    let steps = strides(&x.shape);
    let mut starts = Vec::new();
    for place in places.as_numbers()?.chunks_exact(*depth) {
        let mut start = 0;
        for ((index, side), step) in place.iter().zip(axes).zip(&steps) {
            let index = if *index < 0 { index.saturating_add(*side as i64) } else { *index };
            let index = usize::try_from(index).ok().filter(|index| index < side);
            start += index.ok_or_else(|| call.wrong("a place outside the array"))? * step;
        }
        starts.push(start);
    }
    let width = inner.iter().product();
    let values = match (&x.values, &new.values) {
        (Values::Floats(old), Values::Floats(new)) => Values::Floats(put(old, new, &starts, width)),
        (Values::Numbers(old), Values::Numbers(new)) => {
            Values::Numbers(put(old, new, &starts, width))
        }
        _ => return Err(call.wrong("floats and whole numbers together")),
    };
    Ok(vec![Array { shape: x.shape.clone(), values }])
}

/// The old values, with new ones `width` at a time from each start; of two at one place the later one.
fn put<T: Copy>(old: &[T], new: &[T], starts: &[usize], width: usize) -> Vec<T> {
    let mut all = old.to_vec();
    for (at, start) in starts.iter().enumerate() {
        all[*start..start + width].copy_from_slice(&new[at * width..(at + 1) * width]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::array::Budget;
    use super::super::model::{Attribute, Node};
    use super::*;

    fn run(inputs: [&Array; 3], reduction: Option<&str>) -> Result<Array, String> {
        let attributes = reduction
            .map(|text| ("reduction".to_owned(), Attribute::Text(text.to_owned())))
            .into_iter()
            .collect();
        let node = Node {
            operator: "ScatterND".to_owned(),
            name: "part".to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes,
        };
        let inputs = inputs.into_iter().map(Some).collect();
        let budget = Budget::default();
        let call =
            Call { node: &node, operator_set: 16, inputs, budget: &budget, work: 1_000.into() };
        let function = operator("ScatterND").expect("it is read");
        function(&call).map(|mut made| made.remove(0)).map_err(|error| error.to_string())
    }

    fn floats(shape: &[usize], values: &[f32]) -> Array {
        Array::floats(shape.to_vec(), values.to_vec())
    }

    fn numbers(shape: &[usize], values: &[i64]) -> Array {
        Array::numbers(shape.to_vec(), values.to_vec())
    }

    #[test]
    fn values_come_to_their_places() {
        // The examples of ONNX's own description of the operator.
        let x = floats(&[8], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let made = run(
            [&x, &numbers(&[4, 1], &[4, 3, 1, 7]), &floats(&[4], &[9.0, 10.0, 11.0, 12.0])],
            None,
        );
        assert_eq!(made, Ok(floats(&[8], &[1.0, 11.0, 3.0, 10.0, 9.0, 6.0, 7.0, 12.0])));
        // Whole rows, one counted from the end.
        let x = numbers(&[3, 2], &[1, 2, 3, 4, 5, 6]);
        let rows = numbers(&[2, 2], &[7, 8, 9, 0]);
        let made = run([&x, &numbers(&[2, 1], &[-1, 0]), &rows], Some("none"));
        assert_eq!(made, Ok(numbers(&[3, 2], &[9, 0, 3, 4, 7, 8])));
        // Single values of a matrix.
        let made = run([&x, &numbers(&[1, 2, 2], &[0, 1, 2, 0]), &numbers(&[1, 2], &[8, 9])], None);
        assert_eq!(made, Ok(numbers(&[3, 2], &[1, 8, 3, 4, 9, 6])));
    }

    #[test]
    fn places_that_are_not_there_are_refused() {
        let x = floats(&[2, 2], &[0.0; 4]);
        let one = floats(&[1], &[1.0]);
        for (places, new, reduction, told) in [
            (numbers(&[1, 2], &[0, 2]), &one, None, "a place outside"),
            (numbers(&[1, 2], &[-3, 0]), &one, None, "a place outside"),
            (numbers(&[1, 2], &[i64::MIN, 0]), &one, None, "a place outside"),
            (numbers(&[1, 3], &[0, 0, 0]), &one, None, "more axes than the array"),
            (numbers(&[1, 0], &[]), &one, None, "places of no axes"),
            (numbers(&[], &[0]), &one, None, "places of no axes"),
            (numbers(&[1, 1], &[0]), &one, None, "does not fit its places"),
            (numbers(&[1, 2], &[0, 0]), &one, Some("add"), "a reduction"),
            (numbers(&[1, 2], &[0, 0]), &numbers(&[1], &[1]), None, "together"),
        ] {
            let error = run([&x, &places, new], reduction).unwrap_err();
            assert!(error.contains(told), "{told}: {error}");
        }
    }
}
