//! Scalars as `TensorBoard` reads them.
//!
//! A file of records, each an `Event` message of `TensorFlow`'s protocol buffers with its length and
//! check sums before and behind it. No kept crate writes them; scalars alone take a page.
//!
//! Source: `TensorFlow` `tensorflow/core/lib/io/record_writer.cc`, `tensorflow/core/util/event.proto`
//! and `tensorflow/core/framework/summary.proto`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::folder::EVENTS;
use crate::files::{self, FileError, Operation};

/// First event of a file.
const VERSION: &str = "brain.Event:2";

/// A file of events that grows with the run.
pub(super) struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// A new file beside those of the run's earlier parts, which `TensorBoard` joins.
    pub(super) fn create(folder: &Path) -> Result<Self, FileError> {
        let now = since_epoch();
        let [beginning, end] = EVENTS;
        let path = folder.join(format!("{beginning}{now:020.6}{end}"));
        let created = files::reach(Operation::Create).and_then(|()| File::create(&path));
        let file = match created {
            Ok(file) => file,
            Err(source) => return Err(FileError::Write { path, source }),
        };
        let mut events = Self { file, path };
        events.append(&event(now, 0, &text(3, VERSION)))?;
        Ok(events)
    }

    fn append(&mut self, event: &[u8]) -> Result<(), FileError> {
        let bytes = record(event);
        let written = files::reach(Operation::Write).and_then(|()| self.file.write_all(&bytes));
        written.map_err(|source| FileError::Append { path: self.path.clone(), source })
    }

    /// Values at a step of the whole run.
    pub(super) fn write(
        &mut self,
        step: usize,
        scalars: &[(String, f64)],
    ) -> Result<(), FileError> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut one = text(1, tag);
            one.push(key(2, 5));
            one.extend((*value as f32).to_le_bytes());
            summary.extend(block(1, &one));
        }
        self.append(&event(since_epoch(), step as u64, &block(5, &summary)))
    }
}

/// Seconds.
fn since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}

/// An `Event`: when, at which step, what.
fn event(seconds: f64, step: u64, what: &[u8]) -> Vec<u8> {
    let mut bytes = vec![key(1, 1)];
    bytes.extend(seconds.to_le_bytes());
    bytes.push(key(2, 0));
    bytes.extend(varint(step));
    bytes.extend(what);
    bytes
}

/// Number and kind of a field: 0 a varint, 1 eight bytes, 2 a block, 5 four bytes.
const fn key(field: u8, kind: u8) -> u8 {
    field << 3 | kind
}

fn text(field: u8, text: &str) -> Vec<u8> {
    block(field, text.as_bytes())
}

fn block(field: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![key(field, 2)];
    bytes.extend(varint(content.len() as u64));
    bytes.extend(content);
    bytes
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Length, its check sum, the event, its check sum.
fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(event);
    bytes.extend(masked_crc(event).to_le_bytes());
    bytes
}

/// CRC-32C, turned and shifted so that a check sum of check sums stays one.
fn masked_crc(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_sums_are_the_formats() {
        // CRC-32C of "123456789" is E3069283.
        let expected = 0xE306_9283_u32.rotate_right(15).wrapping_add(0xA282_EAD8);
        assert_eq!(masked_crc(b"123456789"), expected);
    }

    #[test]
    fn an_event_is_the_one_that_tensorboard_writes() {
        // Made with `tensorboard.compat.proto` of the Python package:
        // Event(wall_time=1.5, step=300, summary=Summary(value=[Summary.Value(tag="train/loss",
        // simple_value=0.25)])).SerializeToString()
        let expected = "09000000000000f83f10ac022a130a110a0a747261696e2f6c6f7373150000803e";
        let mut one = text(1, "train/loss");
        one.push(key(2, 5));
        one.extend(0.25_f32.to_le_bytes());
        let made = event(1.5, 300, &block(5, &block(1, &one)));
        let bytes = (0..expected.len() / 2)
            .map(|i| u8::from_str_radix(&expected[2 * i..2 * i + 2], 16).expect("two digits"));
        assert_eq!(made, bytes.collect::<Vec<u8>>());
    }
}
