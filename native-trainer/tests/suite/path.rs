//! The whole native path on a tiny data set: train, resume, evaluate, gallery, publish, recognize.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use models::bundle::{MANIFEST_NAME, Manifest};
use models::image::RgbImage;
use serde_json::json;

use crate::world::{self, World, copy_tree, fail, parsed, replace, shape, succeed, tree};

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

/// A small site and what it is made of: trained, gathered and published once, and only read.
struct Made {
    world: World,
    /// What training said.
    trained: String,
    /// What building the gallery said.
    gathered: String,
    /// What publishing said.
    published: String,
}

const PUBLISH: &str = "publish --extractor run/model.safetensors --gallery gallery.bin --page dist \
                       --sample sample.png --out";

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let world = World::shared("path");
    world.recipe(&world.pictures("pictures", 4, 5), 8);
    let trained = world.succeed("train -c recipe.toml --out run");
    world.write("metadata.json", r#"{"class 1 类": {"price": "3 €"}}"#);
    let gathered = world.succeed(
        "gallery build --images pictures --extractor run/model.safetensors --metadata metadata.json --out gallery.bin",
    );
    world.write("sample.png", shape(2, 9, 50).encode_png().expect("a PNG"));
    world.page();
    world.write("dist/sw.js", "const VERSION = \"unpublished\";");
    world.write("dist/worker-cpu.js", "");
    world.write("dist/worker-cpu_bg.wasm", "the same ".repeat(100));
    let published = world.succeed(&format!("{PUBLISH} site"));
    Made { world, trained, gathered, published }
});

impl Made {
    /// A copy of the site, whose files are changed by [`replace`].
    fn copy(&self, name: &str) -> PathBuf {
        let copy = self.world.path(name);
        copy_tree(&self.world.path("site"), &copy);
        copy
    }
}

#[test]
fn training_logs_each_step_and_each_evaluation() {
    for line in ["[Train][Epoch 1/8][Iter: 0/3]lr(Cosine): ", "[Eval][Epoch 8][Avg]recall1: "] {
        assert!(MADE.trained.contains(line), "{line} is missing in\n{}", MADE.trained);
    }
}

#[test]
fn what_was_trained_tells_classes_apart() {
    let told = MADE.world.succeed("eval --extractor run/model.safetensors --query pictures --json");
    let metrics = parsed(&told);
    // Four classes told apart by color alone; a quarter would be chance.
    assert!(metrics["recall1"].as_f64() > Some(0.8), "{metrics}");
    assert_eq!(metrics["queries"], 20);
}

#[test]
fn a_gallery_says_what_it_holds() {
    assert!(MADE.gathered.contains("4 classes, 20 pictures"), "{}", MADE.gathered);
    let listed = MADE.world.succeed("gallery list gallery.bin");
    assert!(listed.contains("5  class 2 类"), "{listed}");
}

#[test]
fn publishing_checks_what_it_wrote() {
    let Made { world, published, .. } = &*MADE;
    assert!(published.contains("checked: 1 object found in the first sample"), "{published}");
    assert!(world.path("site/samples/1.png").is_file());
    assert!(world.path("site/index.html").is_file());
    let told = world.succeed("verify site");
    assert!(told.contains("whole") && told.contains("packed copies"), "{told}");
}

#[test]
fn a_bundle_names_what_is_in_an_image() {
    for place in ["site", "site/bundle", "--bundle site"] {
        let found = MADE.world.succeed(&format!("recognize {place} sample.png"));
        assert!(found.contains("class 2 类"), "{found}");
    }
}

#[test]
fn a_bundle_is_timed_for_readers_and_for_programs() {
    let world = &MADE.world;
    let told = world.succeed("bench --bundle site/bundle --picture sample.png --runs 2");
    assert!(told.contains("recogni") && told.contains("median"), "{told}");
    // A published site is taken for its bundle.
    let report = parsed(&world.succeed("bench --bundle site --runs 2 --json"));
    assert_eq!((report["schema"].as_u64(), report["device"].as_str()), (Some(2), Some("cpu")));
    for figures in report["results"].as_array().expect("a list") {
        let of = |key: &str| figures[key].as_f64().expect("a number");
        assert!(0.0 < of("least_ms") && of("least_ms") <= of("median_ms"), "{figures}");
        assert!(of("median_ms") <= of("p95_ms"), "{figures}");
    }
}

#[test]
fn the_same_parts_give_the_same_bytes() {
    let site = MADE.copy("again");
    MADE.world.succeed(&format!("{PUBLISH} again"));
    assert_eq!(tree(&site), tree(&MADE.world.path("site")));
}

#[test]
fn a_folder_of_others_is_not_published_into() {
    let told = MADE.world.fail(&format!("{PUBLISH} pictures"));
    assert!(told.contains("holds another folder (class 0 类)"), "{told}");
}

#[test]
fn the_service_worker_is_told_what_there_is() {
    let read = |name: &str| std::fs::read_to_string(MADE.world.path(name)).expect("a text");
    assert!(!read("site/sw.js").contains("unpublished"));
    let list = parsed(&read("site/precache.json"));
    assert_eq!(list["engines"]["cpu"], json!(["worker-cpu.js", "worker-cpu_bg.wasm"]));
    assert_eq!(list["bundle"].as_array().map(Vec::len), Some(4), "{list}");
}

#[test]
fn a_host_is_described() {
    let world = &MADE.world;
    let host = world::serve(&world.path("site"));
    let told = world.succeed(&format!("verify {}", host.address));
    for line in ["+ the page is isolated", "+ a download that breaks off", "whole"] {
        assert!(told.contains(line), "{line} is missing in\n{told}");
    }
    assert!(!told.contains("  - "), "{told}");
    let nowhere = world.fail(&format!("verify {}nowhere/", host.address));
    assert!(nowhere.contains("the host answered 404"), "{nowhere}");
    let secure = world.fail("verify https://127.0.0.1/");
    assert!(secure.contains("check the folder"), "{secure}");
}

/// Sends the files of a site, one connection after the other. Whoever takes packed copies as Firefox does together with
/// a range gets a part of one.
fn host_that_cuts_packed_copies(site: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = move |mut stream: TcpStream| -> std::io::Result<()> {
        let mut request = String::new();
        let mut lines = BufReader::new(stream.try_clone()?);
        while !request.ends_with("\r\n\r\n") && lines.read_line(&mut request)? > 0 {}
        let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        let name = if name.is_empty() { "index.html" } else { name };
        let Ok(bytes) = std::fs::read(site.join(name)) else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n");
        };
        let request = request.to_lowercase();
        let is_script = std::path::Path::new(name).extension().is_some_and(|ending| ending == "js");
        let kind = if is_script { "text/javascript" } else { "application/wasm" };
        let (head, body) = if !request.contains("range: bytes=1-4") {
            ("200 OK", &bytes[..])
        } else if request.contains("accept-encoding: gzip, deflate, br, zstd, identity") {
            ("206 Partial Content\r\ncontent-encoding: gzip", &b"\x8b\x08\0\0"[..])
        } else {
            ("206 Partial Content", &bytes[1..5])
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {head}\r\ncontent-type: {kind}\r\ncontent-length: {length}");
        stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes())?;
        stream.write_all(body)
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever asked may be gone.
            let _ = answer(stream);
        }
    });
    format!("http://{address}/")
}

#[test]
fn a_host_is_asked_in_the_way_of_a_browser() {
    let address = host_that_cuts_packed_copies(MADE.world.path("site"));
    let told = MADE.world.succeed(&format!("verify {address}"));
    assert!(told.contains("  - the host sends parts of packed copies: Firefox"), "{told}");
    assert!(told.contains("whole"), "{told}");
}

#[test]
fn a_changed_file_is_noticed_in_a_folder_and_on_a_host() {
    let site = MADE.copy("changed");
    let host = world::serve(&site);
    replace(&site.join("index.html"), "<!doctype html>new");
    for place in ["changed", host.address.as_str()] {
        let told = MADE.world.fail(&format!("verify {place}"));
        assert!(told.contains("has changed since the site was published"), "{place}: {told}");
    }
}

#[test]
fn a_missing_file_is_noticed() {
    let site = MADE.copy("missing");
    std::fs::remove_file(site.join("worker-cpu.js")).expect("a file of the site");
    let told = MADE.world.fail("verify missing");
    assert!(told.contains("worker-cpu.js: has gone"), "{told}");
}

#[test]
fn files_of_others_stay_in_a_site_that_is_published_again() {
    let site = MADE.copy("shared");
    std::fs::write(site.join("more.txt"), "").expect("a file of others");
    MADE.world.succeed(&format!("{PUBLISH} shared"));
    assert!(site.join("more.txt").is_file());
    MADE.world.succeed("verify shared");
}

/// The gallery of a copy of the site.
fn gallery_of(site: &Path) -> PathBuf {
    let bytes = std::fs::read(site.join("bundle").join(MANIFEST_NAME)).expect("a manifest");
    site.join("bundle").join(Manifest::from_bytes(&bytes).expect("a manifest").gallery)
}

#[test]
fn a_gallery_that_is_cut_off_is_told() {
    let victim = gallery_of(&MADE.copy("cut"));
    let bytes = std::fs::read(&victim).expect("the gallery");
    replace(&victim, &bytes[..bytes.len() - 10]);
    for command in ["recognize --bundle cut/bundle sample.png", "verify cut"] {
        let told = MADE.world.fail(command);
        assert!(told.contains("is incomplete"), "{command}: {told}");
    }
}

#[test]
fn a_gallery_with_another_bit_is_told() {
    let victim = gallery_of(&MADE.copy("flipped"));
    let mut bytes = std::fs::read(&victim).expect("the gallery");
    bytes[100] ^= 1;
    replace(&victim, bytes);
    let told = MADE.world.fail("recognize --bundle flipped/bundle sample.png");
    assert!(told.contains("is damaged"), "{told}");
}

#[test]
fn a_gallery_of_another_model_is_not_published() {
    let world = World::new();
    world.model();
    let gallery = MADE.world.path("gallery.bin");
    let told = fail(&[
        &"publish",
        &"--extractor",
        &world.path("model.safetensors"),
        &"--gallery",
        &gallery,
        &"--page",
        &world.page(),
        &"--out",
        &world.path("site"),
    ]);
    assert!(told.contains("another model"), "{told}");
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

/// `magpie detect` as text, as JSON and as images: the same objects.
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
