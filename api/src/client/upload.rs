//! Uploading an image's content from a file, in a stream of constant memory.

use super::{Client, Error};
use crate::{ImageId, image::Image};
use bytes::Bytes;
use futures::stream;
use reqwest::{Body, Method, header};
use sha2::{Digest, Sha256};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{fs::File, io::AsyncReadExt};

/// Bytes read from the file at once.
const CHUNK: usize = 256 * 1024;

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes handed to the connection.
    pub sent: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What the reading side leaves behind.
#[derive(Default)]
struct Reading {
    /// Of the whole file, once all of it is read.
    digest: Option<[u8; 32]>,
    failed: Option<std::io::Error>,
}

impl Client {
    /// Uploads the content of a declared image and compares what the host stored with what was sent.
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be read, [`Error::Corrupted`], else any of [`Error`].
    pub async fn upload_image(
        &self,
        id: ImageId,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Image, Error> {
        let path = path.as_ref();
        let unreadable = |source| Error::File { path: path.to_owned(), source };
        let file = File::open(path).await.map_err(unreadable)?;
        let metadata = file.metadata().await.map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(std::io::Error::other("it is not a regular file")));
        }
        let total = metadata.len();
        let reading = Arc::new(Mutex::new(Reading::default()));

        let left = reading.clone();
        let start = (file, Sha256::new(), 0u64);
        let chunks = stream::unfold(Some(start), move |state| {
            let left = left.clone();
            async move {
                let (mut file, mut digest, sent) = state?;
                let mut chunk = Vec::with_capacity(CHUNK);
                // Never more than was announced: the file may grow while it is read.
                let want = (total - sent).min(CHUNK as u64);
                match (&mut file).take(want).read_to_end(&mut chunk).await {
                    Ok(0) if sent == total => None,
                    Ok(0) => {
                        let short =
                            || std::io::Error::other(format!("it shrank to {sent} bytes while being read"));
                        lock(&left).failed = Some(short());
                        Some(((Err(short()), sent), None))
                    }
                    Ok(n) => {
                        digest.update(&chunk);
                        let sent = sent + n as u64;
                        if sent == total {
                            // Now and not at the next call: nobody asks for more than was announced.
                            lock(&left).digest = Some(digest.clone().finalize().into());
                        }
                        Some(((Ok(Bytes::from(chunk)), sent), Some((file, digest, sent))))
                    }
                    Err(e) => {
                        let copy = std::io::Error::new(e.kind(), e.to_string());
                        lock(&left).failed = Some(copy);
                        Some(((Err(e), sent), None))
                    }
                }
            }
        });
        let chunks = futures::StreamExt::map(chunks, move |(chunk, sent): (std::io::Result<Bytes>, u64)| {
            progress(Progress { sent, total });
            chunk
        });

        let url = self.endpoint(&["images", &id.to_string(), "content"]);
        let request = self
            .request(Method::PUT, url)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, total)
            .body(Body::wrap_stream(chunks));
        let answer = self.json::<Image>(request).await;
        let mut reading = lock(&reading);
        if let Some(source) = reading.failed.take() {
            return Err(unreadable(source));
        }
        let image = answer?;
        if let (Some(sent), Some(stored)) = (reading.digest, &image.status.sha256)
            && !hex::encode(sent).eq_ignore_ascii_case(stored)
        {
            return Err(Error::Corrupted { sent: hex::encode(sent), stored: stored.clone() });
        }
        Ok(image)
    }
}

fn lock(reading: &Mutex<Reading>) -> std::sync::MutexGuard<'_, Reading> {
    // Two plain values: they are whole even if another thread panicked while it held them.
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}
