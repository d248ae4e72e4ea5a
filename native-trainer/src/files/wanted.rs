//! What a command takes where nothing is at a path that it was given: the end of the error's sentence.

/// A gallery.
pub const GALLERY: &str = "a gallery, as `magpie gallery build` writes it";
/// A network.
pub const MODEL: &str = "a model file, as `magpie export` and `magpie import` write it";
/// A site.
pub const SITE: &str = "the folder that `magpie publish --out` wrote";
/// Images with their classes.
pub const SAMPLES: &str = "a folder that holds a folder per class, or a list file";
/// One picture.
pub const IMAGE: &str = "a picture: JPEG, PNG, WebP, GIF or BMP";
/// Metadata of classes.
pub const METADATA: &str = "a JSON file of metadata: {\"CLASS\": {\"NAME\": \"TEXT\"}}";
/// A part of a list of pictures.
pub const SHARD: &str = "an embedding shard, as `magpie embed` writes it";
/// A recipe.
pub const RECIPE: &str =
    "a recipe; `magpie train --list-recipes` shows those that magpie brings along";
/// Boxes drawn by hand.
pub const COCO: &str = "a COCO file of boxes";
/// Weights of another program.
pub const CHECKPOINT: &str = "a checkpoint: a .safetensors, .pth, .pt, .pdparams or .onnx file";
/// A token of the service.
pub const TOKEN: &str = "a file with a token, as `openssl rand -hex 32` writes one";
/// A secret of trainers and workers.
pub const SECRET: &str = "a file with a secret, as `openssl rand -hex 32` writes one";
/// A certificate of the service or of a worker.
pub const CERTIFICATE: &str = "a file of certificates in PEM, the own one first";
/// Its key.
pub const KEY: &str = "a file with the certificate's key in PEM";
/// What training has left.
pub const RUN: &str = "the folder that `magpie train --out` wrote";
