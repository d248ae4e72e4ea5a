//! Texts that are compared with those in `tests/snapshots`.
//!
//! `MAGPIE_SNAPSHOTS=write cargo test` writes them anew; the difference shows what readers are told from then on.

use std::path::Path;

/// Whether a text is the one that is kept under a name.
pub(crate) fn check(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("MAGPIE_SNAPSHOTS").is_some_and(|wish| wish == "write") {
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(&path, text).expect("a snapshot");
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    let line = kept.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
    let [was, is] = [&*kept, text].map(|text| text.lines().nth(line).unwrap_or("the end"));
    assert!(
        kept == text,
        "{}, line {}: kept is\n{was}\nsaid is\n{is}\nMAGPIE_SNAPSHOTS=write keeps what is said",
        path.display(),
        line + 1
    );
}
