//! The whole native path on a tiny data set: train, resume, evaluate, gallery, publish, recognize.

use std::ffi::OsStr;
use std::path::Path;

use models::bundle::{MANIFEST_NAME, Manifest};
use models::image::RgbImage;

use crate::world::{self, World, fail, shape, succeed};

#[test]
fn a_network_learns_in_mixed_precision_and_goes_on_with_its_scale() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 5);
    let recipe = world.recipe(&pictures, 8);
    let train = |run: &Path, more: &[&dyn AsRef<std::ffi::OsStr>]| {
        let arguments: [&dyn AsRef<std::ffi::OsStr>; 7] =
            [&"train", &"-c", &recipe, &"--output", &run, &"-o", &"mixed_precision=f16"];
        succeed(&[&arguments[..], more].concat())
    };
    let (run, parted) = (world.path("run"), world.path("parted"));
    let log = train(&run, &[]);
    assert!(log.contains("makes a processor slower"), "{log}");
    let progress = std::fs::read_to_string(run.join("latest/progress.json")).expect("progress");
    assert!(progress.contains("loss_scale"), "{progress}");
    train(&parted, &[&"--stop-after", &"3"]);
    train(&parted, &[&"--resume"]);
    let weights = |run: &Path| std::fs::read(run.join("model.safetensors")).expect("a model");
    assert!(weights(&run) == weights(&parted), "a run in two parts takes the same steps");

    let model = run.join("model.safetensors");
    let json = succeed(&[&"eval", &"--extractor", &model, &"--query", &pictures, &"--json"]);
    let metrics: serde_json::Value = serde_json::from_str(json.trim()).expect("JSON");
    assert!(metrics["recall1"].as_f64() > Some(0.8), "{metrics}");

    let whole = world.path("whole");
    succeed(&[&"train", &"-c", &recipe, &"--output", &whole]);
    assert!(weights(&run) != weights(&whole), "16 bits round");
    let error =
        fail(&[&"train", &"-c", &recipe, &"--output", &whole, &"-o", &"mixed_precision=i8"]);
    assert!(error.contains("bf16"), "{error}");
}

#[test]
fn pictures_become_a_site_that_names_them() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 5);
    let recipe = world.recipe(&pictures, 8);
    let run = world.path("run");
    let log = succeed(&[&"train", &"-c", &recipe, &"--output", &run]);
    for line in ["[Train][Epoch 1/8][Iter: 0/3]lr(Cosine): ", "[Eval][Epoch 8][Avg]recall1: "] {
        assert!(log.contains(line), "{line} is missing in\n{log}");
    }
    let model = run.join("model.safetensors");

    let json = succeed(&[&"eval", &"--extractor", &model, &"--query", &pictures, &"--json"]);
    let metrics: serde_json::Value = serde_json::from_str(json.trim()).expect("JSON");
    // Four classes told apart by color alone; a quarter would be chance.
    assert!(metrics["recall1"].as_f64() > Some(0.8), "{metrics}");
    assert_eq!(metrics["queries"], 20);

    let gallery = world.path("gallery.bin");
    let facts = world.write("facts.json", r#"{"class 1 类": {"price": "3 €"}}"#);
    let out = succeed(&[
        &"gallery",
        &"build",
        &"--images",
        &pictures,
        &"--extractor",
        &model,
        &"--metadata",
        &facts,
        &"--out",
        &gallery,
    ]);
    assert!(out.contains("4 classes, 20 pictures"), "{out}");
    let listed = succeed(&[&"gallery", &"inspect", &gallery]);
    assert!(listed.contains("5  class 2 类"), "{listed}");

    let sample = world.write("sample.png", shape(2, 9, 50).encode_png().expect("a PNG"));
    let site = world.path("site");
    let page = world.page();
    let publish = |out: &std::path::Path| {
        succeed(&[
            &"publish",
            &"--extractor",
            &model,
            &"--gallery",
            &gallery,
            &"--page",
            &page,
            &"--out",
            &out,
            &"--sample",
            &sample,
        ])
    };
    let out = publish(&site);
    assert!(out.contains("checked: 1 object found in the first sample"), "{out}");
    assert!(site.join("samples/1.png").is_file() && site.join("index.html").is_file());

    let found = succeed(&[&"recognize", &"--bundle", &site.join("bundle"), &sample]);
    assert!(found.contains("class 2 类"), "{found}");

    // How fast it is, for people and for programs.
    let bundle = site.join("bundle");
    let told = succeed(&[&"bench", &"--bundle", &bundle, &"--picture", &sample, &"--runs", &"2"]);
    assert!(told.contains("recognize") && told.contains("median"), "{told}");
    let told = succeed(&[&"bench", &"--bundle", &bundle, &"--runs", &"2", &"--json"]);
    let report: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((report["schema"].as_u64(), report["device"].as_str()), (Some(2), Some("cpu")));
    for figures in report["results"].as_array().expect("a list") {
        let of = |key: &str| figures[key].as_f64().expect("a number");
        assert!(0.0 < of("least_ms") && of("least_ms") <= of("median_ms"), "{figures}");
        assert!(of("median_ms") <= of("p95_ms"), "{figures}");
    }

    // The same parts give the same bytes, and a site is replaced, never mixed.
    let bytes = std::fs::read(site.join("bundle").join(MANIFEST_NAME)).expect("a manifest");
    publish(&site);
    let again = std::fs::read(site.join("bundle").join(MANIFEST_NAME)).expect("a manifest");
    assert_eq!(bytes, again);
    let refused = fail(&[
        &"publish",
        &"--extractor",
        &model,
        &"--gallery",
        &gallery,
        &"--page",
        &page,
        &"--out",
        &pictures,
    ]);
    assert!(refused.contains("holds another folder (class 0 类)"), "{refused}");

    // With a service worker the site says what there is to keep, and notices what changed since.
    std::fs::write(page.join("sw.js"), "const VERSION = \"unpublished\";").expect("a worker");
    std::fs::write(page.join("worker-cpu.js"), "").expect("an engine");
    std::fs::write(page.join("worker-cpu_bg.wasm"), "the same ".repeat(100)).expect("a module");
    publish(&site);
    let told = succeed(&[&"verify", &site]);
    assert!(told.contains("whole") && told.contains("packed copies"), "{told}");
    // The same through a host.
    let host = world::serve(&site);
    assert_host_is_described(&host.address);
    let worker = std::fs::read_to_string(site.join("sw.js")).expect("the worker");
    assert!(!worker.contains("unpublished"), "{worker}");
    let list = std::fs::read_to_string(site.join("precache.json")).expect("the list");
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["engines"]["cpu"], serde_json::json!(["worker-cpu.js", "worker-cpu_bg.wasm"]));
    assert_eq!(list["bundle"].as_array().map(Vec::len), Some(4), "{list}");
    std::fs::write(site.join("index.html"), "<!doctype html>new").expect("a change");
    for place in [site.to_string_lossy().into_owned(), host.address.clone()] {
        let told = fail(&[&"verify", &place]);
        assert!(told.contains("has changed since the site was published"), "{place}: {told}");
    }
    std::fs::write(site.join("more.txt"), "").expect("a file of others");
    publish(&site);
    assert!(site.join("more.txt").is_file(), "what others put there stays");
    succeed(&[&"verify", &site]);
    std::fs::remove_file(site.join("worker-cpu.js")).expect("a file of the site");
    assert!(fail(&[&"verify", &site]).contains("worker-cpu.js: has gone"));
    std::fs::remove_file(page.join("sw.js")).expect("no worker");
    publish(&site);

    assert_damage_is_told(&site, &bytes, &sample);

    // A gallery of another model is refused.
    let other = world.path("other");
    succeed(&[&"train", &"-c", &recipe, &"--output", &other, &"-o", &"seed=4", &"-o", &"epochs=1"]);
    let foreign = fail(&[
        &"publish",
        &"--extractor",
        &other.join("model.safetensors"),
        &"--gallery",
        &gallery,
        &"--page",
        &page,
        &"--out",
        &world.path("site2"),
    ]);
    assert!(foreign.contains("another model"), "{foreign}");
}

/// Damaged files of a bundle each give their own message.
fn assert_damage_is_told(site: &Path, manifest: &[u8], sample: &Path) {
    let manifest = Manifest::from_bytes(manifest).expect("a manifest");
    let victim = site.join("bundle").join(&manifest.gallery);
    let whole = std::fs::read(&victim).expect("the gallery");
    std::fs::write(&victim, &whole[..whole.len() - 10]).expect("cut");
    let cut = fail(&[&"recognize", &"--bundle", &site.join("bundle"), &sample]);
    assert!(cut.contains("is incomplete"), "{cut}");
    assert!(fail(&[&"verify", &site]).contains("is incomplete"));
    let mut flipped = whole;
    flipped[100] ^= 1;
    std::fs::write(&victim, flipped).expect("flip");
    let flipped = fail(&[&"recognize", &"--bundle", &site.join("bundle"), &sample]);
    assert!(flipped.contains("is damaged"), "{flipped}");
}

/// `verify` of a host says what it does for the page, and what it cannot be asked.
fn assert_host_is_described(address: &str) {
    let told = succeed(&[&"verify", &address]);
    for line in ["+ the page is isolated", "+ a download that breaks off", "whole"] {
        assert!(told.contains(line), "{line} is missing in\n{told}");
    }
    assert!(!told.contains("  - "), "{told}");
    let nowhere = format!("{address}nowhere/");
    assert!(fail(&[&"verify", &nowhere]).contains("the host answered 404"));
    assert!(fail(&[&"verify", &"https://127.0.0.1/"]).contains("check the folder"));
}

#[test]
fn a_resumed_run_ends_like_an_uninterrupted_one() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 3);
    // Everything that remembers: an average of the weights, centers, a memory bank.
    let remembering: [&dyn AsRef<std::ffi::OsStr>; 6] = [
        &"-o",
        &"ema.decay={ kind = \"constant\", decay = 0.8 }",
        &"-o",
        &"export=last",
        &"-o",
        &r#"extractor.losses=[{ kind = "cross_entropy" }, { kind = "center", weight = 0.001, learning_rate = 0.5 }, { kind = "cross_batch", size = 16, start = 2, bank_weight = 1.0, loss = { kind = "contrastive", margin = 0.5 } }]"#,
    ];
    let train = |folder: &std::path::Path, more: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"train", &"-c", &recipe, &"--output", &folder];
        words.extend(remembering);
        words.extend(more);
        succeed(&words)
    };
    let [whole, parts] = ["whole", "parts"].map(|name| world.path(name));
    let log = train(&whole, &[]);
    for name in ["CELoss", "CenterLoss", "ContrastiveLoss_XBM"] {
        assert!(log.contains(name), "{name} is missing in\n{log}");
    }
    let first = train(&parts, &[&"--stop-after", &"2"]);
    assert!(first.contains("stopped after epoch 2") && !first.contains("Epoch 3/3"), "{first}");
    assert!(!parts.join("model.safetensors").exists(), "a part exports nothing");
    let log = train(&parts, &[&"--resume"]);
    assert!(log.contains("resumed") && !log.contains("[Train][Epoch 2/3]"), "{log}");

    let losses = |folder: &std::path::Path| -> Vec<String> {
        let log = std::fs::read_to_string(folder.join("train.log")).expect("a log");
        let lines = log.lines().filter(|line| line.contains("[Avg]"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(losses(&whole), losses(&parts), "figures of every epoch");
    for file in ["model.safetensors", "latest/model.safetensors", "latest/losses.safetensors"] {
        let bytes = |folder: &std::path::Path| std::fs::read(folder.join(file)).expect("a file");
        assert!(bytes(&whole) == bytes(&parts), "{file} differs");
    }
    let again = train(&parts, &[&"--resume"]);
    assert!(!again.contains("[Train][Epoch"), "nothing is left to train: {again}");
}

#[test]
fn a_loss_says_which_batch_it_needs() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 1);
    let losses = |text: &str| format!("extractor.losses=[{text}]");
    let train = |text: &str| {
        let run = world.path("run");
        fail(&[&"train", &"-c", &recipe, &"--output", &run, &"-o", &losses(text)])
    };
    let order = train(r#"{ kind = "tri_hard", margin = 0.1, samples_per_class = 4 }"#);
    assert!(order.contains("samples_per_class = 4"), "{order}");
    let unknown = train(r#"{ kind = "tri_hard", margin = 0.1, samples = 4 }"#);
    assert!(unknown.contains("samples"), "{unknown}");
    assert!(train("").contains("extractor.losses"));
}

/// `magpie detect` for people, for programs and as pictures: the same objects.
fn what_is_found_is_told_and_cut_out(world: &World, model: &Path, variant: &str) {
    let picture = world.path("pictures/class 0 类/0.png");
    let crops = world.path(&format!("crops of {variant}"));
    // So soon a network is sure of nothing.
    let asked: [&dyn AsRef<std::ffi::OsStr>; 8] =
        [&"detect", &"--detector", &model, &"--score", &"0.0001", &"--max", &"3", &picture];
    let told = succeed(&asked);
    let json = succeed(&[&asked[..], &[&"--json", &"--crops", &crops]].concat());
    let found: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let objects = found["objects"].as_array().expect("a list");
    assert!((1..=3).contains(&objects.len()), "{found}");
    let mut lines = vec![format!(
        "{}: {} {}",
        picture.display(),
        objects.len(),
        if objects.len() == 1 { "object" } else { "objects" }
    )];
    let mut last = f64::INFINITY;
    for (number, object) in objects.iter().enumerate() {
        let score = object["score"].as_f64().expect("a score");
        assert!(score <= last, "best first: {found}");
        last = score;
        let side = |at: usize| object["bbox"][at].as_f64().expect("a side");
        let [left, top, right, bottom] = [0, 1, 2, 3].map(side);
        assert!(0.0 <= left && left < right && right <= 40.0, "{object}");
        assert!(0.0 <= top && top < bottom && bottom <= 40.0, "{object}");
        lines.push(format!("  [{left:.0}, {top:.0}, {right:.0}, {bottom:.0}]  {score:.2}"));
        let crop = std::fs::read(crops.join(format!("0-{}.jpg", number + 1))).expect("a crop");
        let crop = RgbImage::decode(&crop).expect("a picture");
        let near = |pixels: u32, length: f64| (f64::from(pixels) - length).abs() <= 2.0;
        assert!(near(crop.width(), right - left) && near(crop.height(), bottom - top), "{object}");
    }
    assert_eq!(told.trim_end(), lines.join("\n"));
    assert_eq!(std::fs::read_dir(&crops).expect("crops").count(), objects.len());
    let error = fail(&[&"detect", &"--detector", &world.model(), &picture]);
    assert!(error.contains("model.safetensors: this is an extractor, not a detector"), "{error}");
}

#[test]
fn boxes_become_a_detector() {
    let world = World::new();
    world.pictures("pictures", 3, 4);
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for class in 0..3 {
        for number in 0..4 {
            let id = class * 4 + number;
            let file = format!("pictures/class {class} 类/{number}.png");
            images.push(serde_json::json!({ "id": id, "file_name": file }));
            let bbox = [8, 8, 24, 24];
            annotations.push(serde_json::json!({ "image_id": id, "bbox": bbox, "area": 576 }));
        }
    }
    let coco = serde_json::json!({ "images": images, "annotations": annotations });
    let annotations_path = world.write("instances.json", coco.to_string());
    let recipe = world.detector_recipe(
        &annotations_path,
        "epoch_samples = 12\nema = { decay = { kind = \"threshold\", decay = 0.9 }, from_zero = true, cycle = 2 }",
        "sizes = [64, 96]\natss_epochs = 1",
    );
    for variant in ["first", "second"] {
        let run = world.path(variant);
        let value = format!("detector.model.variant={variant}");
        let words: [&dyn AsRef<OsStr>; 9] =
            [&"train", &"-c", &recipe, &"--output", &run, &"-o", &"epochs=3", &"-o", &value];
        let log = succeed(&words);
        for text in ["loss_vfl: ", "loss_bbox: ", "loss_dfl: ", "[Eval][Epoch 3][Avg]mAP: "] {
            assert!(log.contains(text), "{variant}: {text} is missing in\n{log}");
        }
        // The command measures the exported network as the trainer measured its best.
        let model = run.join("model.safetensors");
        let json =
            succeed(&[&"eval", &"--detector", &model, &"--coco", &annotations_path, &"--json"]);
        let figures: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let best = log.split("best metric: ").last().expect("a figure");
        let best: f64 = best.split(']').next().expect("a number").parse().expect("a number");
        let found = figures["mAP"].as_f64().expect("a number");
        assert!((found - best).abs() < 0.01 * best.max(0.01), "{variant}: {figures} for {best}");
        assert_eq!(figures["pictures"], 12);
        what_is_found_is_told_and_cut_out(&world, &model, variant);
    }
    let value = "detector.sizes=[64, 70]";
    let run = world.path("refused");
    let error = fail(&[&"train", &"-c", &recipe, &"--output", &run, &"-o", &value]);
    assert!(error.contains("multiples of 32"), "{error}");
}
