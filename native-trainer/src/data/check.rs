//! Looks at a whole data set and reports everything that is wrong with it, not the first thing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use models::image::RgbImage;
use models::model_file::sha256_hex;
use rayon::prelude::*;
use serde::Serialize;

use super::coco::{self, CocoError, Problem};
use super::left_out::{self, Group, shown};
use super::list_file::{DataError, Listed, Row, Samples, joined_text, look_alike_text, read_rows};
use crate::files;
use crate::terminal::counted;
use authoring::label::look_alikes;

/// Something that a person should know about a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Finding {
    /// A line that cannot be read or names no file, or a picture that is not there.
    Line {
        /// File, line and reason.
        text: String,
    },
    /// A picture that cannot be decoded.
    Broken {
        /// Where it is listed.
        place: String,
        /// Why.
        reason: String,
    },
    /// What lies in a folder and is not taken.
    LeftOut {
        /// Files or folders.
        paths: Vec<String>,
        /// Why, and what to do.
        reason: String,
    },
    /// Folders whose names are one label.
    Joined {
        /// The label.
        label: String,
        /// The folders' names in quotes, what cannot be seen escaped.
        folders: Vec<String>,
    },
    /// Classes that a person takes for one another.
    LookAlike {
        /// Their labels.
        labels: Vec<String>,
    },
    /// The same file under several names.
    Duplicate {
        /// Where they are listed.
        places: Vec<String>,
        /// Their classes.
        labels: Vec<String>,
    },
    /// A class with fewer pictures than the sampler takes of it, which shows some of them twice.
    SmallClass {
        /// The class.
        label: String,
        /// Its pictures.
        pictures: usize,
        /// Pictures that a batch takes of a class.
        needed: usize,
    },
    /// Fewer classes than a batch takes.
    FewClasses {
        /// Classes there are.
        classes: usize,
        /// Classes of a batch.
        needed: usize,
    },
    /// Labels that are numbers, with some left out.
    LabelGap {
        /// First number that no picture has.
        first: u64,
        /// Last of the run.
        last: u64,
    },
    /// Something about boxes, with what to do where there is more to say than the finding itself does.
    #[serde(untagged)]
    Boxes {
        /// What.
        #[serde(flatten)]
        finding: coco::Finding,
        /// What to do.
        #[serde(skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
    },
}

impl Finding {
    /// Whether training would fail on it or learn something false.
    pub fn is_error(&self) -> bool {
        match self {
            Self::Line { .. } | Self::Broken { .. } | Self::FewClasses { .. } => true,
            Self::Boxes { finding, .. } => finding.kind.is_error(),
            Self::Duplicate { labels, .. } => labels.len() > 1,
            Self::LeftOut { .. }
            | Self::Joined { .. }
            | Self::LookAlike { .. }
            | Self::SmallClass { .. }
            | Self::LabelGap { .. } => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { text } => write!(f, "{text}"),
            Self::Broken { place, reason } => write!(f, "{place}: {reason}"),
            Self::Boxes { finding, advice: Some(advice) } => write!(f, "{finding}; {advice}"),
            Self::Boxes { finding, advice: None } => write!(f, "{finding}"),
            Self::LeftOut { paths, reason } => f.write_str(&left_out::text(paths, reason)),
            Self::Joined { label, folders } => f.write_str(&joined_text(label, folders)),
            Self::LookAlike { labels } => f.write_str(&look_alike_text(labels)),
            Self::Duplicate { places, labels } if labels.len() > 1 => write!(
                f,
                "the same picture in classes {}: {}",
                labels.join(", "),
                places.join(", ")
            ),
            Self::Duplicate { places, .. } => {
                write!(f, "the same picture again: {}", places.join(", "))
            }
            Self::SmallClass { label, pictures, needed } => {
                let pictures = counted(*pictures, "picture", "pictures");
                write!(f, "class {label}: {pictures}, a batch takes {needed} of a class")
            }
            Self::FewClasses { classes, needed } => {
                let classes = counted(*classes, "class", "classes");
                write!(f, "{classes}, a batch takes {needed}; lower batch_size")
            }
            Self::LabelGap { first, last } if first == last => {
                write!(f, "no picture has label {first}")
            }
            Self::LabelGap { first, last } => write!(f, "no picture has a label of {first}–{last}"),
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Pictures that can be used.
    pub pictures: usize,
    /// Classes; 0 for boxes.
    pub classes: usize,
    /// Boxes; 0 for classes.
    pub boxes: usize,
    /// In the order of the file where they have one.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Number of findings that are errors.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_error()).count()
    }
}

/// What a batch takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Classes a batch.
    pub classes: usize,
    /// Pictures of each.
    pub samples_per_class: usize,
}

/// Checks a list file or a folder of classes; `seen` is told after each picture.
///
/// # Errors
///
/// [`DataError`] where the list or the folder itself cannot be read.
pub fn check_classes(
    path: &Path,
    demand: Demand,
    seen: &(impl Fn(usize) + Sync),
) -> Result<Report, DataError> {
    let mut report = Report::default();
    let mut rows: Vec<Row> = Vec::new();
    let Listed { rows: all, left_out, joined } = read_rows(path)?;
    for row in all {
        match row {
            Ok(row) => rows.push(row),
            Err(error) => report.findings.push(Finding::Line { text: error.to_string() }),
        }
    }
    let place = |row: &Row| match row.line {
        Some(line) => format!("{}:{line}: {}", path.display(), row.path.display()),
        None => row.path.display().to_string(),
    };
    let files: Vec<Result<String, String>> = rows
        .par_iter()
        .map(|row| {
            let digest = look_at(&row.path);
            seen(rows.len());
            digest.map(|(digest, _)| digest)
        })
        .collect();
    let mut same: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for (row, file) in rows.iter().zip(&files) {
        match file {
            Ok(digest) => same.entry(digest).or_default().push(row),
            Err(reason) => {
                let reason = reason.clone();
                report.findings.push(Finding::Broken { place: place(row), reason });
            }
        }
    }
    let mut duplicates: Vec<&Vec<&Row>> = same.values().filter(|rows| rows.len() > 1).collect();
    duplicates.sort_by_key(|rows| (rows[0].line, &rows[0].path));
    for rows in duplicates {
        let mut labels: Vec<String> = rows.iter().map(|row| row.label.clone()).collect();
        labels.sort();
        labels.dedup();
        let places = rows.iter().map(|row| place(row)).collect();
        report.findings.push(Finding::Duplicate { places, labels });
    }
    let whole: Vec<Row> =
        rows.iter().zip(&files).filter(|(_, f)| f.is_ok()).map(|(row, _)| row.clone()).collect();
    report.pictures = whole.len();
    let samples = Samples::from_rows(whole);
    report.classes = samples.labels.len();
    if report.classes < demand.classes {
        let (classes, needed) = (report.classes, demand.classes);
        report.findings.push(Finding::FewClasses { classes, needed });
    }
    for (label, pictures) in samples.labels.iter().zip(samples.by_label()) {
        let (pictures, needed) = (pictures.len(), demand.samples_per_class);
        if pictures < needed {
            let label = label.clone();
            report.findings.push(Finding::SmallClass { label, pictures, needed });
        }
    }
    report.findings.extend(label_gaps(&samples.labels));
    report.findings.extend(Group::all(&left_out).into_iter().map(|group| Finding::LeftOut {
        paths: group.paths.iter().map(|path| shown(path)).collect(),
        reason: group.reason.to_string(),
    }));
    let joined = joined.into_iter().map(|(label, folders)| Finding::Joined { label, folders });
    report.findings.extend(joined);
    let alike = look_alikes(samples.labels.iter().map(String::as_str));
    report.findings.extend(alike.into_iter().map(|labels| Finding::LookAlike { labels }));
    Ok(report)
}

/// Checks the boxes of a COCO file, whose pictures lie in `images` or where [`coco::read()`] finds them.
///
/// # Errors
///
/// [`CocoError`] where the file itself cannot be read.
pub fn check_boxes(
    path: &Path,
    images: Option<&Path>,
    seen: &(impl Fn(usize) + Sync),
) -> Result<Report, CocoError> {
    let examine = |picture: &Path| look_at(picture).map(|(digest, _)| digest);
    let inspection = coco::inspect(path, images, examine, String::as_str, seen)?;
    let advice = inspection.advice;
    let boxes = |finding: coco::Finding| {
        let is_advised = finding.kind == Problem::MissingPicture;
        Finding::Boxes { finding, advice: advice.clone().filter(|_| is_advised) }
    };
    let mut findings: Vec<Finding> = inspection.findings.into_iter().map(boxes).collect();
    let all = inspection.pictures.len();
    findings.extend(inspection.pictures.into_iter().filter_map(|(picture, answer)| {
        let place = picture.display().to_string();
        answer.err().map(|reason| Finding::Broken { place, reason })
    }));
    let broken =
        findings.iter().filter(|finding| matches!(finding, Finding::Broken { .. })).count();
    Ok(Report { pictures: all - broken, classes: 0, boxes: inspection.boxes, findings })
}

/// The file's digest and the picture's size.
fn look_at(path: &Path) -> Result<(String, (u32, u32)), String> {
    let bytes = files::read(path, files::IMAGE_LIMIT).map_err(|error| {
        // The place is named already.
        let reason = error.to_string();
        reason.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&reason).to_owned()
    })?;
    let picture = RgbImage::decode(&bytes).map_err(|error| error.to_string())?;
    Ok((sha256_hex(&bytes), (picture.width(), picture.height())))
}

/// Runs of numbers that are missing between labels that are all numbers.
fn label_gaps(labels: &[String]) -> Vec<Finding> {
    let numbers: Option<Vec<u64>> = labels.iter().map(|label| label.parse().ok()).collect();
    let gap = |pair: &[u64]| {
        let (first, last) = (pair[0].saturating_add(1), pair[1].checked_sub(1)?);
        (first <= last).then_some(Finding::LabelGap { first, last })
    };
    numbers.unwrap_or_default().windows(2).filter_map(gap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand = Demand { classes: 2, samples_per_class: 2 };

    fn picture(value: u8) -> Vec<u8> {
        RgbImage::from_rgb(8, 8, vec![value; 192]).unwrap().encode_jpeg(90).unwrap()
    }

    fn names(report: &Report) -> Vec<String> {
        report.findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_is_reported_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes);
        write("a.jpg", &picture(10)).unwrap();
        write("b.jpg", &picture(90)).unwrap();
        write("c.jpg", &picture(10)).unwrap();
        write("d.jpg", b"no picture").unwrap();
        let list = dir.path().join("list.txt");
        let text = "a.jpg 1\nb.jpg 1\nnone.jpg 1\nc.jpg 4\nd.jpg 4\nb.jpg\n";
        std::fs::write(&list, text).unwrap();
        let report = check_classes(&list, DEMAND, &|_| ()).unwrap();
        assert_eq!((report.pictures, report.classes), (3, 2));
        let all = names(&report);
        let expected =
            [":3: ", ":6: ", ":5: ", "classes 1, 4", "class 4: 1 picture", "a label of 2–3"];
        assert_eq!(all.len(), expected.len(), "{all:#?}");
        for (text, part) in all.iter().zip(expected) {
            assert!(text.contains(part), "{text} says nothing of {part}");
        }
        assert_eq!(report.errors(), 4);
    }

    #[test]
    fn a_whole_folder_has_no_findings() {
        let dir = tempfile::tempdir().unwrap();
        for (i, name) in ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"].iter().enumerate() {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, picture(40 * i as u8)).unwrap();
        }
        let report = check_classes(dir.path(), DEMAND, &|_| ()).unwrap();
        assert_eq!((report.pictures, report.classes), (4, 2));
        assert_eq!(names(&report), Vec::<String>::new());
        let few = Demand { classes: 3, samples_per_class: 2 };
        assert_eq!(check_classes(dir.path(), few, &|_| ()).unwrap().errors(), 1);
    }

    #[test]
    fn what_is_not_taken_and_names_that_look_alike_are_notes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
        for (i, class) in ["Mug", "mug", "7", "007"].iter().enumerate() {
            write(&format!("{class}/1.jpg"), &picture(40 * i as u8));
            write(&format!("{class}/2.jpg"), &picture(40 * i as u8 + 20));
        }
        write("Mug/3.heic", heic);
        write("mug/3.HEIC", heic);
        // Only its content tells; it is an error, as training would stop at it.
        write("mug/4.jpg", heic);
        let report = check_classes(dir.path(), DEMAND, &|_| ()).unwrap();
        assert_eq!((report.pictures, report.classes, report.errors()), (8, 4, 1));
        let all = names(&report);
        assert!(all[0].contains("mug/4.jpg: this is HEIC"), "{all:#?}");
        let left_out: Vec<_> = report
            .findings
            .iter()
            .filter_map(|finding| match finding {
                Finding::LeftOut { paths, .. } => Some(paths.len()),
                _ => None,
            })
            .collect();
        assert_eq!(left_out, [2]);
        let alike =
            |labels: [&str; 2]| Finding::LookAlike { labels: labels.map(str::to_owned).to_vec() };
        assert_eq!(
            report.findings[report.findings.len() - 2..],
            [alike(["007", "7"]), alike(["Mug", "mug"])]
        );
    }

    #[test]
    fn boxes_outside_their_picture_are_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.jpg"), picture(3)).unwrap();
        std::fs::write(dir.path().join("b.jpg"), b"x").unwrap();
        let json = r#"{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
            "annotations": [{"image_id": 1, "bbox": [0, 0, 8, 8]},
                            {"image_id": 1, "bbox": [4, 4, 9, 2]}]}"#;
        let path = dir.path().join("boxes.json");
        std::fs::write(&path, json).unwrap();
        let report = check_boxes(&path, None, &|_| ()).unwrap();
        assert_eq!((report.pictures, report.boxes, report.errors()), (1, 1, 2));
        assert!(names(&report)[0].contains("[4, 4, 13, 6] is not inside 8×8"));
    }
}
