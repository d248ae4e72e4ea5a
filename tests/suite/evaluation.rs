//! Retrieval metrics and re-ranking against the recorded figures.

use models::detector::Detection;
use models::extractor::l2_normalize;
use models::image::geometry::BBox;
use native_trainer::metric::detection::{Object, detection_metrics};
use native_trainer::metric::re_ranking::{Distance, ReRanking, re_rank};
use native_trainer::metric::retrieval::{
    Binarization, Embedded, RetrievalMetrics, hamming_distance, retrieval_metrics,
};
use tests::{Case, assert_close, cases, device};

use crate::OPERATOR;

fn embedded(case: &Case, values: &str, labels: &str, ids: Option<&str>) -> Embedded {
    let array = case.input(values);
    // The recordings compare cosines; ours expects unit rows.
    let unit = tests::values(l2_normalize(array.tensor(&device())));
    let labels: Vec<usize> = case.input(labels).values.iter().map(|v| *v as usize).collect();
    let ids = match ids {
        Some(key) => case.input(key).values.iter().map(|v| format!("{v}")).collect(),
        None => (0..labels.len()).map(|i| format!("{values}{i}")).collect(),
    };
    Embedded { values: unit, labels, ids, ..Embedded::default() }
}

fn metrics_of(case: &Case, top_k: &[usize]) -> RetrievalMetrics {
    let has = |key: &str| case.value["inputs"].get(key).is_some();
    if has("gallery") {
        let query = embedded(case, "query", "query_label", None);
        let gallery = embedded(case, "gallery", "gallery_label", None);
        return retrieval_metrics(&query, &gallery, top_k);
    }
    let ids = if has("camera") { "camera" } else { "unique_id" };
    let all = embedded(case, "feat", "label", Some(ids));
    retrieval_metrics(&all, &all, top_k)
}

#[test]
fn retrieval_metrics_equal_the_reference() {
    let mut compared = 0;
    for case in cases("metrics.json", &["query_", "reid_"]) {
        let metrics = metrics_of(&case, &[1, 3, 5]);
        let expect = |key: &str, got: f64| {
            let expected = f64::from(case.output(key).values[0]);
            assert!((got - expected).abs() < 1e-6, "{} {key}: {got}, not {expected}", case.name);
        };
        for (k, rate) in &metrics.recall_at_k {
            expect(&format!("recall{k}"), *rate);
        }
        for (k, rate) in &metrics.precision_at_k {
            expect(&format!("precision@{k}"), *rate);
        }
        expect("mAP", metrics.mean_average_precision);
        expect("mINP", metrics.mean_inverse_negative_penalty_from_zero);
        assert!(
            metrics.mean_inverse_negative_penalty < metrics.mean_inverse_negative_penalty_from_zero
        );
        compared += 1;
    }
    assert!(compared >= 3 || std::env::var_os("GOLDEN_DIR").is_some());
}

#[test]
fn recorded_log_lines_hold_our_figures() {
    for case in cases("metrics.json", &["retrieval_eval_log_line_query_is_gallery"]) {
        let metrics = metrics_of(&case, &[1, 5]);
        let line = format!(
            "recall1: {:.5}, recall5: {:.5}, mAP: {:.5}",
            metrics.recall_at_k[0].1, metrics.recall_at_k[1].1, metrics.mean_average_precision
        );
        let recorded = case.value["outputs"]["block64"].as_str().expect("a line");
        assert!(recorded.ends_with(&line), "{recorded} does not end with {line}");
    }
}

#[test]
fn binary_codes_equal_the_reference() {
    for case in cases("metrics.json", &["binary_sign"]) {
        let array = case.input("feat");
        let (items, bits) = (array.shape[0], array.shape[1]);
        let codes = Binarization::Sign.apply(&array.values);
        let recorded = case.output("similarity").values;
        for a in 0..items {
            for b in 0..items {
                let row = |i: usize| &codes[i * bits..(i + 1) * bits];
                let product = bits as f32 - 2.0 * hamming_distance(row(a), row(b));
                assert_eq!(product, recorded[a * items + b], "{} {a} {b}", case.name);
            }
        }
    }
}

#[test]
fn detection_figures_equal_those_of_pycocotools() {
    for case in cases("coco_ap.json", &[""]) {
        let pictures = case.value["inputs"]["pictures"].as_array().expect("pictures");
        let (mut detections, mut objects) = (Vec::new(), Vec::new());
        for picture in pictures {
            let rows = |key: &str| picture[key].as_array().expect("rows").clone();
            let number = |row: &serde_json::Value, i: usize| row[i].as_f64().expect("a number");
            let bbox = |row: &serde_json::Value| {
                let [x, y, w, h] = [0, 1, 2, 3].map(|i| number(row, i) as f32);
                BBox::new(x, y, x + w, y + h)
            };
            let found = |row: &serde_json::Value| Detection {
                bbox: bbox(row),
                class: number(row, 4) as usize,
                score: number(row, 5) as f32,
            };
            detections.push(rows("detections").iter().map(found).collect::<Vec<_>>());
            let wanted = |row: &serde_json::Value| Object {
                bbox: bbox(row),
                class: number(row, 4) as usize,
                crowd: number(row, 5) != 0.0,
                area: number(row, 6),
            };
            objects.push(rows("objects").iter().map(wanted).collect::<Vec<_>>());
        }
        let metrics = detection_metrics(&detections, &objects);
        let got = [metrics.mean_average_precision, metrics.ap50, metrics.ap75]
            .into_iter()
            .chain(metrics.by_size)
            .chain(metrics.recall)
            .chain(metrics.recall_by_size);
        // The original writes −1 where there is no object of the kind.
        let got: Vec<f32> = got.map(|value| value.unwrap_or(-1.0) as f32).collect();
        assert_close(&case.name, &got, &case.output("stats").values, OPERATOR);
    }
}

/// The reference keeps its weights in f16.
const HALF_PRECISION: f64 = 2e-3;

#[test]
fn re_ranking_equals_the_reference() {
    for case in cases("re_ranking.json", &[""]) {
        let unit = case.value["params"]["feature_normed"].as_bool() == Some(true);
        let distance = if unit { Distance::SquaredL2 } else { Distance::ReferenceSwapped };
        let (query, gallery) = (case.input("query"), case.input("gallery"));
        let rows = |array: &tests::Array| {
            if unit {
                tests::values(l2_normalize(array.tensor(&device())))
            } else {
                array.values.clone()
            }
        };
        let options = ReRanking {
            k1: case.param("k1").expect("k1") as usize,
            k2: case.param("k2").expect("k2") as usize,
            lambda: case.param("lamb").expect("lambda") as f32,
            distance,
        };
        let got = re_rank(&rows(&query), &rows(&gallery), query.shape[1], options);
        assert_close(&case.name, &got, &case.output("final_dist").values, HALF_PRECISION);
    }
}

#[test]
fn codes_by_rounding_are_plus_or_minus_one() {
    let code = Binarization::Round.apply(&[0.1, 0.6, 0.97]);
    assert_close("rounding", &code, &[-1.0, 1.0, 1.0], OPERATOR);
}
