//! The owner's page of a service: everything that it does to a gallery, by keyboard and mouse, in both languages.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use models::Gallery;
use serde_json::json;

use super::authoring::photograph;
use super::{Server, magpie, screenshots, script, site};

const TOKEN: &str = "the-token-of-the-owner";

/// A service with its owner's page, which keeps its gallery in a folder.
fn serve(folder: &Path) -> Server {
    std::fs::write(folder.join("token"), TOKEN).expect("a file");
    let mut command = Command::new(magpie());
    command.arg("serve").arg(site()).args(["--api", "--port", "0", "--corrections", "--manage"]);
    command.arg("--state").arg(folder.join("state")).arg("--token-file").arg(folder.join("token"));
    let mut child = command.stdout(Stdio::piped()).spawn().expect("magpie runs");
    let mut address = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut address).expect("a line");
    Server { child, address: address.trim().to_owned() }
}

/// The published gallery with its first classes alone.
fn small_gallery() -> Vec<u8> {
    let folder = site().join("bundle");
    let manifest = std::fs::read(folder.join("manifest.json")).expect("a manifest");
    let manifest = models::Manifest::from_bytes(&manifest).expect("a manifest");
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let recognizer =
        models::Bundle::open(&manifest, read, &burn::tensor::Device::flex()).expect("a bundle");
    let mut gallery: Gallery = recognizer.gallery().clone();
    let others = gallery.entries().filter(|entry| gallery.entry_class(*entry) >= 30);
    let others: Vec<usize> = others.collect();
    gallery.remove_entries(&others).expect("entries");
    while gallery.classes().len() > 30 {
        gallery.remove_class(gallery.classes().len() - 1).expect("a class");
    }
    gallery.to_bytes()
}

#[test]
fn an_owner_changes_a_gallery_while_it_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, class) in [("a.png", 0), ("b.png", 1), ("c.png", 2)] {
        let bytes = photograph(class, 1).encode_png().expect("a PNG");
        std::fs::write(folder.path().join(name), bytes).expect("a file");
    }
    std::fs::write(folder.path().join("broken.png"), "no picture").expect("a file");
    std::fs::write(folder.path().join("gallery.bin"), small_gallery()).expect("a file");
    let server = serve(folder.path());
    let screenshots = screenshots();
    let arguments =
        [Path::new(&server.address), Path::new(TOKEN), folder.path(), screenshots.as_path()];
    let seen = script("manage.mjs", &arguments);
    let text = |name: &str| seen[name].as_str().unwrap_or_else(|| panic!("{name}: {seen}"));
    assert_eq!(text("wrong"), "This token is not that of the service's owner.");
    assert!(seen["classes"].as_u64() > Some(10), "{seen}");
    assert_eq!(text("focus"), "Classes");
    assert!(text("failed").starts_with("Pictures added: 0;"), "{seen}");
    assert_eq!(
        (text("stayed"), text("range")),
        ("Gadget", "A threshold is a number from −1 to 1.")
    );
    assert!(
        text("added").starts_with("Pictures added: 2; known already: 0.\nLeft out: broken.png: "),
        "{seen}"
    );
    assert_eq!((&seen["entries"], text("fact")), (&json!(2), "price"));
    assert_eq!(seen["nameless"], json!([]));
    assert_eq!(text("question"), "Remove the chosen entries (1)?");
    assert_eq!(
        (&seen["kept"], &seen["undone"], &seen["merged"]),
        (&json!(1), &json!(1), &json!(2))
    );
    assert_eq!(seen["typed"], json!(["maker", "Thing"]), "{seen}");
    assert!(text("changed").starts_with("The gallery has changed meanwhile."), "{seen}");
    assert_eq!(seen["sent"], json!([200, 200, 200]));
    assert_eq!(text("accepted"), "Accepted. Pictures added: 1; known already: 0.");
    assert_eq!(text("rejected"), "Rejected: 2.");
    assert!(text("left").contains("No correction waits."), "{seen}");
    assert!(text("figures").starts_with("Entries"), "{seen}");
    for said in ["measured", "learned"] {
        let is_sentence = |line: &str| line.ends_with('.') && !line.contains("  ");
        assert!(!text(said).is_empty() && text(said).lines().all(is_sentence), "{seen}");
    }
    assert_eq!(text("downloaded"), "gallery.bin");
    assert_eq!((&seen["reloaded"], &seen["forgotten"]), (&json!(true), &json!(0)));
    assert_eq!((&seen["overflow"], &seen["small"]), (&json!(0), &json!([0, 0, 0, 0])));
    assert_eq!((&seen["problems"], &seen["origins"]), (&json!([]), &json!(1)));
    drop(server);
    // What the page did is what the service keeps.
    let server = serve(folder.path());
    let mut lines = Command::new("node");
    let ask = format!(
        "fetch('{}v1/gallery').then((a) => a.json()).then((a) => console.log(a.classes))",
        server.address
    );
    let told = lines.args(["-e", &ask]).output().expect("node runs");
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "30");
}
