//! Which part of a picture becomes an entry, as the gallery's entries were made.

use super::{RecognizeError, Recognizer, main_body};
use crate::image::RgbImage;
use crate::image::geometry::BBox;

impl Recognizer {
    /// The part of a picture of one thing that becomes an entry: the middle or the main body, if the gallery's entries
    /// are those, else the whole picture; so, too, where no main body is found.
    ///
    /// # Errors
    ///
    /// [`RecognizeError::Run`]
    pub async fn entry_part(&self, image: &RgbImage) -> Result<RgbImage, RecognizeError> {
        if self.settings.middle {
            return Ok(image.crop(&BBox::middle(image.width(), image.height())));
        }
        let found = match self.gallery.crop().needs_detector() {
            true => self.detect(image).await?,
            false => Vec::new(),
        };
        let body = main_body(&found);
        Ok(body.map_or_else(|| image.clone(), |body| image.crop(&body)))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::backbone::{BackboneConfig, MobileNetV1Config};
    use crate::extractor::ExtractorConfig;
    use crate::model_file::Trained;
    use crate::preprocess::Preprocess;
    use crate::recognizer::RecognizerSettings;
    use gallery::{Crop, Gallery};

    #[test]
    fn a_picture_that_is_taught_is_cropped_as_the_gallery_was() {
        let device = crate::values::Device::flex();
        let backbone = BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.25, fused: false });
        let config = ExtractorConfig { backbone, neck: None };
        let dim = config.embedding_dim();
        let network = Trained::Extractor(config.clone(), config.init(&device));
        let model = network.deploy(Preprocess::square(32), String::new());
        let extractor = model.prepare_extractor(&device).unwrap();
        let mut gallery = Gallery::new(dim, "drawn weights");
        // Without a detector there is no main body.
        gallery.set_crop(Crop::Main);
        let mut recognizer =
            Recognizer::new(None, extractor, gallery, RecognizerSettings::default());
        let image = RgbImage::from_rgb(20, 10, vec![7; 600]).unwrap();
        let part =
            |recognizer: &Recognizer| pollster::block_on(recognizer.entry_part(&image)).unwrap();
        assert_eq!(part(&recognizer), image);
        recognizer.settings_mut().middle = true;
        let middle = part(&recognizer);
        assert_eq!((middle.width(), middle.height()), (14, 7));
        assert_eq!(middle, image.crop(&BBox::middle(20, 10)));
    }
}
