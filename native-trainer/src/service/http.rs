//! Requests and answers as handlers have them: bodies are bytes, or a file of the site.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body as Frames, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;

pub(crate) use hyper::body::Bytes;

use super::seat::Seat;

/// An answer.
pub(crate) type Response = hyper::Response<Body>;

/// A request that has found its route.
pub(crate) struct Call {
    pub(crate) head: Parts,
    pub(crate) body: Incoming,
    /// What stands in the path where the route has a name in braces.
    pub(crate) place: String,
    /// Where it comes from, as far as that is known: behind a proxy that of the proxy.
    pub(crate) from: Option<IpAddr>,
    /// Its place among those that are worked on, if it needs one.
    pub(crate) seat: Option<Arc<Seat>>,
}

/// The body of an answer.
pub(crate) enum Body {
    /// What is left of bytes that are there.
    Whole(Bytes),
    /// A file of the site.
    File(hyper_staticfile::Body),
}

impl Frames for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::File(file) => Pin::new(file).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::File(file) => file.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::File(file) => file.size_hint(),
        }
    }
}

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next<B>(body: &mut B) -> Option<Result<Bytes, B::Error>>
where
    B: Frames<Data = Bytes> + Unpin,
{
    let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
    // Trailers hold nothing that is read.
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

/// An answer of bytes with their type.
pub(crate) fn typed(body: impl Into<Bytes>, kind: &'static str) -> Response {
    let mut response = Response::new(Body::Whole(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: hyper::StatusCode) -> Response {
    let mut response = Response::new(Body::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}
