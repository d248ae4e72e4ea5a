//! What `magpie site` publishes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use models::detector::DetectionThresholds;
use models::recognizer::RecognizerSettings;

use super::super::gallery::Answer;
use super::{Arguments, Cut, SHARD_SIZE, Whole};
use crate::networks;

/// What `magpie site` publishes; all else is as by default.
pub(in crate::command) struct OfSite {
    pub(in crate::command) extractor: PathBuf,
    pub(in crate::command) detector: Option<PathBuf>,
    pub(in crate::command) gallery: PathBuf,
    pub(in crate::command) page: Option<PathBuf>,
    pub(in crate::command) out: PathBuf,
    pub(in crate::command) title: Option<String>,
    pub(in crate::command) sample: Vec<PathBuf>,
    /// Samples that lie in no file of their own, by what they are called.
    pub(in crate::command) packed: BTreeMap<PathBuf, Vec<u8>>,
    pub(in crate::command) quiet: bool,
}

impl Arguments {
    /// Those of a site.
    pub(in crate::command) fn of_site(site: OfSite) -> Self {
        let OfSite { extractor, detector, gallery, page, out, title, sample, packed, quiet } = site;
        let settings = RecognizerSettings::default();
        Self {
            extractor,
            // Without one none is to be looked for.
            detector: Some(detector.unwrap_or_else(|| PathBuf::from(networks::NONE))),
            gallery,
            page,
            out,
            title,
            sample,
            min_similarity: None,
            min_score: DetectionThresholds::default().score,
            recognition_nms_iou: settings.recognition_nms_iou,
            whole_image: Whole::default(),
            answer: Answer::default(),
            shards: Cut::default(),
            shard_size: SHARD_SIZE,
            peers: None,
            note: Vec::new(),
            quiet,
            is_of_site: true,
            packed,
        }
    }
}
