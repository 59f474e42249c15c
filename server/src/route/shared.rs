//! Settings and users that the members of a cluster share: proposed by one node, changed on all.

use std::sync::Arc;

use holdfast_engine::{CommandError, Reply};

use crate::acl::User;
use crate::commit::raft::batch::Items;
use crate::commit::raft::{Outcome, RaftNode, Refusal};
use crate::config::commands;
use crate::config::settings::Origin;
use crate::node::Node;
use crate::session::Kill;

/// Puts settings in force on this node: names and values in turn.
///
/// # Errors
/// As CONFIG SET.
pub fn change_settings(node: &Node, pairs: &[&[u8]]) -> Result<(), CommandError> {
    // Whether they may be changed was judged by the node that proposed them.
    commands::set(&node.config, pairs, Origin::Local).map(|_| ())
}

/// Makes a user what its rules say; without rules it is removed.
///
/// # Errors
/// When a rule is unknown.
pub fn change_user(node: &Node, name_and_rules: &[&[u8]]) -> Result<(), CommandError> {
    match name_and_rules {
        [] => Ok(()),
        [name] => {
            if node.acl.remove(name) {
                end_clients(node, name);
            }
            Ok(())
        }
        [name, rules @ ..] => {
            let rules: Vec<&[u8]> = std::iter::once(&b"reset"[..]).chain(rules.to_vec()).collect();
            let user = node.acl.set(name, &rules)?;
            end_listeners(node, &user);
            Ok(())
        }
    }
}

/// Ends the clients of a user that listen to what it may no longer hear.
pub fn end_listeners(node: &Node, user: &User) {
    if user.is_unrestricted() {
        return;
    }
    for id in node.pubsub.listeners(|name, is_pattern| !user.may_listen(name, is_pattern)) {
        if let Some(client) = node.clients.get(id)
            && *client.user() == **user.name()
        {
            client.kill(how(&client));
        }
    }
}

/// Ends all clients of a user that is gone.
pub fn end_clients(node: &Node, user: &[u8]) {
    for client in node.clients.all() {
        if *client.user() == *user {
            client.kill(how(&client));
        }
    }
}

/// Whoever changes users itself is told what came of it before it goes.
fn how(client: &crate::session::Client) -> Kill {
    if client.changes_users() { Kill::AfterReply } else { Kill::Now }
}

/// What a proposal of shared things came to; in force on this node when it returns.
///
/// # Errors
/// When it was refused, or its fate is unknown.
pub async fn propose(raft: &Arc<RaftNode>, items: Items) -> Result<(), CommandError> {
    let (next, outcomes) = raft.propose(items).await.map_err(CommandError::from)?;
    raft.applied().reaches(next).await;
    for outcome in outcomes {
        match outcome {
            Outcome::Reply { reply: Reply::Ok, .. } => {}
            Outcome::Reply { reply: Reply::Error(error), .. } => return Err(*error),
            _ => return Err(Refusal::Unknown.into()),
        }
    }
    Ok(())
}

/// A user as [`change_user`] takes it: its name and the rules that make it, passwords as hashes.
#[must_use]
pub fn words_of(user: &User) -> Vec<Vec<u8>> {
    // `user name rule …`
    user.line().split(|byte| *byte == b' ').skip(1).map(<[u8]>::to_vec).collect()
}
