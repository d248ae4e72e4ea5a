//! The terminal: what is printed there, how errors are told, and what happens when its reader or its user
//! goes away.
//!
//! In this crate `println!` and `eprintln!` are the ones of this module. Those of the standard library panic
//! where nobody reads any more, as behind `magpie gallery list gallery.bin | head`.

pub mod audience;
mod sentence;
mod stop;

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

use audience::obey;
pub use authoring::words::counted;
pub use sentence::{reason, sentence};
pub use stop::{LeftOver, Note, before_end, end, finish, watch};

/// What the program ends with where nobody reads its output any more: what a shell says of programs that
/// `SIGPIPE` ends.
pub const READER_GONE: u8 = 141;

/// Prints a line of the answer.
macro_rules! println {
    ($($text:tt)*) => {
        $crate::terminal::answer(format_args!($($text)*))
    };
}

/// Prints a line beside the answer: progress, a warning, an error.
macro_rules! eprintln {
    ($($text:tt)*) => {
        $crate::terminal::remark(format_args!($($text)*))
    };
}

/// Tells the audience a line, or prints it to the standard output. Where nobody reads it any more the program ends, quietly and with
/// [`READER_GONE`]; where it cannot be written, as on a full disk, with an error.
pub fn answer(text: Arguments<'_>) {
    if let Some(audience) = audience::present() {
        return obey(audience.answer(&text.to_string()));
    }
    let written = writeln!(std::io::stdout().lock(), "{text}");
    if let Err(error) = written {
        if error.kind() == ErrorKind::BrokenPipe {
            end(READER_GONE);
        }
        remark(format_args!("error: standard output: {error}"));
        end(1);
    }
}

/// Tells the audience a line, or prints it to the standard error. Where that cannot be written there is nobody to tell.
pub fn remark(text: Arguments<'_>) {
    if let Some(audience) = audience::present() {
        return obey(audience.remark(&text.to_string()));
    }
    // At once, so that lines of several threads and processes stay whole.
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}
