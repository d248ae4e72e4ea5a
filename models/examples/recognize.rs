//! Names what is in an image, by the files of a published site.
//!
//! Run it beside a folder `site` (of `magpie publish`) and an image `shelf.jpg`:
//! `cargo run --package magpie-nets --package magpie-train --example recognize`.

#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use models::{Bundle, Device, Manifest, RgbImage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let read = |name: &str| std::fs::read(format!("site/bundle/{name}"));
    let manifest = Manifest::from_bytes(&read("manifest.json")?)?;
    let recognizer = Bundle::open(&manifest, |name| read(name).ok(), &Device::flex())?;
    let image = RgbImage::decode(&std::fs::read("shelf.jpg")?)?;
    let (objects, _) = pollster::block_on(recognizer.recognize(&image, || 0.0))?;
    for object in objects.iter().filter(|object| object.known) {
        let class = object.matches[0].class;
        println!("{:?}: {}", object.bbox, recognizer.gallery().classes()[class].label);
    }
    Ok(())
}
