//! Bits of entropy-coded data, and the codes in them.

/// Bits that a code is looked up by at once.
const QUICK: usize = 10;

/// A table of codes of up to 16 bits.
pub(super) struct Table {
    /// By the next bits: length of the code in the upper byte, value in the lower; 0 for longer codes.
    quick: Vec<u16>,
    /// By length: first code behind those of this length, its bits moved to the top of 16.
    ends: [u32; 17],
    /// By length: what to add to a code for the position of its value.
    offsets: [i32; 17],
    values: Vec<u8>,
}

impl Table {
    /// A table of as many codes of every length as `counts` says; `None` where there are more than bits allow.
    pub(super) fn new(counts: &[u8], values: &[u8]) -> Option<Self> {
        let mut table = Self {
            quick: vec![0; 1 << QUICK],
            ends: [0; 17],
            offsets: [0; 17],
            values: values.to_vec(),
        };
        let (mut code, mut position) = (0_u32, 0_usize);
        for (length, count) in (1..=16).zip(counts) {
            table.offsets[length] = position as i32 - code as i32;
            for value in values.get(position..position + usize::from(*count))? {
                if code >> length != 0 {
                    return None;
                }
                if length <= QUICK {
                    let start = (code << (QUICK - length)) as usize;
                    let entry = (length as u16) << 8 | u16::from(*value);
                    table.quick[start..start + (1 << (QUICK - length))].fill(entry);
                }
                code += 1;
            }
            position += usize::from(*count);
            table.ends[length] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }
}

/// A code of a scan and the number behind it.
pub(super) struct Code {
    /// Upper half of the code's value: coefficients to step over.
    pub(super) run: u32,
    /// Lower half of the code's value: bits of the number.
    pub(super) width: u32,
    /// As it is meant, with its sign.
    pub(super) number: i32,
}

/// Bits of a scan. Behind its end there are zeros, which are counted.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bit is the uppermost.
    buffer: u64,
    count: u32,
    /// Bits among those that were put into the buffer which are not in the file.
    lent: u64,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], start: usize) -> Self {
        Self { bytes, at: start, buffer: 0, count: 0, lent: 0 }
    }

    /// Where the next marker or the end of the file is, once all bits are read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Whether more bits were asked for than there are.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.lent > u64::from(self.count)
    }

    /// Sees to it that there are 32 bits.
    #[inline]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            let word = u32::from_be_bytes(*next);
            // None of the four is 0xff, so none begins a marker.
            let inverse = !word;
            if inverse.wrapping_sub(0x0101_0101) & word & 0x8080_8080 == 0 {
                self.buffer |= u64::from(word) << (32 - self.count);
                self.count += 32;
                self.at += 4;
                return;
            }
        }
        self.fill_slowly();
    }

    #[inline(never)]
    fn fill_slowly(&mut self) {
        while self.count <= 56 {
            let byte = match self.bytes.get(self.at) {
                Some(0xff) if self.bytes.get(self.at + 1) == Some(&0) => {
                    self.at += 2;
                    0xff
                }
                Some(0xff) | None => {
                    self.lent += 8;
                    0
                }
                Some(byte) => {
                    self.at += 1;
                    *byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn drop(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// Up to 16 bits as a number.
    #[inline]
    pub(super) fn take(&mut self, bits: u32) -> u32 {
        self.fill();
        let value = (self.buffer >> 1 >> (63 - bits)) as u32;
        self.drop(bits);
        value
    }

    /// The next code; `None` for bits that are none.
    #[inline]
    pub(super) fn code(&mut self, table: &Table) -> Option<Code> {
        self.fill();
        let entry = table.quick[(self.buffer >> (64 - QUICK)) as usize];
        let value = if entry == 0 {
            self.long_code(table)?
        } else {
            self.drop(u32::from(entry >> 8));
            entry as u8
        };
        let width = u32::from(value & 15);
        // Numbers whose first bit is 0 are below 0.
        let bits = (self.buffer >> 1 >> (63 - width)) as i32;
        let is_below = (!self.buffer >> 63) as i32;
        let number = bits - is_below * ((1 << width) - 1);
        self.drop(width);
        Some(Code { run: u32::from(value >> 4), width, number })
    }

    #[inline(never)]
    fn long_code(&mut self, table: &Table) -> Option<u8> {
        let next = (self.buffer >> 48) as u32;
        let length = (QUICK + 1..=16).find(|length| next < table.ends[*length])?;
        let position = (next >> (16 - length)) as i32 + table.offsets[length];
        let value = table.values.get(usize::try_from(position).ok()?).copied();
        self.drop(length as u32);
        value
    }

    /// Drops the rest of the last byte. How many bytes lie between it and the next marker or the end.
    pub(super) fn end(&mut self) -> usize {
        let left = u64::from(self.count).saturating_sub(self.lent);
        let mut remains = (left / 8) as usize;
        while let Some(byte) = self.bytes.get(self.at) {
            let next = self.bytes.get(self.at + 1);
            if *byte == 0xff && next != Some(&0) {
                break;
            }
            self.at += if *byte == 0xff { 2 } else { 1 };
            remains += 1;
        }
        (self.buffer, self.count, self.lent) = (0, 0, 0);
        remains
    }

    /// The number of the restart marker here, which is stepped over.
    pub(super) fn restart(&mut self) -> Option<u8> {
        let mut at = self.at;
        while self.bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        let number = match (self.bytes.get(at)?, self.bytes.get(at + 1)?) {
            (0xff, marker @ 0xd0..=0xd7) => marker & 7,
            _ => return None,
        };
        self.at = at + 2;
        Some(number)
    }
}
