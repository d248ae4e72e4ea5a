//! The `magpie` command with the page and its engines inside; `cargo xtask dist` builds it.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// The system's allocator hands large buffers back to the kernel; see `native_trainer::allocator`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The built page, a zip file; empty where this was compiled without one.
static PAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/page.zip"));

fn main() -> ExitCode {
    native_trainer::program::run((!PAGE.is_empty()).then_some(PAGE))
}
