//! The gallery as requests see it, and the one thread that changes it.
//!
//! A request holds a snapshot, so that it sees all of a change or nothing. Changes that wait together are made on one copy
//! and written by one write; they are answered when that is on the disk and the next request sees them.

mod keeper;
mod mirror;
mod shared;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use models::gallery::{AnswerRule, Gallery};
use models::recognizer::RecognizerSettings;
use serde_json::Value;
use tokio::sync::oneshot;

use super::change::{Change, EntryId, LeftOut};
use super::http::Bytes;
use super::journal;
use super::problem::{Answered, Kind, Problem};
use crate::files::{self, Lock};
use crate::postgres::Changing;
use keeper::{Folded, Keeper};

/// A look at whether others have changed the gallery.
type Look = oneshot::Sender<Answered<()>>;

/// What to do about a folder of others' files.
const FOLDER: &str =
    "give --state a new or empty folder, or one that a service has kept its gallery in";
/// Changes that wait at most, and looks at a database.
const WAITING: usize = 256;
/// How long a look at a database may take.
const LOOK: Duration = Duration::from_secs(20);

/// The gallery at a moment.
pub(crate) struct Snapshot {
    pub(crate) gallery: Gallery,
    /// Counts changes.
    pub(crate) version: u64,
    /// Its strong entity tag, quotes included.
    pub(crate) tag: String,
    /// Which class is the answer.
    pub(crate) rule: AnswerRule,
    /// Least cosine of an answer.
    pub(crate) min_similarity: f32,
    counts: OnceLock<Vec<usize>>,
    file: OnceLock<Bytes>,
}

impl Snapshot {
    /// Entries of each class.
    pub(crate) fn counts(&self) -> &[usize] {
        self.counts.get_or_init(|| self.gallery.counts())
    }

    /// The gallery's file.
    pub(crate) fn file(&self) -> Bytes {
        self.file.get_or_init(|| self.gallery.to_bytes().into()).clone()
    }
}

/// How answers are found with the published gallery, and with what it becomes.
#[derive(Clone)]
pub(crate) struct Rules {
    published: RecognizerSettings,
    measured: (Option<f32>, Option<AnswerRule>),
}

impl Rules {
    /// Those of a bundle.
    pub(crate) fn new(settings: &RecognizerSettings, gallery: &Gallery) -> Self {
        let measured = (gallery.min_similarity(), gallery.measured_rule());
        Self { published: settings.clone(), measured }
    }

    /// A gallery that has measured something else since is answered by that.
    fn snapshot(&self, gallery: Gallery, version: u64, id: &str) -> Arc<Snapshot> {
        let measured = (gallery.min_similarity(), gallery.measured_rule());
        let settings = if measured == self.measured {
            self.published.clone()
        } else {
            authoring::bundled::settings(&gallery)
        };
        Arc::new(Snapshot {
            gallery,
            version,
            tag: format!("\"{id}-{version}\""),
            rule: settings.answer,
            min_similarity: settings.min_similarity,
            counts: OnceLock::new(),
            file: OnceLock::new(),
        })
    }
}

/// What makes another gallery of one: a file that takes its place, or what it learns.
pub(crate) type Remake = Box<dyn FnOnce(&Gallery) -> Answered<(Gallery, More)> + Send>;

/// What an answer says besides.
#[derive(Debug, Default)]
pub(crate) struct More {
    /// Images that could not be used.
    pub(crate) left_out: Vec<LeftOut>,
    /// What was learned.
    pub(crate) lines: Option<Vec<String>>,
}

/// What makes a change in the transaction that keeps it, with what it takes for that from the database; and the change's
/// idempotency key with the digest of its request.
pub(crate) type Within =
    Box<dyn FnOnce(&Gallery, &mut Changing<'_>) -> Answered<(Change, (String, String))> + Send>;

/// What is to be done to the gallery.
pub(crate) enum Doing {
    Change(Change),
    Remake(Remake),
    /// Only where the gallery is in a database.
    Within(Within),
}

/// A change with what it depends on.
pub(crate) struct Asking {
    pub(crate) doing: Doing,
    /// Tags of which the gallery must have one; `*` is any.
    pub(crate) matching: Option<Vec<String>>,
    /// Idempotency key, and the digest of the request.
    pub(crate) key: Option<(String, String)>,
    pub(crate) more: More,
}

/// What a change is answered with.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) tag: String,
    pub(crate) answer: Value,
    /// Whether it was answered before.
    pub(crate) replayed: bool,
    /// Whether the gallery is another one since.
    pub(crate) changed: bool,
}

enum Message {
    Ask(Asking, oneshot::Sender<Answered<Told>>),
    /// A gallery with the first changes of the journal in it has been written.
    Folded(Folded),
    End,
}

/// The gallery of a service.
pub(crate) struct Store {
    current: Arc<RwLock<Arc<Snapshot>>>,
    journal: Arc<AtomicU64>,
    door: Option<SyncSender<Message>>,
    /// Where the gallery is in a database, that others change, too.
    looks: Option<SyncSender<Look>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// A gallery that never changes.
    pub(crate) fn fixed(gallery: Gallery, rules: &Rules) -> Self {
        let id = content_of(&gallery);
        let current = rules.snapshot(gallery, 0, &id);
        Self {
            current: Arc::new(RwLock::new(current)),
            journal: Arc::default(),
            door: None,
            looks: None,
            thread: Mutex::default(),
        }
    }

    /// The gallery of a state folder; of an empty one `first`.
    ///
    /// # Errors
    ///
    /// A folder that another process has or that holds something else, files that cannot be read or written, a gallery
    /// of another model.
    pub(crate) fn open(folder: PathBuf, first: Gallery, rules: Rules) -> anyhow::Result<Self> {
        if files::is_folder(&folder)? {
            files::refuse_others(&folder, &folder, FOLDER, journal::is_own)?;
        }
        files::create_folder(&folder).with_context(|| folder.display().to_string())?;
        let Some(lock) = Lock::try_acquire(&folder.join("state"))? else {
            bail!(
                "{}: another process serves or changes this gallery; end it, or give this one another --state",
                folder.display()
            );
        };
        let (keeper, snapshot) = Keeper::open(folder, first, rules, lock)?;
        let (door, messages) = sync_channel(WAITING);
        let current = Arc::new(RwLock::new(snapshot));
        let journal = Arc::new(AtomicU64::new(keeper.journal.bytes()));
        let (seen, bytes, own) = (Arc::clone(&current), Arc::clone(&journal), door.clone());
        let thread = std::thread::Builder::new().name("gallery".to_owned());
        let thread = thread.spawn(move || keeper.run(&messages, &own, &seen, &bytes))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { current, journal, door: Some(door), looks: None, thread })
    }

    /// The gallery of this name in a database, which other services may have, too; where there is none, it begins as `first`.
    ///
    /// # Errors
    ///
    /// A database that cannot be reached or holds something else, a gallery of another model; a role that may not change it,
    /// where it is to be changed.
    pub(crate) fn shared(
        (address, name): (&str, &str),
        first: &Gallery,
        rules: Rules,
        may_change: bool,
    ) -> anyhow::Result<Self> {
        let (keeper, watcher) = shared::open(address, name, first, rules, may_change)?;
        let (current, journal) = watcher.known.parts();
        let (door, messages) = sync_channel(WAITING);
        let (looks, asked) = sync_channel(WAITING);
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        named("looks").spawn(move || watcher.run(&asked))?;
        let thread = named("gallery").spawn(move || keeper.run(&messages))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { current, journal, door: Some(door), looks: Some(looks), thread })
    }

    /// Does what others have changed by now. Whoever asks for the gallery then sees it.
    ///
    /// # Errors
    ///
    /// [`Kind::Database`] where the database does not answer.
    pub(crate) async fn look(&self) -> Answered<()> {
        let Some(looks) = &self.looks else { return Ok(()) };
        let (answer, answered) = oneshot::channel();
        looks.try_send(answer).map_err(|error| match error {
            TrySendError::Full(_) => Problem::new(
                Kind::Busy,
                "more requests wait for the database than may; send it again in a second",
            ),
            TrySendError::Disconnected(_) => ending(),
        })?;
        match tokio::time::timeout(LOOK, answered).await {
            Ok(looked) => looked.unwrap_or_else(|_gone| Err(ending())),
            Err(_late) => {
                Err(Problem::new(Kind::Database, "the database does not answer; send it again"))
            }
        }
    }

    /// The gallery now.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes of the journal.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.journal.load(Ordering::Relaxed)
    }

    /// Changes the gallery; when it is answered the change is on the disk.
    ///
    /// # Errors
    ///
    /// Why nothing has changed.
    pub(crate) async fn change(&self, asking: Asking) -> Answered<Told> {
        let Some(door) = &self.door else {
            let detail =
                "this service keeps no changes; its owner starts it with --state and --token-file";
            return Err(Problem::new(Kind::ReadOnly, detail));
        };
        let (answer, answered) = oneshot::channel();
        door.try_send(Message::Ask(asking, answer)).map_err(|error| match error {
            TrySendError::Full(_) => Problem::new(
                Kind::Busy,
                "as many changes as may be wait; send it again in a second",
            ),
            TrySendError::Disconnected(_) => ending(),
        })?;
        answered.await.unwrap_or_else(|_gone| Err(ending()))
    }

    /// Waits until every change that was asked for is done.
    pub(crate) fn end(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(door), Some(thread)) = (&self.door, thread) {
            // Where the thread has gone there is nothing to wait for.
            let _ = door.send(Message::End);
            let _ = thread.join();
        }
    }
}

fn ending() -> Problem {
    Problem::new(
        Kind::Ending,
        "the service ends; the change may have been kept: ask for the gallery's version",
    )
}

fn content_of(gallery: &Gallery) -> String {
    let content = models::gallery::ContentId::of(&gallery.to_bytes());
    EntryId(content).to_string()[..16].to_owned()
}
