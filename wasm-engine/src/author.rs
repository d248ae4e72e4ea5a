//! The worker that makes galleries and sites: `Started` first, then one request at a time, in order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use authoring::adaptation::{Options, adapt_again};
use authoring::figures::Figures;
use authoring::picture::{PictureError, PictureProblem};
use authoring::site::{self, Sample};
use authoring::workshop::{self, Kept, Workshop};
use authoring::{Part, Record};
use js_sys::{Array, Object, Uint8Array};
use models::gallery::{ContentId, Crop, Gallery};
use models::image::RgbImage;
use serde::Serialize;
use serde_bytes::ByteBuf;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::MessageEvent;

use crate::protocol::author::{self as protocol, Request};
use crate::protocol::{EngineError, ErrorKind};
use crate::scope::scope;
use crate::worker::keep_words_of_panics;

type Response = protocol::Response<Figures>;

/// Listens for requests until the page ends the worker.
pub fn author() {
    models::choose_vectors();
    keep_words_of_panics();
    let open = RefCell::new(Open::default());
    let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        match serde_wasm_bindgen::from_value::<Request>(event.data()) {
            Ok(request) => {
                let id = match &request {
                    Request::Look { id, .. } => Some(*id),
                    _ => None,
                };
                reply(id, answer(&mut open.borrow_mut(), request));
            }
            Err(error) => {
                let message = format!("request cannot be read: {error}");
                reply(None, Err(EngineError::new(ErrorKind::Bundle, message)));
            }
        }
    });
    scope().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    // The listener lives as long as the worker.
    on_message.forget();
    reply(None, Ok(Response::Started));
}

/// What is open.
#[derive(Default)]
struct Open {
    workshop: Option<Workshop>,
    /// What was measured or made last.
    gallery: Option<Gallery>,
    /// What was learned last.
    kept: Option<Kept>,
}

fn answer(open: &mut Open, request: Request) -> Result<Response, EngineError> {
    if let Request::Open { extractor, detector } = request {
        // Memory for both would be twice as much.
        *open = Open::default();
        let detector = detector.map(ByteBuf::into_vec);
        let opened = Workshop::open(extractor.into_vec(), detector)
            .map_err(|error| EngineError::new(ErrorKind::Bundle, error.to_string()))?;
        let opened = open.workshop.insert(opened);
        return Ok(Response::Opened {
            key: opened.key().to_owned(),
            values: opened.dim(),
            detects: opened.detects(),
            exact: models::is_fused(),
        });
    }
    if let Request::Learn { gallery } = request {
        return learned(&gallery);
    }
    if let Request::Pack { file } = request {
        let copies = site::copies_of(&file.name, &file.bytes)
            .map_err(|error| EngineError::new(ErrorKind::Gallery, error.to_string()))?;
        return Ok(Response::Packed { copies: as_files(copies) });
    }
    let Open { workshop: Some(workshop), gallery: last, kept } = open else {
        return Err(EngineError::new(ErrorKind::Bundle, "no network is open yet: send Open first"));
    };
    match request {
        Request::Look { id, name, file, pixels, part } => {
            let (name, pixels) = (Path::new(&name), decoded(pixels)?);
            let record = match part {
                Some(part) => workshop.look_at_part(name, &file, pixels, Part(part)),
                None => workshop.look(name, &file, pixels),
            };
            let record = record.map_err(|error| of_photo(&error))?;
            Ok(Response::Looked {
                id,
                content: hexadecimal(record.id),
                record: record.to_bytes(workshop.key()).into(),
                thumbnail: record.thumbnail.into(),
            })
        }
        Request::Find { name, file, pixels } => {
            let found = workshop.body(Path::new(&name), &file, decoded(pixels)?);
            let found = found.map_err(|error| of_photo(&error))?;
            Ok(Response::Found { part: found.map(|part| part.0) })
        }
        Request::Ask { name, file, pixels } => {
            let Some(gallery) = last else {
                let words = "no gallery is measured yet: send Measure first";
                return Err(EngineError::new(ErrorKind::Gallery, words));
            };
            let asked = workshop.ask(gallery, Path::new(&name), &file, decoded(pixels)?);
            Ok(as_answer(asked.map_err(|error| of_photo(&error))?))
        }
        Request::OpenGallery { gallery, thumbnails } => {
            let thumbnails = thumbnails.as_ref().map(|bytes| bytes.as_slice());
            let opened = workshop.open_gallery(&gallery, thumbnails).map_err(failed)?;
            Ok(as_opened(opened, workshop.key()))
        }
        Request::Know { records } => {
            for record in records {
                workshop
                    .know(&record)
                    .map_err(|error| EngineError::new(ErrorKind::Corrupted, error.to_string()))?;
            }
            Ok(Response::Known { photos: workshop.known() })
        }
        Request::Forget { contents } => {
            for content in contents {
                workshop.forget(content_id(&content)?);
            }
            Ok(Response::Known { photos: workshop.known() })
        }
        Request::Measure { project, at_once } => {
            let project = as_project(project)?;
            if let Some(kept) = kept.as_ref().filter(|_| at_once) {
                let measured = workshop.measure_at_once(&project, kept, &mut tell);
                if let Some(measured) = measured.map_err(failed)? {
                    *last = Some(measured.gallery);
                    return Ok(Response::Measured { figures: measured.figures, at_once });
                }
            }
            let measured = workshop.measure(&project, &mut tell).map_err(failed)?;
            (*last, *kept) = (Some(measured.gallery), Some(measured.kept));
            Ok(Response::Measured { figures: measured.figures, at_once: false })
        }
        Request::Export { project } => {
            let measured = workshop.measure(&as_project(project)?, &mut tell).map_err(failed)?;
            *kept = Some(measured.kept);
            let gallery = last.insert(measured.gallery).to_bytes().into();
            Ok(Response::Exported { gallery })
        }
        Request::Make { project, page, packed } => {
            let page: BTreeMap<String, Vec<u8>> =
                page.into_iter().map(|file| (file.name, file.bytes.into_vec())).collect();
            let project = as_project(project)?;
            let made = workshop.make(&project, page, packed, &mut tell).map_err(failed)?;
            (*last, *kept) = (Gallery::from_bytes(&made.gallery).ok(), Some(made.kept));
            Ok(Response::Made {
                gallery: made.gallery.into(),
                report: made.report,
                figures: made.figures,
                site: as_files(made.site.files),
            })
        }
        Request::Open { .. } | Request::Learn { .. } | Request::Pack { .. } => {
            Err(EngineError::new(ErrorKind::Bundle, "is answered above"))
        }
    }
}

/// Lets a gallery learn anew.
fn learned(file: &[u8]) -> Result<Response, EngineError> {
    let mut gallery = Gallery::from_bytes(file)?;
    let outcome = adapt_again(&mut gallery, &Options::default())?;
    Ok(Response::Learned { gallery: outcome.changed().then(|| gallery.to_bytes().into()) })
}

fn as_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<protocol::File> {
    let file = |(name, bytes): (String, Vec<u8>)| protocol::File { name, bytes: bytes.into() };
    files.into_iter().map(file).collect()
}

fn decoded(pixels: Option<protocol::Pixels>) -> Result<Option<RgbImage>, EngineError> {
    let decoded =
        pixels.map(|pixels| RgbImage::from_rgba(pixels.width, pixels.height, &pixels.rgba));
    Ok(decoded.transpose()?)
}

fn as_answer(asked: workshop::Asked) -> Response {
    let similar = asked.similar.into_iter().map(|similar| protocol::Similar {
        content: hexadecimal(similar.id),
        label: similar.label,
        similarity: similar.similarity,
    });
    Response::Asked {
        known: asked.known,
        probability: asked.probability,
        matches: asked.matches,
        similar: similar.collect(),
    }
}

fn as_opened(opened: workshop::Opened, key: &str) -> Response {
    let classes = opened.classes.into_iter().map(|class| protocol::OpenedClass {
        label: class.label,
        metadata: class.metadata,
        thumbnail: class.thumbnail.into(),
    });
    let photos = opened.photos.into_iter().map(|photo| {
        let record: Record = photo.record;
        protocol::OpenedPhoto {
            content: hexadecimal(record.id),
            class: photo.class,
            record: record.to_bytes(key).into(),
        }
    });
    let crop = match opened.crop {
        Crop::Never => protocol::Crop::Never,
        Crop::Middle => protocol::Crop::Middle,
        Crop::Main => protocol::Crop::Main,
        Crop::Both => protocol::Crop::Both,
    };
    Response::GalleryOpened { crop, classes: classes.collect(), photos: photos.collect() }
}

/// Posts how far a stage has come.
fn tell(stage: workshop::Stage, done: usize, of: usize) -> anyhow::Result<()> {
    let what = match stage {
        workshop::Stage::Photos => protocol::Stage::Pictures,
        workshop::Stage::Learning => protocol::Stage::Learning,
        workshop::Stage::Packing => protocol::Stage::Packing,
    };
    reply(None, Ok(Response::Progress { done, of, what }));
    Ok(())
}

fn as_project(project: protocol::Project) -> Result<workshop::Project, EngineError> {
    let photo = |photo: protocol::Photo| {
        Ok(workshop::Photo {
            id: content_id(&photo.content)?,
            name: PathBuf::from(photo.name),
            label: photo.label,
        })
    };
    let crop = |crop| match crop {
        protocol::Crop::Never => Crop::Never,
        protocol::Crop::Middle => Crop::Middle,
        protocol::Crop::Main => Crop::Main,
        protocol::Crop::Both => Crop::Both,
    };
    let sample = |file: protocol::File| {
        let ending = file.name.rsplit_once('.').map_or("jpg", |(_, ending)| ending);
        Sample { ending: ending.to_owned(), bytes: file.bytes.into_vec() }
    };
    Ok(workshop::Project {
        title: project.title,
        photos: project.photos.into_iter().map(photo).collect::<Result<_, EngineError>>()?,
        crop: project.crop.map(crop),
        learn: Options {
            adapt: project.adapt,
            calibrate: project.calibrate,
            false_accept: share(project.false_accept)?,
            ..Options::default()
        },
        metadata: (project.classes.into_iter())
            .map(|class| (class.label, class.metadata.into_iter().collect()))
            .collect(),
        samples: project.samples.into_iter().map(sample).collect(),
    })
}

/// The share of unknown things that may be given a name.
fn share(wanted: Option<f64>) -> Result<f64, EngineError> {
    match wanted {
        None => Ok(Options::default().false_accept),
        Some(share) if share > 0.0 && share < 1.0 => Ok(share),
        Some(share) => {
            let words = format!("{share}: a share of unknown things lies between 0 and 1");
            Err(EngineError::new(ErrorKind::Gallery, words))
        }
    }
}

fn hexadecimal(id: ContentId) -> String {
    id.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn content_id(text: &str) -> Result<ContentId, EngineError> {
    let digits = |place: usize| u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok();
    let mut id = [0; 16];
    for (place, byte) in id.iter_mut().enumerate() {
        *byte = digits(place).filter(|_| text.len() == 32).ok_or_else(|| {
            EngineError::new(ErrorKind::Gallery, format!("{text:?}: is no content id"))
        })?;
    }
    Ok(ContentId(id))
}

/// Of work that stopped.
fn failed(error: anyhow::Error) -> EngineError {
    EngineError::new(ErrorKind::Gallery, format!("{error:#}"))
}

/// Of a photograph that cannot be used.
fn of_photo(error: &anyhow::Error) -> EngineError {
    let message = format!("{error:#}");
    let Some(PictureError { source, .. }) = error.downcast_ref::<PictureError>() else {
        return EngineError::new(ErrorKind::Device, message);
    };
    let kind = match source {
        PictureProblem::Decode(error) => EngineError::kind_of(error),
        _ => ErrorKind::Picture,
    };
    EngineError::new(kind, message)
}

/// Answers a request; `id` is its number, if it has one.
fn reply(id: Option<u32>, answer: Result<Response, EngineError>) {
    let response = answer.unwrap_or_else(|error| Response::Failed { id, error });
    let posted = post(&response).or_else(|error| {
        let message = format!("the answer cannot be posted: {}", crate::scope::text(&error));
        let error = EngineError::new(ErrorKind::Device, message);
        post(&Response::Failed { id, error })
    });
    if let Err(error) = posted {
        // The worker cannot speak any more: its end is heard.
        wasm_bindgen::throw_val(error);
    }
}

/// Posts an answer. The page gets its bytes themselves: it would stand still while those of a site were copied.
fn post(response: &Response) -> Result<(), JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::new();
    let (message, buffers) = (response.serialize(&serializer)?, Array::new());
    push_buffers(&message, &buffers);
    scope().post_message_with_transfer(&message, &buffers)
}

/// The buffers of all bytes in a message; each has one of its own.
fn push_buffers(message: &JsValue, buffers: &Array) {
    if let Some(bytes) = message.dyn_ref::<Uint8Array>() {
        buffers.push(&bytes.buffer());
    } else if let Some(object) = message.dyn_ref::<Object>() {
        Object::values(object).iter().for_each(|inner| push_buffers(&inner, buffers));
    }
}
