//! Parsers against damaged input: an error or an answer, never a panic.
//!
//! Whole inputs are damaged at random (bits, runs, lengths, joints of two inputs) and handed to the
//! parser, for a second each in the tests and for as long as `cargo xtask fuzz` says. The seed of a
//! failing input is in the panic's message; the same seed makes the same input.

use std::path::Path;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use models::bundle::Manifest;
use models::gallery::{Budget, Class, Gallery, IndexConfig, ShardOptions, Shards, VectorType};
use models::image::RgbImage;
use models::model_file::ModelFile;
use native_trainer::data::list_file::Samples;
use native_trainer::recipe::Recipe;

/// A small generator of its own: inputs must not change with a library's version.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Numbers that lengths and offsets go wrong at.
const EXTREMES: [u64; 8] =
    [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff];

/// Damages a copy of one of the inputs in one to four ways.
fn damaged(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random.below(64)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => {
                let number = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                let end = (at + width).min(bytes.len());
                let count = end - at;
                bytes[at..end].copy_from_slice(&number[..count]);
            }
            6 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => bytes.extend((0..random.below(64)).map(|i| i as u8)),
        }
    }
    bytes
}

/// Runs `parse` on damaged inputs until the time is over.
fn fuzz(inputs: &[Vec<u8>], parse: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let seconds = std::env::var("MAGPIE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(1.0));
    inputs.iter().for_each(|input| parse(input));
    let mut seed = 0;
    while Instant::now() < end {
        let input = damaged(inputs, &mut Random(seed));
        if std::panic::catch_unwind(|| parse(&input)).is_err() {
            let start = &input[..input.len().min(4096)];
            panic!("the damaged input of seed {seed} makes the parser panic: {start:02x?}");
        }
        seed += 1;
    }
    assert!(seed > 0, "no time for a single input");
}

fn picture(width: u32, height: u32) -> RgbImage {
    let data = (0..width * height * 3).map(|i| (i * 37 % 256) as u8).collect();
    RgbImage::from_rgb(width, height, data).expect("the buffer has this size")
}

#[test]
fn pictures() {
    let picture = picture(24, 16);
    let inputs = [
        picture.encode_png().expect("a picture"),
        picture.encode_jpeg(80).expect("a picture"),
        include_bytes!("../../models/tests/pictures/cmyk.jpg").to_vec(),
        include_bytes!("../../models/tests/pictures/jpeg/progressive-restarts.jpg").to_vec(),
        include_bytes!("../../models/tests/pictures/jpeg/scans.jpg").to_vec(),
    ];
    fuzz(&inputs, |bytes| {
        if let Ok(picture) = RgbImage::decode(bytes) {
            assert_eq!(picture.data().len() as u32, picture.width() * picture.height() * 3);
        }
    });
}

#[test]
fn galleries() {
    let kinds = [
        IndexConfig::Flat,
        IndexConfig::Hnsw { links: 2, build_effort: 8 },
        IndexConfig::Ivf { lists: 2 },
        IndexConfig::Binary,
    ];
    let mut inputs = vec![include_bytes!("../../models/tests/galleries/v1.bin").to_vec()];
    for vector_type in [VectorType::F32, VectorType::F16, VectorType::I8] {
        for kind in kinds {
            let mut gallery = Gallery::with_type(4, "model", vector_type);
            for label in ["ключ 🔑", "b"] {
                let class = Class { label: label.to_owned(), ..Class::default() };
                let class =
                    gallery.add_class(class, picture(4, 4).encode_png().expect("a picture"));
                for embedding in [[0.5, -0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.1, 0.9, 0.0, 0.2]]
                {
                    gallery.add(class, &embedding).expect("four values");
                }
            }
            gallery.set_index(kind).expect("allowed options");
            gallery.remove(4).expect("six entries");
            inputs.push(gallery.to_bytes());
        }
    }
    let answer = |bytes: &[u8]| {
        if let Ok(gallery) = Gallery::from_bytes(bytes) {
            let query = vec![0.1; gallery.dim()];
            for found in gallery.search(&query, 3).expect("a query of its width") {
                assert!(found.class < gallery.classes().len());
            }
        }
    };
    fuzz(&inputs, answer);
    // As a stranger would: what is inside is damaged, the checksums fit.
    fuzz(&inputs, |bytes| answer(&with_checksums(bytes.to_vec())));
}

#[test]
fn galleries_in_shards() {
    let mut gallery = Gallery::new(4, "model");
    for label in ["ключ 🔑", "b"] {
        let class = Class { label: label.to_owned(), ..Class::default() };
        let class = gallery.add_class(class, picture(4, 4).encode_png().expect("a picture"));
        for embedding in [[0.5, -0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.1, 0.9, 0.0, 0.2]] {
            gallery.add(class, &embedding).expect("four values");
        }
    }
    let options = ShardOptions { list_bytes: 30, code_bytes: 2, ..ShardOptions::default() };
    let sharded = gallery.to_shards(&options).expect("a good gallery");
    let answer = |head: &[u8], shard: &[u8]| {
        let Ok(mut shards) = Shards::from_bytes(head) else { return };
        let query = vec![0.1; shards.dim()];
        let budget = Budget::default();
        // A query of another width than the gallery's never comes here; sums that overflow may.
        let parts = shards.missing([query.as_slice()], budget).unwrap_or_default();
        for part in parts {
            let range = part.range.start as usize..part.range.end as usize;
            let _ = shards.take(&part, shard.get(range).unwrap_or_default());
        }
        for part in shards.missing_facts(["ключ 🔑", "b"]) {
            let range = part.range.start as usize..part.range.end as usize;
            let _ = shards.take(&part, shard.get(range).unwrap_or_default());
        }
        if let Ok(near) = shards.neighbourhood(&query, budget) {
            for found in near.search(&query, 3).unwrap_or_default() {
                assert!(found.class < near.classes().len());
            }
        }
    };
    let (head, shard) = (sharded.head, sharded.shards.concat());
    fuzz(std::slice::from_ref(&head), |bytes| answer(&with_checksums(bytes.to_vec()), &shard));
    fuzz(&[shard], |bytes| answer(&head, bytes));
}

/// A gallery file whose checksums are made to fit its bytes.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let number = |bytes: &[u8], at: usize, length: usize| {
        let mut number = [0; 8];
        number[..length].copy_from_slice(bytes.get(at..at + length).unwrap_or(&[0; 8][..length]));
        u64::from_le_bytes(number) as usize
    };
    let count = number(&bytes, 12, 4).min(16);
    for entry in (0..count).map(|place| 32 + 24 * place) {
        let (start, length) = (number(&bytes, entry + 8, 8), number(&bytes, entry + 16, 8));
        let end = start.saturating_add(length);
        if let Some(sum) = bytes.get(start..end).map(crc32fast::hash)
            && let Some(place) = bytes.get_mut(entry + 4..entry + 8)
        {
            place.copy_from_slice(&sum.to_le_bytes());
        }
    }
    let total = bytes.len() as u64;
    if let Some(sum) = bytes.get(32..32 + 24 * count).map(crc32fast::hash) {
        bytes[16..24].copy_from_slice(&total.to_le_bytes());
        bytes[24..28].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

#[test]
fn model_files() {
    use models::backbone::MobileNetV1Config;
    use models::extractor::{BackboneConfig, ExtractorConfig};
    use models::model_file::{Architecture, ModelDescription};
    use models::weights::{Precision, Weights};
    let config = ExtractorConfig {
        backbone: BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.05, fused: true }),
        neck: None,
    };
    let file = ModelFile {
        description: ModelDescription {
            architecture: Architecture::Extractor(config.clone()),
            preprocess: models::preprocess::Preprocess::square(32),
            arithmetic: models::kernels::Arithmetic::F32,
            notes: String::new(),
        },
        weights: Weights::from_module(&config.init(&Device::flex())),
    };
    let inputs = [Precision::F16, Precision::I8].map(|p| file.to_bytes(p).expect("bytes"));
    fuzz(&inputs, |bytes| {
        // Damage mostly hits the weights; a description that still reads is not built here, since a
        // damaged width may ask for any size: loading refuses it by the tensors' shapes.
        let _ = ModelFile::from_bytes(bytes);
    });
}

#[test]
fn manifests() {
    let file = |name: &str| {
        let hash = "0123456789abcdef".repeat(4);
        format!(r#"{{"name":"{name}","bytes":10,"sha256":"{hash}"}}"#)
    };
    let text = format!(
        r#"{{"format":1,"title":"t","extractor":{{"file":"e"}},"detector":null,"gallery":"g",
            "settings":{{}},"files":[{}],"notes":["n"]}}"#,
        [file("e"), file("g")].join(",")
    );
    fuzz(&[text.into_bytes()], |bytes| {
        let _ = Manifest::from_bytes(bytes);
    });
}

/// Parsers of files go through one, because that is what they take.
fn fuzz_file(name: &str, inputs: &[Vec<u8>], parse: impl Fn(&Path) + std::panic::RefUnwindSafe) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(folder.path().join("a.png"), "").expect("a file");
    fuzz(inputs, |bytes| {
        std::fs::write(&path, bytes).expect("a file");
        parse(&path);
    });
}

#[test]
fn list_files() {
    let inputs = [b"a.png\tb c\n".to_vec(), b"a.png 3\na.png 4 17\n".to_vec(), b"\xff\n".to_vec()];
    fuzz_file("list.txt", &inputs, |path| {
        let _ = Samples::read(path);
    });
}

#[test]
fn checkpoints_of_paddlepaddle() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/toy_retrieval/best_model.pdparams");
    let whole = std::fs::read(path).expect("a checkpoint");
    // Most of the file is values; its structure is what can be damaged.
    fuzz_file("model.pdparams", &[whole[..20_000].to_vec(), whole], |path| {
        if let Ok(weights) = native_trainer::import::read_paddle(path) {
            for (name, tensor) in weights.tensors {
                assert_eq!(tensor.values.len(), tensor.shape.iter().product::<usize>(), "{name}");
            }
        }
    });
}

#[test]
fn boxes() {
    let text = r#"{"images":[{"id":1,"file_name":"a.png","width":9,"height":9}],"annotations":
        [{"id":1,"image_id":1,"bbox":[1,2,3.5,4],"category_id":7,"iscrowd":0,"area":14}]}"#;
    fuzz_file("instances.json", &[text.as_bytes().to_vec()], |path| {
        let _ = native_trainer::data::coco::read(path, None);
    });
}

#[test]
fn boxes_of_pascal_voc() {
    let text = "<annotation><filename>a.png</filename><object><name>cat</name><difficult>0</difficult>\
        <bndbox><xmin>1</xmin><ymin>3</ymin><xmax>10</xmax><ymax>4</ymax></bndbox></object>\
        <!-- &lt; --></annotation>";
    fuzz_file("Annotations/a.xml", &[text.as_bytes().to_vec()], |path| {
        let folder = path.ancestors().nth(2).expect("the data set");
        let _ = native_trainer::data::coco::from_voc(folder, folder);
    });
}

#[test]
fn public_lists() {
    let inputs = [b"1 001.A/a.jpg\n2 101.B/b.jpg\n".to_vec(), b"1 1\n2 101\n".to_vec()];
    fuzz_file("images.txt", &inputs, |path| {
        let folder = path.parent().expect("the data set");
        let labels = folder.join("image_class_labels.txt");
        std::fs::copy(path, labels).expect("a file");
        let _ = native_trainer::data::layouts::cub(folder);
    });
}

#[test]
fn recipes() {
    let inputs = [
        include_bytes!("../../native-trainer/recipes/photos.toml").to_vec(),
        include_bytes!("../../native-trainer/recipes/emoji-extractor.toml").to_vec(),
        include_bytes!("../../native-trainer/recipes/emoji-detector.toml").to_vec(),
    ];
    fuzz_file("recipe.toml", &inputs, |path| {
        let _ = Recipe::read(path, &["-o".to_owned(), "seed=1".to_owned()]);
    });
}
