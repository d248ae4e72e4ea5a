//! What is measured: queries that are in the gallery, and thresholds that are worth keeping.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use models::gallery::Gallery;
use serde_json::Value;

use crate::world::{World, fail, magpie, shape, succeed};

fn json(words: &[&dyn AsRef<OsStr>]) -> Value {
    let output = magpie(&[words, &[&"--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The same pictures under other names in other folders.
fn copy(world: &World, from: &Path, to: &str) -> PathBuf {
    for class in std::fs::read_dir(from).expect("a folder").flatten() {
        for file in std::fs::read_dir(class.path()).expect("a folder").flatten() {
            let (class, file) = (class.file_name(), file);
            let name = format!("{to}/{}/copy of {}", class.display(), file.file_name().display());
            world.write(&name, std::fs::read(file.path()).expect("a picture"));
        }
    }
    world.path(to)
}

#[test]
fn a_query_is_no_answer_to_itself_however_the_gallery_is_spelled() {
    let world = World::new();
    let (model, pictures) = (world.model(), world.pictures("base", 4, 4));
    let eval: [&dyn AsRef<OsStr>; 5] = [&"eval", &"--extractor", &model, &"--query", &pictures];
    let alone = json(&eval);
    let copied = copy(&world, &pictures, "copy");
    for gallery in [pictures.join("../base/."), copied.clone()] {
        let mut with = json(&[&eval[..], &[&"--gallery", &gallery]].concat());
        let said = with["remarks"].take();
        assert_eq!(said[0], "16 of 16 queries are in the gallery, each searched without itself");
        with["remarks"] = alone["remarks"].clone();
        assert_eq!(with, alone, "{}", gallery.display());
    }
    let told = succeed(&[&eval[..], &[&"--gallery", &copied]].concat());
    assert!(told.contains("16 of 16 queries are in the gallery"), "{told}");

    // So it is where a precision is measured.
    let small = world.path("small.safetensors");
    let export: [&dyn AsRef<OsStr>; 6] =
        [&"export", &model, &"--out", &small, &"--query", &pictures];
    let alone = json(&export);
    let with = json(&[&export[..], &[&"--gallery", &copied]].concat());
    assert_eq!(with["cost"]["recall1"], alone["cost"]["recall1"]);
    assert!(with["cost"]["remarks"][0].as_str().is_some_and(|told| told.contains("16 of 16")));

    // A class of one picture is counted out, and so is one that the gallery lacks.
    world.write("base/only/0.png", shape(3, 1, 50).encode_png().expect("a PNG"));
    copy(&world, &pictures, "copy");
    world.write("base/other/0.png", shape(2, 1, 60).encode_png().expect("a PNG"));
    let with = json(&[&eval[..], &[&"--gallery", &copied]].concat());
    assert_eq!(with["queries"], 16);
    assert_eq!(
        with["remarks"],
        serde_json::json!([
            "17 of 18 queries are in the gallery, each searched without itself",
            "1 of 18 queries is counted out: the gallery has no other picture of their class",
            "1 of 18 queries is counted out: the gallery does not have their class",
        ])
    );
    // Nothing is left to measure with.
    let one = world.write("one/a/0.png", shape(0, 0, 40).encode_png().expect("a PNG"));
    let folder = one.parent().and_then(Path::parent).expect("a folder");
    let error =
        fail(&[&"eval", &"--extractor", &model, &"--query", &folder, &"--gallery", &folder]);
    assert!(error.contains("no picture to measure with") && error.contains("1 of 1"), "{error}");
}

#[test]
fn a_recipe_measures_without_the_queries_themselves() {
    let world = World::new();
    let pictures = world.pictures("base", 4, 4);
    let copied = copy(&world, &pictures, "copy");
    let recipe = world.recipe(&pictures, 1);
    let metrics = |run: &str, more: &[&dyn AsRef<OsStr>]| {
        let run = world.path(run);
        let words: [&dyn AsRef<OsStr>; 5] = [&"train", &"-c", &recipe, &"--output", &run];
        let told = succeed(&[&words[..], more].concat());
        let lines = std::fs::read_to_string(run.join("metrics.jsonl")).expect("the metrics");
        let eval = lines.lines().find(|line| line.contains("\"kind\":\"eval\"")).expect("figures");
        (serde_json::from_str::<Value>(eval).expect("JSON"), told)
    };
    let (alone, _) = metrics("alone", &[]);
    let gallery = format!("extractor.gallery={:?}", copied.display().to_string());
    let (with, told) = metrics("with", &[&"-o", &gallery]);
    assert_eq!(with, alone);
    assert!(told.contains("16 of 16 queries are in the gallery"), "{told}");
}

/// A gallery, and what is asked of it.
struct Asked {
    world: World,
    model: PathBuf,
    gallery: PathBuf,
}

impl Asked {
    /// A gallery of a folder that is made in the world.
    fn of(base: impl FnOnce(&World) -> PathBuf) -> Self {
        let world = World::new();
        let (model, images, gallery) = (world.model(), base(&world), world.path("gallery.bin"));
        let words: [&dyn AsRef<OsStr>; 8] = [
            &"gallery",
            &"build",
            &"--images",
            &images,
            &"--extractor",
            &model,
            &"--out",
            &gallery,
        ];
        succeed(&words);
        Self { world, model, gallery }
    }

    /// The command line that measures a threshold on a folder.
    fn words(&self, query: &Path, more: &[&str]) -> Vec<OsString> {
        let words: [&dyn AsRef<OsStr>; 7] = [
            &"gallery",
            &"calibrate",
            &self.gallery,
            &"--extractor",
            &self.model,
            &"--query",
            &query,
        ];
        let more = more.iter().map(OsString::from);
        words.iter().map(|word| word.as_ref().to_owned()).chain(more).collect()
    }

    /// Measures; code, answer and errors.
    fn calibrate(&self, query: &Path, more: &[&str]) -> (Option<i32>, String, String) {
        let words = self.words(query, more);
        let words: Vec<&dyn AsRef<OsStr>> =
            words.iter().map(|word| word as &dyn AsRef<OsStr>).collect();
        let output = magpie(&words);
        let [answer, errors] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), answer, errors)
    }

    /// The figures.
    fn json(&self, query: &Path, more: &[&str]) -> Value {
        let words = self.words(query, more);
        let words: Vec<&dyn AsRef<OsStr>> =
            words.iter().map(|word| word as &dyn AsRef<OsStr>).collect();
        json(&words)
    }

    /// The gallery's threshold.
    fn kept(&self) -> Option<f32> {
        let bytes = std::fs::read(&self.gallery).expect("a gallery");
        Gallery::from_bytes(&bytes).expect("a gallery").min_similarity()
    }
}

#[test]
fn a_threshold_that_is_badly_measured_is_not_kept() {
    let asked = Asked::of(|world| world.pictures("base", 3, 4));
    let pictures = asked.world.path("base");
    for share in ["0", "1", "1.5", "-0.1", "nan", "inf"] {
        let (code, _, error) = asked.calibrate(&pictures, &[&format!("--false-accept={share}")]);
        assert_eq!(code, Some(2), "a command line that is not understood");
        assert!(error.contains("a number above 0 and below 1"), "{share}: {error}");
    }
    let (code, _, error) = asked.calibrate(&pictures, &["--per-class"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("kept in the gallery; add --write"), "{error}");

    // The gallery's own pictures are asked without themselves.
    let own = asked.json(&pictures, &["--false-accept", "0.1"]);
    assert_eq!((&own["in_gallery"], &own["pictures"]), (&12.into(), &12.into()));
    assert_eq!((&own["alone"], &own["kept"]), (&0.into(), &false.into()));
    assert_eq!(own["counts"]["right"]["of"], 12);
    let copied = copy(&asked.world, &pictures, "copy");
    assert_eq!(asked.json(&copied, &["--false-accept", "0.1"]), own, "under any name");

    // A hundred pictures are needed for one in a hundred.
    let before = std::fs::read(&asked.gallery).expect("a gallery");
    let strict = ["--write", "--false-accept", "0.01"];
    let (code, answer, error) = asked.calibrate(&pictures, &strict);
    assert_eq!(code, Some(1), "{error}");
    assert!(answer.contains("12 pictures of unknown things: 100 are needed"), "{answer}");
    assert!(answer.contains(" of 12; ") && answer.contains("no threshold"), "{answer}");
    assert!(error.contains("the threshold is not kept; --even-if-poor"), "{error}");
    assert!(std::fs::read(&asked.gallery).expect("a gallery") == before);
    let (code, _, error) = asked.calibrate(&pictures, &[&strict[..], &["--even-if-poor"]].concat());
    assert_eq!(code, Some(0), "{error}");
    assert!(asked.kept().is_some());
    // So few measure one in twenty.
    let (code, answer, _) = asked.calibrate(&pictures, &["--write"]);
    assert!(answer.contains("12 pictures of unknown things: 20 are needed"), "{answer}");
    assert_eq!(code, Some(1));
}

#[test]
fn nothing_is_measured_without_strangers_or_without_a_gallery() {
    let mut asked = Asked::of(|world| world.pictures("one", 1, 4));
    let query = asked.world.path("query");
    for number in 0..12_u32 {
        let name = format!("query/class 0 类/{number}.png");
        asked.world.write(&name, shape(0, 0, 50 + number).encode_png().expect("a PNG"));
    }
    let (code, answer, error) = asked.calibrate(&query, &["--write", "--even-if-poor"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(answer.contains("unknown named   not measured: there are none"), "{answer}");
    assert!(answer.contains("in folders of any other name"), "{answer}");
    assert!(error.contains("the threshold is not kept\n"), "{error}");
    assert_eq!(asked.kept(), None);

    asked.gallery = asked.world.path("empty.bin");
    succeed(&[&"gallery", &"new", &asked.gallery, &"--extractor", &asked.model]);
    let (code, _, error) = asked.calibrate(&query, &[]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("empty.bin: the gallery is empty; add pictures to it first"), "{error}");
}

#[test]
fn a_threshold_that_leaves_few_answers_is_not_kept_and_says_what_helps() {
    let asked = Asked::of(|world| {
        // Two classes of the same thing: whatever is known is as near to the other class.
        for (class, sides) in [("a", 40..44), ("b", 44..48)] {
            for side in sides {
                let name = format!("base/{class}/{side}.png");
                world.write(&name, shape(0, 0, side).encode_png().expect("a PNG"));
            }
        }
        world.path("base")
    });
    for side in 60..90 {
        let name = format!("query/{}/{side}.png", if side % 2 == 0 { "a" } else { "b" });
        asked.world.write(&name, shape(0, side as usize, side).encode_png().expect("a PNG"));
    }
    let query = asked.world.path("query");
    let found = asked.json(&query, &["--false-accept", "0.05"]);
    let doubts = found["doubts"].to_string();
    assert!(doubts.contains(" right answers ") && doubts.contains(" are left"), "{found}");
    let rules = found["right_by_other_rules"].as_object().expect("the other rules");
    assert_eq!(rules.keys().collect::<Vec<_>>(), ["centroid", "vote"]);
    let (code, answer, _) = asked.calibrate(&query, &["--false-accept", "0.05", "--write"]);
    assert_eq!(code, Some(1), "{answer}");
    assert!(answer.contains("more pictures of each class"), "{answer}");
    assert_eq!(asked.kept(), None);
}
