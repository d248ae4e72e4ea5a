//! Builds a gallery of colors, searches it and saves it as `colors.bin`.
//!
//! `cargo run --package magpie-nets --package magpie-train --example build_gallery`

#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use models::{Class, Gallery, Question};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A color stands for what an extractor makes of an image: the direction is what counts.
    let mut gallery = Gallery::new(3, "colors");
    for (label, shades) in [
        ("red", [[1.0, 0.1, 0.1], [0.8, 0.0, 0.1]]),
        ("yellow", [[1.0, 0.9, 0.1], [0.9, 1.0, 0.2]]),
        ("blue", [[0.1, 0.2, 1.0], [0.0, 0.4, 0.9]]),
    ] {
        let class = Class { label: label.to_owned(), ..Class::default() };
        let class = gallery.add_class(class, Vec::new());
        shades.iter().try_for_each(|shade| gallery.add(class, shade))?;
    }
    std::fs::write("colors.bin", gallery.to_bytes())?;

    let gallery = Gallery::from_bytes(&std::fs::read("colors.bin")?)?;
    let orange = [1.0, 0.6, 0.1];
    for found in gallery.search(&orange, 2)? {
        println!("{}: {:.2}", gallery.classes()[found.class].label, found.similarity);
    }
    let is_short = |class: &Class| class.label.len() < 5;
    let question = Question { classes: Some(&is_short), ..Question::best(1) };
    let found = gallery.search_with(&orange, &question)?;
    println!("of short names: {}", gallery.classes()[found[0].class].label);
    Ok(())
}
