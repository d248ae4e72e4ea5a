//! Files that the browser keeps for this page: the origin's private file system.
//!
//! Browsers have it in part, refuse it, or never answer. Each call is looked up by name, so that what is
//! missing or throws is an error and not the end of the engine, and each has a time limit.

use std::cell::Cell;

use js_sys::{Array, Function, Object, Promise, Reflect, Uint8Array};
use models::bundle::MAX_FILE_BYTES;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{FileSystemReadWriteOptions, FileSystemSyncAccessHandle};

use crate::scope::{now, scope, within};

/// Milliseconds that the browser has for one answer.
const LIMIT: i32 = 4000;
/// Follows the name of a file whose place is written over.
const COPY: &str = ".copy";

thread_local! {
    /// Whether the browser once did not answer in time: it is not waited for again.
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Calls a method of a browser's object, and waits for what it promises.
async fn call(object: &JsValue, method: &str, arguments: &[JsValue]) -> Result<JsValue, JsValue> {
    if SILENT.get() {
        return Err(JsValue::from_str("this browser's storage does not answer"));
    }
    let function: Function = Reflect::get(object, &method.into())?.dyn_into()?;
    let result = function.apply(object, &arguments.iter().collect::<Array>())?;
    let Ok(promise) = result.clone().dyn_into::<Promise>() else { return Ok(result) };
    let asked = now();
    let answer = within(promise, LIMIT).await;
    if answer.is_err() && now() - asked >= f64::from(LIMIT) {
        SILENT.set(true);
    }
    answer
}

async fn folder() -> Result<JsValue, JsValue> {
    // Not in every browser, and not on pages without a secure connection.
    let storage = Reflect::get(&Reflect::get(&scope(), &"navigator".into())?, &"storage".into())?;
    call(&storage, "getDirectory", &[]).await
}

/// The bytes of a file; `None` where there is none. An error says nothing about what is there: whoever gets one
/// leaves the file alone.
pub(crate) async fn load(name: &str) -> Result<Option<Vec<u8>>, JsValue> {
    match load_once(name).await {
        // Another tab may have written between two steps.
        Err(_) => load_once(name).await,
        loaded => loaded,
    }
}

async fn load_once(name: &str) -> Result<Option<Vec<u8>>, JsValue> {
    let file = match call(&folder().await?, "getFileHandle", &[name.into()]).await {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let blob = call(&file, "getFile", &[]).await?;
    let buffer = call(&blob, "arrayBuffer", &[]).await?;
    Ok(Some(Uint8Array::new(&buffer).to_vec()))
}

/// Whether a browser says that there is no such file; every other error may be of a file that is there.
fn is_missing(error: &JsValue) -> bool {
    Reflect::get(error, &"name".into()).is_ok_and(|name| name == "NotFoundError")
}

/// The copy of a file that [`save`] left, where it was stopped while it wrote over the file itself.
pub(crate) async fn load_copy(name: &str) -> Result<Option<Vec<u8>>, JsValue> {
    load(&format!("{name}{COPY}")).await
}

/// A file, made where there is none.
async fn file(name: &str) -> Result<JsValue, JsValue> {
    let options = Object::new();
    Reflect::set(&options, &"create".into(), &true.into())?;
    call(&folder().await?, "getFileHandle", &[name.into(), options.into()]).await
}

/// Keeps bytes under a name, replacing what was there. A page closed in the middle leaves what was there, or
/// a copy of the new ([`load_copy`]).
pub(crate) async fn save(name: &str, bytes: &[u8]) -> Result<(), JsValue> {
    let file = file(name).await?;
    if Reflect::has(&file, &"createWritable".into())? {
        let stream = call(&file, "createWritable", &[]).await?;
        call(&stream, "write", &[Uint8Array::from(bytes).into()]).await?;
        call(&stream, "close", &[]).await?;
        return Ok(());
    }
    // Safari before 26 only writes in place.
    let copy = format!("{name}{COPY}");
    write_over(&self::file(&copy).await?, bytes).await?;
    write_over(&file, bytes).await?;
    remove(&copy).await;
    Ok(())
}

/// Writes a file's bytes where it lies.
async fn write_over(file: &JsValue, bytes: &[u8]) -> Result<(), JsValue> {
    let file = call(file, "createSyncAccessHandle", &[]).await?;
    let options = Object::new();
    Reflect::set(&options, &"at".into(), &0.into())?;
    let written = async {
        call(&file, "truncate", &[0.into()]).await?;
        let data = Uint8Array::from(bytes);
        let written = call(&file, "write", &[data.into(), options.into()]).await?;
        call(&file, "flush", &[]).await?;
        Ok(written)
    }
    .await;
    // Closed whatever came of it: nobody else can open it before.
    call(&file, "close", &[]).await?;
    match written.map(|written: JsValue| written.as_f64()) {
        Ok(Some(written)) if written == bytes.len() as f64 => Ok(()),
        Ok(_) => Err(JsValue::from_str("the disk is full")),
        Err(error) => Err(error),
    }
}

/// Forgets a file, if it is there.
pub(crate) async fn remove(name: &str) {
    if let Ok(folder) = folder().await {
        // It may not be there.
        let _ = call(&folder, "removeEntry", &[name.into()]).await;
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
    /// Begins to keep the file of this name and of `expected` bytes; with what was kept of it before. `None`
    /// where the browser keeps nothing, or does so for another tab.
    pub(crate) async fn open(name: &str, expected: u64) -> Option<(Self, Vec<u8>)> {
        // `www/worker.js` looks for these names.
        let name = format!("beginning-{name}");
        let file = call(&file(&name).await.ok()?, "createSyncAccessHandle", &[]).await.ok()?;
        let file: FileSystemSyncAccessHandle = file.unchecked_into();
        let kept = Self { name, file, opened: now(), length: Cell::new(0) };
        // A file that another tab takes away meanwhile has a size of 2^64 in Chromium.
        let size = kept.file.get_size().ok()?;
        if !(0.0..=expected.min(MAX_FILE_BYTES) as f64).contains(&size) {
            return None;
        }
        let mut bytes = vec![0; size as usize];
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

    /// Keeps from the first byte anew: what is there does not fit what comes.
    pub(crate) fn restart(&mut self) {
        // Where it stays, the next visit finds out.
        let _ = self.file.truncate_with_f64(0.0);
        self.length.set(0);
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
