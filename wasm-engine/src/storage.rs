//! Files that the browser keeps for this page: the origin's private file system.
//!
//! Writing goes to a copy that takes the file's place when it is whole, so that a page closed in the
//! middle leaves the old file.

use std::cell::Cell;

use js_sys::Uint8Array;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetFileOptions,
    FileSystemReadWriteOptions, FileSystemSyncAccessHandle, FileSystemWritableFileStream,
    WorkerGlobalScope,
};

use crate::fetch::{now, scope};

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

/// A file, made where there is none.
async fn file(name: &str) -> Result<FileSystemFileHandle, JsValue> {
    let options = FileSystemGetFileOptions::new();
    options.set_create(true);
    let file = folder().await?.get_file_handle_with_options(name, &options);
    Ok(JsFuture::from(file).await?.unchecked_into())
}

/// Keeps bytes under a name, replacing what was there.
pub(crate) async fn save(name: &str, bytes: &[u8]) -> Result<(), JsValue> {
    let file = file(name).await?;
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

/// What has come of a file whose download is not at its end, kept so that it goes on there after a
/// reload. Such files are named after their content, so what was kept fits what comes.
#[derive(Debug)]
pub(crate) struct Beginning {
    name: String,
    file: FileSystemSyncAccessHandle,
    opened: f64,
    /// Bytes that are kept.
    length: Cell<usize>,
}

/// Milliseconds before anything is kept: what comes sooner is not worth the writing.
const PATIENCE: f64 = 1000.0;
/// Bytes that are written at once.
const WRITTEN: usize = 1 << 18;

impl Beginning {
    /// Begins to keep the file of this name; with what was kept of it before. `None` where the browser
    /// keeps nothing, or does so for another tab.
    pub(crate) async fn open(name: &str) -> Option<(Self, Vec<u8>)> {
        // `www/worker.js` looks for these names.
        let name = format!("beginning-{name}");
        let file =
            JsFuture::from(file(&name).await.ok()?.create_sync_access_handle()).await.ok()?;
        let file: FileSystemSyncAccessHandle = file.unchecked_into();
        let kept = Self { name, file, opened: now(), length: Cell::new(0) };
        let mut bytes = vec![0; kept.file.get_size().ok()? as usize];
        let read = kept.file.read_with_u8_array(&mut bytes).ok()?;
        bytes.truncate(read as usize);
        kept.length.set(bytes.len());
        Some((kept, bytes))
    }

    /// Keeps what has come so far, from the file's first byte, where enough of it is new. Where that
    /// fails (a full disk) less is kept.
    pub(crate) fn keep(&self, bytes: &[u8]) {
        let kept = self.length.get();
        if bytes.len() < kept + WRITTEN || now() - self.opened < PATIENCE {
            return;
        }
        let options = FileSystemReadWriteOptions::new();
        options.set_at(kept as f64);
        let new = Uint8Array::from(&bytes[kept..]);
        if let Ok(written) = self.file.write_with_js_u8_array_and_options(&new, &options) {
            self.length.set(kept + written as usize);
        }
    }

    /// Forgets the file, which is there whole.
    pub(crate) async fn forget(self) {
        self.file.close();
        remove(&self.name).await;
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.file.close();
    }
}
