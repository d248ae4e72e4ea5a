//! What several commands share: devices, model files, lists, numbers and failures as a command line gives them.

pub mod device;
mod embedder;
mod failures;
mod model;
mod port;
pub(crate) mod probe;
pub(crate) mod ranges;
mod text;
mod values;

pub use self::device::DeviceKind;
pub use self::embedder::Embedder;
pub(crate) use self::embedder::measured;
pub(crate) use self::failures::Failures;
pub(crate) use self::model::{
    OpenModel, open_detector, open_detector_file, open_extractor_file, open_model,
};
pub(crate) use self::port::no_port;
pub(crate) use self::text::{read, read_wanted, samples, size, tell_remarks, write};
pub(crate) use self::values::{KnownModel, NamedNetwork, Values};
