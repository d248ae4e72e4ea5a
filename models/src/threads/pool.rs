//! Threads in a page: Web Workers that share the engine's memory and wait in it for work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use rayon::{ThreadBuilder, ThreadPoolBuildError, ThreadPoolBuilder};

/// Places of the pool that nobody has taken yet.
static SEATS: Mutex<Vec<ThreadBuilder>> = Mutex::new(Vec::new());
static NEW_SEATS: Condvar = Condvar::new();

static GATHERED: AtomicUsize = AtomicUsize::new(0);

/// Makes a pool of this thread and of `count` others, each of which is in [`help`] already or about
/// to be: waits until they are there.
///
/// # Errors
///
/// Where there is a pool already.
pub fn gather(count: usize) -> Result<(), ThreadPoolBuildError> {
    let pool = ThreadPoolBuilder::new().num_threads(count + 1).use_current_thread();
    let offer = |seat| {
        SEATS.lock().unwrap_or_else(PoisonError::into_inner).push(seat);
        NEW_SEATS.notify_one();
        Ok(())
    };
    pool.spawn_handler(offer).build_global()?;
    GATHERED.store(count, Ordering::Relaxed);
    Ok(())
}

/// Waits for work and does it, for as long as the page is there.
pub fn help() {
    let mut seats = SEATS.lock().unwrap_or_else(PoisonError::into_inner);
    let seat = loop {
        match seats.pop() {
            Some(seat) => break seat,
            None => seats = NEW_SEATS.wait(seats).unwrap_or_else(PoisonError::into_inner),
        }
    };
    drop(seats);
    seat.run();
}

/// Threads that help the engine's own.
pub fn gathered() -> usize {
    GATHERED.load(Ordering::Relaxed)
}
