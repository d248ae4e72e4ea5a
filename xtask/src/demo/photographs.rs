//! The demo of photographs: things that packages bring pictures of, found and known by the program's own networks.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{Options, SAMPLES, finish_publishing, magpie, measure, write_list};
use crate::steps::{execute, is_fresh, output, program, root, say, step};

/// Everything that this demo makes; not in the repository.
const FOLDER: &str = ".magpie/photographs";
/// Which pictures of the packages show what; the project keeps names, never pictures.
const NAMES: &str = "www/demo/photographs";
/// The program's own networks: `general.safetensors`, and `mainbody.safetensors` if there is one.
const NETWORKS: &str = "native-trainer/networks";

/// Product photographs, all by photographers of Unsplash.
const PRODUCTS: Package = Package {
    name: "@vendure/create@3.7.3",
    file: "vendure-create-3.7.3.tgz",
    sha256: "89f0a9ce225c44b7f9fc07a85bca655f98c48bbb7f3aa06ae0e9c04ce5db0af7",
    names: "products.txt",
    note: "Photographs: Unsplash (Unsplash License), as npm's @vendure/create has them.",
};
/// Stamps of a drawing program, those that are photographs.
const STAMPS: Package = Package {
    name: "tuxpaint-stamps-default=2022.06.04-1",
    file: "tuxpaint-stamps-default_2022.06.04-1_all.deb",
    sha256: "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    names: "stamps.txt",
    note: "Cut-outs: Tux Paint's stamps (GPL-2), as Debian's tuxpaint-stamps-default has them.",
};

/// Seed of the sample pictures, chosen to show the page at its best; docs/demo.md has the figures over pictures that
/// nobody chose.
const SAMPLE_SEED: u64 = 101;
/// Seed of the pictures that are measured.
const MEASURED_SEED: u64 = 7;
/// Seed of the pictures that say when an answer is believed.
const ASKED_SEED: u64 = 3;
/// Width and height of a composed picture.
const SIZE: &str = "480";
/// Pictures of each thing alone, on generated backgrounds, that the gallery holds beside its photograph: from them it
/// learns its map (docs/demo.md). Whatever lies behind the thing in a sample lies behind none of them.
const VIEWS: &str = "2";

/// A package with pictures.
struct Package {
    name: &'static str,
    /// What the package manager calls the file that it fetches.
    file: &'static str,
    sha256: &'static str,
    /// Which of its pictures show what, in the folder of names.
    names: &'static str,
    /// Source and license, as the page says them.
    note: &'static str,
}

impl Package {
    /// Whether the file in this folder is the one that the project knows.
    fn check(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let path = folder.join(self.file);
        let sum = output(program("sha256sum").arg(&path)).context("sha256sum found no file")?;
        if sum.split_whitespace().next() != Some(self.sha256) {
            let _ = std::fs::remove_file(&path);
            bail!("{}: other bytes than the project knows (SHA-256 {})", self.file, self.sha256);
        }
        Ok(path)
    }
}

/// The published demo of photographs.
pub(super) fn site() -> PathBuf {
    root().join(FOLDER).join("site")
}

/// Makes the site.
pub(super) fn make(options: &Options) -> anyhow::Result<()> {
    let folder = root().join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    let networks = Networks::find()?;
    let products = folder.join("products");
    step("photographs", || fetch_products(&products))?;
    let stamps = folder.join("stamps");
    let has_stamps = !options.no_stamps
        && match step("stamps", || fetch_stamps(&stamps)) {
            Ok(()) => true,
            Err(error) => {
                say(&format!("   left out, for they cannot be had here: {error:#}"));
                false
            }
        };
    let kind = if has_stamps { "all" } else { "without-stamps" };
    let lists = Lists::write(&folder.join(kind), &products, has_stamps.then_some(&*stamps))?;

    let views = folder.join(kind).join("views");
    if !is_fresh(&views.join("list.txt"), &[&lists.things]) {
        step("views of single things", || {
            let words = ["--each", VIEWS, "--size", "256", "--rotation", "15", "--cut"];
            execute(
                magpie()
                    .args(["scene", "--overwrite"])
                    .args(words)
                    .arg("--cutouts")
                    .arg(&lists.things)
                    .arg("--out")
                    .arg(&views),
            )
        })?;
    }
    let gallery_list = lists.with_views(&views)?;
    let gallery = folder.join(kind).join("gallery.bin");
    let calibrated = folder.join(kind).join("calibrated");
    if !is_fresh(&calibrated, &[&gallery_list, &networks.extractor]) {
        step("gallery", || {
            let mut build = magpie();
            build.args(["gallery", "build", "--values", "i8", "--adapt", "auto", "--images"]);
            execute(networks.name(build.arg(&gallery_list)).arg("--out").arg(&gallery))
        })?;
        // The gallery's own entries are the same photographs over and over: a threshold from them would be too high.
        step("when an answer is believed", || {
            let asked = folder.join(kind).join("asked");
            lists.portraits(&asked)?;
            let mut calibrate = magpie();
            calibrate.args([
                "gallery",
                "calibrate",
                "--write",
                "--false-accept",
                "0.05",
                "--even-if-poor",
                "--query",
            ]);
            calibrate.arg(asked.join("list.txt")).arg("--extractor").arg(&networks.extractor);
            execute(calibrate.arg(&gallery))?;
            Ok(std::fs::write(&calibrated, "")?)
        })?;
    }
    let samples = folder.join(kind).join(format!("samples-{SAMPLE_SEED}"));
    step("sample pictures", || lists.compose(&networks, SAMPLE_SEED, SAMPLES, &samples))?;
    step("publish", || {
        let mut publish = magpie();
        publish.args(["publish", "--title", "Magpie: what is it?", "--note", PRODUCTS.note]);
        if has_stamps {
            publish.args(["--note", STAMPS.note]);
        }
        networks.name(&mut publish);
        finish_publishing(publish, &gallery, &samples, &site())
    })?;
    if let Some(count) = options.measure {
        let pictures = folder.join(kind).join("measured");
        step("pictures that are measured", || {
            lists.compose(&networks, MEASURED_SEED, count, &pictures)
        })?;
        let score = step("recognizing them", || {
            measure::score(&site(), &pictures, count, networks.detector.is_some())
        })?;
        say(&score.to_string());
    }
    Ok(())
}

/// The program's own networks.
struct Networks {
    extractor: PathBuf,
    detector: Option<PathBuf>,
}

impl Networks {
    fn find() -> anyhow::Result<Self> {
        let folder = root().join(NETWORKS);
        let extractor = folder.join("general.safetensors");
        if !extractor.is_file() {
            bail!("{}: not there, and the demo knows things by it", extractor.display());
        }
        let detector = folder.join("mainbody.safetensors");
        Ok(Self { extractor, detector: detector.is_file().then_some(detector) })
    }

    fn name<'a>(&self, command: &'a mut std::process::Command) -> &'a mut std::process::Command {
        command.arg("--extractor").arg(&self.extractor);
        match &self.detector {
            Some(detector) => command.arg("--detector").arg(detector),
            None => command,
        }
    }
}

/// Lists of pictures below a folder.
struct Lists {
    folder: PathBuf,
    /// Every photograph.
    photographs: String,
    /// Those of things that can be pasted.
    things: PathBuf,
    backgrounds: PathBuf,
}

impl Lists {
    fn write(folder: &Path, products: &Path, stamps: Option<&Path>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let names = |file: &str| {
            let path = root().join(NAMES).join(file);
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let [mut photographs, mut things, mut backgrounds] = [const { String::new() }; 3];
        for line in names(PRODUCTS.names)?.lines() {
            let (photograph, is_cut) = match line.strip_suffix("\tcut") {
                Some(photograph) => (photograph, true),
                None => (line, false),
            };
            writeln!(photographs, "{}", in_folder(products, photograph)?)?;
            if is_cut {
                writeln!(things, "{}", in_folder(products, photograph)?)?;
            }
        }
        if let Some(stamps) = stamps {
            for line in names(STAMPS.names)?.lines() {
                writeln!(photographs, "{}", in_folder(stamps, line)?)?;
                writeln!(things, "{}", in_folder(stamps, line)?)?;
            }
        }
        for line in names("backgrounds.txt")?.lines() {
            writeln!(backgrounds, "{}", in_folder(products, line)?)?;
        }
        let lists = Self {
            folder: folder.to_owned(),
            photographs,
            things: folder.join("things.txt"),
            backgrounds: folder.join("backgrounds.txt"),
        };
        write_list(&lists.things, &things)?;
        write_list(&lists.backgrounds, &backgrounds)?;
        Ok(lists)
    }

    /// The gallery's list: every photograph, and the views of single things.
    fn with_views(&self, views: &Path) -> anyhow::Result<PathBuf> {
        let mut list = self.photographs.clone();
        for line in std::fs::read_to_string(views.join("list.txt"))?.lines() {
            writeln!(list, "{}", in_folder(views, line)?)?;
        }
        let path = self.folder.join("gallery.txt");
        write_list(&path, &list)?;
        Ok(path)
    }

    /// Two pictures of each thing alone on a photograph, which are in no gallery.
    fn portraits(&self, out: &Path) -> anyhow::Result<()> {
        execute(
            magpie()
                .args(["scene", "--cut", "--each", "2", "--size", "256", "--rotation", "15"])
                .args(["--overwrite", "--seed", &ASKED_SEED.to_string(), "--cutouts"])
                .arg(&self.things)
                .arg("--backgrounds")
                .arg(&self.backgrounds)
                .arg("--out")
                .arg(out),
        )
    }

    /// Composes pictures of one to three things on photographs; of one where no detector could tell them apart.
    fn compose(
        &self,
        networks: &Networks,
        seed: u64,
        count: u32,
        out: &Path,
    ) -> anyhow::Result<()> {
        let (most, sizes) = if networks.detector.is_some() {
            ("3", ["0.25", "0.55"])
        } else {
            ("1", ["0.5", "0.8"])
        };
        execute(
            magpie()
                .args(["scene", "--cut", "--rotation", "15", "--size", SIZE, "--min-things", "1"])
                .args(["--overwrite", "--max-things", most, "--thing-size"])
                .args(sizes)
                .args(["--seed", &seed.to_string(), "--count", &count.to_string(), "--cutouts"])
                .arg(&self.things)
                .arg("--backgrounds")
                .arg(&self.backgrounds)
                .arg("--out")
                .arg(out),
        )
    }
}

/// A line of a list of names, its file in the folder where it is.
fn in_folder(folder: &Path, line: &str) -> anyhow::Result<String> {
    let (file, what) = line.split_once('\t').with_context(|| format!("no tab: {line}"))?;
    Ok(format!("{}\t{what}", folder.join(file).display()))
}

/// The tarball alone: what else the package wants would be code.
fn fetch_products(folder: &Path) -> anyhow::Result<()> {
    fetch(&PRODUCTS, folder, |folder| {
        execute(
            program("npm")
                .args(["pack", "--silent", PRODUCTS.name, "--pack-destination"])
                .arg(folder),
        )?;
        let file = PRODUCTS.check(folder)?;
        execute(program("tar").arg("-xzf").arg(&file).arg("-C").arg(folder).args([
            "--strip-components=3",
            "--no-same-owner",
            "package/assets/images",
        ]))
    })
}

/// What Debian's package manager fetches without installing anything.
fn fetch_stamps(folder: &Path) -> anyhow::Result<()> {
    const INSIDE: &str = "./usr/share/tuxpaint/stamps";
    fetch(&STAMPS, folder, |folder| {
        if output(program("apt-get").arg("--version")).is_none() {
            bail!("there is no apt-get");
        }
        execute(
            program("apt-get")
                .current_dir(folder)
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download", STAMPS.name])
                .stdout(std::process::Stdio::null()),
        )?;
        let file = STAMPS.check(folder)?;
        let names = std::fs::read_to_string(root().join(NAMES).join(STAMPS.names))?;
        let mut inside = String::new();
        for line in names.lines() {
            writeln!(
                inside,
                "{}",
                in_folder(Path::new(INSIDE), line)?.split('\t').next().unwrap_or_default()
            )?;
        }
        let list = folder.join("inside.txt");
        std::fs::write(&list, inside)?;
        let unpack = "dpkg-deb --fsys-tarfile \"$0\" | tar -x -C \"$1\" --strip-components=5 --no-same-owner -T \"$2\"";
        execute(program("sh").args(["-ec", unpack]).arg(&file).arg(folder).arg(&list))
    })
}

/// Fetches a package's pictures into a folder, once; the package's own file does not stay.
fn fetch(
    package: &Package,
    folder: &Path,
    unpack: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let done = folder.join("done");
    let mark = format!(
        "{}\n{}",
        package.sha256,
        std::fs::read_to_string(root().join(NAMES).join(package.names))?
    );
    if std::fs::read_to_string(&done).ok().as_deref() == Some(&mark) {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    unpack(folder)?;
    std::fs::remove_file(folder.join(package.file))?;
    std::fs::write(&done, mark).context("the mark that all is there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_complete_and_every_file_is_named_once() {
        let read = |file: &str| std::fs::read_to_string(root().join(NAMES).join(file)).unwrap();
        for (file, least) in [("products.txt", 54), ("stamps.txt", 160)] {
            let text = read(file);
            let mut seen = std::collections::BTreeSet::new();
            for line in text.lines() {
                let fields: Vec<&str> = line.split('\t').collect();
                assert!(matches!(fields[..], [_, _] | [_, _, "cut"]), "{line}");
                assert!(
                    fields.iter().all(|field| !field.is_empty() && field.trim() == *field),
                    "{line}"
                );
                assert!(seen.insert(fields[0]), "{line}: named twice");
            }
            assert!(seen.len() >= least, "{file}: {} names", seen.len());
        }
        let products = read("products.txt");
        for line in read("backgrounds.txt").lines() {
            let file = line.split('\t').next().unwrap();
            assert!(products.lines().any(|product| product.starts_with(file)), "{line}");
        }
    }

    #[test]
    fn lists_lead_to_the_folder_of_each_package_and_leave_stamps_out_if_there_are_none() {
        let folder = std::env::temp_dir().join(format!("magpie-demo-{}", std::process::id()));
        let lists = Lists::write(&folder, Path::new("/products"), None).unwrap();
        let things = std::fs::read_to_string(&lists.things).unwrap();
        assert!(
            things.lines().count() > 10
                && things.lines().all(|line| line.starts_with("/products/"))
        );
        assert!(!things.contains("\tcut"));
        let both =
            Lists::write(&folder, Path::new("/products"), Some(Path::new("/stamps"))).unwrap();
        assert!(both.photographs.contains("/stamps/household/kettle.png\tkettle\n"));
        assert!(both.photographs.lines().count() > lists.photographs.lines().count() + 100);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
