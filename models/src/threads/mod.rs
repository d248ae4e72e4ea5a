//! Work on several threads: rayon's, natively as many as the machine has, in the page those that
//! have been invited and came.
//!
//! A network of five milliseconds has sixty steps, each shorter than a sleeping thread needs to wake
//! up. `together` therefore keeps the threads awake while a picture is on its way, asking for work.

#[cfg(all(feature = "threads", target_family = "wasm"))]
pub mod pool;

#[cfg(feature = "threads")]
use std::cell::Cell;
#[cfg(feature = "threads")]
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "threads")]
use rayon::prelude::*;

/// Most threads that one picture's steps are cut for: with more, each does less than it costs to
/// hand it over.
#[cfg(feature = "threads")]
const TEAM: usize = 8;

#[cfg(feature = "threads")]
thread_local! {
    /// Whether this thread is inside a piece of shared work: what it does there it does alone.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Threads that work which starts here is shared by.
#[cfg(feature = "threads")]
fn count() -> usize {
    if ALONE.get() {
        return 1;
    }
    #[cfg(not(target_family = "wasm"))]
    return rayon::current_num_threads();
    #[cfg(target_family = "wasm")]
    return pool::gathered() + 1;
}

/// Units of work a piece, of `units` in all: at most `most`, and so few that every thread of a picture's
/// team gets as many pieces; a multiple of `step` where that is fewer than `most`.
pub(crate) fn piece(units: usize, step: usize, most: usize) -> usize {
    #[cfg(feature = "threads")]
    {
        let most = most.max(1);
        let pieces = units.div_ceil(most).next_multiple_of(count().min(TEAM));
        let fair = units.div_ceil(pieces.max(1)).next_multiple_of(step);
        most.min(fair).max(1)
    }
    #[cfg(not(feature = "threads"))]
    {
        let _ = step;
        most.min(units).max(1)
    }
}

/// Of this many pictures, those that are worked on by a thread each; the others gain by being shared.
pub(crate) fn one_each(pictures: usize) -> usize {
    #[cfg(feature = "threads")]
    {
        let threads = count();
        let rest = pictures % threads;
        // Sharing gains about four fifths of a thread a thread.
        if rest * 5 < threads.min(TEAM) * 4 {
            return pictures - rest;
        }
    }
    pictures
}

/// Runs `work(index, chunk)` for every chunk of `length` values, on all threads if there are any.
pub(crate) fn for_chunks<T: Send>(
    data: &mut [T],
    length: usize,
    work: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if length == 0 || data.is_empty() {
        return;
    }
    if data.len() <= length {
        return work(0, data);
    }
    #[cfg(feature = "threads")]
    if count() > 1 {
        return data.par_chunks_mut(length).enumerate().for_each(|(index, chunk)| {
            let before = ALONE.replace(true);
            work(index, chunk);
            ALONE.set(before);
        });
    }
    for (index, chunk) in data.chunks_mut(length).enumerate() {
        work(index, chunk);
    }
}

/// Runs `work` with the other threads awake for its [`for_chunks`].
pub(crate) fn together(work: impl FnOnce() + Send) {
    #[cfg(feature = "threads")]
    {
        // A thread of the pool has been given its share of something larger; in the page there is
        // only one that gives shares, and it is of the pool, too.
        let shared = !cfg!(target_family = "wasm") && rayon::current_thread_index().is_some();
        if count() > 1 && !shared {
            let ended = &AtomicBool::new(false);
            rayon::scope(|scope| {
                let home = rayon::current_thread_index();
                scope.spawn_broadcast(move |_, context| {
                    // A thread in the middle of a piece would come back to it too late.
                    let elsewhere = Some(context.index()) == home || context.index() >= TEAM;
                    if !elsewhere && !ALONE.get() {
                        while !ended.load(Ordering::Acquire) {
                            if rayon::yield_now() != Some(rayon::Yield::Executed) {
                                std::hint::spin_loop();
                            }
                        }
                    }
                });
                let _end = End(ended);
                work();
            });
            return;
        }
    }
    work();
}

/// Lets the threads go, also when the work panics.
#[cfg(feature = "threads")]
struct End<'a>(&'a AtomicBool);

#[cfg(feature = "threads")]
impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
#[cfg(feature = "threads")]
mod tests {
    use super::*;

    /// Inside a pool of this many threads, whatever the machine has.
    fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    #[test]
    fn pieces_go_round() {
        with_threads(4, || {
            assert_eq!(piece(49, 4, 1000), 16);
            // Five pieces of twelve would be a second round for one of the four threads.
            assert_eq!(piece(49, 4, 12), 8);
            assert_eq!(piece(28, 1, 9), 7);
            assert_eq!(piece(1, 1, usize::MAX), 1);
            assert_eq!([1, 2, 3, 4, 5, 8, 11].map(one_each), [0, 0, 0, 4, 4, 8, 8]);
        });
        with_threads(1, || assert_eq!((piece(49, 4, usize::MAX), one_each(3)), (52, 3)));
        // With more threads than a picture is cut for, some are better off with one of their own.
        with_threads(16, || assert_eq!([6, 7, 16].map(one_each), [0, 7, 16]));
    }

    #[test]
    fn every_chunk_is_worked_on_once_and_nested_ones_by_one_thread() {
        let mut data = vec![0_u32; 1000];
        with_threads(3, || {
            for_chunks(&mut data, 7, |index, chunk| {
                assert_eq!(count(), 1);
                for_chunks(chunk, 2, |inner, values| {
                    values.iter_mut().for_each(|value| *value += (index * 10 + inner + 1) as u32);
                });
            });
            assert_eq!(count(), 3);
        });
        for (at, value) in data.iter().enumerate() {
            assert_eq!(*value as usize, at / 7 * 10 + at % 7 / 2 + 1);
        }
    }

    #[test]
    fn what_is_done_together_ends_also_when_it_panics() {
        let sum = std::sync::atomic::AtomicU32::new(0);
        for _ in 0..200 {
            together(|| {
                let mut data = vec![1_u32; 64];
                for_chunks(&mut data, 4, |_, chunk| {
                    sum.fetch_add(chunk.iter().sum(), Ordering::Relaxed);
                });
            });
        }
        assert_eq!(sum.into_inner(), 200 * 64);
        let caught = std::panic::catch_unwind(|| together(|| panic!("in the middle")));
        assert!(caught.is_err());
        // The threads are free again.
        together(|| for_chunks(&mut [0_u8; 8], 1, |_, _| {}));
    }

    /// Many pictures at once, each of which wants all threads.
    #[test]
    fn several_teams_do_not_wait_for_each_other_for_ever() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        together(|| for_chunks(&mut [0_u8; 64], 1, |_, chunk| chunk[0] += 1));
                    }
                });
            }
        });
    }
}
