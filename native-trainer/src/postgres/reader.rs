//! One state of a pushed gallery: what is said about it, its classes, its entries.

use std::collections::BTreeSet;
use std::io::{Read, Seek, Write};

use authoring::label::quoted;
use models::gallery::{
    Adaptation, AdaptationMap, AnswerRule, Calibration, Class, ContentId, Crop, GalleryStream,
    MAX_DIM, Metadata, StreamError, VectorType,
};
use postgres::Transaction;

use super::rows::RowReader;
use super::told::{is_entry, wrong_class};
use super::{PostgresError, engine, read_text, schema};

/// As much of a thumbnail as there can be.
const WHOLE: usize = 1 << 30;

/// One state of a gallery.
pub(super) struct Reader<'a> {
    pub(super) transaction: Transaction<'a>,
    pub(super) name: &'a str,
}

/// What is said about all entries.
pub(super) struct Description {
    pub(super) model: String,
    pub(super) dim: usize,
    pub(super) vector_type: VectorType,
    pub(super) min_similarity: Option<f32>,
    pub(super) rule: AnswerRule,
    pub(super) calibration: Option<Calibration>,
    pub(super) crop: Crop,
    pub(super) index: engine::Built,
    /// As many as were pushed.
    pub(super) classes: usize,
    pub(super) entries: usize,
    pub(super) map: Option<AdaptationMap>,
}

impl Reader<'_> {
    pub(super) fn description(&mut self) -> Result<Description, PostgresError> {
        let query = format!(
            "SELECT model, dim, vector_type, min_similarity, rule, calibration, crop, index, codes, version::text, \
             classes, entries, map, map_values FROM {}_gallery LIMIT 1",
            self.name
        );
        let row = self
            .transaction
            .query_opt(&query, &[])?
            .ok_or_else(|| PostgresError::NotThere(self.name.to_owned()))?;
        schema::check(self.name, row.try_get(9)?)?;
        let dim = usize::try_from(row.try_get::<_, i32>(1)?).unwrap_or_default();
        if dim == 0 || dim > MAX_DIM {
            return Err(PostgresError::Inconsistent(format!("embeddings of {dim} values")));
        }
        let vector_type = (row.try_get::<_, &str>(2)?.parse::<VectorType>())
            .map_err(|error| PostgresError::Inconsistent(error.to_string()))?;
        let (model, min_similarity) = (row.try_get(0)?, threshold(row.try_get(3)?)?);
        let rule: Option<AnswerRule> =
            row.try_get::<_, Option<&str>>(4)?.map(read_text).transpose()?;
        let calibration = row.try_get::<_, Option<&str>>(5)?.map(read_text).transpose()?;
        let crop = row.try_get::<_, &str>(6)?;
        let crop = [Crop::Never, Crop::Middle, Crop::Main, Crop::Both]
            .into_iter()
            .find(|known| known.name() == crop)
            .ok_or_else(|| PostgresError::Inconsistent(format!("crop {crop:?}")))?;
        let index = engine::Built::read(row.try_get(7)?, row.try_get(8)?)?;
        let classes = usize::try_from(row.try_get::<_, i32>(10)?).unwrap_or_default();
        let entries = usize::try_from(row.try_get::<_, i64>(11)?).unwrap_or_default();
        let map: Option<Adaptation> =
            row.try_get::<_, Option<&str>>(12)?.map(read_text).transpose()?;
        let values = row.try_get::<_, Option<&[u8]>>(13)?;
        let map = match (map, values) {
            (None, None) => None,
            (Some(map), Some(values)) => AdaptationMap::from_bytes(map, dim, values)
                .map(Some)
                .ok_or_else(|| PostgresError::Inconsistent("values of its map".to_owned()))?,
            _ => return Err(PostgresError::Inconsistent("half a map".to_owned())),
        };
        Ok(Description {
            model,
            dim,
            vector_type,
            min_similarity,
            rule: rule.unwrap_or_default(),
            calibration,
            crop,
            index,
            classes,
            entries,
            map,
        })
    }

    /// Fails unless the entries are as many as were pushed, and the table has checked each of them.
    pub(super) fn check_entries(&mut self, about: &Description) -> Result<(), PostgresError> {
        let row = self.transaction.query_one(&schema::counted(self.name), &[])?;
        let number = |place| row.try_get::<_, i64>(place);
        let (count, first, last, checks) = (number(0)?, number(1)?, number(2)?, number(3)?);
        let wanted = about.entries as i64;
        if (count, first, last) != (wanted, 0, wanted - 1) {
            let what = if count == wanted {
                "an entry is missing".to_owned()
            } else {
                format!("{count} entries, and {wanted} were pushed")
            };
            return Err(PostgresError::Inconsistent(what));
        }
        if checks != 2 {
            let what = "its table does not check entries any more".to_owned();
            return Err(PostgresError::Inconsistent(what));
        }
        Ok(())
    }

    /// Takes each class with its thumbnail, or so many bytes of it.
    pub(super) fn classes(
        &mut self,
        about: &Description,
        most: usize,
        mut take: impl FnMut(Class, &[u8]) -> Result<(), PostgresError>,
    ) -> Result<(), PostgresError> {
        let name = self.name;
        let query = format!(
            "COPY (SELECT class::int, label::text, metadata::text, min_similarity::real, \
             substring(thumbnail::bytea FOR {most}) FROM {name}_classes ORDER BY class) \
             TO STDOUT (FORMAT binary)"
        );
        let mut labels = BTreeSet::new();
        let mut rows = RowReader::begin(self.transaction.copy_out(&query)?, 5)?;
        while let Some(row) = rows.advance()? {
            let metadata: Metadata = read_text(row.text(2)?)?;
            let label = row.text(1)?.to_owned();
            if i64::from(row.int(0)?) != row.number as i64 {
                return Err(PostgresError::Inconsistent("a class is missing".to_owned()));
            }
            let class = Class { label, metadata, min_similarity: row.real(3)? };
            if let Some(what) = wrong_class(&class, row.bytes(4)?) {
                return Err(PostgresError::Inconsistent(what));
            }
            if !labels.insert(class.label.clone()) {
                let what = format!("two classes {}", quoted(&class.label));
                return Err(PostgresError::Inconsistent(what));
            }
            take(class, row.bytes(4)?)?;
        }
        if labels.len() == about.classes {
            return Ok(());
        }
        let what = format!("{} classes, and {} were pushed", labels.len(), about.classes);
        Err(PostgresError::Inconsistent(what))
    }

    pub(super) fn pull<S: Read + Write + Seek>(
        &mut self,
        scratch: [S; 2],
    ) -> Result<GalleryStream<S>, PostgresError> {
        let about = self.description()?;
        let mut gallery =
            GalleryStream::new(about.dim, about.model.clone(), about.vector_type, scratch);
        gallery.set_map(about.map.clone())?;
        gallery.set_min_similarity(about.min_similarity)?;
        gallery.set_measured_rule(about.rule);
        gallery.set_calibration(about.calibration.clone());
        gallery.set_crop(about.crop);
        self.check_entries(&about)?;
        self.classes(&about, WHOLE, |class, thumbnail| {
            gallery.add_class(class, thumbnail)?;
            Ok(())
        })?;
        let name = self.name;
        // Only the server compares what is behind the map: it comes from the embedding again.
        let is_sound = about.map.as_ref().map_or_else(
            || "1".to_owned(),
            |map| format!("({})::int", schema::is_entry("mapped::vector", map.values())),
        );
        let query = format!(
            "COPY (SELECT class::int, picture::bytea, embedding::vector, {is_sound} FROM {name}_entries ORDER BY entry) \
             TO STDOUT (FORMAT binary)"
        );
        let mut rows = RowReader::begin(self.transaction.copy_out(&query)?, 4)?;
        let mut embedding = Vec::new();
        while let Some(row) = rows.advance()? {
            let class = usize::try_from(row.int(0)?).unwrap_or(usize::MAX);
            let Ok(picture) = <[u8; 16]>::try_from(row.bytes(1)?) else {
                return Err(PostgresError::Inconsistent("a picture's hash".to_owned()));
            };
            row.vector(2, &mut embedding)?;
            let number = gallery.len();
            if embedding.len() == about.dim && !is_entry(&embedding) {
                let what = format!("entry {number} has no unit length");
                return Err(PostgresError::Inconsistent(what));
            }
            if row.int(3)? != 1 {
                let what = format!("entry {number} has no unit length behind the map");
                return Err(PostgresError::Inconsistent(what));
            }
            // Its width, its values and its class are looked at there.
            let added = gallery.add_stored(class, &embedding, ContentId(picture));
            added.map_err(|error| match error {
                StreamError::Gallery(error) => {
                    PostgresError::Inconsistent(format!("entry {number}: {error}"))
                }
                error => error.into(),
            })?;
        }
        if gallery.len() == about.entries {
            return Ok(gallery);
        }
        let what = format!("{} entries, and {} were pushed", gallery.len(), about.entries);
        Err(PostgresError::Inconsistent(what))
    }
}

/// A least cosine as the server has it.
fn threshold(value: Option<f32>) -> Result<Option<f32>, PostgresError> {
    match value {
        Some(least) if !least.is_finite() => {
            Err(PostgresError::Inconsistent(format!("a threshold of {least}")))
        }
        value => Ok(value),
    }
}
