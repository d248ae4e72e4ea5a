//! Who comes to a worker: greeted on a thread of his own, let in when no run is served, otherwise told so.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use tokio_rustls::rustls::ServerConfig;

use super::crowd::{self, Crowd};
use super::error::LinkError;
use super::link::Link;
use super::message::{Begin, Message};
use super::socket::GREETING_TIME;
use super::trust::{Access, Secret};
use super::worker;

/// Threads of all who wait, of the run, and of one that has just ended.
const MAX_THREADS: usize = 2 * crowd::MOST + 2;
/// What a greeting has left at least, so that it is a time at all.
const LEAST: Duration = Duration::from_millis(100);
/// How long a run that is just ending keeps the next one waiting before that is told that the worker is busy.
const CLEARED: Duration = Duration::from_secs(1);
/// Pause after a connection that the system could not hand out, for want of handles or memory.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two lines about strangers: whoever may connect shall not fill a log.
const TOLD_AGAIN: Duration = Duration::from_mins(1);
/// Stack of a run's thread, as the first thread of a process has.
const STACK: usize = 8 << 20;

/// What a worker allows.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Bytes that a run may take beyond what the process has at its start.
    pub memory: u64,
    /// How long a trainer may be silent, without so much as a sign of life, before it is given up.
    pub patience: Duration,
    /// What a trainer has to know; without one everybody who comes is served.
    pub secret: Option<Secret>,
    /// How connections are encrypted; as they are without it.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Computes for every run that comes, one at a time; whoever comes meanwhile is told so. `told` hears
/// of them, on any thread.
///
/// A run that ends in an error, a panic included, is told and does not end the worker; neither does a system
/// that is short of handles.
pub fn listen(
    listener: &TcpListener,
    device: &Device,
    terms: Terms,
    told: impl Fn(&str) + Send + Sync + 'static,
) -> ! {
    let access = Access::to_guests(terms.secret.clone(), terms.tls.clone());
    let door = Arc::new(Door {
        device: device.clone(),
        access,
        terms,
        told,
        is_taken: Mutex::new(false),
        cleared: Condvar::new(),
        crowd: Mutex::default(),
        strangers: Mutex::default(),
        runs: AtomicU64::new(0),
        threads: Mutex::new(0),
        ended: Condvar::new(),
    });
    let mut number = 0_u64;
    loop {
        number += 1;
        let (accepted, thread) = (listener.accept(), door.clone());
        let spawned = accepted.and_then(|(stream, address)| {
            door.wait(number, &stream, address)?;
            door.count_in();
            let answer = move || {
                let _counted = Counted(&thread);
                thread.answer(number, stream, address);
            };
            let spawned = std::thread::Builder::new().stack_size(STACK).spawn(answer);
            spawned.inspect_err(|_| door.count_out())
        });
        if let Err(error) = spawned {
            (door.told)(&format!("nobody can be let in: {error}"));
            door.leave(number);
            std::thread::sleep(PAUSE);
        }
    }
}

struct Door<T> {
    device: Device,
    access: Access,
    terms: Terms,
    told: T,
    is_taken: Mutex<bool>,
    cleared: Condvar,
    crowd: Mutex<Crowd<TcpStream>>,
    strangers: Mutex<Strangers>,
    /// Runs that were begun.
    runs: AtomicU64,
    threads: Mutex<usize>,
    ended: Condvar,
}

/// Who was not greeted, as it is told.
#[derive(Default)]
struct Strangers {
    told: Option<Instant>,
    /// Those who came since and were not told of.
    untold: u64,
}

impl Strangers {
    /// How many came untold before this one, where it is told of.
    fn come(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TOLD_AGAIN) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// The only place; free again when it goes.
struct Place<'a, T>(&'a Door<T>);

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        *self.0.is_taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.cleared.notify_one();
    }
}

/// A thread that counts.
struct Counted<'a, T>(&'a Door<T>);

impl<T> Drop for Counted<'_, T> {
    fn drop(&mut self) {
        self.0.count_out();
    }
}

impl<T> Door<T> {
    /// Waits for a thread to end where there are as many as there may be: whoever was closed goes at once.
    fn count_in(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = self.ended.wait_while(threads, |threads| *threads >= MAX_THREADS);
        *threads.unwrap_or_else(PoisonError::into_inner) += 1;
    }

    fn count_out(&self) {
        *self.threads.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.ended.notify_one();
    }
}

impl<T: Fn(&str)> Door<T> {
    fn answer(&self, number: u64, stream: TcpStream, address: SocketAddr) {
        let mut link = match self.greet(number, stream) {
            Ok(link) => link,
            Err(error) => {
                self.leave(number);
                return self.tell_of_stranger(address, &error);
            }
        };
        // Who has shown the secret makes no room for strangers.
        if self.access.secret.is_some() {
            self.leave(number);
        }
        let begun = worker::receive_begin(&mut link);
        let refused = begun.and_then(|begin| self.let_in(number, link, begin, address));
        self.leave(number);
        if let Err(error) = refused {
            (self.told)(&format!("{address}: no run: {error}"));
        }
    }

    fn tell_of_stranger(&self, address: SocketAddr, error: &LinkError) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = strangers.come(Instant::now());
        drop(strangers);
        match untold {
            None => (),
            Some(0) => (self.told)(&format!("{address}: no run: {error}")),
            Some(untold) => (self.told)(&format!(
                "{address}: no run: {error}; {untold} more came before it, of whom nothing was told"
            )),
        }
    }

    /// Waits until a guest speaks, and greets it. It has the time of a greeting for both.
    fn greet(&self, number: u64, stream: TcpStream) -> Result<Link, LinkError> {
        let began = Instant::now();
        stream.set_read_timeout(Some(GREETING_TIME))?;
        if !stream.peek(&mut [0]).is_ok_and(|count| count > 0) {
            return Err(LinkError::Stranger);
        }
        let out = self.crowd().speak(number);
        close(out);
        let left = GREETING_TIME.saturating_sub(began.elapsed()).max(LEAST);
        Link::with_guest(stream, &self.access, left, self.terms.patience)
    }

    /// Serves a guest where nobody is served; an error is why not.
    fn let_in(
        &self,
        number: u64,
        mut link: Link,
        begin: Begin,
        address: SocketAddr,
    ) -> Result<(), LinkError> {
        let Some(_place) = self.take() else {
            // Who is gone already need not be told.
            let _ = link.send(Message::Busy);
            link.end();
            return Err(LinkError::Busy);
        };
        self.leave(number);
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        (self.told)(&format!("{address}: run {run} begins"));
        let ended = match worker::serve(link, begin, &self.device, self.terms.memory) {
            Ok(()) => "has ended".to_owned(),
            Err(error) => format!("was broken off: {error}"),
        };
        (self.told)(&format!("{address}: run {run} {ended}; the next one may come"));
        Ok(())
    }

    fn take(&self) -> Option<Place<'_, T>> {
        let taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut taken, _) = self
            .cleared
            .wait_timeout_while(taken, CLEARED, |taken| *taken)
            .unwrap_or_else(PoisonError::into_inner);
        let is_free = !std::mem::replace(&mut *taken, true);
        drop(taken);
        is_free.then(|| Place(self))
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd<TcpStream>> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, number: u64, stream: &TcpStream, address: SocketAddr) -> std::io::Result<()> {
        let stream = stream.try_clone()?;
        let out = self.crowd().come(number, address.ip(), stream);
        close(out);
        Ok(())
    }

    fn leave(&self, number: u64) {
        self.crowd().leave(number);
    }
}

/// Ends the connection of a guest who makes room.
fn close(guest: Option<TcpStream>) {
    if let Some(stream) = guest {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_strangers_the_first_is_told_and_one_a_minute_with_the_count() {
        let (mut strangers, begin) = (Strangers::default(), Instant::now());
        let seconds = [0, 0, 30, 59, 60, 61, 119, 121, 500];
        let told = seconds.map(|at| strangers.come(begin + Duration::from_secs(at)));
        let expected = [Some(0), None, None, None, Some(3), None, None, Some(2), Some(0)];
        assert_eq!(told, expected);
    }
}
