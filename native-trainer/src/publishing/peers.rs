//! Runtimes of other people beside Magpie's in a site's page for measurements.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use authoring::Site;
use burn::tensor::Device;
use models::model_file::{Architecture, ModelFile};
use serde::Serialize;

use super::names::{PEERS, PEERS_FOLDER};
use crate::cli::read;
use crate::exchange::export::compared_files;

/// A package of npm and the files of it that a page asks for.
type Package = (&'static str, &'static [&'static str]);

/// A runtime, by the name that the page has for it; its first package says its version.
const RUNTIMES: [(&str, &[Package]); 3] = [
    (
        "onnxruntime-web",
        &[(
            "onnxruntime-web",
            &[
                "dist/ort.wasm.min.mjs",
                "dist/ort-wasm-simd-threaded.mjs",
                "dist/ort-wasm-simd-threaded.wasm",
                "dist/ort.webgpu.min.mjs",
                "dist/ort-wasm-simd-threaded.asyncify.mjs",
                "dist/ort-wasm-simd-threaded.asyncify.wasm",
            ],
        )],
    ),
    (
        "litert.js",
        &[
            (
                "@litertjs/core",
                &[
                    "dist/index.js",
                    "wasm/litert_wasm_internal.js",
                    "wasm/litert_wasm_internal.wasm",
                    "wasm/litert_wasm_compat_internal.js",
                    "wasm/litert_wasm_compat_internal.wasm",
                    "wasm/litert_wasm_jspi_internal.js",
                    "wasm/litert_wasm_jspi_internal.wasm",
                    "wasm/litert_wasm_threaded_internal.js",
                    "wasm/litert_wasm_threaded_internal.wasm",
                ],
            ),
            ("@litertjs/wasm-utils", &["dist/index.js"]),
        ],
    ),
    (
        "tensorflow.js",
        &[
            ("@tensorflow/tfjs-core", &["dist/tf-core.min.js"]),
            ("@tensorflow/tfjs-converter", &["dist/tf-converter.min.js"]),
            (
                "@tensorflow/tfjs-backend-wasm",
                &[
                    "dist/tf-backend-wasm.min.js",
                    "dist/tfjs-backend-wasm.wasm",
                    "dist/tfjs-backend-wasm-simd.wasm",
                    "dist/tfjs-backend-wasm-threaded-simd.wasm",
                ],
            ),
            ("@tensorflow/tfjs-backend-webgpu", &["dist/tf-backend-webgpu.min.js"]),
        ],
    ),
];

/// Files that say whose a package is; not every package has them all.
const LICENSES: [&str; 4] = ["package.json", "LICENSE", "LICENSE.txt", "README.md"];

/// What the page for measurements is told.
#[derive(Debug, Default, Serialize)]
struct List {
    /// Versions by runtime.
    runtimes: BTreeMap<&'static str, String>,
    /// By the names of their files.
    networks: BTreeMap<&'static str, Input>,
}

/// What a network takes.
#[derive(Debug, Serialize)]
struct Input {
    /// Height and width.
    shape: [u32; 2],
}

/// Puts the runtimes that lie in `packages`, a folder of npm's, and a site's networks in their formats
/// into the site. The names of the runtimes.
///
/// # Errors
///
/// A folder with none of them, a package without a file that is needed, a network that does not run.
pub(crate) fn add(
    site: &mut Site,
    packages: &Path,
    models: &[&ModelFile],
) -> anyhow::Result<Vec<&'static str>> {
    let mut list = List::default();
    for (runtime, parts) in RUNTIMES {
        let first = packages.join(parts[0].0).join("package.json");
        if !first.is_file() {
            continue;
        }
        for (package, files) in parts {
            let from = packages.join(package);
            let to = |file: &str| format!("{PEERS_FOLDER}npm/{package}/{file}");
            for file in *files {
                let bytes = read(&from.join(file)).with_context(|| {
                    format!(
                        "{runtime}: run `npm install {package}`; another version may lack the file"
                    )
                })?;
                site.files.insert(to(file), bytes);
            }
            for file in LICENSES.iter().filter(|file| from.join(file).is_file()) {
                site.files.insert(to(file), read(&from.join(file))?);
            }
        }
        let about: serde_json::Value =
            serde_json::from_slice(&read(&first)?).with_context(|| first.display().to_string())?;
        list.runtimes.insert(runtime, about["version"].as_str().unwrap_or("?").to_owned());
    }
    if list.runtimes.is_empty() {
        let all: Vec<&str> = RUNTIMES
            .iter()
            .flat_map(|(_, parts)| parts.iter().map(|(package, _)| *package))
            .collect();
        bail!(
            "{}: none of the runtimes is there; run `npm install {}` in a folder and give its \
             node_modules",
            packages.display(),
            all.join(" ")
        );
    }
    for model in models {
        let (name, input) = add_network(site, model)?;
        list.networks.insert(name, input);
    }
    site.files.insert(PEERS.to_owned(), serde_json::to_vec_pretty(&list)?);
    Ok(list.runtimes.into_keys().collect())
}

/// A network in every format, an input for it, and Magpie's own answer to that.
fn add_network(site: &mut Site, model: &ModelFile) -> anyhow::Result<(&'static str, Input)> {
    let preprocess = &model.description.preprocess;
    let device = Device::flex();
    let (name, files) = match model.description.architecture {
        Architecture::Extractor(_) => {
            let network = model.clone().into_extractor(&device)?;
            ("extractor", compared_files("extractor", &network, preprocess)?)
        }
        Architecture::Detector(_) | Architecture::GraphDetector(_) => {
            let network = model.clone().into_detector(&device)?;
            ("detector", compared_files("detector", &network, preprocess)?)
        }
    };
    for (file, bytes) in files {
        site.files.insert(format!("{PEERS_FOLDER}{file}"), bytes);
    }
    Ok((name, Input { shape: [preprocess.height, preprocess.width] }))
}
