//! JSON, one message a line, over a Unix stream socket.

use futures::{SinkExt, StreamExt};
use serde::{Serialize, de::DeserializeOwned};
use std::{io, path::Path};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

/// Longest message accepted, in bytes.
const LONGEST: usize = 4 << 20;

/// A connection.
pub(super) struct Lines(Framed<UnixStream, LinesCodec>);

impl Lines {
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self::on(UnixStream::connect(path).await?))
    }

    pub(super) fn on(stream: UnixStream) -> Self {
        Self(Framed::new(stream, LinesCodec::new_with_max_length(LONGEST)))
    }

    pub(super) async fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let line = serde_json::to_string(message)?;
        self.0.send(line).await.map_err(failed)
    }

    /// The next message; an error of kind `UnexpectedEof` at the end. Cancel safe.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let line = self.0.next().await.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(failed)?;
        Ok(serde_json::from_str(&line)?)
    }
}

fn failed(error: LinesCodecError) -> io::Error {
    match error {
        LinesCodecError::Io(error) => error,
        error @ LinesCodecError::MaxLineLengthExceeded => io::Error::other(error),
    }
}
