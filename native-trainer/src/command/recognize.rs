//! `magpie recognize`: says what is in pictures, with a published bundle.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::gallery::sure;
use crate::cli::{DeviceKind, Failures};
use crate::data::store::read_picture;
use crate::publishing::opened::{Object, OpenBundle, Recognized};
use crate::terminal::counted;
use authoring::label::printable;

/// Finds and names the objects of pictures, exactly as the page does.
///
/// A picture that cannot be used is named, the others are done, and the command ends with 1.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie recognize site shelf.jpg\n\n`94 % sure` says: when the \
    gallery was calibrated, 94 of 100 such answers were right, of things whose class it has. It says nothing of other \
    things: these are held off by the threshold, and one that passes it may be called sure as well."
)]
pub struct Arguments {
    /// Published site, or its folder with manifest.json; then pictures.
    #[arg(required = true, num_args = 1.., value_names = ["SITE", "PICTURES"])]
    names: Vec<PathBuf>,
    /// The site, so that all names are pictures.
    #[arg(long, hide = true)]
    bundle: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints one JSON object per picture, embeddings included.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// A bundle or a picture that cannot be used.
    pub fn run(&self) -> anyhow::Result<()> {
        let (site, pictures) = self.places()?;
        let bundle = OpenBundle::open(site, self.device)?;
        let mut failures = Failures::new(self.json);
        for path in pictures {
            let Some(picture) = failures.take(path, read_picture(path)) else { continue };
            let recognized = bundle.recognize(&picture)?;
            if self.json {
                println!("{}", recognized.to_json(&path.display().to_string()));
                continue;
            }
            let Recognized { objects, timings } = recognized;
            println!(
                "{}: {}; {:.0} ms detect, {:.0} ms embed, {:.1} ms search",
                path.display(),
                counted(objects.len(), "object", "objects"),
                timings.detect,
                timings.embed,
                timings.search
            );
            for Object { recognition: r, labels } in &objects {
                let (b, best) = (&r.bbox, labels.first().map(String::as_str).unwrap_or_default());
                let answer = match r.matches.first() {
                    Some(m) if r.known => {
                        let label = printable(best);
                        match sure(r.probability) {
                            Some(sure) => {
                                format!("{label} ({sure}, similarity {:.2})", m.similarity)
                            }
                            None => format!("{label} ({:.2})", m.similarity),
                        }
                    }
                    Some(m) => {
                        format!("unknown (nearest: {}, {:.2})", printable(best), m.similarity)
                    }
                    None => "the gallery is empty".to_owned(),
                };
                println!("  [{:.0}, {:.0}, {:.0}, {:.0}]  {answer}", b.x1, b.y1, b.x2, b.y2);
            }
        }
        failures.end()
    }

    /// Site and pictures.
    fn places(&self) -> anyhow::Result<(&Path, &[PathBuf])> {
        if let Some(bundle) = &self.bundle {
            return Ok((bundle, &self.names));
        }
        let [site, pictures @ ..] = &self.names[..] else { bail!("which pictures? name one") };
        if site.is_file() {
            bail!(
                "{}: a file; name the published site first: magpie recognize SITE {}",
                site.display(),
                site.display()
            );
        }
        if pictures.is_empty() {
            bail!(
                "which pictures? name them behind the site: magpie recognize {} PICTURE",
                site.display()
            );
        }
        Ok((site, pictures))
    }
}
