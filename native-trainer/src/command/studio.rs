//! `magpie studio`: the studio as a site of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::bail;
use authoring::bundled::{self, Models};
use clap::Args;
use models::gallery::{Gallery, VectorType};
use models::model_file::Architecture;

use super::publish::{check_place, page_files, write};
use crate::cli::{open_detector_file, open_extractor_file, read, size};
use crate::networks;
use crate::page::Page;
use crate::publishing::draft::Draft;
use crate::publishing::names::{PAGE, PEERS_FRAME, STUDIO_PAGE};
use crate::publishing::site::Site;

/// What makes the built page one with a studio.
const NEEDED: [&str; 3] = ["studio/index.html", "studio/studio.js", "worker-author.js"];
/// Leads whoever opens the site to the studio. It needs nothing, so it may do nothing.
const DOOR: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; base-uri 'none'; form-action 'none'\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n\
    <meta http-equiv=\"refresh\" content=\"0; url=studio/\">\n<title>Magpie: studio</title>\n</head>\n\
    <body><a href=\"studio/\">Studio</a></body>\n</html>\n";
const TITLE: &str = "Magpie: studio";

/// Writes the studio as a site of its own: a page in which photographs become a recognizer, without a gallery.
///
/// Nothing that is done in it leaves the browser. Every published site has one in its folder studio/, too.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie studio --out studio\n  magpie serve studio")]
pub struct Arguments {
    /// Folder to write: a new or empty one, or a studio that magpie wrote there; other files in it stay.
    #[arg(long)]
    out: PathBuf,
    /// Model file of the extractor; `general` is the one that magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
    extractor: PathBuf,
    /// Model file of the detector, or `none`; by default the one that magpie brings along beside its
    /// extractor, if there is one.
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Built page and engine; by default those inside the program, else `./dist`, as in `magpie publish`.
    #[arg(long)]
    page: Option<PathBuf>,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written, a page that was built without a studio, a folder with something else.
    pub fn run(&self) -> anyhow::Result<()> {
        let built = Page::open(self.page.as_deref())?;
        let mut names = page_files(built.folder())?;
        names.retain(|name| name != PEERS_FRAME);
        let is_there = |needed: &&&str| names.iter().any(|name| name == *needed);
        if let Some(missing) = NEEDED.iter().find(|needed| !is_there(needed)) {
            bail!(
                "{}: was built without a studio, for {missing} is missing; `cargo xtask page` builds it",
                built.folder().display()
            );
        }
        let mut draft = Draft::begin(&self.out)?;
        check_place(&draft, &self.out, built.folder())?;
        if draft.before().is_some_and(|site| !site.contains(STUDIO_PAGE)) {
            bail!(
                "{}: holds a published site, whose gallery a studio would take away; choose another folder (that \
                 site has a studio in its folder studio/)",
                self.out.display()
            );
        }
        let mut page = BTreeMap::new();
        for name in names {
            let bytes = read(&built.folder().join(&name))?;
            page.insert(name, bytes);
        }
        let mut site = self.assemble(page)?;
        let whole: BTreeSet<String> = site.files.keys().cloned().collect();
        draft.check(&whole.iter().cloned().collect::<Vec<_>>())?;
        write(&draft, &site, |_| true)?;
        Site::Folder(draft.folder().to_owned()).open_again(&mut |_| ())?;
        let sizes = site.prepare_for_hosts(true, &mut |_, _| Ok(()))?;
        write(&draft, &site, |name| !whole.contains(name))?;
        draft.publish(site.files.into_keys().collect())?;
        let out = self.out.display();
        println!(
            "{out}: {} in all, {} where the host sends packed files; checked\nshow it by: magpie serve {out}",
            size(sizes.plain),
            size(sizes.packed)
        );
        Ok(())
    }

    /// The studio's site of a built page: its networks with a gallery of nothing.
    fn assemble(&self, mut page: BTreeMap<String, Vec<u8>>) -> anyhow::Result<authoring::Site> {
        let extractor = open_extractor_file(&self.extractor)?;
        let detector = networks::detector(self.detector.as_deref(), &self.extractor);
        let detector = detector.as_deref().map(open_detector_file).transpose()?;
        let Architecture::Extractor(network) = &extractor.file.description.architecture else {
            bail!("{}: is no extractor", self.extractor.display());
        };
        let gallery = Gallery::with_type(network.embedding_dim(), &extractor.id, VectorType::F16);
        let models = [Some(&extractor), detector.as_ref()].into_iter().flatten();
        let notes = models.map(|model| model.file.description.notes.as_str());
        let notes = bundled::notes(Vec::new(), notes);
        let files = Models {
            extractor: &extractor.bytes,
            detector: detector.as_ref().map(|detector| detector.bytes.as_slice()),
        };
        let settings = bundled::settings(&gallery);
        let bundle = bundled::bundle(TITLE, files, (&gallery, None), settings, notes)?;
        // Sites that are made in the studio begin with the page as it was built.
        let built = page.insert(PAGE.to_owned(), DOOR.as_bytes().to_vec());
        page.insert(STUDIO_PAGE.to_owned(), built.unwrap_or_default());
        let mut site = authoring::Site::new(page, TITLE, bundle, Vec::new())?;
        site.keep_offline(TITLE)?;
        Ok(site)
    }
}
