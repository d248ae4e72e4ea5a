//! One and several threads give the same answers; pages that cannot share memory have one.

use serde_json::{Value, json};

use super::{native, screenshots, script, site};

#[test]
fn threads_change_no_answer_and_are_there_where_a_page_may_share_memory() {
    let site = site();
    let picture = site.join("samples/1.jpg");
    let seen = script("threads.mjs", &[&site, &picture, &screenshots()]);
    let (found, labels) = native(&site, &picture);
    for (scene, isolated, threads) in
        [("1", true, 1), ("2", true, 2), ("4", true, 4), ("plain", false, 1)]
    {
        let answer = &seen[scene];
        assert_eq!(answer["isolated"], isolated, "{scene}");
        assert_eq!(answer["threads"], threads, "{scene}: {answer}");
        // Every thread does whole rows, so that not a bit depends on their number.
        assert_eq!(answer["objects"], seen["1"]["objects"], "{scene}");
        assert_eq!(answer["problems"], json!([]), "{scene}");
    }
    // The plain engine rounds otherwise than relaxed SIMD does.
    assert_eq!(seen["fallback"]["threads"], 1, "{}", seen["fallback"]);
    for scene in ["1", "fallback"] {
        let objects = seen[scene]["objects"].as_array().expect("a list");
        assert_eq!(objects.len(), found.len(), "{scene}");
        for ((object, native), label) in objects.iter().zip(&found).zip(&labels) {
            let embedding = object["embedding"].as_array().expect("numbers");
            let values = embedding.iter().filter_map(Value::as_f64).zip(&native.embedding);
            let apart = values.map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-4, "{scene}: off by {apart}");
            if native.known {
                assert_eq!(object["label"], **label, "{scene}");
            }
        }
    }
    // A host that sends no headers: the service worker adds them from the second visit on.
    let visits = &seen["visits"];
    assert_eq!((&visits[0]["isolated"], &visits[1]["isolated"]), (&json!(false), &json!(true)));
    let timings = |visit: usize| visits[visit]["timings"].as_str().expect("a line").to_owned();
    assert!(!timings(0).contains("threads"), "{}", timings(0));
    assert!(timings(1).contains("2 threads"), "{}", timings(1));
    assert_eq!(visits[0]["labels"], visits[1]["labels"]);
    assert_eq!(seen["visitProblems"], json!([]));
}
