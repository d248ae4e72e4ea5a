//! The engine that makes galleries and sites, as `www/studio/engine.js` drives it, and what becomes of its files.

use std::rc::Rc;

use js_sys::{Array, Uint8Array};
use serde::Serialize;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;

use super::browser::{ask, call, get};
use super::{Studio, deliver};
use crate::app::{EngineEvent, Event, Figures, Goal, Listed, Seeing};
use crate::project::PhotoId;
use crate::zip::{Packed, Piece, pieces};

fn words(error: &JsValue) -> String {
    let message = get(error, "message").as_string();
    message.or_else(|| error.as_string()).unwrap_or_else(|| format!("{error:?}"))
}

fn tell(studio: &Rc<Studio>, event: EngineEvent) {
    deliver(studio, Event::Engine(event));
}

/// Opens the engine.
pub(super) fn open(studio: &Rc<Studio>) {
    let studio = studio.clone();
    spawn_local(async move {
        let event = match ask("openEngine", &[]).await {
            Ok(opened) => {
                let beside = get(&opened, "beside").as_f64().unwrap_or(1.0) as usize;
                let known = Array::from(&get(&opened, "known"));
                let known = known.iter().filter_map(|id| PhotoId::parse(&id.as_string()?));
                EngineEvent::Opened(beside, known.collect())
            }
            Err(error) => EngineEvent::Failed(words(&error)),
        };
        tell(&studio, event);
    });
}

/// Looks at a photograph.
pub(super) fn look(studio: &Rc<Studio>, id: PhotoId, name: String) {
    let studio = studio.clone();
    spawn_local(async move {
        let arguments = [id.to_string().into(), name.into()];
        let event = match ask("look", &arguments).await {
            Ok(_) => EngineEvent::Looked(id, Seeing::Usable),
            Err(error) => match get(&error, "kind").as_string().as_deref() {
                Some("Picture" | "Format") => EngineEvent::Looked(id, Seeing::Unusable),
                Some("Gone") => EngineEvent::Looked(id, Seeing::Gone),
                _ => EngineEvent::Failed(words(&error)),
            },
        };
        tell(&studio, event);
    });
}

/// Makes what is wanted, and hands it to the owner.
pub(super) fn make(studio: &Rc<Studio>, goal: Goal, listed: Listed) {
    let studio = studio.clone();
    spawn_local(async move {
        let event = match made(&studio, goal, &listed).await {
            Ok(figures) => EngineEvent::Made(figures.map(Box::new)),
            Err(error) => EngineEvent::Failed(words(&error)),
        };
        tell(&studio, event);
    });
}

/// Ends the engine.
pub(super) fn end() {
    // One that is not there needs no end.
    let _ = call("endEngine", &[]);
}

async fn made(
    studio: &Rc<Studio>,
    goal: Goal,
    listed: &Listed,
) -> Result<Option<Figures>, JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::new().serialize_missing_as_null(true);
    let project = listed.serialize(&serializer)?;
    let name = match goal {
        Goal::Figures => "figures",
        Goal::Gallery => "gallery",
        Goal::Site => "site",
    };
    let hear = studio.clone();
    let progress = Closure::<dyn FnMut(f64, f64)>::new(move |done: f64, of: f64| {
        tell(&hear, EngineEvent::Progress(done as usize, of as usize));
    });
    let answer = ask("make", &[name.into(), project, progress.as_ref().clone()]).await?;
    drop(progress);
    match goal {
        Goal::Figures => {}
        Goal::Gallery => download("gallery.bin", &Array::of1(&get(&answer, "gallery")))?,
        Goal::Site => download("site.zip", &zipped(&get(&answer, "site")).await?)?,
    }
    let figures = get(&answer, "figures");
    if figures.is_undefined() {
        return Ok(None);
    }
    Ok(Some(serde_wasm_bindgen::from_value(figures)?))
}

fn download(name: &str, parts: &Array) -> Result<(), JsValue> {
    let is_archive = std::path::Path::new(name).extension().is_some_and(|ending| ending == "zip");
    let kind = if is_archive { "application/zip" } else { "application/octet-stream" };
    call("download", &[name.into(), parts.into(), kind.into()]).map(drop)
}

/// The parts of an archive of files.
async fn zipped(files: &JsValue) -> Result<Array, JsValue> {
    let mut packed = Vec::new();
    for file in Array::from(files).iter() {
        let name = get(&file, "name").as_string().unwrap_or_default();
        let bytes: Uint8Array = get(&file, "bytes").dyn_into()?;
        let checksum = crc32fast::hash(&bytes.to_vec());
        let short: Uint8Array = ask("pack", &[bytes.clone().into()]).await?.dyn_into()?;
        packed.push((name, checksum, bytes.length() as usize, short.to_vec()));
    }
    let files: Vec<Packed<'_>> = packed
        .iter()
        .map(|(name, checksum, size, bytes)| Packed {
            name,
            checksum: *checksum,
            size: *size,
            bytes,
        })
        .collect();
    let pieces = pieces(&files).map_err(|error| JsValue::from_str(&error.to_string()))?;
    Ok(pieces
        .iter()
        .map(|piece| match piece {
            Piece::Own(bytes) => Uint8Array::from(bytes.as_slice()),
            Piece::File(bytes) => Uint8Array::from(*bytes),
        })
        .collect())
}
