//! What a gallery learns from its own entries: which is kept, said, and used by every command that answers.

use std::ffi::OsStr;
use std::path::Path;

use models::gallery::{Calibration, Class, ContentId, Gallery, Test, VectorType};

use crate::world::{World, fail, gallery, opened, parsed, succeed};

fn noise(seed: usize) -> f32 {
    let x = (seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((x >> 40) as f32) / (1_u64 << 24) as f32 - 0.5
}

/// Classes of entries that are all alike by their light, and differ by little: how similar two entries are says
/// less than which class is nearer.
fn made_up(classes: usize, each: usize) -> Gallery {
    const DIM: usize = 24;
    let mut gallery = Gallery::with_type(DIM, "0123456789abcdef", VectorType::F32);
    for class in 0..classes {
        let label = format!("thing {class}");
        gallery.add_class(Class { label, ..Class::default() }, Vec::new());
    }
    for entry in 0..classes * each {
        let class = entry / each;
        // What a picture has of its own; of some much, of some little.
        let own = 0.3 + 2.0 * (noise(entry * 977) + 0.5);
        let embedding: Vec<f32> = (0..DIM)
            .map(|i| noise(class * 1009 + i) + own * noise(100_000 + entry * 31 + i))
            .collect();
        gallery
            .add_image(class, &embedding, ContentId::of(&entry.to_le_bytes()))
            .expect("an embedding");
    }
    gallery
}

#[test]
fn a_gallery_calibrates_itself_and_says_so() {
    let world = World::new();
    let file = world.write("gallery.bin", made_up(10, 12).to_bytes());
    let before = std::fs::read(&file).unwrap();
    let (curve, reliability) = (world.path("curve.svg"), world.path("reliability.svg"));
    let said = gallery(&[&"calibrate", &file, &"--curve", &curve, &"--reliability", &reliability]);
    assert!(said.contains("measured        from the gallery itself (120 entries)"), "{said}");
    assert!(said.contains("known things    120 pictures of the gallery's classes"), "{said}");
    assert!(said.contains("probabilities   off by "), "{said}");
    assert!(said.contains("add --write to keep it in the gallery"), "{said}");
    assert!(std::fs::read(&file).unwrap() == before, "nothing is written unasked");
    for svg in [&curve, &reliability] {
        let svg = std::fs::read_to_string(svg).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("polyline"), "{svg}");
    }
    assert!(std::fs::read_to_string(&reliability).unwrap().contains("expected calibration error"));

    let again = world.write("again.bin", &before);
    let said = parsed(&gallery(&[&"calibrate", &file, &"--write", &"--json"]));
    assert_eq!((&said["source"], &said["kept"]), (&"gallery".into(), &true.into()));
    assert!(said["false_accept"].as_f64().unwrap() <= 0.05, "{said}");
    assert!(said["right"].as_f64().unwrap() > 0.5, "{said}");
    assert!(said["reliability"]["error"].as_f64().unwrap() < 0.2, "{said}");
    gallery(&[&"calibrate", &again, &"--write"]);
    assert!(std::fs::read(&file).unwrap() == std::fs::read(&again).unwrap(), "the same bytes");
    let kept = opened(&file);
    let calibration = kept.calibration().expect("a calibration");
    let said: Calibration = serde_json::from_value(said["calibration"].clone()).unwrap();
    assert_eq!(said, *calibration);
    assert!(!calibration.knots().is_empty());

    for command in ["list", "stats"] {
        let said = gallery(&[&command, &file]);
        let told = "from the gallery itself (120 entries), 5 % of unknown things named";
        assert!(said.contains(told), "{said}");
        let said = parsed(&gallery(&[&command, &file, &"--json"]));
        assert_eq!(said["calibration"]["source"], "gallery");
        assert_eq!(said["calibration"]["false_accept"], 0.05);
    }
    // Whatever rule and test are asked for are taken.
    let words: [&dyn AsRef<OsStr>; 6] =
        [&"--rule", &"class-mean", &"--test", &"lead", &"--write", &"--even-if-poor"];
    let said = gallery(&[&[&"calibrate" as &dyn AsRef<OsStr>, &file], &words[..]].concat());
    assert!(said.contains("kept, with rule class-mean, from the gallery itself"), "{said}");
    assert!(said.contains("known by the lead over the second class, from "), "{said}");
    assert_eq!(opened(&file).calibration().unwrap().test(), Test::Lead);
    // One number, and what it is of.
    let said = gallery(&[&"list", &file]);
    let told = " of the lead over the second class, measured with rule class-mean from the gallery";
    assert!(said.contains(told), "{said}");
    let twice: [&dyn AsRef<OsStr>; 6] =
        [&"gallery", &"calibrate", &file, &"--per-class", &"--write", &"--test=lead"];
    assert!(fail(&twice).contains("thresholds of classes are similarities; leave out --test"));
}

#[test]
fn too_small_a_gallery_is_not_calibrated_by_itself() {
    let world = World::new();
    let file = world.write("gallery.bin", made_up(3, 2).to_bytes());
    let before = std::fs::read(&file).unwrap();
    let error = fail(&[&"gallery", &"calibrate", &file, &"--write"]);
    assert!(error.contains("the threshold is not kept"), "{error}");
    let said = gallery(&[&"calibrate", &file]);
    assert!(said.contains("doubtful: 6 pictures of unknown things: 20 are needed"), "{said}");
    assert!(said.contains("probabilities   none: there are too few known things"), "{said}");
    assert!(std::fs::read(&file).unwrap() == before);
    // One class: nothing says what unknown things are like.
    let file = world.write("one.bin", made_up(1, 30).to_bytes());
    let said = gallery(&[&"calibrate", &file]);
    assert!(said.contains("doubtful: no picture of an unknown thing"), "{said}");
}

#[test]
fn every_command_that_answers_says_how_sure_it_is() {
    let world = World::new();
    let (model, page) = (world.model(), world.page());
    let (images, file, site) =
        (world.pictures("pictures", 4, 8), world.path("gallery.bin"), world.path("site"));
    let build: [&dyn AsRef<OsStr>; 7] =
        [&"build", &"--images", &images, &"--extractor", &model, &"--out", &file];
    gallery(&[&build[..], &[&"--adapt", &"never", &"--calibrate", &"never"]].concat());
    let query = images.join("class 1 类/3.png");
    let search = |more: &[&dyn AsRef<OsStr>]| {
        let words: [&dyn AsRef<OsStr>; 5] = [&"search", &file, &query, &"--extractor", &model];
        gallery(&[&words[..], more].concat())
    };
    assert!(!search(&[]).contains("% sure"), "nothing was calibrated");
    gallery(&[&"calibrate", &file, &"--write", &"--even-if-poor"]);
    let said = search(&[]);
    assert!(said.contains(" % sure, similarity "), "{said}");
    let said = parsed(&search(&[&"--json"]));
    let probability = said["probability"].as_f64().expect("a probability");
    assert!((0.5..=1.0).contains(&probability), "{said}");
    assert!(said["lead"].as_f64().unwrap() > 0.0, "{said}");
    // Of some classes alone nothing was measured, and of another rule neither.
    assert!(parsed(&search(&[&"--json", &"--class", &"class 1 类"]))["probability"].is_null());
    let rule = opened(&file).measured_rule();
    let other =
        if rule == Some(models::gallery::AnswerRule::ClassMean) { "nearest" } else { "class-mean" };
    assert!(parsed(&search(&[&"--json", &"--rule", &other]))["probability"].is_null());

    let publish = |option: &str, value: &str| {
        let words: [&dyn AsRef<OsStr>; 11] = [
            &"publish",
            &"--extractor",
            &model,
            &"--gallery",
            &file,
            &"--page",
            &page,
            &"--out",
            &site,
            &option,
            &value,
        ];
        succeed(&words)
    };
    for shards in ["never", "always"] {
        let said = publish("--shards", shards);
        let told = "(measured by `magpie gallery calibrate` from the gallery itself), rule ";
        assert!(said.contains(told), "{said}");
        let recognize = |path: &Path, more: &[&dyn AsRef<OsStr>]| {
            let words: [&dyn AsRef<OsStr>; 4] = [&"recognize", &"--bundle", &site, &path];
            succeed(&[&words[..], more].concat())
        };
        if shards == "never" {
            let said = recognize(&query, &[]);
            assert!(said.contains(" % sure, similarity "), "{said}");
        }
        // Shards round what is nearly the same here.
        let object = parsed(&recognize(&query, &[&"--json"]))["objects"][0].clone();
        match object["probability"].as_f64() {
            Some(given) => {
                assert!((given - probability).abs() < 0.3, "{shards}: {given}, {probability}");
                assert_eq!(object["known"], true);
            }
            // What is unknown has none.
            None => assert!(shards == "always" && object["known"] == false, "{object}"),
        }
    }
    // A threshold by hand counts alone.
    assert!(publish("--min-similarity", "1").contains("threshold 1 (given by --min-similarity)"));
}
