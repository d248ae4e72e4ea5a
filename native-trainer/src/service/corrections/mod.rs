//! What visitors of a service say that things are: kept until the owner decides, and part of no answer before.
//!
//! | module | what |
//! |---|---|
//! | `rates` | how much may come |
//! | `file` | in a file of the state folder |
//! | `database` | in the tables of a gallery that several services have |

mod database;
mod file;
mod rates;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use models::gallery::{ContentId, Gallery};
use models::model_file::sha256_hex;
use serde::{Deserialize, Serialize};

use super::change::{Change, EntryId, Photo, class_of};
use super::problem::{Answered, Kind, Problem};
use crate::postgres::Changing;
use database::Database;
use file::File;
use rates::Rates;

/// Corrections that wait at most, and their bytes.
const MOST: (usize, u64) = (4096, 64 << 20);
/// Decisions that are remembered: what was decided is not asked about again.
const DECIDED: usize = 4096;

/// What the service said of it when it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) class: String,
    pub(crate) similarity: f64,
    pub(crate) known: bool,
}

/// What a visitor says that a thing is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Correction {
    pub(crate) id: EntryId,
    /// When it came, in seconds since 1970.
    pub(crate) time: u64,
    /// Tells this stay in the queue from others of the same correction.
    #[serde(default)]
    pub(crate) stay: u64,
    /// As it becomes entries.
    pub(crate) photo: Photo,
    pub(crate) said: Option<Said>,
}

impl Correction {
    /// A correction; the same thing with the same name is the same correction.
    pub(crate) fn new(photo: Photo, said: Option<Said>, time: u64) -> Self {
        let content = [photo.class.as_bytes(), &[0], &photo.id.0.0[..]].concat();
        Self { id: EntryId(ContentId::of(&content)), time, stay: 0, photo, said }
    }
}

/// Where an accepted correction went, and from which stay in the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Went {
    pub(crate) stay: u64,
    pub(crate) class: String,
    pub(crate) entry: EntryId,
}

/// What was decided about a correction.
#[derive(Debug, Clone)]
struct Decision {
    accepted: bool,
    /// Older files do not say it.
    went: Option<Went>,
}

impl Decision {
    /// Whether it was accepted and its entry has gone since, by undo or with its class.
    fn is_gone(&self, is_there: &impl Fn(&str, EntryId) -> bool) -> bool {
        self.went.as_ref().is_some_and(|went| !is_there(&went.class, went.entry))
    }
}

/// Those of a request that wait, in the order in which they came, and the stays of all.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) waiting: Vec<Correction>,
    pub(crate) stays: Vec<u64>,
}

/// What is known of a correction: its place among those that wait, and what was decided about it before.
type Found = (Option<(u64, Correction)>, Option<Decision>);

/// Those of some ids that wait; what was decided in the same way before is passed over.
///
/// # Errors
///
/// [`Kind::NotFound`], also for one that was accepted and whose entry `is_there` does not find any more;
/// [`Kind::Conflict`] for one that was decided otherwise.
fn choose(
    ids: &[EntryId],
    accepted: bool,
    find: impl Fn(EntryId) -> Answered<Found>,
    is_there: impl Fn(&str, EntryId) -> bool,
) -> Answered<Chosen> {
    let (mut found, mut stays) = (BTreeMap::new(), Vec::new());
    for id in ids {
        match find(*id)? {
            (Some((place, correction)), _) => {
                stays.push(correction.stay);
                found.insert(place, correction);
            }
            (None, Some(before)) if accepted && before.is_gone(&is_there) => {
                let detail = format!(
                    "the correction {id} was accepted, and its entry has gone from its class since; send the \
                     correction again, then accept it"
                );
                return Err(Problem::new(Kind::NotFound, detail));
            }
            (None, Some(before)) if before.accepted == accepted => {
                stays.extend(before.went.as_ref().map(|went| went.stay));
            }
            (None, Some(_)) => {
                let how = if accepted { "rejected" } else { "accepted" };
                let detail = format!("the correction {id} was {how} before");
                return Err(Problem::new(Kind::Conflict, detail));
            }
            (None, None) => return Err(missing(*id)),
        }
    }
    Ok(Chosen { waiting: found.into_values().collect(), stays })
}

impl Chosen {
    /// Where each that waits goes, as its own class or as the class `to`.
    pub(crate) fn went(&self, to: Option<&str>) -> Vec<Went> {
        let went = |correction: &Correction| Went {
            stay: correction.stay,
            class: to.unwrap_or(&correction.photo.class).to_owned(),
            entry: correction.photo.id,
        };
        self.waiting.iter().map(went).collect()
    }

    /// The change that adds all that wait, as images are added.
    pub(crate) fn change(&self, to: Option<&str>) -> Change {
        if self.waiting.is_empty() {
            return Change::Nothing;
        }
        let photo = |correction: &Correction| {
            let class = to.unwrap_or(&correction.photo.class).to_owned();
            Photo { class, ..correction.photo.clone() }
        };
        Change::Add { photos: self.waiting.iter().map(photo).collect() }
    }

    /// The key of this decision, with its digest. Asked once more, it is the same one; what waits anew has another. No client
    /// has it, for theirs hold no blank.
    pub(crate) fn key(&self, ids: &[EntryId], to: Option<&str>) -> (String, String) {
        let listed: Vec<String> = ids.iter().map(EntryId::to_string).collect();
        let stays = &self.stays;
        let digest = sha256_hex(format!("{listed:?} {stays:?} {to:?}").as_bytes());
        (format!("corrections {digest}"), digest)
    }
}

/// Whether a class has an entry.
pub(crate) fn has(gallery: &Gallery, class: &str, id: EntryId) -> bool {
    class_of(gallery, class).is_ok_and(|class| {
        let mut entries = gallery.entries();
        entries
            .any(|entry| gallery.entry_class(entry) == class && EntryId::of(gallery, entry) == id)
    })
}

fn missing(id: EntryId) -> Problem {
    let detail =
        format!("there is no correction {id}; GET /v1/corrections lists those that there are");
    Problem::new(Kind::NotFound, detail)
}

/// As many wait as may.
fn full() -> Problem {
    let detail = "as many corrections as may be wait for the owner; send it again another day";
    let mut problem = Problem::new(Kind::Busy, detail);
    problem.retry_after = Some(3600);
    problem
}

fn too_many(wait: Duration) -> Problem {
    let seconds = wait.as_secs() + 1;
    let detail =
        format!("more corrections come than are taken; send it again in {seconds} seconds");
    let mut problem = Problem::new(Kind::Busy, detail);
    problem.retry_after = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
    problem
}

/// What becomes of corrections that are accepted: the change of the gallery, and its record with its key.
type Accepted = (Change, (String, String));

/// Where corrections wait.
enum Place {
    File(Box<File>),
    Database(Box<Database>),
}

/// All corrections of a service.
pub(crate) struct Corrections {
    place: Place,
    rates: Mutex<Rates>,
    /// Held from the look at what waits until it is decided: of two decisions one is the first.
    pub(crate) deciding: tokio::sync::Mutex<()>,
}

impl Corrections {
    fn at(place: Place) -> Self {
        Self { place, rates: Mutex::default(), deciding: tokio::sync::Mutex::default() }
    }

    /// The corrections of a state folder, for a gallery's extractor.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written, is damaged, or is of another extractor.
    pub(crate) fn open(folder: &Path, gallery: &Gallery) -> anyhow::Result<Self> {
        Ok(Self::at(Place::File(Box::new(File::open(folder, gallery)?))))
    }

    /// The corrections of a gallery in a database, whose tables are there.
    ///
    /// # Errors
    ///
    /// A database that cannot be reached.
    pub(crate) fn shared((address, name): (&str, &str), gallery: &Gallery) -> anyhow::Result<Self> {
        let database = Database::open(address, name, gallery.dim())?;
        Ok(Self::at(Place::Database(Box::new(database))))
    }

    /// Whether another correction may come from an address. Addresses of this machine are those of a proxy, and of many.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`], [`Kind::Database`]
    pub(crate) fn admit(&self, from: Option<IpAddr>, now: Instant) -> Answered<()> {
        let rates = || self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let from = from.map(rates::network).filter(|from| !from.is_loopback());
        let Place::Database(database) = &self.place else {
            return rates().admit(from, now).map_err(too_many);
        };
        // Addresses stay in the memory of the service that they have come to.
        {
            // Taken before the database is asked: of many that come at once no more pass than may.
            let mut rates = rates();
            rates.check(from, now).map_err(too_many)?;
            rates.take(from, now);
        }
        database.admit().inspect_err(|_refused| rates().give_back(from))
    }

    /// Keeps a correction; it is on the disk when this returns. `false` where it was there, or was decided, already. One
    /// whose entry `is_there` does not find any more waits anew.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] where too many wait, [`Kind::Storage`], [`Kind::Database`]
    pub(crate) fn keep(
        &self,
        correction: Correction,
        is_there: impl Fn(&str, EntryId) -> bool,
    ) -> Answered<bool> {
        match &self.place {
            Place::File(file) => file.keep(correction, is_there),
            Place::Database(database) => database.keep(&correction, is_there),
        }
    }

    /// How many wait, as far as it is known without asking.
    pub(crate) fn known(&self) -> usize {
        match &self.place {
            Place::File(file) => file.len(),
            Place::Database(database) => database.known(),
        }
    }

    /// How many wait; what was known last where a database does not answer.
    pub(crate) fn len(&self) -> usize {
        match &self.place {
            Place::File(file) => file.len(),
            Place::Database(database) => database.len(),
        }
    }

    /// A page of those that wait, oldest first, and how many there are.
    ///
    /// # Errors
    ///
    /// [`Kind::Database`], [`Kind::Failed`] for rows that are no corrections.
    pub(crate) fn page(&self, offset: usize, limit: usize) -> Answered<(usize, Vec<Correction>)> {
        match &self.place {
            Place::File(file) => Ok(file.page(offset, limit)),
            Place::Database(database) => database.page(offset, limit),
        }
    }

    /// The picture of one that waits; empty where an embedding came without.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`], [`Kind::Database`]
    pub(crate) fn thumbnail(&self, id: EntryId) -> Answered<Vec<u8>> {
        match &self.place {
            Place::File(file) => file.thumbnail(id),
            Place::Database(database) => database.thumbnail(id),
        }
    }

    /// What accepts corrections in the transaction in which they become entries; `None` where they lie in a file, whose
    /// owner chooses, changes the gallery and decides then.
    pub(crate) fn accepting(
        &self,
        ids: &[EntryId],
        to: Option<String>,
    ) -> Option<impl FnOnce(&Gallery, &mut Changing<'_>) -> Answered<Accepted> + Send + use<>> {
        let Place::Database(database) = &self.place else { return None };
        let (dim, ids) = (database.dim, ids.to_vec());
        Some(move |gallery: &Gallery, changing: &mut Changing<'_>| {
            database::accept(dim, &ids, to.as_deref(), gallery, changing)
        })
    }

    /// Those of a file that wait, as [`choose`] finds them.
    ///
    /// # Errors
    ///
    /// As [`choose`].
    pub(crate) fn waiting(
        &self,
        ids: &[EntryId],
        accepted: bool,
        is_there: impl Fn(&str, EntryId) -> bool,
    ) -> Answered<Chosen> {
        match &self.place {
            Place::File(file) => file.waiting(ids, accepted, is_there),
            Place::Database(_) => Err(Problem::new(Kind::Failed, "these lie in a database")),
        }
    }

    /// Takes those that were accepted out of a file, with where they `went`; that is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`Kind::Storage`]
    pub(crate) fn accepted(&self, ids: Vec<EntryId>, went: Vec<Went>) -> Answered<()> {
        match &self.place {
            Place::File(file) => file.decide(ids, Some(went)),
            Place::Database(_) => Err(Problem::new(Kind::Failed, "these lie in a database")),
        }
    }

    /// Takes those of some ids that wait away, all or none; how many these were.
    ///
    /// # Errors
    ///
    /// As [`choose`]; [`Kind::Storage`], [`Kind::Database`]
    pub(crate) fn reject(&self, ids: &[EntryId]) -> Answered<usize> {
        match &self.place {
            Place::File(file) => {
                let Chosen { waiting, .. } = file.waiting(ids, false, |_, _| true)?;
                let ids: Vec<EntryId> =
                    waiting.into_iter().map(|correction| correction.id).collect();
                let rejected = ids.len();
                file.decide(ids, None)?;
                Ok(rejected)
            }
            Place::Database(database) => database.reject(ids),
        }
    }
}
