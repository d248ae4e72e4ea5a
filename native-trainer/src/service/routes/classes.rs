//! Classes are listed, named, described, taken out.

use std::sync::Arc;

use authoring::label::{check_metadata, label};

use super::{Conditions, changed, json, of_version};
use crate::service::Service;
use crate::service::asked::Asked;
use crate::service::change::{Change, Least, checked_label, class_of};
use crate::service::http::{Call, typed};
use crate::service::problem::{Answered, Kind, Problem};
use crate::service::store::{Doing, Snapshot};
use crate::service::types::{ClassChange, ClassOf, ClassPage, ListOptions, Nothing};

/// Lists classes.
pub(crate) async fn list(service: Arc<Service>, call: Call) -> Answered {
    let options: ListOptions = Asked::of_address(&call.head)?.options()?;
    let snapshot = service.store.current();
    let (limit, listed) = (options.limit(), options.listed(&snapshot.gallery)?);
    of_version(&call.head.headers, &snapshot, || {
        let fits = |class: &usize| listed.has(&snapshot.gallery.classes()[*class]);
        let fitting: Vec<usize> = (0..snapshot.gallery.classes().len()).filter(fits).collect();
        let page = fitting.iter().skip(options.offset).take(limit);
        let classes: Vec<ClassOf> = page.map(|class| class_as(&snapshot, *class)).collect();
        let end = options.offset.saturating_add(classes.len());
        let next = (end < fitting.len() && !classes.is_empty()).then_some(end);
        json(&ClassPage { version: snapshot.version, total: fitting.len(), next, classes })
    })
}

fn class_as(snapshot: &Snapshot, class: usize) -> ClassOf {
    let gallery = &snapshot.gallery;
    let entries = snapshot.counts().get(class).copied().unwrap_or_default();
    ClassOf::new(&gallery.classes()[class], entries, !gallery.thumbnail(class).is_empty())
}

/// Says what a class is.
pub(crate) async fn one(service: Arc<Service>, call: Call) -> Answered {
    let Nothing {} = Asked::of_address(&call.head)?.options()?;
    let snapshot = service.store.current();
    let class = class_of(&snapshot.gallery, &call.place)?;
    of_version(&call.head.headers, &snapshot, || json(&class_as(&snapshot, class)))
}

/// Shows a class.
pub(crate) async fn thumbnail(service: Arc<Service>, call: Call) -> Answered {
    let Nothing {} = Asked::of_address(&call.head)?.options()?;
    let snapshot = service.store.current();
    let class = class_of(&snapshot.gallery, &call.place)?;
    let bytes = snapshot.gallery.thumbnail(class);
    if bytes.is_empty() {
        return Err(Problem::new(Kind::NotFound, "this class has no thumbnail"));
    }
    of_version(&call.head.headers, &snapshot, || Ok(typed(bytes.to_vec(), "image/jpeg")))
}

/// Gives a class another label, metadata or threshold.
pub(crate) async fn change(service: Arc<Service>, call: Call) -> Answered {
    let (conditions, class) = (Conditions::of(&call.head.headers)?, call.place.clone());
    let mut asked = Asked::read(&service, call).await?;
    let change: ClassChange = asked.only_options()?;
    let blank = |text: &String| label(text).is_none();
    if change.metadata.keys().any(blank) {
        return Err(Problem::value("metadata need a name that can be seen"));
    }
    if let Some(label) = &change.label {
        checked_label(label)?;
    }
    for (name, text) in &change.metadata {
        check_metadata(name, text.as_deref().unwrap_or_default())
            .map_err(|error| Problem::value(error.to_string()))?;
    }
    let least = change.min_similarity.map(|least| least.map_or(Least::None, Least::Cosine));
    let metadata = change.metadata;
    let doing = Change::Class { class, label: change.label, metadata, least };
    changed(&service, conditions.asking(Doing::Change(doing), asked.digest)).await
}

/// Takes a class out with its entries.
pub(crate) async fn remove(service: Arc<Service>, call: Call) -> Answered {
    let (conditions, class) = (Conditions::of(&call.head.headers)?, call.place.clone());
    let mut asked = Asked::read(&service, call).await?;
    let Nothing {} = asked.only_options()?;
    let doing = Doing::Change(Change::RemoveClass { class });
    changed(&service, conditions.asking(doing, asked.digest)).await
}
