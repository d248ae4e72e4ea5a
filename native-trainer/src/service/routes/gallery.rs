//! The gallery as a whole: statistics, its file, what it learns, undo.

use std::sync::Arc;

use authoring::adaptation::{
    FALSE_ACCEPT, Options, adapt_and_calibrate, drop_thresholds, map_text, rule_name,
};
use authoring::label::{LabelError, checked};
use hyper::header::{self, HeaderValue};
use models::gallery::{AdaptationKind, Crop, Gallery, GalleryError, IndexConfig};

use super::{Conditions, changed, json, of_version};
use crate::service::Service;
use crate::service::asked::{Asked, file};
use crate::service::change::{Change, refused};
use crate::service::http::{Call, typed};
use crate::service::problem::{Answered, Kind, Problem, shown};
use crate::service::store::{Doing, More, Remake};
use crate::service::types::{AdaptOptions, CalibrateOptions, MapKind, Nothing, Statistics};

fn index_name(config: IndexConfig) -> &'static str {
    match config {
        IndexConfig::Flat => "flat",
        IndexConfig::Hnsw { .. } => "hnsw",
        IndexConfig::Ivf { .. } => "ivf",
        IndexConfig::Binary => "binary",
    }
}

/// Says what the gallery is.
pub(crate) async fn statistics(service: Arc<Service>, call: Call) -> Answered {
    let Nothing {} = Asked::of_address(&call.head)?.options()?;
    let snapshot = service.store.current();
    of_version(&call.head.headers, &snapshot, || {
        let gallery = &snapshot.gallery;
        let mut counts = snapshot.counts().to_vec();
        counts.sort_unstable();
        let at = |place: usize| counts.get(place).copied().unwrap_or_default();
        json(&Statistics {
            version: snapshot.version,
            title: service.title.clone(),
            model: gallery.model().to_owned(),
            dim: gallery.dim(),
            values: gallery.index().vector_type().name().to_owned(),
            classes: gallery.classes().len(),
            entries: gallery.len(),
            entries_a_class: [at(0), at(counts.len() / 2), at(counts.len().saturating_sub(1))],
            index: index_name(gallery.index().config()).to_owned(),
            crop: gallery.crop().name().to_owned(),
            detector: service.has_detector,
            top_k: service.settings.top_k,
            min_similarity: snapshot.min_similarity.into(),
            rule: rule_name(snapshot.rule),
            calibrated: gallery.calibration().is_some(),
            map: map_text(gallery),
            changes: service.gate.change.is_some(),
        })
    })
}

/// Downloads the gallery's file.
pub(crate) async fn download(service: Arc<Service>, call: Call) -> Answered {
    let Nothing {} = Asked::of_address(&call.head)?.options()?;
    let snapshot = service.store.current();
    of_version(&call.head.headers, &snapshot, || {
        let mut response = typed(snapshot.file(), "application/octet-stream");
        let name = HeaderValue::from_static("attachment; filename=\"gallery.bin\"");
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
        Ok(response)
    })
}

/// Takes another gallery of the same extractor.
pub(crate) async fn replace(service: Arc<Service>, call: Call) -> Answered {
    let conditions = Conditions::of(&call.head.headers)?;
    let Nothing {} = Asked::of_address(&call.head)?.options()?;
    let (bytes, digest) = file(&service, call).await?;
    let middle = service.settings.middle;
    let remake: Remake = Box::new(move |current| {
        let gallery = Gallery::from_bytes(&bytes).map_err(refused)?;
        current.check_comparable(&gallery).map_err(refused)?;
        gallery.check_answers().map_err(refused)?;
        for class in gallery.classes() {
            if let Err(error @ (LabelError::Steering { .. } | LabelError::Dots)) =
                checked(&class.label)
            {
                let label = shown(&class.label);
                return Err(Problem::value(format!(
                    "class {label}: {error} (`magpie gallery rename`)"
                )));
            }
        }
        if (gallery.crop() == Crop::Middle) != middle {
            let detail = format!(
                "its entries show other parts of images (crop {}) than this site looks at; publish it",
                gallery.crop().name()
            );
            return Err(Problem::new(Kind::Conflict, detail));
        }
        Ok((gallery, More::default()))
    });
    changed(&service, conditions.asking(Doing::Remake(remake), digest)).await
}

/// Learns a map, answer rule, threshold and probabilities from the gallery's own entries, and keeps what helps.
pub(crate) async fn adapt(service: Arc<Service>, call: Call) -> Answered {
    let conditions = Conditions::of(&call.head.headers)?;
    let mut asked = Asked::read(&service, call).await?;
    let AdaptOptions { kind, false_accept } = asked.only_options()?;
    let options = Options {
        adapt: kind != MapKind::None,
        kind: match kind {
            MapKind::Whitening => Some(AdaptationKind::Whitening),
            MapKind::Lda => Some(AdaptationKind::Lda),
            MapKind::Auto | MapKind::None => None,
        },
        calibrate: true,
        false_accept: false_accept.unwrap_or(FALSE_ACCEPT),
    };
    let remake = learning(options, move |gallery| {
        if kind == MapKind::None && gallery.map().is_some() {
            gallery.set_map(None)?;
            drop_thresholds(gallery)?;
        }
        Ok(())
    });
    changed(&service, conditions.asking(Doing::Remake(remake), asked.digest)).await
}

/// Measures answer rule, threshold and probabilities on the gallery's own entries.
pub(crate) async fn calibrate(service: Arc<Service>, call: Call) -> Answered {
    let conditions = Conditions::of(&call.head.headers)?;
    let mut asked = Asked::read(&service, call).await?;
    let CalibrateOptions { false_accept, always } = asked.only_options()?;
    let false_accept = false_accept.unwrap_or(FALSE_ACCEPT);
    let options = Options { adapt: false, kind: None, calibrate: true, false_accept };
    let remake = learning(
        options,
        move |gallery| {
            if always { gallery.set_min_similarity(None) } else { Ok(()) }
        },
    );
    changed(&service, conditions.asking(Doing::Remake(remake), asked.digest)).await
}

/// What a gallery learns after something was taken out of it.
fn learning(
    options: Options,
    before: impl FnOnce(&mut Gallery) -> Result<(), GalleryError> + Send + 'static,
) -> Remake {
    Box::new(move |current| {
        let mut gallery = current.clone();
        before(&mut gallery).map_err(refused)?;
        let outcome = adapt_and_calibrate(&mut gallery, &options).map_err(refused)?;
        Ok((gallery, More { lines: Some(outcome.sentences()), ..More::default() }))
    })
}

/// Takes the last change back, and the one before it when it is called again.
pub(crate) async fn undo(service: Arc<Service>, call: Call) -> Answered {
    let conditions = Conditions::of(&call.head.headers)?;
    let mut asked = Asked::read(&service, call).await?;
    let Nothing {} = asked.only_options()?;
    changed(&service, conditions.asking(Doing::Change(Change::Undo), asked.digest)).await
}
