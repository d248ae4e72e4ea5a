//! The worker that computes on WebGPU.

fn main() {
    #[cfg(target_family = "wasm")]
    wasm_engine::run(wasm_engine::protocol::Backend::WebGpu);
}
