//! The networks that the program brings along: used wherever a command is given none.

use std::path::{Path, PathBuf};

/// Name of the extractor for photographs.
pub const GENERAL: &str = "general";
/// Name of the detector of one foreground class.
pub const MAINBODY: &str = "mainbody";
/// What a command line says instead of a detector's file to have none.
pub const NONE: &str = "none";

/// The extractor's file.
const GENERAL_FILE: Option<&[u8]> = Some(include_bytes!("../networks/general.safetensors"));
/// The detector's, if the program has one.
const MAINBODY_FILE: Option<&[u8]> = None;

/// The model file of a name; `None` for any other path. A file of such a name in the current folder is given as
/// `./general`.
pub fn built_in(path: &Path) -> Option<&'static [u8]> {
    match path.to_str()? {
        GENERAL => GENERAL_FILE,
        MAINBODY => MAINBODY_FILE,
        _ => None,
    }
}

/// The detector that a command uses beside an extractor: the one that it is given; else, beside the extractor that the
/// program brings along, the detector that it brings along, if there is one. `none` says that there is no detector.
pub fn detector(given: Option<&Path>, extractor: &Path) -> Option<PathBuf> {
    match given {
        Some(path) if path == Path::new(NONE) => None,
        Some(path) => Some(path.to_owned()),
        None => built_in(extractor).and(mainbody()),
    }
}

/// The detector that a command uses alone.
///
/// # Errors
///
/// Where none is given and the program has none, and for `none`.
pub fn detector_alone(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if given == Some(Path::new(NONE)) {
        anyhow::bail!(
            "--detector {NONE}: nothing is found without a detector; give its model file"
        );
    }
    let given = given.map(Path::to_owned);
    given
        .or_else(mainbody)
        .ok_or_else(|| anyhow::anyhow!("give --detector: this program brings no detector along"))
}

fn mainbody() -> Option<PathBuf> {
    MAINBODY_FILE.map(|_| PathBuf::from(MAINBODY))
}

#[cfg(test)]
mod tests {
    use models::model_file::{Architecture, ModelFile};

    use super::*;

    #[test]
    fn what_the_program_brings_along_is_what_its_name_says() {
        for (bytes, is_extractor) in [(GENERAL_FILE, true), (MAINBODY_FILE, false)] {
            let Some(bytes) = bytes else { continue };
            let file = ModelFile::from_bytes(bytes).unwrap();
            let kind = matches!(file.description.architecture, Architecture::Extractor(_));
            assert_eq!(kind, is_extractor);
            assert!(!file.description.notes.is_empty(), "it says whose it is");
        }
        let bytes: usize =
            [GENERAL_FILE, MAINBODY_FILE].into_iter().flatten().map(<[u8]>::len).sum();
        assert!(bytes < 8_000_000, "{bytes} bytes are too many");
    }

    #[test]
    fn a_detector_is_the_given_one_or_goes_with_the_extractor() {
        let (own, general) = (Path::new("own.safetensors"), Path::new(GENERAL));
        let given = Path::new("boxes.safetensors");
        assert_eq!(detector(Some(given), own), Some(given.to_owned()));
        assert_eq!(detector(Some(Path::new(NONE)), general), None);
        assert_eq!(detector(None, own), None);
        assert_eq!(detector(None, general), built_in(general).and(mainbody()));
        assert_eq!(detector_alone(Some(given)).unwrap(), given);
        let error = detector_alone(Some(Path::new(NONE))).unwrap_err().to_string();
        assert_eq!(
            error,
            "--detector none: nothing is found without a detector; give its model file"
        );
        assert!(built_in(own).is_none());
    }
}
