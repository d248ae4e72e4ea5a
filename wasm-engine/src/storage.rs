//! Files that the browser keeps for this page: the origin's private file system.
//!
//! Writing goes to a copy that takes the file's place when it is whole, so that a page closed in the
//! middle leaves the old file.

use js_sys::Uint8Array;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetFileOptions,
    FileSystemWritableFileStream, WorkerGlobalScope,
};

use crate::fetch::scope;

async fn folder() -> Result<FileSystemDirectoryHandle, JsValue> {
    let scope: WorkerGlobalScope = scope().unchecked_into();
    let storage = scope.navigator().storage();
    // Not in every browser, and not on pages without a secure connection.
    if storage.is_undefined() {
        return Err(JsValue::from_str("this browser keeps no files for this page"));
    }
    Ok(JsFuture::from(storage.get_directory()).await?.unchecked_into())
}

/// The bytes of a file; `None` where there is none, or no way to keep any.
pub(crate) async fn load(name: &str) -> Option<Vec<u8>> {
    let file = JsFuture::from(folder().await.ok()?.get_file_handle(name)).await.ok()?;
    let file: FileSystemFileHandle = file.unchecked_into();
    let blob: Blob = JsFuture::from(file.get_file()).await.ok()?.unchecked_into();
    let buffer = JsFuture::from(blob.array_buffer()).await.ok()?;
    Some(Uint8Array::new(&buffer).to_vec())
}

/// Keeps bytes under a name, replacing what was there.
pub(crate) async fn save(name: &str, bytes: &[u8]) -> Result<(), JsValue> {
    let options = FileSystemGetFileOptions::new();
    options.set_create(true);
    let file = JsFuture::from(folder().await?.get_file_handle_with_options(name, &options)).await?;
    let file: FileSystemFileHandle = file.unchecked_into();
    let stream: FileSystemWritableFileStream =
        JsFuture::from(file.create_writable()).await?.unchecked_into();
    JsFuture::from(stream.write_with_js_u8_array(&Uint8Array::from(bytes))?).await?;
    JsFuture::from(stream.close()).await?;
    Ok(())
}

/// Forgets a file, if it is there.
pub(crate) async fn remove(name: &str) {
    if let Ok(folder) = folder().await {
        // It may not be there.
        let _ = JsFuture::from(folder.remove_entry(name)).await;
    }
}
