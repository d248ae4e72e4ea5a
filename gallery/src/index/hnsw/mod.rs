//! A graph over the rows that is walked towards the query.
//!
//! Source: "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
//! Small World graphs", <https://arxiv.org/abs/1603.09320>, Algorithms 1 to 5. Differences: a row's
//! level follows from its number alone and rows are put in one after the other, so that the same
//! rows give the same graph on every machine; the walk compares 8-bit codes, the rows it ends at
//! are ranked by their values; rows of [equal] codes hang in a chain behind the first of them; in the end
//! every row is [reached](reach) from every other one.

mod equal;
mod reach;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;
use std::ops::RangeInclusive;

use equal::Equal;

use super::bytes::Bytes;
use super::codes::Query;
use super::distance::Which;
use super::rows::Rows;
use super::top::by_similarity;
use super::{Hit, IndexError, Search};

/// Links a row that are allowed; their number fits a byte at the base.
pub(super) const M: RangeInclusive<usize> = 2..=127;
/// Rows kept in view while building that are allowed.
pub(super) const EF_CONSTRUCTION: RangeInclusive<usize> = 1..=65_536;
/// Rows in view from which none are added where their codes do not tell which is the best.
const WIDEST: usize = 1024;
/// Levels above the base; with 16 links a row that is enough for 10¹² rows.
const MAX_LEVEL: u8 = 15;

/// Options of the graph; the defaults are what galleries are built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    /// Links of a row at each level, twice as many at the base.
    pub(super) m: usize,
    /// Rows kept in view while a row is put in.
    pub(super) ef_construction: usize,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Hnsw {
    options: Options,
    /// Level of every row.
    levels: Vec<u8>,
    /// Links of every row at the base: their number, then the rows; `2 · links + 1` a row.
    base: Vec<u32>,
    /// Links of a row at the levels above, `links + 1` a level, like `base`.
    upper: Vec<Vec<u32>>,
    /// The first row of the highest level.
    entry: Option<u32>,
    /// Only while rows are put in.
    equal: Option<Equal>,
    /// Whether rows that are equal are known to hang behind each other.
    apart: bool,
}

/// What a walk looks for at a level.
#[derive(Clone, Copy)]
struct Walk<'a> {
    rows: &'a Rows,
    query: &'a Query,
    level: u8,
    /// Rows in view.
    ef_search: usize,
    admitted: &'a dyn Fn(usize) -> bool,
}

/// The rows that a walk has in view, as [`key`]s.
struct View {
    ef_search: usize,
    /// Those whose links are not looked at yet.
    open: BinaryHeap<u64>,
    /// The best ones, at most as many as `ef_search`.
    found: BinaryHeap<Reverse<u64>>,
}

impl View {
    fn new(ef_search: usize) -> Self {
        let open = BinaryHeap::with_capacity(4 * ef_search.min(1024));
        Self { ef_search, open, found: BinaryHeap::with_capacity(ef_search.min(1024) + 1) }
    }

    /// Nothing worse than this one is looked at any more.
    #[inline]
    fn worst(&self) -> u64 {
        match self.found.peek() {
            Some(Reverse(worst)) if self.found.len() >= self.ef_search => *worst,
            _ => 0,
        }
    }

    /// Takes a row that is not worse than the worst.
    #[inline]
    fn take(&mut self, new: u64, admitted: &dyn Fn(usize) -> bool) {
        if new < self.worst() {
            return;
        }
        self.open.push(new);
        if !admitted(hit(new).entry) {
            return;
        }
        if self.found.len() < self.ef_search {
            self.found.push(Reverse(new));
        } else if let Some(mut worst) = self.found.peek_mut() {
            *worst = Reverse(new);
        }
    }
}

/// A bit for every row, for example for those that were seen on a walk.
#[derive(Debug, Clone)]
struct Seen(Vec<u64>);

impl Seen {
    fn new(rows: usize) -> Self {
        Self(vec![0; rows.div_ceil(64)])
    }

    fn contains(&self, row: u32) -> bool {
        self.0[row as usize / 64] >> (row % 64) & 1 == 1
    }

    /// Whether the row was not seen before.
    #[inline]
    fn insert(&mut self, row: u32) -> bool {
        let (word, bit) = (row as usize / 64, 1_u64 << (row % 64));
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }
}

/// `SplitMix64`'s mixing of a position. Frozen: the levels of every published graph follow from it (docs/gallery-format.md).
fn scrambled(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hit as one number that is greater the better the hit: heaps compare it in one instruction.
#[inline]
fn key(hit: Hit) -> u64 {
    let bits = hit.similarity.to_bits();
    // Negative numbers count down as their bits count up.
    let rising = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(rising) << 32 | u64::from(!(hit.entry as u32))
}

/// The hit of a [`key`].
#[inline]
fn hit(key: u64) -> Hit {
    let rising = (key >> 32) as u32;
    let bits = if rising >> 31 == 1 { rising & !(1 << 31) } else { !rising };
    Hit { entry: !(key as u32) as usize, similarity: f32::from_bits(bits) }
}

impl Hnsw {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            levels: Vec::new(),
            base: Vec::new(),
            upper: Vec::new(),
            entry: None,
            equal: None,
            apart: true,
        }
    }

    /// A graph over all rows.
    pub(super) fn over(options: Options, rows: &Rows) -> Self {
        let mut graph = Self::new(options);
        (0..rows.len()).for_each(|_| graph.push(rows));
        graph.connect(rows);
        graph
    }

    /// One in `links` rows reaches the next level.
    fn level(&self, row: usize) -> u8 {
        let (number, links) = (scrambled(row as u64), self.options.m as u64);
        let mut limit = u64::MAX / links;
        let mut level = 0;
        while number < limit && level < MAX_LEVEL {
            level += 1;
            limit /= links;
        }
        level
    }

    fn links_at(&self, level: u8) -> usize {
        if level == 0 { 2 * self.options.m } else { self.options.m }
    }

    #[inline]
    fn slot(&self, row: u32, level: u8) -> &[u32] {
        let stride = self.links_at(level) + 1;
        if level == 0 {
            &self.base[row as usize * stride..][..stride]
        } else {
            &self.upper[row as usize][usize::from(level - 1) * stride..][..stride]
        }
    }

    #[inline]
    fn links(&self, row: u32, level: u8) -> &[u32] {
        let slot = self.slot(row, level);
        &slot[1..=slot[0] as usize]
    }

    fn set_links(&mut self, row: u32, level: u8, links: &[u32]) {
        let stride = self.links_at(level) + 1;
        let slot = if level == 0 {
            &mut self.base[row as usize * stride..][..stride]
        } else {
            &mut self.upper[row as usize][usize::from(level - 1) * stride..][..stride]
        };
        slot[0] = links.len() as u32;
        slot[1..=links.len()].copy_from_slice(links);
        slot[links.len() + 1..].fill(0);
    }

    fn raw_score(rows: &Rows, query: &Query, row: u32) -> Hit {
        let mut similarity = [0.0];
        rows.raw_scores(query, Which::These(&[row]), &mut similarity);
        Hit { entry: row as usize, similarity: similarity[0] }
    }

    /// Puts in the next row.
    pub(super) fn push(&mut self, rows: &Rows) {
        let row = self.levels.len() as u32;
        let level = self.level(row as usize);
        self.levels.push(level);
        self.base.resize(self.base.len() + 2 * self.options.m + 1, 0);
        self.upper.push(vec![0; usize::from(level) * (self.options.m + 1)]);
        let equal = self.equal.get_or_insert_with(|| Equal::of(rows, row)).note(rows, row);
        let Some(entry) = self.entry else {
            self.entry = Some(row);
            return;
        };
        let top = self.levels[entry as usize];
        let mut lowest = 0;
        if let Some((first, last)) = equal {
            self.set_links(row, 0, &[first]);
            self.link_back(rows, last, row, 0);
            // Above the base the first stands for all, but where walks begin is a matter of levels.
            if level <= top {
                return;
            }
            lowest = 1;
        }
        let query = rows.codes_as_query(row as usize);
        let mut nearest = Self::raw_score(rows, &query, entry);
        for above in (level + 1..=top).rev() {
            nearest = self.descend(rows, &query, nearest, above);
        }
        let mut found = vec![nearest];
        for at in (lowest..=level.min(top)).rev() {
            let (query, ef_search) = (&query, self.options.ef_construction);
            let walk = Walk { rows, query, level: at, ef_search, admitted: &|_| true };
            found = self.walk_apart(&found, &walk);
            let links = Self::spread(rows, row as usize, &found, self.options.m);
            self.set_links(row, at, &links);
            for neighbor in links {
                self.link_back(rows, neighbor, row, at);
            }
        }
        if level > top {
            self.entry = Some(row);
        }
    }

    /// Forgets what is only of use while rows are put in.
    pub(super) fn settle(&mut self) {
        self.equal = None;
    }

    /// Whether a row hangs behind an equal one.
    fn hangs(&self, row: u32) -> bool {
        self.equal.as_ref().is_some_and(|equal| equal.hangs(row))
    }

    /// Adds a link; where there is no room, the links that lead into different directions stay.
    fn link_back(&mut self, rows: &Rows, from: u32, to: u32, level: u8) {
        let mut links = self.links(from, level).to_vec();
        links.push(to);
        let room = self.links_at(level);
        if links.len() > room {
            // Nothing else leads to what hangs behind a row.
            let (mut behind, others): (Vec<u32>, Vec<u32>) =
                links.into_iter().partition(|row| level == 0 && self.hangs(*row));
            if behind.len() > room / 2 {
                behind.drain(..behind.len() - room / 2);
            }
            let query = rows.codes_as_query(from as usize);
            let mut raw_scores = vec![0.0; others.len()];
            rows.raw_scores(&query, Which::These(&others), &mut raw_scores);
            let pairs = others.iter().zip(raw_scores);
            let hit = |(row, similarity): (&u32, f32)| Hit { entry: *row as usize, similarity };
            let mut hits: Vec<Hit> = pairs.map(hit).collect();
            hits.sort_unstable_by(by_similarity);
            links = Self::spread(rows, from as usize, &hits, room - behind.len());
            links.append(&mut behind);
        }
        self.set_links(from, level, &links);
    }

    /// Rows that lie nearer to the middle than to each other (Algorithm 4), best first.
    ///
    /// `hits` are sorted by their raw score to the middle.
    fn spread(rows: &Rows, middle: usize, hits: &[Hit], room: usize) -> Vec<u32> {
        let mut chosen: Vec<u32> = Vec::with_capacity(room);
        let mut raw_scores = vec![0.0; room];
        for hit in hits {
            if chosen.len() == room {
                break;
            }
            let query = rows.codes_as_query(hit.entry);
            let raw_scores = &mut raw_scores[..chosen.len()];
            rows.raw_scores(&query, Which::These(&chosen), raw_scores);
            // For L2 an raw score lacks half the squared length of what asks.
            let to_middle = hit.similarity + rows.offset(hit.entry) - rows.offset(middle);
            if raw_scores.iter().all(|raw_score| *raw_score <= to_middle) {
                chosen.push(hit.entry as u32);
            }
        }
        chosen
    }

    /// From row to better row until none is better (Algorithm 2 with one row in view).
    fn descend(&self, rows: &Rows, query: &Query, from: Hit, level: u8) -> Hit {
        let mut nearest = from;
        let mut raw_scores = Vec::new();
        loop {
            let links = self.links(nearest.entry as u32, level);
            raw_scores.resize(links.len(), 0.0);
            rows.raw_scores(query, Which::These(links), &mut raw_scores);
            let hits = links.iter().zip(&raw_scores);
            let best = hits
                .map(|(row, raw_score)| Hit { entry: *row as usize, similarity: *raw_score })
                .min_by(by_similarity);
            match best {
                Some(best) if best.similarity > nearest.similarity => nearest = best,
                _ => return nearest,
            }
        }
    }

    /// A walk past rows that hang behind others: these would fill the view and lead nowhere else.
    fn walk_apart(&self, from: &[Hit], walk: &Walk<'_>) -> Vec<Hit> {
        let hanging = self.equal.as_ref().and_then(Equal::hanging);
        let Some(hanging) = hanging.filter(|_| walk.level == 0) else {
            return self.walk(from, walk, Seen::new(self.levels.len()), false);
        };
        let admitted = |row: usize| !hanging.contains(row as u32) && (walk.admitted)(row);
        self.walk(from, &Walk { admitted: &admitted, ..*walk }, hanging.clone(), false)
    }

    /// The `ef_search` nearest rows that are admitted, best first (Algorithm 2). Nothing leads to what has been
    /// `seen`. Where `twins` come last, rows that are just as near as one before them that led to them are looked
    /// at when all others have been: many equal ones do not keep others out of view meanwhile.
    fn walk(&self, from: &[Hit], walk: &Walk<'_>, mut seen: Seen, twins: bool) -> Vec<Hit> {
        let Walk { rows, query, level, ef_search, admitted } = *walk;
        let mut view = View::new(ef_search);
        for hit in from {
            seen.insert(hit.entry as u32);
            view.open.push(key(*hit));
            if admitted(hit.entry) {
                view.found.push(Reverse(key(*hit)));
            }
        }
        let (mut fresh, mut raw_scores) = (Vec::new(), Vec::new());
        let mut later = twins.then(Vec::new);
        loop {
            while let Some(nearest) = view.open.pop() {
                if nearest < view.worst() {
                    break;
                }
                fresh.clear();
                let links = self.links(hit(nearest).entry as u32, level);
                fresh.extend(links.iter().copied().filter(|row| seen.insert(*row)));
                raw_scores.resize(fresh.len(), 0.0);
                rows.raw_scores(query, Which::These(&fresh), &mut raw_scores);
                for (row, raw_score) in fresh.iter().zip(&raw_scores) {
                    let new = key(Hit { entry: *row as usize, similarity: *raw_score });
                    if new < view.worst() {
                        continue;
                    }
                    match &mut later {
                        Some(later) if new < nearest && new >> 32 == nearest >> 32 => {
                            later.push(new);
                        }
                        _ => view.take(new, admitted),
                    }
                }
            }
            let Some(twins) = later.take() else { break };
            twins.into_iter().for_each(|new| view.take(new, admitted));
        }
        let found = view.found.into_sorted_vec();
        found.into_iter().map(|Reverse(key)| hit(key)).collect()
    }

    /// The best rows among those that a walk of this width meets.
    pub(super) fn search(
        &self,
        rows: &Rows,
        query: &Query,
        ef_search: usize,
        search: &Search<'_>,
    ) -> Vec<Hit> {
        let Some(start) = self.start(rows, query) else { return Vec::new() };
        let admitted = |row: usize| search.admits(rows, row);
        let mut ef_search = ef_search.max(search.k);
        loop {
            let walk = Walk { rows, query, level: 0, ef_search, admitted: &admitted };
            let found = self.walk(&[start], &walk, Seen::new(self.levels.len()), true);
            let full = found.len() == ef_search && ef_search < WIDEST;
            if !(full && rows.alike(query, &found)) {
                return rows.rank(query, &found, search);
            }
            ef_search *= 4;
        }
    }

    /// Where a walk at the base begins.
    fn start(&self, rows: &Rows, query: &Query) -> Option<Hit> {
        let entry = self.entry?;
        let mut nearest = Self::raw_score(rows, query, entry);
        for level in (1..=self.levels[entry as usize]).rev() {
            nearest = self.descend(rows, query, nearest, level);
        }
        Some(nearest)
    }

    /// For every row and each of its levels the number of links and the rows they lead to. It is the section
    /// `index` of a gallery's file, whose version (`format.rs`) is that of the graph, too.
    pub(super) fn write(&self, writer: &mut dyn Write) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for (row, top) in (0..).zip(&self.levels) {
            bytes.clear();
            for level in 0..=*top {
                let links = self.links(row, level);
                bytes.push(links.len() as u8);
                links.iter().for_each(|link| bytes.extend_from_slice(&link.to_le_bytes()));
            }
            writer.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Reads what [`Self::write`] wrote, for this many rows.
    pub(super) fn read(
        bytes: &mut Bytes<'_>,
        options: Options,
        rows: usize,
    ) -> Result<Self, IndexError> {
        let wrong = |what: &str| IndexError::Damaged { what: format!("graph: {what}") };
        let links = options.m;
        let mut graph = Self { apart: false, ..Self::new(options) };
        for row in 0..rows {
            let level = graph.level(row);
            // The first of the highest ones, as rows were put in.
            if graph.entry.is_none_or(|entry| level > graph.levels[entry as usize]) {
                graph.entry = Some(row as u32);
            }
            graph.levels.push(level);
        }
        graph.base = vec![0; rows * (2 * links + 1)];
        let mut read = Vec::new();
        for row in 0..rows as u32 {
            let top = graph.levels[row as usize];
            graph.upper.push(vec![0; usize::from(top) * (links + 1)]);
            for level in 0..=top {
                let count = usize::from(bytes.take(1)?[0]);
                if count > graph.links_at(level) {
                    return Err(wrong("too many links"));
                }
                read.clear();
                for _ in 0..count {
                    let link = bytes.u32()?;
                    if graph.levels.get(link as usize).is_none_or(|reached| *reached < level) {
                        return Err(wrong("a link that leads nowhere"));
                    }
                    read.push(link);
                }
                graph.set_links(row, level, &read);
            }
        }
        Ok(graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the format's document computes them: an entry's level is not in the file.
    #[test]
    fn levels_are_those_of_the_published_graphs() {
        assert_eq!(scrambled(0), 0xe220_a839_7b1d_cdaf);
        let levels = |m, rows: &[usize]| {
            let graph = Hnsw::new(Options { m, ef_construction: 4 });
            rows.iter().map(|row| graph.level(*row)).collect::<Vec<u8>>()
        };
        assert_eq!(levels(2, &[0, 1, 2, 3, 4, 5, 6, 7, 8]), [0, 1, 5, 0, 3, 1, 2, 0, 2]);
        assert_eq!(levels(16, &[0, 1, 2, 31, 32, 33, 42, 53]), [0, 0, 1, 0, 1, 1, 1, 1]);
        assert_eq!(levels(32, &[2, 32, 33, 254, 255]), [1, 0, 1, 1, 0]);
    }

    proptest! {
        #[test]
        fn keys_order_as_hits_do(a in any::<(f32, u32)>(), b in any::<(f32, u32)>()) {
            let [x, y] = [a, b].map(|(similarity, e)| Hit { entry: e as usize, similarity });
            prop_assert_eq!(key(y).cmp(&key(x)), by_similarity(&x, &y));
            let back = hit(key(x));
            prop_assert_eq!(back.entry, x.entry);
            prop_assert_eq!(back.similarity.to_bits(), x.similarity.to_bits());
        }
    }
}
