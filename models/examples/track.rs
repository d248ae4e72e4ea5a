//! Follows an object through the frames of a made-up camera: the network looks only if it has to.
//!
//! `cargo run --package magpie-nets --package magpie-train --example track`

#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::convert::Infallible;

use models::image::geometry::BBox;
use models::{RgbImage, Tracker};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What a network would be: the mean color of a crop.
    let embed = async |crops: &[RgbImage]| -> Result<Vec<Vec<f32>>, Infallible> {
        let mean = |crop: &RgbImage| {
            let pixels = crop.data().len() as f32 / 3.0;
            let channel = |c: usize| crop.data().iter().skip(c).step_by(3).map(|v| f32::from(*v));
            (0..3).map(|c| channel(c).sum::<f32>() / pixels).collect()
        };
        Ok(crops.iter().map(mean).collect())
    };
    let mut tracker = Tracker::default();
    for frame in 0..6_u8 {
        // An object of 40×40 pixels moves to the right; in frame 4 another one has taken its place.
        let shade = if frame < 4 { 200 } else { 40 };
        let image = RgbImage::from_rgb(160, 80, vec![shade; 160 * 80 * 3])?;
        let left = 10.0 + 4.0 * f32::from(frame);
        let bbox = BBox::new(left, 20.0, left + 40.0, 60.0);
        let crops = [image.crop(&bbox)];
        let Ok(embeddings) = pollster::block_on(tracker.follow(&[bbox], &crops, embed));
        println!("frame {frame}: {:?}, {} embedded", embeddings[0], tracker.embedded());
    }
    Ok(())
}
