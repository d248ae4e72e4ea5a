//! The worker that computes on the processor.

fn main() {
    #[cfg(target_family = "wasm")]
    wasm_engine::run(wasm_engine::protocol::Backend::Cpu);
}
