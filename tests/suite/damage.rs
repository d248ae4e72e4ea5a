//! Inputs damaged at random, and parsers run on them within limits of time and memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Mebibytes that a parser may take above what the process has, beside a hundred times its input.
const MEMORY: u64 = 64;
/// Address space that it may ask for, whether it writes there or not.
const SPACE: u64 = 2 << 10;
/// No input here is large enough to be worked on for so long, on a busy machine either.
const LONGEST: Duration = Duration::from_secs(20);

/// One parser at a time, so that what is measured is its own.
static MEASURED: Mutex<()> = Mutex::new(());

/// A small generator of its own: inputs must not change with a library's version.
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Numbers that lengths and offsets go wrong at.
const EXTREMES: [u64; 8] =
    [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff];

/// The same where numbers are written out.
const WORDS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "3",
    "255",
    "65536",
    "1000000",
    "4294967295",
    "9007199254740993",
    "18446744073709551616",
    "1e308",
    "-1e39",
    "1e-320",
    "null",
];

/// Damages a copy of one of the inputs in one to four ways.
fn damaged(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(9) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random.below(64)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => {
                let number = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                let end = (at + width).min(bytes.len());
                let count = end - at;
                bytes[at..end].copy_from_slice(&number[..count]);
            }
            6 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            7 => {
                // The next number that is written out.
                let start = (at..bytes.len()).find(|place| bytes[*place].is_ascii_digit());
                let Some(start) = start else { continue };
                let end = (start..bytes.len()).find(|place| !bytes[*place].is_ascii_digit());
                let word = WORDS[random.below(WORDS.len())].bytes();
                bytes.splice(start..end.unwrap_or(bytes.len()), word);
            }
            _ => bytes.extend((0..random.below(64)).map(|i| i as u8)),
        }
    }
    bytes
}

/// Runs `parse` on damaged inputs until the time is over.
pub(crate) fn fuzz(inputs: &[Vec<u8>], parse: impl Fn(&[u8])) {
    fuzz_within(MEMORY, inputs, parse);
}

/// [`fuzz`] of what may take a number of mebibytes.
pub(crate) fn fuzz_within(mebibytes: u64, inputs: &[Vec<u8>], parse: impl Fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<f64>().ok());
    let seconds = number("MAGPIE_FUZZ_SECONDS").unwrap_or(1.0);
    let first = number("MAGPIE_FUZZ_SEED").map_or(0, |seed| seed as u64);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    for (place, input) in inputs.iter().enumerate() {
        check(&format!("input {place} as it is"), input, mebibytes, &parse);
    }
    let mut seed = first;
    while Instant::now() < end {
        let input = damaged(inputs, &mut Random(seed));
        check(&format!("the damaged input of seed {seed}"), &input, mebibytes, &parse);
        seed += 1;
    }
    assert!(seed > first, "no time for a single input");
    tell(seed - first);
}

#[expect(clippy::print_stdout, reason = "how much a run has tried")]
fn tell(count: u64) {
    let thread = std::thread::current();
    println!("{}: {count} inputs", thread.name().unwrap_or_default());
}

fn check(name: &str, input: &[u8], mebibytes: u64, parse: &impl Fn(&[u8])) {
    let measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    let before = Memory::begin();
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| parse(input)));
    let (time, taken) = (began.elapsed(), Memory::since(before));
    drop(measured);
    let start = &input[..input.len().min(4096)];
    assert!(result.is_ok(), "{name} makes the parser panic: {start:02x?}");
    assert!(time < LONGEST, "{name} keeps the parser for {time:?}: {start:02x?}");
    let allowed = mebibytes + ((100 * input.len() as u64) >> 20);
    let Some(Memory { peak, space }) = taken else { return };
    assert!(peak <= allowed, "{name} takes {peak} MiB, {allowed} allowed: {start:02x?}");
    assert!(space <= SPACE.max(allowed), "{name} asks for {space} MiB: {start:02x?}");
}

/// Memory in mebibytes; only Linux says.
#[derive(Clone, Copy)]
struct Memory {
    /// In use, at most.
    peak: u64,
    /// Asked for, at most.
    space: u64,
}

impl Memory {
    /// What the process has, its peaks forgotten.
    fn begin() -> Option<Self> {
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
        Self::read("VmRSS:", "VmSize:")
    }

    /// What it has had at most beyond that.
    fn since(before: Option<Self>) -> Option<Self> {
        static HIGHEST: Mutex<u64> = Mutex::new(0);
        let (before, now) = (before?, Self::read("VmHWM:", "VmPeak:")?);
        // The peak of the address space is never forgotten: what counts is by how much it grows.
        let mut highest = HIGHEST.lock().unwrap_or_else(PoisonError::into_inner);
        let space = now.space.saturating_sub(before.space.max(*highest));
        *highest = now.space.max(*highest);
        Some(Self { peak: now.peak.saturating_sub(before.peak), space })
    }

    fn read(peak: &str, space: &str) -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
                .map(|kibibytes| kibibytes >> 10)
        };
        Some(Self { peak: line(peak)?, space: line(space)? })
    }
}
