//! Commands about sessions and the server rather than about keys.

pub mod acl;
pub mod client;
pub(crate) mod client_list;
pub mod cluster;
pub mod command;
pub mod compatibility;
pub mod config;
pub mod connection;
pub mod debug;
mod help_texts;
pub mod info;
pub mod migrate;
pub mod persistence;
pub mod raft;
pub mod reports;
pub mod script;
pub mod server;
pub mod subscribe;
mod system;
mod tracking;

use holdfast_engine::Reply;
use holdfast_engine::command::Args;

use crate::route::Answer;

/// The arguments with passwords replaced, for MONITOR and SLOWLOG.
#[must_use]
pub fn without_secrets<'a>(args: Args<'a>) -> Vec<&'a [u8]> {
    const REDACTED: &[u8] = b"(redacted)";
    let mut shown = args.to_vec();
    let is = |index: usize, word: &str| {
        args.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    if is(0, "auth") {
        shown[1..].fill(REDACTED);
    } else if is(0, "acl") && (is(1, "setuser") || is(1, "getuser") || is(1, "deluser")) {
        shown[2..].fill(REDACTED);
    } else if is(0, "hello") {
        if let Some(at) = (2..args.len()).find(|index| is(*index, "auth")) {
            let end = (at + 3).min(shown.len());
            shown[at + 1..end].fill(REDACTED);
        }
    } else if is(0, "migrate") {
        let mut at = 6;
        while at < args.len() && !is(at, "keys") {
            let secrets = if is(at, "auth") { 1 } else { 2 * usize::from(is(at, "auth2")) };
            let end = (at + 1 + secrets).min(shown.len());
            shown[at + 1..end].fill(REDACTED);
            at = end;
        }
    } else if is(0, "config") && is(1, "set") {
        for at in (2..args.len().saturating_sub(1)).step_by(2) {
            if crate::config::commands::is_sensitive(args[at]) {
                shown[at + 1] = REDACTED;
            }
        }
    }
    shown
}

/// The reply of a HELP subcommand.
fn help_reply(lines: &'static [&'static str]) -> Answer {
    Reply::Array(lines.iter().map(|line| Reply::simple(line)).collect()).into()
}
