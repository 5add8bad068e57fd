//! Following the event log: server-sent events.

use super::{Client, Error};
use crate::{
    EventId, Timestamp,
    event::{Event, EventLevel},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use reqwest::{Method, header};
use std::{collections::VecDeque, pin::Pin};

/// Events as they happen. Ends when the host closes the stream.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, Error>> + Send>>;

/// Longest event taken; more is not ours.
const MAX_EVENT: usize = 1 << 20;

impl Client {
    /// Follows the event log from now on.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn follow_events(&self) -> Result<EventStream, Error> {
        let url = self.endpoint(&["events", "stream"]);
        let request = self.request(Method::GET, url).header(header::ACCEPT, "text/event-stream");
        let response = self.send(request).await?;
        let bytes: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>> =
            Box::pin(response.bytes_stream());
        let start = (self.clone(), bytes, Parser::default(), VecDeque::<Message>::new());
        Ok(Box::pin(stream::unfold(start, |(client, mut bytes, mut parser, mut ready)| async move {
            loop {
                if let Some(message) = ready.pop_front() {
                    let Some(event) = client.event(&message) else { continue };
                    return Some((event, (client, bytes, parser, ready)));
                }
                match bytes.next().await? {
                    Ok(chunk) => ready.extend(parser.feed(&chunk)),
                    Err(e) => {
                        let error = client.broken("follow the events of", e);
                        let end: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(stream::empty());
                        return Some((Err(error), (client, end, parser, ready)));
                    }
                }
            }
        })))
    }

    /// What a message means; nothing where this client does not know its kind.
    fn event(&self, message: &Message) -> Option<Result<Event, Error>> {
        match message.name.as_str() {
            "" | "message" => {}
            "missed" => return Some(Ok(missed(&message.data))),
            _ => return None,
        }
        Some(serde_json::from_str(&message.data).map_err(|e| Error::Unexpected {
            host: self.host(),
            request: "GET /api/v1/events/stream".into(),
            status: 200,
            detail: e.to_string(),
        }))
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
