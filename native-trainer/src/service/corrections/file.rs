//! Corrections in a file, on the disk before they are answered.
//!
//! The file `corrections.wal` of the state folder begins with the extractor, and has frames of what came and of what was
//! decided. It is written anew when most of it was decided.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use models::gallery::Gallery;
use serde::{Deserialize, Serialize};

use super::{Chosen, Correction, DECIDED, Decision, Found, MOST, Went, choose, full, missing};
use crate::files;
use crate::service::change::EntryId;
use crate::service::journal::CORRECTIONS;
use crate::service::log::{Log, frame, framed, is_damaged};
use crate::service::problem::{Answered, Kind, Problem};

/// How the file begins.
const MAGIC: &[u8; 8] = b"MAGPCOR1";
/// Most bytes of the file that are read.
const LIMIT: u64 = 1 << 30;
/// Bytes that the file may have beside what waits.
const SPARE: u64 = 4 << 20;
/// How the file begins: embeddings of another extractor say nothing.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Begin {
    model: String,
    dim: usize,
}

/// What stands in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Record {
    Came {
        correction: Correction,
    },
    Decided {
        ids: Vec<EntryId>,
        accepted: bool,
        /// Where each of them went, if it was accepted.
        #[serde(default)]
        went: Vec<Option<Went>>,
    },
}

/// The corrections of a state folder.
pub(super) struct File {
    path: PathBuf,
    begin: Begin,
    queue: Mutex<Queue>,
}

struct Queue {
    log: Log,
    held: Held,
}

/// What the file holds.
#[derive(Default)]
struct Held {
    /// In the order in which they came, each with its bytes.
    waiting: BTreeMap<u64, (Correction, u64)>,
    places: HashMap<EntryId, u64>,
    bytes: u64,
    next: u64,
    decided: HashMap<EntryId, Decision>,
    order: VecDeque<EntryId>,
}

impl Held {
    fn came(&mut self, correction: Correction, bytes: u64) {
        if self.places.contains_key(&correction.id) {
            return;
        }
        self.places.insert(correction.id, self.next);
        self.waiting.insert(self.next, (correction, bytes));
        self.bytes += bytes;
        self.next += 1;
    }

    fn decided(&mut self, id: EntryId, accepted: bool, went: Option<Went>) {
        let place = self.places.remove(&id);
        if let Some((_, bytes)) = place.and_then(|place| self.waiting.remove(&place)) {
            self.bytes -= bytes;
        }
        if self.decided.insert(id, Decision { accepted, went }).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > DECIDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.decided.remove(&oldest);
        }
    }
}

impl Held {
    fn decide(&mut self, ids: Vec<EntryId>, accepted: bool, went: Vec<Option<Went>>) {
        let went = went.into_iter().chain(std::iter::repeat(None));
        ids.into_iter().zip(went).for_each(|(id, went)| self.decided(id, accepted, went));
    }
}

impl File {
    /// The corrections of a state folder, for a gallery's extractor.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written, is damaged, or is of another extractor.
    pub(super) fn open(folder: &Path, gallery: &Gallery) -> anyhow::Result<Self> {
        let path = folder.join(CORRECTIONS);
        let begin = Begin { model: gallery.model().to_owned(), dim: gallery.dim() };
        if !path.exists() {
            files::write(&path, &first_bytes(&begin)?)?;
        }
        let bytes = files::read(&path, LIMIT)?;
        let damaged =
            || format!("{}: is damaged; put a copy back, or take it away", path.display());
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            bail!("{}: is no file of corrections that this program reads", path.display());
        };
        let (text, mut rest) = frame(rest).with_context(damaged)?;
        let found: Begin = serde_json::from_slice(text).with_context(damaged)?;
        if found != begin {
            bail!(
                "{}: its corrections are not of this site's extractor; take the file away",
                path.display()
            );
        }
        let mut held = Held::default();
        while let Some((text, behind)) = frame(rest) {
            let length = (rest.len() - behind.len()) as u64;
            match serde_json::from_slice(text).with_context(damaged)? {
                Record::Came { correction } => held.came(correction, length),
                Record::Decided { ids, accepted, went } => held.decide(ids, accepted, went),
            }
            rest = behind;
        }
        if is_damaged(rest) {
            bail!("{}", damaged());
        }
        let log = Log::open(&path, (bytes.len() - rest.len()) as u64)?;
        Ok(Self { path, begin, queue: Mutex::new(Queue { log, held }) })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a correction; it is on the disk when this returns. `false` where it was there, or was decided, already. One
    /// whose entry `is_there` does not find any more waits anew.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] where too many wait, [`Kind::Storage`]
    pub(super) fn keep(
        &self,
        mut correction: Correction,
        is_there: impl Fn(&str, EntryId) -> bool,
    ) -> Answered<bool> {
        let mut queue = self.queue();
        let Queue { log, held } = &mut *queue;
        let decided = held.decided.get(&correction.id);
        let is_decided = decided.is_some_and(|decided| !decided.is_gone(&is_there));
        if held.places.contains_key(&correction.id) || is_decided {
            return Ok(false);
        }
        correction.stay = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        if held.waiting.len() >= MOST.0 || held.bytes >= MOST.1 {
            return Err(full());
        }
        let before = log.bytes();
        let record = Record::Came { correction };
        log.append(&record).map_err(|error| storage(&error))?;
        let bytes = log.bytes() - before;
        if let Record::Came { correction } = record {
            held.came(correction, bytes);
        }
        Ok(true)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue().held.waiting.len()
    }

    /// A page of those that wait, oldest first, and how many there are.
    pub(super) fn page(&self, offset: usize, limit: usize) -> (usize, Vec<Correction>) {
        let queue = self.queue();
        let waiting = &queue.held.waiting;
        let page = waiting.values().skip(offset).take(limit);
        (waiting.len(), page.map(|(correction, _)| correction.clone()).collect())
    }

    /// The picture of one that waits; empty where an embedding came without.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`]
    pub(super) fn thumbnail(&self, id: EntryId) -> Answered<Vec<u8>> {
        let queue = self.queue();
        let place = queue.held.places.get(&id).ok_or_else(|| missing(id))?;
        let found = queue.held.waiting.get(place).ok_or_else(|| missing(id))?;
        Ok(found.0.photo.thumbnail.0.clone())
    }

    /// Those of some ids that wait; what was decided in the same way before is passed over.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`], also for one that was accepted and whose entry `is_there` does not find any more;
    /// [`Kind::Conflict`] for one that was decided otherwise.
    pub(super) fn waiting(
        &self,
        ids: &[EntryId],
        accepted: bool,
        is_there: impl Fn(&str, EntryId) -> bool,
    ) -> Answered<Chosen> {
        let queue = self.queue();
        let held = &queue.held;
        let find = |id: EntryId| -> Answered<Found> {
            let place = held.places.get(&id);
            let waiting =
                place.and_then(|place| Some((*place, held.waiting.get(place)?.0.clone())));
            Ok((waiting, held.decided.get(&id).cloned()))
        };
        choose(ids, accepted, find, is_there)
    }

    /// Takes decided corrections out, accepted ones with where they `went`; that is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`Kind::Storage`]
    pub(super) fn decide(&self, ids: Vec<EntryId>, went: Option<Vec<Went>>) -> Answered<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut queue = self.queue();
        let accepted = went.is_some();
        let went = went.unwrap_or_default().into_iter().map(Some).collect();
        let record = Record::Decided { ids, accepted, went };
        queue.log.append(&record).map_err(|error| undecided(&error, accepted))?;
        if let Record::Decided { ids, accepted, went } = record {
            queue.held.decide(ids, accepted, went);
        }
        if queue.log.bytes() > 2 * queue.held.bytes + SPARE {
            // What was decided is kept already; the next decision tries again.
            match self.rewritten(&queue.held) {
                Ok(log) => queue.log = log,
                Err(error) => eprintln!("corrections: {}", crate::terminal::sentence(&error)),
            }
        }
        Ok(())
    }

    /// The file without what was decided.
    fn rewritten(&self, held: &Held) -> anyhow::Result<Log> {
        let mut bytes = first_bytes(&self.begin)?;
        for accepted in [false, true] {
            let decided = held.order.iter().filter_map(|id| {
                let decision = held.decided.get(id)?;
                (decision.accepted == accepted).then(|| (*id, decision.went.clone()))
            });
            let (ids, went): (Vec<EntryId>, Vec<Option<Went>>) = decided.unzip();
            bytes.extend(framed(&Record::Decided { ids, accepted, went })?);
        }
        for (correction, _) in held.waiting.values() {
            bytes.extend(framed(&Record::Came { correction: correction.clone() })?);
        }
        files::write(&self.path, &bytes)?;
        Ok(Log::open(&self.path, bytes.len() as u64)?)
    }
}

fn first_bytes(begin: &Begin) -> anyhow::Result<Vec<u8>> {
    Ok([MAGIC.to_vec(), framed(begin)?].concat())
}

fn storage(error: &anyhow::Error) -> Problem {
    eprintln!("{}", crate::terminal::sentence(error));
    Problem::new(Kind::Storage, "the correction could not be kept on the disk; nothing has changed")
}

/// Of a decision that could not be kept: the gallery has what was accepted by then.
fn undecided(error: &anyhow::Error, accepted: bool) -> Problem {
    if !accepted {
        return storage(error);
    }
    eprintln!("{}", crate::terminal::sentence(error));
    let detail = "the gallery has the corrections, but the disk could not keep that they were accepted, so they still \
                  wait; make room and accept them again: nothing is added twice";
    Problem::new(Kind::Storage, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::change::tests::photo;

    fn opened(folder: &Path) -> File {
        File::open(folder, &Gallery::new(4, "m")).unwrap()
    }

    fn correction(number: u8) -> Correction {
        Correction::new(photo("Mug", number), None, u64::from(number))
    }

    const THERE: fn(&str, EntryId) -> bool = |_, _| true;
    const GONE: fn(&str, EntryId) -> bool = |_, _| false;

    fn went(number: u8) -> Went {
        Went { stay: 0, class: "Mug".to_owned(), entry: photo("Mug", number).id }
    }

    fn ids(corrections: &File) -> Vec<EntryId> {
        corrections.page(0, 99).1.into_iter().map(|correction| correction.id).collect()
    }

    #[test]
    fn what_waits_and_what_was_decided_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let corrections = opened(folder.path());
        for number in 0..5 {
            assert!(corrections.keep(correction(number), THERE).unwrap());
        }
        assert!(!corrections.keep(correction(2), THERE).unwrap(), "the same once more");
        let id = |number| correction(number).id;
        corrections.decide(vec![id(1)], Some(vec![went(1)])).unwrap();
        corrections.decide(vec![id(3)], None).unwrap();
        for corrections in [corrections, opened(folder.path())] {
            assert_eq!(ids(&corrections), [id(0), id(2), id(4)]);
            assert_eq!(corrections.thumbnail(id(2)).unwrap(), [2]);
            assert_eq!(corrections.thumbnail(id(3)).unwrap_err().kind, Kind::NotFound);
            let waiting = |number, accepted| {
                let found = corrections.waiting(&[id(number)], accepted, THERE);
                found.map(|found| found.waiting.len())
            };
            assert_eq!(waiting(0, true).unwrap(), 1);
            assert_eq!(waiting(1, true).unwrap(), 0);
            assert_eq!(waiting(1, false).unwrap_err().kind, Kind::Conflict);
            assert_eq!(waiting(3, true).unwrap_err().kind, Kind::Conflict);
            assert_eq!(waiting(9, true).unwrap_err().kind, Kind::NotFound);
            // Who was told no is not asked about again.
            assert!(!corrections.keep(correction(3), THERE).unwrap());
        }
        let other = File::open(folder.path(), &Gallery::new(5, "m")).err().unwrap();
        assert!(other.to_string().contains("not of this site's extractor"), "{other}");
    }

    #[test]
    fn what_was_accepted_and_has_gone_waits_anew() {
        let folder = tempfile::tempdir().unwrap();
        let corrections = opened(folder.path());
        let id = |number| correction(number).id;
        for number in 0..2 {
            corrections.keep(correction(number), THERE).unwrap();
        }
        let stay = corrections.waiting(&[id(0)], true, THERE).unwrap().stays;
        corrections.decide(vec![id(0)], Some(vec![went(0)])).unwrap();
        corrections.decide(vec![id(1)], None).unwrap();
        drop(corrections);
        let corrections = opened(folder.path());
        let gone = corrections.waiting(&[id(0)], true, GONE).unwrap_err();
        assert!(gone.kind == Kind::NotFound && gone.detail.contains("send the correction again"));
        assert!(!corrections.keep(correction(1), GONE).unwrap(), "it was rejected");
        assert!(!corrections.keep(correction(0), THERE).unwrap());
        assert!(corrections.keep(correction(0), GONE).unwrap());
        for corrections in [corrections, opened(folder.path())] {
            assert_eq!(ids(&corrections), [id(0)]);
            assert_ne!(corrections.waiting(&[id(0)], true, THERE).unwrap().stays, stay);
        }
    }

    #[test]
    fn a_decision_that_is_not_kept_says_what_the_gallery_has() {
        let error = anyhow::anyhow!("no space left on device");
        let detail = |accepted| undecided(&error, accepted).detail;
        assert!(detail(true).contains("the gallery has the corrections"));
        assert!(detail(false).contains("nothing has changed"));
    }

    #[test]
    fn a_file_that_is_cut_anywhere_holds_what_was_whole_by_then() {
        let folder = tempfile::tempdir().unwrap();
        let corrections = opened(folder.path());
        let bytes = || corrections.queue().log.bytes();
        let mut ends = vec![(bytes(), 0)];
        for number in 0..3 {
            corrections.keep(correction(number), THERE).unwrap();
            ends.push((bytes(), corrections.len()));
        }
        corrections.decide(vec![correction(0).id], Some(vec![went(0)])).unwrap();
        ends.push((bytes(), corrections.len()));
        drop(corrections);
        let path = folder.path().join(CORRECTIONS);
        let whole = std::fs::read(&path).unwrap();
        // Each opening waits for the disk: some places, and those around the ends of frames.
        let around = ends.iter().flat_map(|(end, _)| [end.saturating_sub(1), *end, end + 1]);
        let some = (ends[0].0..=whole.len() as u64).step_by(17);
        let places =
            around.chain(some).filter(|cut| (ends[0].0..=whole.len() as u64).contains(cut));
        for cut in places {
            std::fs::write(&path, &whole[..cut as usize]).unwrap();
            let wanted = ends.iter().rev().find(|(end, _)| *end <= cut).unwrap().1;
            assert_eq!(opened(folder.path()).len(), wanted, "{cut}");
        }
        let mut damaged = whole.clone();
        damaged[ends[1].0 as usize + 40] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = File::open(folder.path(), &Gallery::new(4, "m")).err().unwrap();
        assert!(error.to_string().contains("is damaged"), "{error}");
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let corrections = opened(folder.path());
        let large = |number: u8| {
            let mut photo = photo("Mug", number);
            photo.thumbnail.0 = vec![number; 300_000];
            Correction::new(photo, None, 0)
        };
        let mut most = 0;
        corrections.keep(large(0), THERE).unwrap();
        for number in 1..60 {
            corrections.keep(large(number), THERE).unwrap();
            corrections
                .decide(vec![large(number).id], (number % 2 == 0).then(|| vec![went(number)]))
                .unwrap();
            most = most.max(corrections.queue().log.bytes());
        }
        assert!(most < 6 << 20, "{most}");
        for corrections in [corrections, opened(folder.path())] {
            assert_eq!(ids(&corrections), [large(0).id]);
            assert!(!corrections.keep(large(7), THERE).unwrap(), "it was rejected");
            assert!(corrections.waiting(&[large(8).id], true, THERE).unwrap().waiting.is_empty());
        }
    }

    #[test]
    fn more_than_may_wait_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let corrections = opened(folder.path());
        let large = |number: u8| {
            let mut photo = photo("Mug", number);
            photo.thumbnail.0 = vec![number; 5 << 20];
            Correction::new(photo, None, 0)
        };
        let taken =
            (0..20).take_while(|number| corrections.keep(large(*number), THERE).is_ok()).count();
        // Base64 has four letters for three bytes.
        assert_eq!(taken, 10);
        let problem = corrections.keep(large(99), THERE).unwrap_err();
        assert_eq!((problem.kind, problem.retry_after), (Kind::Busy, Some(3600)));
        corrections.decide(vec![large(0).id], None).unwrap();
        assert!(corrections.keep(large(99), THERE).unwrap());
    }
}
