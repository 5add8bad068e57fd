//! A connection to a directory: TLS first, then one request at a time.

use super::{
    ber::{BerError, length},
    message::{self, Entry, Outcome, Response, Search},
};
use crate::dial::{self, Trust};
use lq_api::provider::{LdapSource, parse_server};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// The name or the password is wrong, or the account is locked, expired or not there (RFC 4511, appendix A). Directories differ in
/// which of these they tell.
const NOT_BOUND: [i32; 6] = [19, 32, 34, 49, 50, 53];
const SUCCESS: i32 = 0;
/// More entries than were wanted.
const SIZE_LIMIT: i32 = 4;
const REFERRAL: i32 = 10;
const NO_SUCH_OBJECT: i32 = 32;

/// Why a directory could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClientError {
    /// It is not there, or there is no TLS with it.
    #[error("{0}")]
    Connect(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(String),
    #[error(transparent)]
    Ber(#[from] BerError),
    /// The server's own word.
    #[error("the server refused {what}: result {code}{}{message}", if .message.is_empty() { "" } else { ", " })]
    Refused { what: &'static str, code: i32, message: String },
    /// Something else than what was asked for.
    #[error("the server answered something else than what was asked for")]
    Unexpected,
}

fn refused(what: &'static str, outcome: Outcome) -> ClientError {
    let clean = |text: &str| text.chars().filter(|c| !lq_api::meta::is_unseen(*c)).take(200).collect();
    let message = if outcome.code == REFERRAL {
        "it refers to another server, which is not followed: name that one".into()
    } else {
        clean(&outcome.message)
    };
    ClientError::Refused { what, code: outcome.code, message }
}

impl From<std::io::Error> for ClientError {
    fn from(e: std::io::Error) -> Self {
        Self::Io(e.to_string())
    }
}

/// A connection.
pub(super) struct Client {
    stream: Box<dyn dial::Stream>,
    last: i32,
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::with_capacity(256);
    let (header, content) = loop {
        bytes.push(stream.read_u8().await?);
        if let Some(found) = length(&bytes)? {
            break found;
        }
    };
    bytes.resize(header + content, 0);
    stream.read_exact(&mut bytes[header..]).await?;
    Ok(bytes)
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &[u8]) -> Result<(), ClientError> {
    stream.write_all(request).await?;
    Ok(stream.flush().await?)
}

impl Client {
    /// Connects to one server.
    pub(super) async fn connect(url: &str, source: &LdapSource) -> Result<Self, ClientError> {
        let (tls, host, port) =
            parse_server(url).ok_or_else(|| ClientError::Connect(format!("`{url}` is no server")))?;
        let mut tcp = dial::connect(&host, port).await.map_err(ClientError::Connect)?;
        if !tls {
            Self::start_tls(&mut tcp).await?;
        }
        let trust = match &source.certificate_sha256 {
            Some(pin) => Trust::Certificate(pin),
            None => Trust::of(source.ca.as_deref()),
        };
        let stream = dial::secure(tcp, &host, trust).await.map_err(ClientError::Connect)?;
        Ok(Self { stream: Box::new(stream), last: 1 })
    }

    async fn start_tls(tcp: &mut TcpStream) -> Result<(), ClientError> {
        ask(tcp, &message::start_tls(1)).await?;
        // Byte by byte as far as it says: what comes after it is TLS.
        match message::read(&receive(tcp).await?)? {
            (1, Response::Extended(outcome)) if outcome.code == SUCCESS => Ok(()),
            (1, Response::Extended(outcome)) => Err(refused("StartTLS", outcome)),
            _ => Err(ClientError::Unexpected),
        }
    }

    async fn answer(&mut self) -> Result<Response, ClientError> {
        match message::read(&receive(&mut self.stream).await?)? {
            (id, response) if id == self.last => Ok(response),
            // Told without having been asked: the server ends the connection.
            (0, Response::Extended(outcome)) => Err(refused("the connection", outcome)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Whether this is the password. It must not be empty: that would bind nobody and succeed.
    pub(super) async fn bind(&mut self, dn: &str, password: &str) -> Result<bool, ClientError> {
        self.last += 1;
        ask(&mut self.stream, &message::bind(self.last, dn, password)).await?;
        match self.answer().await? {
            Response::Bound(outcome) if outcome.code == SUCCESS => Ok(true),
            Response::Bound(outcome) if NOT_BOUND.contains(&outcome.code) => Ok(false),
            Response::Bound(outcome) => Err(refused("to check a password", outcome)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// What is found, no more than `search.most` entries; the flag says that there are more.
    pub(super) async fn search(&mut self, search: &Search<'_>) -> Result<(Vec<Entry>, bool), ClientError> {
        self.last += 1;
        ask(&mut self.stream, &message::search(self.last, search)).await?;
        let most = usize::try_from(search.most).unwrap_or(0);
        let (mut found, mut more) = (Vec::new(), false);
        loop {
            match self.answer().await? {
                Response::Found(entry) if found.len() < most => found.push(entry),
                Response::Found(_) => more = true,
                Response::Other => {}
                Response::Done(outcome) => match outcome.code {
                    SUCCESS => return Ok((found, more)),
                    SIZE_LIMIT => return Ok((found, true)),
                    NO_SUCH_OBJECT => return Ok((Vec::new(), false)),
                    _ => return Err(refused("a search", outcome)),
                },
                _ => return Err(ClientError::Unexpected),
            }
        }
    }

    /// Says goodbye.
    pub(super) async fn end(mut self) {
        let goodbye = message::unbind(self.last + 1);
        let _ = ask(&mut self.stream, &goodbye).await;
        let _ = self.stream.shutdown().await;
    }
}
