//! Rows that the graph cannot tell apart, because their codes are the same.
//!
//! Linked like others, they would fill each other's links and views: rows nearby would lose their links,
//! and putting in the next one would look at all of them. So only the first of them is linked like others;
//! each of the rest hangs behind the one before it and leads back to the first. A walk that comes to the
//! first meets them in their order, which is that of equal hits.

use std::collections::HashMap;

use super::super::rows::Rows;
use super::{Hnsw, Seen};

/// Bits of a factor that do not tell rows apart: what is left is its first 1/128.
const FACTOR_BITS: u32 = 16;

/// Which rows are equal.
#[derive(Debug, Clone)]
pub(super) struct Equal {
    /// By a hash of what the graph knows of a row: the first and the last row of it.
    groups: HashMap<u64, (u32, u32)>,
    hanging: Seen,
    any: bool,
}

/// The codes of a row and its factor, roughly.
fn known(rows: &Rows, row: u32) -> (&[i8], u32) {
    let (codes, factor) = rows.stored_codes(row as usize);
    (codes, factor.to_bits() >> FACTOR_BITS)
}

/// The same on every machine.
fn hash((codes, factor): (&[i8], u32)) -> u64 {
    let mix = |hash: u64, word: u64| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    };
    let word = |codes: &[i8]| {
        codes.iter().fold(0, |word: u64, code| word << 8 | u64::from(code.to_le_bytes()[0]))
    };
    codes.chunks(8).map(word).fold(mix(0, u64::from(factor)), mix)
}

impl Equal {
    /// Among the first `count` rows.
    pub(super) fn of(rows: &Rows, count: u32) -> Self {
        let mut equal = Self { groups: HashMap::new(), hanging: Seen::new(0), any: false };
        for row in 0..count {
            equal.note(rows, row);
        }
        equal
    }

    /// Takes note of the next row; the first and the last of the equal ones before it, if there are any.
    pub(super) fn note(&mut self, rows: &Rows, row: u32) -> Option<(u32, u32)> {
        self.hanging.0.resize(row as usize / 64 + 1, 0);
        let own = known(rows, row);
        let group = self.groups.entry(hash(own)).or_insert((row, row));
        let (first, last) = *group;
        // Where two hashes are the same by chance, only the rows of one are looked for.
        if first == row || known(rows, first) != own {
            return None;
        }
        group.1 = row;
        self.hanging.insert(row);
        self.any = true;
        Some((first, last))
    }

    /// Whether there is an equal row before this one.
    pub(super) fn hangs(&self, row: u32) -> bool {
        self.any && self.hanging.contains(row)
    }

    /// All of these, if there are any.
    pub(super) fn hanging(&self) -> Option<&Seen> {
        self.any.then_some(&self.hanging)
    }
}

impl Hnsw {
    /// Links what searches do not come to. A graph from a file may have equal rows linked like others: these fill
    /// views whatever is linked in, so that such a graph is made anew.
    pub(in super::super) fn mend(&mut self, rows: &Rows) {
        if !self.apart && !self.hang_together(rows) {
            *self = Self::over(self.options, rows);
            return;
        }
        self.apart = true;
        self.connect(rows);
    }

    /// Whether each row that is equal to one before it hangs behind the last of these.
    fn hang_together(&mut self, rows: &Rows) -> bool {
        let mut equal = Equal::of(rows, 0);
        let hang = (0..self.levels.len() as u32).all(|row| {
            let before = equal.note(rows, row);
            before.is_none_or(|(_, last)| self.links(last, 0).contains(&row))
        });
        if hang {
            self.equal = Some(equal);
        }
        hang
    }
}
