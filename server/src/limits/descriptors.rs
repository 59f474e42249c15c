//! How many files the process may have open, and so how many clients.
//!
//! A client that cannot be accepted waits in the kernel's queue without a word, and a server without
//! a free descriptor can neither save nor reach the other members. So there are never more clients
//! than leave some descriptors over.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::commands::set;
use crate::config::settings::Origin;
use crate::node::Node;

/// Kept for what is no client: listeners, the journal, snapshots. As many as Redis keeps.
const RESERVED: u64 = 32;
/// Kept by a member: its log, snapshots, and connections to the others.
const RESERVED_BY_MEMBER: u64 = 256;

/// How many descriptors are kept for what is no client.
fn reserved(node: &Node) -> u64 {
    match node.log_time() {
        Some(_) => RESERVED_BY_MEMBER,
        None => RESERVED,
    }
}

/// Raises the limit to what so many files need, as far as the hard limit lets; the limit then, and
/// why it is no higher.
fn raise(files: u64) -> (u64, Option<String>) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(before) = current.filter(|current| *current < files) else {
        return (current.unwrap_or(u64::MAX), None);
    };
    let wanted = maximum.map_or(files, |maximum| files.min(maximum));
    let limit = Rlimit { current: Some(wanted), maximum };
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) if wanted == files => {
            tracing::info!(
                "Increased maximum number of open files to {files} (it was originally set to \
                 {before})."
            );
            (files, None)
        }
        Ok(()) => (wanted, Some(format!("the hard limit is {wanted}"))),
        Err(error) => (before, Some(std::io::Error::from(error).to_string())),
    }
}

/// Sees that so many clients as `maxclients` says can connect, now and after each CONFIG SET; or
/// lowers it.
///
/// # Errors
/// When the limit leaves no room for any client.
pub fn begin(node: &Arc<Node>) -> Result<(), String> {
    let reserved = reserved(node);
    let clients = u64::from(node.settings.maxclients());
    let files = clients.saturating_add(reserved);
    let (limit, reason) = raise(files);
    if limit < files {
        let fit = limit.saturating_sub(reserved);
        if fit == 0 {
            return Err(format!(
                "Your current 'ulimit -n' of {limit} is not enough for the server to start. Please \
                 increase your open file limit to at least {}. Exiting.",
                reserved + 1
            ));
        }
        tracing::warn!(
            "You requested maxclients of {clients} requiring at least {files} max file descriptors."
        );
        if let Some(reason) = reason {
            tracing::warn!(
                "Server can't set maximum open files to {files} because of OS error: {reason}."
            );
        }
        set(&node.config, &[b"maxclients", fit.to_string().as_bytes()], Origin::Local)
            .map_err(|error| error.text().to_owned())?;
        tracing::warn!(
            "Current maximum open files is {limit}. maxclients has been reduced to {fit} to \
             compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'."
        );
    }
    node.config.on_change(&["maxclients"], move |settings| {
        let files = u64::from(settings.maxclients()).saturating_add(reserved);
        let (limit, _) = raise(files);
        if limit >= files {
            return Ok(());
        }
        Err(format!(
            "The operating system is not able to handle the specified number of clients, try with \
             {}",
            limit.saturating_sub(reserved)
        ))
    });
    Ok(())
}
