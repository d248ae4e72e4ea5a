//! Indexes on a server find what a plain loop over all entries finds.

use models::gallery::{Class, ContentId, Gallery, VectorType};
use native_trainer::postgres::{PostgresGallery, Query, ServerIndex};

use crate::database::Server;
use crate::postgres::{SILENT, reader};

/// Made-up embeddings around centers, a class each.
fn clusters(classes: usize, each: usize, dim: usize) -> Gallery {
    let mut gallery = Gallery::with_type(dim, "m", VectorType::F32);
    let mut state = 1_u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    for class in 0..classes {
        let color = if class % 10 == 0 { "red" } else { "green" };
        let metadata = [("color".to_owned(), color.to_owned())].into();
        gallery
            .add_class(Class { label: format!("c{class}"), metadata, ..Class::default() }, vec![]);
        let center: Vec<f32> = (0..dim).map(|_| next()).collect();
        for entry in 0..each {
            let embedding: Vec<f32> = center.iter().map(|value| value + 0.4 * next()).collect();
            let id = ContentId::of(format!("{class} {entry}").as_bytes());
            gallery.add_image(class, &embedding, id).expect("a class");
        }
    }
    gallery
}

/// The best classes by a plain loop over every entry that is let in.
fn plain(
    gallery: &Gallery,
    query: &[f32],
    k: usize,
    admits: impl Fn(usize) -> bool,
) -> Vec<(String, f32)> {
    let mut best = vec![f64::NEG_INFINITY; gallery.classes().len()];
    for entry in gallery.entries().filter(|entry| admits(gallery.entry_class(*entry))) {
        let product: f64 = (gallery.embedding(entry).iter().zip(query))
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum();
        let class = gallery.entry_class(entry);
        best[class] = best[class].max(product);
    }
    let mut order: Vec<usize> = (0..best.len()).filter(|class| best[*class].is_finite()).collect();
    order.sort_by(|a, b| best[*b].total_cmp(&best[*a]));
    let named = |class: &usize| (gallery.classes()[*class].label.clone(), best[*class] as f32);
    order.iter().take(k).map(named).collect()
}

#[test]
fn indexes_in_postgres_find_what_a_plain_loop_finds() {
    let server = Server::start();
    let gallery = clusters(60, 50, 32);
    let queries: Vec<Vec<f32>> = gallery
        .entries()
        .step_by(97)
        .map(|entry| {
            let moved: Vec<f32> = (gallery.embedding(entry).iter().enumerate())
                .map(|(place, value)| value + 0.05 * ((place * 7 + entry) % 5) as f32)
                .collect();
            let length = moved.iter().map(|value| value * value).sum::<f32>().sqrt();
            moved.iter().map(|value| value / length).collect()
        })
        .collect();
    let mut engine = PostgresGallery::connect(&server.address, "clusters").expect("a server");
    let bits = {
        server.client().batch_execute("CREATE EXTENSION IF NOT EXISTS vector").expect("pgvector");
        let newer = "SELECT to_regtype('halfvec') IS NOT NULL";
        server.client().query_one(newer, &[]).expect("a row").get::<_, bool>(0)
    };
    let asked = |index| Query { model: "m".to_owned(), k: 10, index, ..Query::default() };
    for kind in ServerIndex::ALL {
        let pushed = engine.push(&mut reader(&gallery), Some(kind), SILENT);
        if kind == ServerIndex::Binary && !bits {
            let error = pushed.expect_err("pgvector is too old").to_string();
            assert!(error.contains("older than 0.7"), "{error}");
            continue;
        }
        assert_eq!(pushed.expect("pushed"), kind);
        let check = |query: &Query, least: f64, admits: &dyn Fn(usize) -> bool| {
            let mut engine =
                PostgresGallery::connect(&server.address, "clusters").expect("a server");
            let found = engine.search(query, &queries, SILENT).expect("answers");
            let (mut same, mut all) = (0, 0);
            for (found, query) in found.iter().zip(&queries) {
                let wanted = plain(&gallery, query, 10, admits);
                assert_eq!(found.len(), wanted.len(), "{kind:?}");
                all += wanted.len();
                for (label, m) in found {
                    same += usize::from(wanted.iter().any(|(wanted, _)| wanted == label));
                    // Whatever entry was found, it is compared by its full embedding.
                    let product = |entry: usize| -> f32 {
                        gallery.embedding(entry).iter().zip(query).map(|(a, b)| a * b).sum()
                    };
                    let mut entries = gallery.entries();
                    let is_own = |entry: usize| {
                        gallery.entry_class(entry) == m.class
                            && (product(entry) - m.similarity).abs() < 1e-5
                    };
                    assert!(entries.any(is_own), "{kind:?} {label} {}", m.similarity);
                    if let (true, Some((_, best))) =
                        (least == 1.0, wanted.iter().find(|(wanted, _)| wanted == label))
                    {
                        assert!((m.similarity - best).abs() < 1e-5, "{kind:?} {label}");
                    }
                    assert_eq!(gallery.classes()[m.class].label, *label);
                }
                if least == 1.0 {
                    let labels: Vec<&str> = found.iter().map(|(label, _)| label.as_str()).collect();
                    let wanted: Vec<&str> =
                        wanted.iter().map(|(label, _)| label.as_str()).collect();
                    assert_eq!(labels, wanted, "{kind:?}");
                }
            }
            let recall = f64::from(same as u32) / f64::from(all as u32);
            assert!(recall >= least, "{kind:?}: recall@10 is {recall}");
        };
        // Of ten lists three are probed, and ten classes lie in more; the server draws where its lists begin. 32 bits tell
        // the nearest classes apart, and not the tenth from the eleventh.
        let (least, of_many) = match kind {
            ServerIndex::Flat => (1.0, 1.0),
            ServerIndex::Hnsw => (0.9, 0.95),
            ServerIndex::Ivf => (0.5, 0.95),
            ServerIndex::Binary => (0.5, 0.6),
        };
        check(&asked(None), least, &|_| true);
        check(&asked(Some(kind)), least, &|_| true);
        check(&asked(Some(ServerIndex::Flat)), 1.0, &|_| true);
        check(&Query { ef_search: Some(1000), ..asked(None) }, of_many, &|_| true);
        let red = vec![("color".to_owned(), "red".to_owned())];
        check(&Query { metadata: red.clone(), ..asked(None) }, least, &|class| class % 10 == 0);
        let both = Query {
            metadata: red,
            classes: vec!["c7".to_owned(), "c20".to_owned()],
            ..asked(None)
        };
        check(&both, least, &|class| class == 20);
    }
    // What is not there is named.
    let mut told = |query: Query| {
        engine.search(&query, &queries[..1], SILENT).expect_err("nothing").to_string()
    };
    let other = if bits { ServerIndex::Hnsw } else { ServerIndex::Binary };
    assert!(told(asked(Some(other))).contains("push it with --index"));
    let query = Query { classes: vec!["c99".to_owned()], ..asked(None) };
    assert!(told(query).contains("there is no class \"c99\""));
    let query = Query { metadata: vec![("size".to_owned(), "1".to_owned())], ..asked(None) };
    assert!(told(query).contains("no class has metadata \"size\""));
    let mut short = |embedding: Vec<f32>| {
        engine.search(&asked(None), &[embedding], SILENT).expect_err("no embedding").to_string()
    };
    assert!(short(vec![1.0; 31]).contains("32"));
    assert!(short(vec![f32::NAN; 32]).contains("finite"));
}
