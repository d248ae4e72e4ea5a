//! Who hears a command that runs inside another program: its lines go there in the place of the terminal, and so does
//! how far it has come.
//!
//! An audience can have the work stopped. A program of its own ends where nobody reads it any more; here the stack is
//! unwound instead, from the line or the step that was told last. Files take their place as a whole, and what lies
//! beside them goes with what made it, so that a stop leaves behind what an error does.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Whether the work goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It does.
    GoOn,
    /// It is stopped here.
    Stop,
}

/// Hears a command.
pub trait Audience: Send + Sync {
    /// A line of the answer.
    fn answer(&self, line: &str) -> Heard;

    /// A line beside the answer: a warning, what is left out.
    fn remark(&self, line: &str) -> Heard;

    /// So many steps of what is named, in the plural, are done, of so many.
    fn progress(&self, what: &str, done: u64, of: u64) -> Heard;

    /// Work says nothing for a while, and asks now and then whether it goes on.
    fn still(&self) -> Heard {
        Heard::GoOn
    }

    /// Whether work that can go on later ends at the next place where all of it is kept, as training after an epoch.
    fn has_enough(&self) -> bool {
        false
    }
}

/// The work was stopped by its audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// What the stack is unwound with.
struct Leaving;

thread_local! {
    static AUDIENCE: RefCell<Option<Arc<dyn Audience>>> = const { RefCell::new(None) };
}

/// Puts back who listened before.
struct Seat(Option<Arc<dyn Audience>>);

impl Drop for Seat {
    fn drop(&mut self) {
        let before = self.0.take();
        AUDIENCE.with(|audience| *audience.borrow_mut() = before);
    }
}

/// Does work of this thread before an audience.
///
/// # Errors
///
/// [`Stopped`]
pub fn before<T>(audience: Arc<dyn Audience>, work: impl FnOnce() -> T) -> Result<T, Stopped> {
    let _seat = Seat(AUDIENCE.with(|present| present.borrow_mut().replace(audience)));
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|payload| if payload.is::<Leaving>() { Stopped } else { resume_unwind(payload) })
}

/// Who hears this thread.
pub fn present() -> Option<Arc<dyn Audience>> {
    AUDIENCE.with(|audience| audience.borrow().clone())
}

/// Whether the audience has enough; a terminal never has.
pub fn has_enough() -> bool {
    present().is_some_and(|audience| audience.has_enough())
}

/// Tells the audience how far work has come that a terminal is told in lines.
pub fn progress(what: &str, done: usize, of: usize) {
    if let Some(audience) = present() {
        obey(audience.progress(what, done as u64, of as u64));
    }
}

/// Between two questions of work that says nothing.
const ASKED: Duration = Duration::from_millis(100);

/// Does work that says nothing for long and writes nothing. Before an audience that is done on a thread of its own, so
/// that whoever stops it is heard at once; what the thread comes to is dropped then.
pub fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let Some(audience) = present() else { return work() };
    let (done, result) = channel();
    let worker = std::thread::spawn(move || {
        // Nobody waits for it any more where that fails.
        let _ = done.send(work());
    });
    loop {
        match result.recv_timeout(ASKED) {
            Ok(value) => return value,
            Err(RecvTimeoutError::Timeout) => obey(audience.still()),
            Err(RecvTimeoutError::Disconnected) => match worker.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => unreachable!("a thread that ends has sent what it came to"),
            },
        }
    }
}

/// Does what the audience says.
pub fn obey(heard: Heard) {
    // What is told on the way out stops nothing any more.
    if heard == Heard::Stop && !std::thread::panicking() {
        resume_unwind(Box::new(Leaving));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::progress::Progress;
    use crate::terminal::{answer, remark};

    struct Impatient;

    impl Audience for Impatient {
        fn answer(&self, _: &str) -> Heard {
            Heard::GoOn
        }

        fn remark(&self, _: &str) -> Heard {
            Heard::GoOn
        }

        fn progress(&self, _: &str, _: u64, _: u64) -> Heard {
            Heard::GoOn
        }

        fn still(&self) -> Heard {
            Heard::Stop
        }
    }

    #[test]
    fn silent_work_is_stopped_at_once_and_gives_its_answer_otherwise() {
        let began = std::time::Instant::now();
        let long = || beside(|| std::thread::sleep(Duration::from_mins(1)));
        assert_eq!(before(Arc::new(Impatient), long), Err(Stopped));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(before(Arc::new(Ears::default()), || beside(|| 8)), Ok(8));
        assert_eq!(beside(|| 9), 9);
        let panics = || before(Arc::new(Ears::default()), || beside(|| -> u8 { panic!("inside") }));
        let panic = catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
    }

    #[derive(Default)]
    struct Ears {
        heard: Mutex<Vec<String>>,
        most: Option<usize>,
    }

    impl Ears {
        fn hear(&self, text: String) -> Heard {
            let mut heard = self.heard.lock().unwrap();
            heard.push(text);
            let stops = self.most.is_some_and(|most| heard.len() >= most);
            if stops { Heard::Stop } else { Heard::GoOn }
        }
    }

    impl Audience for Ears {
        fn answer(&self, line: &str) -> Heard {
            self.hear(format!("answer {line}"))
        }

        fn remark(&self, line: &str) -> Heard {
            self.hear(format!("remark {line}"))
        }

        fn progress(&self, what: &str, done: u64, of: u64) -> Heard {
            self.hear(format!("{done}/{of} {what}"))
        }
    }

    fn work() -> usize {
        answer(format_args!("one"));
        remark(format_args!("two"));
        let progress = Progress::new("pictures", 4);
        progress.advance(1);
        // Threads of a pool tell it, too.
        rayon::join(|| progress.advance(2), || ());
        progress.to(4, 5);
        progress.around(|| answer(format_args!("three")));
        progress.line("four");
        progress.warn("five");
        7
    }

    #[test]
    fn an_audience_hears_what_a_terminal_shows() {
        let ears = Arc::new(Ears::default());
        assert_eq!(before(ears.clone(), work), Ok(7));
        let expected = [
            "answer one",
            "remark two",
            "1/4 pictures",
            "3/4 pictures",
            "4/5 pictures",
            "answer three",
            "answer four",
            "remark five",
        ];
        assert_eq!(*ears.heard.lock().unwrap(), expected);
        assert!(present().is_none(), "it leaves with the work");
    }

    #[test]
    fn an_audience_stops_the_work_wherever_it_is_told_something() {
        for most in 1..=8 {
            let ears = Arc::new(Ears { most: Some(most), ..Ears::default() });
            assert_eq!(before(ears.clone(), work), Err(Stopped), "after {most}");
            assert_eq!(ears.heard.lock().unwrap().len(), most);
        }
        let ears = Arc::new(Ears { most: Some(9), ..Ears::default() });
        assert_eq!(before(ears, work), Ok(7));
    }

    #[test]
    fn another_panic_stays_one() {
        let caught = catch_unwind(|| before(Arc::new(Ears::default()), || panic!("a fault")));
        assert!(caught.is_err());
        assert!(present().is_none());
    }
}
