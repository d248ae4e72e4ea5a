//! The connections of a server: none waits for another, and the one that has been still for longest makes
//! room where handles run out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Most connections at a time, each of which may hold a socket and a file. A browser opens six, and many
/// systems give a process 256 handles.
const MOST: usize = 96;
/// For so long no byte of a connection has moved before it makes room for another.
const STILL: Duration = Duration::from_secs(1);
/// Between two tries where handles have run out.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// All connections of a server.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<Pool>>);

#[derive(Default)]
struct Pool {
    next: u64,
    open: BTreeMap<u64, Open>,
}

/// A connection from outside.
struct Open {
    task: AbortHandle,
    moved: Moved,
    busy: Busy,
}

/// How many requests of a connection are worked on: it is still then, and makes no room.
#[derive(Clone, Default)]
pub(crate) struct Busy(Arc<AtomicUsize>);

/// A request that is worked on until this is dropped.
pub(crate) struct AtWork(Busy);

impl Busy {
    /// Counts a request.
    pub(crate) fn begin(&self) -> AtWork {
        self.0.fetch_add(1, Ordering::AcqRel);
        AtWork(self.clone())
    }

    fn is_busy(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// When bytes came or went last.
#[derive(Clone)]
struct Moved(Arc<Mutex<Instant>>);

impl Moved {
    fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Connections {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether none is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.pool().open.is_empty()
    }

    /// The next connection. Where there are as many as there may be, or no handles are left, others end first
    /// or are waited for; `told` hears once that this is so.
    pub(crate) async fn accept(&self, listener: &TcpListener, told: &mut bool) -> TcpStream {
        use std::io::ErrorKind;
        loop {
            if self.pool().open.len() >= MOST {
                self.make_room().await;
                continue;
            }
            match listener.accept().await {
                Ok((stream, _)) => return stream,
                // It was gone before it was taken.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted
                            | ErrorKind::ConnectionReset
                            | ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    if !*told {
                        eprintln!("{error}: connections wait until others end");
                        *told = true;
                    }
                    self.make_room().await;
                }
            }
        }
    }

    /// Ends the connection that has been still for longest, if any has been for long enough, and waits a moment.
    pub(crate) async fn make_room(&self) {
        let ended = {
            let mut pool = self.pool();
            let idle = pool.open.iter().filter(|(_, open)| !open.busy.is_busy());
            let still = idle.min_by_key(|(_, open)| open.moved.get());
            let still = still.filter(|(_, open)| open.moved.get().elapsed() >= STILL);
            let number = still.map(|(number, _)| *number);
            number.and_then(|number| pool.open.remove(&number))
        };
        match ended {
            // Its socket is closed when its task has been dropped.
            Some(open) => {
                open.task.abort();
                tokio::task::yield_now().await;
            }
            None => tokio::time::sleep(PAUSE).await,
        }
    }

    /// Serves a connection beside all others.
    pub(crate) fn spawn<S: Future<Output = ()> + Send + 'static>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(Watched) -> S,
    ) {
        let moved = Moved(Arc::new(Mutex::new(Instant::now())));
        let mut pool = self.pool();
        let number = pool.next;
        pool.next += 1;
        let busy = Busy::default();
        let watched = Watched { stream, moved: moved.clone(), busy: busy.clone() };
        let (connections, served) = (self.clone(), serve(watched));
        let task = tokio::spawn(async move {
            served.await;
            connections.pool().open.remove(&number);
        });
        pool.open.insert(number, Open { task: task.abort_handle(), moved, busy });
    }
}

/// A socket that notes when bytes move.
pub(crate) struct Watched {
    stream: TcpStream,
    moved: Moved,
    busy: Busy,
}

impl Watched {
    /// Where requests are counted that are worked on.
    pub(crate) fn busy(&self) -> Busy {
        self.busy.clone()
    }

    /// The address of the other end, unless it has gone.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.stream.peer_addr().ok().map(|address| address.ip())
    }

    fn noted<T>(&self, polled: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.moved.now();
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.noted(polled)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.noted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
