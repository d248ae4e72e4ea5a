//! Photographs on their way in: some are looked at beside each other, and all come in in the order in which they were
//! given.

use std::collections::{BTreeMap, VecDeque};

use super::Prepared;
use super::given::{Handle, Wanted};

/// Photographs that are looked at beside each other: a browser decodes as many, and each takes some 50 MB meanwhile.
const BESIDE: usize = 4;

/// Photographs on their way in.
#[derive(Debug, Default)]
pub(super) struct Coming {
    waiting: VecDeque<Wanted>,
    /// Under way, in the order in which they were given.
    under_way: BTreeMap<u32, (Wanted, Option<Prepared>)>,
    places: BTreeMap<Handle, u32>,
    next: u32,
    done: usize,
    of: usize,
    /// When the first one of these was begun, and when the last one was done, in milliseconds.
    begun: f64,
    last: f64,
}

impl Coming {
    /// Some more are given.
    pub(super) fn add(&mut self, wanted: Vec<Wanted>, now: f64) {
        if self.of == 0 {
            (self.begun, self.last) = (now, now);
        }
        self.of += wanted.len();
        self.waiting.extend(wanted);
    }

    /// The next one that is to be looked at, if it is its turn.
    pub(super) fn begin(&mut self) -> Option<Handle> {
        if self.under_way.len() >= BESIDE {
            return None;
        }
        let wanted = self.waiting.pop_front()?;
        let handle = wanted.handle;
        self.places.insert(handle, self.next);
        self.under_way.insert(self.next, (wanted, None));
        self.next = self.next.wrapping_add(1);
        Some(handle)
    }

    /// One was looked at; those that come in now.
    pub(super) fn take(
        &mut self,
        handle: Handle,
        prepared: Prepared,
        now: f64,
    ) -> Vec<(Wanted, Prepared)> {
        self.last = now;
        if let Some(place) = self.places.remove(&handle)
            && let Some((_, answer)) = self.under_way.get_mut(&place)
        {
            *answer = Some(prepared);
        }
        let mut come = Vec::new();
        while let Some(first) = self.under_way.first_entry()
            && let Some(prepared) = first.get().1
        {
            let (wanted, _) = first.remove();
            self.done += 1;
            come.push((wanted, prepared));
        }
        if self.is_done() {
            (self.done, self.of) = (0, 0);
        }
        come
    }

    /// Forgets those that nobody looks at yet, and those that are looked at.
    pub(super) fn cancel(&mut self) -> Vec<Handle> {
        let waiting = self.waiting.drain(..).map(|wanted| wanted.handle);
        let under_way = std::mem::take(&mut self.under_way);
        let handles = waiting.chain(under_way.into_values().map(|(wanted, _)| wanted.handle));
        let handles = handles.collect();
        self.places.clear();
        (self.done, self.of) = (0, 0);
        handles
    }

    /// Whether nothing is on its way.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    /// How many were looked at, of how many.
    pub(super) fn progress(&self) -> Option<(usize, usize)> {
        (!self.is_done()).then_some((self.done, self.of))
    }

    /// Seconds that the rest will take, once there is something to tell it from.
    pub(super) fn seconds_left(&self) -> Option<u32> {
        let spent = self.last - self.begun;
        if self.is_done() || self.done < 2 * BESIDE || spent <= 0.0 {
            return None;
        }
        let left = spent / self.done as f64 * (self.of - self.done) as f64;
        Some((left / 1000.0).ceil() as u32)
    }
}
