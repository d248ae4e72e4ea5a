//! Pictures in a zip file: as in a folder, the folder that a picture lies in is its class.
//!
//! Nothing is unpacked onto a disk. What a hostile archive may claim is held within limits before anything is read:
//! the number of entries, their sizes, how much more they say to be than they are, places that several share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use authoring::label::{checked, composed};
use models::image::Format;
use thiserror::Error;
use zip::ZipArchive;
use zip::result::ZipError;

use super::folder::{BEGINNING, is_of_the_system, refusal};
use super::left_out::{LeftOut, Reason};
use super::list_file::Samples;
use super::row::{DataError, Row};
use super::store::PictureError;
use crate::files::IMAGE_LIMIT;
use crate::terminal::reason;

/// How a zip file begins.
const MAGIC: &[u8] = b"PK\x03\x04";
/// Why the second of two entries of one name is left out.
const SAME_NAME: &str = "an entry of the same name comes before it; rename one of them";
/// Entries of an archive at most.
const MOST_ENTRIES: usize = 500_000;
/// Bytes of all pictures of an archive at most, unpacked.
const MOST_BYTES: u64 = 256 << 30;
/// A picture larger than this is unpacked to at most [`MOST_TIMES`] its packed bytes.
const SMALL: u64 = 16 << 20;
/// Pictures are packed by themselves: more is a trap.
const MOST_TIMES: u64 = 200;

/// Why an entry of a zip file cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The bytes are others than the archive says, or packed in a way that is not read.
    #[error("{}: cannot be unpacked: {reason}; pack it again", path.display())]
    Broken {
        /// The archive, and the entry in it.
        path: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// More bytes than the archive says.
    #[error("{}: unpacks to more than the {bytes} bytes that its archive says; pack it again", path.display())]
    Longer {
        /// The archive, and the entry in it.
        path: PathBuf,
        /// What the archive says.
        bytes: u64,
    },
}

/// A zip file with pictures.
pub struct Archive {
    zip: Mutex<ZipArchive<BufReader<File>>>,
    /// Place in the archive, by the path that a picture is called by.
    places: HashMap<PathBuf, usize>,
}

/// A file in the archive.
struct Entry {
    /// Folders and name.
    parts: Vec<String>,
    place: usize,
    /// Of one that is taken.
    size: u64,
    /// Whether it is a picture by its name, or one that is read by its content.
    is_picture: bool,
    /// Why it is not taken.
    refusal: Option<Reason>,
}

impl Archive {
    /// Whether a file is a zip file: by its beginning, or by its list of entries where a program that unpacks it comes
    /// before it.
    pub fn is_one(path: &Path) -> bool {
        let mut first = [0; MAGIC.len()];
        let Some(mut file) = File::open(path).ok().filter(|_| path.is_file()) else { return false };
        let begins = file.read_exact(&mut first).is_ok() && first == MAGIC;
        begins || ZipArchive::new(BufReader::new(file)).is_ok()
    }

    /// Lists the pictures of a zip file, called by its path and theirs inside. One folder that all of them lie in is
    /// none of a class.
    ///
    /// # Errors
    ///
    /// [`DataError::Read`], [`DataError::Archive`] for one that is damaged or hostile, [`DataError::Empty`] and
    /// [`DataError::NothingTaken`] for one without pictures.
    pub fn open(path: &Path) -> Result<(Samples, Self), DataError> {
        let file =
            File::open(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        let refused = |reason: String| DataError::Archive { path: path.to_owned(), reason };
        let broken = |error: &ZipError| {
            refused(format!("this zip file cannot be read: {}; pack it again", told(error)))
        };
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|error| broken(&error))?;
        if zip.len() > MOST_ENTRIES {
            return Err(refused(format!(
                "holds {} entries, and {MOST_ENTRIES} are read; give several",
                zip.len()
            )));
        }
        if zip.has_overlapping_files().map_err(|error| broken(&error))? {
            return Err(refused(
                "its entries share bytes, as no program packs them; pack it again".to_owned(),
            ));
        }
        let (entries, mut left_out) = entries(&mut zip, path);
        let bytes = entries.iter().fold(0, |all: u64, entry| all.saturating_add(entry.size));
        if bytes > MOST_BYTES {
            return Err(refused(format!(
                "unpacks to {bytes} bytes, and {MOST_BYTES} are read; give several"
            )));
        }
        let (rows, places) = sorted(entries, path, &mut left_out);
        if rows.is_empty() {
            return Err(DataError::of_nothing(path, &left_out));
        }
        let samples = Samples { left_out, ..Samples::from_rows(rows) };
        Ok((samples, Self { zip: Mutex::new(zip), places }))
    }

    /// The bytes of a picture.
    ///
    /// # Errors
    ///
    /// [`PictureError`], naming the picture.
    pub fn bytes(&self, path: &Path) -> Result<Vec<u8>, PictureError> {
        let refused = |error: UnpackError| PictureError::unread(path, error);
        let broken =
            |reason: String| refused(UnpackError::Broken { path: path.to_owned(), reason });
        let Some(place) = self.places.get(path) else {
            return Err(broken("the archive has no such entry".to_owned()));
        };
        // A thread that has failed leaves nothing that the next one needs.
        let mut zip = self.zip.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = zip.by_index(*place).map_err(|error| broken(told(&error)))?;
        let size = entry.size();
        let mut bytes = Vec::new();
        let read = entry.take(size.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| broken(reason(&error)))?;
        match bytes.len() as u64 {
            length if length > size => {
                Err(refused(UnpackError::Longer { path: path.to_owned(), bytes: size }))
            }
            length if length < size => Err(broken("bytes are missing".to_owned())),
            _ => Ok(bytes),
        }
    }
}

/// What a reader of zip files says.
fn told(error: &ZipError) -> String {
    match error {
        ZipError::Io(error) => reason(error),
        error => error.to_string(),
    }
}

/// The files of an archive that no system has left there.
fn entries<R: Read + Seek>(zip: &mut ZipArchive<R>, path: &Path) -> (Vec<Entry>, Vec<LeftOut>) {
    let (mut entries, mut left_out) = (Vec::new(), Vec::new());
    for place in 0..zip.len() {
        let Ok(entry) = zip.by_index_data(place) else { continue };
        if entry.is_dir() {
            continue;
        }
        // Many programs write UTF-8 without saying so.
        let name = match std::str::from_utf8(entry.name_raw()) {
            Ok(name) => name.to_owned(),
            Err(_) => entry.name().map(std::borrow::Cow::into_owned).unwrap_or_default(),
        };
        // Some programs write paths of Windows.
        let name = composed(&name.replace('\\', "/"));
        let by_name = name.rsplit_once('.').and_then(|(_, ending)| Format::of_ending(ending));
        let is_readable = by_name.is_some_and(Format::is_readable);
        let parts: Vec<String> = name.split('/').map(str::to_owned).collect();
        let (file, folders) = parts.split_last().map_or(("", &[][..]), |(f, rest)| (f, rest));
        if parts.iter().any(|part| is_of_the_system(part))
            || folders.iter().any(|folder| folder.starts_with('.') && folder != "..")
            || file.starts_with('.') && (!is_readable || file.starts_with("._"))
        {
            continue;
        }
        let is_astray = |part: &String| part.is_empty() || part == ".." || part.contains('\0');
        if parts.iter().any(is_astray) {
            if by_name.is_some_and(Format::is_picture) {
                let reason = "its name leads out of the archive; pack it again";
                left_out.push(LeftOut {
                    path: path.join(place.to_string()),
                    reason: Reason::Unreadable(reason.to_owned()),
                });
            }
            continue;
        }
        let (size, packed) = (entry.size(), entry.compressed_size());
        let unusable = if entry.encrypted() {
            Some("encrypted; pack it without a password")
        } else if entry.is_symlink() {
            Some("a link; pack what it leads to")
        } else if size > IMAGE_LIMIT {
            Some("larger than any picture that is read")
        } else if size > SMALL && size / MOST_TIMES > packed {
            Some("unpacks to many times its size, as no picture does")
        } else {
            None
        };
        let refusal = if file.starts_with('.') {
            Some(Reason::Hidden)
        } else if is_readable {
            unusable.map(|reason| Reason::Unreadable(reason.to_owned()))
        } else if unusable.is_some() {
            Some(by_name.map_or(Reason::NoPicture, Reason::Format))
        } else {
            refusal(by_name, || beginning(zip, place))
        };
        let is_picture = by_name.is_some_and(Format::is_picture) || refusal.is_none();
        let size = if refusal.is_some() { 0 } else { size };
        entries.push(Entry { parts, place, size, is_picture, refusal });
    }
    (entries, left_out)
}

/// The first bytes of an entry, unpacked.
fn beginning<R: Read + Seek>(zip: &mut ZipArchive<R>, place: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let entry = zip.by_index(place).map_err(|error| std::io::Error::other(told(&error)))?;
    entry.take(BEGINNING).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Pictures by class and name, with their places; all else is left out.
fn sorted(
    mut entries: Vec<Entry>,
    path: &Path,
    left_out: &mut Vec<LeftOut>,
) -> (Vec<Row>, HashMap<PathBuf, usize>) {
    let called =
        |parts: &[String]| parts.iter().fold(path.to_owned(), |path, part| path.join(part));
    let pictures = || entries.iter().filter(|entry| entry.is_picture);
    let top = pictures().next().map(|entry| entry.parts[0].clone()).unwrap_or_default();
    let is_in_top = |entry: &Entry| entry.parts.len() > 1 && entry.parts[0] == top;
    let is_deep = pictures().any(|entry| entry.parts.len() > 2);
    let above = usize::from(is_deep && pictures().all(is_in_top));
    entries.sort_by(|a, b| a.parts.cmp(&b.parts));
    let (mut rows, mut places) = (Vec::new(), HashMap::new());
    let mut inside = BTreeSet::new();
    // Whether a picture of the class is taken, by its folder.
    let mut classes: BTreeMap<PathBuf, bool> = BTreeMap::new();
    for entry in entries {
        let own = called(&entry.parts);
        let reason = match entry.parts.get(above..).unwrap_or_default() {
            [_] if entry.is_picture => Reason::Loose,
            [] | [_] => continue,
            [class, _] => {
                let has_picture = classes.entry(called(&entry.parts[..=above])).or_default();
                match (entry.refusal, checked(class)) {
                    (Some(reason), _) => reason,
                    (None, Ok(_)) if places.contains_key(&own) => {
                        Reason::Unreadable(SAME_NAME.to_owned())
                    }
                    (None, Ok(label)) => {
                        *has_picture = true;
                        places.insert(own.clone(), entry.place);
                        rows.push(Row::of_folder(own, &label));
                        continue;
                    }
                    (None, Err(error)) => error.into(),
                }
            }
            _ => {
                let folder = called(&entry.parts[..above + 2]);
                if inside.insert(folder.clone()) {
                    left_out.push(LeftOut { path: folder, reason: Reason::Inside });
                }
                continue;
            }
        };
        left_out.push(LeftOut { path: own, reason });
    }
    let empty = classes.into_iter().filter(|(_, has_picture)| !has_picture);
    left_out.extend(empty.map(|(path, _)| LeftOut { path, reason: Reason::NoPictures }));
    (rows, places)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    fn packed(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            let options =
                SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
            zip.start_file(*name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    struct Held(tempfile::TempDir);

    impl Held {
        fn new(bytes: &[u8]) -> Self {
            let held = Self(tempfile::tempdir().unwrap());
            std::fs::write(held.path(), bytes).unwrap();
            held
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("photos.zip")
        }

        /// Classes with names inside, and what is left out.
        #[expect(clippy::type_complexity, reason = "two lists to compare")]
        fn listed(&self) -> (Vec<(String, String)>, Vec<(String, Reason)>) {
            let (samples, _) = Archive::open(&self.path()).unwrap();
            let name = |path: &Path| {
                path.strip_prefix(self.path()).unwrap().to_string_lossy().into_owned()
            };
            let taken = samples.samples.iter();
            let taken = taken.map(|s| (samples.labels[s.label].clone(), name(&s.path))).collect();
            let left_out = samples.left_out.iter();
            (taken, left_out.map(|l| (name(&l.path), l.reason.clone())).collect())
        }
    }

    fn pair(class: &str, name: &str) -> (String, String) {
        (class.to_owned(), name.to_owned())
    }

    #[test]
    fn folders_are_classes_and_one_above_all_is_none() {
        let entries: &[(&str, &[u8])] = &[
            ("top/mug 类/2.png", b"two"),
            ("top/mug 类/1.JPG", b"one"),
            ("top/cup/1.png", b"three"),
            ("top/cup/more/2.png", b"x"),
            ("top/cup/more/3.png", b"x"),
            ("top/cup/4.heic", b"x"),
            ("top/cup/notes.txt", b"x"),
            ("top/loose.png", b"x"),
            ("top/.thumbs/1.png", b"x"),
            ("top/cup/.hidden.png", b"x"),
            ("__MACOSX/top/cup/._1.png", b"x"),
        ];
        let held = Held::new(&packed(entries));
        assert!(Archive::is_one(&held.path()) && !Archive::is_one(Path::new("/none")));
        let (taken, left_out) = held.listed();
        assert_eq!(
            taken,
            [
                pair("cup", "top/cup/1.png"),
                pair("mug 类", "top/mug 类/1.JPG"),
                pair("mug 类", "top/mug 类/2.png")
            ]
        );
        assert_eq!(
            left_out,
            [
                ("top/cup/.hidden.png".to_owned(), Reason::Hidden),
                ("top/cup/4.heic".to_owned(), Reason::Format(Format::Heic)),
                ("top/cup/more".to_owned(), Reason::Inside),
                ("top/cup/notes.txt".to_owned(), Reason::NoPicture),
                ("top/loose.png".to_owned(), Reason::Loose),
            ]
        );
        let (samples, archive) = Archive::open(&held.path()).unwrap();
        let bytes: Vec<Vec<u8>> =
            samples.samples.iter().map(|s| archive.bytes(&s.path).unwrap()).collect();
        assert_eq!(bytes, [&b"three"[..], b"one", b"two"]);
        // One class is no folder above others, and paths may be those of Windows.
        let held = Held::new(&packed(&[("mug\\1.png", b"x"), ("mug\\2.png", b"x")]));
        assert_eq!(held.listed().0, [pair("mug", "mug/1.png"), pair("mug", "mug/2.png")]);
        let held = Held::new(&packed(&[("a/1.png", b"x"), ("b/1.png", b"x")]));
        assert_eq!(held.listed().0, [pair("a", "a/1.png"), pair("b", "b/1.png")]);
    }

    #[test]
    fn a_file_is_what_its_bytes_say_as_in_a_folder() {
        let jpeg = b"\xff\xd8\xff\xe0";
        let entries: &[(&str, &[u8])] = &[
            ("cup/1.heic", jpeg),
            ("cup/2.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
            ("cup/3.bin", jpeg),
            ("cup/notes.txt", b"x"),
            ("mug/list.txt", b"x"),
            ("read me.txt", b"x"),
        ];
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in entries {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let (taken, mut left_out) = Held::new(&packed(entries)).listed();
        assert_eq!(taken, [pair("cup", "cup/1.heic")]);
        let contents = crate::data::folder::read(folder.path()).unwrap();
        let name =
            |path: &Path| path.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned();
        let mut of_folder: Vec<(String, Reason)> =
            contents.left_out.iter().map(|l| (name(&l.path), l.reason.clone())).collect();
        assert_eq!(contents.rows.len(), 1);
        for list in [&mut left_out, &mut of_folder] {
            list.sort_by(|a, b| a.0.cmp(&b.0));
        }
        assert_eq!(left_out, of_folder);
    }

    #[test]
    fn a_program_before_the_archive_hides_nothing() {
        let zip = packed(&[("a/1.png", b"one"), ("b/2.png", b"two")]);
        let held = Held::new(&[b"MZ a program that unpacks itself", &zip[..]].concat());
        assert!(Archive::is_one(&held.path()));
        assert_eq!(held.listed().0, [pair("a", "a/1.png"), pair("b", "b/2.png")]);
        let (samples, archive) = Archive::open(&held.path()).unwrap();
        assert_eq!(archive.bytes(&samples.samples[1].path).unwrap(), b"two");
        // A list that names such bytes is none.
        let held = Held::new(b"a/1.png 0 PK\x05\x06 and more than twenty-two bytes behind it\n");
        assert!(!Archive::is_one(&held.path()));
        assert!(!Archive::is_one(&Held::new(b"").path()));
    }

    /// Changes bytes of the first place where some are.
    fn forged(bytes: &[u8], from: &[u8], to: &[u8], all: bool) -> Vec<u8> {
        let mut forged = bytes.to_vec();
        let places = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from));
        for at in places.take(if all { usize::MAX } else { 1 }) {
            forged[at..at + to.len()].copy_from_slice(to);
        }
        forged
    }

    #[test]
    fn of_two_entries_that_are_called_the_same_the_second_is_named() {
        let entries: &[(&str, &[u8])] =
            &[("Cafe\u{301}/1.jpg", b"one"), ("Café/1.jpg", b"two"), ("B/1.jpg", b"three")];
        let (taken, left_out) = Held::new(&packed(entries)).listed();
        assert_eq!(taken.len(), 2);
        assert_eq!(left_out.len(), 1, "{left_out:?}");
        assert!(matches!(&left_out[0].1, Reason::Unreadable(why) if why == SAME_NAME));
    }

    #[test]
    fn what_is_hostile_or_broken_is_named_and_the_rest_is_read() {
        let zeros = vec![0; 17 << 20];
        let held = Held::new(&packed(&[
            ("a/1.png", b"one"),
            ("a/bomb.bmp", &zeros),
            ("a/../../b.png", b"x"),
            ("/etc/c.png", b"x"),
            ("a/10:30.png", b"two"),
        ]));
        let (taken, left_out) = held.listed();
        assert_eq!(taken, [pair("a", "a/1.png"), pair("a", "a/10:30.png")]);
        let astray =
            Reason::Unreadable("its name leads out of the archive; pack it again".to_owned());
        assert_eq!(left_out.iter().filter(|(_, reason)| *reason == astray).count(), 2);
        let bomb = "unpacks to many times its size, as no picture does";
        assert!(left_out.contains(&pair_of("a/bomb.bmp", bomb)), "{left_out:?}");

        // Encrypted, as both headers say: the flags lie at 6 and 8.
        let plain = packed(&[("a/1.png", b"one"), ("a/2.png", b"two")]);
        let mut locked = plain.clone();
        let local = (0..plain.len()).find(|at| plain[*at..].starts_with(b"PK\x03\x04")).unwrap();
        let central = (0..plain.len()).find(|at| plain[*at..].starts_with(b"PK\x01\x02")).unwrap();
        locked[local + 6] |= 1;
        locked[central + 8] |= 1;
        let (taken, left_out) = Held::new(&locked).listed();
        assert_eq!(taken, [pair("a", "a/2.png")]);
        assert_eq!(left_out, [pair_of("a/1.png", "encrypted; pack it without a password")]);

        // Other bytes than the checksum says, and more than the size says.
        let read = |bytes: &[u8]| {
            let held = Held::new(bytes);
            let (samples, archive) = Archive::open(&held.path()).unwrap();
            archive.bytes(&samples.samples[0].path)
        };
        assert_eq!(read(&plain).unwrap(), b"one");
        let crc = crc32fast::hash(b"one").to_le_bytes();
        let error = read(&forged(&plain, &crc, &[0; 4], true)).unwrap_err();
        assert!(error.to_string().contains("a/1.png: cannot be unpacked: "), "{error}");
        let mut short = plain.clone();
        short[central + 24] = 2;
        let error = read(&short).unwrap_err();
        assert!(error.to_string().contains("; pack it again"), "{error}");

        // Two entries of one place, a cut file, nothing, something else.
        let mut shared = plain.clone();
        let second =
            (central + 1..plain.len()).find(|at| plain[*at..].starts_with(b"PK\x01\x02")).unwrap();
        let first: [u8; 4] = std::array::from_fn(|i| plain[central + 42 + i]);
        shared[second + 42..second + 46].copy_from_slice(&first);
        for (bytes, told) in [
            (&shared[..], "its entries share bytes"),
            (&plain[..plain.len() - 30], "this zip file cannot be read"),
            (b"PK\x03\x04", "this zip file cannot be read"),
            (&packed(&[("notes.txt", b"x")]), "no pictures; expected"),
            (&packed(&[("a/notes.txt", b"x")]), "a class without a picture that can be used"),
            (&packed(&[("loose.png", b"x")]), "a picture beside the classes' folders"),
        ] {
            let held = Held::new(bytes);
            let error = Archive::open(&held.path()).map(|(samples, _)| samples).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    fn pair_of(name: &str, reason: &str) -> (String, Reason) {
        (name.to_owned(), Reason::Unreadable(reason.to_owned()))
    }

    #[test]
    fn no_byte_that_is_changed_brings_it_down() {
        let plain = packed(&[("a/1.png", b"one one one"), ("b/2.png", b"two")]);
        for at in 0..plain.len() {
            for value in [0, 0xff] {
                let mut changed = plain.clone();
                changed[at] = value;
                let held = Held::new(&changed);
                if let Ok((samples, archive)) = Archive::open(&held.path()) {
                    for sample in &samples.samples {
                        let _ = archive.bytes(&sample.path);
                    }
                }
            }
        }
    }
}
