//! CLIP's tower of texts: it computes what the original does, and names of classes become entries.

use burn::tensor::Device;
use models::gallery::Gallery;
use native_trainer::exchange::import::read_network;
use native_trainer::text::{TextParts, TextTower, TowerError};
use serde_json::Value;

use crate::networks::{assert_near, checkpoint, floats, folder, images, loaded, recorded, values};
use crate::world::{World, shape};

/// A recorded CLIP in a file, with its tokenizer and its configuration beside it.
fn clip(world: &World) -> Value {
    let recorded = recorded("clip");
    checkpoint(world, &recorded);
    world.write("config.json", recorded["config"].to_string());
    std::fs::copy(folder().join("merges.txt"), world.path("merges.txt")).expect("a copy");
    recorded
}

fn opened(world: &World) -> Gallery {
    let bytes = std::fs::read(world.path("gallery.bin")).expect("a gallery");
    Gallery::from_bytes(&bytes).expect("a gallery")
}

#[test]
fn texts_have_the_tokens_and_the_embeddings_of_the_original() {
    let world = World::new();
    let recorded = clip(&world);
    let imported = read_network(&world.path("model.safetensors"), None).expect("a network");
    let parts = imported.text.expect("a tower of texts");
    let tokenizer = parts.tokenizer.clone();
    let tower = parts.tower().expect("a tower");
    assert_eq!(assert_texts(&tower, &recorded), 16);
    for text in recorded["texts"].as_array().expect("texts") {
        let written = text[0].as_str().expect("a text");
        let (tokens, is_cut) = tokenizer.tokens(written, 77);
        let tokens: Vec<f32> = tokens.into_iter().map(|token| token as f32).collect();
        assert_eq!(tokens, floats(&text[1]), "{written}");
        assert_eq!(is_cut, written.starts_with("photo") || written.starts_with("motor"));
    }
}

/// How many texts are recorded, whose embeddings are the original's.
fn assert_texts(tower: &TextTower, recorded: &Value) -> usize {
    let texts = recorded["texts"].as_array().expect("texts");
    for text in texts {
        let written = text[0].as_str().expect("a text");
        let mut expected = floats(&text[2]);
        let length = expected.iter().map(|value| value * value).sum::<f32>().sqrt();
        expected.iter_mut().for_each(|value| *value /= length);
        assert_near(written, &tower.embed(written).values, &expected, 1e-4);
    }
    texts.len()
}

#[test]
fn both_towers_of_open_clip_compute_as_recorded() {
    let device = Device::flex();
    for name in ["open_clip", "open_clip_both_ways"] {
        let world = World::new();
        let recorded = recorded(name);
        let path = checkpoint(&world, &recorded);
        std::fs::copy(folder().join("merges.txt"), world.path("merges.txt")).expect("a copy");
        world.write("open_clip_config.json", recorded["config"].to_string());
        let imported = read_network(&path, None).expect("a network");
        let got = values(loaded(&imported, &device).forward(images(32, 1, &device)).raw_embedding);
        assert_near(name, &got, &floats(&recorded["features"]), 1e-4);
        let parts = imported.text.expect("a tower of texts");
        assert_eq!(parts.is_causal, name == "open_clip");
        assert_eq!(assert_texts(&parts.tower().expect("a tower"), &recorded), 4);
        // What the file of another program does not tell is not guessed.
        std::fs::remove_file(world.path("open_clip_config.json")).expect("removed");
        let imported = read_network(&path, None).expect("a network");
        assert_eq!(imported.text.is_some(), name == "open_clip");
        let silent = imported.seen.iter().any(|seen| seen.contains("open_clip_config.json says"));
        assert_eq!(silent, name != "open_clip");
    }
}

#[test]
fn names_become_entries_that_pictures_may_lie_beside() {
    let world = World::new();
    clip(&world);
    let said = world.succeed("import model.safetensors --out clip.safetensors");
    assert!(said.contains("clip.words.safetensors: "), "{said}");
    assert!(said.contains("the tower of texts, for `magpie gallery words`"), "{said}");

    world.write("classes.txt", "cat\n\n  motorcycle \ncat\nKa\u{308}fig\n");
    let words = "gallery words classes.txt --extractor clip.safetensors";
    let said = world.succeed(words);
    assert!(said.contains("names of 3 classes added, 0 there already"), "{said}");
    assert!(said.contains("threshold 0.2, which is not measured"), "{said}");
    assert_eq!(opened(&world).min_similarity(), Some(0.2));
    let listed = world.succeed("gallery list gallery.bin");
    assert!(listed.contains("0.2") && !listed.contains("measured with"), "{listed}");
    let said = world.succeed(words);
    assert!(said.contains("names of 0 classes added, 3 there already"), "{said}");

    // Another text of the same class is another entry; a picture of it, too.
    let said = world.succeed(&format!("{words} --template photo:{{}} --template a:{{}}"));
    assert!(said.contains("names of 3 classes added"), "{said}");
    assert!(said.contains("a class with pictures wins over one of its name alone"), "{said}");
    world.write("cat.png", shape(0, 1, 40).encode_png().expect("a PNG"));
    world.succeed(
        "gallery add gallery.bin --class cat --extractor clip.safetensors --adapt never cat.png",
    );
    let gallery = opened(&world);
    assert_eq!((gallery.classes().len(), gallery.len()), (3, 7));
    assert_eq!(gallery.min_similarity(), Some(0.2), "what is not measured stays");
    let bytes = std::fs::read(world.path("clip.words.safetensors")).expect("a file");
    let (parts, _) = TextParts::from_bytes(&bytes).expect("a tower");
    let tower = parts.tower().expect("a tower");
    let nearest = gallery.search(&tower.embed("k\u{e4}fig").values, 1).expect("an answer");
    assert_eq!(gallery.classes()[nearest[0].class].label, "K\u{e4}fig");
    assert!(nearest[0].similarity > 0.999, "{nearest:?}");
    // The entry of several templates is the mean of all.
    let both: Vec<f32> =
        std::iter::zip(tower.embed("photo:motorcycle").values, tower.embed("a:motorcycle").values)
            .map(|(a, b)| a + b)
            .collect();
    let nearest = gallery.search(&both, 1).expect("an answer");
    assert_eq!(gallery.classes()[nearest[0].class].label, "motorcycle");
    assert!(nearest[0].similarity > 0.999, "{nearest:?}");
    // A picture is answered by a gallery of names.
    let said = world.succeed("gallery search gallery.bin cat.png --extractor clip.safetensors");
    assert!(said.contains("cat"), "{said}");
}

#[test]
fn what_stands_in_the_way_of_words_is_said() {
    let world = World::new();
    clip(&world);
    world.succeed("import model.safetensors --out clip.safetensors");
    world.write("classes.txt", "cat\n");
    let words = "gallery words classes.txt --extractor clip.safetensors";
    let error = world.fail(&format!("{words} --template photo"));
    assert!(error.contains("write {} where the name of the class belongs"), "{error}");
    let long = format!("{}\n{}\n", "cat ".repeat(90), "dog ".repeat(90));
    world.write("long.txt", &long);
    let output = world.magpie("gallery words long.txt --extractor clip.safetensors --out long.bin");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("and 1 more: what is behind 77 tokens has no part"), "{said}");
    assert_eq!(said.matches("77 tokens").count(), 1, "{said}");
    world.write("nothing.txt", " \n\n");
    world.write("steering.txt", "cat\nca\u{202e}t\n");
    let error = world.fail("gallery words steering.txt --extractor clip.safetensors --out s.bin");
    assert!(error.contains("steering.txt:2: ") && error.contains("U+202E"), "{error}");
    world.write("endless.txt", "cat".repeat(2000));
    let error = world.fail("gallery words endless.txt --extractor clip.safetensors --out s.bin");
    assert!(error.contains("endless.txt:1: a name has 4096 bytes at most"), "{error}");
    let error = world.fail("gallery words nothing.txt --extractor clip.safetensors");
    assert!(error.contains("nothing.txt: holds no name"), "{error}");

    // Of another model, or none at all.
    let bytes = std::fs::read(world.path("clip.words.safetensors")).expect("a file");
    let (parts, _) = TextParts::from_bytes(&bytes).expect("a tower");
    let other = parts.to_bytes("0123456789abcdef").expect("bytes");
    world.write("clip.words.safetensors", &other);
    let error = world.fail(words);
    assert!(error.contains("belongs to another model than clip.safetensors"), "{error}");
    world.succeed(&format!("{words} --words clip.words.safetensors"));
    world.write("clip.words.safetensors", &other[..other.len() - 9]);
    let error = world.fail(words);
    assert!(error.contains("no tower of texts"), "{error}");
    std::fs::remove_file(world.path("clip.words.safetensors")).expect("removed");
    let error = world.fail(words);
    assert!(error.contains("clip.words.safetensors: there is no tower of texts"), "{error}");
    let newer = String::from_utf8_lossy(&other).into_owned();
    assert!(newer.contains(r#"\"format\":1"#));

    // Without a tokenizer the tower of images is taken over alone.
    std::fs::remove_file(world.path("merges.txt")).expect("removed");
    let said = world.succeed("import model.safetensors --out alone.safetensors");
    assert!(said.contains("tensors) is not used: its words are split by tokenizer.json"), "{said}");
    assert!(!world.path("alone.words.safetensors").exists());
}

#[test]
fn a_tower_of_a_newer_program_or_of_other_shapes_is_refused() {
    let world = World::new();
    clip(&world);
    let imported = read_network(&world.path("model.safetensors"), None).expect("a network");
    let parts = imported.text.expect("a tower of texts");
    let bytes = parts.to_bytes("0123456789abcdef").expect("bytes");
    let key = br#"\"format\":1"#;
    let at = bytes.windows(key.len()).position(|part| part == key).expect("a number");
    let mut newer = bytes;
    newer[at + key.len() - 1] = b'7';
    let error = TextParts::from_bytes(&newer).unwrap_err();
    assert!(matches!(error, TowerError::Format { got: 7 }), "{error}");

    let mut wrong = parts.clone();
    wrong.heads = 7;
    let error = wrong.tower().unwrap_err();
    assert!(error.to_string().contains("64 channels have no 7 equal heads"), "{error}");
    let mut wrong = parts.clone();
    wrong.tensors.remove("text_model.encoder.layers.1.mlp.fc2.bias");
    let error = wrong.tower().unwrap_err();
    assert!(matches!(&error, TowerError::Missing { wanted, .. } if *wanted == [64]), "{error}");
    let mut wrong = parts;
    let extra = wrong.tensors["text_projection.weight"].clone();
    wrong.tensors.insert("text_model.extra".to_owned(), extra);
    let error = wrong.tower().unwrap_err();
    assert!(error.to_string().contains("text_model.extra is no part of one"), "{error}");
}
