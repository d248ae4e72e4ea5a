//! The engine that makes galleries and sites, as `www/studio/engine.js` drives it, and what becomes of its files.

use std::rc::Rc;

use js_sys::{Array, Object, Reflect, Uint8Array};
use serde::Serialize;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;

use super::browser::{ask, call, get, words};
use super::{Studio, deliver};
use crate::app::{
    EngineEvent, Event, Figures, GivenGallery, Goal, Handle, Listed, Seeing, record_name,
};
use crate::project::{Part, PhotoId};
use crate::zip::{Packed, Piece, pieces};

/// Photographs that become objects of the browser's at once.
const PIECE: usize = 200;

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
                let known = known.iter().filter_map(|name| name.as_string());
                EngineEvent::Opened(beside, known.collect())
            }
            Err(error) => EngineEvent::Failed(words(&error)),
        };
        tell(&studio, event);
    });
}

/// Looks at a photograph, or at a part of it.
pub(super) fn look(studio: &Rc<Studio>, id: PhotoId, name: String, part: Option<Part>) {
    let studio = studio.clone();
    spawn_local(async move {
        let edges =
            part.map(|part| part.shares().into_iter().map(JsValue::from).collect::<Array>());
        let edges = edges.map_or(JsValue::NULL, JsValue::from);
        let record = record_name((id, part));
        let arguments = [id.to_string().into(), name.into(), record.into(), edges];
        let event = match ask("look", &arguments).await {
            Ok(_) => EngineEvent::Looked(id, part, Seeing::Usable),
            Err(error) => match get(&error, "kind").as_string().as_deref() {
                Some("Picture" | "Format") => EngineEvent::Looked(id, part, Seeing::Unusable),
                Some("Gone") => EngineEvent::Looked(id, part, Seeing::Gone),
                _ => EngineEvent::Failed(words(&error)),
            },
        };
        tell(&studio, event);
    });
}

/// Recognizes a picture that is none of the photographs.
pub(super) fn try_picture(studio: &Rc<Studio>, handle: Handle, name: String) {
    let (studio, file) = (studio.clone(), studio.held(handle));
    spawn_local(async move {
        let answer = match ask("ask", &[file, name.into()]).await {
            Ok(answer) => serde_wasm_bindgen::from_value(answer)
                .map(Box::new)
                .map_err(|error| error.to_string()),
            Err(error) => Err(words(&error)),
        };
        tell(&studio, EngineEvent::Asked(handle, answer));
    });
}

/// Opens a gallery, or that of a site.
pub(super) fn open_gallery(studio: &Rc<Studio>, gallery: GivenGallery) {
    let files = match gallery {
        GivenGallery::File(handle) => vec![(String::new(), handle)],
        GivenGallery::Bundle(files) => files,
    };
    let studio = studio.clone();
    let handles = files.iter().map(|(_, handle)| *handle).collect();
    let given = files.into_iter().map(|(name, handle)| {
        let given = Object::new();
        // An object of this page's own takes what it is given.
        let _ = Reflect::set(&given, &"name".into(), &name.into());
        let _ = Reflect::set(&given, &"file".into(), &studio.held(handle));
        given
    });
    let given: Array = given.collect();
    spawn_local(async move {
        let opened = match ask("openGallery", &[given.into()]).await {
            Ok(opened) => serde_wasm_bindgen::from_value(opened)
                .map(Box::new)
                .map_err(|error| error.to_string()),
            Err(error) => Err(words(&error)),
        };
        tell(&studio, EngineEvent::GalleryOpened(handles, opened));
    });
}

/// The main body of a photograph, as shares of width and height; `None` without one.
pub(super) async fn find(id: PhotoId) -> Option<[f64; 4]> {
    let found = ask("find", &[id.to_string().into()]).await.ok()?;
    let edges: Vec<f64> =
        found.dyn_into::<Array>().ok()?.iter().filter_map(|edge| edge.as_f64()).collect();
    edges.try_into().ok()
}

/// Makes what is wanted, and hands it to the owner.
pub(super) fn make(studio: &Rc<Studio>, goal: Goal, listed: Listed) {
    let studio = studio.clone();
    let engine = studio.engine.get();
    spawn_local(async move {
        let event = match made(&studio, engine, goal, listed).await {
            Ok(figures) => EngineEvent::Made(figures.map(Box::new)),
            Err(error) => EngineEvent::Failed(words(&error)),
        };
        if studio.engine.get() == engine {
            tell(&studio, event);
        }
    });
}

/// Ends the engine, and what was begun for it.
pub(super) fn end(studio: &Studio) {
    studio.engine.set(studio.engine.get() + 1);
    // One that is not there needs no end.
    let _ = call("endEngine", &[]);
}

/// Figures of what was made for the owner, by the engine of this number; nothing once that was ended.
async fn made(
    studio: &Rc<Studio>,
    engine: u64,
    goal: Goal,
    listed: Listed,
) -> Result<Option<Figures>, JsValue> {
    let project = as_project(listed).await?;
    if studio.engine.get() != engine {
        return Ok(None);
    }
    let name = match goal {
        Goal::Figures => "figures",
        Goal::Nearly => "nearly",
        Goal::Gallery => "gallery",
        Goal::Site => "site",
        Goal::Folder => "folder",
    };
    let hear = studio.clone();
    let progress = Closure::<dyn FnMut(f64, f64)>::new(move |done: f64, of: f64| {
        if hear.engine.get() == engine {
            tell(&hear, EngineEvent::Progress(done as usize, of as usize));
        }
    });
    let answer = ask("make", &[name.into(), project.into(), progress.as_ref().clone()]).await?;
    drop(progress);
    if studio.engine.get() != engine {
        return Ok(None);
    }
    match goal {
        Goal::Figures | Goal::Nearly => {}
        Goal::Gallery => download("gallery.bin", &Array::of1(&get(&answer, "gallery")))?,
        Goal::Site => {
            let parts = zipped(&get(&answer, "site")).await?;
            if studio.engine.get() == engine {
                download("site.zip", &parts)?;
            }
        }
        Goal::Folder => drop(ask("writeFolder", &[get(&answer, "site")]).await?),
    }
    let figures = get(&answer, "figures");
    if figures.is_undefined() {
        return Ok(None);
    }
    let figures: Figures = serde_wasm_bindgen::from_value(figures)?;
    Ok(Some(Figures { are_nearly: get(&answer, "at_once").is_truthy(), ..figures }))
}

fn download(name: &str, parts: &Array) -> Result<(), JsValue> {
    let is_archive = std::path::Path::new(name).extension().is_some_and(|ending| ending == "zip");
    let kind = if is_archive { "application/zip" } else { "application/octet-stream" };
    call("download", &[name.into(), parts.into(), kind.into()]).map(drop)
}

/// The parts of an archive of files, which a worker packs.
async fn zipped(files: &JsValue) -> Result<Array, JsValue> {
    let files = Array::from(&ask("packFiles", std::slice::from_ref(files)).await?);
    let number = |file: &JsValue, key: &str| get(file, key).as_f64().unwrap_or_default();
    let names: Vec<String> =
        files.iter().map(|file| get(&file, "name").as_string().unwrap_or_default()).collect();
    let packed: Vec<Packed<'_>> = (files.iter().zip(&names))
        .map(|(file, name)| Packed {
            name,
            checksum: number(&file, "checksum") as u32,
            size: number(&file, "size") as usize,
            stored: number(&get(&file, "packed"), "size") as usize,
        })
        .collect();
    let pieces = pieces(&packed).map_err(|error| JsValue::from_str(&error.to_string()))?;
    let part = |piece: &Piece| match piece {
        Piece::Own(bytes) => Uint8Array::from(bytes.as_slice()).into(),
        Piece::File(place) => get(&files.get(*place as u32), "packed"),
    };
    Ok(pieces.iter().map(part).collect())
}

/// A project as the engine takes it. Thousands of photographs become objects of the browser's piece by piece: the page
/// does not stand still meanwhile.
async fn as_project(mut listed: Listed) -> Result<Object, JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::new().serialize_missing_as_null(true);
    let all = Array::new();
    for photos in std::mem::take(&mut listed.photos).chunks(PIECE) {
        for photo in photos {
            all.push(&photo.serialize(&serializer)?);
        }
        ask("pause", &[]).await?;
    }
    let project: Object = listed.serialize(&serializer)?.dyn_into()?;
    Reflect::set(&project, &"photos".into(), &all)?;
    Ok(project)
}
