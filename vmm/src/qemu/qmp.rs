//! QMP, the protocol QEMU is spoken to by: bytes into messages, commands into bytes. No I/O.
//!
//! A line is one JSON object. QEMU greets, then answers each command in the order they came, with the `id` it came with; events
//! come in between. QEMU may be in the hands of its guest: lines are bounded, and whatever does not fit the protocol is
//! [`Malformed`], never a panic.

use serde_json::{Value, json};

/// Longest line, bytes: the statistics of all the devices there can be are a tenth of it.
pub const MAX_LINE: usize = 1 << 20;

/// What QEMU says.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first line.
    Greeting {
        /// Of QEMU: major, minor, micro.
        version: [u64; 3],
    },
    /// A command was carried out, or not.
    Answer {
        /// That of the command.
        id: u64,
        /// What it returns, or why it was not carried out.
        result: Result<Value, String>,
    },
    /// Something happened.
    Event(Event),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The machine is switched off, and QEMU ends.
    Shutdown {
        /// Why, in QEMU's word, e.g. `guest-shutdown`.
        reason: String,
    },
    /// The virtual CPUs halted.
    Stop,
    /// They go on.
    Resume,
    /// The machine was restarted.
    Reset,
    /// The guest's kernel has panicked.
    Panicked,
    /// The guest did not feed its watchdog.
    Watchdog,
    /// The tray of a CD drive was moved.
    Tray {
        /// Name of the drive.
        drive: String,
        /// It is open now.
        open: bool,
    },
    /// Anything else, by its name.
    Other(String),
}

/// What came is not QMP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A line has no end.
    #[error("a line of more than {MAX_LINE} bytes")]
    Long,
    /// Not JSON.
    #[error("not a JSON object on one line: {0}")]
    Json(String),
    /// JSON, but no message.
    #[error("neither greeting nor answer nor event: {0}")]
    Shape(String),
}

/// Puts lines together.
#[derive(Debug, Default)]
pub struct Decoder {
    rest: Vec<u8>,
    /// Of `rest`, bytes known to hold no line end.
    looked: usize,
}

impl Decoder {
    /// Takes bytes, in whatever pieces they come; the messages that are whole now.
    ///
    /// # Errors
    /// See [`Malformed`]; the connection is of no use from then on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, Malformed> {
        self.rest.extend_from_slice(bytes);
        let mut messages = Vec::new();
        let mut begin = 0;
        while let Some(length) =
            self.rest.get(self.looked..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
        {
            let end = self.looked + length;
            let line = self.rest.get(begin..end).unwrap_or_default().trim_ascii();
            if !line.is_empty() {
                messages.push(parse(line)?);
            }
            begin = end + 1;
            self.looked = begin;
        }
        self.rest.drain(..begin);
        self.looked = self.rest.len();
        if self.rest.len() > MAX_LINE { Err(Malformed::Long) } else { Ok(messages) }
    }
}

/// The begin of a line, for messages about it.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

fn parse(line: &[u8]) -> Result<Message, Malformed> {
    if line.len() > MAX_LINE {
        return Err(Malformed::Long);
    }
    let value: Value = serde_json::from_slice(line).map_err(|e| Malformed::Json(e.to_string()))?;
    let shape = || Malformed::Shape(shown(&value));
    if let Some(name) = value.get("event") {
        let name = name.as_str().ok_or_else(shape)?;
        return Ok(Message::Event(event(name, value.get("data").unwrap_or(&Value::Null)).ok_or_else(shape)?));
    }
    if let Some(greeting) = value.get("QMP") {
        let number = |part| greeting.pointer(&format!("/version/qemu/{part}")).and_then(Value::as_u64);
        let version = [number("major"), number("minor"), number("micro")];
        let [Some(major), Some(minor), Some(micro)] = version else { return Err(shape()) };
        return Ok(Message::Greeting { version: [major, minor, micro] });
    }
    let id = value.get("id").and_then(Value::as_u64);
    let result = match (value.get("return"), value.get("error")) {
        (Some(returned), None) => Ok(returned.clone()),
        (None, Some(error)) => {
            Err(error.get("desc").and_then(Value::as_str).map_or_else(|| shown(error), str::to_owned))
        }
        _ => return Err(shape()),
    };
    match (id, result) {
        (Some(id), result) => Ok(Message::Answer { id, result }),
        // A command QEMU could not even read: ours always have an id.
        (None, _) => Err(shape()),
    }
}

/// `None`: it lacks what it is to say.
fn event(name: &str, data: &Value) -> Option<Event> {
    Some(match name {
        "SHUTDOWN" => Event::Shutdown { reason: data.get("reason")?.as_str()?.to_owned() },
        "STOP" => Event::Stop,
        "RESUME" => Event::Resume,
        "RESET" => Event::Reset,
        "GUEST_PANICKED" => Event::Panicked,
        "WATCHDOG" => Event::Watchdog,
        "DEVICE_TRAY_MOVED" => Event::Tray {
            drive: data.get("id")?.as_str()?.to_owned(),
            open: data.get("tray-open")?.as_bool()?,
        },
        other => Event::Other(other.to_owned()),
    })
}

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub struct Execute {
    /// Its name.
    pub command: &'static str,
    /// Its arguments, an object; null: none.
    pub arguments: Value,
}

impl Execute {
    /// Without arguments.
    #[must_use]
    pub fn plain(command: &'static str) -> Self {
        Self { command, arguments: Value::Null }
    }

    /// With arguments.
    #[must_use]
    pub fn with(command: &'static str, arguments: Value) -> Self {
        Self { command, arguments }
    }

    /// As it is sent.
    #[must_use]
    pub fn line(&self, id: u64) -> Vec<u8> {
        let mut command = json!({"execute": self.command, "id": id});
        if let (Some(command), false) = (command.as_object_mut(), self.arguments.is_null()) {
            command.insert("arguments".to_owned(), self.arguments.clone());
        }
        let mut line = command.to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: &str = concat!(
        r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#,
        "\r\n",
        r#"{"return": {}, "id": 1}"#,
        "\r\n\r\n",
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}"#,
        "\n",
        r#"{"error": {"class": "GenericError", "desc": "no such node ✗"}, "id": 2}"#,
        "\n",
        r#"{"event": "DEVICE_TRAY_MOVED", "data": {"device": "", "id": "cd0", "tray-open": true}}"#,
        "\n",
        r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
        "\n",
        r#"{"event": "NIC_RX_FILTER_CHANGED", "data": {"path": "x"}}"#,
        "\n",
    );

    fn all() -> Vec<Message> {
        vec![
            Message::Greeting { version: [7, 2, 22] },
            Message::Answer { id: 1, result: Ok(json!({})) },
            Message::Event(Event::Resume),
            Message::Answer { id: 2, result: Err("no such node ✗".into()) },
            Message::Event(Event::Tray { drive: "cd0".into(), open: true }),
            Message::Event(Event::Shutdown { reason: "guest-shutdown".into() }),
            Message::Event(Event::Other("NIC_RX_FILTER_CHANGED".into())),
        ]
    }

    proptest! {
        #[test]
        fn a_session_is_the_same_in_whatever_pieces_it_comes(mut cuts in prop::collection::vec(0..SESSION.len(), 0..20)) {
            cuts.push(SESSION.len());
            cuts.sort_unstable();
            let (mut decoder, mut seen, mut from) = (Decoder::default(), Vec::new(), 0);
            for cut in cuts {
                seen.extend(decoder.push(&SESSION.as_bytes()[from..cut]).unwrap());
                from = cut;
            }
            prop_assert_eq!(seen, all());
        }

        #[test]
        fn nothing_that_comes_is_more_than_refused(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20)) {
            let mut decoder = Decoder::default();
            for piece in pieces {
                if decoder.push(&piece).is_err() {
                    break;
                }
            }
        }

        #[test]
        fn a_session_with_a_byte_changed_is_read_or_refused(at in 0..SESSION.len(), byte in any::<u8>()) {
            let mut bytes = SESSION.as_bytes().to_vec();
            bytes[at] = byte;
            let seen = Decoder::default().push(&bytes);
            prop_assert!(seen.is_err() || seen.unwrap().len() >= all().len() - 1);
        }
    }

    #[test]
    fn what_is_no_message_is_refused_and_said() {
        let refused = |line: &str| Decoder::default().push(line.as_bytes()).unwrap_err().to_string();
        assert!(refused("hello\n").contains("JSON"));
        for odd in [
            "[]\n",
            "{}\n",
            "{\"return\": {}}\n",
            "{\"return\": {}, \"error\": {}, \"id\": 1}\n",
            "{\"return\": 1, \"id\": \"x\"}\n",
            "{\"event\": 3}\n",
            "{\"event\": \"SHUTDOWN\", \"data\": {}}\n",
            "{\"QMP\": {}}\n",
        ] {
            assert!(refused(odd).contains("neither"), "{odd}");
        }
        let mut decoder = Decoder::default();
        let piece = vec![b' '; 1 << 16];
        let refusal = (0..17).find_map(|_| decoder.push(&piece).err());
        assert_eq!(refusal, Some(Malformed::Long));
    }

    #[test]
    fn commands_are_lines_with_their_id() {
        assert_eq!(Execute::plain("cont").line(7), b"{\"execute\":\"cont\",\"id\":7}\n");
        let link = Execute::with("set_link", json!({"name": "nic0", "up": false}));
        let line = String::from_utf8(link.line(8)).unwrap();
        assert_eq!(
            line,
            "{\"arguments\":{\"name\":\"nic0\",\"up\":false},\"execute\":\"set_link\",\"id\":8}\n"
        );
    }
}
