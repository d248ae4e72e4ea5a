//! The worker that makes galleries and sites on the processor, in browsers that know relaxed SIMD.

fn main() {
    #[cfg(target_family = "wasm")]
    wasm_engine::author();
}
