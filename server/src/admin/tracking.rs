//! CLIENT TRACKING and its kin: a client asks to hear of keys that change.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use holdfast_engine::value::integer_text;
use holdfast_engine::{CommandError, Reply};

use super::config::switch;
use crate::route::{Answer, Call};
use crate::session::tracking::{Choice, Mode};

/// `CLIENT TRACKING ON | OFF [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST]
/// [OPTIN] [OPTOUT] [NOLOOP]`
pub(super) fn tracking(call: &mut Call<'_>) -> Answer {
    let wanted = match parse(call) {
        Ok(wanted) => wanted,
        Err(error) => return error.into(),
    };
    match switch(call.args[2]) {
        Ok(true) => match merged(call.session.tracking.as_deref(), wanted) {
            Ok(choice) => {
                let client = &call.session.client;
                client.shown.broken_redirect.store(false, Relaxed);
                call.node.tracking.begin(client, &choice);
                call.session.tracking = Some(Box::new(choice));
            }
            Err(error) => return error.into(),
        },
        Ok(false) => off(call),
        Err(error) => return error.into(),
    }
    call.node.refresh_events();
    call.session.publish();
    Reply::Ok.into()
}

/// Ends the session's tracking, if it tracks.
pub(super) fn off(call: &mut Call<'_>) {
    if let Some(choice) = call.session.tracking.take() {
        call.node.tracking.end(call.session.client.id, &choice);
        call.session.client.shown.broken_redirect.store(false, Relaxed);
        call.node.refresh_events();
    }
}

/// What the options ask for.
#[derive(Default)]
struct Wanted {
    choice: Choice,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
}

fn parse(call: &Call<'_>) -> Result<Wanted, CommandError> {
    let mut wanted = Wanted::default();
    let mut rest = &call.args[3..];
    while let [option, after @ ..] = rest {
        rest = after;
        match (option.to_ascii_lowercase().as_slice(), after) {
            (b"redirect", [id, tail @ ..]) => {
                if wanted.choice.redirect.is_some() {
                    return Err(CommandError::known(
                        "ERR A client can only redirect to a single other client",
                    ));
                }
                let id = integer_text(id).ok_or(CommandError::NOT_AN_INTEGER)?;
                let target =
                    u64::try_from(id).ok().filter(|id| call.node.clients.get(*id).is_some());
                wanted.choice.redirect = Some(target.ok_or(CommandError::known(
                    "ERR The client ID you want redirect to does not exist",
                ))?);
                rest = tail;
            }
            (b"prefix", [prefix, tail @ ..]) => {
                wanted.choice.prefixes.push(Bytes::copy_from_slice(prefix));
                rest = tail;
            }
            (b"bcast", _) => wanted.broadcast = true,
            (b"optin", _) => wanted.opt_in = true,
            (b"optout", _) => wanted.opt_out = true,
            (b"noloop", _) => wanted.choice.no_loop = true,
            _ => return Err(CommandError::SYNTAX),
        }
    }
    Ok(wanted)
}

/// The new choice of a client that may track already.
fn merged(before: Option<&Choice>, wanted: Wanted) -> Result<Choice, CommandError> {
    let Wanted { mut choice, broadcast, opt_in, opt_out } = wanted;
    if !broadcast && !choice.prefixes.is_empty() {
        return Err(CommandError::known("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    if before.is_some_and(|before| (before.mode == Mode::Broadcast) != broadcast) {
        return Err(CommandError::known(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, \
             and then re-enabling it with a different mode.",
        ));
    }
    if broadcast && (opt_in || opt_out) {
        return Err(CommandError::known("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if opt_in && opt_out {
        return Err(CommandError::known("ERR You can't specify both OPTIN mode and OPTOUT mode"));
    }
    let was = before.map(|before| before.mode);
    if opt_in && was == Some(Mode::OptOut) || opt_out && was == Some(Mode::OptIn) {
        return Err(CommandError::known(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, \
             and then re-enabling it with a different mode.",
        ));
    }
    choice.mode = match (broadcast, opt_in, opt_out) {
        (true, ..) => Mode::Broadcast,
        (_, true, _) => Mode::OptIn,
        (.., true) => Mode::OptOut,
        _ => Mode::Normal,
    };
    if broadcast {
        let old = before.map(|before| before.prefixes.as_slice()).unwrap_or_default();
        check_prefixes(old, &choice.prefixes)?;
        if choice.prefixes.is_empty() {
            choice.prefixes.push(Bytes::new());
        }
        for prefix in old {
            if !choice.prefixes.contains(prefix) {
                choice.prefixes.push(prefix.clone());
            }
        }
        choice.prefixes.sort_unstable();
    }
    Ok(choice)
}

/// No prefix of a client may cover another of its own: it would hear of a key twice.
fn check_prefixes(old: &[Bytes], new: &[Bytes]) -> Result<(), CommandError> {
    let overlap = |one: &Bytes, other: &Bytes| one.starts_with(other) || other.starts_with(one);
    let error = |prefix: &Bytes, kind: &str, other: &Bytes| {
        CommandError::new(format!(
            "ERR Prefix '{}' overlaps with {kind} prefix '{}'. Prefixes for a single client must \
             not overlap.",
            String::from_utf8_lossy(prefix),
            String::from_utf8_lossy(other)
        ))
    };
    for (index, prefix) in new.iter().enumerate() {
        if let Some(other) = old.iter().find(|other| overlap(prefix, other)) {
            return Err(error(prefix, "an existing", other));
        }
        if let Some(other) = new[index + 1..].iter().find(|other| overlap(prefix, other)) {
            return Err(error(prefix, "another provided", other));
        }
    }
    Ok(())
}

/// `CLIENT CACHING YES | NO`: whether the next command's reads are tracked.
pub(super) fn caching(call: &mut Call<'_>) -> Answer {
    let Some(choice) = call.session.tracking.as_deref_mut() else {
        return CommandError::known(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN \
             or OPTOUT mode enabled",
        )
        .into();
    };
    let word = call.args[2];
    let (mode, error) = if word.eq_ignore_ascii_case(b"yes") {
        (
            Mode::OptIn,
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
        )
    } else if word.eq_ignore_ascii_case(b"no") {
        (
            Mode::OptOut,
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        )
    } else {
        return CommandError::SYNTAX.into();
    };
    if choice.mode != mode {
        return CommandError::known(error).into();
    }
    choice.caching = true;
    Reply::Ok.into()
}

/// `CLIENT GETREDIR`
pub(super) fn getredir(call: &mut Call<'_>) -> Answer {
    Reply::Integer(Choice::redirection(call.session.tracking.as_deref())).into()
}

/// `CLIENT TRACKINGINFO`
pub(super) fn trackinginfo(call: &mut Call<'_>) -> Answer {
    let choice = call.session.tracking.as_deref();
    let mut flags = vec![if choice.is_some() { "on" } else { "off" }];
    if let Some(choice) = choice {
        match choice.mode {
            Mode::Normal => {}
            Mode::Broadcast => flags.push("bcast"),
            Mode::OptIn => flags.push("optin"),
            Mode::OptOut => flags.push("optout"),
        }
        match choice.mode {
            Mode::OptIn if choice.caching => flags.push("caching-yes"),
            Mode::OptOut if choice.caching => flags.push("caching-no"),
            _ => {}
        }
        if choice.no_loop {
            flags.push("noloop");
        }
        if call.session.client.shown.broken_redirect.load(Relaxed) {
            flags.push("broken_redirect");
        }
    }
    let prefixes = choice.map(|choice| choice.prefixes.as_slice()).unwrap_or_default();
    Reply::Map(vec![
        (
            Reply::bulk(b"flags"),
            Reply::Set(flags.iter().map(|flag| Reply::bulk(flag.as_bytes())).collect()),
        ),
        (Reply::bulk(b"redirect"), Reply::Integer(Choice::redirection(choice))),
        (
            Reply::bulk(b"prefixes"),
            Reply::Array(prefixes.iter().map(|prefix| Reply::bulk(prefix)).collect()),
        ),
    ])
    .into()
}
