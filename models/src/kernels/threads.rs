//! Work on several threads: rayon's, natively as many as the machine has, in the page those that
//! have been invited and came.
//!
//! A network of five milliseconds has sixty steps, each shorter than a sleeping thread needs to wake
//! up. [`together`] therefore keeps the threads awake while a picture is on its way, asking for work.

#[cfg(feature = "threads")]
use std::cell::Cell;
#[cfg(feature = "threads")]
use std::sync::atomic::{AtomicBool, Ordering};

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
pub(crate) fn count() -> usize {
    #[cfg(feature = "threads")]
    if !ALONE.get() {
        #[cfg(not(target_family = "wasm"))]
        return rayon::current_num_threads();
        #[cfg(target_family = "wasm")]
        return super::helpers::gathered() + 1;
    }
    1
}

/// Units of work a piece: at most `most`, and so few that every thread of a picture's team gets one;
/// a multiple of `step` that `most` is one of.
pub(crate) fn piece(units: usize, step: usize, most: usize) -> usize {
    #[cfg(feature = "threads")]
    {
        let fair = units.div_ceil(count().min(TEAM)).next_multiple_of(step);
        most.min(fair).max(1)
    }
    #[cfg(not(feature = "threads"))]
    {
        let _ = (units, step);
        most.max(1)
    }
}

/// Of so many pictures, those that are worked on by a thread each; the others gain by being shared.
#[cfg(feature = "flex")]
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
        use rayon::prelude::*;
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
#[cfg(feature = "flex")]
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
#[cfg(all(feature = "flex", feature = "threads"))]
struct End<'a>(&'a AtomicBool);

#[cfg(all(feature = "flex", feature = "threads"))]
impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
