//! `cargo xtask dist`: the files that are handed out, each tried in an empty place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::steps::{execute, output, program, root, say, step, target};
use crate::{package, page, setup};

/// What the program with everything inside may have in bytes, and the files that hold it packed.
const MAX_PROGRAM: u64 = 60_000_000;
const MAX_PACKED: u64 = 25 << 20;
/// The package that has everything inside.
const PROGRAM: &str = "magpie-program";
/// The Python module that has, and the package of Python around it.
const MODULE: &str = "magpie-python";
const PACKAGE: &str = "python/magpie_recognizer";
/// Pictures of the trial, two of each class.
const PICTURES: usize = 200;
/// Seconds from the package's file to a verified site, at most.
const MAX_SECONDS: f64 = 120.0;
/// The first system library that wheels are made for; an older one has no name among wheels' platforms.
const OLDEST_LIBRARY: u32 = 17;

/// Makes, tries and lists everything.
pub(crate) fn run() -> anyhow::Result<()> {
    page::build()?;
    let dist = target().join("dist");
    if dist.exists() {
        std::fs::remove_dir_all(&dist)?;
    }
    std::fs::create_dir_all(&dist)?;
    let host = host()?;
    let metadata = metadata()?;
    let version = version(&metadata)?;
    let magpie = step("the program with its page inside", || build(&dist, &host))?;
    let module = step("the Python module with the same inside", || module(&host))?;
    let staged = target().join("dist-parts");
    let folder = staged.join(format!("magpie-{version}-{host}"));
    step("licenses of what is inside", || stage(&folder, &magpie, &metadata))?;
    step("tar.gz", || {
        let mut tar = program("tar");
        tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"]);
        tar.env("GZIP", "-9n").arg("-czf");
        tar.arg(dist.join(format!("magpie-{version}-{host}.tar.gz")));
        execute(tar.arg("-C").arg(&staged).arg(format!("magpie-{version}-{host}")))
    })?;
    let wheel = step("wheel", || wheel(&folder, &module, &version, &host, &dist))?;
    let package = step("package for npm", || {
        let assembled = package::assemble()?;
        let mut pack = program("npm");
        pack.args(["pack", "--silent", "--pack-destination"]).arg(&dist);
        let name = output(pack.current_dir(assembled)).context("npm pack fails")?;
        anyhow::Ok(dist.join(name.trim()))
    })?;
    step("container file", || container(&dist, &folder))?;
    step("bill of materials", || materials(&dist, &version, &metadata))?;

    let photos = step("pictures for the trial", || pictures(&target().join("dist-trial")))?;
    let archive = dist.join(format!("magpie-{version}-{host}.tar.gz"));
    step("tried: the unpacked tar.gz", || try_archive(&archive, &photos))?;
    step("tried: the wheel in a virtual environment", || try_wheel(&wheel, &photos, &magpie))?;
    step("tried: the package of npm in an empty prefix", || try_npm(&package, &photos, &magpie))?;
    list(&dist, &magpie)
}

/// What is compiled for.
fn host() -> anyhow::Result<String> {
    let text = output(program("rustc").arg("-vV")).context("rustc does not run")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what it compiles for")
}

/// What cargo knows of the program and everything in it.
fn metadata() -> anyhow::Result<Value> {
    let mut cargo = program("cargo");
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    let text = output(&mut cargo).context("cargo metadata fails")?;
    Ok(serde_json::from_str(&text)?)
}

fn version(metadata: &Value) -> anyhow::Result<String> {
    let packages = metadata["packages"].as_array().context("no packages")?;
    let own = packages.iter().find(|package| package["name"] == PROGRAM);
    own.and_then(|own| own["version"].as_str()).map(str::to_owned).context("no version")
}

/// Builds the program; where it lies.
fn build(dist: &Path, host: &str) -> anyhow::Result<PathBuf> {
    let mut pack = program("python3");
    pack.arg("xtask/tools/pack.py").arg("zip").arg(root().join("dist")).arg(packed_page());
    execute(&mut pack)?;
    with_page(PROGRAM, "--bins", host)?;
    let suffix = std::env::consts::EXE_SUFFIX;
    let magpie = dist.join(format!("magpie{suffix}"));
    std::fs::copy(target().join(format!("debug/{PROGRAM}{suffix}")), &magpie)?;
    Ok(magpie)
}

/// The page as a zip file.
fn packed_page() -> PathBuf {
    target().join("page/page.zip")
}

/// Compiles a package with the page inside. What is compiled twice to the same instructions, as functions of several types
/// are, is linked once.
fn with_page(package: &str, what: &str, host: &str) -> anyhow::Result<()> {
    let mut cargo = program("cargo");
    cargo.args(["rustc", "--locked", "--package", package, what, "--"]);
    // The compiler brings a linker along there that knows the flag.
    if host == "x86_64-unknown-linux-gnu" {
        cargo.arg("-Clink-arg=-Wl,--icf=all");
    }
    execute(cargo.env("MAGPIE_PAGE", packed_page()))
}

/// Builds the Python module; where it lies.
fn module(host: &str) -> anyhow::Result<PathBuf> {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    with_page(MODULE, "--lib", host)?;
    Ok(target().join(format!("debug/{DLL_PREFIX}magpie_native{DLL_SUFFIX}")))
}

/// Puts a folder together that holds the program and what comes with it.
fn stage(folder: &Path, magpie: &Path, metadata: &Value) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    let name = magpie.file_name().context("a program has a name")?;
    std::fs::copy(magpie, folder.join(name))?;
    for name in ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"] {
        std::fs::copy(root().join(name), folder.join(name)).context(name)?;
    }
    std::fs::write(folder.join("THIRD-PARTY.txt"), third_party(metadata)?)?;
    Ok(())
}

/// The license texts of every crate that is compiled into program and page, each text once.
fn third_party(metadata: &Value) -> anyhow::Result<String> {
    let packages = metadata["packages"].as_array().context("no packages")?;
    let inside = inside(metadata)?;
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut without = Vec::new();
    for package in packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        if package["source"].is_null() || !inside.contains(&text("id")) {
            continue;
        }
        let name = format!("{} {} ({})", text("name"), text("version"), text("license"));
        let folder =
            Path::new(text("manifest_path")).parent().context("a manifest lies in a folder")?;
        let found = license_texts(folder)?;
        if found.is_empty() {
            without.push(name);
            continue;
        }
        for text in found {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    let mut all = String::from(
        "What others wrote and program and wheel hold. Each license text stands below the crates that bring it.\n",
    );
    for (text, names) in texts {
        let line = "-".repeat(80);
        all.extend(["\n", &line, "\n", &names.join("\n"), "\n", &line, "\n\n", text.trim(), "\n"]);
    }
    if !without.is_empty() {
        all.push_str("\nThese crates bring no text along; their licenses are named in brackets:\n");
        all.extend([&without.join("\n"), "\n"]);
    }
    Ok(all)
}

/// Identities of the packages that program, page and engines are compiled from, without what only compiles or tests.
fn inside(metadata: &Value) -> anyhow::Result<Vec<&str>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("no dependencies")?;
    let node = |id: &str| nodes.iter().find(|node| node["id"] == id);
    let packages = metadata["packages"].as_array().context("no packages")?;
    let first = packages.iter().filter(|package| {
        [PROGRAM, MODULE, "web", "wasm-engine"].iter().any(|name| package["name"] == *name)
    });
    let mut wanted: Vec<&str> = first.filter_map(|package| package["id"].as_str()).collect();
    let mut found: Vec<&str> = Vec::new();
    while let Some(id) = wanted.pop() {
        if found.contains(&id) {
            continue;
        }
        found.push(id);
        let dependencies = node(id).and_then(|node| node["deps"].as_array());
        for dependency in dependencies.into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array();
            let is_inside =
                kinds.is_none_or(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()));
            wanted.extend(dependency["pkg"].as_str().filter(|_| is_inside));
        }
    }
    Ok(found)
}

/// The texts of a crate's license files.
fn license_texts(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let is_license = ["LICEN", "COPYING", "NOTICE", "UNLICEN"];
        if is_license.iter().any(|word| name.starts_with(word)) && entry.path().is_file() {
            let text = std::fs::read(entry.path())?;
            texts.push(String::from_utf8_lossy(&text).replace('\r', ""));
        }
    }
    texts.sort();
    Ok(texts)
}

/// Packs a wheel; its file.
fn wheel(
    folder: &Path,
    module: &Path,
    version: &str,
    host: &str,
    dist: &Path,
) -> anyhow::Result<PathBuf> {
    let tag = platform(host, &std::fs::read(module)?)?;
    let mut pack = program("python3");
    pack.arg("xtask/tools/pack.py").arg("wheel").arg(root().join(PACKAGE)).arg(module);
    pack.args([version, &tag]);
    for name in ["LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY.txt"] {
        pack.arg(folder.join(name));
    }
    let path = output(pack.arg("--out").arg(dist)).context("the wheel is not packed")?;
    Ok(path.into())
}

/// The name that wheels have for a platform: on Linux with the system library that the program needs.
fn platform(host: &str, program: &[u8]) -> anyhow::Result<String> {
    let (processor, _) = host.split_once('-').context("a platform has a processor")?;
    if host.contains("linux-gnu") {
        let minor = needed_library(program).max(OLDEST_LIBRARY);
        return Ok(format!("manylinux_2_{minor}_{processor}"));
    }
    match (host.contains("apple"), host.contains("windows"), processor) {
        (true, _, "aarch64") => Ok("macosx_11_0_arm64".into()),
        (true, _, _) => Ok("macosx_11_0_x86_64".into()),
        (_, true, "aarch64") => Ok("win_arm64".into()),
        (_, true, _) => Ok("win_amd64".into()),
        _ => bail!("{host}: wheels have no name for it"),
    }
}

/// The newest version `2.N` of the system library that a program asks for by name.
fn needed_library(program: &[u8]) -> u32 {
    const NAME: &[u8] = b"GLIBC_2.";
    let minor = |rest: &[u8]| {
        let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).collect();
        String::from_utf8_lossy(&digits).parse().unwrap_or(0)
    };
    let places = program.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    places.map(|(place, _)| minor(&program[place + NAME.len()..])).max().unwrap_or(0)
}

/// Writes the container file; where a daemon runs, builds it and asks the program inside for its version.
fn container(dist: &Path, folder: &Path) -> anyhow::Result<()> {
    let file = root().join("Containerfile");
    std::fs::copy(&file, dist.join("Containerfile"))?;
    if output(program("docker").args(["info", "--format", "{{.ServerVersion}}"])).is_none() {
        say("   no daemon runs here: the container is not tried");
        return Ok(());
    }
    let mut build = program("docker");
    build.args(["build", "--quiet", "--tag", "magpie", "--file"]).arg(&file).arg(folder);
    execute(&mut build)?;
    execute(program("docker").args(["run", "--rm", "magpie", "--version"]))
}

/// What program and wheel are made of, as `CycloneDX`.
fn materials(dist: &Path, version: &str, metadata: &Value) -> anyhow::Result<()> {
    setup::cargo_tool("cargo-cyclonedx", "0.5.9", "0", &["--locked"])?;
    let name = format!("magpie-{version}.cdx");
    let mut cargo = program("cargo");
    cargo.args(["cyclonedx", "--format", "json", "--manifest-path", "program/Cargo.toml"]);
    cargo.args(["--override-filename", &name]);
    execute(&mut cargo)?;
    // One lies beside each member's manifest.
    let packages = metadata["packages"].as_array().context("no packages")?;
    let members = packages.iter().filter(|package| package["source"].is_null());
    for member in members {
        let manifest = Path::new(member["manifest_path"].as_str().unwrap_or_default());
        let written = manifest.with_file_name(format!("{name}.json"));
        let kept =
            [(PROGRAM, format!("{name}.json")), (MODULE, format!("{MODULE}-{version}.cdx.json"))];
        if let Some((_, kept)) = kept.iter().find(|(kept, _)| member["name"] == **kept) {
            std::fs::copy(&written, dist.join(kept)).context("no bill of materials was written")?;
        }
        if written.is_file() {
            std::fs::remove_file(written)?;
        }
    }
    Ok(())
}

/// Folders of classes, of the demo's emoji.
fn pictures(trial: &Path) -> anyhow::Result<PathBuf> {
    setup::npm("www/demo")?;
    let photos = trial.join("photos");
    if trial.exists() {
        std::fs::remove_dir_all(trial)?;
    }
    let vendors = ["google", "twitter"].map(|vendor| {
        let package = format!("www/demo/node_modules/emoji-datasource-{vendor}/img/{vendor}/64");
        (vendor, root().join(package))
    });
    let mut names: Vec<_> = std::fs::read_dir(&vendors[0].1)?
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| vendors.iter().all(|(_, folder)| folder.join(name).is_file()))
        .collect();
    names.sort();
    let step = names.len() / (PICTURES / vendors.len());
    for name in names.iter().step_by(step).take(PICTURES / vendors.len()) {
        let class = photos.join(Path::new(name).file_stem().context("a picture has a name")?);
        std::fs::create_dir_all(&class)?;
        for (vendor, folder) in &vendors {
            std::fs::copy(folder.join(name), class.join(format!("{vendor}.png")))?;
        }
    }
    Ok(photos)
}

/// Unpacks the tar.gz and goes from pictures to a site with what is in it.
fn try_archive(archive: &Path, photos: &Path) -> anyhow::Result<()> {
    let place = target().join("dist-trial/tar");
    std::fs::create_dir_all(&place)?;
    let start = Instant::now();
    execute(program("tar").arg("-xzf").arg(archive).arg("-C").arg(&place))?;
    let folder = std::fs::read_dir(&place)?.next().context("nothing was unpacked")??.path();
    let magpie = folder.join(format!("magpie{}", std::env::consts::EXE_SUFFIX));
    to_site(&magpie, photos, &place.join("site"))?;
    say(&format!("   from the file to the site: {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Installs the wheel where nothing else is and goes from pictures to a site, by the command and by the module, which
/// answer as the program does.
fn try_wheel(wheel: &Path, photos: &Path, program_file: &Path) -> anyhow::Result<()> {
    let place = target().join("dist-trial/wheel");
    let start = Instant::now();
    execute(program("python3").args(["-m", "venv"]).arg(&place))?;
    let scripts = place.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let pip = ["-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"];
    execute(Command::new(scripts.join("python")).args(pip).arg(wheel))?;
    let magpie = scripts.join(format!("magpie{}", std::env::consts::EXE_SUFFIX));
    to_site(&magpie, photos, &place.join("site"))?;
    say(&format!("   from the file to the site: {:.1} s", start.elapsed().as_secs_f64()));
    let mut tried = Command::new(scripts.join("python"));
    tried.current_dir(&place).env_clear();
    tried.arg(root().join("xtask/tools/try_wheel.py")).arg(program_file).arg(photos).arg("site");
    execute(&mut tried)
}

/// Installs the package where no other is and goes from pictures to a site with its command, without a native program;
/// the native one verifies what came of it.
fn try_npm(package: &Path, photos: &Path, magpie: &Path) -> anyhow::Result<()> {
    let place = target().join("dist-trial/npm");
    std::fs::create_dir_all(&place)?;
    let start = Instant::now();
    let mut install = program("npm");
    install.args(["install", "--silent", "--offline", "--no-audit", "--no-fund", "--prefix"]);
    execute(install.arg(&place).arg(package))?;
    let mut site = program("npx");
    site.args(["--no-install", "magpie-recognizer", "site"]).arg(photos).args(["--out", "site"]);
    execute(site.current_dir(&place))?;
    let seconds = start.elapsed().as_secs_f64();
    say(&format!("   from the file to the site: {seconds:.1} s"));
    ensure!(seconds <= MAX_SECONDS, "{seconds:.1} s; {MAX_SECONDS} s are allowed");
    execute(Command::new(magpie).arg("verify").arg(place.join("site")).env_clear())
}

/// From pictures to a site, away from this repository and with an empty environment.
fn to_site(magpie: &Path, photos: &Path, site: &Path) -> anyhow::Result<()> {
    let elsewhere = site.parent().context("a site lies in a folder")?;
    let bare = || {
        let mut command = Command::new(magpie);
        command.current_dir(elsewhere).env_clear();
        command
    };
    execute(bare().arg("site").arg(photos).arg("--out").arg(site))?;
    execute(bare().arg("verify").arg(site))
}

/// Says how large each file is and writes their digests.
fn list(dist: &Path, magpie: &Path) -> anyhow::Result<()> {
    let mut names: Vec<_> = std::fs::read_dir(dist)?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    for path in &names {
        let size = path.metadata()?.len();
        let limit = if path == magpie { MAX_PROGRAM } else { MAX_PACKED };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        say(&format!("   {name}: {:.2} MB", size as f64 / f64::from(1 << 20)));
        ensure!(size <= limit, "{name} has {size} bytes; {limit} are allowed");
    }
    let mut sums = program("sha256sum");
    sums.current_dir(dist).args(names.iter().filter_map(|path| path.file_name()));
    let text = output(&mut sums).context("sha256sum does not run")?;
    std::fs::write(dist.join("SHA256SUMS"), text + "\n")?;
    say(&format!("{}: tried, listed in SHA256SUMS", dist.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_is_named_after_what_the_program_needs() {
        let linux = |program: &[u8]| platform("x86_64-unknown-linux-gnu", program).unwrap();
        assert_eq!(linux(b"..GLIBC_2.34\0GLIBC_2.9\0"), "manylinux_2_34_x86_64");
        assert_eq!(linux(b"GLIBC_2.2.5"), "manylinux_2_17_x86_64");
        assert_eq!(linux(b"GLIBC_2."), "manylinux_2_17_x86_64");
        assert_eq!(platform("aarch64-apple-darwin", b"").unwrap(), "macosx_11_0_arm64");
        assert_eq!(platform("x86_64-pc-windows-msvc", b"").unwrap(), "win_amd64");
        assert!(platform("riscv64gc-unknown-none-elf", b"").is_err());
    }

    #[test]
    fn what_only_tests_or_compiles_is_not_inside() {
        let package = |name: &str| serde_json::json!({ "name": name, "id": name });
        let needs = |id: &str, deps: &[(&str, Option<&str>)]| {
            let of = |(pkg, kind): &(&str, Option<&str>)| serde_json::json!({ "pkg": pkg, "dep_kinds": [{ "kind": kind }] });
            serde_json::json!({ "id": id, "deps": deps.iter().map(of).collect::<Vec<_>>() })
        };
        let metadata = serde_json::json!({
            "packages": (["magpie-program", "web", "a", "b", "c"].map(package)),
            "resolve": { "nodes": [
                needs("magpie-program", &[("a", None), ("b", Some("dev"))]),
                needs("web", &[]),
                needs("a", &[("c", None), ("b", Some("build"))]),
                needs("b", &[]),
                needs("c", &[("a", None)]),
            ] },
        });
        let mut found = inside(&metadata).unwrap();
        found.sort_unstable();
        assert_eq!(found, ["a", "c", "magpie-program", "web"]);
    }
}
