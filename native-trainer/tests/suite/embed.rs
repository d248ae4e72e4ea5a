//! Shards of embeddings: the gallery that they make is the one of the pictures, whoever made them and however often.

use std::path::{Path, PathBuf};

use crate::world::{World, on_threads, shape, tree, with_fault};

/// Pictures of which one is in two classes, one is in a class twice, and some cannot be used; a class has none that
/// can.
fn world(each: usize) -> World {
    let world = World::new();
    world.pictures("photos", 4, each);
    world.model();
    let same = shape(0, 1, 40).encode_png().expect("a PNG");
    world.write("photos/class 1 类/same.png", &same);
    world.write("photos/class 0 类/again.png", &same);
    world.write("photos/class 2 类/broken.png", b"no picture");
    let gray = models::image::RgbImage::from_rgb(8, 8, vec![128; 192]).expect("a picture");
    world.write("photos/class 2 类/0 gray.png", gray.encode_png().expect("a PNG"));
    world.write("photos/nothing/broken.jpg", b"no picture");
    world.write("photos/notes.txt", "what this is");
    world
}

const NETWORKS: &str = "--extractor model.safetensors";

fn embed(world: &World, part: &str, out: &str, more: &str) -> String {
    let line = format!("embed --images photos --shard {part} --out {out} {NETWORKS}{more}");
    world.succeed(&line)
}

fn build(world: &World, given: &str, out: &str, more: &str) -> (String, Vec<u8>) {
    let told = world.succeed(&format!("gallery build {given} --out {out} {NETWORKS}{more}"));
    (told, std::fs::read(world.path(out)).expect("a gallery"))
}

/// What is said of pictures and the gallery, without what each command says of its way.
fn told(text: &str) -> Vec<String> {
    let is_said = |line: &&str| !line.ends_with(" pictures") && !line.contains("gallery.bin");
    let mut lines: Vec<String> = text.lines().filter(is_said).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Shards of some number, each of which lies in the file that the name tells.
fn shards(world: &World, count: usize, more: &str) -> Vec<String> {
    let name = |shard: usize| format!("{count}/{shard}.embeddings");
    on_threads(&(1..=count as u64).collect::<Vec<_>>(), |shard| {
        embed(world, &format!("{shard}/{count}"), &name(shard as usize), more);
    });
    (1..=count).map(name).collect()
}

#[test]
fn shards_in_any_number_and_order_make_the_gallery_of_the_pictures() {
    let world = world(6);
    let (alone, expected) = build(&world, "--images photos", "gallery.bin", "");
    assert!(alone.contains("left out") && alone.contains("none of its pictures"), "{alone}");
    for count in [1, 2, 3, 7] {
        let mut files = shards(&world, count, "");
        files.rotate_left(count / 2);
        files.reverse();
        let given = format!("--shards {}", files.join(" "));
        let (text, bytes) = build(&world, &given, "gallery.bin", "");
        assert!(bytes == expected, "{count} shards");
        let replaced = |line: &String| !line.contains("another gallery was there");
        let text: Vec<String> = told(&text).into_iter().filter(replaced).collect();
        assert_eq!(text, told(&alone), "{count} shards");
    }
    // A folder stands for its files, one that was only begun apart.
    world.write("7/8.embeddings.begun", b"");
    let (_, bytes) = build(&world, "--shards 7", "gallery.bin", " --values i8 --index binary");
    let (_, expected) =
        build(&world, "--images photos", "gallery.bin", " --values i8 --index binary");
    assert!(bytes == expected, "other values, another index");
    let (_, bytes) = build(&world, "--shards 7", "gallery.bin", " --crop never");
    let (_, expected) = build(&world, "--images photos", "gallery.bin", " --crop never");
    assert!(bytes == expected, "a part that need not be measured");
    let told =
        world.fail(&format!("gallery build --shards 7 --out strict.bin {NETWORKS} --strict"));
    assert!(told.contains("photos/class 2 类/0 gray.png"), "{told}");
}

#[test]
fn shards_of_main_bodies_make_the_gallery_of_the_pictures() {
    let world = world(4);
    world.detector();
    for more in [" --detector detector.safetensors", " --detector detector.safetensors --crop both"]
    {
        std::fs::remove_dir_all(world.path("3")).ok();
        shards(&world, 3, more);
        let (_, expected) = build(&world, "--images photos", "gallery.bin", more);
        let (_, bytes) = build(&world, "--shards 3", "gallery.bin", more);
        assert!(bytes == expected, "{more}");
    }
    // What was chosen is in the shards.
    let (_, expected) = build(&world, "--shards 3", "gallery.bin", "");
    let (_, bytes) = build(
        &world,
        "--images photos",
        "gallery.bin",
        " --crop both --detector detector.safetensors",
    );
    assert!(bytes == expected);
    let told =
        world.fail(&format!("gallery build --shards 3 --out gallery.bin {NETWORKS} --crop middle"));
    assert!(told.contains("do not hold what --crop middle needs"), "{told}");
}

#[test]
fn the_list_may_lie_elsewhere_on_each_machine() {
    let world = world(4);
    let list: String = (0..4)
        .flat_map(|class| {
            (0..4).map(move |number| format!("class {class} 类/{number}.png\tclass {class}\n"))
        })
        .collect();
    world.write("photos/list.txt", &list);
    let line = |images: &str, part: &str| {
        format!("embed --images {images} --shard {part} --out lists/{} {NETWORKS}", &part[..1])
    };
    world.succeed(&line("photos/list.txt", "1/2"));
    // Another machine has the folder at another place.
    std::fs::rename(world.path("photos"), world.path("moved")).expect("a name");
    world.succeed(&line("moved/list.txt", "2/2"));
    let (_, bytes) = build(&world, "--shards lists", "gallery.bin", "");
    let (_, expected) = build(&world, "--images moved/list.txt", "gallery.bin", "");
    assert!(bytes == expected);
}

/// All that a command does to files, and where each is killed.
fn operations(world: &World, words: &[String]) -> u64 {
    let output = with_fault(&world.path(""), "count", words);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    told.lines().filter(|line| line.starts_with("MAGPIE_FAULT ")).count() as u64
}

#[test]
fn a_shard_that_was_killed_goes_on_to_the_same_bytes() {
    // 26 photographs and more: two pieces.
    let world = world(10);
    let words = |out: &str| -> Vec<String> {
        let line = format!("embed --images photos --shard 1/2 --out {out} {NETWORKS}");
        line.split(' ').map(str::to_owned).collect()
    };
    let count = operations(&world, &words("whole/1"));
    let expected = std::fs::read(world.path("whole/1")).expect("a shard");
    assert!(count > 5, "{count}");
    on_threads(&(0..count).collect::<Vec<_>>(), |number| {
        for fault in ["kill", "full"] {
            let out = format!("{fault}{number}/1");
            let output = with_fault(&world.path(""), &format!("{fault}:{number}"), &words(&out));
            if output.status.success() {
                // Only what comes behind the renaming can be lost without a word.
                assert_eq!(std::fs::read(world.path(&out)).expect("a shard"), expected);
                continue;
            }
            let text = embed(&world, "1/2", &out, "");
            assert!(std::fs::read(world.path(&out)).expect("a shard") == expected, "{out}: {text}");
            let names: Vec<String> =
                tree(&world.path(&format!("{fault}{number}"))).into_keys().collect();
            let begun = |name: &String| Path::new(name).extension().is_some_and(|e| e == "begun");
            assert!(!names.iter().any(begun), "{names:?}");
        }
    });
    // What was embedded is not embedded again, and a tail that is no piece counts for nothing.
    let half = &expected[..expected.len() - 300];
    world.write("half/1.begun", half);
    let text = embed(&world, "1/2", "half/1", "");
    assert!(text.contains("goes on behind 16 of "), "{text}");
    assert!(std::fs::read(world.path("half/1")).expect("a shard") == expected);
    let mut torn = half.to_vec();
    let at = torn.len() - 200;
    torn[at..].fill(0);
    world.write("torn/1.begun", &torn);
    embed(&world, "1/2", "torn/1", "");
    assert!(std::fs::read(world.path("torn/1")).expect("a shard") == expected);
    // What was begun of another shard is not thrown away, nor is a whole shard that is called like one.
    let line = |part: &str, out: &str| {
        format!("embed --images photos --shard {part} --out {out} {NETWORKS}")
    };
    world.write("other/2.begun", half);
    let text = world.fail(&line("2/2", "other/2"));
    assert!(
        text.contains("was begun for shard 1/2; take it away, or choose another name"),
        "{text}"
    );
    assert!(std::fs::read(world.path("other/2.begun")).expect("it stays") == half);
    let text = world.fail(&line("2/2", "other/3.begun"));
    assert!(text.contains("choose a name without .begun"), "{text}");
    embed(&world, "2/2", "other/4", "");
    build(&world, "--shards half/1 other/4", "gallery.bin", "");
}

#[test]
fn a_whole_shard_is_left_alone_and_another_file_is_not_replaced() {
    let world = world(2);
    embed(&world, "1/2", "1", "");
    let changed = |path: &Path| path.metadata().and_then(|there| there.modified()).expect("a time");
    let before = changed(&world.path("1"));
    let text = embed(&world, "1/2", "1", "");
    assert!(text.contains("1: shard 1/2 is complete already"), "{text}");
    assert_eq!(changed(&world.path("1")), before);
    let line = |part: &str, out: &str, more: &str| {
        format!("embed --images photos --shard {part} --out {out} {NETWORKS}{more}")
    };
    for (part, more, told) in [
        ("2/2", "", "1: is shard 1/2; take it away, or choose another name"),
        ("1/3", "", "1: is a shard of another number of shards; take it away"),
        ("1/2", " --crop never", "1: is a shard of another --crop; take it away"),
    ] {
        let text = world.fail(&line(part, "1", more));
        assert!(text.contains(told), "{part}{more}: {text}");
    }
    world.write("notes", "mine");
    let text = world.fail(&line("1/2", "notes", ""));
    assert!(text.contains("notes: is there already and is no embedding shard"), "{text}");
    // A damaged one is made again.
    let whole = std::fs::read(world.path("1")).expect("a shard");
    world.write("1", &whole[..whole.len() - 1]);
    let text = embed(&world, "1/2", "1", "");
    assert!(text.contains("1: is cut off: it is made anew"), "{text}");
    assert!(std::fs::read(world.path("1")).expect("a shard") == whole);
}

#[test]
fn what_is_missing_twice_foreign_or_damaged_is_named_with_what_to_run_again() {
    let world = world(2);
    for part in ["1/3", "2/3", "3/3"] {
        embed(&world, part, &part[..1], "");
    }
    let refused = |given: &str| {
        let text =
            world.fail(&format!("gallery build --shards {given} --out gallery.bin {NETWORKS}"));
        assert!(!world.path("gallery.bin").exists());
        text
    };
    let again = "make it by `magpie embed --images photos --extractor model.safetensors --shard";
    let text = refused("1 3");
    assert!(text.contains("shard 2/3 is missing"), "{text}");
    assert!(text.contains(&format!("{again} 2/3 --out FILE`")), "{text}");
    // One that is only begun is told as that.
    let begun = std::fs::read(world.path("2")).expect("a shard");
    for (name, from) in [("some/1", "1"), ("some/3", "3")] {
        world.write(name, std::fs::read(world.path(from)).expect("a shard"));
    }
    world.write("some/2.begun", &begun[..begun.len() / 2]);
    let text = refused("some");
    assert!(text.contains("embedding shard 2/3 is only begun (some/2.begun)"), "{text}");
    world.write("none/2.begun", &begun[..begun.len() / 2]);
    let text = refused("none");
    assert!(text.contains("embedding shard 2 is only begun (none/2.begun)"), "{text}");
    assert!(text.contains("give the commands again that have begun them"), "{text}");
    let text = refused("3");
    assert!(
        text.contains("shard 1/3, 2/3 are missing") || text.contains("1/3 and 2/3 are missing"),
        "{text}"
    );
    std::fs::copy(world.path("2"), world.path("twice")).expect("a copy");
    let text = refused("1 2 twice 3");
    assert!(text.contains("2 and twice are both shard 2/3; leave one out"), "{text}");

    let whole = std::fs::read(world.path("2")).expect("a shard");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (bytes, told) in [
        (&flipped[..], "damaged: is damaged"),
        (&whole[..middle], "damaged: is cut off"),
        (b"something else, and not a shard", "damaged: is no embedding shard"),
        (b"magpie embedding shard 9\n", "damaged: is an embedding shard of another version"),
        (b"MAGPIEGL and so on", "damaged: is a gallery and no embedding shard"),
    ] {
        world.write("damaged", bytes);
        let text = refused("1 damaged 3");
        assert!(text.contains(told), "{told}: {text}");
        assert!(text.contains(&format!("{again} 2/3 --out FILE`")), "{told}: {text}");
    }
    let text = refused("1 gone 3");
    assert!(text.contains("gone") && text.contains("shard 2/3 is missing"), "{text}");

    // Foreign ones: other options, another extractor, another list.
    embed(&world, "2/3", "options", " --crop never");
    let text = refused("1 options 3");
    assert!(text.contains("options: is of another --crop than 1"), "{text}");
    let mut other = std::fs::read(world.path("model.safetensors")).expect("a model");
    let last = other.len() - 3;
    other[last] ^= 1;
    world.write("other.safetensors", other);
    let foreign: PathBuf = world.path("extractor");
    world
        .succeed("embed --images photos --shard 2/3 --out extractor --extractor other.safetensors");
    assert!(foreign.exists());
    let text = refused("1 extractor 3");
    assert!(text.contains("extractor: is of another extractor than 1"), "{text}");
    let text =
        world.fail("gallery build --shards 1 2 3 --out gallery.bin --extractor other.safetensors");
    assert!(text.contains("the shards are of another extractor than other.safetensors"), "{text}");
    std::fs::remove_file(world.path("photos/class 0 类/0.png")).expect("it goes");
    embed(&world, "2/3", "list", "");
    let text = refused("1 list 3");
    assert!(text.contains("list: is of another list than 1"), "{text}");
}

#[cfg(unix)]
#[test]
fn what_the_system_does_not_give_now_is_no_bad_picture() {
    let world = world(2);
    embed(&world, "1/1", "whole", "");
    let whole = std::fs::read(world.path("whole")).expect("a shard");
    let mut failures = 0;
    for handles in 6..20 {
        let out = format!("{handles}/1");
        let line = format!("embed --images photos --shard 1/1 --out {out} {NETWORKS}");
        let output = std::process::Command::new("sh")
            .args([
                "-c",
                &format!("ulimit -n {handles}; exec \"$0\" {line}"),
                env!("CARGO_BIN_EXE_magpie"),
            ])
            .current_dir(world.path(""))
            .output()
            .expect("a shell");
        if !output.status.success() {
            failures += 1;
            assert!(!world.path(&out).exists(), "{handles}: a shard without its pictures");
            embed(&world, "1/1", &out, "");
        }
        assert!(std::fs::read(world.path(&out)).expect("a shard") == whole, "{handles}");
    }
    assert!(failures > 0, "there was no want of handles");
}

/// A picture that is another one under its name is embedded anew, and nothing else is.
#[test]
fn a_picture_that_was_replaced_is_noticed() {
    let world = world(6);
    let read = |name: &str| std::fs::read(world.path(name)).expect("a shard");
    embed(&world, "1/1", "one", "");
    let before = read("one");
    let text = embed(&world, "1/1", "one", "");
    assert!(text.contains("shard 1/1 is complete already"), "{text}");
    world.write("photos/class 3 类/2.png", shape(1, 7, 40).encode_png().expect("a PNG"));
    // What was begun before goes on in front of it.
    world.write("begun.begun", &before[..before.len() - 100]);
    let text = embed(&world, "1/1", "one", "");
    assert!(text.contains("one: 1 picture has changed since, photos/class 3 类/2.png"), "{text}");
    assert!(text.contains("goes on behind 16 of "), "{text}");
    embed(&world, "1/1", "begun", "");
    embed(&world, "1/1", "fresh", "");
    let fresh = read("fresh");
    assert!(fresh != before && read("one") == fresh && read("begun") == fresh);
    assert!(!world.path("one.begun").exists());
    // One that could not be used and can be now.
    world.write("photos/class 2 类/broken.png", shape(2, 9, 40).encode_png().expect("a PNG"));
    let text = embed(&world, "1/1", "one", "");
    assert!(text.contains("1 picture has changed since, photos/class 2 类/broken.png"), "{text}");
    embed(&world, "1/1", "last", "");
    assert!(read("one") == read("last") && read("one") != fresh);

    // A picture that shards of one list saw differently.
    world.write("twice.png", shape(0, 3, 40).encode_png().expect("a PNG"));
    world.write("list.txt", "twice.png\tone\ntwice.png\tother\n");
    let part = |part: &str| {
        let line = format!("embed --images list.txt --shard {part}/2 --out list/{part} {NETWORKS}");
        world.succeed(&line)
    };
    part("1");
    world.write("twice.png", shape(1, 3, 40).encode_png().expect("a PNG"));
    part("2");
    let line = format!("gallery build --shards list --out gallery.bin {NETWORKS}");
    let text = world.fail(&line);
    assert!(text.contains("twice.png was another picture for list/1 than for list/2"), "{text}");
    part("1");
    world.succeed(&line);
}

/// A file of this program in another's place is told as what it is.
#[test]
fn files_of_magpie_are_told_as_what_they_are() {
    let world = world(2);
    embed(&world, "1/1", "one", "");
    build(&world, "--shards one", "gallery.bin", "");
    world.write("pic.png", shape(0, 3, 40).encode_png().expect("a PNG"));
    let model = "give a model file, as";
    for (line, told) in [
        ("gallery build --images photos --out x --extractor gallery.bin", "is a gallery; "),
        ("gallery build --images photos --out x --extractor one", "is an embedding shard; "),
        ("detect --detector gallery.bin pic.png", "is a gallery; "),
    ] {
        let text = world.fail(line);
        assert!(text.contains(told) && text.contains(model), "{line}: {text}");
    }
    for (line, told) in [
        ("gallery list model.safetensors", "model.safetensors: is a model file; give a gallery"),
        ("gallery list one", "one: is an embedding shard; give a gallery"),
        (
            "gallery build --shards model.safetensors --out x --extractor model.safetensors",
            "is a model file and no embedding shard",
        ),
        ("gallery build --images gallery.bin --out x", "this is a gallery, and no text"),
        ("train -c gallery.bin --out run", "this is a gallery, and no text"),
        ("import gallery.bin --out x", "gallery.bin: is a gallery, in which no network is"),
        ("import one --out x", "one: is an embedding shard, in which no network is"),
        (
            "embed --images photos --shard 1/1 --out gallery.bin --extractor model.safetensors",
            "gallery.bin: is a gallery and no embedding shard; choose another name",
        ),
    ] {
        let text = world.fail(line);
        assert!(text.contains(told), "{line}: {text}");
    }
}
