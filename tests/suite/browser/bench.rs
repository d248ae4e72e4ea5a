//! The page for measurements, beside the native command.

use std::path::Path;
use std::process::Command;

use models::bundle::{MANIFEST_NAME, Manifest};
use serde_json::{Value, json};

use super::{Server, magpie, root, screenshots, script, site};

#[test]
fn a_device_is_measured_like_a_server() {
    let site = site();
    assert!(!site.join("bench/peer.html").exists(), "a policy that nobody needs");
    let folder = tempfile::tempdir().expect("a folder");
    let native = folder.path().join("native.json");
    let output = Command::new(magpie())
        .args(["bench", "--runs", "3", "--json", "--bundle"])
        .arg(site.join("bundle"))
        .output()
        .expect("magpie runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(&native, &output.stdout).expect("written");
    let server = Server::start(&site);
    let schema = root().join("www/bench/schema.json");
    let address = Path::new(&server.address);
    let seen = script("bench.mjs", &[address, &screenshots(), &schema, &native]);
    assert_eq!(seen["status"], "Done.", "{seen}");
    for list in ["problems", "faults", "nativeFaults"] {
        assert_eq!(seen[list], json!([]), "{list}");
    }
    assert_eq!(seen["origins"].as_array().map(Vec::len), Some(1), "{}", seen["origins"]);
    // The same parts, by the same names; the page has seen the site for the first time, too.
    let native: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let parts = |report: &Value| -> Vec<String> {
        let lines = report["results"].as_array().expect("a list");
        lines.iter().filter_map(|line| Some(line["what"].as_str()?.to_owned())).collect()
    };
    let (in_page, on_server) = (parts(&seen["report"]), parts(&native));
    assert_eq!(in_page[0], "first visit, first picture");
    assert_eq!(in_page[1..], on_server[..]);
    for key in ["bundle", "gallery", "picture"] {
        assert_eq!(seen["report"][key], native[key], "{key}");
    }
    // Both stand side by side, and a link brings them back.
    let bars = seen["bars"].as_u64().expect("a number") as usize;
    assert_eq!(bars, in_page.len() + on_server.len());
    assert_eq!(seen["same"], true);
    assert!(seen["link"].as_u64() < Some(4000), "{}", seen["link"]);
    assert_eq!(seen["columns"], 3, "what is no report changes nothing");
    assert_eq!((&seen["started"], &seen["overflow"]), (&json!(true), &json!(0)));
}

#[test]
fn other_runtimes_stand_beside_where_the_owner_wants_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let (parts, out) = (site().join("bundle"), folder.path().join("site"));
    let manifest = std::fs::read(parts.join(MANIFEST_NAME)).expect("a manifest");
    let manifest = Manifest::from_bytes(&manifest).expect("a manifest");
    let detector = manifest.detector.expect("the demo finds objects").file;
    let packages = root().join("tests/browser/node_modules");
    let publish = |packages: &Path| {
        Command::new(magpie())
            .arg("publish")
            .args(["--title", "Beside others", "--page"])
            .arg(root().join("dist"))
            .arg("--extractor")
            .arg(parts.join(&manifest.extractor.file))
            .arg("--detector")
            .arg(parts.join(&detector))
            .arg("--gallery")
            .arg(parts.join(&manifest.gallery))
            .arg("--peers")
            .arg(packages)
            .arg("--out")
            .arg(&out)
            .output()
            .expect("magpie runs")
    };
    // A folder without any says what to install.
    let refused = publish(folder.path());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("npm install onnxruntime-web"), "{said}");
    let published = publish(&packages);
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let said = String::from_utf8_lossy(&published.stdout).into_owned();
    assert!(said.contains("litert.js, onnxruntime-web, tensorflow.js"), "{said}");
    let verified = Command::new(magpie()).arg("verify").arg(&out).output().expect("magpie runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    let server = Server::start(&out);
    let schema = root().join("www/bench/schema.json");
    let address = Path::new(&server.address);
    let seen = script("peers.mjs", &[address, &screenshots(), &schema]);
    assert_eq!(seen["status"], "Done.", "{seen}");
    for list in ["problems", "faults"] {
        assert_eq!(seen[list], json!([]), "{list}");
    }
    assert_eq!(seen["origins"].as_array().map(Vec::len), Some(1), "{}", seen["origins"]);
    let reports = seen["reports"].as_array().expect("reports");
    let program = |report: &Value| report["program"].as_str().expect("a name").to_owned();
    let programs: Vec<String> = reports.iter().map(program).collect();
    let [floats, numbers, others @ ..] = programs.as_slice() else { panic!("{programs:?}") };
    assert_eq!((floats, floats), (numbers, &"magpie, in a page".to_owned()));
    assert_eq!(reports[0]["arithmetic"], "f32");
    assert_eq!(reports[1]["arithmetic"], "i8");
    let names: Vec<&str> = others.iter().filter_map(|name| name.split(' ').next()).collect();
    assert_eq!(names, ["litert.js", "onnxruntime-web", "tensorflow.js"]);
    for report in &reports[2..] {
        let lines = report["results"].as_array().expect("a list");
        let whats: Vec<&str> = lines.iter().filter_map(|line| line["what"].as_str()).collect();
        assert_eq!(whats, ["detector network", "extractor network"]);
        for line in lines {
            // The same weights: sums of floats in another order.
            assert!(line["apart"].as_f64() < Some(1e-3), "{line}");
            assert!(line["median_ms"].as_f64() > Some(0.1), "{line}");
        }
    }
}
