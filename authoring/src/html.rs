//! What pages for owners are made of: their style, their figures.

use base64::Engine;
use models::image::{ImageError, RgbImage};
use models::preprocess::thumbnail;

use crate::plot::{escape, put};

/// JPEG quality of an image in the page.
const IMAGE_QUALITY: u8 = 75;

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><style>\
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}\
body{max-width:60rem;margin:2rem auto;padding:0 1rem}\
svg{width:100%;height:auto;margin:.5rem 0 1.5rem}\
table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left}\
.row{display:flex;flex-wrap:wrap;gap:.6rem;padding:.6rem 0;border-top:1px solid #8886}\
figure{margin:0;width:6.5rem;font-size:12px;overflow-wrap:break-word}\
figure img{max-width:6rem;max-height:6rem;border-radius:6px;outline:3px solid transparent}\
.right img{outline-color:#2a9d4a}.wrong img{outline-color:#d43c3c}\
pre{overflow:auto;background:#8882;padding:1rem;border-radius:8px}</style>";

/// The page up to and with its heading.
pub fn begin(title: &str) -> String {
    let mut page = String::from(HEAD);
    put(&mut page, format_args!("<title>{0}</title></head><body><h1>{0}</h1>", escape(title)));
    page
}

/// What an image of the page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What is searched for.
    Query,
    /// An answer of its class.
    Right,
    /// An answer of another class.
    Wrong,
}

/// An image whose longer side has this many pixels, with its caption.
///
/// # Errors
///
/// [`ImageError`] of an image that cannot be written.
pub fn image(
    picture: &RgbImage,
    side: u32,
    caption: &str,
    kind: Kind,
) -> Result<String, ImageError> {
    let bytes = thumbnail(picture, side, IMAGE_QUALITY)?;
    let data = base64::engine::general_purpose::STANDARD.encode(bytes);
    let caption = escape(caption);
    // Names of files are long words: they break behind their parts.
    let broken = caption.replace('_', "_<wbr>").replace('-', "-<wbr>");
    let (class, sign) = match kind {
        Kind::Query => ("query", ""),
        Kind::Right => ("right", "✓ "),
        Kind::Wrong => ("wrong", "✗ "),
    };
    Ok(format!(
        "<figure class=\"{class}\"><img src=\"data:image/jpeg;base64,{data}\" alt=\"{caption}\" \
         loading=\"lazy\"><figcaption>{sign}{broken}</figcaption></figure>"
    ))
}
