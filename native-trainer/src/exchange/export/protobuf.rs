//! Protocol buffers, as ONNX files consist of them.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding>.

/// A protocol buffer being written.
#[derive(Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    pub(super) fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    pub(super) fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    pub(super) fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }
}

/// An attribute of a node.
pub(super) enum Attribute {
    Number(i64),
    Numbers(Vec<i64>),
    Float(f32),
    Text(&'static str),
}

impl Attribute {
    pub(super) fn message(&self, name: &str) -> Message {
        let mut message = Message::default();
        message.text(1, name);
        match self {
            Self::Number(value) => {
                message.number(3, *value as u64);
                message.number(20, 2);
            }
            Self::Numbers(values) => {
                values.iter().for_each(|value| message.number(8, *value as u64));
                message.number(20, 7);
            }
            Self::Float(value) => {
                message.float(2, *value);
                message.number(20, 1);
            }
            Self::Text(text) => {
                message.text(4, text);
                message.number(20, 3);
            }
        }
        message
    }
}
