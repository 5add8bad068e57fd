//! Following the event log and the objects: server-sent events.

use super::{Client, Error, calls::append};
use crate::{
    EventId, Timestamp,
    event::{Event, EventLevel, EventQuery},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use reqwest::{Method, header};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, pin::Pin};
use uuid::Uuid;

/// Events as they happen. Ends when the host closes the stream.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, Error>> + Send>>;

/// Changes of objects as they happen. Ends when the host closes the stream.
pub type ChangeStream = Pin<Box<dyn Stream<Item = Result<Change, Error>> + Send>>;

/// Longest event taken; more is not ours.
const MAX_EVENT: usize = 1 << 20;

/// An object that changed, or is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What kind of object: `vm`, `image`, …
    #[serde(default)]
    pub kind: String,
    /// Identity of the object.
    pub id: Uuid,
    /// Revision of the change, to watch on from.
    pub revision: u64,
    /// The object as it is now, as the API shows it; absent when it is gone, or out of sight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<serde_json::Value>,
}

impl Client {
    /// Follows the event log from now on: those events that `query` asks for.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn follow_events(&self, query: &EventQuery) -> Result<EventStream, Error> {
        let mut url = self.endpoint(&["events", "stream"]);
        append(&mut url, query);
        self.follow(url, |message| match message.name.as_str() {
            "" | "message" => Some(serde_json::from_str(&message.data)),
            "missed" => Some(Ok(missed(&message.data))),
            // Of a later release.
            _ => None,
        })
        .await
    }

    /// Follows the objects: every change after the revision `since`, or from now on. Status of hosts and room in pools are not
    /// told.
    ///
    /// # Errors
    /// Any of [`Error`]; a conflict where `since` is too long ago: the lists have to be read anew then.
    pub async fn watch(&self, since: Option<u64>) -> Result<ChangeStream, Error> {
        let mut url = self.endpoint(&["watch"]);
        if let Some(since) = since {
            url.query_pairs_mut().append_pair("since", &since.to_string());
        }
        self.follow(url, |message| {
            let change = serde_json::from_str::<Change>(&message.data);
            Some(change.map(|change| Change { kind: message.name.clone(), ..change }))
        })
        .await
    }

    /// Follows the stream at `url`; `read` says what a message means, nothing where it is to be passed over.
    async fn follow<T: Send + 'static>(
        &self,
        url: reqwest::Url,
        read: impl Fn(&Message) -> Option<serde_json::Result<T>> + Send + Sync + 'static,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>, Error> {
        let path = url.path().to_owned();
        let request = self.request(Method::GET, url).header(header::ACCEPT, "text/event-stream");
        let response = self.send(request).await?;
        let bytes: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>> =
            Box::pin(response.bytes_stream());
        let client = self.clone();
        let told = move |message: &Message| {
            let unknown = |e: serde_json::Error| Error::Unexpected {
                host: client.host(),
                request: format!("GET {path}"),
                status: 200,
                detail: e.to_string(),
            };
            read(message).map(|read| read.map_err(unknown))
        };
        let start = (self.clone(), told, bytes, Parser::default(), VecDeque::<Message>::new());
        Ok(Box::pin(stream::unfold(start, |(client, told, mut bytes, mut parser, mut ready)| async move {
            loop {
                if let Some(message) = ready.pop_front() {
                    let Some(item) = told(&message) else { continue };
                    return Some((item, (client, told, bytes, parser, ready)));
                }
                match bytes.next().await? {
                    Ok(chunk) => ready.extend(parser.feed(&chunk)),
                    Err(e) => {
                        let error = client.broken("follow", e);
                        let end: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(stream::empty());
                        return Some((Err(error), (client, told, end, parser, ready)));
                    }
                }
            }
        })))
    }
}

/// The host tells a follower that was too slow how many events it was spared; the follower's reader is to know.
fn missed(count: &str) -> Event {
    Event {
        id: EventId(uuid::Uuid::nil()),
        at: Timestamp::now(),
        level: EventLevel::Warning,
        kind: "client.missed".into(),
        target: "events".into(),
        target_name: None,
        message: format!("{count} events were missed here: this client was too slow"),
        actor: None,
    }
}

/// One message of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    name: String,
    data: String,
}

/// Takes `text/event-stream` apart. Comments and fields other than `event` and `data` are passed over.
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    name: String,
    data: Option<String>,
    /// The last byte was CR: a following LF belongs to it.
    after_cr: bool,
}

impl Parser {
    /// The messages completed by these bytes.
    fn feed(&mut self, bytes: &[u8]) -> Vec<Message> {
        let mut complete = Vec::new();
        for &byte in bytes {
            let pair = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if pair => {}
                b'\n' | b'\r' => complete.extend(self.end_of_line()),
                _ if self.line.len() < MAX_EVENT => self.line.push(byte),
                _ => {}
            }
        }
        complete
    }

    fn end_of_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return self.data.take().map(|data| Message { name, data });
        }
        let text = String::from_utf8_lossy(&line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        if field == "event" {
            self.name = value.to_owned();
        } else if field == "data" {
            match &mut self.data {
                Some(data) if data.len() < MAX_EVENT => {
                    data.push('\n');
                    data.push_str(value);
                }
                Some(_) => {}
                None => self.data = Some(value.to_owned()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_are_taken_apart() {
        let text = b": hello\n\nid: 7\nevent: missed\ndata: 3\n\ndata:x\r\ndata: y\r\n\r\ndata: more";
        let message = |name: &str, data: &str| Message { name: name.into(), data: data.into() };
        assert_eq!(Parser::default().feed(text), [message("missed", "3"), message("", "x\ny")]);
    }

    proptest! {
        #[test]
        fn cutting_the_stream_anywhere_changes_nothing(text in "(data|event|:|\r\n|\n|\r| |x){0,40}", cut in 0usize..60) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let whole = Parser::default().feed(bytes);
            let mut parser = Parser::default();
            let mut parts = parser.feed(&bytes[..cut]);
            parts.extend(parser.feed(&bytes[cut..]));
            prop_assert_eq!(whole, parts);
        }
    }
}
