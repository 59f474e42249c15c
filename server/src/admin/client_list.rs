//! The line CLIENT LIST shows of a client.

use std::sync::atomic::Ordering::Relaxed;

use holdfast_engine::CommandError;

use crate::route::table;
use crate::session::Client;

/// The types CLIENT LIST and KILL tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sends commands.
    Normal,
    /// A master we replicate from: never.
    Master,
    /// A replica: never, in memory mode.
    Replica,
    /// Has a subscription.
    PubSub,
}

impl Kind {
    /// The type of this name.
    ///
    /// # Errors
    /// `ERR Unknown client type '…'`
    pub(super) fn parse(name: &[u8]) -> Result<Self, CommandError> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Self::Normal),
            b"master" => Ok(Self::Master),
            b"replica" | b"slave" => Ok(Self::Replica),
            b"pubsub" => Ok(Self::PubSub),
            _ => Err(CommandError::new(format!(
                "ERR Unknown client type '{}'",
                String::from_utf8_lossy(name)
            ))),
        }
    }

    /// The type of a client.
    #[must_use]
    pub(super) fn of(client: &Client) -> Self {
        let shown = &client.shown;
        let subscriptions =
            shown.sub.load(Relaxed) + shown.psub.load(Relaxed) + shown.ssub.load(Relaxed);
        if subscriptions > 0 { Self::PubSub } else { Self::Normal }
    }
}

fn flags(client: &Client) -> String {
    let shown = &client.shown;
    let mut flags = String::new();
    let mut when = |yes: bool, flag: char| {
        if yes {
            flags.push(flag);
        }
    };
    when(shown.monitor.load(Relaxed), 'O');
    when(shown.multi.load(Relaxed) >= 0, 'x');
    when(Kind::of(client) == Kind::PubSub, 'P');
    when(shown.blocked.load(Relaxed) || shown.paused.load(Relaxed), 'b');
    when(shown.closing.load(Relaxed), 'c');
    when(client.is_unix, 'U');
    when(shown.tracking.load(Relaxed), 't');
    when(shown.broken_redirect.load(Relaxed), 'R');
    when(shown.broadcast.load(Relaxed), 'B');
    when(shown.no_evict.load(Relaxed), 'e');
    when(shown.no_touch.load(Relaxed), 'T');
    if flags.is_empty() {
        flags.push('N');
    }
    flags
}

/// One client as CLIENT LIST shows it, without the line end.
#[must_use]
pub(crate) fn line(client: &Client, now_us: u64) -> String {
    let shown = &client.shown;
    let names = client.names();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seconds_since = |us: u64| now_us.saturating_sub(us) / 1_000_000;
    let command = match shown.last_command.load(Relaxed) {
        0 => "NULL",
        id => table().names().get(id as usize - 1).map_or("NULL", String::as_str),
    };
    let (query, free) =
        (shown.query_buffer_len.load(Relaxed), shown.query_buffer_free.load(Relaxed));
    let output = shown.output_len.load(Relaxed) + client.pushes_len();
    let multi_mem = shown.multi_mem.load(Relaxed);
    let total = query + free + output + multi_mem + size_of::<Client>();
    let events = if output > 0 { "rw" } else { "r" };
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} \
         ssub={} multi={} qbuf={query} qbuf-free={free} argv-mem=0 \
         multi-mem={multi_mem} rbs=0 rbp=0 obl=0 oll={} omem={output} tot-mem={total} \
         events={events} cmd={command} user={} redir={} resp={} lib-name={} lib-ver={}",
        client.id,
        client.addr,
        client.local_addr,
        client.fd,
        text(&names.name),
        seconds_since(client.connected_us),
        seconds_since(shown.last_used_us.load(Relaxed)),
        flags(client),
        shown.db.load(Relaxed),
        shown.sub.load(Relaxed),
        shown.psub.load(Relaxed),
        shown.ssub.load(Relaxed),
        shown.multi.load(Relaxed),
        usize::from(output > 0),
        text(&client.user()),
        shown.redir.load(Relaxed),
        shown.resp.load(Relaxed),
        text(&names.lib_name),
        text(&names.lib_ver),
    )
}
