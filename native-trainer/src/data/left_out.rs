//! What a folder of classes holds and is not taken, in words.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use authoring::label::LabelError;
use models::image::Format;

/// Paths of one reason that are named; more are counted.
const NAMED: usize = 5;

/// Why something in a folder of classes is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A file of a format that is not read.
    Format(Format),
    /// A picture that would be read, under an ending that no picture has.
    Ending(Format),
    /// Nothing that anybody takes for a picture.
    NoPicture,
    /// A picture, or a folder of pictures, whose name begins with a dot.
    Hidden,
    /// A picture beside the folders of the classes.
    Loose,
    /// A class without a picture.
    NoPictures,
    /// A class that holds folders only.
    FoldersOnly,
    /// A folder beside the pictures of a class.
    Inside,
    /// A site that was published here, or the report beside one.
    Site,
    /// A link to what is not there.
    Dangling,
    /// A link to a folder that it lies in.
    Loop,
    /// A pipe, a device or a socket.
    NotAFile,
    /// A folder whose name is no text.
    NotUtf8,
    /// A folder whose name is blanks only.
    Blank,
    /// A folder whose name steers how it is shown.
    Steering,
    /// What the system does not let anybody read, and why.
    Unreadable(String),
}

/// Something that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// File or folder.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
}

impl Reason {
    /// Whether it keeps out what a person put there as a picture or a class.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Format(format) => format.is_picture(),
            Self::NoPicture => false,
            _ => true,
        }
    }

    /// Whether it speaks of folders.
    pub fn is_of_folders(&self) -> bool {
        matches!(
            self,
            Self::NoPictures
                | Self::FoldersOnly
                | Self::Inside
                | Self::Site
                | Self::Loop
                | Self::NotUtf8
                | Self::Blank
                | Self::Steering
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format(format) => return f.write_str(&format.refusal()),
            Self::Ending(format) => {
                return write!(
                    f,
                    "this is {}, but its name ends otherwise; give it an ending of pictures",
                    format.name()
                );
            }
            Self::Unreadable(reason) => reason,
            Self::NoPicture => "no picture by its name and its content",
            Self::Hidden => "hidden, as its name begins with a dot; rename it if it is meant",
            Self::Loose => "a picture beside the classes' folders; put it into one of them",
            Self::NoPictures => "a class without a picture that can be used",
            Self::FoldersOnly => {
                "a class that holds folders only; put the pictures right into it, or name it \
                 where its folders are the classes"
            }
            Self::Inside => "a folder inside of a class; put its pictures right into the class",
            Self::Dangling => {
                "a link to what is not there; fetch that (`git annex get`, `dvc pull`) or copy it"
            }
            Self::Site => "a site that magpie wrote, or its report; move it out of the pictures",
            Self::Loop => "a link to a folder that it lies in",
            Self::NotAFile => "not a file",
            Self::NotUtf8 => "its name is not UTF-8, which a class needs; rename it",
            Self::Blank => "its name is blank, which no class can be; rename it",
            Self::Steering => {
                "its name holds a character that steers how text is shown, which no class can have; rename it"
            }
        })
    }
}

impl From<LabelError> for Reason {
    fn from(error: LabelError) -> Self {
        match error {
            LabelError::Blank => Self::Blank,
            LabelError::Steering { .. } => Self::Steering,
            LabelError::Dots => Self::Hidden,
        }
    }
}

/// What is left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The reason.
    pub reason: Reason,
    /// Files or folders, in order.
    pub paths: Vec<PathBuf>,
}

impl Group {
    /// By reason: first what a person would miss, then the rest, each in the order of appearance.
    pub fn all(left_out: &[LeftOut]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for LeftOut { path, reason } in left_out {
            match groups.iter_mut().find(|group| group.reason == *reason) {
                Some(group) => group.paths.push(path.clone()),
                None => groups.push(Self { reason: reason.clone(), paths: vec![path.clone()] }),
            }
        }
        groups.sort_by_key(|group| !group.reason.is_loss());
        groups
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<String> = self.paths.iter().map(|path| shown(path)).collect();
        f.write_str(&text(&paths, &self.reason.to_string()))
    }
}

/// Says what is left out for one reason.
pub fn text(paths: &[String], reason: &str) -> String {
    let several = if paths.len() > 1 { format!("{} ", paths.len()) } else { String::new() };
    format!("{several}left out: {}: {reason}", listed(paths.iter().cloned()))
}

/// The first of several names, and how many more there are.
pub fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let count = names.len();
    let text = names.take(NAMED).collect::<Vec<_>>().join(", ");
    if count > NAMED { format!("{text} and {} more", count - NAMED) } else { text }
}

/// A path as text. Bytes that are no text are escaped, so that different paths stay different.
pub fn shown(path: &Path) -> String {
    path.to_str().map_or_else(|| escaped(path.as_os_str()), str::to_owned)
}

/// A name with all that is not seen escaped.
#[expect(clippy::unnecessary_debug_formatting, reason = "displayed, such bytes are all the same")]
pub fn escaped(name: &OsStr) -> String {
    format!("{name:?}").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_of_a_kind_are_named_and_the_rest_is_counted() {
        let of = |reason: Reason, paths: &[&str]| {
            paths
                .iter()
                .map(|path| LeftOut { path: (*path).into(), reason: reason.clone() })
                .collect::<Vec<_>>()
        };
        let left_out = [
            of(Reason::NoPicture, &["a/notes.txt"]),
            of(Reason::Format(Format::Heic), &["a/1", "a/2", "a/3", "b/4", "b/5", "b/6", "b/7"]),
            of(Reason::NoPictures, &["b"]),
        ]
        .concat();
        let lines: Vec<String> = Group::all(&left_out).iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 3);
        let start = "7 left out: a/1, a/2, a/3, b/4, b/5 and 2 more: this is HEIC, which is not read; convert";
        assert!(lines[0].starts_with(start), "{}", lines[0]);
        assert_eq!(lines[1], "left out: b: a class without a picture that can be used");
        assert_eq!(lines[2], "left out: a/notes.txt: no picture by its name and its content");
    }

    #[cfg(unix)]
    #[test]
    fn paths_that_are_no_text_stay_apart() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let path = |bytes: &[u8]| shown(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(path(b"a/\xff.jpg"), r"a/\xFF.jpg");
        assert_eq!(path(b"a/\xfe.jpg"), r"a/\xFE.jpg");
        assert_eq!(path("ä ü".as_bytes()), "ä ü");
    }
}
