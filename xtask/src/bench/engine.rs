//! Networks on the processor: natively, in Chromium, and there also on `WebGPU`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use super::record::{Table, npm_version, number, python_version, ratio, version};
use super::{ROUNDS, figures, measurement, text, wasm_example};
use crate::setup;
use crate::steps::{execute, program, root, step, target};

/// How the name of a runtime ends that computes in int8.
const INT8: &str = " i8";
const GRAPHICS: &str = " webgpu";

/// Which networks are measured.
#[derive(Clone, Copy, PartialEq)]
enum Networks {
    /// Those that Magpie trains.
    PpShitu,
    /// Those that others publish weights of.
    Imported,
}

impl Networks {
    /// As the measurement knows them.
    fn name(self) -> &'static str {
        match self {
            Self::PpShitu => "pp-shitu",
            Self::Imported => "imported",
        }
    }

    /// The name of a table of them.
    fn table(self, name: &str) -> String {
        match self {
            Self::PpShitu => name.to_owned(),
            Self::Imported => format!("imported-{name}"),
        }
    }

    /// What a page opens whose memory is measured.
    fn of_a_page(self) -> &'static str {
        match self {
            Self::PpShitu => "mainbody_640,pp_lcnet_v2_shitu",
            Self::Imported => "vit_small_patch16",
        }
    }

    /// Writes them, with drawn weights, for every runtime.
    fn write(self, measurement: &str, folder: &Path) -> anyhow::Result<()> {
        if self == Self::Imported {
            let python = setup::python_with("bench/venv", &["torch", "timm", "onnx"])?;
            step("MobileCLIP's weights, drawn", || {
                std::fs::create_dir_all(folder)?;
                let drawn = folder.join("drawn.pt");
                execute(program(&python).arg("tests/bench/mobileclip.py").arg(&drawn))?;
                let cargo = ["build", "--locked", "--workspace", "--bin", "magpie"];
                execute(program("cargo").args(cargo))?;
                let mut import = program(&target().join("debug/magpie").to_string_lossy());
                import.arg("import").arg(&drawn).arg("--out");
                execute(import.arg(folder.join("mobileclip_s0_256.safetensors")))?;
                Ok(std::fs::remove_file(drawn)?)
            })?;
        }
        step("the networks", || {
            execute(program(measurement).arg("write").arg(folder).arg(self.name()))
        })?;
        // The quantizer takes no transformer.
        if self == Self::PpShitu {
            let quantizer = setup::python_with("bench/litert", &["ai-edge-quantizer"])?;
            step("the networks in LiteRT's int8", || {
                execute(program(&quantizer).arg("tests/bench/litert_int8.py").arg(folder))
            })?;
        }
        Ok(())
    }
}

/// Natively beside ONNX Runtime and `OpenVINO`, in Chromium beside ONNX Runtime Web, LiteRT.js and
/// TensorFlow.js. Every runtime gets the same weights and has to give the same answers.
pub(crate) fn engine(options: &[&str]) -> anyhow::Result<()> {
    const THREADS: [&str; 2] = ["1", "2"];
    let (networks, runs) = match options {
        [] => (Networks::PpShitu, "40"),
        ["--imported"] => (Networks::Imported, "40"),
        ["--imported", runs] => (Networks::Imported, *runs),
        [runs] => (Networks::PpShitu, *runs),
        other => bail!("unknown options {other:?}; there are --imported and the number of runs"),
    };
    let line = ["cargo xtask bench engine"].into_iter().chain(options.iter().copied());
    let line = line.collect::<Vec<_>>().join(" ");
    let bench = root().join(".magpie/bench");
    let peers = ["onnxruntime", "openvino", "numpy"];
    let python = setup::python_with("bench/runtimes", &peers)?;
    let ours = measurement("networks")?;
    let nets = bench.join(networks.table("networks"));
    let module = bench.join("networks-wasm");
    networks.write(&ours, &nets)?;
    let mut native = Figures::default();
    for threads in THREADS.iter().cycle().take(ROUNDS * THREADS.len()) {
        step(&format!("Magpie, {threads} thread(s)"), || {
            let mut command = program(&ours);
            command.arg("time").arg(&nets).arg(runs).env("RAYON_NUM_THREADS", threads);
            native.take(&figures(&mut command)?)
        })?;
        step(&format!("ONNX Runtime and OpenVINO, {threads} thread(s)"), || {
            let mut command = program(&python);
            command.arg("tests/bench/networks.py").arg(&nets).args([threads, runs]);
            native.take(&figures(&mut command)?)
        })?;
    }
    let versions = [("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino")]
        .map(|(name, package)| (name, python_version(&python, package)));
    native.natively().write(&networks.table("native"), &line, &versions)?;

    setup::build_tools()?;
    setup::browser()?;
    for (feature, folder) in [("cpu", "simd128"), ("relaxed", "relaxed"), ("webgpu", "webgpu")] {
        step(&format!("Magpie in WebAssembly, {folder}"), || {
            wasm_example("networks", feature, &module.join(folder))
        })?;
    }
    step("Magpie in WebAssembly, threads", || {
        let what = ["--example", "networks"];
        let made = crate::engine::build(&what, Path::new("examples/networks.wasm"))?;
        crate::engine::bind(&made, &module.join("threads"))
    })?;
    let mut chromium = Figures::default();
    for _ in 0..ROUNDS {
        step("in Chromium", || {
            let mut command = program("node");
            command.arg("tests/bench/networks.mjs").arg(&nets).arg(runs).arg(&module);
            chromium.take(&figures(command.arg(setup::BROWSER))?)
        })?;
    }
    let versions = in_browser();
    for (name, table) in [
        ("browser", chromium.in_chromium()),
        ("browser-int8", chromium.int8()),
        ("browser-threads", chromium.two_threads()),
        ("first-answer", chromium.first_answers()),
        ("webgpu", chromium.on_webgpu()),
    ] {
        table.write(&networks.table(name), &line, &versions)?;
    }

    let lines = step("memory of a page", || {
        let mut command = program("node");
        command.arg("tests/bench/memory.mjs").arg(&nets).arg(&module).arg(setup::BROWSER);
        figures(command.arg(networks.of_a_page()))
    })?;
    memory(&lines)?.write(&networks.table("memory"), &line, &versions)
}

/// The browser and the runtimes in it.
fn in_browser() -> Vec<(&'static str, Option<String>)> {
    let folder = root().join(setup::BROWSER);
    let mut versions = vec![("Chromium", version("chromium"))];
    for (name, package) in [
        ("ONNX Runtime Web", "onnxruntime-web"),
        ("LiteRT.js", "@litertjs/core"),
        ("TensorFlow.js", "@tensorflow/tfjs-core"),
    ] {
        versions.push((name, npm_version(&folder, package)));
    }
    versions
}

/// What a page takes with each runtime.
fn memory(figures: &[Value]) -> anyhow::Result<Table> {
    let of = |name: &str| {
        figures.iter().find(|f| f["runtime"] == name).and_then(|f| f["page_mb"].as_f64())
    };
    let (ours, theirs) = (of("magpie relaxed"), of("onnxruntime-web"));
    let mut table = Table::new(&["runtime", "MB", "ratio"]).ratio("ratio");
    for figure in figures {
        let name = text(figure, "runtime")?;
        let share = if name.starts_with("magpie") { ratio(ours, theirs) } else { Value::Null };
        table.row(vec![shown(name).into(), number(of(name)), share]);
    }
    Ok(table)
}

/// How a document calls a network or runtime.
pub(super) fn shown(name: &str) -> &str {
    match name {
        "pp_lcnet_x1_0" => "PP-LCNet x1.0, 224",
        "pp_lcnet_x2_5" => "PP-LCNet x2.5, 224",
        "pp_lcnet_v2_shitu" => "PP-LCNetV2 ShiTu, 224",
        "mobilenet_v1" => "MobileNetV1, 224",
        "picodet_320" => "small PicoDet, 320",
        "mainbody_640" => "mainbody PicoDet, 640",
        "efficientnet_lite0" => "EfficientNet-Lite0, 224",
        "mobilenetv3_large" => "MobileNetV3-Large, 224",
        "mobilenetv4_conv_medium_256" => "MobileNetV4-Conv-Medium, 256",
        "repvit_m1_0" => "RepViT-M1.0, 224",
        "mobileclip_s0_256" => "MobileCLIP-S0, 256",
        "vit_small_patch16" => "ViT-S/16, 224",
        "dinov2_small_patch14" => "DINOv2 ViT-S/14, 224",
        "onnxruntime-web" => "ONNX Runtime Web",
        "litert.js" => "LiteRT.js",
        "tensorflow.js" => "TensorFlow.js",
        name if name.starts_with("magpie") => "Magpie",
        name => name,
    }
}

/// Of a network, a runtime and a number of threads: median and first answer of the better round.
#[derive(Default)]
struct Figures {
    /// In the order in which they came.
    networks: Vec<String>,
    milliseconds: BTreeMap<(String, String, u64), [Option<f64>; 2]>,
}

impl Figures {
    fn take(&mut self, lines: &[Value]) -> anyhow::Result<()> {
        for line in lines {
            let network = text(line, "network")?.to_owned();
            if !self.networks.contains(&network) {
                self.networks.push(network.clone());
            }
            let threads = line["threads"].as_u64().context("a line without its threads")?;
            let key = (network, text(line, "runtime")?.to_owned(), threads);
            let best = self.milliseconds.entry(key).or_default();
            let new = [&line["median_ms"], &line["first_answer_ms"]].map(Value::as_f64);
            for (best, new) in best.iter_mut().zip(new) {
                *best = [*best, new].into_iter().flatten().reduce(f64::min);
            }
        }
        Ok(())
    }

    /// A network's median and first answer.
    fn of(&self, network: &str, runtime: &str, threads: u64) -> [Option<f64>; 2] {
        let key = (network.to_owned(), runtime.to_owned(), threads);
        self.milliseconds.get(&key).copied().unwrap_or_default()
    }

    /// A row a network: its cells by `cells`, left out if there are none.
    fn table(&self, table: Table, cells: impl Fn(&str) -> Vec<Value>) -> Table {
        let mut table = table;
        for network in &self.networks {
            let cells = cells(network);
            if cells.iter().any(|cell| !cell.is_null()) {
                table.row([vec![shown(network).into()], cells].concat());
            }
        }
        table
    }

    fn natively(&self) -> Table {
        let two = |name: &str| format!("{name}, two threads");
        let names = ["Magpie", "ONNX Runtime", "OpenVINO", "ratio"];
        let twos = names.map(two);
        let all: Vec<&str> =
            ["network"].into_iter().chain(names).chain(twos.each_ref().map(|n| &**n)).collect();
        let table = Table::new(&all).ratio("ratio").ratio(&twos[3]);
        self.table(table, |network| {
            let half = |threads| {
                let [ours, onnx, openvino] = ["magpie", "onnxruntime", "openvino"]
                    .map(|runtime| self.of(network, runtime, threads)[0]);
                beside(&[ours], &[onnx, openvino])
            };
            [half(1), half(2)].concat()
        })
    }

    fn in_chromium(&self) -> Table {
        let columns = [
            "network",
            "Magpie",
            "without relaxed SIMD",
            "LiteRT.js",
            "ONNX Runtime Web",
            "TensorFlow.js",
            "ratio",
        ];
        self.table(Table::new(&columns).ratio("ratio"), |network| {
            let of = |runtime| self.of(network, runtime, 1)[0];
            let peers = ["litert.js", "onnxruntime-web", "tensorflow.js"].map(of);
            beside(&["magpie relaxed", "magpie simd128"].map(of), &peers)
        })
    }

    fn int8(&self) -> Table {
        let columns = ["network", "Magpie", "to own floats", "LiteRT.js", "to LiteRT's"];
        let table = Table::new(&columns).ratio("to own floats").ratio("to LiteRT's");
        self.table(table, |network| {
            let of = |runtime: &str| self.of(network, runtime, 1)[0];
            let [ours, floats] = ["magpie relaxed i8", "magpie relaxed"].map(of);
            let theirs = of(&format!("litert.js{INT8}"));
            vec![number(ours), ratio(ours, floats), number(theirs), ratio(ours, theirs)]
        })
    }

    fn two_threads(&self) -> Table {
        let columns = [
            "network",
            "Magpie",
            "LiteRT.js",
            "ONNX Runtime Web",
            "ratio",
            "Magpie, int8",
            "LiteRT.js, int8",
        ];
        self.table(Table::new(&columns).ratio("ratio"), |network| {
            let of = |runtime| self.of(network, runtime, 2)[0];
            let peers = ["litert.js", "onnxruntime-web"].map(of);
            let int8 = ["magpie threads i8", "litert.js i8"].map(|name| number(of(name)));
            [beside(&[of("magpie threads")], &peers), int8.to_vec()].concat()
        })
    }

    fn first_answers(&self) -> Table {
        let columns = ["network", "Magpie", "LiteRT.js", "ONNX Runtime Web", "Magpie to that"];
        self.table(Table::new(&columns).ratio("Magpie to that"), |network| {
            let [ours, litert, onnx] = ["magpie relaxed", "litert.js", "onnxruntime-web"]
                .map(|runtime| self.of(network, runtime, 1)[1]);
            vec![number(ours), number(litert), number(onnx), ratio(ours, onnx)]
        })
    }

    fn on_webgpu(&self) -> Table {
        let names = ["Magpie", "LiteRT.js", "ONNX Runtime Web", "TensorFlow.js"];
        let first = names.map(|name| format!("{name}, first answer"));
        let mut columns = vec!["network"];
        columns.extend(names);
        columns.push("ratio");
        columns.extend(first.iter().map(String::as_str));
        self.table(Table::new(&columns).ratio("ratio"), |network| {
            let of = ["magpie", "litert.js", "onnxruntime-web", "tensorflow.js"]
                .map(|runtime| self.of(network, &format!("{runtime}{GRAPHICS}"), 1));
            let [ours, peers @ ..] = of.map(|[median, _]| median);
            [beside(&[ours], &peers), of.map(|[_, first]| number(first)).to_vec()].concat()
        })
    }
}

/// Magpie's times, the others', and the first of ours over the fastest of theirs.
fn beside(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<Value> {
    let fastest = theirs.iter().copied().flatten().reduce(f64::min);
    let all = ours.iter().chain(theirs).map(|value| number(*value));
    all.chain([ratio(ours[0], fastest)]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_better_round_stands_beside_the_fastest_peer() {
        let line = |runtime: &str, median: f64, first: f64| {
            json!({
                "network": "picodet_320", "runtime": runtime, "threads": 1, "median_ms": median,
                "first_answer_ms": first,
            })
        };
        let mut figures = Figures::default();
        figures
            .take(&[line("magpie relaxed", 9.0, 200.0), line("litert.js", 16.0, 400.0)])
            .unwrap();
        figures.take(&[line("magpie relaxed", 8.0, 300.0)]).unwrap();
        figures.take(&[line("onnxruntime-web", 20.0, 800.0)]).unwrap();
        let row = |table: Table| format!("{table:?}").split("rows: ").nth(1).unwrap().to_owned();
        let wanted = json!([["small PicoDet, 320", 8.0, null, 16.0, 20.0, null, 0.5]]);
        let all = |rows: &Value| format!("{:?} }}", rows.as_array().unwrap());
        assert_eq!(row(figures.in_chromium()), all(&wanted));
        let wanted = json!([["small PicoDet, 320", 200, 400, 800, 0.25]]);
        assert_eq!(row(figures.first_answers()), all(&wanted));
        assert_eq!(row(figures.on_webgpu()), "[] }");
    }
}
