//! Who may run what: ACL's checks wherever a command comes from.
//!
//! A session whose user may do everything is asked nothing beyond its flag. All others come
//! here: before a command runs or is queued, again at EXEC, for each call of a script, and
//! before a client that waited is served.

use std::cell::RefCell;

use holdfast_engine::CommandError;
use holdfast_engine::command::{Args, Command, Flags};

use super::table::{Call, Entry, Run, table};
use crate::acl::{Context, Denied, Event, Reason, User};
use crate::node::Node;
use crate::observe::Counter;
use crate::session::{Caller, Client, Session};

thread_local! {
    /// Whose rights bound what the script of this thread calls.
    static CALLER: RefCell<Option<Caller>> = const { RefCell::new(None) };
}

/// Whether ACL LOG and the statistics hear of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// They do.
    Yes,
    /// It is only asked what would become of the command.
    No,
}

/// Refuses what an unknown or restricted user may not do.
#[cold]
pub(super) fn check(
    node: &Node,
    session: &Session,
    entry: &Entry,
    args: Args<'_>,
    heard: Heard,
) -> Result<(), CommandError> {
    let flags = entry.row.flags;
    if flags.has(Flags::NO_AUTH) {
        return Ok(());
    }
    if !session.authenticated && node.acl.asks_password() {
        return Err(CommandError::known("NOAUTH Authentication required."));
    }
    if session.queue.is_some() && flags.has(Flags::NO_MULTI) {
        // It is refused for that.
        return Ok(());
    }
    let context = if session.queue.is_some() { Context::Multi } else { Context::TopLevel };
    judge(&session.user, entry, args).map_err(|denied| match denied {
        Refusal::Denied(denied) => {
            if heard == Heard::Yes {
                note(node, (&session.user, &session.client), context, entry, args, denied);
            }
            CommandError::new(format!("NOPERM {}", short_text(&session.user, entry, denied)))
        }
        Refusal::Sort(error) => error,
    })
}

/// Why a command may not run.
enum Refusal {
    Denied(Denied),
    /// A pattern of SORT reaches keys that nobody can tell beforehand.
    Sort(CommandError),
}

fn judge(user: &User, entry: &Entry, args: Args<'_>) -> Result<(), Refusal> {
    user.check(entry.id, entry.row, args).map_err(Refusal::Denied)?;
    match sort_patterns(entry.row, args) {
        Some(error) if !user.reads_all_keys(entry.id, entry.row, args) => Err(Refusal::Sort(error)),
        _ => Ok(()),
    }
}

/// What SORT answers to a user who may not read every key, if it has patterns.
fn sort_patterns(row: &Command, args: Args<'_>) -> Option<CommandError> {
    if !matches!(row.name, "sort" | "sort_ro") {
        return None;
    }
    let is = |arg: &[u8], word: &str| arg.eq_ignore_ascii_case(word.as_bytes());
    let mut rest = args.get(2..)?;
    loop {
        rest = match rest {
            [] => return None,
            [by, pattern, ..] if is(by, "by") && pattern.contains(&b'*') => {
                return Some(CommandError::known(
                    "ERR BY option of SORT denied due to insufficient ACL permissions.",
                ));
            }
            [get, _, ..] if is(get, "get") => {
                return Some(CommandError::known(
                    "ERR GET option of SORT denied due to insufficient ACL permissions.",
                ));
            }
            [limit, _, _, rest @ ..] if is(limit, "limit") => rest,
            [option, _, rest @ ..] if is(option, "by") || is(option, "store") => rest,
            [_, rest @ ..] => rest,
        };
    }
}

/// Why a user may not, without naming key or channel.
fn short_text(user: &User, entry: &Entry, denied: Denied) -> String {
    match denied {
        Denied::Command => command_text(user, entry),
        Denied::Key(_) => "No permissions to access a key".to_owned(),
        Denied::Channel(_) => "No permissions to access a channel".to_owned(),
    }
}

fn command_text(user: &User, entry: &Entry) -> String {
    let (name, command) = (user.shown_name(), &entry.full_name);
    format!("User {name} has no permissions to run the '{command}' command")
}

/// ACL DRYRUN: whether a user may run a command, and if not, why; `Err` if there is no such
/// command or its arity is another.
///
/// # Errors
/// As Redis words them.
pub fn dry_run(user: &User, args: Args<'_>) -> Result<Option<String>, CommandError> {
    let name = || String::from_utf8_lossy(args[0]).into_owned();
    let Some(entry) = entry_of(args) else {
        return Err(CommandError::new(format!("ERR Command '{}' not found", name())));
    };
    if !entry.row.accepts(args.len()) {
        return Err(CommandError::wrong_arity(&entry.full_name));
    }
    let (user_name, shown) = (user.shown_name(), |at: usize| String::from_utf8_lossy(args[at]));
    Ok(match user.check(entry.id, entry.row, args) {
        Ok(()) => None,
        Err(Denied::Command) => Some(command_text(user, entry)),
        Err(Denied::Key(at)) => {
            Some(format!("User {user_name} has no permissions to access the '{}' key", shown(at)))
        }
        Err(Denied::Channel(at)) => Some(format!(
            "User {user_name} has no permissions to access the '{}' channel",
            shown(at)
        )),
    })
}

/// The entry of a command or subcommand, whatever its arity; of a container alone, the container.
fn entry_of(args: Args<'_>) -> Option<&'static Entry> {
    let entry = table().find(args.first()?)?;
    match (entry.run, args.get(1)) {
        (Run::Container, Some(name)) => entry.child(name),
        _ => Some(entry),
    }
}

/// Enters a refusal in ACL LOG and the statistics.
fn note(
    node: &Node,
    (user, client): (&User, &Client),
    context: Context,
    entry: &Entry,
    args: Args<'_>,
    denied: Denied,
) {
    let (reason, counter, object) = match denied {
        Denied::Command => {
            (Reason::Command, Counter::DeniedCommands, entry.full_name.clone().into_bytes())
        }
        Denied::Key(at) => (Reason::Key, Counter::DeniedKeys, args[at].to_vec()),
        Denied::Channel(at) => (Reason::Channel, Counter::DeniedChannels, args[at].to_vec()),
    };
    node.observe.stats.count(counter);
    add(node, client, Event { reason, context, object, username: user.name().to_vec() });
}

fn add(node: &Node, client: &Client, event: Event) {
    let line = crate::admin::client_list::line(client, node.clock.monotonic_us());
    node.acl.log.add(event, line, node.clock.now_ms(), node.settings.acllog_max_len());
}

/// Enters a wrong name or password in ACL LOG and the statistics.
pub fn note_failed_login(call: &Call<'_>, username: &[u8]) {
    call.node.observe.stats.count(Counter::AuthFailures);
    let context = if call.in_transaction { Context::Multi } else { Context::TopLevel };
    let (reason, object) = (Reason::Auth, call.args[0].to_vec());
    let event = Event { reason, context, object, username: username.to_vec() };
    add(call.node, &call.session.client, event);
}

/// Why a queued command may no longer run when EXEC comes to it.
pub(super) fn recheck(
    node: &Node,
    session: &Session,
    entry: &Entry,
    args: Args<'_>,
) -> Option<CommandError> {
    let denied = match judge(&session.user, entry, args) {
        Ok(()) => return None,
        Err(Refusal::Sort(error)) => return Some(error),
        Err(Refusal::Denied(denied)) => denied,
    };
    note(node, (&session.user, &session.client), Context::Multi, entry, args, denied);
    let reason = match denied {
        Denied::Command => "no permission to execute the command or subcommand",
        Denied::Key(_) => "no permission to touch the specified keys",
        Denied::Channel(_) => "no permission to access one of the channels used as arguments",
    };
    Some(CommandError::new(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the \
         EXEC call. This command is no longer allowed for the following reason: {reason}"
    )))
}

/// Why a client that waited for a key may not be served: its rights have changed meanwhile.
pub(crate) fn refuses_waiter(node: &Node, client: &Client, args: Args<'_>) -> Option<CommandError> {
    // A user that is gone: its clients are told to go.
    let user = node.acl.get(&client.user())?;
    if user.is_unrestricted() {
        return None;
    }
    let entry = entry_of(args)?;
    let denied = user.check(entry.id, entry.row, args).err()?;
    note(node, (&user, client), Context::TopLevel, entry, args, denied);
    Some(CommandError::new(format!("NOPERM {}", short_text(&user, entry, denied))))
}

/// Runs what may call scripts; their calls are bound by the caller's rights.
pub(super) fn as_user<T>(caller: &Option<Caller>, run: impl FnOnce() -> T) -> T {
    let Some(caller) = caller else { return run() };
    CALLER.set(Some(caller.clone()));
    let result = run();
    CALLER.set(None);
    result
}

/// Whether the script that begins on this thread is bound by its caller's rights.
pub(crate) fn limits_scripts() -> bool {
    CALLER.with_borrow(Option::is_some)
}

/// Whether the caller may run what its script calls.
pub(crate) fn script_may_call(node: &Node, args: Args<'_>) -> Result<(), CommandError> {
    let caller = CALLER.with_borrow(Clone::clone);
    let (Some((user, client)), Some(entry)) = (caller, entry_of(args)) else { return Ok(()) };
    if entry.row.flags.has(Flags::NOSCRIPT) || !entry.row.accepts(args.len()) {
        // It is refused for that.
        return Ok(());
    }
    judge(&user, entry, args).map_err(|refusal| match refusal {
        Refusal::Denied(denied) => {
            note(node, (&user, &client), Context::Lua, entry, args, denied);
            in_script(&user, entry, denied)
        }
        Refusal::Sort(error) => error,
    })
}

/// As [`script_may_call`], for a user that came with a proposal. ACL LOG hears nothing of it: every
/// member asks.
pub(crate) fn user_may_call(user: &User, args: Args<'_>) -> Result<(), CommandError> {
    let Some(entry) = entry_of(args) else { return Ok(()) };
    if entry.row.flags.has(Flags::NOSCRIPT) || !entry.row.accepts(args.len()) {
        return Ok(());
    }
    judge(user, entry, args).map_err(|refusal| match refusal {
        Refusal::Denied(denied) => in_script(user, entry, denied),
        Refusal::Sort(error) => error,
    })
}

/// As [`acl_check`], for a user that came with a proposal; `None` for one who may do everything.
pub(crate) fn user_may(user: Option<&User>, args: Args<'_>) -> Option<bool> {
    let entry = entry_of(args)?;
    Some(user.is_none_or(|user| user.check(entry.id, entry.row, args).is_ok()))
}

fn in_script(user: &User, entry: &Entry, denied: Denied) -> CommandError {
    CommandError::new(format!("ERR ACL failure in script: {}", short_text(user, entry, denied)))
}

/// `redis.acl_check_cmd`: whether the caller may run a command; `None` if there is none.
pub(crate) fn acl_check(args: Args<'_>) -> Option<bool> {
    let entry = entry_of(args)?;
    let caller = CALLER.with_borrow(Clone::clone);
    Some(caller.is_none_or(|(user, _)| user.check(entry.id, entry.row, args).is_ok()))
}
