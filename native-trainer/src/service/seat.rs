//! A request's place among those that are worked on.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::publishing::connections::{AtWork, Busy};

/// A place, which may be left and taken again.
pub(crate) struct Seat {
    busy: Busy,
    requests: Arc<Semaphore>,
    /// None while its body comes: its connection may make room for another then.
    held: Mutex<Option<(OwnedSemaphorePermit, AtWork)>>,
}

impl Seat {
    /// One that is not taken yet.
    pub(crate) fn new(busy: Busy, requests: Arc<Semaphore>) -> Self {
        Self { busy, requests, held: Mutex::new(None) }
    }

    /// Takes the place, if there is one.
    pub(crate) fn enter(&self) -> bool {
        let Ok(place) = Arc::clone(&self.requests).try_acquire_owned() else { return false };
        let held = Some((place, self.busy.begin()));
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        true
    }

    /// Gives it back.
    pub(crate) fn leave(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
