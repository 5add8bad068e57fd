//! The event log: what happened, for people. Kept in the history, sent to those who follow it.

use super::{
    history::{History, Ring},
    names::Names,
};
use lq_api::{
    EventId, Timestamp,
    event::{Event, EventLevel},
};
use std::{io, sync::Arc};
use tokio::sync::broadcast;

/// Longest message, in characters.
const MAX_MESSAGE: usize = 1000;

/// The event log. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    history: Arc<History>,
    names: Arc<Names>,
    followers: broadcast::Sender<Event>,
}

/// An event to be noted.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// How grave.
    pub level: EventLevel,
    /// What kind, e.g. `vm.started`.
    pub kind: String,
    /// To which object: `kind/id`.
    pub target: String,
    /// In words.
    pub message: String,
    /// Who caused it.
    pub actor: Option<String>,
}

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of this object.
    pub target: Option<String>,
    /// Whose kind begins with this.
    pub kind: Option<String>,
    /// At least this grave.
    pub level: Option<EventLevel>,
}

fn gravity(level: EventLevel) -> u8 {
    match level {
        EventLevel::Info => 0,
        EventLevel::Warning => 1,
        EventLevel::Error => 2,
    }
}

impl EventFilter {
    /// Whether the event is wanted.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        self.target.as_ref().is_none_or(|t| *t == event.target)
            && self.kind.as_ref().is_none_or(|k| event.kind.starts_with(k.as_str()))
            && self.level.is_none_or(|l| gravity(event.level) >= gravity(l))
    }
}

impl Events {
    /// The event log kept in `history`.
    #[must_use]
    pub fn new(history: Arc<History>) -> Self {
        Self { history, names: Arc::default(), followers: broadcast::Sender::new(256) }
    }

    /// The names that what is noted is noted by.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Notes what happened.
    pub fn note(&self, new: NewEvent) {
        let mut message = new.message;
        if let Some((cut, _)) = message.char_indices().nth(MAX_MESSAGE) {
            message.truncate(cut);
        }
        let event = Event {
            id: EventId::new(),
            at: Timestamp::now(),
            level: new.level,
            kind: new.kind,
            target_name: self.names.of(&new.target),
            target: new.target,
            message,
            actor: new.actor,
        };
        let (kind, target) = (event.kind.as_str(), event.target.as_str());
        let (actor, text) = (event.actor.as_deref().unwrap_or("-"), event.message.as_str());
        match event.level {
            EventLevel::Info => tracing::info!(kind, target, actor, "{text}"),
            EventLevel::Warning => tracing::warn!(kind, target, actor, "{text}"),
            EventLevel::Error => tracing::error!(kind, target, actor, "{text}"),
        }
        self.history.put(Ring::Events, event.id.0, &event);
        // Nobody following is no fault.
        let _ = self.followers.send(event);
    }

    /// Notes something the daemon itself did or saw.
    pub fn system(&self, level: EventLevel, kind: &str, target: String, message: impl Into<String>) {
        self.note(NewEvent { level, kind: kind.into(), target, message: message.into(), actor: None });
    }

    /// At most `limit` wanted events older than `before`, newest first, and whether there are more.
    pub fn list(
        &self,
        wants: impl Fn(&Event) -> bool,
        before: Option<EventId>,
        limit: usize,
    ) -> io::Result<(Vec<Event>, bool)> {
        let mut events = Vec::new();
        self.history.newest(Ring::Events, before.map(|id| id.0), |event: Event| {
            if wants(&event) {
                events.push(event);
            }
            events.len() <= limit
        })?;
        let more = events.len() > limit;
        events.truncate(limit);
        Ok((events, more))
    }

    /// Events from now on.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Event> {
        self.followers.subscribe()
    }
}
