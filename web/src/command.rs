//! What a visitor wants of the page, as the parts that listen to him say it.

use std::rc::Rc;

use wasm_engine::protocol::Request;

/// Left, top, right, bottom, as parts of the picture's sides.
pub(crate) type Part = [f64; 4];

/// Where the visitor's commands go.
pub(crate) type Sender = Rc<dyn Fn(Command)>;

/// What the visitor wants.
pub(crate) enum Command {
    /// Something that the engine answers.
    Send(Request),
    /// A picture that stands still, to name what is on it.
    Hold,
    /// To know what is in one of these parts of the picture.
    Look(Vec<Part>),
    /// To see what the network was given.
    LookInside,
    /// A gallery file to add.
    Import(web_sys::File),
}
