//! Networks, preprocessing, gallery and the recognition pipeline: one definition for the trainer,
//! the tests and the browser.
//!
//! Bytes and images in, values out: this crate reads no file, knows no browser and names no
//! backend outside `operators`.
//!
//! # Tour
//!
//! A published site holds a [`Bundle`]: one or two networks ([`ModelFile`]) and a [`Gallery`] of labeled
//! embeddings. Opened on a [`Device`], it is a [`Recognizer`]: the [`Detector`] finds the objects of an
//! [`RgbImage`], [`Preprocess`] brings each crop to the input's size, the [`Extractor`] embeds it, and the gallery
//! says which classes are most similar. With a camera a [`Tracker`] skips objects that have not changed.
//!
#![cfg_attr(feature = "flex", doc = "```")]
#![cfg_attr(not(feature = "flex"), doc = "```ignore")]
//! use models::{Bundle, Device, Manifest, RgbImage};
//! # use models::backbone::{BackboneConfig, MobileNetV1Config};
//! # use models::bundle::Published;
//! # use models::extractor::ExtractorConfig;
//! # use models::model_file::{Trained, model_id};
//! # use models::{Class, Gallery, Preprocess, RecognizerSettings};
//! # let device = Device::flex();
//! # let backbone = BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.25, fused: false });
//! # let config = ExtractorConfig { backbone, neck: None };
//! # let network = Trained::Extractor(config.clone(), config.init(&device));
//! # let model = network.deploy(Preprocess::square(32), "drawn weights".to_owned());
//! # let extractor = Bundle::model_bytes(&model)?;
//! # let mut gallery = Gallery::new(config.embedding_dim(), model_id(&extractor));
//! # let class = gallery.add_class(Class { label: "gray".to_owned(), ..Class::default() }, Vec::new());
//! # let gray = RgbImage::from_rgb(8, 8, vec![128; 192])?;
//! # let prepared = model.prepare_extractor(&device)?;
//! # gallery.add(class, &pollster::block_on(prepared.run(std::slice::from_ref(&gray)))?)?;
//! # let (settings, title) = (RecognizerSettings::default(), "Grays".to_owned());
//! # let whole = Published::Whole(&gallery);
//! # let Bundle { manifest, files } = Bundle::assemble(title, extractor, None, whole, settings, Vec::new())?;
//! # let manifest = serde_json::to_vec(&manifest)?;
//! # let shelf = gray.encode_png()?;
//! # let read = |name: &str| files.iter().find(|(n, _)| n == name).map(|(_, bytes)| bytes.clone());
//! // `manifest`, `shelf` and what `read` returns are bytes, of files or of a download.
//! let manifest = Manifest::from_bytes(&manifest)?;
//! let recognizer = Bundle::open(&manifest, read, &Device::flex())?;
//! let image = RgbImage::decode(&shelf)?;
//! let (objects, _) = pollster::block_on(recognizer.recognize(&image, || 0.0))?;
//! for object in objects.iter().filter(|object| object.known) {
//!     let class = object.matches[0].class;
//!     println!("{:?}: {}", object.bbox, recognizer.gallery().classes()[class].label);
//! }
//! # assert!(objects[0].known && objects[0].similarity() > 0.99);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | tensors | Burn's tensors: networks are trained, folded and run layer by layer. Without it a network is read from a file and run as a plan with packed weights, and no tensor library is compiled |
//! | flex | `tensors` on the CPU |
//! | threads | several threads share the work of an image, or a batch's images |
//! | parallel | `threads`, and what only a host has: training on threads, shards that are cut, galleries larger than memory, the widest vectors of its processor |
//! | webgpu | inference on a graphics device with shaders of this crate, natively and in a browser |
//! | cube | Burn's CubeCL backends (WebGPU, Vulkan, CUDA) |
//! | train | backward passes |
//! | relaxed | relaxed SIMD on wasm32: a browser without it refuses the module |
//!
//! # Modules
//!
//! A module imports only from the lines above it:
//!
//! | module | what |
//! |---|---|
//! | `limits`, `simd`, `threads`, `values` | how large networks may be; the vectors of the processor; work on several threads; parameters: Burn's, or their values alone |
//! | `activation` | activations, and the smooth ones in vectors |
//! | `operators` | operators of training, as an extension of Burn |
//! | [`image`], `layers` | decoded images, boxes, resizing; blocks shared by the networks |
//! | [`preprocess`], [`weights`] | image → network input; named tensors |
//! | [`inference`] | a network ready to run on a device: steps, packed weights, shaders |
//! | [`backbone`], [`neck`], [`tracker`] | PP-LCNet, PP-LCNetV2, MobileNetV1, V3 and V4, ResNet, EfficientNet-B0 and -Lite, RepViT, ConvNeXt, vision transformers, graphs of other programs; FC, BNNeck, vehicle neck, tanh; objects over a camera's frames |
//! | [`detector`], [`extractor`] | image → boxes; image → embedding |
//! | [`model_file`] | a network with its description in one file |
//! | [`recognizer`] | detect → crop → embed → search |
//! | `timing`, [`bundle`] | how long its parts take; all of it as files for a static host |

mod activation;
pub mod backbone;
pub mod bundle;
pub mod detector;
pub mod extractor;
pub mod image;
pub mod inference;
#[doc(hidden)]
pub mod layers;
#[doc(hidden)]
pub mod limits;
pub mod model_file;
pub mod neck;
#[cfg(test)]
mod noise;
#[cfg(feature = "tensors")]
#[doc(hidden)]
pub mod operators;
pub mod preprocess;
pub mod recognizer;
mod simd;
#[doc(hidden)]
pub mod threads;
#[doc(hidden)]
pub mod timing;
pub mod tracker;
#[doc(hidden)]
pub mod values;
pub mod weights;

pub use bundle::{Bundle, Manifest};
pub use detector::Detector;
pub use extractor::Extractor;
pub use gallery;
pub use gallery::{AnswerRule, Class, Gallery, Match, Question};
pub use image::RgbImage;
pub use limits::LimitError;
pub use model_file::ModelFile;
pub use preprocess::Preprocess;
pub use recognizer::{Recognition, Recognizer, RecognizerSettings};
pub use simd::{choose_vectors, is_fused};
pub use tracker::Tracker;
/// Where networks run: with the feature `tensors` Burn's device, without it the processor.
pub use values::Device;
