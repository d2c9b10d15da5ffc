//! The body of an answer that is made while it is sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc;

/// Pieces that wait to be sent. Whoever makes them waits beyond that.
const MAX_WAITING: usize = 8;

/// Why a body ends before its end: the connection is then cut, so that nobody takes half a file for a whole one.
#[derive(Debug, thiserror::Error)]
#[error("the file could not be finished")]
pub(crate) struct Unfinished;

/// Takes pieces from a task.
#[derive(Debug)]
pub(crate) struct ChannelBody(mpsc::Receiver<Result<Bytes, Unfinished>>);

/// Gives pieces to the body.
pub(crate) type Pieces = mpsc::Sender<Result<Bytes, Unfinished>>;

impl ChannelBody {
    /// A body, and where its pieces go in.
    pub(crate) fn new() -> (Pieces, Self) {
        let (pieces, body) = mpsc::channel(MAX_WAITING);
        (pieces, Self(body))
    }
}

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
