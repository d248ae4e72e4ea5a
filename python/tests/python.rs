//! The Python module, in a Python: its tests lie beside this file.
//!
//! `cargo xtask test` installs NumPy and Pillow from `PyPI` into `.magpie/python`; `MAGPIE_PYTHON` names another Python
//! that has both.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use models::backbone::{BackboneConfig, PpLcNetV2Config};
use models::bundle::Bundle;
use models::detector::{DetectorBackbone, DetectorConfig, DetectorVariant};
use models::extractor::ExtractorConfig;
use models::inference::Arithmetic;
use models::model_file::{Architecture, ModelDescription, ModelFile};
use models::weights::Weights;
use models::{Device, Preprocess};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent")
}

fn python() -> PathBuf {
    let own = || root().join(".magpie/python/bin/python");
    std::env::var_os("MAGPIE_PYTHON").map_or_else(own, PathBuf::from)
}

/// A folder with the package as a wheel holds it, and two networks with drawn weights.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let package = place.join("magpie_recognizer");
        if place.exists() {
            std::fs::remove_dir_all(&place).expect("what the last run left goes");
        }
        std::fs::create_dir_all(&package).expect("a folder");
        for file in root().join("python/magpie_recognizer").read_dir().expect("the package") {
            let file = file.expect("a file");
            if file.path().is_file() {
                std::fs::copy(file.path(), package.join(file.file_name())).expect("a copy");
            }
        }
        let test = std::env::current_exe().expect("this test lies somewhere");
        let built = test.with_file_name(format!(
            "{}magpie_native{}",
            std::env::consts::DLL_PREFIX,
            std::env::consts::DLL_SUFFIX
        ));
        let module = if cfg!(windows) { "_native.pyd" } else { "_native.abi3.so" };
        std::fs::copy(&built, package.join(module))
            .unwrap_or_else(|error| panic!("{}: {error}", built.display()));
        networks(&place);
        place
    })
}

fn networks(place: &Path) {
    let device = Device::flex();
    device.seed(7);
    let write = |name: &str, architecture, weights, side| {
        let description = ModelDescription {
            architecture,
            preprocess: Preprocess::square(side),
            arithmetic: Arithmetic::F32,
            notes: String::new(),
        };
        let file = ModelFile { description, weights };
        let bytes = Bundle::model_bytes(&file).expect("bytes");
        std::fs::write(place.join(name), bytes).expect("a file");
    };
    let backbone = PpLcNetV2Config {
        scale: 0.25,
        depths: [1, 1, 1, 1],
        class_expand: 16,
        shitu: true,
        dropout: 0.0,
        fused: false,
    };
    let config = ExtractorConfig { backbone: BackboneConfig::PpLcNetV2(backbone), neck: None };
    let weights = Weights::from_module(&config.init(&device).fuse());
    write("extractor.safetensors", Architecture::Extractor(config.fused()), weights, 32);
    let config = DetectorConfig {
        variant: DetectorVariant::First,
        backbone: DetectorBackbone::PpLcNet,
        backbone_scale: 0.25,
        neck_channels: 16,
        num_classes: 1,
        head_blocks: 1,
        fused: false,
    };
    let weights = Weights::from_module(&config.init(&device).fuse());
    write("detector.safetensors", Architecture::Detector(config.fused()), weights, 64);
}

/// Runs a file of tests, all of which pass.
fn passes(name: &str) {
    let (python, place) = (python(), installed());
    let output = Command::new(&python)
        .current_dir(root().join("python/tests"))
        .args(["-X", "dev", "-W", "error::ResourceWarning", "-m", "unittest", "-v", name])
        .env("PYTHONPATH", place)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("MAGPIE_NETWORKS", place)
        .env("MAGPIE_ROOT", root())
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("{}: {error}; run `cargo xtask test`, which installs it", python.display())
    });
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {}\n{printed}{said}", output.status);
    assert!(said.contains("\nOK") && !said.contains("skipped"), "{said}");
}

#[test]
fn pictures_are_recognized_in_python_as_by_the_command() {
    passes("test_recognizer");
}

#[test]
fn galleries_are_kept_in_python_as_by_the_command() {
    passes("test_gallery");
}

#[test]
fn sites_and_networks_are_made_in_python_as_by_the_command() {
    passes("test_making");
}

#[test]
fn the_module_in_python_is_what_its_types_say() {
    passes("test_module");
}

#[test]
fn docs_of_the_module_run_in_python() {
    passes("test_docs");
}
