//! A project as bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | [`MAGIC`] |
//! | 8..12 | version, 2 |
//! | 12..16 | CRC-32 of the rest |
//! | 16..20 | length of the rest |
//! | 20.. | title; crop, adaptation and percent of unknown things that may be named; count of classes, each with id, label, count of texts and their names and texts; count of photographs, each with id, name, class and part |
//!
//! Numbers are 32-bit, little-endian. A text is its length in bytes and its UTF-8. A class of `u32::MAX` is none. A crop
//! is its place in [`Crop::NAMES`] from 1 on, or 0 for what is measured better; adaptation is 0 or 1. A part is 0, or 1 and
//! its four edges, 16 bits each. Version 1 has neither settings nor parts.

use thiserror::Error;

use crate::project::{Class, ClassId, Crop, Part, Photo, PhotoId, Project, Settings};

const MAGIC: [u8; 8] = *b"MAGPIEST";
const VERSION: u32 = 2;
/// Bytes before the content.
const HEAD: usize = 20;
/// Most bytes of a project: ten times what a hundred thousand photographs need.
pub(crate) const MOST_BYTES: usize = 256 << 20;
/// Most photographs, and most classes.
pub(crate) const MOST_PHOTOS: usize = 1 << 20;
const NO_CLASS: u32 = u32::MAX;

/// Why a project that was kept cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum StoredError {
    /// Another kind of file.
    #[error("this is no project of the studio")]
    NotAProject,
    /// A newer studio has written it.
    #[error("a newer studio has written this project (version {0}); open the newer page")]
    Newer(u32),
    /// Its length or its CRC-32 is another one.
    #[error("the project is damaged")]
    Damaged,
}

/// The bytes of a project.
pub(crate) fn write(project: &Project) -> Vec<u8> {
    let mut content = Vec::new();
    put_text(&mut content, project.title());
    put_settings(&mut content, project.settings());
    put(&mut content, project.classes().len() as u32);
    for class in project.classes() {
        put(&mut content, class.id.0);
        put_text(&mut content, &class.label);
        put(&mut content, class.metadata.len() as u32);
        for (key, text) in &class.metadata {
            put_text(&mut content, key);
            put_text(&mut content, text);
        }
    }
    put(&mut content, project.photos().len() as u32);
    for photo in project.photos() {
        content.extend(photo.id.0);
        put_text(&mut content, &photo.name);
        put(&mut content, photo.class.map_or(NO_CLASS, |class| class.0));
        put(&mut content, u32::from(photo.part.is_some()));
        let edges = photo.part.into_iter().flat_map(|part| part.0);
        content.extend(edges.flat_map(u16::to_le_bytes));
    }
    let mut bytes = MAGIC.to_vec();
    put(&mut bytes, VERSION);
    put(&mut bytes, crc32fast::hash(&content));
    put(&mut bytes, content.len() as u32);
    bytes.append(&mut content);
    bytes
}

fn put_settings(bytes: &mut Vec<u8>, settings: Settings) {
    let place = Crop::NAMES.iter().position(|(crop, _)| Some(*crop) == settings.crop);
    put(bytes, place.map_or(0, |place| place as u32 + 1));
    put(bytes, u32::from(settings.adapt));
    put(bytes, settings.named.into());
}

fn put(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend(number.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put(bytes, text.len() as u32);
    bytes.extend(text.as_bytes());
}

/// The project of these bytes.
///
/// # Errors
///
/// [`StoredError`] where they are none.
pub(crate) fn read(bytes: &[u8]) -> Result<Project, StoredError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(StoredError::NotAProject)?;
    let mut head = Reader(rest);
    let version = head.number().ok_or(StoredError::Damaged)?;
    match version {
        0 => return Err(StoredError::Damaged),
        1..=VERSION => {}
        newer => return Err(StoredError::Newer(newer)),
    }
    let (checksum, length) = (head.number(), head.number());
    let content = bytes.get(HEAD..).ok_or(StoredError::Damaged)?;
    if bytes.len() > MOST_BYTES
        || length != u32::try_from(content.len()).ok()
        || checksum != Some(crc32fast::hash(content))
    {
        return Err(StoredError::Damaged);
    }
    let mut reader = Reader(content);
    let project = reader.project(version).ok_or(StoredError::Damaged)?;
    if reader.0.is_empty() { Ok(project) } else { Err(StoredError::Damaged) }
}

/// What is still to be read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn count(&mut self) -> Option<usize> {
        let count = self.number()? as usize;
        (count <= MOST_PHOTOS).then_some(count)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        Some(std::str::from_utf8(self.take(length)?).ok()?.to_owned())
    }

    fn settings(&mut self) -> Option<Settings> {
        let crop = match self.number()? as usize {
            0 => None,
            place => Some(Crop::NAMES.get(place - 1)?.0),
        };
        let adapt = self.number().filter(|adapt| *adapt < 2)? == 1;
        let named = u8::try_from(self.number()?).ok().filter(|named| (1..100).contains(named))?;
        Some(Settings { crop, adapt, named })
    }

    #[expect(clippy::option_option, reason = "bytes that are damaged, and a photograph as a whole")]
    fn part(&mut self) -> Option<Option<Part>> {
        match self.number()? {
            0 => Some(None),
            1 => {
                let edges = self.take(8)?;
                let mut part = [0; 4];
                for (edge, bytes) in part.iter_mut().zip(edges.chunks_exact(2)) {
                    *edge = u16::from_le_bytes(bytes.try_into().ok()?);
                }
                (part[0] < part[2] && part[1] < part[3]).then_some(Some(Part(part)))
            }
            _ => None,
        }
    }

    fn project(&mut self, version: u32) -> Option<Project> {
        let title = self.text()?;
        let settings = if version < 2 { Settings::default() } else { self.settings()? };
        // Nothing is set aside for a count that the bytes do not bear out.
        let mut classes = Vec::new();
        for _ in 0..self.count()? {
            let id = ClassId(self.number().filter(|id| *id != NO_CLASS)?);
            let label = self.text()?;
            let mut metadata = Vec::new();
            for _ in 0..self.count()? {
                metadata.push((self.text()?, self.text()?));
            }
            classes.push(Class { id, label, metadata });
        }
        let mut photos = Vec::new();
        for _ in 0..self.count()? {
            let id = PhotoId(self.take(16)?.try_into().ok()?);
            let name = self.text()?;
            let class = Some(self.number()?).filter(|class| *class != NO_CLASS).map(ClassId);
            let part = if version < 2 { None } else { self.part()? };
            photos.push(Photo { id, name, class, part });
        }
        Project::assemble(title, settings, classes, photos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{Action, History, NewPhoto};

    fn project() -> Project {
        let (mut project, mut history) = (Project::default(), History::default());
        let photos = (0..5_u8).map(|number| NewPhoto {
            id: PhotoId([number; 16]),
            name: format!("Küche/{number}.jpg"),
            label: (number < 4).then(|| format!("杯子 {}", number % 2)),
        });
        history.act(&mut project, Action::Add(photos.collect()), None);
        let told = vec![("price".to_owned(), "9 €".to_owned())];
        let id = project.classes()[1].id;
        history.act(&mut project, Action::Describe(id, told), None);
        history.act(&mut project, Action::Title("Küche".to_owned()), None);
        let part = Part::between([0.1, 0.2, 0.8, 0.9]);
        history.act(&mut project, Action::Crop(PhotoId([2; 16]), part), None);
        let settings = Settings { crop: Some(Crop::Middle), adapt: false, named: 1 };
        history.act(&mut project, Action::Settings(settings), None);
        project
    }

    #[test]
    fn a_project_comes_back_as_it_was() {
        for project in [Project::default(), project()] {
            let bytes = write(&project);
            assert_eq!(read(&bytes), Ok(project.clone()));
            assert_eq!(write(&project), bytes);
        }
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = write(&project());
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length} bytes");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x41;
            assert!(read(&changed).is_err(), "byte {place}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(read(&longer), Err(StoredError::Damaged));
        let mut newer = bytes;
        newer[8] = 3;
        assert_eq!(read(&newer), Err(StoredError::Newer(3)));
        assert_eq!(read(b"GIF89a"), Err(StoredError::NotAProject));
    }

    /// What a faulty writer could have left, with its checksum.
    #[test]
    fn parts_that_do_not_belong_together_are_damage() {
        let framed = |content: &[u8]| {
            let mut bytes = MAGIC.to_vec();
            put(&mut bytes, VERSION);
            put(&mut bytes, crc32fast::hash(content));
            put(&mut bytes, content.len() as u32);
            bytes.extend(content);
            bytes
        };
        // No title, settings, no class, and a photograph of class 3 without a part.
        let mut content = vec![0; 4];
        put_settings(&mut content, Settings::default());
        put(&mut content, 0);
        let count = content.len();
        put(&mut content, 1);
        content.extend([7; 16]);
        put_text(&mut content, "a.jpg");
        put(&mut content, 3);
        put(&mut content, 0);
        assert_eq!(read(&framed(&content)), Err(StoredError::Damaged));
        let place = content.len() - 8;
        content[place..place + 4].copy_from_slice(&NO_CLASS.to_le_bytes());
        assert_eq!(read(&framed(&content)).map(|project| project.photos().len()), Ok(1));
        // A part without a width, and one that is neither there nor not.
        let mut parted = content.clone();
        let last = parted.len() - 4;
        parted[last] = 1;
        parted.extend([9, 0, 0, 0, 9, 0, 9, 9]);
        assert_eq!(read(&framed(&parted)), Err(StoredError::Damaged));
        parted[last] = 2;
        assert_eq!(read(&framed(&parted)), Err(StoredError::Damaged));
        // More photographs than there are bytes for.
        content[count..count + 4].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        assert_eq!(read(&framed(&content)), Err(StoredError::Damaged));
    }

    /// A title, no class, and a photograph that shows nothing yet: the bytes of version 1.
    #[test]
    fn what_an_older_studio_has_kept_is_read() {
        let mut content = Vec::new();
        put_text(&mut content, "Shelf");
        put(&mut content, 0);
        put(&mut content, 1);
        content.extend([7; 16]);
        put_text(&mut content, "a.jpg");
        put(&mut content, NO_CLASS);
        let mut bytes = MAGIC.to_vec();
        for number in [1, crc32fast::hash(&content), content.len() as u32] {
            put(&mut bytes, number);
        }
        bytes.extend(content);
        let read = read(&bytes).expect("a project");
        assert_eq!((read.title(), read.photos().len()), ("Shelf", 1));
        assert_eq!((read.settings(), read.photos()[0].part), (Settings::default(), None));
    }
}
