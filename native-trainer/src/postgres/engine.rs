//! Indexes of pgvector over a pushed gallery, and searches there.
//!
//! A graph, lists and sign bits find candidates by shorter codes; candidates are compared again by the full embeddings. A
//! filter stands in the query, so that candidates are looked for until enough of them pass.

use std::fmt::Write as _;
use std::str::FromStr;

use authoring::picture::BEGINNING;
use models::gallery::{AdaptationMap, GalleryError, IndexConfig, Match};
use postgres::{Client, GenericClient};

use super::reader::Reader;
use super::told::LENGTH;
use super::{PostgresError, schema};

/// Widest vectors that pgvector's graph and lists take, as 32-bit and as 16-bit floats, and as bits.
const WIDEST: [usize; 3] = [2000, 4000, 64_000];
/// Candidates that are in view of a graph at most: pgvector takes no more.
const MOST: usize = 1000;
/// Candidates for each class that is wanted: a class may have many of the best entries.
const SPARE: usize = 4;
/// The same of sign bits, which tell less.
const SPARE_BITS: usize = 16;
/// Sign bits that pgvector compares find candidates from this version on, and it searches on where a filter leaves few.
const NEWER: [(&str, &str); 2] = [("halfvec", "0.7"), ("hnsw.iterative_scan", "0.8")];

/// What finds entries on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerIndex {
    /// Compares with every entry; exact.
    Flat,
    /// A graph, pgvector's `hnsw`.
    Hnsw,
    /// Lists around centroids, pgvector's `ivfflat`.
    Ivf,
    /// Sign bits in a graph, `binary_quantize`.
    Binary,
}

impl ServerIndex {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Flat, Self::Hnsw, Self::Ivf, Self::Binary];

    /// What it is called in flags and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Hnsw => "hnsw",
            Self::Ivf => "ivf",
            Self::Binary => "binary",
        }
    }
}

/// What an index compares before entries are compared again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codes {
    /// The embeddings themselves.
    F32,
    /// 16-bit floats.
    F16,
    /// Signs.
    Bits,
}

impl Codes {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bits => "bits",
        }
    }

    /// What of `vector` is compared.
    fn of(self, vector: &str, dim: usize) -> String {
        match self {
            Self::F32 => vector.to_owned(),
            Self::F16 => format!("({vector}::halfvec({dim}))"),
            Self::Bits => format!("(binary_quantize({vector})::bit({dim}))"),
        }
    }

    /// The operator that says how far two codes are apart, and how pgvector calls it in an index.
    const fn operator(self) -> (&'static str, &'static str) {
        match self {
            Self::F32 => ("<#>", "vector_ip_ops"),
            Self::F16 => ("<#>", "halfvec_ip_ops"),
            Self::Bits => ("<~>", "bit_hamming_ops"),
        }
    }
}

/// An index that was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Built {
    pub(super) kind: ServerIndex,
    pub(super) codes: Codes,
}

impl Built {
    /// As a table says it.
    pub(super) fn read(kind: &str, codes: &str) -> Result<Self, PostgresError> {
        let wrong = || PostgresError::Inconsistent(format!("index {kind:?} over {codes:?}"));
        let known = [Codes::F32, Codes::F16, Codes::Bits];
        let codes = known.into_iter().find(|known| known.name() == codes).ok_or_else(wrong)?;
        let kind = ServerIndex::ALL.into_iter().find(|known| known.name() == kind);
        Ok(Self { kind: kind.ok_or_else(wrong)?, codes })
    }

    /// The command that builds it; `None` where nothing is to be built.
    pub(super) fn build(
        self,
        (table, column): (&str, &str),
        dim: usize,
        entries: usize,
    ) -> Option<String> {
        let (codes, (_, class)) = (self.codes.of(column, dim), self.codes.operator());
        let of = format!("({codes} {class})");
        match self.kind {
            ServerIndex::Flat => None,
            ServerIndex::Hnsw | ServerIndex::Binary => {
                Some(format!("CREATE INDEX ON {table} USING hnsw {of}"))
            }
            ServerIndex::Ivf => {
                let lists = lists_of(entries);
                Some(format!("CREATE INDEX ON {table} USING ivfflat {of} WITH (lists = {lists})"))
            }
        }
    }
}

/// What of an entry is compared.
pub(super) const fn column(is_mapped: bool) -> &'static str {
    if is_mapped { "mapped" } else { "embedding" }
}

/// Lists of so many entries: as pgvector's documentation recommends.
fn lists_of(entries: usize) -> usize {
    if entries > 1_000_000 { entries.isqrt() } else { entries / 1000 }.clamp(10, 32_768)
}

/// The index that a gallery gets, of those that its server can build.
///
/// # Errors
///
/// [`PostgresError::Index`] for one that is asked for and cannot be had.
pub(super) fn chosen(
    client: &mut Client,
    wanted: Option<ServerIndex>,
    dim: usize,
    entries: usize,
) -> Result<Built, PostgresError> {
    let recommended = match IndexConfig::recommended(entries).0 {
        IndexConfig::Flat => ServerIndex::Flat,
        IndexConfig::Hnsw { .. } => ServerIndex::Hnsw,
        IndexConfig::Ivf { .. } => ServerIndex::Ivf,
        IndexConfig::Binary => ServerIndex::Binary,
    };
    let kind = wanted.unwrap_or(recommended);
    let (name, version) = NEWER[0];
    let is_newer: bool =
        client.query_one("SELECT to_regtype($1) IS NOT NULL", &[&name])?.try_get(0)?;
    let codes = match kind {
        ServerIndex::Flat => return Ok(Built { kind, codes: Codes::F32 }),
        ServerIndex::Binary if !is_newer => {
            let what = format!(
                "the server's pgvector is older than {version}, which compares sign bits; update it, or take --index hnsw"
            );
            return Err(PostgresError::Index(what));
        }
        ServerIndex::Binary => Codes::Bits,
        _ if is_newer => Codes::F16,
        _ => Codes::F32,
    };
    let widest = WIDEST[codes as usize];
    match wanted {
        _ if dim <= widest => Ok(Built { kind, codes }),
        None => Ok(Built { kind: ServerIndex::Flat, codes: Codes::F32 }),
        Some(kind) => Err(PostgresError::Index(format!(
            "an index {} takes up to {widest} values there, and the embeddings have {dim}; take --index flat, or binary \
             with pgvector {version} or newer",
            kind.name()
        ))),
    }
}

/// What is asked of a gallery on a server.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The model that made the embeddings.
    pub model: String,
    /// Classes that are wanted.
    pub k: usize,
    /// What finds them; by default what was built.
    pub index: Option<ServerIndex>,
    /// How much of the index is searched: entries in view (hnsw, binary), lists (ivf).
    pub ef_search: Option<usize>,
    /// Only classes of these labels, of all where there is none.
    pub classes: Vec<String>,
    /// Only classes with all of these metadata.
    pub metadata: Vec<(String, String)>,
}

/// A vector as pgvector reads it.
fn literal(vector: &[f32]) -> String {
    let mut text = String::with_capacity(vector.len() * 12 + 2);
    for (place, value) in vector.iter().enumerate() {
        text.push(if place == 0 { '[' } else { ',' });
        // Writing to a string cannot fail.
        let _ = write!(text, "{value}");
    }
    text.push(']');
    text
}

/// How one search is done.
struct Plan {
    built: Built,
    /// What of an entry is compared, and its values.
    column: &'static str,
    dim: usize,
    entries: usize,
    /// Classes that pass the filter; of every class where there is none.
    classes: Option<Vec<i32>>,
    /// As many classes as can be found.
    k: usize,
    ef_search: Option<usize>,
    /// Whether an index is walked on where the filter leaves too few.
    walks_on: bool,
}

impl Reader<'_> {
    pub(super) fn search(
        &mut self,
        query: &Query,
        embeddings: &[Vec<f32>],
    ) -> Result<Vec<Vec<(String, Match)>>, PostgresError> {
        let about = self.description()?;
        let (dim, index) = (about.dim, about.index);
        if about.model != query.model {
            let (gallery, model) = (about.model, query.model.clone());
            return Err(GalleryError::OtherModel { gallery, model }.into());
        }
        if let Some(wrong) = embeddings.iter().find(|embedding| embedding.len() != dim) {
            return Err(GalleryError::Dimension { expected: dim, got: wrong.len() }.into());
        }
        if embeddings.iter().flatten().any(|value| !value.is_finite()) {
            return Err(GalleryError::NotFinite.into());
        }
        let built = match query.index {
            None => index,
            Some(ServerIndex::Flat) => Built { kind: ServerIndex::Flat, codes: Codes::F32 },
            Some(wanted) if wanted == index.kind => index,
            Some(wanted) => {
                let (wanted, there) = (wanted.name(), index.kind.name());
                let what = format!(
                    "the gallery {:?} has the index {there} on the server, and not {wanted}; push it with --index \
                     {wanted}, or leave --index out",
                    self.name
                );
                return Err(PostgresError::Index(what));
            }
        };
        // What a pull would refuse is not answered from, either.
        self.check_entries(&about)?;
        self.classes(&about, BEGINNING, |_, _| Ok(()))?;
        let classes = self.filter(query)?;
        let k = query.k.min(classes.as_ref().map_or(about.classes, Vec::len));
        let walks_on = walks_on(&mut self.transaction)?;
        let map = about.map.as_ref();
        let plan = Plan {
            built,
            column: column(map.is_some()),
            dim: map.map_or(dim, AdaptationMap::values),
            entries: about.entries,
            classes,
            k,
            ef_search: query.ef_search,
            walks_on,
        };
        let mapped = |embedding: &Vec<f32>| map.map(|map| map.query(embedding)).transpose();
        embeddings
            .iter()
            .map(|embedding| {
                let mapped = mapped(embedding)?;
                self.nearest(&plan, mapped.as_ref().unwrap_or(embedding))
            })
            .collect()
    }

    /// Classes that pass the filter of a query; `None` where all do.
    fn filter(&mut self, query: &Query) -> Result<Option<Vec<i32>>, PostgresError> {
        if query.classes.is_empty() && query.metadata.is_empty() {
            return Ok(None);
        }
        let name = self.name;
        for label in &query.classes {
            let there = format!("SELECT EXISTS (SELECT 1 FROM {name}_classes WHERE label = $1)");
            if !self.transaction.query_one(&there, &[label])?.try_get::<_, bool>(0)? {
                return Err(PostgresError::Filter(format!("there is no class {label:?}")));
            }
        }
        let (names, texts): (Vec<&str>, Vec<&str>) =
            query.metadata.iter().map(|(name, text)| (name.as_str(), text.as_str())).unzip();
        for fact in &names {
            let there = format!(
                "SELECT EXISTS (SELECT 1 FROM {name}_classes WHERE jsonb_exists(metadata::jsonb, $1))"
            );
            if !self.transaction.query_one(&there, &[fact])?.try_get::<_, bool>(0)? {
                return Err(PostgresError::Filter(format!("no class has metadata {fact:?}")));
            }
        }
        let passing = format!(
            "SELECT class FROM {name}_classes c
                 WHERE (cardinality($1::text[]) = 0 OR label = ANY($1::text[]))
                 AND NOT EXISTS (SELECT 1 FROM unnest($2::text[], $3::text[]) f(name, text)
                     WHERE (c.metadata::jsonb ->> f.name) IS DISTINCT FROM f.text)"
        );
        let rows = self.transaction.query(&passing, &[&query.classes, &names, &texts])?;
        let classes: Result<Vec<i32>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        Ok(Some(classes?))
    }

    /// The classes nearest to one embedding.
    fn nearest(
        &mut self,
        plan: &Plan,
        embedding: &[f32],
    ) -> Result<Vec<(String, Match)>, PostgresError> {
        let is_filtered = plan.classes.is_some();
        if plan.built.kind == ServerIndex::Flat || (is_filtered && !plan.walks_on) {
            return self.exact(plan, embedding);
        }
        // Bits tell little: whoever has more of them in view has more compared again.
        let (spare, least) = match plan.built.codes {
            Codes::Bits => (SPARE_BITS, plan.ef_search.unwrap_or(0).max(40)),
            Codes::F16 | Codes::F32 => (SPARE, 40),
        };
        let mut width = plan.k.saturating_mul(spare).clamp(least.min(MOST), MOST);
        loop {
            let (found, seen) = self.candidates(plan, embedding, width)?;
            if found.len() >= plan.k {
                return Ok(found);
            }
            // The graph or the lists have no more: some classes are far, or have no entry.
            if seen < width || width == MOST {
                return self.exact(plan, embedding);
            }
            width = (width * 4).min(MOST);
        }
    }

    /// Compares with every entry.
    fn exact(
        &mut self,
        plan: &Plan,
        embedding: &[f32],
    ) -> Result<Vec<(String, Match)>, PostgresError> {
        let (name, column) = (self.name, plan.column);
        let query = format!(
            "SELECT b.class, c.label, b.similarity FROM (
                 SELECT class, max(-({column} <#> $1::text::vector)) AS similarity FROM {name}_entries
                     WHERE $2::int[] IS NULL OR class = ANY($2::int[]) GROUP BY class
                     ORDER BY similarity DESC, class LIMIT $3) b
             JOIN {name}_classes c USING (class) ORDER BY b.similarity DESC, b.class"
        );
        let k = plan.k as i64;
        let rows = self.transaction.query(&query, &[&literal(embedding), &plan.classes, &k])?;
        let most = most_similar(embedding);
        rows.iter().map(|row| matched(row, most)).collect()
    }

    /// Those of the entries that the index finds, compared again; and how many it found.
    fn candidates(
        &mut self,
        plan: &Plan,
        embedding: &[f32],
        width: usize,
    ) -> Result<(Vec<(String, Match)>, usize), PostgresError> {
        let ef = plan.ef_search.unwrap_or(0).max(width).min(MOST);
        let lists = lists_of(plan.entries);
        let probes = plan.ef_search.unwrap_or(lists.isqrt()).clamp(1, lists);
        let mut settings = format!(
            "SET LOCAL enable_seqscan = off; SET LOCAL hnsw.ef_search = {ef}; SET LOCAL ivfflat.probes = {probes};"
        );
        if plan.walks_on {
            settings.push_str(
                "SET LOCAL hnsw.iterative_scan = strict_order; SET LOCAL ivfflat.iterative_scan = relaxed_order;",
            );
        }
        self.transaction.batch_execute(&settings)?;
        let (name, column, dim) = (self.name, plan.column, plan.dim);
        let (own, asked) =
            (plan.built.codes.of(column, dim), plan.built.codes.of("$1::text::vector", dim));
        let (operator, _) = plan.built.codes.operator();
        let is_entry = schema::is_entry(column, dim);
        let query = format!(
            "WITH near AS MATERIALIZED (
                 SELECT class, {column} FROM {name}_entries
                     WHERE $2::int[] IS NULL OR class = ANY($2::int[])
                     ORDER BY {own} {operator} {asked} LIMIT $4),
             best AS (
                 SELECT class, max(-({column} <#> $1::text::vector)) AS similarity FROM near
                     GROUP BY class ORDER BY similarity DESC, class LIMIT $3)
             SELECT b.class, c.label, b.similarity, (SELECT count(*) FROM near),
                 (SELECT bool_and({is_entry}) FROM near)
                 FROM best b JOIN {name}_classes c USING (class) ORDER BY b.similarity DESC, b.class"
        );
        let (k, limit) = (plan.k as i64, width as i64);
        let rows =
            self.transaction.query(&query, &[&literal(embedding), &plan.classes, &k, &limit])?;
        let seen = match rows.first() {
            Some(row) if row.try_get::<_, bool>(4)? => {
                usize::try_from(row.try_get::<_, i64>(3)?).unwrap_or(0)
            }
            Some(_) => {
                let what = "an entry that is compared has no unit length".to_owned();
                return Err(PostgresError::Inconsistent(what));
            }
            None => 0,
        };
        let most = most_similar(embedding);
        let found: Result<Vec<_>, _> = rows.iter().map(|row| matched(row, most)).collect();
        Ok((found?, seen))
    }
}

/// How similar an entry can be at most to what is asked.
fn most_similar(asked: &[f32]) -> f64 {
    let length = asked.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // The server adds up 32-bit floats.
    LENGTH.end() * length * 1.001
}

/// A class as a row has it, no more similar than an entry can be: comparing with every entry, only that tells of one that is
/// too long.
fn matched(row: &postgres::Row, most: f64) -> Result<(String, Match), PostgresError> {
    let class = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(usize::MAX);
    let similarity = row.try_get::<_, f64>(2)?;
    // NaN is in no range.
    if !(-most..=most).contains(&similarity) {
        return Err(PostgresError::Inconsistent(format!("a similarity of {similarity}")));
    }
    Ok((row.try_get(1)?, Match { class, similarity: similarity as f32 }))
}

/// Whether the server's pgvector goes on where a filter leaves too few. It says so once it is loaded.
fn walks_on(client: &mut impl GenericClient) -> Result<bool, PostgresError> {
    let (name, _) = NEWER[1];
    let load = "SELECT '[0]'::vector <#> '[0]'::vector";
    client.query(load, &[])?;
    let row = client.query_one("SELECT current_setting($1, true) IS NOT NULL", &[&name])?;
    Ok(row.try_get(0)?)
}

impl FromStr for ServerIndex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no index {text:?} on a server; take one of {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_named_as_it_is_read() {
        for kind in ServerIndex::ALL {
            assert_eq!(kind.name().parse::<ServerIndex>(), Ok(kind));
            for codes in [Codes::F32, Codes::F16, Codes::Bits] {
                assert_eq!(Built::read(kind.name(), codes.name()).unwrap(), Built { kind, codes });
            }
        }
        let error = "graph".parse::<ServerIndex>().unwrap_err();
        assert_eq!(
            error,
            "there is no index \"graph\" on a server; take one of flat, hnsw, ivf, binary"
        );
        assert!(matches!(Built::read("hnsw", "f8"), Err(PostgresError::Inconsistent(_))));
    }

    #[test]
    fn a_vector_is_written_as_pgvector_reads_it() {
        assert_eq!(literal(&[0.5, -1.0]), "[0.5,-1]");
    }

    #[test]
    fn lists_grow_with_the_entries() {
        assert_eq!([0, 100_000, 4_000_000].map(lists_of), [10, 100, 2000]);
    }
}
