//! `magpie scene` on photographs, end to end.

use models::image::RgbImage;
use serde_json::Value;

use crate::world::World;

/// A disk of a color before paper.
fn disk(color: [u8; 3]) -> Vec<u8> {
    let pixel = |at: i32| {
        let inside = (at % 80 - 40).pow(2) + (at / 80 - 40).pow(2) < 900;
        if inside { color } else { [235, 235, 230] }
    };
    RgbImage::from_rgb(80, 80, (0..80 * 80).flat_map(pixel).collect())
        .expect("made here")
        .encode_png()
        .expect("made here")
}

fn world() -> World {
    let world = World::new();
    world.write("things/red/1.png", disk([220, 20, 20]));
    world.write("things/blue/1.png", disk([20, 20, 220]));
    // The left half of the wall is green, its right half black.
    let wall = (0..120 * 60).flat_map(|at| if at % 120 < 60 { [40, 120, 40] } else { [0; 3] });
    let wall = RgbImage::from_rgb(120, 60, wall.collect()).expect("made here");
    world.write("wall.png", wall.encode_png().expect("made here"));
    world.write("walls.txt", "wall.png\t0 0 0.5 1\n");
    world
}

fn read(world: &World, name: &str) -> Vec<u8> {
    std::fs::read(world.path(name)).expect("made here")
}

#[test]
fn things_are_cut_from_their_paper_and_lie_on_the_named_part_of_a_photograph() {
    let world = world();
    let line = "scene --cutouts things --cut --backgrounds walls.txt --min-things 1 --max-things 2 \
                --thing-size 0.3 0.4 --rotation 15 --size 96 --count 6 --out scenes";
    world.succeed(line);
    let mut most = 0;
    for number in 1..=6 {
        let objects: Value =
            serde_json::from_slice(&read(&world, &format!("scenes/{number}.json")))
                .expect("made here");
        let objects = objects.as_array().expect("made here");
        most = most.max(objects.len());
        assert!((1..=2).contains(&objects.len()), "{objects:?}");
        let picture =
            RgbImage::decode(&read(&world, &format!("scenes/{number}.jpg"))).expect("made here");
        let pixels = picture.data().chunks_exact(3);
        assert!(
            pixels.clone().all(|pixel| pixel[0].min(pixel[1]).min(pixel[2]) < 150),
            "paper is left"
        );
        assert!(
            pixels.clone().all(|pixel| pixel.iter().any(|value| *value > 30)),
            "the other half of the wall"
        );
        for object in objects {
            let side = |i: usize| object["bbox"][i].as_f64().expect("made here");
            let (x, y) = ((side(0) + side(2)) as usize / 2, (side(1) + side(3)) as usize / 2);
            let pixel = &picture.data()[(y * 96 + x) * 3..][..3];
            let expected = if pixel[0] > pixel[2] { "red" } else { "blue" };
            assert_eq!(object["label"], expected, "{pixel:?}");
        }
    }
    assert_eq!(most, 2);
    let before = read(&world, "scenes/1.jpg");
    let error = world.fail(line);
    assert!(
        error.contains("scenes/1.jpg: is there already; choose another place, or give --overwrite"),
        "{error}"
    );
    world.succeed(&format!("{line} --overwrite"));
    assert_eq!(before, read(&world, "scenes/1.jpg"), "the same seed gives the same pictures");
}

#[test]
fn pictures_of_single_things_are_a_list_that_a_gallery_is_built_from() {
    let world = world();
    world.succeed("scene --cutouts things --cut --each 2 --size 64 --out views");
    let list = String::from_utf8(read(&world, "views/list.txt")).expect("made here");
    assert_eq!(list, "1.jpg\\tblue\n2.jpg\\tblue\n3.jpg\\tred\n4.jpg\\tred\n".replace("\\t", "\t"));
    let checked = world.succeed("data check views/list.txt");
    assert!(checked.contains("4 pictures"), "{checked}");
}

#[test]
fn a_part_that_is_none_is_named_with_its_line() {
    let world = world();
    world.write("walls.txt", "wall.png\nwall.png\t0.5 0 0.2 1\n");
    let error = world.fail("scene --cutouts things --backgrounds walls.txt --out scenes");
    assert!(error.contains("walls.txt:2: `0.5 0 0.2 1` is no part of a photograph"), "{error}");
    let error = world.fail("scene --cutouts things --thing-size 0.5 0.2 --out scenes");
    assert!(
        error.contains("--thing-size [0.5, 0.2]: two shares, the smaller one first"),
        "{error}"
    );
}

#[test]
fn numbers_that_cannot_be_are_refused_and_nothing_is_written() {
    let world = world();
    for (words, told) in [
        ("--count 0", "a count is a number from 1"),
        ("--each 0", "a count is a number from 1"),
        ("--max-things 0", "a count is a number from 1"),
        ("--rotation nan", "a rotation is a number from 0 to 180"),
        ("--rotation -5", "unexpected argument"),
        ("--thing-size nan nan", "two shares, the smaller one first"),
        ("--min-things 4 --max-things 2", "--min-things 4: is more than --max-things 2"),
        ("--min-things 3 --max-things 3", "--min-things 3: things holds 2 cut-outs, and all"),
        ("--count 1000001", "1000001 pictures are too many"),
    ] {
        let output = world.magpie(&format!("scene --cutouts things --out scenes {words}"));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(told), "{words}: {error}");
        assert!(!world.path("scenes").exists(), "{words}");
    }
}

#[test]
fn what_others_made_is_not_replaced() {
    let world = world();
    world.model();
    world.detector();
    let kept = |line: &str, name: &str, told: &str| {
        let before = read(&world, name);
        let error = world.fail(line);
        assert!(error.contains(told), "{line}: {error}");
        assert_eq!(read(&world, name), before, "{line}");
    };
    world.write("views/list.txt", "mine");
    kept(
        "scene --cutouts things --each 1 --out views",
        "views/list.txt",
        "list.txt: is there already",
    );
    world.write("found/wall-1.jpg", "mine");
    kept(
        "detect --detector detector.safetensors --crops found wall.png",
        "found/wall-1.jpg",
        "wall-1.jpg: is there already; choose another place, or give --overwrite",
    );
    world.succeed("detect --detector detector.safetensors --crops found --overwrite wall.png");
    world.write("rows.tsv", "mine");
    kept(
        "extract --extractor model.safetensors --images things --out rows.safetensors",
        "rows.tsv",
        "rows.tsv: would be replaced by the names for rows.safetensors, and no extraction wrote it",
    );
    let build = "gallery build --images things --extractor model.safetensors --out";
    kept(
        &format!("{build} walls.txt"),
        "walls.txt",
        "walls.txt: is there already and is no gallery",
    );
    world.succeed(&format!("{build} gallery.bin"));
    world.succeed(&format!("{build} gallery.bin"));
    for line in [
        "gallery merge gallery.bin gallery.bin --out walls.txt",
        "gallery compact gallery.bin --out walls.txt",
    ] {
        kept(line, "walls.txt", "walls.txt: is there already and is no gallery");
    }
    world.write("cub/images.txt", "1 001.A/a.jpg\n2 101.B/b.jpg\n");
    world.write("cub/image_class_labels.txt", "1 1\n2 101\n");
    world.write("cub/test_list.txt", "mine");
    kept("data cub cub", "cub/test_list.txt", "test_list.txt: is there already");
    world.succeed("data cub cub --overwrite");
    world.succeed("data cub cub");
    kept(
        "detect --detector none wall.png",
        "wall.png",
        "--detector none: nothing is found without",
    );
}
