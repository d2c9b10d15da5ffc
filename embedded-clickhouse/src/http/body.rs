//! The body of an answer: nothing, bytes at hand, or chunks that a statement still makes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::service::CancelGuard;

/// A part of an answer that a statement still makes.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes of it.
    Data(Bytes),
    /// It is complete. A channel that closes before this one breaks the answer off.
    End,
}

/// The statement ended without the end of its answer; the connection is dropped, so that the client sees it.
#[derive(Debug, thiserror::Error)]
#[error("the answer was broken off")]
pub struct BrokenOff;

/// Body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// Bytes at hand; None when they are sent.
    Whole(Option<Bytes>),
    /// Chunks as the statement makes them.
    Stream {
        /// Where they come from.
        chunks: mpsc::Receiver<Chunk>,
        /// Cancels the statement when this body is dropped before its end.
        guard: CancelGuard,
    },
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|b| !b.is_empty()))
    }
}

impl From<String> for AnswerBody {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream { chunks, guard } => match chunks.poll_recv(context) {
                Poll::Ready(Some(Chunk::Data(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Poll::Ready(Some(Chunk::End)) => {
                    guard.disarm();
                    Poll::Ready(None)
                }
                Poll::Ready(None) => Poll::Ready(Some(Err(BrokenOff))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}
