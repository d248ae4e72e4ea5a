//! Arrays of any rank, of floats or of whole numbers: what a graph's constants are, and what its plain interpreter
//! computes with.

use super::OnnxError;

/// Most axes of an array.
pub(super) const MAX_RANK: usize = 8;

/// Values of an [`Array`]; truth values are 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Floats(Vec<f32>),
    Numbers(Vec<i64>),
}

/// Row-major values of a shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

/// What an interpreter may take: values of one array, and products and sums in all.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Most values of an array.
    pub values: usize,
    /// Most products of two numbers.
    pub work: u64,
}

impl Default for Budget {
    /// Half a gigabyte, and three times what the largest network of timm computes for an image.
    fn default() -> Self {
        Self { values: 1 << 27, work: 1 << 38 }
    }
}

/// How many values a shape has, within the budget.
pub(super) fn count(shape: &[usize], budget: &Budget) -> Result<usize, OnnxError> {
    // An axis of no places makes nothing small: distances along the others still have to be numbers.
    let all = shape.iter().try_fold(1_usize, |all, side| all.checked_mul((*side).max(1)));
    match all {
        Some(count) if count <= budget.values && shape.len() <= MAX_RANK => {
            Ok(if shape.contains(&0) { 0 } else { count })
        }
        _ => Err(OnnxError::TooLarge { what: format!("an array of shape {shape:?}") }),
    }
}

/// How far apart neighbors along each axis lie.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The axis that a number means, which counts from the end if it is negative.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize, OnnxError> {
    let place = if axis < 0 { axis + rank as i64 } else { axis };
    let found = usize::try_from(place).ok().filter(|axis| *axis < rank);
    found.ok_or_else(|| OnnxError::damaged(format!("axis {axis} of an array of {rank} axes")))
}

/// Calls `visit` with the place that each index of `shape` has under these strides, in order.
pub(super) fn for_each_place(shape: &[usize], steps: &[usize], mut visit: impl FnMut(usize)) {
    if shape.contains(&0) {
        return;
    }
    let Some((width, outer)) = shape.split_last() else { return visit(0) };
    let step = steps[shape.len() - 1];
    let (mut index, mut start) = (vec![0; outer.len()], 0);
    loop {
        (0..*width).for_each(|column| visit(start + column * step));
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            start += steps[axis];
            if index[axis] < outer[axis] {
                break;
            }
            start -= index[axis] * steps[axis];
            index[axis] = 0;
        }
    }
}

/// The shape that two shapes have together: sides of 1 are repeated.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, OnnxError> {
    let rank = a.len().max(b.len());
    let side = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
    };
    (0..rank)
        .map(|axis| match (side(a, axis), side(b, axis)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            _ => Err(OnnxError::damaged(format!("shapes {a:?} and {b:?} do not go together"))),
        })
        .collect()
}

/// Strides of an array that is repeated to a shape: 0 along repeated axes.
pub(super) fn repeated(shape: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    (0..to.len())
        .map(|axis| match (axis + shape.len()).checked_sub(to.len()) {
            Some(axis) if shape[axis] > 1 => own[axis],
            _ => 0,
        })
        .collect()
}

impl Array {
    pub(super) fn floats(shape: Vec<usize>, values: Vec<f32>) -> Self {
        Self { shape, values: Values::Floats(values) }
    }

    pub(super) fn numbers(shape: Vec<usize>, values: Vec<i64>) -> Self {
        Self { shape, values: Values::Numbers(values) }
    }

    /// How many values there are.
    pub(super) fn length(&self) -> usize {
        match &self.values {
            Values::Floats(values) => values.len(),
            Values::Numbers(values) => values.len(),
        }
    }

    /// The floats; whole numbers are none.
    pub(super) fn as_floats(&self) -> Result<&[f32], OnnxError> {
        match &self.values {
            Values::Floats(values) => Ok(values),
            Values::Numbers(_) => {
                Err(OnnxError::damaged("whole numbers where floats belong".to_owned()))
            }
        }
    }

    /// The whole numbers.
    pub(super) fn as_numbers(&self) -> Result<&[i64], OnnxError> {
        match &self.values {
            Values::Numbers(values) => Ok(values),
            Values::Floats(_) => {
                Err(OnnxError::damaged("floats where whole numbers belong".to_owned()))
            }
        }
    }

    /// The only value, as a float.
    pub(super) fn scalar(&self) -> Option<f32> {
        match &self.values {
            Values::Floats(values) if values.len() == 1 => Some(values[0]),
            Values::Numbers(values) if values.len() == 1 => Some(values[0] as f32),
            _ => None,
        }
    }

    /// The values at the places that the strides name, as an array of a shape.
    pub(super) fn gather(
        &self,
        shape: Vec<usize>,
        start: usize,
        steps: &[usize],
        budget: &Budget,
    ) -> Result<Self, OnnxError> {
        let count = count(&shape, budget)?;
        let values = match &self.values {
            Values::Floats(values) => {
                let mut out = Vec::with_capacity(count);
                for_each_place(&shape, steps, |at| out.push(values[start + at]));
                Values::Floats(out)
            }
            Values::Numbers(values) => {
                let mut out = Vec::with_capacity(count);
                for_each_place(&shape, steps, |at| out.push(values[start + at]));
                Values::Numbers(out)
            }
        };
        Ok(Self { shape, values })
    }

    /// Repeated to a shape.
    pub(super) fn expand(&self, to: &[usize], budget: &Budget) -> Result<Self, OnnxError> {
        let to = broadcast(&self.shape, to)?;
        let steps = repeated(&self.shape, &to);
        self.gather(to, 0, &steps, budget)
    }

    /// With its axes in another order.
    pub(super) fn transpose(&self, order: &[usize], budget: &Budget) -> Result<Self, OnnxError> {
        let own = strides(&self.shape);
        let shape = order.iter().map(|axis| self.shape[*axis]).collect();
        let steps: Vec<usize> = order.iter().map(|axis| own[*axis]).collect();
        self.gather(shape, 0, &steps, budget)
    }

    /// A function of two arrays, repeated to their common shape.
    pub(super) fn zip<A: Copy, B: Copy, T>(
        (a, a_values): (&[usize], &[A]),
        (b, b_values): (&[usize], &[B]),
        budget: &Budget,
        function: impl Fn(A, B) -> T,
    ) -> Result<(Vec<usize>, Vec<T>), OnnxError> {
        let shape = broadcast(a, b)?;
        let count = count(&shape, budget)?;
        if a == b {
            let values = a_values.iter().zip(b_values).map(|(a, b)| function(*a, *b)).collect();
            return Ok((shape, values));
        }
        let mut places = Vec::with_capacity(count);
        for_each_place(&shape, &repeated(a, &shape), |at| places.push(at));
        let mut out = Vec::with_capacity(count);
        let mut index = 0;
        for_each_place(&shape, &repeated(b, &shape), |at| {
            out.push(function(a_values[places[index]], b_values[at]));
            index += 1;
        });
        Ok((shape, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_nested_loops() {
        let mut seen = Vec::new();
        for_each_place(&[2, 3, 2], &[1, 10, 100], |at| seen.push(at));
        let mut expected = Vec::new();
        for a in 0..2 {
            for b in 0..3 {
                for c in 0..2 {
                    expected.push(a + 10 * b + 100 * c);
                }
            }
        }
        assert_eq!(seen, expected);
        for_each_place(&[2, 0], &[1, 1], |_| panic!("there is none"));
    }

    #[test]
    fn shapes_go_together_as_the_format_says() {
        assert_eq!(broadcast(&[2, 1, 3], &[4, 1]).unwrap(), [2, 4, 3]);
        assert!(broadcast(&[2], &[3]).is_err());
        let budget = Budget::default();
        let column = Array::floats(vec![2, 1], vec![1.0, 2.0]);
        let row: (&[usize], &[f32]) = (&[3], &[10.0, 20.0, 30.0]);
        let a = (&column.shape[..], column.as_floats().unwrap());
        let (shape, sums) = Array::zip(a, row, &budget, |a, b| a + b).unwrap();
        assert_eq!((shape, sums), (vec![2, 3], vec![11.0, 21.0, 31.0, 12.0, 22.0, 32.0]));
        let turned = Array::numbers(vec![2, 3], vec![1, 2, 3, 4, 5, 6]);
        let turned = turned.transpose(&[1, 0], &budget).unwrap();
        assert_eq!(turned, Array::numbers(vec![3, 2], vec![1, 4, 2, 5, 3, 6]));
    }

    #[test]
    fn shapes_that_no_memory_holds_are_refused() {
        let budget = Budget { values: 100, work: 1 };
        assert!(count(&[usize::MAX, 2], &budget).is_err());
        assert!(count(&[11, 10], &budget).is_err());
        assert!(count(&[0, usize::MAX, usize::MAX], &budget).is_err());
        assert_eq!(count(&[0, 7], &budget).unwrap(), 0);
        assert_eq!(count(&[10, 10], &budget).unwrap(), 100);
    }
}
