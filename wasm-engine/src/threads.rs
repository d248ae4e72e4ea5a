//! More threads for the engine, in pages that may share memory: other workers run the same module in
//! the same memory (`www/worker-helper.js` starts them).

use js_sys::{Promise, Reflect};
use wasm_bindgen::JsCast;

use crate::scope::{scope, within};

/// Milliseconds that helpers have to start.
const PATIENCE: i32 = 10_000;

#[cfg(feature = "threads")]
pub use shared::{gather, help, to_share};

/// Threads that compute.
pub(crate) fn count() -> usize {
    #[cfg(feature = "threads")]
    return models::threads::pool::gathered() + 1;
    #[cfg(not(feature = "threads"))]
    1
}

/// Waits until the engine has the threads that it will have.
pub(crate) async fn settled() {
    let helpers = Reflect::get(&scope(), &"helpers".into()).ok();
    if let Some(Ok(helpers)) = helpers.map(JsCast::dyn_into::<Promise>) {
        // Without helpers it goes on as well.
        let _ = within(helpers, PATIENCE).await;
    }
}

#[cfg(feature = "threads")]
mod shared {
    use js_sys::Array;
    use models::threads::pool;
    use wasm_bindgen::prelude::wasm_bindgen;

    /// What a helper's worker needs: the compiled module and its memory.
    #[wasm_bindgen(js_name = toShare)]
    pub fn to_share() -> Array {
        Array::of2(&wasm_bindgen::module(), &wasm_bindgen::memory())
    }

    /// A helper's whole life; does not return.
    #[wasm_bindgen]
    pub fn help() {
        pool::help();
    }

    /// From now on `helpers` other threads, all of them started, share the engine's work; whether they do.
    #[wasm_bindgen]
    pub fn gather(helpers: usize) -> bool {
        pool::gather(helpers).is_ok()
    }
}
