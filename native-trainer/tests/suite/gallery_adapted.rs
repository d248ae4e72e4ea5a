//! Galleries with a map: learned, shown, taken away, published.

use models::gallery::{
    AdaptOptions, AdaptationMap, Class, ContentId, Gallery, LearnedMap, Question,
};

use crate::world::{World, gallery, opened, parsed, refused};

/// A gallery of 30 classes with 6 pictures each around what is common to them. All pictures vary most along the first
/// values, which tell no class from another.
fn moved(model: &str, common: &[f32], size: f32) -> Gallery {
    let (dim, classes, pictures) = (common.len(), 30, 6);
    let mut state = 3_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut gallery = Gallery::new(dim, model);
    for class in 0..classes {
        gallery.add_class(Class { label: format!("{class}"), ..Class::default() }, Vec::new());
        let middle: Vec<f32> = (0..dim).map(|_| 0.3 * next()).collect();
        for picture in 0..pictures {
            let moved = |i: usize| if i < dim / 4 { 2.0 } else { 0.25 };
            let embedding: Vec<f32> =
                (0..dim).map(|i| common[i] + size * (middle[i] + moved(i) * next())).collect();
            let id = ContentId::of(&[class as u8, picture as u8]);
            gallery.add_image(class, &embedding, id).expect("an embedding");
        }
    }
    gallery
}

fn learned(gallery: &Gallery) -> AdaptationMap {
    match gallery.learn_map(&AdaptOptions::default()).expect("a good gallery") {
        LearnedMap::Helps { map, .. } => *map,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_map_is_learned_shown_and_taken_away() {
    let world = World::new();
    let mut made = moved("m", &[0.5; 24], 1.0);
    made.set_min_similarity(Some(0.75)).unwrap();
    let own = |made: &mut Gallery, least| {
        made.describe_class(3, models::gallery::Metadata::default(), least).unwrap();
    };
    own(&mut made, Some(0.5));
    let file = world.write("gallery.bin", made.to_bytes());
    made.set_min_similarity(None).unwrap();
    own(&mut made, None);
    let told = gallery(&[&"adapt", &file]);
    for part in [
        "pictures left out",
        "classes left out",
        "kept: whitening, strength 0.",
        "24 → 24 values, learned from 180 pictures",
        "threshold 0.75 and the thresholds of 1 class are dropped",
        "calibrated by 180 entries: rule ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let adapted = opened(&file);
    assert_eq!(adapted.map(), Some(&learned(&made)));
    assert_eq!(adapted.classes()[3].min_similarity, None);
    assert!(adapted.calibration().is_some());
    // The command says the same of it.
    let told = gallery(&[&"calibrate", &file, &"--write"]);
    assert!(told.contains("from the gallery itself (180 entries)"), "{told}");
    assert_eq!(opened(&file).to_bytes(), adapted.to_bytes());
    let bytes = std::fs::read(&file).unwrap();
    let again = parsed(&gallery(&[&"adapt", &file, &"--json"]));
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "the same map again");
    assert_eq!((&again["kept"], &again["map"]["entries"]), (&true.into(), &180.into()));
    let measured = &again["measured"]["classes_left_out"];
    let gain = measured["recall_at_1"].as_f64().unwrap()
        - measured["recall_at_1_before"].as_f64().unwrap();
    assert!(gain > measured["standard_error"].as_f64().unwrap());
    for command in ["stats", "list"] {
        let told = gallery(&[&command, &file]);
        assert!(told.contains("map         whitening, strength"), "{told}");
        let told = parsed(&gallery(&[&command, &file, &"--json"]));
        assert_eq!(told["map"]["kind"], "whitening");
    }
    let told = gallery(&[&"adapt", &file, &"--kind", &"lda", &"--strength", &"0.2"]);
    assert!(told.contains("kept: lda, strength 0.2, 24 → 24 values"), "{told}");
    let told = gallery(&[&"adapt", &file, &"--none"]);
    assert!(told.contains("the map is gone"), "{told}");
    assert!(told.contains("measure anew by `magpie gallery calibrate --write`"), "{told}");
    assert_eq!(std::fs::read(&file).unwrap(), made.to_bytes(), "as it was before");
    assert!(refused(&[&"adapt", &file, &"--none"]).contains("the gallery has no map"));
}

#[test]
fn what_does_not_help_or_is_too_little_changes_nothing() {
    let world = World::new();
    let mut single = Gallery::new(4, "m");
    for class in 0..9 {
        single.add_class(Class { label: format!("{class}"), ..Class::default() }, Vec::new());
        single.add(class, &[1.0, class as f32, 0.0, 0.0]).unwrap();
    }
    let single = world.write("single.bin", single.to_bytes());
    let before = std::fs::read(&single).unwrap();
    let told = gallery(&[&"adapt", &single]);
    assert!(told.contains("of four at least; here 0 of 9 have them"), "{told}");
    assert_eq!(std::fs::read(&single).unwrap(), before);
    // All classes far apart already.
    let mut clear = Gallery::new(8, "m");
    for class in 0..6 {
        clear.add_class(Class { label: format!("{class}"), ..Class::default() }, Vec::new());
        for picture in 0..4 {
            let mut embedding = [0.01 * (picture * 7 % 5) as f32; 8];
            embedding[class] = 1.0;
            embedding[7] = 0.02 * picture as f32;
            clear.add(class, &embedding).unwrap();
        }
    }
    let clear = world.write("clear.bin", clear.to_bytes());
    let before = std::fs::read(&clear).unwrap();
    let told = gallery(&[&"adapt", &clear]);
    assert!(
        told.contains("no map helps: pictures left out have to gain more than two standard errors"),
        "{told}"
    );
    assert!(told.contains("the gallery stays without one"), "{told}");
    assert_eq!(std::fs::read(&clear).unwrap(), before);
    assert_eq!(parsed(&gallery(&[&"adapt", &clear, &"--json"]))["kept"], false);
}

#[test]
fn a_gallery_learns_when_it_is_built_and_when_it_has_grown() {
    let world = World::new();
    let model = world.model();
    let pictures = world.pictures("photos", 5, 5);
    let file = world.path("gallery.bin");
    let words: [&dyn AsRef<std::ffi::OsStr>; 7] =
        [&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &file];
    let told = gallery(&[&words[..], &[&"--adapt", &"never", &"--calibrate", &"never"]].concat());
    assert!(!told.contains("calibrated by") && !told.contains("recall@1, nearest"), "{told}");
    assert_eq!((opened(&file).min_similarity(), opened(&file).map()), (None, None));
    let told = gallery(&words);
    assert!(
        told.contains("classes left out") && told.contains("calibrated by 25 entries"),
        "{told}"
    );
    let built = opened(&file);
    assert_eq!(built.map().is_some(), told.contains("kept: "));
    assert!(built.calibration().is_some());
    // A fifth more is too little to learn anew, a third is not.
    let more = world.pictures("more", 6, 5);
    let add = |more: &[&dyn AsRef<std::ffi::OsStr>]| {
        let words: [&dyn AsRef<std::ffi::OsStr>; 6] =
            [&"add", &file, &"--images", &more[0], &"--extractor", &model];
        gallery(&[&words[..], &more[1..]].concat())
    };
    let told = add(&[&more]);
    assert!(told.contains("5 added") && !told.contains("learned from"), "{told}");
    let even_more = world.pictures("even more", 7, 5);
    let told = add(&[&even_more, &"--adapt", &"never", &"--calibrate", &"never"]);
    assert!(told.contains("5 added") && !told.contains("learned from"), "{told}");
    let bytes = std::fs::read(&file).unwrap();
    let told = add(&[&world.pictures("most", 9, 5)]);
    assert!(told.contains("10 added") && told.contains("learned from "), "{told}");
    assert_ne!(std::fs::read(&file).unwrap(), bytes);
    // A threshold of other pictures is not taken away by what nobody asked for.
    let mut foreign = opened(&file);
    foreign.set_map(None).unwrap();
    foreign.set_min_similarity(Some(0.625)).unwrap();
    world.write("gallery.bin", foreign.to_bytes());
    let told = add(&[&world.pictures("all", 13, 5)]);
    assert!(told.contains("threshold 0.625 stays"), "{told}");
    assert_eq!((opened(&file).min_similarity(), opened(&file).map()), (Some(0.625), None));
}

#[test]
fn every_way_to_ask_goes_through_the_map() {
    let world = World::new();
    let (model, page) = (world.model(), world.page());
    let pictures = world.pictures("photos", 6, 4);
    let file = world.path("gallery.bin");
    let never = [&"--calibrate", &"never"];
    gallery(&[
        &"build",
        never[0],
        never[1],
        &"--images",
        &pictures,
        &"--extractor",
        &model,
        &"--out",
        &file,
    ]);
    let mut adapted = opened(&file);
    let mean: Vec<f32> = (0..adapted.dim())
        .map(|i| adapted.entries().map(|entry| adapted.embedding(entry)[i]).sum::<f32>() / 24.0)
        .collect();
    adapted.set_map(Some(learned(&moved(adapted.model(), &mean, 0.1)))).unwrap();
    let plain = opened(&file);
    world.write("gallery.bin", adapted.to_bytes());
    let query = pictures.join("class 3 类/1.png");
    let content = ContentId::of(&std::fs::read(&query).unwrap());
    let entry = plain.entries().find(|entry| plain.content_id(*entry) == content).unwrap();
    let asked = plain.embedding(entry);
    let wanted: Vec<(String, f32)> =
        (adapted.search_with(&asked, &Question::best(6)).unwrap().iter())
            .map(|m| (adapted.classes()[m.class].label.clone(), m.similarity))
            .collect();
    let others: Vec<f32> = plain.search(&asked, 6).unwrap().iter().map(|m| m.similarity).collect();
    assert!(
        wanted.iter().zip(&others).any(|((_, a), b)| (a - b).abs() > 0.05),
        "a map that matters"
    );
    let close = |found: &serde_json::Value, similarity: &str| {
        let found = found["matches"].as_array().unwrap();
        for (found, (label, wanted)) in found.iter().zip(&wanted) {
            assert_eq!(found["label"], *label.as_str());
            let got = found[similarity].as_f64().unwrap();
            assert!((got - f64::from(*wanted)).abs() < 0.02, "{label}: {got} {wanted}");
        }
        assert!(!found.is_empty());
    };
    let found = gallery(&[&"search", &file, &query, &"--extractor", &model, &"--json"]);
    close(&parsed(&found), "similarity");
    // Whole and in shards.
    for shards in ["never", "always"] {
        let site = world.path(shards);
        let page = page.display();
        world.succeed(&format!(
            "publish --extractor model.safetensors --gallery gallery.bin --page {page} --shards {shards} --out {}",
            site.display()
        ));
        world.succeed(&format!("verify {}", site.display()));
        if shards == "never" {
            let bundle = site.join("bundle");
            let found =
                crate::world::succeed(&[&"recognize", &"--bundle", &bundle, &"--json", &query]);
            close(&parsed(&found)["objects"][0], "similarity");
        }
    }
    // A gallery that is built may learn one at once.
    let built = world.path("built.bin");
    let words: [&dyn AsRef<std::ffi::OsStr>; 5] =
        [&"build", &"--images", &pictures, &"--extractor", &model];
    let told = gallery(&[&words[..], &[&"--adapt", &"auto", &"--out", &built]].concat());
    assert!(told.contains("classes left out"), "{told}");
    assert_eq!(opened(&built).map().is_some(), told.contains("kept: "));
    // More pictures go through the same map; the entries stay as they came.
    let more = world.pictures("more", 7, 4);
    let told = gallery(&[&"add", &file, &"--images", &more, &"--extractor", &model]);
    assert!(told.contains("4 added"), "{told}");
    let grown = opened(&file);
    assert_eq!(grown.map(), adapted.map());
    assert_eq!(grown.embedding(entry), asked);
    gallery(&[&"rename", &file, &"class 6 类", &"seven"]);
    gallery(&[&"compact", &file, &"--index", &"hnsw"]);
    assert_eq!(opened(&file).map(), adapted.map());
    assert!(gallery(&[&"verify", &file, &"--extractor", &model]).contains("whole; 7 classes"));
}
