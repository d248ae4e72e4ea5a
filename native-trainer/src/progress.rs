//! How far a long command has come: a bar on a terminal, a line now and then elsewhere; an audience is told each step.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal::audience::{self, Audience, obey};

/// Between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// Drawn on the standard error, so that the standard output holds the answer alone.
pub struct Progress {
    bar: ProgressBar,
    what: String,
    said: Mutex<Instant>,
    /// Of the thread that began.
    audience: Option<Arc<dyn Audience>>,
}

impl Progress {
    /// Of this many steps of what is named, in the plural.
    pub fn new(what: &str, steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        let layout = "{wide_bar} {pos}/{len} {msg} {eta}";
        if let Ok(style) = ProgressStyle::with_template(layout) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        let audience = audience::present();
        if audience.is_some() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { bar, what: what.to_owned(), said: Mutex::new(Instant::now()), audience }
    }

    /// Some more steps are done.
    pub fn advance(&self, steps: usize) {
        self.bar.inc(steps as u64);
        self.say();
    }

    /// This many steps are done, of a number that was not known before.
    pub fn advance_of(&self, total: usize) {
        self.bar.set_length(total as u64);
        self.advance(1);
    }

    /// This many of a number of steps are done.
    pub fn to(&self, done: usize, of: usize) {
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
        self.say();
    }

    /// Calls what prints, above the bar.
    pub fn around(&self, call: impl FnOnce()) {
        // The bar is locked while it is suspended, and an audience may unwind out of the call.
        match self.audience {
            Some(_) => call(),
            None => self.bar.suspend(call),
        }
    }

    /// Prints a line of the answer above the bar.
    pub fn line(&self, text: &str) {
        self.around(|| println!("{text}"));
    }

    /// Prints a warning above the bar.
    pub fn warn(&self, text: &str) {
        self.around(|| eprintln!("{text}"));
    }

    fn say(&self) {
        if let Some(audience) = &self.audience {
            let (done, of) = (self.bar.position(), self.bar.length().unwrap_or_default());
            return obey(audience.progress(&self.what, done, of));
        }
        if !self.bar.is_hidden() {
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.elapsed() >= INTERVAL {
            *said = Instant::now();
            let total = self.bar.length().unwrap_or_default();
            let left = indicatif::HumanDuration(self.bar.eta());
            eprintln!("{}/{total} {}, about {left} left", self.bar.position(), self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
