//! The program's end before its work is done: Ctrl-C, a signal of the system, a reader that is gone.
//!
//! Files take their place as a whole, so the program may end at any instant. What it keeps beside them
//! (parts, locks) is registered here and taken away on the way out.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Builder, Runtime};

use super::remark;

/// What is to be done and said at an early end.
struct Pending {
    /// Files and folders of no use to anybody else.
    left_over: Vec<PathBuf>,
    /// Where the work stands.
    notes: Vec<String>,
    /// What is done first.
    first: Option<First>,
}

type First = Box<dyn FnOnce() + Send>;

static PENDING: Mutex<Pending> =
    Mutex::new(Pending { left_over: Vec::new(), notes: Vec::new(), first: None });

fn pending() -> MutexGuard<'static, Pending> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pending {
    fn forget(&mut self, path: &Path) {
        if let Some(place) = self.left_over.iter().rposition(|other| other == path) {
            self.left_over.remove(place);
        }
    }
}

/// A file or folder that is taken away where the program ends before this is dropped.
#[derive(Debug)]
pub struct LeftOver(PathBuf);

impl LeftOver {
    /// Of what is made at a path. An early end comes before it or finds it.
    ///
    /// # Errors
    ///
    /// Those of `make`; then nothing is taken away.
    pub fn make<T>(
        path: &Path,
        make: impl FnOnce() -> std::io::Result<T>,
    ) -> std::io::Result<(T, Self)> {
        // The folder that the program works in does not matter later.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut pending = pending();
        let made = make()?;
        pending.left_over.push(path.clone());
        Ok((made, Self(path)))
    }

    /// Takes it away now.
    pub fn take_away(self) {
        let mut pending = pending();
        take_away(&self.0);
        pending.forget(&self.0);
        drop(pending);
    }
}

impl Drop for LeftOver {
    fn drop(&mut self) {
        pending().forget(&self.0);
    }
}

fn take_away(path: &Path) {
    // What cannot be taken away is of no harm: the next command does it.
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// What is said of the work where the program is stopped before this is dropped.
#[derive(Debug)]
pub struct Note(String);

impl Note {
    /// Follows "stopped by Ctrl-C": ` in epoch 3; go on with --resume`.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        pending().notes.push(text.clone());
        Self(text)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let mut pending = pending();
        if let Some(place) = pending.notes.iter().rposition(|note| *note == self.0) {
            pending.notes.remove(place);
        }
    }
}

/// Has something done where the program is stopped, before it ends; it may take its time, and a second signal does not
/// wait for it.
pub fn before_end(first: impl FnOnce() + Send + 'static) {
    pending().first = Some(Box::new(first));
}

/// Takes away what is left over and ends the program.
pub fn end(code: u8) -> ! {
    end_with(pending(), code)
}

/// Ends the program with what is pending, which is never given back: who writes meanwhile waits for the end and
/// neither renames nor complains.
#[expect(clippy::exit, reason = "the one place where the program ends in the middle")]
fn end_with(mut pending: MutexGuard<'static, Pending>, code: u8) -> ! {
    // The latest first: a lock goes when nothing that it guards can change any more.
    for path in std::mem::take(&mut pending.left_over).iter().rev() {
        take_away(path);
    }
    std::process::exit(i32::from(code))
}

/// To be called where the work is done and all is said: what comes from now on comes too late. Where the program
/// is ending already, that is waited for.
pub fn finish() {
    std::mem::forget(pending());
}

/// Who ends the program.
#[derive(Debug, Clone, Copy)]
enum Stop {
    Interrupt,
    #[cfg_attr(not(unix), expect(dead_code, reason = "a signal of Unix"))]
    Terminate,
}

impl Stop {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
        }
    }

    /// 128 and the signal's number, as shells have it.
    fn code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// From now on Ctrl-C and `SIGTERM` end the program with a sentence, with the exit codes 130 and 143 and
/// without files that are half written. The second one ends it at once.
///
/// Where signals cannot be had they end the program as ever.
pub fn watch() {
    let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return };
    let Ok(mut signals) = Signals::listen(&runtime) else { return };
    let name = "signals".to_owned();
    // Where there is no thread to be had, the next one will say so.
    let _ = std::thread::Builder::new().name(name).spawn(move || {
        runtime.block_on(async {
            if let Some(stop) = signals.next().await {
                // Taking away may take long; a second signal is heard meanwhile.
                let obeying = std::thread::Builder::new().spawn(move || {
                    obey(stop);
                });
                if obeying.is_err() {
                    at_once(stop);
                }
                if let Some(stop) = signals.next().await {
                    at_once(stop);
                }
            }
        });
    });
}

fn obey(stop: Stop) -> ! {
    let first = pending().first.take();
    if let Some(first) = first {
        first();
    }
    let pending = pending();
    let note = pending.notes.last().map_or("; no file is left half written", String::as_str);
    // A bar may stand on the line.
    let clear = if std::io::stderr().is_terminal() { "\r\x1b[2K" } else { "" };
    remark(format_args!("{clear}stopped by {}{note}", stop.name()));
    end_with(pending, stop.code())
}

#[expect(clippy::exit, reason = "the user's second word")]
fn at_once(stop: Stop) {
    std::process::exit(i32::from(stop.code()))
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen(runtime: &Runtime) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let _inside = runtime.enter();
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Option<Stop> {
        use std::task::Poll;
        std::future::poll_fn(|context| {
            if self.interrupt.poll_recv(context).is_ready() {
                return Poll::Ready(Some(Stop::Interrupt));
            }
            if self.terminate.poll_recv(context).is_ready() {
                return Poll::Ready(Some(Stop::Terminate));
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen(_: &Runtime) -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Option<Stop> {
        tokio::signal::ctrl_c().await.ok().map(|()| Stop::Interrupt)
    }
}
