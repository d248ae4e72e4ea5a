//! The `magpie` command. It brings no page along: `cargo xtask dist` makes one that does.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// The system's allocator hands large buffers back to the kernel; see `native_trainer::allocator`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    native_trainer::program::run(None)
}
