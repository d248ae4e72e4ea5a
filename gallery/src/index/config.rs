//! Which kind of index, and with which options.

use serde::{Deserialize, Serialize};

use super::{IndexError, hnsw, ivf};

/// Entries from which a graph is recommended: below, the exact scan answers as fast and needs
/// nothing built (measured, docs/benchmarks.md).
const GRAPH_FROM: usize = 50_000;

/// What makes two vectors similar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The inner product: for unit vectors the cosine.
    #[default]
    InnerProduct,
    /// The negative of the squared distance.
    L2,
}

/// How an index finds what is similar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum IndexConfig {
    /// Compares with every entry; exact, nothing to build, nothing to download.
    #[default]
    Flat,
    /// Walks a graph towards the query; the fastest with many entries, slow to build.
    Hnsw {
        /// Links of an entry, 2 to 127; twice as many at the base. More find more and need more
        /// bytes. `links` in files.
        #[serde(rename = "links", alias = "m", default = "default_m")]
        m: usize,
        /// Entries in view while building, 1 to 65,536. More make a better graph and take longer.
        /// `build_effort` in files.
        #[serde(
            rename = "build_effort",
            alias = "ef_construction",
            default = "default_ef_construction"
        )]
        ef_construction: usize,
    },
    /// Looks through the lists whose centroids are nearest.
    Ivf {
        /// Lists; 0: four times the root of the entries.
        #[serde(default)]
        lists: usize,
    },
    /// Ranks by sign bits, then the best of that by values.
    Binary,
}

fn default_m() -> usize {
    32
}

fn default_ef_construction() -> usize {
    64
}

impl IndexConfig {
    /// A graph with default options.
    pub fn hnsw() -> Self {
        Self::Hnsw { m: default_m(), ef_construction: default_ef_construction() }
    }

    /// What is best for this many entries, and why.
    pub fn recommended(entries: usize) -> (Self, String) {
        if entries < GRAPH_FROM {
            let noun = if entries == 1 { "entry" } else { "entries" };
            let why = format!("{entries} {noun}, fewer than {GRAPH_FROM}: the scan is exact");
            return (Self::Flat, why);
        }
        let why = format!("{entries} entries, {GRAPH_FROM} or more: a graph answers sooner");
        (Self::hnsw(), why)
    }

    pub(super) fn check(self) -> Result<Self, IndexError> {
        let wrong = |what: String| Err(IndexError::Options { what });
        match self {
            Self::Hnsw { m, .. } if !hnsw::M.contains(&m) => {
                wrong(format!("M is {m}, allowed are {:?}", hnsw::M))
            }
            Self::Hnsw { ef_construction, .. }
                if !hnsw::EF_CONSTRUCTION.contains(&ef_construction) =>
            {
                let allowed = hnsw::EF_CONSTRUCTION;
                wrong(format!("ef_construction is {ef_construction}, allowed are {allowed:?}"))
            }
            Self::Ivf { lists } if lists > ivf::MAX_LISTS => {
                wrong(format!("lists is {lists}, allowed are at most {}", ivf::MAX_LISTS))
            }
            config => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_files_stay_and_the_fields_names_are_read() {
        let graph = IndexConfig::Hnsw { m: 8, ef_construction: 40 };
        let text = r#"{"kind":"hnsw","links":8,"build_effort":40}"#;
        assert_eq!(serde_json::to_string(&graph).unwrap(), text);
        for text in [text, r#"{"kind":"hnsw","m":8,"ef_construction":40}"#] {
            assert_eq!(serde_json::from_str::<IndexConfig>(text).unwrap(), graph, "{text}");
        }
        let empty = serde_json::from_str::<IndexConfig>(r#"{"kind":"hnsw"}"#).unwrap();
        assert_eq!(empty, IndexConfig::hnsw());
    }
}
