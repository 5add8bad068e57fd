//! The world outside: an HTTP server that guests reach at 10.0.2.2, the address under which QEMU's user network shows this
//! computer's loopback interface.

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::{net::Ipv4Addr, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// Address of this computer as guests see it.
pub(crate) const ADDRESS: &str = "10.0.2.2";

/// A server of one file, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Outside {
    port: u16,
    sha256: String,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Outside {
    /// Serves `length` bytes that do not compress and are the same each time.
    pub(crate) async fn serve(length: usize) -> Result<Self> {
        let content: Arc<[u8]> = noise(length).into();
        let sha256 = hex::encode(Sha256::digest(&content));
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("opening a port for the outside")?;
        let port = listener.local_addr()?.port();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let content = content.clone();
                // A guest that goes away in the middle shows in its own result.
                tokio::spawn(async move { answer(stream, &content).await.ok() });
            }
        });
        Ok(Self { port, sha256, server })
    }

    /// Where guests find the file.
    pub(crate) fn url(&self) -> String {
        format!("http://{ADDRESS}:{}/file", self.port)
    }

    /// Its checksum.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }
}

async fn answer(stream: TcpStream, content: &[u8]) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(content).await?;
    stream.shutdown().await
}

/// Bytes of a xorshift generator.
fn noise(length: usize) -> Vec<u8> {
    let mut x: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    });
    words.take(length.div_ceil(8)).flatten().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn the_file_comes_whole() {
        let outside = Outside::serve(100_001).await.unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, outside.port)).await.unwrap();
        stream.write_all(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        let body = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(hex::encode(Sha256::digest(&all[body..])), outside.sha256());
    }
}
