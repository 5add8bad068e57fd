//! Following the event log: server-sent events.

use super::{Client, Error};
use crate::event::Event;
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
        let start = (self.clone(), bytes, Parser::default(), VecDeque::<String>::new());
        Ok(Box::pin(stream::unfold(start, |(client, mut bytes, mut parser, mut ready)| async move {
            loop {
                if let Some(data) = ready.pop_front() {
                    let event = client.event(&data);
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

    fn event(&self, data: &str) -> Result<Event, Error> {
        serde_json::from_str(data).map_err(|e| Error::Unexpected {
            host: self.host(),
            request: "GET /api/v1/events/stream".into(),
            status: 200,
            detail: e.to_string(),
        })
    }
}

/// Takes `text/event-stream` apart: the `data` of every event. Comments and other fields are passed over.
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    data: Option<String>,
    /// The last byte was CR: a following LF belongs to it.
    after_cr: bool,
}

impl Parser {
    /// The events completed by these bytes.
    fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
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

    fn end_of_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take();
        }
        let text = String::from_utf8_lossy(&line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
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
        let text =
            b": hello\n\nid: 7\nevent: event\ndata: {\"a\":1}\n\ndata:x\r\ndata: y\r\n\r\ndata: unfinished\n";
        assert_eq!(Parser::default().feed(text), ["{\"a\":1}", "x\ny"]);
    }

    proptest! {
        #[test]
        fn cutting_the_stream_anywhere_changes_nothing(text in "(data|id|:|\r\n|\n|\r| |x){0,40}", cut in 0usize..60) {
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
