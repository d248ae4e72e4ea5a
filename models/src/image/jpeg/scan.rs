//! The layout of a picture, and the blocks that a scan holds of it.

use super::bits::{Bits, Code, Table};
use super::transform::{Samples, ZIGZAG};

/// Bytes behind the blocks of a scan that some cameras and encoders leave there.
pub(super) const REMAINS: usize = 64;

/// Why a scan is not what it should be.
pub(super) enum Stop {
    /// Its data end in a row of units.
    Short {
        /// Counted from 0.
        row: usize,
        /// Of the scan.
        rows: usize,
    },
    /// Its data cannot be.
    Broken(&'static str),
}

/// A channel of the picture.
pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks across and down in a unit.
    pub(super) h: usize,
    pub(super) v: usize,
    /// Position of its steps of quantization.
    pub(super) table: usize,
    /// The steps as its first scan found them.
    pub(super) steps: Option<[u16; 64]>,
    /// Samples across and down that show something.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Samples across and down with those that fill units up.
    pub(super) stride: usize,
    lines: usize,
    /// Coefficients by block: of a progressive picture all, else those of a row of units.
    blocks: Vec<[i16; 64]>,
    /// Samples, line by line.
    pub(super) plane: Vec<u8>,
    /// By coefficient: bits that are still to come; `None` before its first scan.
    missing: [Option<u8>; 64],
}

/// The picture's layout.
pub(super) struct Frame {
    pub(super) is_progressive: bool,
    /// In pixels.
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: Vec<Component>,
    /// Units (the blocks of all channels over the same pixels) across and down.
    across: usize,
    down: usize,
}

/// What a scan holds.
pub(super) struct Scan<'a> {
    /// Position of the channel, codes of the first coefficient, codes of the others.
    pub(super) channels: Vec<(usize, Option<&'a Table>, Option<&'a Table>)>,
    /// First and last coefficient.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Whether earlier scans have brought upper bits of the coefficients.
    pub(super) is_further: bool,
    /// Bits that later scans bring.
    pub(super) later: u32,
    /// In units; 0 for none.
    pub(super) restart_interval: usize,
}

/// What the next block depends on.
#[derive(Default)]
struct State {
    /// First coefficient of the block before, by channel of the scan.
    first: [i32; 4],
    /// Blocks to come in which a scan of other coefficients has nothing new.
    empty: u32,
}

impl Frame {
    /// `channels`: name, blocks across and blocks down in a unit, position of the steps.
    pub(super) fn new(
        (width, height): (usize, usize),
        channels: &[[u8; 4]],
        is_progressive: bool,
    ) -> Self {
        let most = |i: usize| usize::from(channels.iter().map(|c| c[i]).max().unwrap_or(1));
        let (h_most, v_most) = (most(1), most(2));
        let (across, down) = (width.div_ceil(8 * h_most), height.div_ceil(8 * v_most));
        let component = |&[id, h, v, table]: &[u8; 4]| {
            let (h, v) = (usize::from(h), usize::from(v));
            let (stride, lines) = (8 * across * h, 8 * down * v);
            let blocks = across * h * if is_progressive { down * v } else { v };
            Component {
                id,
                h,
                v,
                table: usize::from(table),
                steps: None,
                width: (width * h).div_ceil(h_most),
                height: (height * v).div_ceil(v_most),
                stride,
                lines,
                blocks: vec![[0; 64]; blocks],
                plane: if is_progressive { Vec::new() } else { vec![0; stride * lines] },
                missing: [None; 64],
            }
        };
        let components = channels.iter().map(component).collect();
        Self { is_progressive, width, height, components, across, down }
    }

    /// Blocks that show something of a picture of this size.
    pub(super) fn blocks((width, height): (usize, usize), channels: &[[u8; 4]]) -> usize {
        let most = |i: usize| usize::from(channels.iter().map(|c| c[i]).max().unwrap_or(1));
        let (h_most, v_most) = (most(1), most(2));
        let blocks = |channel: &[u8; 4]| {
            let (h, v) = (usize::from(channel[1]), usize::from(channel[2]));
            (width * h).div_ceil(8 * h_most) * (height * v).div_ceil(8 * v_most)
        };
        channels.iter().map(blocks).sum()
    }

    /// Whether the scans so far are the whole picture. `is_marked`: the file says that it ends here, so that
    /// coefficients which no scan has begun are left out on purpose.
    pub(super) fn is_complete(&self, is_marked: bool) -> bool {
        self.components.iter().all(|component| {
            let is_there = |bits: &Option<u8>| *bits == Some(0) || (is_marked && bits.is_none());
            component.missing[0] == Some(0) && component.missing.iter().all(is_there)
        })
    }

    /// Reads the blocks of a scan.
    pub(super) fn read(&mut self, scan: &Scan, bits: &mut Bits) -> Result<(), Stop> {
        let single = match scan.channels[..] {
            [(position, ..)] => Some(&self.components[position]),
            _ => None,
        };
        // A scan of one channel has no blocks that only fill units up.
        let (across, rows) = match single {
            Some(component) => (component.width.div_ceil(8), component.height.div_ceil(8)),
            None => (self.across, self.down),
        };
        let is_single = single.is_some();
        let mut state = State::default();
        let mut unit = 0;
        for row in 0..rows {
            let short = Stop::Short { row, rows };
            for column in 0..across {
                if scan.restart_interval > 0 && unit > 0 && unit % scan.restart_interval == 0 {
                    if bits.is_overdrawn() {
                        return Err(short);
                    }
                    if bits.end() > REMAINS {
                        return Err(Stop::Broken("data are left over in front of a restart"));
                    }
                    let number = (unit / scan.restart_interval - 1) % 8;
                    match bits.restart() {
                        None => return Err(short),
                        Some(found) if usize::from(found) != number => {
                            return Err(Stop::Broken("a part between two restarts is missing"));
                        }
                        Some(_) => state = State::default(),
                    }
                }
                unit += 1;
                for (channel, (position, dc, ac)) in scan.channels.iter().enumerate() {
                    let component = &mut self.components[*position];
                    let (h, v) = if is_single { (1, 1) } else { (component.h, component.v) };
                    for y in row * v..(row + 1) * v {
                        for x in column * h..(column + 1) * h {
                            // Rows of units lie where the one before lay.
                            let line = if self.is_progressive { y } else { y - row * v };
                            let at = line * (component.stride / 8) + x;
                            let block = component.blocks.get_mut(at);
                            let read = block.and_then(|block| {
                                scan.block(block, channel, (*dc, *ac), bits, &mut state)
                            });
                            if read.is_none() {
                                return Err(if bits.is_overdrawn() {
                                    short
                                } else {
                                    Stop::Broken("bits that are no code; a part is overwritten")
                                });
                            }
                        }
                    }
                }
            }
            if !self.is_progressive {
                for (position, ..) in &scan.channels {
                    let component = &mut self.components[*position];
                    let lines = if is_single { 1 } else { component.v };
                    component.transform(row * lines, lines);
                }
            }
            if bits.is_overdrawn() {
                return Err(short);
            }
        }
        for (position, ..) in &scan.channels {
            let missing = &mut self.components[*position].missing[scan.first..=scan.last];
            missing.fill(Some(scan.later as u8));
        }
        if bits.end() > REMAINS {
            let reason = "more data than the picture has blocks; a part is overwritten";
            return Err(Stop::Broken(reason));
        }
        Ok(())
    }
}

impl Scan<'_> {
    /// Reads a block; `None` where its bits are no code.
    #[inline]
    fn block(
        &self,
        block: &mut [i16; 64],
        channel: usize,
        (dc, ac): (Option<&Table>, Option<&Table>),
        bits: &mut Bits,
        state: &mut State,
    ) -> Option<()> {
        match (self.first, self.last, self.is_further) {
            (0, 0, false) => first(&mut block[0], dc?, self.later, bits, &mut state.first[channel]),
            (0, 0, true) => {
                block[0] |= (bits.take(1) as i16) << self.later;
                Some(())
            }
            (0, ..) => sequential(block, dc?, ac?, bits, &mut state.first[channel]),
            (.., false) => others(block, ac?, self, bits, &mut state.empty),
            (.., true) => others_further(block, ac?, self, bits, &mut state.empty),
        }
    }
}

impl Component {
    /// Turns the coefficients of lines of blocks into samples, and clears them.
    fn transform(&mut self, line: usize, lines: usize) {
        let Some(steps) = &self.steps else { return };
        let (stride, across) = (self.stride, self.stride / 8);
        let blocks = &mut self.blocks[..lines * across];
        let plane = &mut self.plane[8 * line * stride..];
        pulp::Arch::new().dispatch(Samples { blocks, steps, plane, stride });
        blocks.fill([0; 64]);
    }

    /// Turns the coefficients of a progressive picture into samples.
    pub(super) fn finish(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        let Some(steps) = self.steps.as_ref().filter(|_| self.plane.is_empty()) else { return };
        let stride = self.stride;
        self.plane = vec![0; stride * self.lines];
        let plane = &mut self.plane[..];
        pulp::Arch::new().dispatch(Samples { blocks: &blocks, steps, plane, stride });
    }
}

/// A block of a picture that is no progressive one.
#[inline]
fn sequential(
    block: &mut [i16; 64],
    dc: &Table,
    ac: &Table,
    bits: &mut Bits,
    before: &mut i32,
) -> Option<()> {
    first(&mut block[0], dc, 0, bits, before)?;
    let mut at = 1;
    while at < 64 {
        let Code { run, width, number } = bits.code(ac)?;
        if width == 0 && run < 15 {
            return Some(());
        }
        at += run as usize;
        block[usize::from(*ZIGZAG.get(at)?)] = number as i16;
        at += 1;
    }
    Some(())
}

/// The first coefficient of a block.
fn first(
    coefficient: &mut i16,
    dc: &Table,
    later: u32,
    bits: &mut Bits,
    before: &mut i32,
) -> Option<()> {
    let Code { run, number, .. } = bits.code(dc)?;
    *before = before.wrapping_add(number);
    *coefficient = (*before << later) as i16;
    (run == 0).then_some(())
}

/// Other coefficients of a block in a progressive picture.
fn others(
    block: &mut [i16; 64],
    ac: &Table,
    scan: &Scan,
    bits: &mut Bits,
    empty: &mut u32,
) -> Option<()> {
    if *empty > 0 {
        *empty -= 1;
        return Some(());
    }
    let mut at = scan.first;
    while at <= scan.last {
        let Code { run, width, number } = bits.code(ac)?;
        if width == 0 && run < 15 {
            // This block and those behind it.
            *empty = (1 << run) - 1 + bits.take(run);
            break;
        }
        at += run as usize;
        if at > scan.last && width > 0 {
            return None;
        }
        if let Some(place) = ZIGZAG.get(at) {
            block[usize::from(*place)] = (number << scan.later) as i16;
        }
        at += 1;
    }
    Some(())
}

/// Another bit of coefficients that are there, and coefficients that begin with this bit.
fn others_further(
    block: &mut [i16; 64],
    ac: &Table,
    scan: &Scan,
    bits: &mut Bits,
    empty: &mut u32,
) -> Option<()> {
    let bit = 1_i16 << scan.later;
    let mut at = scan.first;
    while *empty == 0 && at <= scan.last {
        let Code { mut run, width, number } = bits.code(ac)?;
        if width == 0 && run < 15 {
            *empty = (1 << run) + bits.take(run);
            break;
        }
        if width > 1 {
            return None;
        }
        // Over coefficients that are there, and `run` that are not.
        while at <= scan.last {
            let coefficient = &mut block[usize::from(ZIGZAG[at])];
            if *coefficient != 0 {
                further(coefficient, bit, bits);
            } else if run == 0 {
                break;
            } else {
                run -= 1;
            }
            at += 1;
        }
        if width == 1 {
            if at > scan.last {
                return None;
            }
            block[usize::from(ZIGZAG[at])] = if number > 0 { bit } else { -bit };
        }
        at += 1;
    }
    if *empty > 0 {
        *empty -= 1;
        for place in ZIGZAG.iter().take(scan.last + 1).skip(at) {
            let coefficient = &mut block[usize::from(*place)];
            if *coefficient != 0 {
                further(coefficient, bit, bits);
            }
        }
    }
    Some(())
}

/// Takes another bit of a coefficient.
fn further(coefficient: &mut i16, bit: i16, bits: &mut Bits) {
    if bits.take(1) == 1 && *coefficient & bit == 0 {
        let step = if *coefficient > 0 { bit } else { -bit };
        *coefficient = coefficient.wrapping_add(step);
    }
}
