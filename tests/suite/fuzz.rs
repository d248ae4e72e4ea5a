//! Parsers against damaged input: an error or an answer, never a panic.
//!
//! Whole inputs are damaged at random (bits, runs, lengths, numbers, joints of two inputs) and handed to the
//! parser, for a second each in the tests and for as long as `cargo xtask fuzz` says. The seed of a
//! failing input is in the panic's message; the same seed makes the same input. A parser may take 64 MiB
//! and a hundred times its input, a decoder as much as its largest picture; more is a failure, too.

mod damage;
mod sessions;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use damage::{fuzz, fuzz_within};
use models::backbone::{BackboneConfig, LiteSize};
use models::backbone::{MobileNetV1Config, PpLcNetV2Config};
use models::bundle::Manifest;
use models::detector::{DetectorBackbone, DetectorConfig, DetectorVariant};
use models::extractor::ExtractorConfig;
use models::gallery::{
    AdaptOptions, Budget, Class, ContentId, Gallery, GalleryStream, IndexConfig, Lesson,
    LessonChange, Lessons, Metadata, ShardOptions, Shards, VectorType,
};
use models::image::{Header, RgbImage};
use models::inference::Arithmetic;
use models::layers::Activation;
use models::model_file::{Architecture, ModelDescription, ModelFile};
use models::neck::NeckConfig;
use models::preprocess::Preprocess;
use models::weights::{NamedTensor, Precision, Weights};
use native_trainer::checkpoint::{self, Progress};
use native_trainer::data::list_file::Samples;
use native_trainer::exchange::export::{self, Format};
use native_trainer::exchange::import::{
    Budget as GraphBudget, DetectorDescription, Origin, detector_of, read_pytorch, steps_of,
};
use native_trainer::recipe::Recipe;
use native_trainer::text::{TextParts, Tokenizer};

fn picture(width: u32, height: u32) -> RgbImage {
    let data = (0..width * height * 3).map(|i| (i * 37 % 256) as u8).collect();
    RgbImage::from_rgb(width, height, data).expect("the buffer has this size")
}

/// Five by three pixels as GIF, BMP and both kinds of WebP.
const SMALL: [&str; 4] = [
    "4749463837610500030081000088b57ba46e8c8c2f92111d292c000000000500030000080f0007081410008040001\
     00021206581810003b",
    "424d660000000000000036000000280000000500000003000000010018000000000030000000c40e0000c40e00000\
     000000000000000009a22aac33fbbec5ccc1579dd3e96ee00cd9155f6ae661fcb7748e88871059900000000291d11\
     523a227b5733a4744400",
    "52494646720000005745425056503820660000003002009d012a0500030001402625b00274ba00d400034f9d9cb00\
     0fec2ad247f263e4febbd14b3f8df7cfff2f556320bcc7d8ebdbffd3edd7fce03693d07de53f50f2a2d7fa1beebff\
     ab16f8eff725ffe4d33f7e7fe651de1cfe1ccbeff8a9d0dff049f8c800",
    "524946463800000057454250565038\
     4c2c0000002f048000007720104812d91f7585899894f94f6c03058d2435df0b5d0b9ed08227b4202ca2ffb1b69c9\
     bef0f",
];

/// The bytes of hexadecimal digits.
fn unhexed(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(|pair| byte(pair).expect("digits")).collect()
}

/// A JPEG with other primaries and all kinds of curves.
fn with_profile(jpeg: &[u8]) -> Vec<u8> {
    let numbers = |numbers: &[i32]| -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    };
    let xyz = |values: [i32; 3]| [&b"XYZ \0\0\0\0"[..], &numbers(&values)].concat();
    let tags = [
        (b"rXYZ", xyz([39_000, 20_000, 1_000])),
        (b"gXYZ", xyz([13_000, 41_000, 4_000])),
        (b"bXYZ", xyz([10_000, 4_000, 48_000])),
        (b"rTRC", b"curv\0\0\0\0\0\0\0\x01\x02\x33".to_vec()),
        (b"gTRC", b"curv\0\0\0\0\0\0\0\x03\0\0\x40\0\xff\xff".to_vec()),
        (
            b"bTRC",
            [&b"para\0\0\0\0\0\x03\0\0"[..], &numbers(&[157_286, 62_119, 3_417, 5_072, 2_651])]
                .concat(),
        ),
    ];
    let mut profile = vec![0; 128];
    profile[16..24].copy_from_slice(b"RGB XYZ ");
    profile[36..40].copy_from_slice(b"acsp");
    profile.extend((tags.len() as u32).to_be_bytes());
    let mut place = profile.len() + 12 * tags.len();
    for (name, contents) in &tags {
        profile.extend(*name);
        profile.extend((place as u32).to_be_bytes());
        profile.extend((contents.len() as u32).to_be_bytes());
        place += contents.len();
    }
    tags.iter().for_each(|(_, contents)| profile.extend(contents));
    let part = [&b"ICC_PROFILE\0\x01\x01"[..], &profile].concat();
    let length = ((part.len() + 2) as u16).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe2], &length, &part, &jpeg[2..]].concat()
}

#[test]
fn pictures() {
    let picture = picture(24, 16);
    let mut inputs = vec![
        picture.encode_png().expect("a picture"),
        picture.encode_jpeg(80).expect("a picture"),
        include_bytes!("../../models/tests/pictures/cmyk.jpg").to_vec(),
        include_bytes!("../../models/tests/pictures/jpeg/progressive-restarts.jpg").to_vec(),
        include_bytes!("../../models/tests/pictures/jpeg/scans.jpg").to_vec(),
    ];
    let [plain, other] = [inputs[1].clone(), with_profile(&inputs[1])];
    assert!(
        RgbImage::decode(&plain).expect("a picture")
            != RgbImage::decode(&other).expect("a picture"),
        "the profile counts"
    );
    inputs.push(other);
    inputs.extend(SMALL.map(unhexed));
    // Every way in which a JPEG lies in a file.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/pictures/jpeg");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("pictures")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    inputs.extend(files.iter().map(|file| std::fs::read(file).expect("a picture")));
    for input in &inputs {
        // Arithmetic coding and a few others are named, not read.
        let read = RgbImage::decode(input).is_ok();
        assert!(read || !input.starts_with(b"RIFF") && !input.starts_with(b"GIF"), "{input:02x?}");
    }
    // As much as the largest picture that is decoded takes, with the decoder's own frame.
    fuzz_within(640, &inputs, |bytes| {
        let header = Header::read(bytes);
        let _ = RgbImage::decode_rgba(bytes);
        if let Ok(picture) = RgbImage::decode(bytes) {
            assert_eq!(picture.data().len() as u32, picture.width() * picture.height() * 3);
            let header = header.expect("a picture that is decoded has a header");
            // Notes behind the header may turn the picture.
            let sides = |a: u32, b: u32| (a.min(b), a.max(b));
            let decoded = sides(picture.width(), picture.height());
            assert_eq!(sides(header.width, header.height), decoded);
        }
    });
}

#[test]
fn galleries() {
    let kinds = [
        IndexConfig::Flat,
        IndexConfig::Hnsw { m: 2, ef_construction: 8 },
        IndexConfig::Ivf { lists: 2 },
        IndexConfig::Binary,
    ];
    let mut inputs = vec![include_bytes!("../../gallery/tests/galleries/v1.bin").to_vec()];
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
            change(gallery);
        }
    };
    fuzz(&inputs, answer);
    // As a stranger would: what is inside is damaged, the checksums fit.
    fuzz(&inputs, |bytes| answer(&with_checksums(bytes.to_vec())));
}

/// A gallery with a map.
fn adapted() -> Gallery {
    let bytes = include_bytes!("../../gallery/tests/galleries/v3.bin");
    Gallery::from_bytes(bytes).expect("a published gallery")
}

#[test]
fn galleries_with_a_map() {
    let gallery = adapted();
    let answer = |bytes: &[u8]| {
        let Ok(mut gallery) = Gallery::from_bytes(bytes) else { return };
        // A map may leave nothing of a query.
        for found in gallery.search(&vec![0.1; gallery.dim()], 3).unwrap_or_default() {
            assert!(found.class < gallery.classes().len());
        }
        let mut other = Gallery::new(gallery.dim(), gallery.model());
        let _ = other.merge(&gallery);
        let _ = other.share_map(&gallery);
        let class = gallery.add_class(Class::default(), vec![]);
        let _ = gallery.add(class, &vec![1.0; gallery.dim()]);
        gallery.compact();
        if let Ok(again) = Gallery::from_bytes(&gallery.to_bytes()) {
            assert_eq!(again.len(), gallery.len());
        }
        let _ = gallery.learn_map(&AdaptOptions::default());
        gallery.set_map(None).expect("no map fits every gallery");
    };
    let inputs = [gallery.to_bytes()];
    fuzz(&inputs, answer);
    fuzz(&inputs, |bytes| answer(&with_checksums(bytes.to_vec())));
}

/// What a page does with a gallery that somebody gives it, and a command with a file.
fn change(mut gallery: Gallery) {
    let mut other = Gallery::new(gallery.dim(), gallery.model());
    let _ = other.merge(&gallery);
    let (mut facts, pictures) = gallery.split_thumbnails();
    let _ = facts.take_thumbnails(&pictures);
    let query = vec![1.0; gallery.dim()];
    let class = gallery.add_class(Class { label: "new".to_owned(), ..Class::default() }, vec![]);
    gallery.add(class, &query).expect("an embedding of its width");
    let first = gallery.entries().next().expect("there is one");
    gallery.remove(first).expect("it is there");
    if gallery.classes().len() > 1 {
        gallery.rename_class(0, "new").expect("a class");
    }
    gallery.compact();
    if let Ok(again) = Gallery::from_bytes(&gallery.to_bytes()) {
        assert_eq!(again.len(), gallery.len());
    }
}

/// Calls that come in any order, with any numbers: a gallery that is streamed is the one in memory.
#[test]
fn galleries_that_come_in() {
    let types = [VectorType::F32, VectorType::F16, VectorType::I8];
    let kinds = [IndexConfig::Flat, IndexConfig::Hnsw { m: 2, ef_construction: 8 }];
    let inputs = [
        b"\x00\x00A123B123B456Bxy!".to_vec(),
        [&[1, 1][..], &b"A\x00\x00\x80\x3fB\x00\x00\x80\x3f".repeat(40)].concat(),
        [&[2, 0][..], &b"AqqqTabcDabcB\x01\x02\x03\xffA1230B\x00\x00\x00\x00".repeat(9)].concat(),
    ];
    fuzz(&inputs, |bytes| {
        let [first, second, ref calls @ ..] = *bytes else { return };
        let vector_type = types[usize::from(first) % types.len()];
        let kind = kinds[usize::from(second) % kinds.len()];
        let mut whole = Gallery::with_type(3, "model", vector_type);
        let scratch = [(); 2].map(|()| std::io::Cursor::new(Vec::new()));
        let mut stream = GalleryStream::new(3, "model", vector_type, scratch);
        for call in calls.chunks_exact(4) {
            let bits = [0, call[3], call[2], call[1]].map(|byte| byte.rotate_left(4));
            let (class, value) = (usize::from(call[1] % 4), f32::from_le_bytes(bits));
            let label = String::from_utf8_lossy(&call[1..]).into_owned();
            let (one, other) = match call[0] % 4 {
                0 => {
                    let embedding = [value, f32::from(call[2]), 1.0];
                    let picture = ContentId::of(&call[1..2]);
                    let streamed = stream.add_image(class, &embedding, picture);
                    (whole.add_image(class, &embedding, picture).is_ok(), streamed.is_ok())
                }
                1 => {
                    let class = Class { label, ..Class::default() };
                    whole.add_class(class.clone(), call.to_vec());
                    (true, stream.add_class(class, call).is_ok())
                }
                2 => {
                    let least = Some(f32::from(call[2]) / 256.0);
                    let facts: Metadata = [("k".to_owned(), label)].into();
                    let streamed = stream.describe_class(class, facts.clone(), least);
                    (whole.describe_class(class, facts, least).is_ok(), streamed.is_ok())
                }
                _ => {
                    let streamed = stream.set_thumbnail(class, call);
                    (whole.set_thumbnail(class, call.to_vec()).is_ok(), streamed.is_ok())
                }
            };
            assert_eq!(one, other, "both take {call:02x?}, or neither");
        }
        let mut file = Vec::new();
        stream.finish(kind, &mut file).expect("all of it was taken");
        whole.set_index(kind).expect("all of it was taken");
        assert!(file == whole.to_bytes(), "the same file");
        Gallery::from_bytes(&file).expect("what is written can be read");
    });
}

/// What a page keeps of a visitor, and gets from another page.
#[test]
fn lessons() {
    let mut published = Gallery::new(4, "model");
    for label in ["a", "ключ"] {
        let class =
            published.add_class(Class { label: label.to_owned(), ..Class::default() }, vec![]);
        published.add(class, &[0.5, -0.5, 0.5, 0.5]).expect("four values");
    }
    let text = |text: &str| text.to_owned();
    let embedding = vec![0.5, 0.5, 0.5, -0.5];
    let thumbnail = picture(4, 4).encode_png().expect("a picture");
    let changes = [
        LessonChange::Teach { label: text("b"), embedding: embedding.clone(), thumbnail },
        LessonChange::Rename { from: text("a"), to: text("c") },
        LessonChange::Import { gallery: published.to_bytes() },
        LessonChange::Remove { label: text("ключ") },
        LessonChange::Reset,
        LessonChange::Teach { label: text("c"), embedding, thumbnail: vec![] },
        LessonChange::Rename { from: text("c"), to: text("a") },
    ];
    let mut log = Lessons::new(&published);
    for (number, change) in (1..).zip(changes) {
        log.push(Lesson { id: number * 77, time: number, change }).expect("room");
    }
    let mut shorter = log.clone();
    assert!(shorter.undo() && shorter.undo());
    let inputs = [log.to_bytes(), shorter.to_bytes()];
    fuzz(&inputs, |bytes| {
        // As a stranger would: what is inside is damaged, the checksum fits.
        let Some((content, _)) = bytes.split_last_chunk::<4>() else { return };
        let forged = [content, &crc32fast::hash(content).to_le_bytes()].concat();
        for bytes in [bytes, &forged] {
            let Ok(mut read) = Lessons::from_bytes(bytes) else { continue };
            assert_eq!(Lessons::from_bytes(&read.to_bytes()).as_ref(), Ok(&read));
            if let Ok(taught) = read.replay(&published) {
                Gallery::from_bytes(&taught.to_bytes()).expect("what is taught can be read");
            }
            let _ = read.merge(&log);
            read.undo();
            read.tidy();
        }
    });
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
        for part in shards.missing_metadata(["ключ 🔑", "b"]) {
            let range = part.range.start as usize..part.range.end as usize;
            let _ = shards.take(&part, shard.get(range).unwrap_or_default());
        }
        if let Ok(near) = shards.neighborhood(&query, budget) {
            for found in near.search(&query, 3).unwrap_or_default() {
                assert!(found.class < near.classes().len());
            }
        }
    };
    let (directory, shard) = (sharded.directory, sharded.shards.concat());
    fuzz(std::slice::from_ref(&directory), |bytes| answer(&with_checksums(bytes.to_vec()), &shard));
    fuzz(&[shard], |bytes| answer(&directory, bytes));
    let adapted = adapted().to_shards(&options).expect("a good gallery");
    let (directory, shard) = (adapted.directory, &adapted.shards[0]);
    fuzz(std::slice::from_ref(&directory), |bytes| answer(bytes, shard));
    fuzz(&[directory], |bytes| answer(&with_checksums(bytes.to_vec()), shard));
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

/// A list of steps, of every kind that may go wrong.
fn steps() -> BackboneConfig {
    let text = r#"{"kind":"graph","nodes":[
        {"step":{"conv":{"channels":4,"kernel":3,"stride":2,"padding":[0,0,1,1]}},"inputs":[0]},
        {"step":{"conv":{"channels":8,"kernel":3,"groups":2,"padding":[1,1,1,1],"activation":"Silu"}},"inputs":[1]},
        {"step":{"pool":{"pool":"max","kernel":[3,3],"stride":[2,2],"padding":[1,1,1,1]}},"inputs":[2]},
        {"step":{"pick":{"start":0,"count":8,"groups":2}},"inputs":[3]},
        {"step":"concatenate","inputs":[3,4]},
        {"step":"affine","inputs":[5]},
        {"step":{"enlarge":[2,2]},"inputs":[6]},
        {"step":{"global_pool":"average"},"inputs":[7]},
        {"step":{"layer_norm":1e-5},"inputs":[8]},
        {"step":{"gate":"sigmoid"},"inputs":[9]},
        {"step":"scale","inputs":[6,10]},
        {"step":{"pick":{"start":0,"count":8,"groups":1}},"inputs":[11]},
        {"step":{"tokens":{"before":1,"places":[8,8]}},"inputs":[12]},
        {"step":{"attend":2},"inputs":[13,13,13]},
        {"step":{"behind":1},"inputs":[14,6]},
        {"step":"first","inputs":[14]},
        {"step":"scale","inputs":[15,16]},
        {"step":{"global_pool":"max"},"inputs":[17]},
        {"step":{"linear":6},"inputs":[18]}]}"#;
    serde_json::from_str(text).expect("a list of steps")
}

/// A small model of either kind.
fn small_models() -> [ModelFile; 4] {
    let described = |architecture, weights| ModelFile {
        description: ModelDescription {
            architecture,
            preprocess: Preprocess::square(32),
            arithmetic: Arithmetic::F32,
            notes: "\u{1f511} \"n\"".to_owned(),
        },
        weights,
    };
    let device = Device::flex();
    let extractor = |backbone, neck| {
        let config = ExtractorConfig { backbone, neck };
        let weights = Weights::from_module(&config.init(&device));
        described(Architecture::Extractor(config), weights)
    };
    let detector = DetectorConfig {
        variant: DetectorVariant::Second,
        backbone: DetectorBackbone::PpLcNet,
        backbone_scale: 0.1,
        neck_channels: 8,
        num_classes: 1,
        head_blocks: 1,
        fused: true,
    };
    let weights = Weights::from_module(&detector.init(&device));
    [
        extractor(
            BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.05, fused: true }),
            Some(NeckConfig::BnNeck),
        ),
        extractor(
            BackboneConfig::PpLcNetV2(PpLcNetV2Config {
                scale: 0.1,
                depths: [1, 1, 1, 1],
                class_expand: 8,
                shitu: true,
                dropout: 0.0,
                fused: true,
            }),
            None,
        ),
        described(Architecture::Detector(detector), weights),
        extractor(steps(), None),
    ]
}

/// Reads a model file and makes ready what it describes.
fn open_model(bytes: &[u8]) {
    let device = Device::flex();
    let Ok(file) = ModelFile::from_bytes(bytes) else { return };
    match file.description.architecture {
        Architecture::Extractor(_) => drop(file.prepare_extractor(&device)),
        _ => drop(file.prepare_detector(&device)),
    }
}

#[test]
fn model_files() {
    let precisions = [Precision::F16, Precision::I8, Precision::F32];
    let inputs = small_models().map(|file| precisions.map(|p| file.to_bytes(p).expect("bytes")));
    fuzz(inputs.as_flattened(), open_model);
}

/// A tower of texts with one block of four channels.
fn tower_of_texts() -> TextParts {
    let tokenizer = Tokenizer::from_merges("c a\nca t</w>").expect("pairs");
    let block = "text_model.encoder.layers.0";
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| {
        let values = (0..shape.iter().product::<usize>()).map(|at| at as f32 * 1e-3).collect();
        tensors.insert(name, NamedTensor { shape: shape.to_vec(), values });
    };
    for (name, shape) in [("token", [tokenizer.vocabulary(), 4]), ("position", [5, 4])] {
        add(format!("text_model.embeddings.{name}_embedding.weight"), &shape);
    }
    for (name, [to, from]) in [("q", [4, 4]), ("k", [4, 4]), ("v", [4, 4]), ("out", [4, 4])]
        .map(|(name, shape)| (format!("self_attn.{name}_proj"), shape))
        .into_iter()
        .chain([("mlp.fc1".to_owned(), [6, 4]), ("mlp.fc2".to_owned(), [4, 6])])
    {
        add(format!("{block}.{name}.weight"), &[to, from]);
        add(format!("{block}.{name}.bias"), &[to]);
    }
    for norm in [
        &format!("{block}.layer_norm1"),
        &format!("{block}.layer_norm2"),
        "text_model.final_layer_norm",
    ] {
        add(format!("{norm}.weight"), &[4]);
        add(format!("{norm}.bias"), &[4]);
    }
    add("text_projection.weight".to_owned(), &[3, 4]);
    let activation = Activation::QuickGelu;
    TextParts { tensors, tokenizer, heads: 2, is_causal: true, activation, epsilon: 1e-5 }
}

#[test]
fn towers_of_texts() {
    let parts = tower_of_texts();
    assert_eq!(parts.clone().tower().expect("a tower").embed("cat").values.len(), 3);
    let bytes = parts.to_bytes("0123456789abcdef").expect("bytes");
    fuzz(&[bytes], |bytes| {
        if let Ok((parts, _)) = TextParts::from_bytes(bytes)
            && let Ok(tower) = parts.tower()
        {
            assert_eq!(tower.embed("a cat, another cat").values.len(), tower.dim());
        }
    });
}

#[test]
fn tokenizers() {
    let merges = "#version: 0.2\nc a\nca t</w>\nd o\ndo g</w>\n";
    let pairs: Vec<&str> = merges.lines().skip(1).collect();
    let model = serde_json::json!({"type": "BPE", "end_of_word_suffix": "</w>", "merges": pairs});
    let file = serde_json::json!({ "model": model }).to_string();
    fuzz(&[Vec::from(merges), file.into_bytes()], |bytes| {
        let _ = Tokenizer::from_json(bytes);
        let text = String::from_utf8_lossy(bytes);
        if let Ok(tokenizer) = Tokenizer::from_merges(&text) {
            assert!(tokenizer.tokens(&text, 77).0.len() <= 77);
        }
    });
}

/// Graphs of other programs.
#[test]
fn graphs() {
    let mut inputs = Vec::new();
    for file in small_models() {
        let exported = export::model_files(Format::Onnx, "graph", file).expect("a graph");
        inputs.extend(exported.into_iter().map(|(_, bytes)| bytes));
    }
    // As a fuzzer's time and memory allow.
    let budget = GraphBudget { values: 1 << 16, work: 1 << 24 };
    assert!(steps_of(inputs.last().expect("a graph"), 32, &budget).is_ok());
    fuzz(&inputs, |bytes| {
        if let Ok(steps) = steps_of(bytes, 32, &budget) {
            steps.check().expect("what was checked");
        }
    });
}

/// Detectors of other programs, by what describes them.
#[test]
fn graphs_of_detectors() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../native-trainer/tests/networks/detectors");
    let inputs = ["picodet", "rtmdet_tiny"]
        .map(|name| std::fs::read(folder.join(format!("{name}.onnx"))).expect("a graph"));
    let budget = GraphBudget { values: 1 << 17, work: 1 << 24 };
    let described =
        ["picodet", "rtmdet"].map(|name| DetectorDescription::named(name).expect("known"));
    assert!(detector_of(&inputs[0], &described[0], 64, &budget).is_ok());
    fuzz(&inputs, |bytes| {
        for described in &described {
            if let Ok(config) = detector_of(bytes, described, 64, &budget) {
                config.check().expect("what was checked");
            }
        }
    });
}

/// What a file says about its network, before weights that fit what it said.
#[test]
fn descriptions() {
    let models = small_models();
    let texts = models
        .each_ref()
        .map(|model| serde_json::to_vec(&model.description).expect("a description"));
    let weights = models.map(|model| model.weights);
    // Larger networks than these are made before their weights are found not to fit.
    fuzz_within(512, &texts, |text| {
        let text = String::from_utf8_lossy(text).into_owned();
        for weights in &weights {
            let metadata = [("magpie".to_owned(), text.clone())].into();
            open_model(&weights.to_bytes(Precision::F16, Some(metadata)).expect("bytes"));
        }
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
fn fuzz_file(name: &str, inputs: &[Vec<u8>], parse: impl Fn(&Path)) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let a_picture = picture(24, 16).encode_png().expect("a picture");
    std::fs::write(folder.path().join("a.png"), a_picture).expect("a file");
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
        if let Ok(weights) = native_trainer::exchange::import::read_paddle(path) {
            for (name, tensor) in weights.tensors {
                assert_eq!(tensor.values.len(), tensor.shape.iter().product::<usize>(), "{name}");
            }
        }
    });
}

/// A file of PyTorch's: an archive of a pickle and of one tensor's values.
fn state_dict(name: &str, shape: [u32; 2], steps: [u8; 2]) -> Vec<u8> {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let text = |pickle: &mut Vec<u8>, text: &str| {
        pickle.push(b'X');
        pickle.extend((text.len() as u32).to_le_bytes());
        pickle.extend(text.as_bytes());
    };
    text(&mut pickle, name);
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(&mut pickle, "storage");
    pickle.extend(b"ctorch\nFloatStorage\n");
    text(&mut pickle, "0");
    text(&mut pickle, "cpu");
    pickle.extend(b"K\x06tQK\x00");
    shape.iter().for_each(|side| pickle.extend([&b"J"[..], &side.to_le_bytes()].concat()));
    pickle.extend([0x86, b'K', steps[0], b'K', steps[1]]);
    pickle.extend(b"\x86\x89ccollections\nOrderedDict\n)RtRu.");
    let values: Vec<u8> = (0..6_u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    archive(&[("a/data.pkl", &pickle), ("a/version", b"3\n"), ("a/data/0", &values)])
}

/// Files stored in a ZIP archive.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let place = bytes.len() as u32;
        let mut facts = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        facts.extend(crc32fast::hash(data).to_le_bytes());
        facts.extend((data.len() as u32).to_le_bytes().repeat(2));
        facts.extend((name.len() as u16).to_le_bytes());
        facts.extend([0; 2]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&facts);
        bytes.extend(name.as_bytes());
        bytes.extend(*data);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&facts);
        directory.extend([0; 10]);
        directory.extend(place.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (count, start) = (files.len() as u16, bytes.len() as u32);
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count.to_le_bytes().repeat(2));
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

#[test]
fn checkpoints_of_pytorch() {
    let whole = state_dict("_bn1.weight", [3, 2], [2, 1]);
    // One value, a billion times.
    let endless = state_dict("_bn1.weight", [1 << 20, 1 << 10], [0, 0]);
    let inputs = [whole.clone(), endless.clone()];
    let read = |path: &Path| read_pytorch(path, Origin::EfficientNetLite(LiteSize::Lite0));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("whole.pth");
    std::fs::write(&path, whole).expect("a file");
    let read_whole = read(&path).expect("a good file");
    assert_eq!(read_whole.tensors["backbone.head.bn.weight"].shape, [3, 2]);
    std::fs::write(&path, endless).expect("a file");
    let error = read(&path).expect_err("more than there is").to_string();
    assert!(error.contains("beyond the size of the file"), "{error}");
    fuzz_file("model.pth", &inputs, |path| {
        if let Ok(weights) = read(path) {
            for (name, tensor) in weights.tensors {
                assert_eq!(tensor.values.len(), tensor.shape.iter().product::<usize>(), "{name}");
            }
        }
    });
}

#[test]
fn checkpoints() {
    let progress =
        serde_json::to_vec(&Progress { labels: vec!["a".into()], ..Progress::default() });
    fuzz_file("latest/progress.json", &[progress.expect("JSON")], |path| {
        let folder = path.parent().expect("a folder");
        let _ = checkpoint::progress(folder);
        let _ = checkpoint::newest_whole(folder);
    });
}

#[test]
fn boxes() {
    use native_trainer::data::coco::{Part, foreground, inspect, read};
    let inputs = [
        r#"{"images":[{"id":1,"file_name":"a.png","width":24,"height":16}],"annotations":
            [{"id":1,"image_id":1,"bbox":[1,2,3.5,4],"category_id":7,"iscrowd":0,"area":14}]}"#,
        r#"{"images":[{"id":"7","file_name":"a.png","width":24.0},{"id":-1,"file_name":"images\\a.png"},
            {"id":7,"file_name":"a.png"}],"annotations":[{"id":null,"image_id":7,"bbox":[NaN,"2",3e300,4]},
            {"image_id":-1.0,"bbox":[0,-Infinity,1e39,16],"iscrowd":true},{"image_id":7,"bbox":null}],
            "categories":[{"id":"x","name":"y"},null]}"#,
        "\u{feff}{\"images\":[{\"id\":1,\"file_name\":\"a.png\",\"width\":1e9}],\"annotations\":[[]]}",
    ];
    let inputs = inputs.map(|text| text.as_bytes().to_vec());
    fuzz_file("instances.json", &inputs, |path| {
        let folder = path.parent().expect("a folder");
        if let Ok(read) = read(path, None, &|_| ()) {
            for b in read.pictures.iter().flat_map(|picture| &picture.boxes) {
                assert!(b.clip(24, 16).area() > 0.0, "{b:?} teaches nothing");
            }
            assert!(read.notes.iter().all(|note| !note.kind.is_error()), "{:?}", read.notes);
        }
        let examine = |_: &Path| Ok(String::new());
        let _ = inspect(path, Some(folder), examine, String::as_str, &|_| ());
        let part = Part { annotations: path.to_owned(), images: None, take: Some(1) };
        let out = folder.join("mixed.json");
        if let Ok(mixed) = foreground(&[part], &out, 1, &|_| ()) {
            std::fs::write(&out, mixed.bytes).expect("a file");
            read(&out, None, &|_| ()).expect("what is written can be read");
        }
    });
}

#[test]
fn boxes_of_pascal_voc() {
    use native_trainer::data::coco::{from_voc, read};
    let inputs = [
        "<annotation><filename>a.png</filename><object><name>cat</name><difficult>0</difficult>\
        <bndbox><xmin>1</xmin><ymin>3</ymin><xmax>10</xmax><ymax>4</ymax></bndbox></object>\
        <!-- &lt; --></annotation>",
        "\u{feff}<annotation><size><width>24</width><height>16</height></size><filename>a</filename>\
        <object><name>c</name><difficult>True</difficult></object><object><name>d</name><bndbox>\
        <xmin>10</xmin><ymin>nan</ymin><xmax>-1e39</xmax><ymax>4</ymax></bndbox></object><object>\
        <name>d</name><bndbox><xmin>9</xmin><ymin>8</ymin><xmax>2</xmax><ymax>1</ymax></bndbox>\
        </object></annotation>",
    ];
    let inputs = inputs.map(|text| text.as_bytes().to_vec());
    fuzz_file("Annotations/a.xml", &inputs, |path| {
        let folder = path.ancestors().nth(2).expect("the data set");
        let pictures = folder.join("JPEGImages");
        if !pictures.exists() {
            std::fs::create_dir(&pictures).expect("a folder");
            std::fs::copy(folder.join("a.png"), pictures.join("a.png")).expect("a picture");
        }
        let out = folder.join("boxes.json");
        if let Ok(converted) = from_voc(folder, &out, &|_| ()) {
            std::fs::write(&out, converted.bytes).expect("a file");
            read(&out, None, &|_| ()).expect("what is written can be read");
        }
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
