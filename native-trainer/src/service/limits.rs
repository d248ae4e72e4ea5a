//! How much the service takes on at once: requests, bytes, pixels, time.
//!
//! A request has a place among those that are worked on but while its body comes: whoever sends slowly keeps nobody from
//! being answered. Bodies on their way are bounded by the connections and by the bytes of all together, and each has to
//! come at a least speed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Body;
use hyper::header::{self, HeaderMap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::http::{Bytes, next};
use super::problem::{Answered, Kind, Problem};
use super::seat::Seat;
use crate::publishing::connections::Busy;

/// Limits that an owner may set.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Bytes of one request.
    pub(crate) body: usize,
    /// Pixels of one image.
    pub(crate) pixels: u64,
    /// For a body to come, and again for its answer.
    pub(crate) time: Duration,
    /// Requests that are worked on at once.
    pub(crate) requests: usize,
    /// Images and searches that wait.
    pub(crate) queue: usize,
}

/// Bodies that may be held together, in largest bodies.
const BODIES: usize = 8;
/// How long a body is read that is refused.
const MOMENT: Duration = Duration::from_secs(2);
/// Seconds before the speed of a body counts.
const START: Duration = Duration::from_secs(5);
/// Bytes a second at which a body comes at least: a tenth of the slowest of modems.
const SLOWEST: u64 = 512;
/// Bytes are counted in pieces of this size.
const PIECE: usize = 1024;

/// What is left of the limits.
pub(crate) struct Budget {
    requests: Arc<Semaphore>,
    pieces: Arc<Semaphore>,
    limit: usize,
    time: Duration,
}

/// A body, and its share of the memory until it is dropped.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) share: Arc<Vec<OwnedSemaphorePermit>>,
}

/// Takes a place.
fn take(seat: &Seat) -> Answered<()> {
    if seat.enter() {
        return Ok(());
    }
    let detail = "as many requests as may be are worked on; ask again in a second";
    Err(Problem::new(Kind::Busy, detail))
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(limits.requests)),
            pieces: Arc::new(Semaphore::new(limits.body.div_ceil(PIECE).saturating_mul(BODIES))),
            limit: limits.body,
            time: limits.time,
        }
    }

    /// A place among the requests that are worked on.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`]
    pub(crate) fn enter(&self, busy: &Busy) -> Answered<Seat> {
        let (busy, requests) = (busy.clone(), Arc::clone(&self.requests));
        let seat = Seat::new(busy, requests);
        take(&seat)?;
        Ok(seat)
    }

    /// Reads a body as it comes, within the limit of one and what is left for all. Meanwhile `seat` is free for others.
    ///
    /// # Errors
    ///
    /// [`Kind::TooLarge`], [`Kind::Busy`], [`Kind::Request`], [`Kind::Timeout`]
    pub(crate) async fn read<B>(
        &self,
        seat: Option<&Seat>,
        headers: &HeaderMap,
        body: B,
    ) -> Answered<Held>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        let Some(seat) = seat.filter(|_| !body.is_end_stream()) else {
            return self.read_alone(headers, body).await;
        };
        seat.leave();
        let held = self.read_alone(headers, body).await?;
        take(seat)?;
        Ok(held)
    }

    async fn read_alone<B>(&self, headers: &HeaderMap, body: B) -> Answered<Held>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        tokio::time::timeout(self.time, self.take(headers, body)).await.unwrap_or_else(|_late| {
            let seconds = self.time.as_secs();
            let detail = format!(
                "the body did not come within {seconds} seconds; send it again, or less at once"
            );
            Err(Problem::new(Kind::Timeout, detail))
        })
    }

    async fn take<B>(&self, headers: &HeaderMap, mut body: B) -> Answered<Held>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        let told = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let told = told.and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
        if told > self.limit {
            drain(body, self.limit).await;
            return Err(self.too_large());
        }
        let (mut bytes, mut share, mut held) = (Vec::new(), Vec::new(), 0);
        let began = Instant::now();
        loop {
            let due = START + Duration::from_secs(bytes.len() as u64 / SLOWEST);
            let left = due.saturating_sub(began.elapsed());
            let came = tokio::time::timeout(left, next(&mut body)).await.map_err(|_slow| {
                let detail = "the body comes at less than 512 bytes a second; send it faster, or less at once";
                Problem::new(Kind::Timeout, detail)
            })?;
            let Some(data) = came else { break };
            let data = data.map_err(|error| {
                Problem::request(format!("the body broke off: {error}; send it again"))
            })?;
            let length = bytes.len() + data.len();
            if length > self.limit {
                drop(std::mem::take(&mut bytes));
                drain(body, self.limit).await;
                return Err(self.too_large());
            }
            if length > held {
                // No more than was told at once, so that a client that promises much holds nothing with it.
                let more = (length - held).max(held.min(told.saturating_sub(held))).div_ceil(PIECE);
                let permit = Arc::clone(&self.pieces).try_acquire_many_owned(more as u32);
                share.push(permit.map_err(|_full| {
                    Problem::new(
                        Kind::Busy,
                        "the memory for requests is taken; send it again in a second",
                    )
                })?);
                held += more * PIECE;
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Held { bytes: bytes.into(), share: Arc::new(share) })
    }

    fn too_large(&self) -> Problem {
        let limit = self.limit;
        let detail = format!(
            "the request has more than the {limit} bytes that are taken; send fewer or smaller images, or raise \
             --max-body"
        );
        Problem::new(Kind::TooLarge, detail)
    }
}

/// Reads a body to its end that is refused, as far as `limit` and for a moment: a client that writes before it reads
/// gets to see why.
pub(crate) async fn drain(mut body: impl Body<Data = Bytes> + Unpin, limit: usize) {
    let mut left = limit;
    let read = async {
        while let Some(Ok(data)) = next(&mut body).await {
            let Some(less) = left.checked_sub(data.len()) else { return };
            left = less;
        }
    };
    // Who sends more, or slowly, sees the connection end.
    let _ = tokio::time::timeout(MOMENT, read).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(budget: &Budget, bytes: usize) -> Answered<Held> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let body = crate::service::http::Body::Whole(vec![0; bytes].into());
        runtime.block_on(budget.read(None, &HeaderMap::new(), body))
    }

    #[test]
    fn bodies_share_what_there_is_and_give_it_back() {
        let time = Duration::from_secs(1);
        let limits = Limits { body: 4096, pixels: 1, time, requests: 1, queue: 1 };
        let budget = Budget::new(&limits);
        assert_eq!(read(&budget, 4097).map(|_| ()).unwrap_err().kind, Kind::TooLarge);
        let held: Vec<Held> = (0..BODIES).map(|_| read(&budget, 4096).unwrap()).collect();
        assert_eq!(read(&budget, 1).map(|_| ()).unwrap_err().kind, Kind::Busy);
        drop(held);
        assert_eq!(read(&budget, 4096).unwrap().bytes.len(), 4096);
        let (busy, enter) = (Busy::default(), || budget.enter(&Busy::default()));
        let place = budget.enter(&busy).unwrap();
        assert_eq!(enter().map(|_| ()).unwrap_err().kind, Kind::Busy);
        drop(place);
        // While a body comes its place is another's.
        let place = enter().unwrap();
        place.leave();
        let other = enter().unwrap();
        assert!(!place.enter());
        drop(other);
        assert!(place.enter());
        assert_eq!(enter().map(|_| ()).unwrap_err().kind, Kind::Busy);
    }
}
