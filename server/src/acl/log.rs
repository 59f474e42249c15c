//! ACL LOG: what was refused to whom.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Events of one kind within so long are one entry.
const GROUPING_MS: u64 = 60_000;
/// So many of the newest entries are looked at for one to add to.
const GROUPING_LOOKS: usize = 10;

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The command.
    Command,
    /// A key.
    Key,
    /// A channel.
    Channel,
    /// Name or password.
    Auth,
}

impl Reason {
    /// As ACL LOG spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Key => "key",
            Self::Channel => "channel",
            Self::Auth => "auth",
        }
    }
}

/// Where it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A client's command.
    TopLevel,
    /// A command between MULTI and EXEC, or at EXEC.
    Multi,
    /// A call of a script.
    Lua,
}

impl Context {
    /// As ACL LOG spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TopLevel => "toplevel",
            Self::Multi => "multi",
            Self::Lua => "lua",
        }
    }
}

/// Something that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Why.
    pub reason: Reason,
    /// Where.
    pub context: Context,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// To whom.
    pub username: Vec<u8>,
}

/// Events of one kind, as one entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number, never used twice.
    pub id: u64,
    /// What was refused.
    pub event: Event,
    /// How often.
    pub count: u64,
    /// When first, Unix milliseconds.
    pub created_ms: u64,
    /// When last.
    pub updated_ms: u64,
    /// The last client, as CLIENT LIST shows it.
    pub client: String,
}

/// The log, newest first.
#[derive(Debug, Default)]
pub struct Log {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    last_id: u64,
}

impl Log {
    /// Enters an event; at most `len_max` entries are kept.
    pub fn add(&self, event: Event, client: String, now_ms: u64, len_max: usize) {
        let mut inner = self.inner.lock();
        if len_max == 0 {
            inner.entries.clear();
            return;
        }
        let same = inner.entries.iter().take(GROUPING_LOOKS).position(|entry| {
            entry.event == event && now_ms.saturating_sub(entry.updated_ms) <= GROUPING_MS
        });
        let entry = match same.and_then(|at| inner.entries.remove(at)) {
            Some(mut entry) => {
                entry.count += 1;
                entry.updated_ms = now_ms;
                entry.client = client;
                entry
            }
            None => {
                let id = inner.last_id;
                inner.last_id += 1;
                Entry { id, event, count: 1, created_ms: now_ms, updated_ms: now_ms, client }
            }
        };
        inner.entries.push_front(entry);
        inner.entries.truncate(len_max);
    }

    /// The newest entries.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.inner.lock().entries.iter().take(count).cloned().collect()
    }

    /// Forgets all entries.
    pub fn reset(&self) {
        self.inner.lock().entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(object: &str) -> Event {
        let (reason, context) = (Reason::Command, Context::TopLevel);
        Event { reason, context, object: object.into(), username: b"u".to_vec() }
    }

    #[test]
    fn events_of_one_kind_are_one_entry_for_a_minute() {
        let log = Log::default();
        log.add(event("get"), "a".into(), 1_000, 3);
        log.add(event("set"), "a".into(), 2_000, 3);
        log.add(event("get"), "b".into(), 61_000, 3);
        let shown = |log: &Log| {
            let of = |e: Entry| (String::from_utf8(e.event.object).unwrap_or_default(), e.count);
            log.newest(10).into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(shown(&log), [("get".to_owned(), 2), ("set".to_owned(), 1)]);
        assert_eq!(log.newest(1)[0].client, "b");
        log.add(event("get"), "a".into(), 121_001, 3);
        assert_eq!(shown(&log).len(), 3);
        log.add(event("del"), "a".into(), 121_002, 3);
        assert_eq!(shown(&log).len(), 3);
        log.reset();
        assert_eq!(shown(&log), []);
        log.add(event("del"), "a".into(), 1, 0);
        assert_eq!(shown(&log), []);
    }
}
