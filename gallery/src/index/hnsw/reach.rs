//! Whether a walk from any row leads to every other one, and links where it does not.
//!
//! A row may lose the last link that leads to it when a neighbor's links are full, and rows that lie close
//! together may link to each other alone. A walk that ends up among these sees nothing else. So when all
//! rows are in, the base is made one strongly connected part: Tarjan, "Depth-first search and linear graph
//! algorithms" (1972).

use super::super::Hit;
use super::super::codes::Query;
use super::super::rows::Rows;
use super::equal::Equal;
use super::{Hnsw, Seen, Walk};

/// No row.
const NONE: u32 = u32::MAX;
/// Rows in view when a row is looked for that has room for one more link, at least.
const VIEW: usize = 64;

/// Strongly connected parts of the base.
struct Parts {
    count: usize,
    /// Of every row.
    of: Vec<u32>,
    /// All rows, part by part; links lead into the same part or into those before it.
    order: Vec<u32>,
}

/// What can be reached from the entry, and what it can be reached from.
struct Reach {
    from_entry: Vec<bool>,
    to_entry: Vec<bool>,
}

impl Hnsw {
    fn parts(&self) -> Parts {
        let rows = self.levels.len();
        let (mut number, mut least) = (vec![NONE; rows], vec![NONE; rows]);
        let mut parts = Parts { count: 0, of: vec![NONE; rows], order: Vec::with_capacity(rows) };
        let (mut path, mut open): (Vec<(u32, usize)>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut seen = 0;
        for root in 0..rows as u32 {
            if number[root as usize] == NONE {
                path.push((root, 0));
            }
            while let Some((row, place)) = path.last_mut() {
                let own = *row as usize;
                if *place == 0 {
                    (number[own], least[own]) = (seen, seen);
                    seen += 1;
                    open.push(*row);
                }
                if let Some(link) = self.links(*row, 0).get(*place) {
                    *place += 1;
                    if number[*link as usize] == NONE {
                        path.push((*link, 0));
                    } else if parts.of[*link as usize] == NONE {
                        least[own] = least[own].min(number[*link as usize]);
                    }
                    continue;
                }
                path.pop();
                if let Some((before, _)) = path.last() {
                    let before = *before as usize;
                    least[before] = least[before].min(least[own]);
                }
                if least[own] == number[own] {
                    while let Some(row) = open.pop() {
                        parts.of[row as usize] = parts.count as u32;
                        parts.order.push(row);
                        if row as usize == own {
                            break;
                        }
                    }
                    parts.count += 1;
                }
            }
        }
        parts
    }

    fn reach(&self, entry: u32, parts: &Parts) -> Reach {
        let main = parts.of[entry as usize] as usize;
        let (mut from, mut to) = (vec![false; parts.count], vec![false; parts.count]);
        (from[main], to[main]) = (true, true);
        let part = |row: &u32| parts.of[*row as usize] as usize;
        for row in &parts.order {
            to[part(row)] |= self.links(*row, 0).iter().any(|link| to[part(link)]);
        }
        for row in parts.order.iter().rev() {
            if from[part(row)] {
                self.links(*row, 0).iter().for_each(|link| from[part(link)] = true);
            }
        }
        let of_rows = |flags: &[bool]| parts.of.iter().map(|part| flags[*part as usize]).collect();
        Reach { from_entry: of_rows(&from), to_entry: of_rows(&to) }
    }

    /// Rows for which it is true that a search for them does not come to them, however much it looks at.
    pub(in super::super) fn unreachable(
        &self,
        rows: &Rows,
        asked: &dyn Fn(usize) -> bool,
    ) -> usize {
        let Some(entry) = self.entry else { return 0 };
        let parts = self.parts();
        if parts.count == 1 {
            return 0;
        }
        let Reach { from_entry, to_entry } = self.reach(entry, &parts);
        let mut doubtful: Vec<(u32, u32)> = (0..self.levels.len() as u32)
            .filter(|row| asked(*row as usize))
            .filter_map(|row| {
                let start = self.start(rows, &rows.codes_as_query(row as usize))?.entry;
                let sure = from_entry[row as usize] && to_entry[start];
                (!sure).then_some((start as u32, row))
            })
            .collect();
        doubtful.sort_unstable();
        let mut lost = 0;
        for of_start in doubtful.chunk_by(|a, b| a.0 == b.0) {
            let start = of_start[0].0;
            // What the entry reaches is no way to what it does not reach.
            let dead_end = |row: u32| from_entry[row as usize] && to_entry[start as usize];
            let mut seen = Seen::new(self.levels.len());
            seen.insert(start);
            let mut open = vec![start];
            while let Some(row) = open.pop() {
                let ways = self.links(row, 0).iter().copied();
                open.extend(ways.filter(|row| !dead_end(*row) && seen.insert(*row)));
            }
            lost += of_start.iter().filter(|(_, row)| !seen.contains(*row)).count();
        }
        lost
    }

    /// Adds links until every row can be reached from every other one.
    pub(in super::super) fn connect(&mut self, rows: &Rows) {
        let Some(entry) = self.entry else { return };
        if self.parts().count == 1 {
            return;
        }
        let count = self.levels.len() as u32;
        self.equal.get_or_insert_with(|| Equal::of(rows, count));
        // From which row each is reached.
        let mut tree = vec![NONE; self.levels.len()];
        tree[entry as usize] = entry;
        self.grow(&mut tree, entry);
        for row in 0..count {
            if tree[row as usize] != NONE {
                continue;
            }
            let near = self.near(rows, row, &|other| tree[other] != NONE);
            let everywhere = (0..count).filter(|other| tree[*other as usize] != NONE);
            if let Some(from) = self.with_room(near.into_iter().chain(everywhere), &tree) {
                self.lead(from, row, &tree);
                tree[row as usize] = from;
                self.grow(&mut tree, row);
            }
        }
        let parts = self.parts();
        let Reach { to_entry, .. } = self.reach(entry, &parts);
        let part = |row: u32| parts.of[row as usize] as usize;
        let mut leads_on = vec![false; parts.count];
        for row in 0..count {
            leads_on[part(row)] |= self.links(row, 0).iter().any(|link| part(*link) != part(row));
        }
        for rows_of_part in parts.order.chunk_by(|a, b| part(*a) == part(*b)) {
            if leads_on[part(rows_of_part[0])] || to_entry[rows_of_part[0] as usize] {
                continue;
            }
            let mut members = rows_of_part.to_vec();
            members.sort_unstable_by_key(|row| (self.hangs(*row), *row));
            let Some(from) = self.with_room(members.into_iter(), &tree) else { continue };
            let near = self.near(rows, from, &|other| to_entry[other]);
            self.lead(from, near.first().copied().unwrap_or(entry), &tree);
        }
    }

    /// Takes in what a row of the tree leads to.
    fn grow(&self, tree: &mut [u32], row: u32) {
        let mut open = vec![row];
        while let Some(row) = open.pop() {
            for link in self.links(row, 0) {
                if tree[*link as usize] == NONE {
                    tree[*link as usize] = row;
                    open.push(*link);
                }
            }
        }
    }

    /// Admitted rows near to one, best first; the entry is one that is admitted.
    fn near(&self, rows: &Rows, row: u32, admitted: &dyn Fn(usize) -> bool) -> Vec<u32> {
        let query: Query = rows.codes_as_query(row as usize);
        let start = self.start(rows, &query).filter(|start| admitted(start.entry));
        let entry = self.entry.map(|entry| Self::raw_score(rows, &query, entry));
        let Some(start) = start.or(entry) else { return Vec::new() };
        let ef_search = self.options.ef_construction.max(VIEW);
        let wanted = |other: usize| other != row as usize && admitted(other);
        let walk = Walk { rows, query: &query, level: 0, ef_search, admitted: &wanted };
        let found: Vec<Hit> = self.walk_apart(&[start], &walk);
        found.into_iter().map(|hit| hit.entry as u32).collect()
    }

    /// The first row with room for one more link, else the first with one that nothing depends on.
    fn with_room(&self, rows: impl Iterator<Item = u32> + Clone, tree: &[u32]) -> Option<u32> {
        let room = self.links_at(0);
        let free = rows.clone().find(|row| self.links(*row, 0).len() < room);
        free.or_else(|| rows.into_iter().find(|row| self.spare(*row, tree).is_some()))
    }

    /// The place of the last link of a row that nothing depends on.
    fn spare(&self, row: u32, tree: &[u32]) -> Option<usize> {
        let depends = |link: &u32| tree[*link as usize] == row || self.hangs(*link);
        self.links(row, 0).iter().rposition(|link| !depends(link))
    }

    /// Adds a link, if need be in the place of one that nothing depends on.
    fn lead(&mut self, from: u32, to: u32, tree: &[u32]) {
        let mut links = self.links(from, 0).to_vec();
        if links.len() == self.links_at(0)
            && let Some(place) = self.spare(from, tree)
        {
            links.remove(place);
        }
        links.push(to);
        links.truncate(self.links_at(0));
        self.set_links(from, 0, &links);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Metric, VectorType};
    use super::super::Options;
    use super::*;
    use proptest::prelude::*;

    /// A graph of small rows, some of them equal, with links that somebody drew.
    fn drawn(rows: &[(i8, i8)], links: &[Vec<usize>]) -> (Rows, Hnsw) {
        let mut stored = Rows::new(2, Metric::InnerProduct, VectorType::F32);
        rows.iter().for_each(|(x, y)| stored.push(&[f32::from(*x), f32::from(*y)]));
        let mut graph = Hnsw::new(Options { m: 2, ef_construction: 4 });
        rows.iter().for_each(|_| graph.push(&stored));
        graph.settle();
        for (row, links) in links.iter().enumerate().take(rows.len()) {
            let mut links: Vec<u32> = links.iter().map(|link| (link % rows.len()) as u32).collect();
            links.retain(|link| *link as usize != row);
            links.sort_unstable();
            links.dedup();
            graph.set_links(row as u32, 0, &links);
        }
        (stored, graph)
    }

    /// What links lead to from a row.
    fn led_to(graph: &Hnsw, row: u32) -> Seen {
        let mut seen = Seen::new(graph.levels.len());
        seen.insert(row);
        let mut open = vec![row];
        while let Some(row) = open.pop() {
            open.extend(graph.links(row, 0).iter().copied().filter(|row| seen.insert(*row)));
        }
        seen
    }

    proptest! {
        #[test]
        fn whatever_the_links_are_all_rows_reach_each_other_in_the_end(
            rows in prop::collection::vec((-2_i8..3, -2_i8..3), 1..40),
            links in prop::collection::vec(prop::collection::vec(0_usize..40, 0..5), 40),
        ) {
            let (stored, mut graph) = drawn(&rows, &links);
            let count = rows.len() as u32;
            let lost = (0..count).filter(|row| {
                let start = graph.start(&stored, &stored.codes_as_query(*row as usize)).unwrap();
                !led_to(&graph, start.entry as u32).contains(*row)
            });
            prop_assert_eq!(graph.unreachable(&stored, &|_| true), lost.count());
            prop_assert_eq!(graph.unreachable(&stored, &|_| false), 0);
            graph.connect(&stored);
            for row in 0..count {
                let seen = led_to(&graph, row);
                prop_assert!((0..count).all(|other| seen.contains(other)), "from {row}");
                prop_assert!(graph.links(row, 0).len() <= graph.links_at(0));
            }
            prop_assert_eq!(graph.unreachable(&stored, &|_| true), 0);
            // Once is enough.
            let before = graph.base.clone();
            graph.connect(&stored);
            prop_assert_eq!(graph.base, before);
        }
    }
}
