//! The worker that computes on the processor, in browsers that know relaxed SIMD.

fn main() {
    #[cfg(target_family = "wasm")]
    wasm_engine::run(wasm_engine::protocol::Backend::Cpu);
}
