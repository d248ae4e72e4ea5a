//! What a visitor changes: lessons, taken back or started over, as a file.

use models::image::RgbImage;

use super::Engine;
use crate::input::{decode, thumbnail_of};
use crate::local_edits::Taught;
use crate::protocol::{Change, Edit, EngineError, ErrorKind, GalleryView, Response};

impl Engine {
    /// What the gallery holds.
    pub(crate) fn list(&self, filter: &str) -> GalleryView {
        self.edits.view(&self.recognizer, filter)
    }

    /// The gallery as a file.
    pub(crate) fn export(&self) -> Vec<u8> {
        self.recognizer.own_gallery().to_bytes()
    }

    /// Changes the gallery.
    pub(crate) async fn edit(&mut self, edit: Edit) -> Result<Response, EngineError> {
        let lesson = match &edit {
            Edit::Teach { picture, object, .. } => self.lesson(*picture, *object)?,
            Edit::Add { picture, .. } => {
                let image = decode(picture.clone())?;
                check_seen(&image)?;
                let thumbnail = thumbnail_of(&image)?;
                let part = self.recognizer.entry_part(&image).await?;
                Some(Taught { thumbnail, embedding: self.embedding(&part).await? })
            }
            _ => None,
        };
        // A camera's newest frame may be another than the one that was taught from.
        let shown = match &edit {
            Edit::Teach { picture, .. } => Some(*picture),
            _ => None,
        };
        let change = self.edits.edit(&mut self.recognizer, edit, lesson).await?;
        self.edited(change, shown)
    }

    /// Takes the last change back.
    pub(crate) async fn undo(&mut self) -> Result<Response, EngineError> {
        self.edits.undo(&mut self.recognizer).await?;
        self.edited(Change::Undone, None)
    }

    /// Goes back to the published gallery.
    pub(crate) async fn reset(&mut self) -> Result<Response, EngineError> {
        self.edits.reset(&mut self.recognizer).await?;
        self.edited(Change::Reset, None)
    }

    /// What there is to say after a change: the gallery, and the answers now of a picture that is at hand, or
    /// of the newest.
    pub(super) fn edited(
        &mut self,
        change: Change,
        shown: Option<u32>,
    ) -> Result<Response, EngineError> {
        self.changed();
        self.answer_again()?;
        let shown = self.seen.iter().find(|seen| Some(seen.id) == shown).or(self.seen.back());
        let again = shown.map(|seen| self.described(seen));
        Ok(Response::Edited { change, gallery: self.list(""), again })
    }

    /// The object of a picture that is still at hand.
    fn lesson(&self, picture: u32, object: usize) -> Result<Option<Taught>, EngineError> {
        let Some((seen, found)) = self.object(picture, object) else { return Ok(None) };
        let crop = seen.image.crop(&found.bbox);
        check_seen(&crop)?;
        let thumbnail = thumbnail_of(&crop)?;
        Ok(Some(Taught { thumbnail, embedding: found.embedding.clone() }))
    }
}

/// Fails for a picture in which nothing is to be seen: everything plain would be taken for the thing.
fn check_seen(image: &RgbImage) -> Result<(), EngineError> {
    if !image.is_one_color() {
        return Ok(());
    }
    let message = "all pixels of the picture have one color: nothing can be learned from it";
    Err(EngineError::new(ErrorKind::Gallery, message))
}
