//! A small world for the command: pictures of colored shapes, a recipe, an empty page.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use models::backbone::BackboneConfig;
use models::backbone::PpLcNetV2Config;
use models::bundle::Bundle;
use models::detector::{DetectorBackbone, DetectorConfig, DetectorVariant};
use models::extractor::ExtractorConfig;
use models::gallery::Gallery;
use models::image::RgbImage;
use models::model_file::{Architecture, ModelDescription, ModelFile};
use models::preprocess::Preprocess;
use models::weights::Weights;

/// A folder with what a command reads and writes.
pub(crate) struct World {
    folder: PathBuf,
    /// Deletes the folder at the end of the test.
    _held: Option<tempfile::TempDir>,
}

/// Weights that are the same in every run.
fn drawn(draw: impl FnOnce(&burn::tensor::Device) -> Weights) -> Weights {
    // The generator is one of all threads, and parameters are drawn when they are first read.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let device = burn::tensor::Device::flex();
    let _one_at_a_time = GENERATOR.lock().expect("no draw fails");
    device.seed(7);
    draw(&device)
}

impl World {
    pub(crate) fn new() -> Self {
        let held = tempfile::tempdir().expect("a temporary folder");
        Self { folder: held.path().to_owned(), _held: Some(held) }
    }

    /// One that many tests read: an empty folder among what was built, which stays until the next run.
    pub(crate) fn shared(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).expect("what the last run left goes");
        }
        std::fs::create_dir_all(&folder).expect("a folder");
        Self { folder, _held: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs `magpie` in this folder; blanks separate the words.
    pub(crate) fn magpie(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
        ended(command.current_dir(&self.folder).args(line.split(' ')))
    }

    /// [`Self::magpie`], which succeeds; what it printed.
    pub(crate) fn succeed(&self, line: &str) -> String {
        succeeded(&self.magpie(line))
    }

    /// [`Self::magpie`], which ends with an error; its message.
    pub(crate) fn fail(&self, line: &str) -> String {
        failed(&self.magpie(line))
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    /// `classes` folders with `each` pictures.
    pub(crate) fn pictures(&self, folder: &str, classes: usize, each: usize) -> PathBuf {
        for class in 0..classes {
            for number in 0..each {
                let name = format!("{folder}/class {class} 类/{number}.png");
                self.write(&name, shape(class, number, 40).encode_png().expect("a PNG"));
            }
        }
        self.path(folder)
    }

    /// A recipe that trains in seconds.
    pub(crate) fn recipe(&self, train: &Path, epochs: usize) -> PathBuf {
        let train = train.display();
        self.write(
            "recipe.toml",
            format!(
                r#"
seed = 3
epochs = {epochs}
batch_size = 8
epoch_samples = 24
log_interval = 1
schedule = {{ learning_rate = 0.02, warmup_epochs = 0 }}
optimizer = {{ kind = "momentum", momentum = 0.9, weight_decay = 0.0001 }}

[preprocess]
width = 32
height = 32
filter = "antialiased"
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]

[extractor]
train = "{train}"
query = "{train}"
hold_out = 0.0
sampler = {{ kind = "pk", samples_per_class = 2 }}
losses = [
    {{ kind = "cross_entropy" }},
    {{ kind = "triplet_angular_margin", on = "backbone", margin = 0.5, absolute = {{ weight = 0.1, positive = 0.8, negative = 0.4 }} }},
]
head = {{ kind = "fc" }}
augmentation = {{ rotation = 10, scale = [0.9, 1.1], color = 0.1 }}

[extractor.model]
neck = {{ kind = "bn_neck" }}

[extractor.model.backbone]
kind = "pp_lc_net_v2"
scale = 0.25
depths = [1, 1, 1, 1]
class_expand = 32
shitu = true
dropout = 0.0
"#
            ),
        )
    }

    /// A model file with fresh weights.
    pub(crate) fn model(&self) -> PathBuf {
        let config = ExtractorConfig {
            backbone: BackboneConfig::PpLcNetV2(PpLcNetV2Config {
                scale: 0.25,
                depths: [1, 1, 1, 1],
                class_expand: 16,
                shitu: true,
                dropout: 0.0,
                fused: false,
            }),
            neck: None,
        };
        let weights = drawn(|device| Weights::from_module(&config.init(device).fuse()));
        let file = ModelFile {
            description: ModelDescription {
                architecture: Architecture::Extractor(config.fused()),
                preprocess: Preprocess::square(32),
                arithmetic: models::inference::Arithmetic::F32,
                notes: String::new(),
            },
            weights,
        };
        self.write("model.safetensors", Bundle::model_bytes(&file).expect("bytes"))
    }

    /// A detector with fresh weights.
    pub(crate) fn detector(&self) -> PathBuf {
        let config = DetectorConfig {
            variant: DetectorVariant::First,
            backbone: DetectorBackbone::PpLcNet,
            backbone_scale: 0.25,
            neck_channels: 16,
            num_classes: 1,
            head_blocks: 1,
            fused: false,
        };
        let weights = drawn(|device| Weights::from_module(&config.init(device).fuse()));
        let file = ModelFile {
            description: ModelDescription {
                architecture: Architecture::Detector(config.fused()),
                preprocess: Preprocess::square(64),
                arithmetic: models::inference::Arithmetic::F32,
                notes: String::new(),
            },
            weights,
        };
        self.write("detector.safetensors", Bundle::model_bytes(&file).expect("bytes"))
    }

    /// A recipe that trains a detector in seconds on the boxes of a COCO file; `more` comes before the first table,
    /// `task` into the detector's.
    pub(crate) fn detector_recipe(&self, coco: &Path, more: &str, task: &str) -> PathBuf {
        let coco = coco.display();
        let text = format!(
            r#"
seed = 3
epochs = 1
batch_size = 4
schedule = {{ learning_rate = 0.01, warmup_epochs = 0 }}
optimizer = {{ kind = "momentum", momentum = 0.9, weight_decay = 0.0001 }}
{more}

[preprocess]
width = 64
height = 64
filter = "antialiased"
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]

[detector]
coco = "{coco}"
eval_coco = "{coco}"
{task}
model = {{ backbone_scale = 0.25, neck_channels = 16, num_classes = 1, head_blocks = 1 }}
"#
        );
        self.write("detector.toml", text)
    }

    /// A built page, as far as publishing looks at it.
    pub(crate) fn page(&self) -> PathBuf {
        self.write("dist/index.html", "<!doctype html>");
        self.path("dist")
    }
}

/// A shape whose form and color depend on the class, its place on the number.
pub(crate) fn shape(class: usize, number: usize, side: u32) -> RgbImage {
    let colors = [[220, 40, 40], [40, 160, 60], [50, 80, 220], [230, 190, 40]];
    let color = colors[class % colors.len()];
    let center = side as f32 / 2.0 + (number % 5) as f32 - 2.0;
    let data = (0..side * side)
        .flat_map(|i| {
            let (x, y) = ((i % side) as f32 - center, (i / side) as f32 - center);
            let radius = side as f32 * 0.3;
            let inside = match class % 3 {
                0 => x.hypot(y) < radius,
                1 => x.abs().max(y.abs()) < radius,
                _ => x.abs() + y.abs() < radius,
            };
            if inside { color } else { [245, 245, 245] }
        })
        .collect();
    RgbImage::from_rgb(side, side, data).expect("a picture")
}

/// Runs `magpie`.
pub(crate) fn magpie(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    ended(&mut command)
}

/// How long a command may take on a slow machine: one that should have been refused and serves would never end.
const END: Duration = Duration::from_mins(10);

/// What a command says that ends by itself; it is ended otherwise, and the test with it.
pub(crate) fn ended(command: &mut Command) -> Output {
    ended_within(command, END)
}

pub(crate) fn ended_within(command: &mut Command, end: Duration) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let begin = Instant::now();
    let (mut stdout, mut stderr) =
        (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    std::thread::scope(|scope| {
        let said = scope.spawn(move || read(&mut stdout));
        let told = scope.spawn(move || read(&mut stderr));
        let mut pause = Duration::from_millis(1);
        let (status, is_over) = loop {
            if let Some(status) = child.try_wait().expect("a status") {
                break (status, false);
            }
            if begin.elapsed() > end {
                let _ = child.kill();
                break (child.wait().expect("a status"), true);
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_millis(20));
        };
        let stdout = said.join().expect("its output");
        let stderr = told.join().expect("its messages");
        let text = String::from_utf8_lossy(&stderr);
        assert!(!is_over, "{command:?} has not ended within {end:?}: {text}");
        Output { status, stdout, stderr }
    })
}

fn read(pipe: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).expect("a pipe");
    bytes
}

#[test]
#[should_panic(expected = "has not ended within")]
fn a_command_that_does_not_end_is_ended() {
    ended_within(Command::new("sleep").arg("600"), Duration::from_millis(50));
}

/// Runs `magpie` in a folder with a fault: see `native_trainer::files::reach`.
pub(crate) fn with_fault(folder: &Path, fault: &str, words: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.current_dir(folder).args(words).env("MAGPIE_FAULT", fault);
    ended(&mut command)
}

/// Whether a name has this ending.
pub(crate) fn is_of(name: &str, ending: &str) -> bool {
    name.rsplit('.').next() == Some(ending)
}

/// All below a folder but the folders, by name; a link is where it leads.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn visit(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                visit(&entry.path(), &format!("{name}/"), found);
            } else if kind.is_symlink() {
                let target = std::fs::read_link(entry.path()).expect("a link");
                found.insert(name, target.to_string_lossy().into_owned().into_bytes());
            } else {
                found.insert(name, std::fs::read(entry.path()).expect("a file"));
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(folder, "", &mut found);
    found
}

/// A folder with all that is in another. Its files are second names of the other's: whoever writes into one instead
/// of replacing it changes both, which a test sees.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_symlink() {
            #[cfg(unix)]
            std::os::unix::fs::symlink(std::fs::read_link(entry.path()).expect("a link"), &target)
                .expect("a link");
        } else {
            std::fs::hard_link(entry.path(), &target).expect("a second name");
        }
    }
}

/// Writes a file of [`copy_tree`] anew: the old one is a second name of the original's.
pub(crate) fn replace(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::remove_file(path).expect("a file of the copy");
    std::fs::write(path, bytes).expect("a file");
}

/// Calls for each of the numbers on two threads.
pub(crate) fn on_threads(numbers: &[u64], call: impl Fn(u64) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(number) =
                    numbers.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    call(*number);
                }
            });
        }
    });
}

/// Runs `magpie` and expects success; returns what it printed.
pub(crate) fn succeed(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    succeeded(&magpie(arguments))
}

/// The words of a publishing.
pub(crate) fn publishing<'a, P: AsRef<std::ffi::OsStr>>(
    model: &'a P,
    gallery: &'a P,
    page: &'a P,
    out: &'a P,
) -> [&'a dyn AsRef<std::ffi::OsStr>; 9] {
    [&"publish", &"--extractor", model, &"--gallery", gallery, &"--page", page, &"--out", out]
}

/// Runs `magpie` and expects an error without a panic; returns its message.
pub(crate) fn fail(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    failed(&magpie(arguments))
}

/// Runs `magpie gallery` with these words, which succeeds; what it printed.
pub(crate) fn gallery(words: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    succeed(&[&[&"gallery" as &dyn AsRef<std::ffi::OsStr>], words].concat())
}

/// Runs `magpie gallery` with these words, which fails; what it said.
pub(crate) fn refused(words: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    fail(&[&[&"gallery" as &dyn AsRef<std::ffi::OsStr>], words].concat())
}

/// The gallery in a file.
pub(crate) fn opened(path: &Path) -> Gallery {
    Gallery::from_bytes(&std::fs::read(path).expect("a file")).expect("a gallery")
}

/// What a command prints as JSON.
pub(crate) fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON alone")
}

fn succeeded(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    format!("{text}{errors}")
}

fn failed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("error:") && !errors.contains("panicked"), "{errors}");
    errors
}

/// A running `magpie serve`, which ends with the test.
pub(crate) struct Host {
    child: Child,
    pub(crate) address: String,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves a site on a free port of this machine.
pub(crate) fn serve(site: &Path) -> Host {
    let mut child = Command::new(env!("CARGO_BIN_EXE_magpie"))
        .arg("serve")
        .arg(site)
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("magpie runs");
    let mut address = String::new();
    let output = child.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut address).expect("the server prints its address");
    Host { child, address: address.trim().to_owned() }
}
